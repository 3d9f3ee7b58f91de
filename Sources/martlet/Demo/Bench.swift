internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import NFVBenchmark
internal import NFVClient
internal import NFVImages
internal import NFVModel
internal import NFVPackages

/// The benchmark's experiments, one after another on one private daemon.
struct Bench {
  private let examples: String
  private var host: DemoHost
  private var functions: Functions
  private var client: ClientNamespace?

  private static let source: [UInt8] = [10, 2, 15, 200]

  init(examples: String) throws {
    self.examples = examples
    host = try DemoHost()
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
  }

  mutating func run(count: Int, sequence: Int) async throws -> JSONValue {
    var report: [String: JSONValue] = ["host": host.description]
    let package = try build()
    report["listP99Ms"] = .number(try await lists(package))
    try await host.startDaemon()
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
    let daemon = functions.daemon
    _ = try await daemon.onboarded(try await daemon.upload(package), .seconds(30))
    let network = try await functions.network("inside", "10.2.0.0/20")
    // The fabric is made with its first port; from then on it is there.
    try await functions.instantiate("warm", "responder", [("network", "inside", "10.2.15.1")])
    client = try ClientNamespace(
      fabric: host.fabric, network: network, name: "mbench-inside", address: Self.source,
      prefixLength: 20)
    try await functions.remove(try await daemon.resolve(.vnf, "warm"))
    try await Task.sleep(for: .milliseconds(500))
    let idle = (daemon: host.residentBytes(host.daemonPID), hold: host.residentBytes(host.holdPID))
    report["instantiate"] = .array([try await instantiations(count)])
    report["peers"] = .array([])
    let (times, ended) = try await manyFunctions(sequence, idle)
    report["sequence"] = times.sequence
    report["terminate"] = ended
    report["daemon"] = times.daemon
    return .object(report)
  }

  mutating func cleanUp() async {
    client?.remove()
    client = nil
    if host.daemonPID > 0 {
      let daemon = functions.daemon
      for vnf in (try? await daemon.list(.vnf)) ?? [] {
        try? await functions.remove(vnf["id"].text)
      }
      for network in (try? await daemon.list(.network)) ?? [] {
        _ = try? await daemon.send(.delete, "\(Kind.network.collection)/\(network["id"].text)")
      }
      functions.daemon.client.close()
    }
    host.cleanUp()
  }

  private func build() throws -> String {
    let path = "\(host.state)/responder.csar"
    try Project.build("\(examples)/responder", to: path)
    return path
  }

  private func say(_ text: String) { Console.current.print(text) }

  private func show(_ name: String, _ values: Distribution) {
    let texts = [values.p50, values.p95, values.p99].map { oneDecimal($0) }
    say("  \(name): median \(texts[0]) ms, p95 \(texts[1]), p99 \(texts[2])")
  }

  // MARK: Experiments

  private func instantiations(_ count: Int) async throws -> JSONValue {
    say("\(count) instantiations, the daemon idle before each")
    guard let client else { return .null }
    var rst: [Double] = []
    var running: [Double] = []
    var ready: [Double] = []
    for round in 0..<count {
      let times = try await functions.instantiationTimes(
        of: "responder", network: "inside", address: [10, 2, 8, UInt8(1 + round)], from: client,
        source: Self.source)
      rst.append(times.rst)
      running.append(times.running)
      ready.append(times.ready)
      try await Task.sleep(for: .milliseconds(50))
    }
    let all = [("rst", rst), ("running", running), ("ready", ready)].map {
      ($0.0, Distribution($0.1))
    }
    for (name, values) in all { show(name, values) }
    var result: [String: JSONValue] = ["flavour": "container", "count": .integer(Int64(count))]
    for (name, values) in all { result["\(name)Ms"] = values.json }
    return .object(result)
  }

  /// Starts many, one after another, each until it is COMPLETED as the event stream tells; then ends
  /// one, and the rest at once.
  private func manyFunctions(
    _ count: Int, _ idle: (daemon: Int64, hold: Int64)
  ) async throws -> ((sequence: JSONValue, daemon: JSONValue), terminate: JSONValue) {
    say("\(count) functions, one after another")
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
        functions.request([("network", "inside", address)], [:]))
      try await Self.awaitEnd(of: [operation], &events)
      each.append((ContinuousClock.now - began).milliseconds)
    }
    let total = (ContinuousClock.now - start).milliseconds / 1000
    let tail = Distribution(Array(each.suffix(10))).p50
    let head = Distribution(Array(each.prefix(10))).p50
    say(
      "  in all \(oneDecimal(total)) s; the last ten against the first ten: \(twoDecimals(tail / head))"
    )
    let resident = host.residentBytes(host.daemonPID) + host.residentBytes(host.holdPID)
    let perInstance = (resident - idle.daemon - idle.hold) / Int64(count)
    say(
      "  resident: daemon \(idle.daemon / 1024) KiB idle, hold \(idle.hold / 1024) KiB idle, "
        + "\(perInstance / 1024) KiB per function")
    say("terminate one, then \(count - 1) at once")
    let one = ContinuousClock.now
    let first = try await daemon.begin(
      "\(Kind.vnf.collection)/\(ids[0])/terminate", ["terminationType": "FORCEFUL"])
    try await Self.awaitEnd(of: [first], &events)
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
    try await Self.awaitEnd(of: operations, &events)
    let allTime = (ContinuousClock.now - all).milliseconds / 1000
    say("  one \(oneDecimal(oneTime)) ms; all \(twoDecimals(allTime)) s")
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

  /// Reads events until all operations are COMPLETED; events of others are passed over.
  private static func awaitEnd(
    of operations: Set<String>, _ events: inout EventSubscription.Iterator
  ) async throws {
    var missing = operations
    while !missing.isEmpty {
      guard let event = try await events.next() else {
        throw Failure(.failed, "the event stream ended")
      }
      guard !event.data.isEmpty else { continue }
      let data = try JSONValue(parsing: Array(event.data.utf8))
      let id = data["vnfLcmOpOccId"].text
      guard missing.contains(id) else { continue }
      switch data["operationState"].text {
      case "COMPLETED": missing.remove(id)
      case "STARTING", "PROCESSING": continue
      default:
        throw Failure(.failed, "\(data["operation"].text) \(id): \(data["message"].text)")
      }
    }
  }

  /// A page of 100 of 1,000 instances on the simulated host.
  private mutating func lists(_ package: String) async throws -> Double {
    say("lists of 100 with 1,000 instances on the simulated host")
    try await host.startDaemon(["--host", "simulated"], state: "simulated")
    let daemon = functions.daemon
    _ = try await daemon.onboarded(try await daemon.upload(package), .seconds(30))
    for index in 0..<1000 {
      _ = try await daemon.create(vnfdID: "responder", name: "list-\(index)", description: nil)
    }
    var times: [Double] = []
    for _ in 0..<300 {
      let start = ContinuousClock.now
      _ = try await daemon.get("/vnflcm/v2/vnf_instances")
      times.append((ContinuousClock.now - start).milliseconds)
    }
    host.endDaemon(SIGTERM)
    daemon.client.close()
    let values = Distribution(times)
    show("page", values)
    return values.p99
  }
}

extension Distribution {
  fileprivate var json: JSONValue {
    ["p50": .number(p50), "p95": .number(p95), "p99": .number(p99)]
  }
}

private func oneDecimal(_ value: Double) -> String { fixed(value, 10) }
private func twoDecimals(_ value: Double) -> String { fixed(value, 100) }

private func fixed(_ value: Double, _ scale: Int64) -> String {
  let whole = Int64((value * Double(scale)).rounded())
  let fraction = String(whole % scale)
  let width = scale == 10 ? 1 : 2
  return "\(whole / scale)." + String(repeating: "0", count: width - fraction.count) + fraction
}
