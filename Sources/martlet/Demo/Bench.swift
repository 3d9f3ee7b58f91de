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
  /// What is measured, and how often.
  struct Settings: Sendable {
    /// Instantiations of each form and peer; of those that take seconds, fewer.
    var count: Int
    var slowCount: Int
    /// Flavours by name; nil are all that this host runs.
    var flavours: [String]?
    /// Nil are all peers that work here.
    var peers: [Peer]?
    var seed: UInt64
    var examples: String
  }

  let settings: Settings
  var host: DemoHost
  var functions: Functions
  private var client: ClientNamespace?
  /// Of the functions' networks.
  var clients: [ClientNamespace] = []
  private var peers: [PeerRunner] = []
  private var leftOut: [(name: String, reason: String)] = []
  let progress = BenchProgress()

  private static let source: [UInt8] = [10, 2, 15, 200]

  init(_ settings: Settings) throws {
    self.settings = settings
    host = try DemoHost()
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
  }

  // MARK: What is asked for

  /// Every experiment.
  /// - Parameter sequence: how many functions of the longer ones.
  mutating func runAll(sequence: Int) async throws -> JSONValue {
    let packages = try build()
    let list = try await lists(packages)
    let forms = try await begin(packages)
    let idle = (daemon: host.residentBytes(host.daemonPID), hold: host.residentBytes(host.holdPID))
    var report = try await instantiations(forms, packages)
    report.merge(list) { $1 }
    report["firstInstruction"] = try await firstInstructions()
    let (times, ended) = try await manyFunctions(sequence, idle)
    report["sequence"] = times.sequence
    report["terminate"] = ended
    report["daemon"] = times.daemon
    return .object(report)
  }

  /// Instantiations of forms and peers in turn.
  mutating func runInstantiations() async throws -> JSONValue {
    let packages = try build()
    var report = try await instantiations(try await begin(packages), packages)
    if settings.flavours?.contains("tinyx") ?? true {
      report["firstInstruction"] = try await firstInstructions()
    }
    return .object(report)
  }

  /// The draft's five quantities of every form that this host runs.
  /// - Parameter limit: for all of it; where it runs short, there are fewer rounds.
  mutating func runDraft(
    trafficRounds: Int, within limit: Duration?
  ) async throws -> (JSONValue, [FormFigures]) {
    let end = limit.map { ContinuousClock.now + $0 }
    let packages = try build()
    let forms = try await begin(packages)
    let plans = forms.map { form in
      DraftPlan(form, instantiations: rounds(of: form), trafficRounds: trafficRounds)
    }
    progress.expect(plans.reduce(0) { $0 + $1.seconds })
    guard let vantage else { return (.null, []) }
    var all: [FormFigures] = []
    for (index, plan) in plans.enumerated() {
      let form = plan.form
      let share = end.map { plan.share(of: $0 - .now, before: plans[(index + 1)...]) }
      let address: [UInt8] = [10, 2, 14, UInt8(1 + index)]
      let text = address.map(String.init).joined(separator: ".")
      progress.began("\(form.flavour): the function")
      let start = ContinuousClock.now
      try await functions.instantiate(
        "traffic", "responder", as: form.flavour, [("network", "inside", text)])
      progress.did(BenchProgress.start(form))
      let progress = progress
      all.append(
        try await functions.figures(
          of: form, "responder", running: "traffic", at: address, from: vantage,
          probes: addresses(rounds(of: form), from: UInt8(index)),
          plan.effort(within: share.map { $0 - (.now - start) }),
          imageBytes: packages.imageBytes["responder"]?[form.flavour] ?? 0
        ) { step, leftOut in
          switch step {
          case .instantiation:
            progress.began("\(form.flavour): instantiations")
            progress.did(Double(1 + leftOut) * BenchProgress.instantiation(form))
          case .traffic:
            progress.began("\(form.flavour): traffic")
            progress.did(Double(1 + leftOut) * BenchProgress.traffic)
          }
        })
      try await functions.remove(try await functions.daemon.resolve(.vnf, "traffic"))
    }
    progress.end()
    return (
      [
        "host": host.description, "flavours": .array(all.map { .object($0.wholeJSON) }),
        "leftOut": Self.json(leftOut),
      ], all
    )
  }

  mutating func cleanUp() async {
    progress.end()
    for client in clients { client.remove() }
    clients = []
    for peer in peers { await peer.end() }
    peers = []
    client?.remove()
    client = nil
    if host.daemonPID > 0 { await functions.removeAll() }
    functions.daemon.client.close()
    host.cleanUp()
  }

  // MARK: The beginning

  func build() throws -> ExamplePackages {
    Console.current.note("building the package")
    return try ExamplePackages(["responder"], from: settings.examples, to: host.state)
  }

  var vantage: Functions.Vantage? {
    client.map { .init(client: $0, source: Self.source, network: "inside", group: host.group) }
  }

  private func rounds(of form: Form) -> Int {
    form.isSlow ? settings.slowCount : settings.count
  }

  /// So many addresses of functions on the benchmark's network.
  func addresses(_ count: Int, from block: UInt8 = 0) -> [[UInt8]] {
    (0..<count).map { [10, 2, 8 + block, UInt8(1 + $0 % 200)] }
  }

  /// Starts the daemon with everything that is made once.
  /// - Returns: the forms that are measured here.
  mutating func begin(_ packages: ExamplePackages) async throws -> [Form] {
    try await host.startDaemon()
    functions = Functions(Daemon(Client(.unixSocket(host.socket))))
    let daemon = functions.daemon
    _ = try await daemon.onboarded(
      try await daemon.upload(packages.path(of: "responder")), .seconds(30))
    let network = try await functions.network("inside", "10.2.0.0/20")
    // The fabric is made with its first port; from then on it is there.
    try await functions.instantiate(
      "warm", "responder", as: "container", [("network", "inside", "10.2.15.1")])
    client = try ClientNamespace(
      fabric: host.fabric, network: network, name: "mbench-inside", address: Self.source,
      prefixLength: 20)
    try await functions.remove(try await daemon.resolve(.vnf, "warm"))
    try await Task.sleep(for: .milliseconds(500))
    return try await forms(packages, of: "responder", settings.flavours)
  }

  /// The forms of a package that are asked for and that this host runs; which it does not, and why, is
  /// noted.
  mutating func forms(
    _ packages: ExamplePackages, of package: String, _ flavours: [String]?
  ) async throws -> [Form] {
    let runnable = try await functions.daemon.get("/martlet/v1/info")["technologies"].elements.map(
      \.text)
    var forms: [Form] = []
    for form in packages.forms(of: package)
    where flavours?.contains(form.flavour) ?? true {
      if runnable.contains(form.flavour) {
        forms.append(form)
      } else {
        leaveOut(form.flavour, "QEMU is not installed; `make setup` gets it")
      }
    }
    if let reason = packages.withoutMachines, flavours?.contains("tinyx") ?? true {
      leaveOut("tinyx", reason)
    }
    for name in flavours ?? []
    where !forms.contains(where: { $0.flavour == name })
      && !leftOut.contains(where: { $0.name == name })
    {
      leaveOut(name, "the package \(package) has no such flavour")
    }
    return forms
  }

  private mutating func leaveOut(_ name: String, _ reason: String) {
    leftOut.append((name, reason))
    Console.current.note("left out: \(name): \(reason)")
  }

  private static func json(_ leftOut: [(name: String, reason: String)]) -> JSONValue {
    .array(leftOut.map { ["name": .string($0.name), "reason": .string($0.reason)] })
  }

  /// The peers that are installed and work.
  private mutating func preparePeers(_ packages: ExamplePackages) async throws {
    let asked = settings.peers ?? Peer.allCases.filter { PeerRunner.find($0.program) != nil }
    guard !asked.isEmpty else { return }
    let folder = "\(host.state)/peers"
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: true)
    let archive = "\(folder)/responder.tar"
    do throws(NFVError) {
      _ = try Project().buildImage(
        "\(settings.examples)/responder/Files/responder.yaml", as: .container, to: archive)
    } catch {
      throw Failure(error)
    }
    let image = try PeerRunner.Image(archive: archive, in: folder)
    for peer in asked {
      do {
        peers.append(
          try await PeerRunner.prepared(peer, image, label: host.peerLabel, folder: folder))
      } catch  where !Task.isCancelled {
        leaveOut(peer.rawValue, (error as? Failure)?.message ?? "\(error)")
      }
    }
  }

  // MARK: Experiments

  private enum Subject: Sendable {
    case form(Form)
    case peer(PeerRunner)

    var name: String {
      switch self {
      case .form(let form): form.flavour
      case .peer(let runner): runner.peer.rawValue
      }
    }

    var seconds: Double {
      switch self {
      case .form(let form): BenchProgress.instantiation(form)
      case .peer: BenchProgress.peer
      }
    }
  }

  private mutating func instantiations(
    _ forms: [Form], _ packages: ExamplePackages
  ) async throws -> [String: JSONValue] {
    try await preparePeers(packages)
    guard let vantage else { return [:] }
    let subjects =
      forms.map { (Subject.form($0), count: rounds(of: $0)) }
      + peers.map { (Subject.peer($0), count: settings.count) }
    var schedule = Schedule(seed: settings.seed)
    Console.current.note("in random order; --seed \(settings.seed) gives the same one")
    progress.expect(subjects.reduce(0) { $0 + Double($1.count) * $1.0.seconds })
    var all: [String: [Functions.InstantiationTimes]] = [:]
    var order: [String] = []
    for (round, subject) in schedule.order(subjects).enumerated() {
      progress.began("instantiations: \(subject.name)")
      let times: Functions.InstantiationTimes
      switch subject {
      case .form(let form):
        times = try await functions.instantiationTimes(
          of: "responder", form, at: addresses(200)[round % 200], from: vantage)
      case .peer(let runner):
        guard !leftOut.contains(where: { $0.name == subject.name }) else { continue }
        do {
          times = try await runner.instantiationTimes(UInt8(10 + round % 200))
        } catch  where !Task.isCancelled {
          leaveOut(subject.name, (error as? Failure)?.message ?? "\(error)")
          continue
        }
      }
      all[subject.name, default: []].append(times)
      order.append(subject.name)
      try await Task.sleep(for: .milliseconds(50))
      progress.did(subject.seconds)
    }
    progress.end()
    let accelerators = try await functions.daemon.get("/martlet/v1/info")["accelerators"]
    func entries(_ names: [String]) -> JSONValue {
      .array(
        names.compactMap { name in
          all[name].map { Self.entry(name, accelerators[name].string ?? "none", $0) }
        })
    }
    return [
      "host": host.description, "seed": .integer(Int64(bitPattern: settings.seed)),
      "order": .array(order.map { .string($0) }),
      "instantiate": entries(forms.map(\.flavour)),
      "peers": entries(peers.map(\.peer.rawValue)), "leftOut": Self.json(leftOut),
    ]
  }

  private static func entry(
    _ name: String, _ accelerator: String, _ times: [Functions.InstantiationTimes]
  ) -> JSONValue {
    var entry: [String: JSONValue] = [
      "flavour": .string(name), "accelerator": .string(accelerator),
      "count": .integer(Int64(times.count)), "rstMs": Distribution(times.map(\.rst)).json,
      "runningMs": Distribution(times.map(\.running)).json,
      "readyMs": Distribution(times.map(\.ready)).json,
    ]
    if let form = Form.all.first(where: { $0.flavour == name }) {
      entry["draftRstMs"] = .number(form.draft.instantiationMilliseconds)
    } else if name == "docker", let form = Form.all.first {
      entry["draftRstMs"] = .number(form.draft.instantiationMilliseconds)
    }
    let terminations = times.compactMap(\.terminate)
    if !terminations.isEmpty { entry["terminateMs"] = Distribution(terminations).json }
    let phases = Set(times.flatMap(\.phases.keys))
    if !phases.isEmpty {
      entry["phasesUs"] = .object(
        Dictionary(
          uniqueKeysWithValues: phases.map { phase in
            (phase, Distribution(times.compactMap { $0.phases[phase] }).json)
          }))
    }
    return .object(entry)
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
    progress.expect(Double(count) * Self.secondsOfOne)
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
      progress.began("one after another")
      progress.did(Self.secondsOfOne)
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

  private static let secondsOfOne = 0.02
  private static let listed = 1000

  /// A page of 100 of 1,000 instantiated instances on the simulated host.
  private mutating func lists(_ packages: ExamplePackages) async throws -> [String: JSONValue] {
    try await host.startDaemon(["--host", "simulated"], state: "simulated")
    let daemon = functions.daemon
    _ = try await daemon.onboarded(
      try await daemon.upload(packages.path(of: "responder")), .seconds(30))
    _ = try await functions.network("inside", "10.2.0.0/20")
    progress.expect(Double(Self.listed) * Self.secondsOfOne)
    let functions = functions
    let progress = progress
    // A few at once: they share the daemon's commits.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for index in 0..<Self.listed {
        if index >= 16 {
          try await group.next()
          progress.began("instances to be listed")
          progress.did(Self.secondsOfOne)
        }
        let address = "10.2.\(index / 200).\(index % 200 + 1)"
        group.addTask {
          try await functions.instantiate(
            "list-\(index)", "responder", as: "container", [("network", "inside", address)])
        }
      }
      try await group.waitForAll()
    }
    progress.end()
    var page = 0
    var plain: [Double] = []
    var whole: [Double] = []
    for _ in 0..<300 {
      // Until the last octet is there: what a client makes of it is the client's time.
      let start = ContinuousClock.now
      let answer = try await daemon.client.send(HTTPRequest(.get, "/vnflcm/v2/vnf_instances"))
      let answered = ContinuousClock.now
      _ = try await daemon.client.send(HTTPRequest(.get, "/vnflcm/v2/vnf_instances?all_fields"))
      whole.append((ContinuousClock.now - answered).milliseconds)
      plain.append((answered - start).milliseconds)
      page = try JSONValue(parsing: answer.body).elements.count
    }
    host.endDaemon(SIGTERM)
    daemon.client.close()
    return [
      "listP99Ms": .number(Distribution(plain).p99),
      "list": [
        "instances": .integer(Int64(Self.listed)), "page": .integer(Int64(page)),
        "ms": Distribution(plain).json, "allFieldsMs": Distribution(whole).json,
      ],
    ]
  }
}

/// What is measured of one form for the draft's tables, and how the time for it is divided.
struct DraftPlan: Sendable {
  var form: Form
  private var trafficRounds: Int
  // About how many seconds each part takes.
  private var instantiations, traffic: Double

  init(_ form: Form, instantiations: Int, trafficRounds: Int) {
    self.form = form
    self.trafficRounds = trafficRounds
    self.instantiations = Double(instantiations) * BenchProgress.instantiation(form)
    traffic = Double(trafficRounds) * BenchProgress.traffic
  }

  var seconds: Double { BenchProgress.start(form) + instantiations + traffic }

  /// What falls to this form of the time that is left for it and those after it.
  func share(of rest: Duration, before others: ArraySlice<DraftPlan>) -> Duration {
    rest * (seconds / others.reduce(seconds) { $0 + $1.seconds })
  }

  /// - Parameter limit: for what follows its function's start.
  func effort(within limit: Duration?) -> FormEffort {
    FormEffort(
      trafficRounds: trafficRounds, trafficSeconds: 2,
      limits: limit.map { limit in
        let part = instantiations / (instantiations + traffic)
        return (limit * part, limit * (1 - part))
      })
  }
}

extension Distribution {
  var json: JSONValue {
    [
      "count": .integer(Int64(count)), "min": .number(minimum), "p50": .number(p50),
      "p95": .number(p95), "p99": .number(p99), "max": .number(maximum),
    ]
  }
}

extension FormFigures {
  /// The demo's keys, and how far the measurements lie apart.
  fileprivate var wholeJSON: [String: JSONValue] {
    return json.merging([
      "spread": [
        "instantiateRstMs": rst.json, "instantiateRunningMs": running.json,
        "instantiateReadyMs": ready.json, "txGbps": tx.json, "rxGbps": rx.json,
        "rttUs": roundTrip.json,
      ]
    ]) { $1 }
  }
}
