internal import LinuxSystem
internal import NFVBenchmark
internal import NFVClient
internal import NFVModel
internal import Synchronization

/// What the demo and the benchmark do with functions, by the daemon's interface.
struct Functions: Sendable {
  let daemon: Daemon
  /// A probe spins on its thread until its answer comes.
  private let probes = BlockingExecutor(threads: 2, name: "martlet-probe")

  init(_ daemon: Daemon) { self.daemon = daemon }

  func network(
    _ name: String, _ prefix: String, routes: [(destination: String, via: String)] = []
  ) async throws -> String {
    var body: [String: JSONValue] = [
      "name": .string(name), "subnets": .array([["prefix": .string(prefix)]]),
    ]
    if !routes.isEmpty {
      body["routes"] = .array(
        routes.map { ["destination": .string($0.destination), "via": .string($0.via)] })
    }
    return try await daemon.send(.post, Kind.network.collection, .object(body)).value["id"].text
  }

  /// Creates and instantiates; returns when it is COMPLETED.
  func instantiate(
    _ name: String, _ package: String, as flavour: String,
    _ points: [(point: String, network: String, address: String)],
    _ parameters: [String: JSONValue] = [:], asked interval: Duration = .milliseconds(1),
    within limit: Duration = .seconds(60)
  ) async throws {
    let id = try await daemon.create(vnfdID: package, name: name, description: nil)["id"].text
    let begun = try await daemon.begin(
      "\(Kind.vnf.collection)/\(id)/instantiate", request(flavour, points, parameters))
    _ = try await ended(begun, asked: interval, within: limit)
  }

  func request(
    _ flavour: String, _ points: [(point: String, network: String, address: String)],
    _ parameters: [String: JSONValue]
  ) -> JSONValue {
    let links = points.map { point, network, address -> JSONValue in
      let addresses: JSONValue = [
        "type": "IPV4", "fixedAddresses": .array([.string(address)]),
      ]
      let data: JSONValue = [
        "layerProtocol": "IP_OVER_ETHERNET",
        "ipOverEthernet": ["ipAddresses": .array([addresses])],
      ]
      return [
        "id": .string("link-\(point)"), "resourceId": .string(network),
        "extCps": .array([
          [
            "cpdId": .string(point),
            "cpConfig": ["default": ["cpProtocolData": .array([data])]],
          ]
        ]),
      ]
    }
    return [
      "flavourId": .string(flavour), "extVirtualLinks": .array(links),
      "additionalParams": .object(parameters),
    ]
  }

  /// Waits until an operation has ended.
  /// - Parameter interval: how often the daemon is asked.
  /// - Throws: where it did not end COMPLETED.
  func ended(
    _ operation: String, asked interval: Duration = .milliseconds(1),
    within limit: Duration = .seconds(60)
  ) async throws -> JSONValue {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
      let found = try await daemon.get(.op, operation)
      switch found["operationState"].text {
      case "COMPLETED": return found
      case "FAILED_TEMP", "FAILED", "ROLLED_BACK":
        throw Failure(.failed, "\(found["operation"].text): \(found["error", "detail"].text)")
      default: try await Task.sleep(for: interval)
      }
    }
    throw Failure(.timeout, "the operation \(operation) took more than \(span(limit))")
  }

  func remove(_ id: String, asked interval: Duration = .milliseconds(1)) async throws {
    if try await daemon.get(.vnf, id)["instantiationState"].text == "INSTANTIATED" {
      _ = try await ended(
        try await daemon.begin(
          "\(Kind.vnf.collection)/\(id)/terminate", ["terminationType": "FORCEFUL"]),
        asked: interval)
    }
    try await daemon.send(.delete, "\(Kind.vnf.collection)/\(id)")
  }

  /// Removes an instance whose operation has failed.
  func giveUp(_ name: String) async throws {
    let vnf = try await daemon.find(.vnf, name)
    let operation = vnf["org.martlet", "openOperation"].text
    if !operation.isEmpty {
      try await daemon.send(.post, "\(Kind.op.collection)/\(operation)/fail")
    }
    try await remove(vnf["id"].text)
  }

  /// Waits until a network has no ports any more: what is terminated keeps its addresses until nothing
  /// on the host can answer for them.
  func awaitRelease(of network: String) async throws {
    let deadline = ContinuousClock.now + .seconds(10)
    while try await daemon.get(.network, network)["ports"].integer != 0 {
      guard ContinuousClock.now < deadline else {
        throw Failure(.timeout, "ports are left on the network \(network) after 10 s")
      }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  /// The resource that carries an instance's first Vnfc.
  func workload(_ name: String) async throws -> String {
    let vnf = try await daemon.find(.vnf, name)
    let info = vnf["instantiatedVnfInfo", "vnfcResourceInfo"].elements.first ?? .null
    return info["computeResource", "resourceId"].text
  }

  /// The resources that carry all Vnfcs of all instances.
  func workloads() async throws -> Set<String> {
    var found: Set<String> = []
    for vnf in try await daemon.list(.vnf) {
      let whole = try await daemon.get(.vnf, vnf["id"].text)
      for vnfc in whole["instantiatedVnfInfo", "vnfcResourceInfo"].elements {
        found.insert(vnfc["computeResource", "resourceId"].text)
      }
    }
    return found
  }

  /// What is asked of the daemon about an instance's first Vnfc.
  func accelerator(_ name: String) async throws -> String {
    let vnf = try await daemon.find(.vnf, name)
    let info = vnf["instantiatedVnfInfo", "vnfcResourceInfo"].elements.first ?? .null
    return info["metadata", "accelerator"].string ?? "none"
  }

  /// The memory of an instance's first Vnfc, as its control group counts it.
  func memoryBytes(_ name: String) async throws -> Int64 {
    let vnf = try await daemon.find(.vnf, name)
    let vnfc = vnf["instantiatedVnfInfo", "vnfcResourceInfo"].elements.first?["id"].text ?? ""
    let usage = try await daemon.get(
      "/martlet/v1/vnf_instances/\(vnf["id"].text)/vnfcs/\(vnfc)/usage")
    return usage["memoryBytes"].integer ?? 0
  }

  /// Ends and deletes every instance, and every network, as far as it goes.
  func removeAll() async {
    for vnf in (try? await daemon.list(.vnf)) ?? [] { try? await remove(vnf["id"].text) }
    for network in (try? await daemon.list(.network)) ?? [] {
      _ = try? await daemon.send(.delete, "\(Kind.network.collection)/\(network["id"].text)")
    }
  }

  /// Moments of an instantiation in milliseconds, from just before the request was sent.
  struct InstantiationTimes: Sendable {
    /// The first RST or SYN-ACK from its address.
    var rst: Double
    /// Its own process began: as the kernel tells; in a virtual machine, as its init tells the daemon.
    var running: Double
    /// COMPLETED, as the event stream tells.
    var ready: Double
    /// Its terminate until COMPLETED, as the event stream tells; nil of what was not ended so.
    var terminate: Double?
    /// The daemon's own phases: their names and durations in microseconds.
    var phases: [String: Double]
  }

  /// From where an instantiation is watched.
  struct Vantage: Sendable {
    var client: ClientNamespace
    /// The client's own address.
    var source: [UInt8]
    /// The network that it is on.
    var network: String
    /// What the paths of the daemon's control groups have in common.
    var group: String
  }

  /// What an instance is called that is measured at an address.
  static func probeName(_ address: String) -> String { "probe-\(address)" }

  /// Instantiates a package, measures it from outside, and removes the instance again.
  /// - Parameters:
  ///   - connections: its points, where they are others than one, `network`, at `address`.
  ///   - beyond: whose closed TCP port answers through it; nil where it answers itself.
  ///   - isKept: it stays, for more to be measured.
  func instantiationTimes(
    of package: String, _ form: Form, at address: [UInt8], from vantage: Vantage,
    connections: [(point: String, network: String, address: String)]? = nil,
    _ parameters: [String: JSONValue] = [:], beyond: (address: [UInt8], port: UInt16)? = nil,
    isKept: Bool = false
  ) async throws -> InstantiationTimes {
    let text = address.map(String.init).joined(separator: ".")
    let id = try await daemon.create(vnfdID: package, name: Self.probeName(text), description: nil)[
      "id"
    ].text
    let body = request(
      form.flavour, connections ?? [("network", vantage.network, text)], parameters)
    let watch = Watch(.seconds(form.isSlow ? 60 : 10))
    let processes = try ProcessEvents()
    var events = daemon.client.events(vnfInstanceID: id).makeAsyncIterator()
    _ = try await events.next()
    var operation = ""
    var times = try await withThrowingTaskGroup(
      of: (String, ContinuousClock.Instant?).self
    ) { measured in
      // However it ends, the probes end.
      defer { watch.end() }
      measured.addTask(executorPreference: probes) {
        (
          "rst",
          try SynProbe.firstAnswer(
            in: vantage.client.namespace, interface: ClientNamespace.interface,
            source: vantage.source, to: beyond?.address ?? address,
            through: beyond == nil ? nil : address, port: beyond?.port ?? SynProbe.closedPort,
            watch: watch)
        )
      }
      // What runs in a virtual machine is no process of the host's.
      if form.flavour == "container" {
        measured.addTask(executorPreference: probes) {
          (
            "running",
            try processes.firstExecution(watch) {
              ProcessEvents.isFirstOfContainer($0, inGroup: vantage.group)
            }
          )
        }
      }
      // The probes shall be under way before anything is asked.
      try await Task.sleep(for: .milliseconds(20))
      let start = ContinuousClock.now
      operation = try await daemon.begin("\(Kind.vnf.collection)/\(id)/instantiate", body)
      try await Self.awaitEnd(of: [operation], &events)
      var times = ["ready": (ContinuousClock.now - start).milliseconds]
      for try await (name, moment) in measured {
        if let moment { times[name] = (moment - start).milliseconds }
      }
      return times
    }
    var phases: [String: Double] = [:]
    for phase in try await daemon.get(.op, operation)["org.martlet", "phases"].elements {
      let duration = phase["durationMicroseconds"].double ?? 0
      phases[phase["name"].text] = duration
      if phase["name"].text == "startWorkload", times["running"] == nil {
        times["running"] = ((phase["startMicroseconds"].double ?? 0) + duration) / 1000
      }
    }
    var terminated: Double?
    if !isKept {
      let start = ContinuousClock.now
      let end = try await daemon.begin(
        "\(Kind.vnf.collection)/\(id)/terminate", ["terminationType": "FORCEFUL"])
      try await Self.awaitEnd(of: [end], &events)
      terminated = (ContinuousClock.now - start).milliseconds
      try await remove(id)
    }
    guard let rst = times["rst"], let running = times["running"], let ready = times["ready"] else {
      let missing = ["rst", "running", "ready"].filter { times[$0] == nil }
      throw Failure(
        .failed,
        "the \(form.flavour) at \(text) did not answer in time (\(missing.joined(separator: ", ")))"
      )
    }
    return InstantiationTimes(
      rst: rst, running: running, ready: ready, terminate: terminated, phases: phases)
  }

  /// Reads events until all operations are COMPLETED; events of others are passed over.
  static func awaitEnd(
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
}
