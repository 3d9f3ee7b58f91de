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
    _ name: String, _ prefix: String, route: (String, String)? = nil
  ) async throws -> String {
    var body: [String: JSONValue] = [
      "name": .string(name), "subnets": .array([["prefix": .string(prefix)]]),
    ]
    if let route {
      body["routes"] = .array([["destination": .string(route.0), "via": .string(route.1)]])
    }
    return try await daemon.send(.post, Kind.network.collection, .object(body)).value["id"].text
  }

  /// Creates and instantiates; returns when it is COMPLETED.
  func instantiate(
    _ name: String, _ package: String,
    _ points: [(point: String, network: String, address: String)],
    _ parameters: [String: JSONValue] = [:]
  ) async throws {
    let id = try await daemon.create(vnfdID: package, name: name, description: nil)["id"].text
    let begun = try await daemon.begin(
      "\(Kind.vnf.collection)/\(id)/instantiate", request(points, parameters))
    _ = try await ended(begun)
  }

  func request(
    _ points: [(point: String, network: String, address: String)],
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
      "flavourId": "container", "extVirtualLinks": .array(links),
      "additionalParams": .object(parameters),
    ]
  }

  /// Waits until an operation has ended.
  /// - Throws: where it did not end COMPLETED.
  func ended(_ operation: String) async throws -> JSONValue {
    let deadline = ContinuousClock.now + .seconds(20)
    while ContinuousClock.now < deadline {
      let found = try await daemon.get(.op, operation)
      switch found["operationState"].text {
      case "COMPLETED": return found
      case "FAILED_TEMP", "FAILED", "ROLLED_BACK":
        throw Failure(.failed, "\(found["operation"].text): \(found["error", "detail"].text)")
      default: try await Task.sleep(for: .milliseconds(1))
      }
    }
    throw Failure(.timeout, "the operation \(operation) took more than 20 s")
  }

  func remove(_ id: String) async throws {
    if try await daemon.get(.vnf, id)["instantiationState"].text == "INSTANTIATED" {
      _ = try await ended(
        try await daemon.begin(
          "\(Kind.vnf.collection)/\(id)/terminate", ["terminationType": "FORCEFUL"]))
    }
    try await daemon.send(.delete, "\(Kind.vnf.collection)/\(id)")
  }

  /// Instantiates a package that listens on TCP 5001, measures from just before the request was sent,
  /// in milliseconds, and removes the instance again.
  func instantiationTimes(
    of package: String, network: String, address: [UInt8], from client: ClientNamespace,
    source: [UInt8]
  ) async throws -> (rst: Double, running: Double, ready: Double) {
    let id = try await daemon.create(
      vnfdID: package, name: "probe-\(address[3])-\(address[2])", description: nil)["id"].text
    let deadline = ContinuousClock.now + .seconds(10)
    let body = request(
      [("network", network, address.map(String.init).joined(separator: "."))], [:])
    let times = try await withThrowingTaskGroup(
      of: (String, ContinuousClock.Instant?).self
    ) { group in
      group.addTask(executorPreference: probes) {
        (
          "rst",
          try SynProbe.firstAnswer(
            from: client, source: source, to: address, port: 9, until: deadline)
        )
      }
      // The probe shall be under way before anything is asked.
      try await Task.sleep(for: .milliseconds(20))
      let start = ContinuousClock.now
      let begun = try await daemon.begin("\(Kind.vnf.collection)/\(id)/instantiate", body)
      group.addTask(executorPreference: probes) {
        (
          "running",
          try client.firstConnection(to: address, port: 5001, until: deadline)
        )
      }
      _ = try await ended(begun)
      var times = ["ready": ContinuousClock.now - start]
      for try await (name, moment) in group {
        if let moment { times[name] = moment - start }
      }
      return times
    }
    try await remove(id)
    guard let rst = times["rst"], let running = times["running"], let ready = times["ready"] else {
      throw Failure(.failed, "the function did not answer within 10 s")
    }
    return (rst.milliseconds, running.milliseconds, ready.milliseconds)
  }
}
