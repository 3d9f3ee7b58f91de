internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import NFVBenchmark
internal import NFVClient
internal import NFVImages
internal import NFVModel
internal import NFVPackages

/// The benchmark's experiments, one after another on one private daemon.
struct Bench: Undoable {
  private let examples: String
  private var host: DemoHost
  private var functions: Functions
  private var client: ClientNamespace?
  private let started = ContinuousClock.now

  private static let source: [UInt8] = [10, 2, 15, 200]

  init(examples: String) throws {
    self.examples = examples
    host = try DemoHost()
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
  }

  /// - Parameter sequence: how many functions of the longer experiments; nil leaves those out.
  mutating func run(count: Int, sequence: Int?) async throws -> JSONValue {
    var report: [String: JSONValue] = ["host": host.description]
    let package = try build()
    if sequence != nil { report["listP99Ms"] = .number(try await lists(package)) }
    try await host.startDaemon()
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
    let daemon = functions.daemon
    _ = try await daemon.onboarded(try await daemon.upload(package), .seconds(30))
    let network = try await functions.network("inside", "10.2.0.0/20")
    // The fabric is made with its first port; from then on it is there.
    try await functions.instantiate(
      "warm", "responder", as: "container", [("network", "inside", "10.2.15.1")])
    let group = host.group
    client = try ClientNamespace(
      fabric: host.fabric, network: network, name: "mbench-inside", address: Self.source,
      prefixLength: 20)
    try await functions.remove(try await daemon.resolve(.vnf, "warm"))
    try await Task.sleep(for: .milliseconds(500))
    let idle = (daemon: host.residentBytes(host.daemonPID), hold: host.residentBytes(host.holdPID))
    report["instantiate"] = .array([try await instantiations(count, group)])
    report["peers"] = .array([])
    guard let sequence else { return .object(report) }
    let (times, ended) = try await manyFunctions(sequence, idle)
    report["sequence"] = times.sequence
    report["terminate"] = ended
    report["daemon"] = times.daemon
    return .object(report)
  }

  mutating func cleanUp() async {
    client?.remove()
    client = nil
    if host.daemonPID > 0 { await functions.removeAll() }
    functions.daemon.client.close()
    host.cleanUp()
  }

  private func build() throws -> String {
    try ExamplePackages(["responder"], from: examples, to: host.state).path(of: "responder")
  }

  /// Draws how far an experiment is, on a terminal; in a pipe only that it began.
  private func progress(_ what: String, _ done: Int, of count: Int) {
    let console = Console.current
    guard console.drawsProgress else {
      if done == 0 { console.note("\(what): \(count)") }
      return
    }
    let bar = ProgressBar(
      label: what, fraction: Double(done) / Double(count), detail: "\(done)/\(count)",
      elapsed: ContinuousClock.now - started)
    let end = done == count ? "\n" : ""
    console.error(Array(("\r\u{1B}[K" + bar.rendered(width: console.width()) + end).utf8))
  }

  // MARK: Experiments

  private func instantiations(_ count: Int, _ group: String) async throws -> JSONValue {
    guard let client else { return .null }
    var all: [Functions.InstantiationTimes] = []
    for round in 0..<count {
      progress("instantiations", round, of: count)
      all.append(
        try await functions.instantiationTimes(
          of: "responder", Form.all[0], at: [10, 2, 8, UInt8(1 + round)],
          from: .init(client: client, source: Self.source, network: "inside", group: group)))
      try await Task.sleep(for: .milliseconds(50))
    }
    progress("instantiations", count, of: count)
    let phases = Set(all.flatMap(\.phases.keys)).map { name in
      (name, Distribution(all.compactMap { $0.phases[name] }).json)
    }
    return [
      "flavour": "container", "count": .integer(Int64(count)),
      "rstMs": Distribution(all.map(\.rst)).json,
      "runningMs": Distribution(all.map(\.running)).json,
      "readyMs": Distribution(all.map(\.ready)).json,
      "phasesUs": .object(Dictionary(uniqueKeysWithValues: phases)),
    ]
  }

  /// Starts many, one after another, each until it is COMPLETED as the event stream tells; then ends
  /// one, and the rest at once.
  private func manyFunctions(
    _ count: Int, _ idle: (daemon: Int64, hold: Int64)
  ) async throws -> ((sequence: JSONValue, daemon: JSONValue), terminate: JSONValue) {
    let daemon = functions.daemon
    var events = daemon.client.events().makeAsyncIterator()
    _ = try await events.next()
    var ids: [String] = []
    var each: [Double] = []
    let start = ContinuousClock.now
    for index in 0..<count {
      let began = ContinuousClock.now
      let id = try await daemon.create(
        vnfdID: "responder", name: "seq-\(index)", description: nil)["id"].text
      ids.append(id)
      let address = "10.2.\(index / 200).\(index % 200 + 1)"
      let operation = try await daemon.begin(
        "\(Kind.vnf.collection)/\(id)/instantiate",
        functions.request("container", [("network", "inside", address)], [:]))
      try await Functions.awaitEnd(of: [operation], &events)
      each.append((ContinuousClock.now - began).milliseconds)
      progress("one after another", index + 1, of: count)
    }
    let total = (ContinuousClock.now - start).milliseconds / 1000
    let tail = Distribution(Array(each.suffix(10))).p50
    let head = Distribution(Array(each.prefix(10))).p50
    let resident = host.residentBytes(host.daemonPID) + host.residentBytes(host.holdPID)
    let perInstance = (resident - idle.daemon - idle.hold) / Int64(count)
    let one = ContinuousClock.now
    let first = try await daemon.begin(
      "\(Kind.vnf.collection)/\(ids[0])/terminate", ["terminationType": "FORCEFUL"])
    try await Functions.awaitEnd(of: [first], &events)
    let oneTime = (ContinuousClock.now - one).milliseconds
    let all = ContinuousClock.now
    let operations = try await withThrowingTaskGroup(of: String.self) { group in
      for id in ids.dropFirst() {
        group.addTask {
          try await daemon.begin(
            "\(Kind.vnf.collection)/\(id)/terminate", ["terminationType": "FORCEFUL"])
        }
      }
      var operations: Set<String> = []
      for try await operation in group { operations.insert(operation) }
      return operations
    }
    try await Functions.awaitEnd(of: operations, &events)
    let allTime = (ContinuousClock.now - all).milliseconds / 1000
    return (
      (
        [
          "count": .integer(Int64(count)), "totalSeconds": .number(total),
          "lastToFirst": .number(tail / head),
        ],
        [
          "idleBytes": .integer(idle.daemon), "holdIdleBytes": .integer(idle.hold),
          "bytesPerInstance": .integer(perInstance),
        ]
      ),
      [
        "oneMs": .number(oneTime), "allSeconds": .number(allTime),
        "count": .integer(Int64(count - 1)),
      ]
    )
  }

  /// A page of 100 of 1,000 instances on the simulated host.
  private mutating func lists(_ package: String) async throws -> Double {
    try await host.startDaemon(["--host", "simulated"], state: "simulated")
    let daemon = functions.daemon
    _ = try await daemon.onboarded(try await daemon.upload(package), .seconds(30))
    for index in 0..<1000 {
      if index % 100 == 0 { progress("instances to be listed", index, of: 1000) }
      _ = try await daemon.create(vnfdID: "responder", name: "list-\(index)", description: nil)
    }
    var times: [Double] = []
    for _ in 0..<300 {
      let start = ContinuousClock.now
      _ = try await daemon.get("/vnflcm/v2/vnf_instances")
      times.append((ContinuousClock.now - start).milliseconds)
    }
    progress("instances to be listed", 1000, of: 1000)
    host.endDaemon(SIGTERM)
    daemon.client.close()
    return Distribution(times).p99
  }
}

extension Distribution {
  fileprivate var json: JSONValue {
    ["p50": .number(p50), "p95": .number(p95), "p99": .number(p99)]
  }
}
