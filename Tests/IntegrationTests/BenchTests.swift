import FoundationEssentials
import LinuxSystem
import TestSupport
import Testing

/// The benchmark by its program, with few rounds: what its report holds, and that nothing is left.
@Suite(.needs(.root, .crun), .serialized, .timeLimit(.minutes(5)))
struct BenchTests {
  struct Report: Decodable {
    struct Distribution: Decodable { var p50, p95, p99: Double }
    struct Instantiation: Decodable {
      var flavour, accelerator: String
      var count: Int
      var rstMs, runningMs, readyMs, terminateMs: Distribution
      var phasesUs: [String: Distribution]
    }
    struct Start: Decodable {
      var machine, accelerator: String
      var count: Int
      var ms: Distribution
    }
    struct Restart: Decodable {
      var flavour: String
      var count, adopted, packetsSent, packetsLost: Int
      var readyMs: Double
      var privateBytes: Distribution
    }
    var instantiate: [Instantiation]?
    var firstInstruction: [Start]?
    var restart: Restart?
  }

  private func bench(_ arguments: [String]) throws -> Report {
    let folder = try TemporaryFolder()
    let report = folder.path + "/report.json"
    let result = try runProgram(
      Built.program("martlet"),
      arguments: ["martlet", "bench"] + arguments + [
        "--examples", Built.project + "/examples", "--report", report,
      ])
    #expect(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
    for parent in ["/run", "/tmp"] {
      #expect(try listFolder(parent).filter { $0.hasPrefix("martlet-demo-") } == [])
    }
    return try JSONDecoder().decode(Report.self, from: Data(try readFile(report, limit: 1 << 20)))
  }

  @Test func instantiationsAreMeasuredInTheirMoments() throws {
    let report = try bench(["instantiate", "--flavour", "container", "--count", "3", "--no-peers"])
    let container = try #require(report.instantiate?.first)
    #expect(report.instantiate?.count == 1)
    #expect(container.flavour == "container" && container.accelerator == "none")
    #expect(container.count == 3)
    #expect(container.rstMs.p50 > 0 && container.rstMs.p50 <= container.readyMs.p50)
    #expect(container.runningMs.p50 <= container.readyMs.p50)
    #expect(container.terminateMs.p50 > 0 && container.phasesUs["startWorkload"] != nil)
    // Only where machines are asked for.
    #expect(report.firstInstruction == nil)
  }

  @Test(.needs(.qemu))
  func guestsFirstInstructionsAreMeasured() throws {
    let report = try bench(["instantiate", "--flavour", "tinyx", "--count", "2", "--no-peers"])
    let starts = try #require(report.firstInstruction)
    #expect(starts.map(\.machine) == ["pc", "microvm"])
    let tinyx = try #require(report.instantiate?.first)
    for start in starts {
      #expect(start.count == 2 && ["tcg", "kvm"].contains(start.accelerator))
      // Before a kernel has booted, and not before QEMU could have begun.
      #expect(start.ms.p50 > 5 && start.ms.p50 < tinyx.runningMs.p50)
    }
  }

  @Test func aRestartBesideFunctionsIsMeasured() throws {
    let report = try bench(["restart", "--flavour", "container", "--count", "2"])
    let restart = try #require(report.restart)
    #expect(restart.flavour == "container" && restart.count == 2 && restart.adopted == 2)
    #expect(restart.packetsSent == 2000 && restart.packetsLost == 0)
    #expect(restart.readyMs > 0 && restart.privateBytes.p50 > 100_000)
  }
}
