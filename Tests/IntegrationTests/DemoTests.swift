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
      var name: String
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

  @Test func functionsPassPacketsSurviveKillsAndGoWithoutATrace() throws {
    let folder = try TemporaryFolder()
    let report = folder.path + "/report.json"
    let result = try runProgram(
      Built.program("martlet"),
      arguments: ["martlet", "demo", "--examples", Built.project + "/examples", "--report", report])
    #expect(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
    let found = try JSONDecoder().decode(
      Report.self, from: Data(try readFile(report, limit: 1 << 20)))
    #expect(found.policy.allowed && found.policy.refused)
    let flavour = try #require(found.flavours.first)
    #expect(flavour.name == "container")
    #expect(flavour.instantiateRstMs > 0)
    #expect(flavour.instantiateRstMs <= flavour.instantiateRunningMs)
    #expect(flavour.txGbps > 0 && flavour.rxGbps > 0 && flavour.rttUs > 0)
    #expect(flavour.imageBytes > 1_000_000 && flavour.memoryBytes > 100_000)
    #expect(found.restorationMs > 1)
    #expect(found.daemonKill.packetsSent == 3000)
    #expect(found.daemonKill.packetsLost == 0)
    #expect(found.daemonKill.adopted == 2)
    #expect(found.leftovers.isEmpty)
  }
}
