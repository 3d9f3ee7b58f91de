import FoundationEssentials
import Glibc
import LinuxSystem
import NFVBenchmark
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
    struct Form: Decodable {
      struct Spread: Decodable { var instantiateRstMs, txGbps: Count }
      struct Count: Decodable { var count: Int }
      var name, accelerator: String
      var instantiateRstMs, txGbps, rxGbps, rttUs: Double
      var imageBytes, memoryBytes: Int
      var spread: Spread
    }
    var seed: UInt64?
    /// What was instantiated, one after another.
    var order: [String]?
    var flavours: [Form]?
    struct Function: Decodable {
      struct Gap: Decodable { var figure, reason: String }
      var name, form, accelerator: String
      var imageBytes, memoryBytes: Int
      var rstMs: Double
      var pooledRstMs, packetsPerSecond, rttUs, rxGbps, txGbps: Double?
      var rttIsAdded: Bool
      var spread: Spread
      struct Spread: Decodable { var rstMs, rttUs: Count }
      struct Count: Decodable { var count: Int }
      var unmeasured: [Gap]
    }
    var functions: [Function]?
    var instantiate: [Instantiation]?
    var firstInstruction: [Start]?
    var restart: Restart?
  }

  private func bench(_ arguments: [String]) throws -> Report { try run(arguments).report }

  private func run(_ arguments: [String]) throws -> (report: Report, tables: String) {
    let folder = try TemporaryFolder()
    let report = folder.path + "/report.json"
    let before = try demoFolders()
    let result = try runProgram(
      Built.program("martlet"),
      arguments: ["martlet", "bench"] + arguments + [
        "--examples", Built.project + "/examples", "--report", report,
      ])
    let output = String(decoding: result.output, as: UTF8.self)
    #expect(result.status == 0, "\(output)")
    #expect(try demoFolders().isSubset(of: before))
    return (
      try JSONDecoder().decode(Report.self, from: Data(try readFile(report, limit: 1 << 20))),
      output
    )
  }

  private func demoFolders() throws -> Set<String> {
    try ["/run", "/dev/shm", "/tmp"].reduce(into: []) { found, parent in
      found.formUnion(
        try listFolder(parent).filter { $0.hasPrefix("martlet-demo-") }.map { "\(parent)/\($0)" })
    }
  }

  /// Its daemon, hold and functions outlive one that is killed; the next takes them away.
  @Test func whatAKilledOneLeftIsRemoved() async throws {
    let pid = try spawnDetached(
      Built.program("martlet"),
      arguments: [
        "martlet", "bench", "instantiate", "--flavour", "container", "--count", "500",
        "--no-peers", "--examples", Built.project + "/examples", "--report", "/dev/null",
      ], environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    let name = "martlet-demo-\(pid)"
    /// The folders of its control groups, of cgroup v2 or of each v1 hierarchy.
    func groups() throws -> [String] {
      try (["."] + listFolder("/sys/fs/cgroup"))
        .map { "/sys/fs/cgroup/\($0)/martlet/\(store)" }.filter(fileExists)
    }
    func left() throws -> [String] {
      var found = try demoFolders().filter { $0.hasSuffix("/\(name)") }.sorted()
      for other in try listFolder("/proc") where Int32(other) != nil {
        let line = (try? readFile("/proc/\(other)/cmdline", limit: 1 << 16)) ?? []
        if String(decoding: line, as: UTF8.self).contains("/\(name)") { found.append(other) }
      }
      return found
    }
    var store = ""
    let hasBegun: Void? = try? await eventually("", within: .seconds(30)) {
      let file = (try? readFile("/tmp/\(name)/stores", limit: 100)) ?? []
      store = String(decoding: file.dropLast(), as: UTF8.self)
      // Names of what runs beside the interface files of the group itself.
      return try !store.isEmpty
        && groups().contains { try listFolder($0).contains { $0.hasPrefix("m") && $0.count == 13 } }
    }
    kill(pid, SIGKILL)
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    try #require(hasBegun != nil, "no function had a control group")
    // Both its folders, its daemon and its hold.
    #expect(try left().count >= 4)
    _ = try bench(["instantiate", "--flavour", "container", "--count", "1", "--no-peers"])
    #expect(try left() == [])
    #expect(try groups() == [])
    let mounts = try readFile("/proc/self/mountinfo", limit: 1 << 22)
    #expect(!String(decoding: mounts, as: UTF8.self).contains("/\(name)/"))
  }

  /// The smallest counts: a start and one round of traffic of each form.
  @Test func theDraftsFiveTablesHaveEveryForm() throws {
    let (report, text) = try run([
      "draft", "--quick", "--count", "2", "--slow-count", "1", "--rounds", "1",
    ])
    let expected =
      ["container"] + (Facility.qemu.isThere ? ["unikernel"] : [])
      + (Facility.qemu.isThere && Facility.kernel.isThere ? ["tinyx"] : [])
    let forms = try #require(report.flavours)
    #expect(forms.map(\.name) == expected)
    for form in forms {
      #expect(form.instantiateRstMs > 0 && form.txGbps > 0 && form.rxGbps > 0 && form.rttUs > 0)
      #expect(form.imageBytes > 10_000 && form.memoryBytes > 100_000)
      #expect(form.spread.instantiateRstMs.count == (form.name == "tinyx" ? 1 : 2))
      #expect(form.spread.txGbps.count == 1)
    }
    let titles = [
      "4.2 Instantiation", "4.3 Throughput", "4.4 Round trip", "4.5 Image size", "4.6 Memory",
    ]
    var rest = text[...]
    for title in titles {
      let start = try #require(rest.firstRange(of: "\n\(title)"), "\(title): \(text)")
      rest = rest[start.upperBound...]
      let table = rest.prefix(upTo: rest.firstRange(of: "\n4.")?.lowerBound ?? rest.endIndex)
      for form in forms {
        let name = form.name == "container" ? form.name : "\(form.name) (\(form.accelerator))"
        #expect(table.contains(name), "\(title): \(table)")
      }
      // The draft's own beside them.
      #expect(table.contains("unikernels.minios.xen"), "\(title): \(table)")
    }
  }

  /// Not one flavour after the other: what the host does meanwhile meets both.
  @Test(.needs(.qemu))
  func flavoursAreInstantiatedInTurn() throws {
    let count = 6
    let report = try bench([
      "instantiate", "--flavour", "container", "--flavour", "unikernel", "--count", "\(count)",
      "--seed", "7", "--no-peers",
    ])
    let order = try #require(report.order)
    #expect(report.seed == 7 && report.instantiate?.map(\.flavour) == ["container", "unikernel"])
    for flavour in ["container", "unikernel"] {
      #expect(order.filter { $0 == flavour }.count == count)
    }
    let changes = zip(order, order.dropFirst()).filter { $0 != $1 }.count
    #expect(changes > 2, "\(order)")
    var schedule = Schedule(seed: 7)
    #expect(order == schedule.order([("container", count: count), ("unikernel", count: count)]))
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

  @Test func functionsAreMeasuredByWhatTheyDo() throws {
    let report = try bench([
      "functions", "--function", "responder", "--function", "nat44", "--flavour", "container",
      "--count", "1",
    ])
    let functions = try #require(report.functions)
    #expect(functions.map(\.name) == ["responder", "nat44"])
    for function in functions {
      #expect(function.form == "container" && function.accelerator == "none")
      #expect(function.imageBytes > 100_000 && function.memoryBytes > 100_000)
      #expect(function.rstMs > 0 && function.rttUs != nil && function.pooledRstMs == nil)
      #expect(function.spread.rstMs.count == 1 && function.spread.rttUs.count == 5)
      #expect(function.unmeasured.isEmpty, "\(function.unmeasured)")
    }
    let (responder, nat) = (functions[0], functions[1])
    #expect(!responder.rttIsAdded && nat.rttIsAdded)
    #expect((responder.rxGbps ?? 0) > 0 && (responder.txGbps ?? 0) > 0)
    #expect(responder.packetsPerSecond == nil && (nat.packetsPerSecond ?? 0) > 0)
    #expect(nat.rxGbps == nil && nat.txGbps == nil)
  }

  @Test func aRestartBesideFunctionsIsMeasured() throws {
    let report = try bench(["restart", "--flavour", "container", "--count", "2"])
    let restart = try #require(report.restart)
    #expect(restart.flavour == "container" && restart.count == 2 && restart.adopted == 2)
    #expect(restart.packetsSent == 500 && restart.packetsLost == 0)
    #expect(restart.readyMs > 0 && restart.privateBytes.p50 > 100_000)
  }
}
