internal import ArgumentParser
internal import FoundationEssentials
internal import Glibc
internal import NFVModel

struct BenchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure this host: instantiation, termination, memory, lists.",
    discussion: """
      Runs a daemon of its own on a private socket and state folder with the example package \
      `responder`, and removes everything again. Medians come with p95 and p99. Needs root. \
      Let the machine be otherwise idle.

      Example: martlet bench --count 100 --output build/bench-report.json
      """)

  @Option(help: "How many instantiations are measured.") var count = 100
  @Option(help: "How many functions are started one after another, and ended at once.")
  var sequence = 200
  @Option(help: "The folder with the example packages.", completion: .directory)
  var examples = "examples"
  @Option(name: .long, help: "The report to write (JSON).")
  var output = "build/bench-report.json"

  func validate() throws {
    guard (1...150).contains(count), (1...500).contains(sequence) else {
      throw ValidationError("--count is 1 to 150, --sequence is 1 to 500")
    }
  }

  func run() async throws {
    guard geteuid() == 0 else {
      throw Failure(
        .forbidden, "the benchmark makes namespaces and containers, which needs root",
        advice: "run it with sudo")
    }
    var bench = try Bench(examples: examples)
    let report: JSONValue
    do {
      report = try await bench.run(count: count, sequence: sequence)
    } catch {
      await bench.cleanUp()
      throw error
    }
    await bench.cleanUp()
    let parent = output.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    if !parent.isEmpty {
      try FileManager.default.createDirectory(
        atPath: parent.joined(separator: "/"), withIntermediateDirectories: true)
    }
    try Data((report.compact + "\n").utf8).write(to: URL(filePath: output))
    Console.current.note("the report is in \(output)")
  }
}
