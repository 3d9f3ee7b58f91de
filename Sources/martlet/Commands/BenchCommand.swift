internal import ArgumentParser
internal import Glibc
internal import NFVBenchmark
internal import NFVModel

struct BenchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure this host: instantiation, termination, memory, lists; the draft's tables.",
    discussion: """
      Runs a daemon of its own on a private socket and state folder with the example package \
      `responder`, and removes everything again, also after Ctrl-C. Needs root. Let the machine be \
      otherwise idle.

      Examples:
        martlet bench
        martlet bench instantiate --count 20 --peer podman --peer lxc
        martlet bench draft --quick
        martlet bench functions
        martlet bench restart --flavour tinyx --count 20
      """,
    subcommands: [
      All.self, Instantiate.self, Draft.self, OfFunctions.self, Restart.self,
    ],
    defaultSubcommand: All.self)

  struct All: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract:
        "Every experiment with containers, then all functions in Swift; about four minutes.",
      discussion: """
        What is not named is chosen so: of flavours the containers, and for the functions all that \
        run here; of peers Docker, whose figures a promise refers to. The functions are each \
        instantiated \(FunctionBench.starts) times, or --count where that is less. Where one of \
        their figures cannot be measured, the report says so and has the rest, and the command ends \
        with 1.
        """)

    @OptionGroup var options: BenchOptions
    @OptionGroup var subjects: BenchSubjects
    @Option(help: "How many functions are started one after another, and ended at once.")
    var sequence = 200

    func validate() throws {
      guard (1...500).contains(sequence) else { throw ValidationError("--sequence is 1 to 500.") }
    }

    func run() async throws {
      // Of the others only Docker, whose figures a promise refers to, unless they are named.
      var settings = subjects.settings(options)
      settings.flavours = settings.flavours ?? ["container"]
      settings.peers = settings.peers ?? (PeerRunner.find("docker") == nil ? [] : [.docker])
      var report = try await options.run(settings) { [sequence] bench in
        try await bench.runAll(sequence: sequence)
      }
      let flavours = subjects.flavour.isEmpty ? nil : subjects.flavour
      settings.count = min(settings.count, FunctionBench.starts)
      let functions = try await options.run(settings) { bench in
        try await bench.runFunctions(flavours: flavours)
      }
      if case .object(var members) = report {
        members["functions"] = functions
        report = .object(members)
      }
      try options.show(report, BenchReport(report).rendered())
      try FunctionFigures.requireAll(report["functions"].elements)
    }
  }

  struct Instantiate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "From the request until the first RST, the process, COMPLETED.",
      discussion: """
        Every flavour and every peer (Docker, Podman, LXC) that works here, in random order in one \
        run. Three moments of each instantiation, from just before the request is sent: the first \
        RST from the function's address (which its network gives), the start of its own process (as \
        the kernel tells; in a virtual machine, as its init tells the daemon), and COMPLETED (as the \
        event stream tells), when its readiness check has passed; of a peer, when the function \
        accepts a connection. And how long each of the daemon's phases took.

        Podman and LXC run in namespaces of the benchmark's own, Docker's engine where it is.
        """)

    @OptionGroup var options: BenchOptions
    @OptionGroup var subjects: BenchSubjects

    func run() async throws {
      let report = try await options.run(subjects.settings(options)) { bench in
        try await bench.runInstantiations()
      }
      try options.show(report, BenchReport(report).rendered())
    }
  }

  struct OfFunctions: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "functions",
      abstract: "Every network function in Swift, in every form that this host runs.",
      discussion: """
        Image size, the time until the first RST (started cold, and for unikernels from a waiting \
        pool; medians, and beside each the longest), memory, and traffic. The round trip is that of \
        SYNs, each sent when the one before was refused: by the responder, or, of what forwards, what \
        it adds between two hosts. Of the responder TCP into it and out of it by iperf, of what \
        forwards how many UDP frames of 60 octets come through from one sending thread. Takes less \
        than four minutes. What cannot be measured is said in the report, which has the rest, and the \
        command ends with 1.
        """)

    @OptionGroup var options: BenchOptions
    @Option(
      help:
        "How many instantiations of each, cold and from a pool; one of those that take seconds."
    )
    var count = FunctionBench.starts
    @Option(help: "Only these functions; can be given more than once.")
    var function: [String] = []
    @Option(help: "Only these flavours; can be given more than once (default: what runs here).")
    var flavour: [String] = []

    func validate() throws {
      guard (1...100).contains(count) else { throw ValidationError("--count is 1 to 100.") }
      let known = BenchedFunction.all.map(\.name)
      if let unknown = function.first(where: { !known.contains($0) }) {
        throw ValidationError(
          "There is no function \(unknown); there are \(known.joined(separator: ", ")).")
      }
    }

    func run() async throws {
      let settings = Bench.Settings(
        count: count, slowCount: 1, flavours: nil, peers: [], seed: 0, examples: options.examples)
      let functions = BenchedFunction.all.filter {
        function.isEmpty || function.contains($0.name)
      }
      let report = try await options.run(settings) { bench in
        JSONValue.object([
          "functions": try await bench.runFunctions(
            functions, flavours: flavour.isEmpty ? nil : flavour)
        ])
      }
      try options.show(report, BenchReport(report).rendered())
      try FunctionFigures.requireAll(report["functions"].elements)
    }
  }

  struct Restart: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Kill the daemon beside running functions, and start the next one.",
      discussion: """
        Starts so many functions, sends each 250 pings 20 ms apart, ends the daemon meanwhile by \
        SIGKILL and starts the next one: how long until that is ready, how many functions it took back \
        as they ran, how many pings were lost, and what memory one function's processes have for \
        themselves.

        Example: martlet bench restart --flavour tinyx --count 20
        """)

    @OptionGroup var options: BenchOptions
    @Option(help: "The flavour of the functions.") var flavour = "tinyx"
    @Option(help: "How many functions run.") var count = 20

    func validate() throws {
      guard (1...100).contains(count) else { throw ValidationError("--count is 1 to 100.") }
    }

    func run() async throws {
      let settings = Bench.Settings(
        count: count, slowCount: count, flavours: [flavour], peers: [], seed: 0,
        examples: options.examples)
      let figures = try await options.run(settings) { [flavour, count] bench in
        try await bench.runRestart(flavour, count: count)
      }
      try options.show(["restart": figures.json], figures.rendered())
    }
  }

  struct Draft: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "The five tables of draft-natarajan-nfvrg-containers-for-nfv, measured here.",
      discussion: """
        Instantiation times, throughput, round trips, image sizes and memory (4.2 to 4.6) of every \
        form of the example function that this host runs, beside the draft's numbers.
        """)

    @OptionGroup var options: BenchOptions
    @Flag(help: "Fewer repetitions: under three minutes, on a slow host by still fewer.")
    var quick = false
    @Option(help: "How many instantiations of each form (default: 100, quick: 20).")
    var count: Int?
    @Option(help: "How many of those that take seconds (default: 10, quick: 3).")
    var slowCount: Int?
    @Option(help: "How many times each form's traffic is measured (default: 10, quick: 3).")
    var rounds: Int?

    /// Less than three minutes: each form is started and measured once however long that takes.
    private static let quickLimit = Duration.seconds(135)

    func validate() throws {
      for (name, value, most) in [
        ("--count", count, 200), ("--slow-count", slowCount, 200), ("--rounds", rounds, 100),
      ] {
        guard (1...most).contains(value ?? 1) else {
          throw ValidationError("\(name) is 1 to \(most).")
        }
      }
    }

    func run() async throws {
      let settings = Bench.Settings(
        count: count ?? (quick ? 20 : 100), slowCount: slowCount ?? (quick ? 3 : 10),
        flavours: nil, peers: [], seed: 0, examples: options.examples)
      let rounds = rounds ?? (quick ? 3 : 10)
      let (report, figures) = try await options.run(settings) { [quick] bench in
        try await bench.runDraft(trafficRounds: rounds, within: quick ? Self.quickLimit : nil)
      }
      try options.show(report, DraftTables(figures).rendered())
    }
  }
}

/// What is measured, where that can be chosen.
struct BenchSubjects: ParsableArguments {
  @Option(help: "How many instantiations of each are measured.") var count = 100
  @Option(help: "How many of those that take seconds (default: a twentieth, at least 3).")
  var slowCount: Int?
  @Option(help: "Only these flavours; can be given more than once (default: what runs here).")
  var flavour: [String] = []
  @Option(help: "Only these peers: docker, podman, lxc (default: those that work here).")
  var peer: [PeerOption] = []
  @Flag(help: "No peers.") var noPeers = false
  @Option(help: "The seed of the random order (default: another one each time).")
  var seed: UInt64?

  func validate() throws {
    guard (1...500).contains(count) else { throw ValidationError("--count is 1 to 500.") }
    guard (1...500).contains(slowCount ?? 1) else {
      throw ValidationError("--slow-count is 1 to 500.")
    }
    guard !noPeers || peer.isEmpty else {
      throw ValidationError("--peer and --no-peers exclude each other.")
    }
  }

  func settings(_ options: BenchOptions) -> Bench.Settings {
    Bench.Settings(
      count: count, slowCount: slowCount ?? max(3, count / 20),
      flavours: flavour.isEmpty ? nil : flavour,
      peers: noPeers ? [] : peer.isEmpty ? nil : peer.map(\.peer),
      // Small enough to be typed again.
      seed: seed ?? UInt64.random(in: 1...999_999), examples: options.examples)
  }
}

/// What `--peer` names.
enum PeerOption: String, ExpressibleByArgument, CaseIterable {
  case docker, podman, lxc

  var peer: Peer {
    switch self {
    case .docker: .docker
    case .podman: .podman
    case .lxc: .lxc
    }
  }
}

/// What every benchmark can be told.
struct BenchOptions: ParsableArguments {
  enum Format: String, ExpressibleByArgument, CaseIterable, Sendable {
    case table, json
  }

  @Option(help: "The folder with the example packages.", completion: .directory)
  var examples = "examples"
  @Option(name: [.short, .long], help: "How to print the result: table or json.")
  var output = Format.table
  @Option(help: "Write the result to this file as well (JSON).", completion: .file())
  var report: String?

  func run<Result: Sendable>(
    _ settings: Bench.Settings,
    _ experiments: @escaping @Sendable (inout Bench) async throws -> Result
  ) async throws -> Result {
    guard geteuid() == 0 else {
      throw Failure(
        .forbidden, "the benchmark makes namespaces and containers, which needs root",
        advice: "run it with sudo")
    }
    var bench = try Bench(settings)
    return try await bench.runAndCleanUp(experiments)
  }

  /// Prints a result and writes it.
  func show(_ result: JSONValue, _ tables: @autoclosure () -> String) throws {
    let console = Console.current
    switch output {
    case .table: console.print(tables())
    case .json: console.print(result.pretty)
    }
    guard let report else { return }
    try result.write(to: report)
    console.note("the report is in \(report)")
  }
}
