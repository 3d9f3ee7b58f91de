internal import Glibc
internal import LinuxSystem
internal import NFVBenchmark
internal import NFVClient
internal import NFVModel

/// What a daemon's end by SIGKILL and the start of the next one did to functions that ran.
struct RestartFigures: Sendable {
  var flavour: String
  var accelerator: String
  var count: Int
  /// From the start of the next daemon until it is ready.
  var readyMilliseconds: Double
  /// Functions that the next daemon took back as they ran.
  var adopted: Int
  var packetsSent, packetsReceived: Int
  /// What one function's processes have of the host's memory for themselves, before the kill.
  var privateBytes: Distribution

  var json: JSONValue {
    [
      "flavour": .string(flavour), "accelerator": .string(accelerator),
      "count": .integer(Int64(count)), "readyMs": .number(readyMilliseconds),
      "adopted": .integer(Int64(adopted)), "packetsSent": .integer(Int64(packetsSent)),
      "packetsLost": .integer(Int64(packetsSent - packetsReceived)),
      "privateBytes": privateBytes.json,
    ]
  }

  func rendered() -> String {
    let name = accelerator == "none" ? flavour : "\(flavour) (\(accelerator))"
    return Table(
      titles: ["", ""], alignedRight: [1],
      rows: [
        [Cell("functions that ran: \(name)"), Cell(String(count))],
        [Cell("taken back by the next daemon"), Cell(String(adopted))],
        [
          Cell("its start until it was ready"),
          Cell("\(fixed(readyMilliseconds, digits: 0)) ms"),
        ],
        [Cell("packets sent to them meanwhile"), Cell(String(packetsSent))],
        [Cell("packets lost"), Cell(String(packetsSent - packetsReceived))],
        [
          Cell("private memory of one's processes"),
          Cell("\(fixed(privateBytes.p50 / 1e6, digits: 1)) MB"),
        ],
      ]
    ).rendered()
  }
}

extension Bench {
  private static let pings = 250
  /// In milliseconds. In shorter ones than 10 ping looks at the clock all the time: eight of them had a
  /// processor for themselves, and the daemon was ready after 84 to 842 ms.
  private static let pingInterval = 20
  /// How many are started at once: a machine keeps a processor busy while it boots.
  private static let atOnce = 2

  /// Runs so many functions, kills the daemon while each is pinged, and starts the next one.
  mutating func runRestart(_ flavour: String, count: Int) async throws -> RestartFigures {
    let packages = try build()
    let forms = try await begin(packages)
    guard let form = forms.first, let vantage else {
      throw Failure(.failed, "the flavour \(flavour) cannot be run here")
    }
    let addresses = addresses(count).map { $0.map(String.init).joined(separator: ".") }
    progress.expect(Double(count) * BenchProgress.start(form) / Double(Self.atOnce) + 8)
    try await start(addresses, as: form)
    let before = try await functions.workloads()
    let accelerator = try await functions.accelerator("restart-0")
    let memory = before.map { workload in
      host.processes(of: workload).reduce(0) { $0 + host.privateBytes($1) }
    }
    progress.began("\(form.flavour): pings, a kill and a start")
    let threads = BlockingExecutor(threads: count, name: "martlet-ping")
    let client = vantage.client
    let pinged = Task(executorPreference: threads) {
      try await withThrowingTaskGroup(of: (sent: Int, received: Int).self) { group in
        for address in addresses {
          group.addTask {
            try client.pings(
              to: address, count: Self.pings, milliseconds: Self.pingInterval)
          }
        }
        return try await group.reduce(into: (sent: 0, received: 0)) {
          $0.sent += $1.sent
          $0.received += $1.received
        }
      }
    }
    defer { pinged.cancel() }
    try await Task.sleep(for: .seconds(1))
    host.endDaemon(SIGKILL)
    try await Task.sleep(for: .milliseconds(500))
    let start = ContinuousClock.now
    try await host.startDaemon()
    let ready = (ContinuousClock.now - start).milliseconds
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
    let after = try await functions.workloads()
    let (sent, received) = try await pinged.value
    progress.end()
    return RestartFigures(
      flavour: form.flavour, accelerator: accelerator, count: count, readyMilliseconds: ready,
      adopted: before.intersection(after).count, packetsSent: sent, packetsReceived: received,
      privateBytes: Distribution(memory.map(Double.init)))
  }

  private func start(_ addresses: [String], as form: Form) async throws {
    let (functions, progress) = (functions, progress)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, address) in addresses.enumerated() {
        if index >= Self.atOnce { try await group.next() }
        group.addTask {
          progress.began("\(form.flavour): start")
          try await functions.instantiate(
            "restart-\(index)", "responder", as: form.flavour,
            [("network", "inside", address)], asked: .milliseconds(10), within: .seconds(120))
          progress.did(BenchProgress.start(form) / Double(Self.atOnce))
        }
      }
      try await group.waitForAll()
    }
  }
}
