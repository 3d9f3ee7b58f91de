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
      `responder`, and removes everything again. Needs root. Let the machine be otherwise idle.

      Examples:
        martlet bench
        martlet bench instantiate --count 20 -o json
      """,
    subcommands: [All.self, Instantiate.self], defaultSubcommand: All.self)

  struct All: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Every experiment, one after another; under a minute.")

    @OptionGroup var options: BenchOptions
    @Option(help: "How many functions are started one after another, and ended at once.")
    var sequence = 200

    func validate() throws {
      guard (1...500).contains(sequence) else { throw ValidationError("--sequence is 1 to 500.") }
    }

    func run() async throws {
      try await options.run { [count = options.count, sequence] bench in
        try await bench.run(count: count, sequence: sequence)
      }
    }
  }

  struct Instantiate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "From the request until the first RST, the process, COMPLETED.",
      discussion: """
        Three moments of each instantiation, from just before the request is sent: the first RST \
        from the function's address (which its network gives), the start of its own process (as the \
        kernel tells), and COMPLETED (as the event stream tells), when its readiness check has \
        passed. And how long each of the daemon's phases took.
        """)

    @OptionGroup var options: BenchOptions

    func run() async throws {
      try await options.run { [count = options.count] bench in
        try await bench.run(count: count, sequence: nil)
      }
    }
  }
}

/// What every benchmark can be told.
struct BenchOptions: ParsableArguments {
  enum Format: String, ExpressibleByArgument, CaseIterable, Sendable {
    case table, json
  }

  @Option(help: "How many instantiations are measured.") var count = 100
  @Option(help: "The folder with the example packages.", completion: .directory)
  var examples = "examples"
  @Option(name: [.short, .long], help: "How to print the result: table or json.")
  var output = Format.table
  @Option(help: "Write the result to this file as well (JSON).", completion: .file())
  var report: String?

  func validate() throws {
    guard (1...150).contains(count) else { throw ValidationError("--count is 1 to 150.") }
  }

  func run(
    _ experiments: @escaping @Sendable (inout Bench) async throws -> JSONValue
  ) async throws {
    guard geteuid() == 0 else {
      throw Failure(
        .forbidden, "the benchmark makes namespaces and containers, which needs root",
        advice: "run it with sudo")
    }
    var bench = try Bench(examples: examples)
    let result = try await bench.runAndCleanUp(experiments)
    let console = Console.current
    switch output {
    case .table: console.print(BenchReport(result).rendered())
    case .json: console.print(result.pretty)
    }
    guard let report else { return }
    let parent = report.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    if !parent.isEmpty {
      try FileManager.default.createDirectory(
        atPath: parent.joined(separator: "/"), withIntermediateDirectories: true)
    }
    try Data((result.compact + "\n").utf8).write(to: URL(filePath: report))
    console.note("the report is in \(report)")
  }
}
