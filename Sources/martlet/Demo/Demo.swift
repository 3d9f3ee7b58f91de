internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import NFVBenchmark
internal import NFVClient
internal import NFVImages
internal import NFVModel
internal import NFVPackages
internal import SystemPackage

/// What the example firewall is told.
enum FirewallExample {
  /// The first server's port; of TCP no other passes.
  static let allowed: UInt16 = 5001
  /// Datagrams to it are answered by an error, others by nothing.
  static let rejected: UInt16 = 9000

  static let rules = JSONValue.array([
    ["from": "left", "protocol": "icmp", "action": "accept"],
    [
      "from": "left", "protocol": "tcp", "ports": .integer(Int64(allowed)), "action": "accept",
    ],
    ["protocol": "tcp", "action": "reject"],
    ["protocol": "udp", "ports": .integer(Int64(rejected)), "action": "reject"],
  ])
}

/// The demo's steps, in order, and what they measured.
struct Demo: Undoable {
  private let examples: String
  private let started = ContinuousClock.now
  private var host: DemoHost
  private var functions: Functions
  private var clients: [ClientNamespace] = []
  private var packages: ExamplePackages?
  private var networks: [String: String] = [:]
  private var figures: [FormFigures] = []
  /// What came of the flavours beside their figures.
  private var extras: [String: [String: JSONValue]] = [:]
  private var results: [String: JSONValue] = [:]
  private var chained: [ChainResult] = []

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
  func tell(_ text: String) {
    for line in text.split(separator: "\n") { Console.current.print("           \(line)") }
  }

  mutating func run() async throws {
    say("build the example packages")
    let packages = try ExamplePackages(FunctionChain.packages, from: examples, to: host.state)
    self.packages = packages
    if let reason = packages.withoutMachines {
      tell("containers only: there are no images of virtual machines, as \(reason)")
    }
    say("start martletd on \(host.socket)")
    try await host.startDaemon()
    say("onboard firewall, nat44 and responder")
    for name in FunctionChain.packages {
      _ = try await daemon.onboarded(
        try await daemon.upload(packages.path(of: name)), .seconds(30))
    }
    say("make the networks outside (10.1.0.0/24) and inside (10.2.0.0/24)")
    networks["outside"] = try await functions.network("outside", "10.1.0.0/24")
    networks["inside"] = try await functions.network(
      "inside", "10.2.0.0/24", routes: [("10.1.0.0/24", "10.2.0.2")])
    let runnable = try await daemon.get("/martlet/v1/info")["technologies"].elements.map(\.text)
    for form in packages.forms(of: "responder") {
      guard runnable.contains(form.flavour) else {
        say("the flavour \(form.flavour) cannot run here: QEMU is not installed (`make setup`)")
        continue
      }
      try await show(form, packages.imageBytes["responder"]?[form.flavour] ?? 0)
    }
    say("the draft's five quantities")
    tell(Comparison(figures).rendered())
    for client in clients { client.remove() }
    clients = []
    try await showPortability(packages.forms(of: "nat44").map(\.flavour).filter(runnable.contains))
    for name in ["outside", "inside", "default"] {
      let id = try await daemon.resolve(.network, name)
      try await daemon.send(.delete, "\(Kind.network.collection)/\(id)")
    }
    for _ in 0..<200 where FileManager.default.fileExists(atPath: host.fabric) {
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  mutating func cleanUp() async {
    for client in clients { client.remove() }
    clients = []
    if host.daemonPID > 0 { await functions.removeAll() }
    daemon.client.close()
    host.cleanUp()
  }

  func leftovers() -> [String] { host.leftovers() }

  // MARK: Steps

  /// Both functions in one form, from their start to their end.
  private mutating func show(_ form: Form, _ imageBytes: Int64) async throws {
    say("instantiate firewall and responder as \(form.flavour)")
    async let firewall: Void = functions.instantiate(
      "fw", "firewall", as: form.flavour,
      [("left", "outside", "10.1.0.2"), ("right", "inside", "10.2.0.2")],
      ["rules": FirewallExample.rules])
    async let responder: Void = functions.instantiate(
      "rs", "responder", as: form.flavour, [("network", "inside", "10.2.0.10")])
    _ = try await (firewall, responder)
    if clients.isEmpty { try join(networks["outside"] ?? "", networks["inside"] ?? "") }
    try showPolicy(form)
    try await measure(form, imageBytes)
    try await killFunction(form)
    try await killDaemon(form)
    say("terminate and delete both")
    for vnf in try await daemon.list(.vnf) { try await functions.remove(vnf["id"].text) }
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

  private mutating func showPolicy(_ form: Form) throws {
    say("a client outside reaches the responder inside by the firewall")
    // What serves there as well: iperf3, or the discard service in Swift.
    let other: UInt16 = form.flavour == "unikernel" ? 9 : 5201
    // Readiness is the other server's; this one begins beside it.
    let beside =
      try clients[1].firstConnection(
        to: Self.responder, port: other, until: .now + .seconds(10)) != nil
    let allowed = try clients[0].connects(
      to: Self.responder, port: FirewallExample.allowed, timeout: .seconds(2))
    let refused = try clients[0].connects(to: Self.responder, port: other, timeout: .seconds(1))
    tell("TCP 5001, which its rules allow: \(allowed ? "connected" : "NOT CONNECTED")")
    tell(
      "TCP \(other), which they do not: \(refused ? "CONNECTED" : "refused")"
        + " (beside the firewall it is \(beside ? "open" : "CLOSED"))")
    note("policy", form, ["allowed": .bool(allowed), "refused": .bool(!refused)])
    guard allowed, !refused, beside else {
      throw Failure(.failed, "the firewall does not do what its rules say")
    }
  }

  private mutating func measure(_ form: Form, _ imageBytes: Int64) async throws {
    let rounds = form.isSlow ? 2 : 10
    say("measure \(rounds) more instantiations, throughput, round trips and memory")
    let vantage = Functions.Vantage(
      client: clients[1], source: Self.inner, network: "inside",
      group: host.group)
    let figures = try await functions.figures(
      of: form, "responder", running: "rs", at: Self.responder, from: vantage,
      probes: (0..<rounds).map { [10, 2, 0, UInt8(50 + $0)] },
      FormEffort(trafficRounds: 1, trafficSeconds: 2), imageBytes: imageBytes)
    if figures.accelerator != "none" {
      tell("the machines run under \(figures.accelerator.uppercased())")
    }
    self.figures.append(figures)
  }

  // MARK: Kills

  private mutating func killFunction(_ form: Form) async throws {
    say("kill the responder's processes")
    let before = try await functions.workload("rs")
    let victims = host.processes(of: before)
    guard let first = victims.first else {
      throw Failure(.failed, "no process of the workload \(before) was found")
    }
    host.noteNamespaces()
    let start = ContinuousClock.now
    kill(first, SIGKILL)
    // With its first process the namespace's others die as well, a moment later: only then is what
    // answers a successor.
    while victims.contains(where: { kill($0, 0) == 0 }) { usleep(50) }
    let back = try clients[1].firstConnection(
      to: Self.responder, port: 5001, until: start + .seconds(30))
    guard let back else { throw Failure(.failed, "the responder did not come back within 30 s") }
    let time = (back - start).milliseconds
    try await Task.sleep(for: .milliseconds(50))
    let after = try await functions.workload("rs")
    tell(
      "its successor answered after \(fixed(time, digits: 1)) ms, at the same address "
        + "(\(before) → \(after))")
    guard after != before else {
      throw Failure(.failed, "what answered was not a successor")
    }
    note("restorationMs", form, .number(time))
  }

  private mutating func killDaemon(_ form: Form) async throws {
    say("kill the daemon with SIGKILL while 3,000 pings pass the firewall, 1 ms apart")
    let before = try await functions.workloads()
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
    let after = try await functions.workloads()
    let (sent, received) = try await pinged
    let adopted = before.intersection(after).count
    tell("\(sent) packets sent, \(sent - received) lost")
    tell(
      "the new daemon was ready after \(fixed(ready, digits: 0)) ms and took \(adopted) of "
        + "\(before.count) functions back")
    note(
      "daemonKill", form,
      [
        "packetsSent": .integer(Int64(sent)), "packetsLost": .integer(Int64(sent - received)),
        "adopted": .integer(Int64(adopted)),
      ])
    guard adopted == before.count, before == after else {
      throw Failure(.failed, "the daemon did not take its functions back")
    }
  }

  private static func pings(
    _ client: ClientNamespace, _ address: String, _ threads: BlockingExecutor
  ) async throws -> (sent: Int, received: Int) {
    try await withTaskExecutorPreference(threads) {
      try client.pings(to: address, count: 3000, milliseconds: 1)
    }
  }

  // MARK: Portability

  /// Chains of three functions, each in a form of its own, in every assignment.
  private mutating func showPortability(_ forms: [String]) async throws {
    guard forms.count == 3 else {
      return say("no chains of functions in three forms: here are \(forms.joined(separator: ", "))")
    }
    let chains = FunctionChain.all(of: forms)
    say(
      "start \(chains.count) chains client → firewall → nat44 → responder, every form in every place"
    )
    chained = try await functions.results(
      of: chains, fabric: host.fabric, rules: FirewallExample.rules
    ) {
      say($0)
    }
    tell(ChainResult.table(chained))
    guard let other = chained.first(where: { !$0.differences.isEmpty || $0.verdicts.isEmpty })
    else { return }
    let difference = other.differences.first ?? "its firewall did not answer ARP within 2 s"
    let more = other.differences.count > 1 ? " (and \(other.differences.count - 1) more)" : ""
    throw Failure(
      .failed,
      "the chain \(other.forms.joined(separator: " → ")) does not do as its rules say: \(difference)\(more)"
    )
  }

  // MARK: The report

  /// The report's top holds what came of containers, each flavour's own part what came of it.
  private mutating func note(_ key: String, _ form: Form, _ value: JSONValue) {
    if form.flavour == "container" { results[key] = value }
    extras[form.flavour, default: [:]][key] = value
  }

  func write(report: String, portability: String, leftovers: [String]) throws {
    var all = results
    all["flavours"] = .array(
      figures.map { .object($0.json.merging(extras[$0.form.flavour] ?? [:]) { $1 }) })
    all["leftovers"] = .array(leftovers.map { .string($0) })
    all["seconds"] = .number((ContinuousClock.now - started).milliseconds / 1000)
    all["host"] = host.description
    try JSONValue.object(all).write(to: report)
    try JSONValue.array(chained.map(\.json)).write(to: portability)
  }
}
