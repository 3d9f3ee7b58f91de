internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import NFVBenchmark
internal import NFVClient
internal import NFVImages
internal import NFVModel
internal import NFVPackages
internal import SystemPackage

/// The demo's steps, in order, and what they measured.
struct Demo {
  private let examples: String
  private let started = ContinuousClock.now
  private var host: DemoHost
  private var functions: Functions
  private var clients: [ClientNamespace] = []
  private var imageBytes: [String: UInt64] = [:]
  private var results: [String: JSONValue] = [:]

  private static let client: [UInt8] = [10, 1, 0, 100]
  private static let inner: [UInt8] = [10, 2, 0, 100]
  private static let responder: [UInt8] = [10, 2, 0, 10]

  init(examples: String) throws {
    self.examples = examples
    host = try DemoHost()
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
  }

  private var daemon: Daemon { functions.daemon }

  var elapsed: String { fixed((ContinuousClock.now - started).milliseconds / 1000, digits: 1) }

  /// A step begins.
  func say(_ text: String) {
    let time = fixed((ContinuousClock.now - started).milliseconds / 1000, digits: 1)
    Console.current.print(
      String(repeating: " ", count: max(0, 5 - time.count)) + "\(time) s  \(text)")
  }

  /// What came of it.
  func tell(_ text: String) { Console.current.print("           \(text)") }

  mutating func run() async throws {
    say("build the example packages")
    try build()
    say("start martletd on \(host.socket)")
    try await host.startDaemon()
    say("onboard firewall and responder")
    for name in ["firewall", "responder"] {
      _ = try await daemon.onboarded(
        try await daemon.upload("\(host.state)/\(name).csar"), .seconds(30))
    }
    say("make the networks outside (10.1.0.0/24) and inside (10.2.0.0/24)")
    let outside = try await functions.network("outside", "10.1.0.0/24")
    let inside = try await functions.network(
      "inside", "10.2.0.0/24", route: ("10.1.0.0/24", "10.2.0.2"))
    say("instantiate firewall and responder")
    try await functions.instantiate(
      "fw", "firewall",
      [("left", "outside", "10.1.0.2"), ("right", "inside", "10.2.0.2")],
      ["allowed_tcp_ports": .array([.integer(5001)])])
    try await functions.instantiate("rs", "responder", [("network", "inside", "10.2.0.10")])
    try join(outside, inside)
    try showPolicy()
    try await measure()
    try await killFunction()
    try await killDaemon()
    say("terminate and delete everything")
    for vnf in try await daemon.list(.vnf) { try await functions.remove(vnf["id"].text) }
    for client in clients { client.remove() }
    clients = []
    for name in ["outside", "inside", "default"] {
      let id = try await daemon.resolve(.network, name)
      try await daemon.send(.delete, "\(Kind.network.collection)/\(id)")
    }
    for _ in 0..<200 where FileManager.default.fileExists(atPath: host.fabric) {
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Leaves the host as it was, however far the demo came.
  mutating func cleanUp() async {
    for client in clients { client.remove() }
    clients = []
    if host.daemonPID > 0 {
      for vnf in (try? await daemon.list(.vnf)) ?? [] {
        try? await functions.remove(vnf["id"].text)
      }
      for network in (try? await daemon.list(.network)) ?? [] {
        _ = try? await daemon.send(.delete, "\(Kind.network.collection)/\(network["id"].text)")
      }
    }
    daemon.client.close()
    host.cleanUp()
  }

  func leftovers() -> [String] { host.leftovers() }

  // MARK: Steps

  private mutating func build() throws {
    var sizes: [String: UInt64] = [:]
    for name in ["firewall", "responder"] {
      do throws(NFVError) {
        try PackageProject(folder: "\(examples)/\(name)").build(to: "\(host.state)/\(name).csar") {
          (recipe, technology, image) throws(NFVError) in
          let built = try Project.buildImage(recipe, as: technology, to: image)
          if technology == .container { sizes[name] = built.size }
        }
      } catch {
        throw Failure(error)
      }
    }
    imageBytes = sizes
  }

  private mutating func join(_ outside: String, _ inside: String) throws {
    clients.append(
      try ClientNamespace(
        fabric: host.fabric, network: outside, name: "mdemo-outside", address: Self.client,
        prefixLength: 24,
        routes: [.init(destination: [10, 2, 0, 0], prefixLength: 24, gateway: [10, 1, 0, 2])]))
    clients.append(
      try ClientNamespace(
        fabric: host.fabric, network: inside, name: "mdemo-inside", address: Self.inner,
        prefixLength: 24))
  }

  private mutating func showPolicy() throws {
    say("a client outside reaches the responder inside by the firewall")
    let allowed = try clients[0].connects(
      to: Self.responder, port: 5001, timeout: .seconds(2))
    let refused = try clients[0].connects(
      to: Self.responder, port: 5201, timeout: .seconds(1))
    let beside = try clients[1].connects(
      to: Self.responder, port: 5201, timeout: .seconds(1))
    tell("TCP 5001, which its rules allow: \(allowed ? "connected" : "NOT CONNECTED")")
    tell(
      "TCP 5201, which they do not: \(refused ? "CONNECTED" : "refused")"
        + " (beside the firewall it is \(beside ? "open" : "CLOSED"))")
    results["policy"] = ["allowed": .bool(allowed), "refused": .bool(!refused)]
    guard allowed, !refused, beside else {
      throw Failure(.failed, "the firewall does not do what its rules say")
    }
  }

  // MARK: Measurements

  private mutating func measure() async throws {
    say("measure the draft's five quantities")
    let group = try host.storeGroup(with: try await functions.workload("rs"))
    var rst: [Double] = []
    var running: [Double] = []
    var ready: [Double] = []
    for round in 0..<10 {
      let times = try await functions.instantiationTimes(
        of: "responder", network: "inside", address: [10, 2, 0, UInt8(50 + round)],
        from: clients[1], source: Self.inner, group: group)
      rst.append(times.rst)
      running.append(times.running)
      ready.append(times.ready)
    }
    let rx = try throughput(reversed: false)
    let tx = try throughput(reversed: true)
    let rtt = try roundTrip()
    let memory = try await memoryBytes("rs")
    let image = imageBytes["responder"] ?? 0
    let times = [rst, running, ready].map { Distribution($0).p50 }
    let draft = "draft's container"
    for (name, here, theirs) in [
      ("", "here", draft),
      ("instantiation: first RST", "\(fixed(times[0], digits: 1)) ms", "1,711 ms"),
      ("instantiation: its process runs", "\(fixed(times[1], digits: 1)) ms", ""),
      ("instantiation: COMPLETED", "\(fixed(times[2], digits: 1)) ms", ""),
      ("throughput Tx", "\(fixed(tx, digits: 1)) Gbit/s", "45.1 Gbit/s"),
      ("throughput Rx", "\(fixed(rx, digits: 1)) Gbit/s", "43.8 Gbit/s"),
      ("RTT, ping flood", "\(fixed(rtt, digits: 1)) µs", "4 ms"),
      ("image size", "\(fixed(Double(image) / 1e6, digits: 1)) MB", "61 MB"),
      ("memory", "\(fixed(Double(memory) / 1e6, digits: 1)) MB", "3.8 MB"),
    ] {
      tell(pad(name, 44) + pad(here, 16, right: true) + pad(theirs, 20, right: true))
    }
    results["flavours"] = .array([
      [
        "name": "container", "accelerator": "none", "instantiateRstMs": .number(times[0]),
        "instantiateRunningMs": .number(times[1]), "instantiateReadyMs": .number(times[2]),
        "txGbps": .number(tx), "rxGbps": .number(rx), "rttUs": .number(rtt),
        "imageBytes": .integer(Int64(image)), "memoryBytes": .integer(memory),
      ]
    ])
  }

  /// By iperf (version 2) between the client and the responder, in Gbit/s.
  private func throughput(reversed: Bool) throws -> Double {
    let address = Self.responder.map(String.init).joined(separator: ".")
    let result = try clients[1].run(
      "/usr/bin/iperf",
      ["-c", address, "-t", "2", "-y", "C"] + (reversed ? ["-R"] : []))
    let fields = String(decoding: result.output, as: UTF8.self).split(separator: "\n")
      .compactMap { $0.split(separator: ",").last.flatMap { Double($0) } }
    guard let bits = fields.max(), bits > 0 else {
      throw Failure(.failed, "iperf: \(String(decoding: result.output, as: UTF8.self))")
    }
    return bits / 1e9
  }

  /// The average of a ping flood, in microseconds.
  private func roundTrip() throws -> Double {
    let address = Self.responder.map(String.init).joined(separator: ".")
    let result = try clients[1].run("/usr/bin/ping", ["-f", "-q", "-c", "20000", address])
    let text = String(decoding: result.output, as: UTF8.self)
    guard let line = text.split(separator: "\n").last(where: { $0.contains("min/avg/max") }),
      let average = line.split(separator: "=").last?.split(separator: "/").dropFirst().first,
      let milliseconds = Double(average.filter { $0 != " " })
    else { throw Failure(.failed, "ping: \(text)") }
    return milliseconds * 1000
  }

  private func memoryBytes(_ name: String) async throws -> Int64 {
    let vnf = try await daemon.find(.vnf, name)
    let vnfc = vnf["instantiatedVnfInfo", "vnfcResourceInfo"].elements.first?["id"].text ?? ""
    let usage = try await daemon.get(
      "/martlet/v1/vnf_instances/\(vnf["id"].text)/vnfcs/\(vnfc)/usage")
    return usage["memoryBytes"].integer ?? 0
  }

  // MARK: Kills

  private mutating func killFunction() async throws {
    say("kill the responder's processes")
    let before = try await functions.workload("rs")
    let victims = host.processes(of: before)
    guard let first = victims.first else {
      throw Failure(.failed, "no process of the workload \(before) was found")
    }
    let start = ContinuousClock.now
    kill(first, SIGKILL)
    // With its first process the namespace's others die as well, a moment later: only then is what
    // answers a successor.
    while victims.contains(where: { kill($0, 0) == 0 }) { usleep(50) }
    let back = try clients[1].firstConnection(
      to: Self.responder, port: 5001, until: start + .seconds(10))
    guard let back else { throw Failure(.failed, "the responder did not come back within 10 s") }
    let time = (back - start).milliseconds
    try await Task.sleep(for: .milliseconds(50))
    let after = try await functions.workload("rs")
    tell(
      "its successor answered after \(fixed(time, digits: 1)) ms, at the same address "
        + "(\(before) → \(after))")
    guard after != before else {
      throw Failure(.failed, "what answered was not a successor")
    }
    results["restorationMs"] = .number(time)
  }

  private mutating func killDaemon() async throws {
    say("kill the daemon with SIGKILL while 3,000 pings pass the firewall, 1 ms apart")
    let before = try await Self.workloads(daemon)
    let client = clients[0]
    let address = Self.responder.map(String.init).joined(separator: ".")
    let threads = BlockingExecutor(threads: 1, name: "martlet-ping")
    async let pinged = Self.pings(client, address, threads)
    try await Task.sleep(for: .milliseconds(500))
    host.endDaemon(SIGKILL)
    try await Task.sleep(for: .milliseconds(500))
    let start = ContinuousClock.now
    try await host.startDaemon()
    let ready = (ContinuousClock.now - start).milliseconds
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
    let after = try await Self.workloads(daemon)
    let (sent, received) = try await pinged
    let adopted = before.intersection(after).count
    tell("\(sent) packets sent, \(sent - received) lost")
    tell(
      "the new daemon was ready after \(fixed(ready, digits: 0)) ms and took \(adopted) of "
        + "\(before.count) functions back")
    results["daemonKill"] = [
      "packetsSent": .integer(Int64(sent)), "packetsLost": .integer(Int64(sent - received)),
      "adopted": .integer(Int64(adopted)),
    ]
    guard adopted == before.count, before == after else {
      throw Failure(.failed, "the daemon did not take its functions back")
    }
  }

  private static func workloads(_ daemon: Daemon) async throws -> Set<String> {
    var found: Set<String> = []
    for vnf in try await daemon.list(.vnf) {
      let whole = try await daemon.get(.vnf, vnf["id"].text)
      for vnfc in whole["instantiatedVnfInfo", "vnfcResourceInfo"].elements {
        found.insert(vnfc["computeResource", "resourceId"].text)
      }
    }
    return found
  }

  private static func pings(
    _ client: ClientNamespace, _ address: String, _ threads: BlockingExecutor
  ) async throws -> (sent: Int, received: Int) {
    try await withTaskExecutorPreference(threads) {
      let result = try client.run(
        "/usr/bin/ping", ["-q", "-i", "0.001", "-c", "3000", "-W", "1", address])
      let text = String(decoding: result.output, as: UTF8.self)
      let numbers =
        text.split(separator: "\n").first { $0.contains("packets transmitted") }?
        .split(separator: " ").compactMap { Int($0) } ?? []
      guard numbers.count >= 2 else { throw Failure(.failed, "ping: \(text)") }
      return (numbers[0], numbers[1])
    }
  }

  // MARK: The report

  func write(report: String, leftovers: [String]) throws {
    var all = results
    all["leftovers"] = .array(leftovers.map { .string($0) })
    all["seconds"] = .number((ContinuousClock.now - started).milliseconds / 1000)
    all["host"] = host.description
    let parent = report.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    if !parent.isEmpty {
      try FileManager.default.createDirectory(
        atPath: parent.joined(separator: "/"), withIntermediateDirectories: true)
    }
    try Data((JSONValue.object(all).compact + "\n").utf8).write(to: URL(filePath: report))
  }
}

/// A number with so many digits after the point.
private func pad(_ text: String, _ width: Int, right: Bool = false) -> String {
  let blanks = String(repeating: " ", count: max(0, width - text.count))
  return right ? blanks + text : text + blanks
}
