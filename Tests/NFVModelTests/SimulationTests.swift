import FoundationEssentials
import NFVModel
import Testing

@Suite struct SimulationTests {
  /// `MARTLET_SEED` replays one seed and prints its trace; `MARTLET_SEEDS` sets how many are run.
  @Test func seeds() async throws {
    let environment = ProcessInfo.processInfo.environment
    if let seed = environment["MARTLET_SEED"].flatMap(UInt64.init) {
      var simulation = try Simulation(seed: seed, isTraced: true)
      defer { for line in simulation.trace { print(line) } }
      try simulation.run(steps: 150)
      return
    }
    let count = environment["MARTLET_SEEDS"].flatMap(UInt64.init) ?? 2000
    let start = ContinuousClock.now
    let parts: UInt64 = 2
    let failures = await withTaskGroup(of: [String].self) { group in
      for part in 0..<parts {
        group.addTask {
          var failures: [String] = []
          for seed in stride(from: part, to: count, by: Int(parts)) {
            do {
              var simulation = try Simulation(seed: seed)
              try simulation.run(steps: 150)
            } catch {
              failures.append("seed \(seed): \(error)")
            }
          }
          return failures
        }
      }
      return await group.reduce(into: []) { $0 += $1 }
    }
    let elapsed = ContinuousClock.now - start
    let rate = Int(Double(count) / (elapsed / .seconds(60)))
    print("simulator: \(count) seeds in \(elapsed), \(rate) a minute")
    #expect(
      failures.isEmpty, "replay with MARTLET_SEED=n: \(failures.prefix(5)) of \(failures.count)")
  }

  @Test func aSeedReplaysToTheSameTrace() throws {
    for seed: UInt64 in 0..<20 {
      var first = try Simulation(seed: seed, isTraced: true)
      var second = try Simulation(seed: seed, isTraced: true)
      try? first.run(steps: 120)
      try? second.run(steps: 120)
      #expect((first.trace == second.trace) == true, "seed \(seed)")
      #expect(first.trace.count > 50)
    }
  }
}
