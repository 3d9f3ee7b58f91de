internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import NFVBenchmark
internal import NFVClient
internal import NFVModel
internal import NFVPackages

/// A network function in Swift, and how the benchmark asks it to work.
struct BenchedFunction: Sendable {
  var name: String
  var points: [String]
  var parameters: [String: JSONValue]

  static let left: [UInt8] = [10, 3, 1, 2]
  static let right: [UInt8] = [10, 3, 2, 2]
  /// Whom clients on the left reach through it.
  static let sink: [UInt8] = [10, 3, 2, 200]
  static let client: [UInt8] = [10, 3, 1, 200]
  /// Beside the client.
  static let neighbour: [UInt8] = [10, 3, 1, 201]
  static let port: UInt16 = 5001

  var forwards: Bool { points.count > 1 }
  /// Where datagrams through it are sent.
  var target: [UInt8] { name == "loadbalancer" ? Self.left : Self.sink }

  static let all: [BenchedFunction] = [
    .init(name: "responder", points: ["network"], parameters: [:]),
    .init(
      name: "firewall", points: ["left", "right"],
      parameters: ["rules": .array([["from": "left", "action": "accept"]])]),
    .init(
      name: "nat44", points: ["inside", "outside"],
      parameters: ["inside": "inside", "outside": "outside"]),
    .init(
      name: "loadbalancer", points: ["clients", "servers"],
      parameters: [
        "services": .array([
          [
            "address": .string(text(left)), "port": .integer(Int64(port)),
          ]
        ]), "backends": .array([["address": .string(text(sink))]]),
      ]),
    .init(name: "router", points: ["left", "right"], parameters: [:]),
  ]

  static func text(_ address: [UInt8]) -> String {
    address.map(String.init).joined(separator: ".")
  }

  /// Its connections, with its first point at an address.
  func connections(_ address: [UInt8]) -> [(point: String, network: String, address: String)] {
    let second = Self.right.dropLast() + [address[3]]
    return zip(points, [("left", address), ("right", Array(second))]).map {
      ($0, $1.0, Self.text($1.1))
    }
  }
}

/// Network functions in Swift, each in every form that this host runs.
struct FunctionBench: Sendable {
  var functions: Functions
  var packages: ExamplePackages
  /// On the left and on the right, and another one on the left.
  var client, sink, neighbour: ClientNamespace
  var vantage: Functions.Vantage
  var host: DemoHost
  var progress: BenchProgress

  /// Series of round trips, whose median counts: which threads share a processor is another matter in
  /// each.
  private static let series = 5
  /// In each: the scheduler takes some hundreds to settle.
  private static let exchanges = 3000
  /// Of each form, cold and from a pool, where nobody asks for more or less. Medians of nine from a pool
  /// were 7.8 and 10.6 ms in two series on a quiet host.
  static let starts = 15
  private static let trafficSeconds = 2
  /// What a pool has to be full again within; and what it then rests, as the host's other work does.
  private static let refill = (limit: Duration.seconds(20), rest: Duration.milliseconds(300))

  /// Projects of the functions' packages, made in a folder.
  static func makeProjects(in folder: String) throws {
    for function in BenchedFunction.all {
      do throws(NFVError) {
        try PackageProject(folder: "\(folder)/\(function.name)")
          .create(name: function.name, function: function.name)
      } catch {
        throw Failure(error)
      }
    }
  }

  /// About how long all of it takes.
  static func seconds(_ forms: [Form], count: Int, of functions: Int) -> Double {
    let each = forms.reduce(0) { sum, form in
      let pooled = form.flavour == "unikernel" ? Self.pooledSeconds(count) : 0
      return sum + Self.seconds(form, count) + pooled
    }
    return each * Double(functions)
  }

  /// Of a function in one form, with its traffic.
  private static func seconds(_ form: Form, _ count: Int) -> Double {
    Double(form.isSlow ? 1 : count) * BenchProgress.instantiation(form) + 7
  }

  private static func pooledSeconds(_ count: Int) -> Double {
    Double(count + 1)
  }

  func measure(
    _ function: BenchedFunction, _ form: Form, count: Int
  ) async throws -> FunctionFigures {
    progress.began("\(function.name) as \(form.flavour)")
    let starts = form.isSlow ? 1 : count
    var times: [Double] = []
    for round in 1...starts {
      times.append(try await instantiation(function, form, isKept: round == starts))
    }
    let measured = Functions.probeName(BenchedFunction.text(BenchedFunction.left))
    var figures = FunctionFigures(
      name: function.name, form: form.flavour,
      accelerator: try await functions.accelerator(measured),
      imageBytes: packages.imageBytes[function.name]?[form.flavour] ?? 0,
      rst: Distribution(times), memoryBytes: 0, forwards: function.forwards)
    if function.forwards {
      figures.measure(.roundTrip, as: \.roundTrip) {
        // What it adds to the way between two hosts of one network, as the host is just now.
        let added = try (0..<Self.series).map { _ in
          try client.roundTrip(
            from: BenchedFunction.client, to: function.target, through: BenchedFunction.left,
            port: BenchedFunction.port, count: Self.exchanges)
            - neighbour.roundTrip(
              from: BenchedFunction.neighbour, to: BenchedFunction.client,
              port: BenchedFunction.port, count: Self.exchanges)
        }
        return Distribution(added)
      }
      figures.measure(.packetsPerSecond, as: \.packetsPerSecond) {
        try client.packetRate(
          to: function.target, port: BenchedFunction.port, countedBy: sink,
          seconds: Self.trafficSeconds)
      }
    } else {
      let address = BenchedFunction.text(BenchedFunction.left)
      figures.measure(.roundTrip, as: \.roundTrip) {
        let whole = try (0..<Self.series).map { _ in
          try client.roundTrip(
            from: BenchedFunction.client, to: BenchedFunction.left, port: SynProbe.closedPort,
            count: Self.exchanges)
        }
        return Distribution(whole)
      }
      figures.measure(.rx, as: \.rx) {
        try client.throughput(to: address, seconds: Self.trafficSeconds, reversed: false)
      }
      figures.measure(.tx, as: \.tx) {
        try client.throughput(to: address, seconds: Self.trafficSeconds, reversed: true)
      }
    }
    let rings = host.processes(of: try await functions.workload(measured)).reduce(0) {
      $0 + host.ringBytes($1)
    }
    figures.memoryBytes = try await functions.memoryBytes(measured) + rings
    try await functions.remove(try await functions.daemon.resolve(.vnf, measured))
    progress.did(Self.seconds(form, count))
    return figures
  }

  /// The first start of an image makes its pool; those that are counted claim from one that is full.
  func measurePooled(
    _ figures: inout FunctionFigures, _ function: BenchedFunction, _ form: Form, count: Int
  ) async throws {
    progress.began("\(function.name) from a pool")
    defer { progress.did(Self.pooledSeconds(count)) }
    var times: [Double] = []
    for round in 0...count {
      do {
        if round > 0 { try await awaitFullPools() }
        let time = try await instantiation(function, form)
        if round > 0 { times.append(time) }
      } catch let error as Failure {
        figures.leaveOut(.pooledRst, error)
        try await functions.giveUp(Functions.probeName(BenchedFunction.text(BenchedFunction.left)))
        return
      }
    }
    figures.pooledRst = Distribution(times)
  }

  /// A start from a pool that is not full again could be a cold one.
  private func awaitFullPools() async throws {
    let deadline = ContinuousClock.now + Self.refill.limit
    while true {
      let pools = try await functions.daemon.get("/martlet/v1/info")["pools"].elements
      if !pools.isEmpty, pools.allSatisfy({ $0["waiting"].integer == $0["size"].integer }) { break }
      guard ContinuousClock.now < deadline else {
        throw Failure(.timeout, "the pools are not full after \(span(Self.refill.limit))")
      }
      try await Task.sleep(for: .milliseconds(10))
    }
    try await Task.sleep(for: Self.refill.rest)
  }

  private func instantiation(
    _ function: BenchedFunction, _ form: Form, isKept: Bool = false
  ) async throws -> Double {
    let address = BenchedFunction.left
    // All have the same addresses.
    for network in ["left", "right"] { try await functions.awaitRelease(of: network) }
    // What forwards keeps silent about its own ports: the host behind it refuses.
    return try await functions.instantiationTimes(
      of: function.name, form, at: address, from: vantage,
      connections: function.connections(address), function.parameters,
      beyond: function.forwards ? (function.target, BenchedFunction.port) : nil, isKept: isKept
    ).rst
  }
}

extension Bench {
  /// Every network function in Swift, in every form that this host runs.
  mutating func runFunctions(
    _ benched: [BenchedFunction] = BenchedFunction.all, flavours: [String]? = nil
  ) async throws -> JSONValue {
    Console.current.note("building the functions' packages")
    let sources = "\(host.state)/functions"
    try FunctionBench.makeProjects(in: sources)
    // The router makes the fabric.
    let packages = try ExamplePackages(
      BenchedFunction.all.map(\.name).filter { name in
        name == "router" || benched.contains { $0.name == name }
      }, from: sources, to: host.state
    ) { Console.current.note("  \($0)") }
    var bench = try await begin(functions: packages, [])
    let forms = try await forms(packages, of: "router", flavours)
    progress.expect(FunctionBench.seconds(forms, count: settings.count, of: benched.count))
    var all: [FunctionFigures] = []
    for function in benched {
      for form in forms {
        all.append(
          try await bench.measure(function, form, count: settings.count))
      }
    }
    if let unikernel = forms.first(where: { $0.flavour == "unikernel" }) {
      try await endFunctions(bench)
      bench = try await begin(functions: packages, ["--pool-size", "2"])
      for index in all.indices where all[index].form == unikernel.flavour {
        guard let function = benched.first(where: { $0.name == all[index].name }) else { continue }
        try await bench.measurePooled(&all[index], function, unikernel, count: settings.count)
      }
    }
    progress.end()
    try await endFunctions(bench)
    return .array(all.map(\.json))
  }

  /// Starts a daemon with two networks, and a client on each.
  private mutating func begin(
    functions packages: ExamplePackages, _ options: [String]
  ) async throws -> FunctionBench {
    try await host.startDaemon(options, state: "functions-state\(options.count)")
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
    let daemon = functions.daemon
    for name in packages.imageBytes.keys.sorted() {
      _ = try await daemon.onboarded(try await daemon.upload(packages.path(of: name)), .seconds(30))
    }
    let left = try await functions.network("left", "10.3.1.0/24")
    let right = try await functions.network("right", "10.3.2.0/24")
    // The fabric is made with its first ports; from then on it is there.
    try await functions.instantiate(
      "warm", "router", as: "container", BenchedFunction.all[4].connections([10, 3, 1, 99]))
    func join(_ network: String, _ name: String, _ own: [UInt8], _ other: [UInt8], _ via: [UInt8])
      throws -> ClientNamespace
    {
      let namespace = try ClientNamespace(
        fabric: host.fabric, network: network, name: name, address: own, prefixLength: 24,
        routes: [
          .init(destination: other.dropLast() + [0], prefixLength: 24, gateway: via)
        ])
      clients.append(namespace)
      return namespace
    }
    let client = try join(
      left, "mbench-left", BenchedFunction.client, BenchedFunction.sink, BenchedFunction.left)
    let sink = try join(
      right, "mbench-right", BenchedFunction.sink, BenchedFunction.client, BenchedFunction.right)
    let neighbour = try join(
      left, "mbench-beside", BenchedFunction.neighbour, BenchedFunction.sink, BenchedFunction.left)
    try await functions.remove(try await daemon.resolve(.vnf, "warm"))
    return FunctionBench(
      functions: functions, packages: packages, client: client, sink: sink, neighbour: neighbour,
      vantage: .init(
        client: client, source: BenchedFunction.client, network: "left", group: host.group),
      host: host, progress: progress)
  }

  private mutating func endFunctions(_ bench: FunctionBench) async throws {
    for client in clients { client.remove() }
    clients = []
    await functions.removeAll()
    host.endDaemon(SIGTERM)
    functions.daemon.client.close()
  }
}
