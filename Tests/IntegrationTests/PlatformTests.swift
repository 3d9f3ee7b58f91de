import FoundationEssentials
import Glibc
import LinuxSystem
import NFVClient
import Testing

/// Real functions outlive what carries them, and go without a trace. Time is the host's own.
@Suite(
  .enabled(if: Facility.isComplete, "needs root and crun"), .serialized, .timeLimit(.minutes(2)))
struct PlatformTests {
  /// System calls here may wait; they stay off the cooperative pool.
  private static let threads = BlockingExecutor(threads: 1, name: "martlet-test")

  private func withPlatform(_ body: (Platform) async throws -> Void) async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform()
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

  @Test(arguments: [0, 1, 3, 6, 12, 25])
  func anAcknowledgedInstantiationSurvivesAKill(afterMilliseconds delay: Int) async throws {
    try await withPlatform { platform in
      try await platform.runResponder("first", "network=lan,10.9.0.10")
      try platform.martlet(["vnf", "create", "responder", "--name", "second"])
      let id = try platform.instance("second").id
      let client = Client(.unixSocket(platform.socket))
      let body = """
        {"flavourId":"container","extVirtualLinks":[{"id":"l","resourceId":"lan","extCps":[\
        {"cpdId":"network","cpConfig":{"default":{"cpProtocolData":[{"layerProtocol":\
        "IP_OVER_ETHERNET","ipOverEthernet":{"ipAddresses":[{"type":"IPV4","fixedAddresses":\
        ["10.9.0.11"]}]}}]}}}]}]}
        """
      let answer = try await client.send(
        HTTPRequest(.post, "/vnflcm/v2/vnf_instances/\(id)/instantiate", json: Array(body.utf8)))
      #expect(answer.status == 202)
      usleep(UInt32(delay) * 1000)
      platform.endDaemon(SIGKILL)
      client.close()
      try await platform.startDaemon()
      let operation = String(try #require(answer.headers["Location"]?.split(separator: "/").last))
      var text = ""
      try await eventually("its operation has ended", within: .seconds(15)) {
        text = try platform.martlet(["get", "op", operation, "-o", "json"])
        return !text.contains("\"STARTING\"") && !text.contains("\"PROCESSING\"")
      }
      #expect(text.contains("\"COMPLETED\""), "\(text)")
      #expect(try platform.instance("second").workloads.count == 1)
      #expect(try platform.connects(to: 11))
      #expect(try platform.connects(to: 10))
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
