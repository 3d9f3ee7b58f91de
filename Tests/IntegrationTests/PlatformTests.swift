import FoundationEssentials
import Glibc
import LinuxSystem
import NFVClient
import SystemPackage
import TestSupport
import Testing

/// Real functions outlive what carries them, and go without a trace. Time is the host's own.
@Suite(.needs(.root, .crun), .serialized, .timeLimit(.minutes(2 * slowness)))
struct PlatformTests {
  /// System calls here may wait; they stay off the cooperative pool.
  private static let threads = BlockingExecutor(threads: 1, name: "martlet-test")

  private func withPlatform(
    host: NetworkNamespace? = nil, _ body: (Platform) async throws -> Void
  ) async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform(host: host)
      defer { platform.cleanUp() }
      try await body(platform)
      #expect(try await platform.end() == [])
    }
  }

  @Test func aKilledFunctionIsRestoredWithItsAddresses() async throws {
    try await withPlatform { platform in
      try await platform.runResponder("rs", "network=lan,10.9.0.10")
      #expect(try platform.connects(to: 10))
      let before = try platform.instance("rs")
      let victim = try #require(platform.processes(of: before.workloads[0]).first)
      kill(victim, SIGKILL)
      try await eventually("a successor is there", within: .seconds(10)) {
        try platform.instance("rs").workloads != before.workloads
      }
      #expect(try platform.connects(to: 10))
      let after = try platform.instance("rs")
      #expect(after.addresses == before.addresses)
      #expect(after.addresses.count == 1)
      #expect(platform.processes(of: before.workloads[0]) == [])
      let operations = try platform.martlet(["get", "op", "-o", "json"])
      #expect(operations.contains("HEAL"))
    }
  }

  /// One function is reached from outside of the host, one reaches there; also when the daemon was
  /// killed and the host's rules are lost.
  @Test func uplinksAreMendedAfterAKill() async throws {
    let host = try NetworkNamespace.create()
    let outside = try NetworkNamespace.create()
    try host.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      try route.request([
        .setLinkUp(named: "lo"),
        .addVeth(
          name: "out0", mtu: 1500, master: nil,
          peer: .init(name: "eth0", mac: [], namespace: outside.descriptor.rawValue)),
      ])
      let link = try route.index(ofLinkNamed: "out0")
      try route.request([.addAddress([10, 200, 0, 1], prefixLength: 24, link: link)])
    }
    try outside.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      let link = try route.index(ofLinkNamed: "eth0")
      try route.request([
        .setLink(link, isUp: true),
        .addAddress([10, 200, 0, 2], prefixLength: 24, link: link),
        .addRoute(to: [10, 9, 1, 0], prefixLength: 24, gateway: [10, 200, 0, 1], link: link),
      ])
    }
    func nft(_ arguments: [String]) throws -> String {
      let result = try host.run { () throws(SystemError) in
        try runProgram("/usr/sbin/nft", arguments: ["nft"] + arguments)
      }
      return String(decoding: result.output, as: UTF8.self)
    }
    try await withPlatform(host: host) { platform in
      func check() async throws {
        try await eventually("the responder is reached from outside", within: .seconds(5)) {
          try outside.run { () throws(SystemError) in
            try acceptsConnection([10, 9, 1, 10], port: 5001, timeout: .seconds(1))
          }
        }
        let server = try outside.run { () throws(SystemError) in
          try spawnDetached(
            "/usr/bin/iperf3", arguments: ["iperf3", "-s", "-1"],
            environment: ["PATH=/usr/bin"])
        }
        defer {
          kill(server, SIGKILL)
          waitpid(server, nil, 0)
        }
        try await eventually("the server listens", within: .seconds(5)) {
          try outside.run { () throws(SystemError) in
            try readFile("/proc/thread-self/net/tcp6", limit: 1 << 16).count
          } > 150
        }
        try platform.martlet(["exec", "inner", "--", "iperf3", "-c", "10.200.0.2", "-n", "1K"])
      }
      try platform.martlet(
        ["network", "create", "dmz", "--subnet", "10.9.1.0/24", "--uplink", "routed"])
      try platform.martlet(
        ["network", "create", "wan", "--subnet", "10.9.2.0/24", "--uplink", "nat"])
      try platform.martlet([
        "vnf", "run", try Platform.responder.get(), "--name", "open", "--connect",
        "network=dmz,10.9.1.10",
      ])
      try platform.martlet([
        "vnf", "run", "responder", "--name", "inner", "--connect", "network=wan",
      ])
      try await check()
      platform.endDaemon(SIGKILL)
      _ = try nft(["flush", "ruleset"])
      try await platform.startDaemon()
      try await eventually("the rules are there again", within: .seconds(5)) {
        try nft(["list", "tables"]).contains("martlet_")
      }
      try await check()
    }
    #expect(try nft(["list", "ruleset"]) == "")
    let links = try host.run { () throws(SystemError) in
      try NetlinkSocket(.route).links().map(\.name)
    }
    #expect(links == ["lo", "out0"])
  }

  @Test func trafficGoesOnWithoutTheDaemonAndWithoutTheHold() async throws {
    try await withPlatform { platform in
      try await platform.runResponder("rs", "network=lan,10.9.0.10")
      #expect(try platform.connects(to: 10))
      let before = try platform.instance("rs")
      let hold = try #require(platform.hold)
      let processes = platform.processes(of: before.workloads[0])
      try platform.beginPings(3000, to: 10)
      platform.endDaemon(SIGKILL)
      kill(hold, SIGKILL)
      try await platform.startDaemon()
      let adopted = try platform.instance("rs")
      #expect(adopted.workloads == before.workloads)
      #expect(adopted.addresses == before.addresses)
      #expect(platform.processes(of: before.workloads[0]) == processes)
      #expect(try await platform.lostPings(of: 3000) == 0)
      // What was adopted without being the new hold's child is watched all the same.
      kill(try #require(processes.first), SIGKILL)
      try await eventually("a successor is there", within: .seconds(15)) {
        try platform.instance("rs").workloads != before.workloads
      }
      #expect(try platform.connects(to: 10))
    }
  }

  @Test func aFunctionIsRestoredAfterTheHoldDiedUnderALivingDaemon() async throws {
    try await withPlatform { platform in
      try await platform.runResponder("rs", "network=lan,10.9.0.10")
      let before = try platform.instance("rs")
      let hold = try #require(platform.hold)
      kill(hold, SIGKILL)
      try await eventually("another hold is there", within: .seconds(5)) {
        platform.hold.map { $0 != hold } ?? false
      }
      #expect(try platform.instance("rs").workloads == before.workloads)
      kill(try #require(platform.processes(of: before.workloads[0]).first), SIGKILL)
      try await eventually("a successor is there", within: .seconds(10)) {
        try platform.instance("rs").workloads != before.workloads
      }
      #expect(try platform.connects(to: 10))
      #expect(try platform.instance("rs").addresses == before.addresses)
    }
  }

  /// One platform for all moments, asked by HTTP: a daemon and programs anew for each took 70 s a moment
  /// under emulation.
  @Test func anAcknowledgedInstantiationSurvivesAKillAtAnyMoment() async throws {
    struct Operation: Decodable { var operationState: String }
    try await withPlatform { platform in
      try await platform.runResponder("first", "network=lan,10.9.0.10")
      let package = try platform.instance("first").vnfdId
      for (index, delay) in [0, 1, 3, 6, 12, 25].enumerated() {
        let last = UInt8(11 + index)
        let created: Instance = try await platform.ask(
          .post, "/vnflcm/v2/vnf_instances",
          #"{"vnfdId":"\#(package)","vnfInstanceName":"after-\#(delay)-ms"}"#)
        let path = "/vnflcm/v2/vnf_instances/\(created.id)"
        let body = """
          {"flavourId":"container","extVirtualLinks":[{"id":"l","resourceId":"lan","extCps":[\
          {"cpdId":"network","cpConfig":{"default":{"cpProtocolData":[{"layerProtocol":\
          "IP_OVER_ETHERNET","ipOverEthernet":{"ipAddresses":[{"type":"IPV4","fixedAddresses":\
          ["10.9.0.\(last)"]}]}}]}}}]}]}
          """
        let client = Client(.unixSocket(platform.socket))
        let answer = try await client.send(
          HTTPRequest(.post, "\(path)/instantiate", json: Array(body.utf8)))
        #expect(answer.status == 202)
        usleep(UInt32(delay) * 1000)
        platform.endDaemon(SIGKILL)
        client.close()
        try await platform.startDaemon()
        let operation = String(try #require(answer.headers["Location"]?.split(separator: "/").last))
        var state = ""
        try await eventually("its operation has ended", within: .seconds(15)) {
          let asked: Operation = try await platform.ask(
            .get, "/vnflcm/v2/vnf_lcm_op_occs/\(operation)")
          state = asked.operationState
          return !["STARTING", "PROCESSING"].contains(state)
        }
        #expect(state == "COMPLETED", "after \(delay) ms")
        let instance: Instance = try await platform.ask(.get, path)
        #expect(instance.workloads.count == 1, "after \(delay) ms")
        #expect(try platform.connects(to: last), "after \(delay) ms")
        #expect(try platform.connects(to: 10), "after \(delay) ms")
      }
    }
  }

  @Test func anAcknowledgedTerminationIsFinishedByTheNextDaemon() async throws {
    try await withPlatform { platform in
      try await platform.runResponder("rs", "network=lan,10.9.0.10")
      let before = try platform.instance("rs")
      #expect(!platform.processes(of: before.workloads[0]).isEmpty)
      let client = Client(.unixSocket(platform.socket))
      let answer = try await client.send(
        HTTPRequest(
          .post, "/vnflcm/v2/vnf_instances/\(before.id)/terminate",
          json: Array(#"{"terminationType":"FORCEFUL"}"#.utf8)))
      #expect(answer.status == 202)
      platform.endDaemon(SIGKILL)
      client.close()
      try await platform.startDaemon()
      try await eventually("it is terminated", within: .seconds(15)) {
        try platform.instance("rs").instantiationState == "NOT_INSTANTIATED"
      }
      #expect(platform.processes(of: before.workloads[0]) == [])
    }
  }

  @Test func scalingAndStoppingKeepTheAddressesOfWhatStays() async throws {
    try await withPlatform { platform in
      try await platform.runResponder("rs", "network=lan")
      let one = try platform.instance("rs")
      try platform.martlet(["vnf", "scale", "rs", "--aspect", "servers", "--out", "2"])
      let three = try platform.instance("rs")
      #expect(three.workloads.count == 3)
      #expect(three.addresses.count == 3)
      #expect(three.addresses.isSuperset(of: one.addresses))
      for workload in three.workloads { #expect(!platform.processes(of: workload).isEmpty) }
      try platform.martlet(["vnf", "scale", "rs", "--aspect", "servers", "--in", "2"])
      #expect(try platform.instance("rs").workloads == one.workloads)
      for workload in three.workloads where !one.workloads.contains(workload) {
        #expect(platform.processes(of: workload) == [])
      }
      try platform.martlet(["vnf", "operate", "rs", "stop"])
      #expect(platform.processes(of: one.workloads[0]) == [])
      try platform.martlet(["vnf", "operate", "rs", "start"])
      let again = try platform.instance("rs")
      #expect(again.addresses == one.addresses)
      #expect(!platform.processes(of: try #require(again.workloads.first)).isEmpty)
    }
  }
}
