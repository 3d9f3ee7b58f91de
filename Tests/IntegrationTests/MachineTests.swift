import Glibc
import LinuxSystem
import NFVBenchmark
import TestSupport
import Testing

/// A firewall in a virtual machine before a responder in a container, by the same commands as any
/// function, and with traffic.
@Suite(.needs(.root, .crun, .qemu), .serialized, .timeLimit(.minutes(3)))
struct MachineTests {
  private static let threads = BlockingExecutor(threads: 1, name: "martlet-test")

  @Test func aMachineIsAFunctionLikeAnyOther() async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform()
      defer { platform.cleanUp() }
      try await use(platform)
      #expect(try await platform.end() == [])
    }
  }

  private func use(_ platform: Platform) async throws {
    try platform.martlet(["network", "create", "outside", "--subnet", "10.1.0.0/24"])
    try platform.martlet([
      "network", "create", "inside", "--subnet", "10.2.0.0/24", "--route", "10.1.0.0/24=10.2.0.2",
    ])
    try platform.martlet([
      "vnf", "run", "\(Built.project)/examples/firewall", "--flavour", "tinyx", "--name", "fw",
      "--connect", "left=outside,10.1.0.2", "--connect", "right=inside,10.2.0.2",
      "--param",
      #"rules=[{"from":"left","protocol":"tcp","ports":5001,"action":"accept"},"#
        + #"{"protocol":"tcp","action":"reject"}]"#,
    ])
    try platform.martlet([
      "vnf", "run", try Platform.responder.get(), "--flavour", "container", "--name", "rs",
      "--connect", "network=inside,10.2.0.10",
    ])
    let client = try platform.join(
      "outside", name: "mtest-outside", address: [10, 1, 0, 100],
      routes: [.init(destination: [10, 2, 0, 0], prefixLength: 24, gateway: [10, 1, 0, 2])])
    func passes(_ port: UInt16) throws -> Bool {
      try client.connects(to: [10, 2, 0, 10], port: port, timeout: .seconds(2))
    }
    func expectPolicy(_ when: String) async throws {
      try await eventually("what is allowed passes \(when)", within: .seconds(10)) {
        try passes(5001)
      }
      #expect(try !passes(5201), "\(when)")
    }
    try await expectPolicy("at first")
    let first = try platform.instance("fw")

    #expect(try platform.martlet(["exec", "fw", "--", "nft", "list", "ruleset"]).contains("5001"))
    #expect(try platform.martlet(["logs", "fw"]).contains("rules loaded"))
    #expect(try platform.martlet(["describe", "vnf", "fw"]).contains("tinyx"))

    // What is paused stays so without the daemon, and is not healed by the next one.
    try platform.martlet(["vnf", "pause", "fw"])
    #expect(try !passes(5001))
    platform.endDaemon(SIGKILL)
    try await platform.startDaemon()
    #expect(try !passes(5001))
    #expect(try platform.instance("fw").workloads == first.workloads)
    try platform.martlet(["vnf", "continue", "fw"])
    try await expectPolicy("when it goes on")

    try platform.martlet(["vnf", "heal", "fw"])
    try await expectPolicy("after heal")
    let healed = try platform.instance("fw")
    #expect(healed.workloads != first.workloads && healed.addresses == first.addresses)

    try platform.martlet(["vnf", "operate", "fw", "stop", "--graceful", "5"])
    #expect(try !passes(5001))
    #expect(try platform.instance("fw").instantiatedVnfInfo?.vnfState == "STOPPED")
    try platform.martlet(["vnf", "operate", "fw", "start"])
    try await expectPolicy("after operate")

    // The kernel kills QEMU; a successor takes its place.
    let before = try platform.instance("fw").workloads
    let victim = try #require(platform.processes(of: before[0]).first)
    kill(victim, SIGKILL)
    try await eventually("a successor is there", within: .seconds(20)) {
      try platform.instance("fw").workloads != before
    }
    try await expectPolicy("after a kill")
  }
}
