import Glibc
import NFVModel
import Synchronization
import TestSupport
import Testing

@testable import martlet

@Suite struct CommandTests {
  /// A command line and the request that changes something, which it must send.
  struct Verb: Sendable, CustomTestStringConvertible {
    var arguments: String
    var request: String
    var testDescription: String { arguments }
  }

  static let instance = "/vnflcm/v2/vnf_instances/\(Samples.vnf)"
  static let verbs: [Verb] = [
    Verb(
      arguments: "vnf create firewall --name fw --description d",
      request:
        #"POST /vnflcm/v2/vnf_instances {"vnfInstanceDescription":"d","vnfInstanceName":"fw","vnfdId":"b1bb0ce7"}"#
    ),
    Verb(arguments: "vnf instantiate fw", request: "POST \(instance)/instantiate {}"),
    Verb(
      arguments: "vnf instantiate 5f00 --flavour container --level big --param p=5001 --param s=x",
      request: """
        POST \(instance)/instantiate {"additionalParams":{"p":5001,"s":"x"},\
        "flavourId":"container","instantiationLevelId":"big"}
        """),
    Verb(
      arguments:
        "vnf instantiate fw --connect a=lan,10.1.0.5,fd00::5 --connect b=wan --connect c=lan",
      request: """
        POST \(instance)/instantiate {"extVirtualLinks":[{"extCps":[{"cpConfig":{"default":\
        {"cpProtocolData":[{"ipOverEthernet":{"ipAddresses":[{"fixedAddresses":["10.1.0.5"],\
        "type":"IPV4"},{"fixedAddresses":["fd00::5"],"type":"IPV6"}]},\
        "layerProtocol":"IP_OVER_ETHERNET"}]}},"cpdId":"a"},{"cpdId":"c"}],"id":"link-1",\
        "resourceId":"lan"},{"extCps":[{"cpdId":"b"}],"id":"link-2","resourceId":"wan"}]}
        """),
    Verb(
      arguments: "vnf scale fw --out 2",
      request:
        "POST \(instance)/scale {\"aspectId\":\"workers\",\"numberOfSteps\":2,\"type\":\"SCALE_OUT\"}"
    ),
    Verb(
      arguments: "vnf scale fw --aspect a --in 1",
      request:
        "POST \(instance)/scale {\"aspectId\":\"a\",\"numberOfSteps\":1,\"type\":\"SCALE_IN\"}"),
    Verb(
      arguments: "vnf scale fw --level big",
      request: "POST \(instance)/scale_to_level {\"instantiationLevelId\":\"big\"}"),
    Verb(
      arguments: "vnf scale fw --to workers=3",
      request:
        "POST \(instance)/scale_to_level {\"scaleInfo\":[{\"aspectId\":\"workers\",\"scaleLevel\":3}]}"
    ),
    Verb(
      arguments: "vnf heal fw --cause ill --vnfc fw.0",
      request:
        "POST \(instance)/heal {\"cause\":\"ill\",\"vnfcInstanceId\":[\"\(Samples.vnfc)\"]}"),
    Verb(arguments: "vnf heal fw", request: "POST \(instance)/heal {}"),
    Verb(
      arguments: "vnf operate fw start",
      request: "POST \(instance)/operate {\"changeStateTo\":\"STARTED\"}"),
    Verb(
      arguments: "vnf operate fw stop --graceful 9",
      request: """
        POST \(instance)/operate {"changeStateTo":"STOPPED","gracefulStopTimeout":9,\
        "stopType":"GRACEFUL"}
        """),
    Verb(
      arguments: "vnf modify fw --name x --metadata a=1 --metadata b=null --extension e=t "
        + "--property p=true",
      request: """
        PATCH \(instance) {"extensions":{"e":"t"},"metadata":{"a":1,"b":null},\
        "vnfConfigurableProperties":{"p":true},"vnfInstanceName":"x"}
        """),
    Verb(
      arguments: "vnf pause fw",
      request: "POST /martlet/v1/vnf_instances/\(Samples.vnf)/vnfcs/\(Samples.vnfc)/pause"),
    Verb(
      arguments: "vnf continue fw --vnfc fw.0",
      request: "POST /martlet/v1/vnf_instances/\(Samples.vnf)/vnfcs/\(Samples.vnfc)/continue"),
    Verb(
      arguments: "vnf terminate fw",
      request: "POST \(instance)/terminate {\"terminationType\":\"FORCEFUL\"}"),
    Verb(
      arguments: "vnf terminate fw --graceful 3",
      request: """
        POST \(instance)/terminate {"gracefulTerminationTimeout":3,"terminationType":"GRACEFUL"}
        """),
    Verb(arguments: "vnf delete fw", request: "DELETE \(instance)"),
    Verb(
      arguments: "op retry a100",
      request: "POST /vnflcm/v2/vnf_lcm_op_occs/\(Samples.operation)/retry"
    ),
    Verb(
      arguments: "op fail a100",
      request: "POST /vnflcm/v2/vnf_lcm_op_occs/\(Samples.operation)/fail"),
    Verb(
      arguments: "package delete firewall",
      request: "DELETE /vnfpkgm/v2/vnf_packages/\(Samples.package)"),
    Verb(
      arguments:
        "network create lan --subnet 10.1.0.0/24,10.1.0.1 --subnet fd00::/64 --route 10.2.0.0/16=10.1.0.2 --uplink nat --mtu 1400",
      request: """
        POST /martlet/v1/networks {"mtu":1400,"name":"lan","routes":[{"destination":"10.2.0.0/16",\
        "via":"10.1.0.2"}],"subnets":[{"gateway":"10.1.0.1","prefix":"10.1.0.0/24"},\
        {"prefix":"fd00::/64"}],"uplink":"nat"}
        """),
    Verb(
      arguments: "network delete lan", request: "DELETE /martlet/v1/networks/\(Samples.network)"),
  ]

  @Test(arguments: verbs) func eachVerbSendsItsRequest(_ verb: Verb) async throws {
    try await StubServer(Samples.answer).onSocket { server in
      let run = await CommandRun.run(
        verb.arguments.split(separator: " ").map(String.init), on: server)
      #expect(run.code == 0, "\(run.error)")
      #expect(server.lines.filter { !$0.hasPrefix("GET") } == [verb.request])
    }
  }

  @Test func whatIsNextNamesAVnfcWhereThereAreSeveral() throws {
    func steps(_ vnfcs: (vdu: String, technology: String)...) throws -> String {
      nextSteps(
        "mx",
        try vnfcs.map {
          try JSONValue(
            parsing: Array(
              #"{"vduId":"\#($0.vdu)","metadata":{"ordinal":0,"technology":"\#($0.technology)"}}"#
                .utf8))
        })
    }
    #expect(
      try steps(("filter", "tinyx"), ("server", "container")) == """

        mx runs. Next:
          martlet describe vnf mx                      its addresses, Vnfcs and ports
          martlet logs -f mx --vnfc filter.0           what it writes
          martlet exec -it mx --vnfc filter.0 -- sh    a shell inside, if it has one
          martlet vnf terminate mx && martlet vnf delete mx
        """)
    // Only what can run commands is asked to.
    #expect(
      try steps(("nat", "unikernel"), ("server", "container"))
        .contains("exec -it mx --vnfc server.0 --"))
    #expect(try !steps(("nat", "unikernel")).contains("exec"))
    #expect(try !steps(("server", "container")).contains("--vnfc"))
  }

  @Test func runDoesItAllAndSaysWhatIsNext() async throws {
    try await StubServer(Samples.answer).onSocket { server in
      let run = await CommandRun.run(
        ["vnf", "run", "firewall", "--connect", "left=lan"], on: server)
      #expect(run.code == 0)
      #expect(
        server.lines.filter { $0.hasPrefix("POST") } == [
          // `fw` is taken, `firewall` is not.
          #"POST /vnflcm/v2/vnf_instances {"vnfInstanceName":"firewall","vnfdId":"b1bb0ce7"}"#,
          #"POST \#(Self.instance)/instantiate {"extVirtualLinks":[{"extCps":[{"cpdId":"left"}],"id":"link-1","resourceId":"lan"}]}"#,
        ])
      #expect(run.error.contains("martlet describe vnf firewall"))
      #expect(!run.output.contains("Next"))
    }
  }

  @Test func aRefusedStartLeavesNoInstance() async throws {
    try await StubServer({ request, number in
      request.target.hasSuffix("/instantiate")
        ? .problem(422, "point left has no network") : Samples.answer(request, number)
    }).onSocket { server in
      let run = await CommandRun.run(["vnf", "run", "firewall", "--name", "x"], on: server)
      #expect(run.code == 2)
      #expect(run.error == "martlet: point left has no network\n")
      #expect(server.lines.last == "DELETE \(Self.instance)")
    }
  }

  @Test func withoutWaitingTheOperationIsShown() async throws {
    try await StubServer(Samples.answer).onSocket { server in
      let run = await CommandRun.run(
        ["vnf", "terminate", "fw", "--no-wait", "-o", "name"], on: server)
      #expect(run.output == "\(Samples.operation)\n")
      #expect(!server.lines.contains { $0.contains("/events") })
    }
  }

  @Test func aFailedOperationSaysWhyAndWhatToDo() async throws {
    try await StubServer({ request, number in
      request.method == "GET" && request.target.contains("op_occs/")
        ? .json(
          """
          {"id":"\(Samples.operation)","operation":"SCALE","operationState":"FAILED_TEMP",\
          "error":{"detail":"no address is free"}}
          """) : Samples.answer(request, number)
    }).onSocket { server in
      let run = await CommandRun.run(["vnf", "scale", "fw", "--out", "1"], on: server)
      #expect(run.code == 1)
      #expect(run.error.hasPrefix("martlet: SCALE ended as FAILED_TEMP: no address is free\n"))
      #expect(run.error.contains("martlet op retry a1000000"))
    }
  }

  @Test func waitingEndsWithItsTime() async throws {
    try await StubServer({ request, number in
      request.method == "GET" && request.target.contains("op_occs/")
        ? .json(#"{"id":"x","operationState":"PROCESSING"}"#) : Samples.answer(request, number)
    }).onSocket { server in
      let run = await CommandRun.run(
        ["vnf", "heal", "fw", "--timeout", "100ms"], on: server)
      #expect(run.code == 6)
      #expect(run.error.contains("martlet wait op a1000000"))
    }
  }

  @Test func waitFollowsTheEvents() async throws {
    try await StubServer({ request, number in
      if request.target.contains("/events") {
        return .stream(["id: 1\n\n", "id: 2\ndata: {}\n\n", "id: 3\ndata: {}\n\n"], .silence)
      }
      guard request.target.contains("op_occs/") else { return Samples.answer(request, number) }
      return .json(
        #"{"id":"x","operation":"HEAL","operationState":"\#(number < 4 ? "PROCESSING" : "COMPLETED")"}"#
      )
    }).onSocket { server in
      let run = await CommandRun.run(["wait", "op", Samples.operation], on: server)
      #expect(run.code == 0, "\(run.error)")
      #expect(
        server.lines.map { $0.prefix(25) } == [
          "GET /martlet/v1/events", "GET /vnflcm/v2/vnf_lcm_op", "GET /vnflcm/v2/vnf_lcm_op",
          "GET /vnflcm/v2/vnf_lcm_op",
        ])
    }
  }

  @Test(arguments: [
    (400, 2), (401, 7), (403, 7), (404, 3), (409, 4), (413, 2), (422, 2), (500, 1), (501, 2),
    (503, 5), (504, 6), (507, 1),
  ])
  func eachProblemHasItsExitCode(_ status: Int, _ code: Int32) async throws {
    try await StubServer({ _, _ in .problem(status, "because") }).onSocket { server in
      let run = await CommandRun.run(["get", "vnf"], on: server)
      #expect(run.code == code)
      #expect(run.error.hasPrefix("martlet: because\n"))
      #expect(run.output == "")
    }
  }

  @Test func withoutADaemonItSaysHowToStartOne() async {
    let run = await CommandRun.run(["get", "vnf", "--socket", "/tmp/martlet-none.sock"])
    #expect(run.code == 5)
    #expect(run.error.contains("sudo martletd"))
  }

  @Test(arguments: [
    ["vnf"], ["get", "cheese"], ["vnf", "scale", "fw"], ["vnf", "operate", "fw", "jump"],
    ["vnf", "scale", "fw", "--out", "1", "--in", "1"], ["vnf", "run", "a", "--connect", "x"],
    ["vnf", "run", "a", "--param", "x=1", "--param", "x=2"], ["get", "vnf", "-o", "xml"],
    ["get", "vnf", "--url", "ftp://a"], ["wait", "op", "a", "--timeout", "soon"],
    ["exec", "fw"], ["vnf", "run", "a", "--param", "x=[1,"], ["vnf", "run", "a", "--param", "=1"],
    ["vnf", "modify", "a", "--property", "x={\"a\":"],
    ["vnf", "modify", "a", "--property", "x=@/nonexistent"],
    ["vnf", "run", "a", "--connect", "x=lan,10.1.0.999"],
    ["network", "create", "a", "--subnet", "b"],
    ["network", "create", "a", "--subnet", "10.1.0.0/24,b"],
    ["network", "create", "a", "--route", "10.1.0.0/24=b"],
  ])
  func wrongUsage(_ arguments: [String]) async {
    let run = await CommandRun.run(arguments)
    // `vnf` alone shows its help.
    #expect(run.code == (arguments == ["vnf"] ? 0 : 64), "\(run)")
  }

  @Test func namesAndBeginningsMeanOneThing() throws {
    let all = try ["a1", "a2", "b111-1"].enumerated().map { index, id in
      try JSONValue(
        parsing: Array(#"{"id":"\#(id)","vnfInstanceName":"\#(["x", "y", "y"][index])"}"#.utf8))
    }
    #expect(try match("x", among: all, of: .vnf) == "a1")
    #expect(try match("b111", among: all, of: .vnf) == "b111-1")
    // A name that is gone shall not be the beginning of another's identifier.
    for short in ["b", "b11"] {
      #expect {
        try match(short, among: all, of: .vnf)
      } throws: {
        ($0 as? Failure)?.code == .notFound
      }
    }
    #expect {
      try match("y", among: all, of: .vnf)
    } throws: {
      ($0 as? Failure)?.code == .conflict
    }
    #expect {
      try match("z", among: all, of: .vnf)
    } throws: {
      ($0 as? Failure)?.code == .notFound
    }
  }

  @Test func listsFollowTheirPages() async throws {
    try await StubServer({ request, _ in
      request.target.contains("marker")
        ? .json(#"[{"id":"2"}]"#)
        : .json(#"[{"id":"1"}]"#, headers: [("Link", "</p?marker=1>; rel=\"next\"")])
    }).onSocket { server in
      let run = await CommandRun.run(["get", "network", "-o", "name"], on: server)
      #expect(run.output == "1\n2\n")
    }
  }

  @Test(arguments: ["table", "wide", "json", "yaml", "name"])
  func noEscapesInAPipe(_ format: String) async throws {
    try await StubServer(Samples.answer).onSocket { server in
      for arguments in [
        ["get", "vnf"], ["vnf", "terminate", "fw"], ["network", "show", "lan"],
        ["describe", "op", "a100"],
      ] {
        let run = await CommandRun.run(arguments + ["-o", format], on: server)
        #expect(run.code == 0)
        #expect(!run.output.contains("\u{1B}") && !run.error.contains("\u{1B}"))
        #expect(!run.output.isEmpty)
      }
    }
  }

  @Test func coloursOnATerminalUnlessToldOtherwise() async throws {
    try await StubServer(Samples.answer).onSocket { server in
      let colored = await CommandRun.run(["get", "vnf"], on: server, terminal: true)
      #expect(colored.output.contains("\u{1B}[32mSTARTED"))
      for environment in [["NO_COLOR": "1"], ["TERM": "dumb"]] {
        let plain = await CommandRun.run(
          ["get", "vnf"], on: server, terminal: true, environment: environment)
        #expect(!plain.output.contains("\u{1B}"))
      }
    }
  }

  @Test func aTokenGoesWithAnAddress() async throws {
    try await StubServer(Samples.answer).onLoopback { server in
      let run = await CommandRun.run(
        ["get", "vnf", "--url", "http://127.0.0.1:\(server.port)", "--token-file", "/nowhere"])
      #expect(run.code == 7)
      #expect(server.received.isEmpty)
    }
  }

  @Test func aPackageIsUploadedAndAwaited() async throws {
    try await StubServer(Samples.answer).onSocket { server in
      for (path, code) in [("/dev/null", 2), ("/tmp", 2), ("/nowhere", 3)] as [(String, Int32)] {
        let refused = await CommandRun.run(["package", "upload", path], on: server)
        #expect(refused.code == code)
      }
      #expect(server.received.isEmpty)
      let run = await CommandRun.run(["package", "upload", #filePath, "-o", "name"], on: server)
      #expect(run.code == 0, "\(run.error)")
      #expect(run.output == "\(Samples.package)\n")
      let put = server.received.first { $0.method == "PUT" && !$0.body.isEmpty }
      #expect(put?.text.contains("aPackageIsUploadedAndAwaited") == true)
      #expect(put?.headers["content-type"] == "application/zip")
    }
  }

  @Test func aRefusedPackageIsRemoved() async throws {
    try await StubServer({ request, number in
      request.method == "GET" && request.target.contains("vnf_packages/")
        ? .json(
          #"{"id":"x","onboardingState":"ERROR","onboardingFailureDetails":{"detail":"bad hash"}}"#)
        : Samples.answer(request, number)
    }).onSocket { server in
      let run = await CommandRun.run(["package", "upload", #filePath], on: server)
      #expect(run.code == 2)
      #expect(run.error == "martlet: bad hash\n")
      #expect(server.lines.last == "DELETE /vnfpkgm/v2/vnf_packages/\(Samples.package)")
    }
  }

  @Test(arguments: [
    ["vnf", "run", "./nowhere"], ["vnf", "run", "nowhere.csar"], ["package", "lint", "nowhere"],
    ["package", "upload", "nowhere.csar"],
  ])
  func aPackageThatIsNotThereIsNamed(_ arguments: [String]) async throws {
    try await StubServer(Samples.answer).onSocket { server in
      let run = await CommandRun.run(arguments, on: server)
      #expect(run.code == 3)
      let path = arguments[2]
      #expect(run.error.hasPrefix("martlet: the package \(path) cannot be read: No such file"))
      #expect(run.error.contains("martlet package init"))
      #expect(server.received.isEmpty)
    }
  }

  /// Its recipe could not be built: the program is nowhere.
  @Test func aFolderThatIsOnboardedIsNotBuilt() async throws {
    let temporary = try TemporaryFolder()
    let folder = temporary.path + "/hello"
    #expect(await CommandRun.run(["package", "init", folder]).code == 0)
    try temporary.write(
      "hello/Files/hello.yaml", Array("name: hello\nprograms: [no-such-program]\n".utf8))
    let known = Samples.packageJSON.replacing("b1bb0ce7", with: "hello")
    try await StubServer({ request, number in
      request.method == "GET" && request.target.hasSuffix("vnf_packages")
        ? .json("[\(known)]") : Samples.answer(request, number)
    }).onSocket { server in
      let run = await CommandRun.run(["vnf", "run", folder, "--name", "x"], on: server)
      #expect(run.code == 0, "\(run.error)")
      #expect(run.error.contains("The descriptor hello is onboarded already"))
      #expect(run.error.contains("martlet package delete hello"))
    }
    try await StubServer(Samples.answer).onSocket { server in
      let run = await CommandRun.run(["vnf", "run", folder, "--name", "x"], on: server)
      #expect(run.code != 0 && run.error.contains("no-such-program"), "\(run.error)")
    }
  }

  @Test(arguments: [
    ("name: a\nprogram: [sh]\n", "there is no key program; a recipe has name, architecture"),
    ("name: a\nprograms: 5\n", "programs must be a list"),
    ("name: a\nfiles: [{content: x}]\n", "files[0].path is missing"),
    ("programs: [sh]\n", "name is missing"), ("[a, b]\n", "the whole must be a mapping"),
    ("name: a\n  programs: [x\n", "2:11: error: scanner"),
  ])
  func aRecipeThatIsNoneIsToldWhere(_ text: String, _ problem: String) async throws {
    let folder = try TemporaryFolder()
    let recipe = try folder.write("a.yaml", text)
    let run = await CommandRun.run(["image", "build", recipe, "-o", folder.path + "/a.tar"])
    #expect(run.code == 2)
    #expect(run.error.hasPrefix("martlet: \(recipe) is no recipe: \(problem)"), "\(run.error)")
    #expect(try folder.names() == ["a.yaml"])
    let missing = await CommandRun.run(["image", "build", folder.path + "/b.yaml"])
    #expect(missing.code == 3)
    #expect(missing.error.hasSuffix("/b.yaml cannot be read: No such file or directory\n"))
  }

  /// Its image is not there, and no recipe that it could be built from.
  @Test func aBuildTellsOfWhatItWarns() async throws {
    let temporary = try TemporaryFolder()
    let folder = temporary.path + "/hello"
    #expect(await CommandRun.run(["package", "init", folder]).code == 0)
    unlink(folder + "/Files/hello.yaml")
    let run = await CommandRun.run(["package", "build", folder, "-o", folder + ".csar"])
    #expect(run.code == 0)
    #expect(run.error.contains("warning: the image ../Files/hello.tar is not in the package"))
  }

  @Test(arguments: [true, false])
  func describingAVnfAsksWhatItsFunctionsCount(isAnswered: Bool) async throws {
    let usage = "/martlet/v1/vnf_instances/\(Samples.vnf)/vnfcs/\(Samples.vnfc)/usage"
    try await StubServer({ request, number in
      guard request.target == usage else { return Samples.answer(request, number) }
      return isAnswered
        ? .json(#"{"functionCounters":[{"name":"accepted","value":12}]}"#)
        : .problem(409, "nothing runs")
    }).onSocket { server in
      let run = await CommandRun.run(["describe", "vnf", "fw"], on: server)
      #expect(run.code == 0 && run.output.contains("10.1.0.5"), "\(run)")
      #expect(server.lines.contains("GET \(usage)"))
      #expect(run.output.contains("d7000000  accepted     12") == isAnswered, "\(run.output)")
    }
  }

  @Test func buildingShowsOnATerminalThatItGoesOn() async throws {
    let drawn = Mutex("")
    func console(_ isTerminal: Bool) -> Console {
      Console(
        output: { _ in },
        error: { bytes in drawn.withLock { $0 += String(decoding: bytes, as: UTF8.self) } },
        environment: [:], outputIsTerminal: isTerminal, errorIsTerminal: isTerminal,
        width: { 80 })
    }
    for isTerminal in [false, true] {
      try await Console.$current.withValue(console(isTerminal)) {
        let answer = try await Project.building("hello") { project throws(Failure) in
          project.begin(.tinyx)
          usleep(400_000)
          return 7
        }
        #expect(answer == 7)
      }
      #expect(drawn.withLock { $0.contains("build hello") && $0.contains("tinyx") } == isTerminal)
    }
  }

  @Test func theVersionAndCompletionAreToBeHad() async {
    let version = await CommandRun.run(["--version"])
    #expect(version.code == 0 && version.output == "\(Release.version)\n", "\(version)")
    for shell in ["bash", "zsh", "fish"] {
      let script = await CommandRun.run(["--generate-completion-script", shell])
      #expect(script.code == 0 && script.output.contains("terminate"), "\(shell)")
    }
  }

  @Test func eventsAreToldFromTheBeginning() async throws {
    try await StubServer({ _, _ in
      .stream(["id: 0\n\nid: 1\ndata: {\"sequence\":1,\"message\":\"a\"}\n\n"])
    }).onSocket { server in
      let run = await CommandRun.run(["events", "-o", "json"], on: server)
      #expect(run.code == 0)
      #expect(run.output == "{\"message\":\"a\",\"sequence\":1}\n")
      #expect(server.received[0].target == "/martlet/v1/events?follow=false")
      #expect(server.received[0].headers["last-event-id"] == "0")
    }
  }

  @Test func aLogIsFollowedIntoTheSuccessor() async throws {
    let log = "/martlet/v1/vnf_instances/\(Samples.vnf)/vnfcs/\(Samples.vnfc)/log"
    try await StubServer({ request, number in
      if request.target.hasPrefix(log) {
        let isSuccessor = request.target.contains("incarnation=3")
        return .stream(
          [isSuccessor ? "second\n" : "first\n"], headers: [("Martlet-Log-Offset", "0")])
      }
      guard request.target.hasSuffix(Samples.vnf) else { return Samples.answer(request, number) }
      switch number {
      // The list, the instance; then after each log.
      case ...2: return .json(Samples.vnfJSON)
      case ...4:
        return .json(Samples.vnfJSON.replacing("\"incarnation\":2", with: "\"incarnation\":3"))
      default: return .json(Samples.vnfJSON.replacing("RUNNING", with: "STOPPED"))
      }
    }).onSocket { server in
      let run = await CommandRun.run(["logs", "-f", "fw"], on: server)
      #expect(run.code == 0, "\(run.error)")
      #expect(run.output == "first\nsecond\n")
      #expect(
        server.lines.filter { $0.contains("/log?") } == [
          "GET \(log)?offset=0&follow=true&incarnation=2",
          "GET \(log)?offset=0&follow=true&incarnation=3",
        ])
    }
  }
}
