import FoundationEssentials
import Glibc
import LinuxSystem
import TestSupport
import Testing

/// The whole: real daemon, hold, containers, packets, kills; on a private state and run folder.
@Suite(.needs(.root, .crun), .serialized)
struct DemoTests {
  struct Report: Decodable {
    struct Flavour: Decodable {
      var name, accelerator: String
      var instantiateRstMs, instantiateRunningMs, instantiateReadyMs: Double
      var txGbps, rxGbps, rttUs: Double
      var imageBytes, memoryBytes: Int
    }
    struct Policy: Decodable { var allowed, refused: Bool }
    struct DaemonKill: Decodable { var packetsSent, packetsLost, adopted: Int }
    var flavours: [Flavour]
    var policy: Policy
    var restorationMs: Double
    var daemonKill: DaemonKill
    var leftovers: [String]
    var seconds: Double
  }

  struct Chain: Decodable {
    var chain: [String]
    var passed, refused, dropped, expired: Int
    var differences: [String]
    var addedRttUs: Double
  }

  /// The forms that this host runs: where QEMU is, virtual machines too.
  private static var flavours: [String] {
    var names = ["container"]
    if Facility.qemu.isThere { names.append("unikernel") }
    if Facility.qemu.isThere, Facility.kernel.isThere { names.append("tinyx") }
    return names
  }

  @Test func functionsPassPacketsSurviveKillsAndGoWithoutATrace() throws {
    let folder = try TemporaryFolder()
    let report = folder.path + "/report.json"
    let portability = folder.path + "/portability.json"
    let result = try runProgram(
      Built.program("martlet"),
      arguments: [
        "martlet", "demo", "--examples", Built.project + "/examples", "--report", report,
        "--portability", portability,
      ])
    #expect(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
    let found = try JSONDecoder().decode(
      Report.self, from: Data(try readFile(report, limit: 1 << 20)))
    #expect(found.policy.allowed && found.policy.refused)
    #expect(found.flavours.map(\.name) == Self.flavours)
    let container = try #require(found.flavours.first)
    #expect(container.name == "container" && container.accelerator == "none")
    #expect(container.instantiateRstMs <= container.instantiateRunningMs)
    for machine in found.flavours.dropFirst() {
      #expect(["kvm", "tcg"].contains(machine.accelerator))
      #expect(machine.instantiateRstMs > container.instantiateRstMs)
    }
    for flavour in found.flavours {
      #expect(flavour.instantiateRstMs > 0 && flavour.instantiateReadyMs > 0)
      #expect(flavour.txGbps > 0 && flavour.rxGbps > 0 && flavour.rttUs > 0)
      #expect(flavour.imageBytes > 10_000 && flavour.memoryBytes > 100_000)
    }
    #expect(found.restorationMs > 1)
    #expect(found.daemonKill.packetsSent == 3000)
    #expect(found.daemonKill.packetsLost == 0)
    #expect(found.daemonKill.adopted == 2)
    #expect(found.leftovers.isEmpty)

    let chains = try JSONDecoder().decode(
      [Chain].self, from: Data(try readFile(portability, limit: 1 << 20)))
    guard Self.flavours.count == 3 else {
      #expect(chains.isEmpty)
      return
    }
    #expect(Set(chains.map(\.chain)).count == 6)
    for chain in chains {
      #expect(Set(chain.chain) == ["container", "unikernel", "tinyx"])
      #expect(chain.passed == 120 && chain.refused == 42)
      #expect(chain.dropped == 20 && chain.expired == 2)
      #expect(chain.differences.isEmpty)
    }
  }
}
