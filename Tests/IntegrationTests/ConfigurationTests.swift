import FoundationEssentials
import Glibc
import LinuxSystem
import NFVBenchmark
import TestSupport
import Testing

/// Firewalls whose rules change while a connection through them goes on: in Swift, in each of its forms,
/// and of nftables.
@Suite(.needs(.root, .crun, .qemu), .serialized, .timeLimit(.minutes(5)))
struct ConfigurationTests {
  private static let threads = BlockingExecutor(threads: 1, name: "martlet-test")

  @Test func newRulesAreTakenOverWithoutLosingFlows() async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform()
      defer { platform.cleanUp() }
      try platform.martlet(["network", "create", "outside", "--subnet", "10.1.0.0/24"])
      try platform.martlet([
        "network", "create", "inside", "--subnet", "10.2.0.0/24", "--route",
        "10.1.0.0/24=10.2.0.2",
      ])
      let guardian = try package("firewall", platform)
      try platform.martlet([
        "vnf", "run", try package("responder", platform), "--flavour", "container", "--name",
        "echo", "--connect", "network=inside,10.2.0.10",
      ])
      var client: ClientNamespace?
      for form in ["container", "unikernel", "tinyx"] {
        try await use(form, guardian, platform, &client)
      }
      let tables = "\(platform.state)/firewall.csar"
      try platform.martlet(["package", "build", "examples/firewall", "-o", tables])
      for form in ["container", "tinyx"] {
        try await use(form, tables, name: "firewall", platform, &client)
      }
      #expect(try await platform.end() == [])
    }
  }

  /// The responder has no route to the client's network: its answers reach who translates.
  @Test func aPipelinesStagesTakeNewParametersOver() async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform()
      defer { platform.cleanUp() }
      try platform.martlet(["network", "create", "inside", "--subnet", "10.1.0.0/24"])
      try platform.martlet(["network", "create", "outside", "--subnet", "10.2.0.0/24"])
      try platform.martlet([
        "vnf", "run", try package("responder", platform), "--flavour", "container", "--name",
        "echo", "--connect", "network=outside,10.2.0.10",
      ])
      try platform.martlet([
        "vnf", "run", try package("pipeline", platform), "--flavour", "container", "--name", "edge",
        "--connect", "left=inside,10.1.0.2", "--connect", "right=outside,10.2.0.2", "--param",
        "pipeline=firewall | nat44", "--param", rules([7, 5001]),
      ])
      let client = try platform.join(
        "inside", name: "mtest-inside", address: [10, 1, 0, 100],
        routes: [.init(destination: [10, 2, 0, 0], prefixLength: 24, gateway: [10, 1, 0, 2])])
      func passes(_ port: UInt16) throws -> Bool {
        try client.connects(to: [10, 2, 0, 10], port: port, timeout: .seconds(2))
      }
      #expect(try passes(5001) && passes(7))
      let before = try platform.instance("edge").workloads

      try platform.martlet(["vnf", "modify", "edge", "--property", rules([7])])
      #expect(try !passes(5001) && passes(7))
      // The translator's outside ports, then a pipeline without the firewall.
      try platform.martlet(["vnf", "modify", "edge", "--property", "ports=20000-20099"])
      #expect(try !passes(5001) && passes(7))
      try platform.martlet(["vnf", "modify", "edge", "--property", "pipeline=nat44"])
      #expect(try passes(5001) && passes(7))
      #expect(throws: Failed.self) {
        try platform.martlet(["vnf", "modify", "edge", "--property", "pipeline=nat44 | nat44"])
      }
      #expect(try passes(5001))
      #expect(try platform.instance("edge").workloads == before)
      #expect(try await platform.end() == [])
    }
  }

  private func package(_ function: String, _ platform: Platform) throws -> String {
    let folder = "\(platform.state)/own-\(function)"
    try platform.martlet(["package", "init", folder, "--function", function])
    try platform.martlet(["package", "build", folder, "-o", "\(folder).csar"])
    return "\(folder).csar"
  }

  private func rules(_ ports: [Int]) -> String {
    let accepted = ports.map {
      #"{"from":"left","protocol":"tcp","ports":\#($0),"action":"accept"}"#
    }
    return "rules=["
      + (accepted + [#"{"protocol":"tcp","action":"reject"}"#]).joined(separator: ",")
      + "]"
  }

  /// - Parameter product: the package's own name; that of nftables refuses nothing, and counts nothing.
  private func use(
    _ form: String, _ package: String, name product: String = "own-firewall", _ platform: Platform,
    _ joined: inout ClientNamespace?
  ) async throws {
    let isSwift = product == "own-firewall"
    let name = isSwift ? "fw-\(form)" : "nft-\(form)"
    let known = form == "container" ? package : product
    try platform.martlet([
      "vnf", "run", known, "--flavour", form, "--name", name, "--connect", "left=outside,10.1.0.2",
      "--connect", "right=inside,10.2.0.2", "--param", rules([7, 5001]),
    ])
    // There is no network before there is somebody on it.
    let client =
      try joined
      ?? platform.join(
        "outside", name: "mtest-outside", address: [10, 1, 0, 100],
        routes: [.init(destination: [10, 2, 0, 0], prefixLength: 24, gateway: [10, 1, 0, 2])])
    joined = client
    func passes(_ port: UInt16) throws -> Bool {
      try client.connects(to: [10, 2, 0, 10], port: port, timeout: .seconds(2))
    }
    #expect(try passes(5001), "\(form)")
    if form == "container", isSwift { try checkPrivileges(platform, name) }

    // Each line is answered before the next is sent.
    let said = "\(platform.state)/said-\(name)"
    let talk = """
      exec 3<>/dev/tcp/10.2.0.10/7; for i in {1..150}; do echo $i >&3; read -t 5 -u 3 x; \
      [ "$x" = $i ] || exit 1; echo $i; sleep 0.02; done; echo over
      """
    _ = try client.run("/bin/bash", ["-c", "(\(talk)) >\(said) 2>&1 &"])
    func lines() -> [Substring] {
      String(decoding: (try? readFile(said, limit: 1 << 16)) ?? [], as: UTF8.self)
        .split(separator: "\n")
    }
    try await eventually("they talk", within: .seconds(10)) { lines().count > 5 }
    let before = try platform.instance(name)

    try platform.martlet(["vnf", "modify", name, "--property", rules([7])])
    // Who is told by a signal has no way to say when he is ready.
    if !isSwift {
      try await eventually("the rules are loaded", within: .seconds(5)) { try !passes(5001) }
    }
    #expect(try !passes(5001), "\(form)")
    // What is wrong is refused by the function itself, and all is as it was.
    if isSwift {
      try refuse(form, platform, name)
      #expect(try !passes(5001) && passes(7), "\(form)")
    }
    // The next daemon knows what they were told.
    platform.endDaemon(SIGKILL)
    try await platform.startDaemon()
    try platform.martlet(["vnf", "modify", name, "--property", rules([7, 5001])])
    if !isSwift {
      try await eventually("the rules are loaded", within: .seconds(5)) { try passes(5001) }
    }
    #expect(try passes(5001), "\(form)")

    try await eventually("they have talked it over", within: .seconds(20)) {
      lines().last == "over"
    }
    #expect(try platform.instance(name).workloads == before.workloads)
    if isSwift {
      let description = try platform.martlet(["describe", "vnf", name])
      #expect(description.contains("Counters of the functions"), "\(description)")
    }
    for workload in before.workloads { _ = platform.processes(of: workload) }
    try platform.martlet(["vnf", "terminate", name])
  }

  /// By the descriptor with the request, and what that does not know by the function.
  private func refuse(_ form: String, _ platform: Platform, _ name: String) throws {
    for (rule, words) in [
      (#"{"action":"allow"}"#, "rules[0].action is allow; it can be accept, drop, reject"),
      (#"{"action":"accept","source":"10.0.0.0/99"}"#, "parameters.rules[0].source: "),
    ] {
      do {
        try platform.martlet(["vnf", "modify", name, "--property", "rules=[\(rule)]"])
        Issue.record("\(form) takes rules that make no sense")
      } catch let failure as Failed {
        let text = "\(failure)"
        #expect(text.contains(words), "\(text)")
      }
    }
  }

  /// CAP_NET_RAW and no other (capability.h: 13).
  private func checkPrivileges(_ platform: Platform, _ name: String) throws {
    let workload = try #require(try platform.instance(name).workloads.first)
    let process = try #require(platform.processes(of: workload).first)
    let status = String(
      decoding: try readFile("/proc/\(process)/status", limit: 1 << 14), as: UTF8.self)
    let raw = "0000000000002000"
    for (field, value) in [
      ("CapInh", raw), ("CapPrm", raw), ("CapEff", raw), ("CapBnd", raw), ("CapAmb", raw),
      ("NoNewPrivs", "1"), ("Seccomp", "2"),
    ] {
      #expect(status.contains("\(field):\t\(value)\n"), "\(field) of \(status)")
    }
  }
}
