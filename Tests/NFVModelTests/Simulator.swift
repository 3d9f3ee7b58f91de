import NFVModel

/// SplitMix64: the same seed gives the same run, on every machine.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }

  mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }
}

/// A run of the core against a host that exists only here, with faults and crashes between any two
/// events. Everything follows from the seed.
struct Simulation {
  struct Violation: Error, CustomStringConvertible {
    var description: String
  }

  /// What the simulated host has.
  struct World {
    var workloads: [WorkloadID: ObservedWorkload.Phase] = [:]
    var active: Set<WorkloadID> = []
    var networks: [NetworkID: TenantID] = [:]
    var volumes: Set<VnfcID> = []
    var ready: Set<WorkloadID> = []
    /// Of the document that each was told last.
    var generations: [WorkloadID: Int] = [:]
    /// Of the document that each refused last.
    var refused: [WorkloadID: Int] = [:]
    /// Every identity that ever had a name on this host.
    var used: Set<WorkloadID> = []
  }

  private(set) var trace: [String] = []
  private let isTraced: Bool
  private var generator: SeededGenerator
  private let store = MemoryStore(id: "sim")
  private var core: Core
  private var world = World()
  private var inFlight: [Action] = []
  private var exits: [WorkloadExit] = []
  private var now = Timestamp(microseconds: 1_000_000)
  private var token: UInt64 = 0
  private var tokens: [UInt64: Request] = [:]
  private var acknowledged: Set<VnfInstanceID> = []
  /// The last number that was kept with an instance, and acknowledged.
  private var noted: [VnfInstanceID: Int64] = [:]
  private var faults = true
  private let seed: UInt64
  private let identifiers: IdentifierSource

  init(seed: UInt64, isTraced: Bool = false) throws {
    self.isTraced = isTraced
    self.seed = seed
    generator = SeededGenerator(seed: seed)
    let counter = Counter(seed: seed)
    identifiers = IdentifierSource { counter.next() }
    core = Core(try store.load(), identifiers: identifiers)
  }

  /// Runs `steps` random events, then lets everything come to rest, ends it, and looks for leftovers.
  mutating func run(steps: Int) throws {
    try observe()
    try setUp()
    for _ in 0..<steps { try randomStep() }
    faults = false
    try comeToRest()
    try checkAtRest()
    try tearDown()
  }

  private mutating func record(_ line: @autoclosure () -> String) {
    if isTraced { trace.append(line()) }
  }

  // MARK: Events

  private mutating func setUp() throws {
    try request(.createPackage(userDefinedData: [:]))
    guard let package = core.state.packages.keys.first else {
      return try setUp()
    }
    try request(.onboardPackage(package, Self.content))
    try request(.createNetwork(NetworkRequest(name: "outside")))
    if core.state.packages[package]?.content == nil || core.state.networks.isEmpty {
      // A crash took the answers; the requests were not durable.
      for id in core.state.packages.keys.sorted() where core.state.packages[id]?.content == nil {
        try request(.deletePackage(id))
      }
      if core.state.packages.values.contains(where: { $0.content != nil }) {
        return try request(.createNetwork(NetworkRequest(name: "outside")))
      }
      try setUp()
    }
  }

  private mutating func randomStep() throws {
    now = now + .milliseconds(Int.random(in: 0...40, using: &generator))
    switch Int.random(in: 0..<100, using: &generator) {
    case 0..<22: try request(randomRequest())
    case 22..<75: try completeOne()
    case 75..<83: try killOne()
    case 83..<88: try deliverExit()
    case 88..<91: try crash()
    default: try tick()
    }
  }

  private mutating func randomRequest() -> Request {
    let instances = core.state.instances.keys.sorted()
    let operations = core.state.openOperations.keys.sorted()
    guard let instance = instances.randomElement(using: &generator), instances.count > 1 else {
      return .createInstance(CreateVnfRequest(vnfd: "sim"))
    }
    switch Int.random(in: 0..<17, using: &generator) {
    case 0: return .createInstance(CreateVnfRequest(vnfd: "sim"))
    case 1...4:
      return .instantiate(
        instance, InstantiateVnfRequest(connections: ["out": .init(network: "outside")]))
    case 5: return .scale(instance, ScaleVnfRequest(direction: .out, aspect: "width"))
    case 6: return .scale(instance, ScaleVnfRequest(direction: .in, aspect: "width"))
    case 7: return .heal(instance, HealVnfRequest())
    case 8: return .operate(instance, OperateVnfRequest(state: .stopped))
    case 9: return .operate(instance, OperateVnfRequest(state: .started))
    case 10: return .terminate(instance, TerminateVnfRequest())
    case 11: return .deleteInstance(instance)
    case 12:
      return .modifyInfo(
        instance, ModifyVnfInfoRequest(patch: ["metadata": .object(["n": .integer(Int64(token))])]))
    case 13, 14:
      // A document with an odd number is refused by some.
      return .modifyInfo(
        instance,
        ModifyVnfInfoRequest(
          patch: ["vnfConfigurableProperties": .object(["q": .integer(Int64(token))])]))
    default:
      guard let operation = operations.randomElement(using: &generator) else {
        return .terminate(instance, TerminateVnfRequest())
      }
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: return .retry(operation)
      case 1: return .rollback(operation)
      default: return .fail(operation)
      }
    }
  }

  private mutating func request(_ request: Request) throws {
    token += 1
    tokens[token] = request
    try step(.request(request, tenant: .default, actor: "sim", token: token))
  }

  private mutating func tick() throws {
    if let due = core.wakeAt { now = max(now, due) }
    try step(.tick)
  }

  private mutating func killOne() throws {
    guard faults else { return }
    let running = world.workloads.filter { $0.value == .running }.keys.sorted()
    guard let victim = running.randomElement(using: &generator) else { return }
    world.workloads[victim] = .exited(.killed(signal: 9))
    exits.append(WorkloadExit(id: victim, status: .killed(signal: 9)))
    record("kill \(victim)")
  }

  private mutating func deliverExit() throws {
    guard !exits.isEmpty else { return }
    try step(.workloadExited(exits.removeFirst()))
  }

  /// The daemon dies: what was under way may or may not have happened.
  private mutating func crash() throws {
    record("crash")
    for action in inFlight where generator.chance(50) {
      _ = try apply(action, fails: generator.chance(20))
    }
    inFlight = []
    exits = []
    // A deletion that was not answered may have been done.
    for case .deleteInstance(let id) in tokens.values { acknowledged.remove(id) }
    tokens = [:]
    core = Core(try store.load(), identifiers: identifiers)
    try observe()
  }

  private mutating func observe() throws {
    let workloads = world.workloads.map {
      ObservedWorkload(id: $0.key, phase: $0.value, generation: world.generations[$0.key])
    }
    .sorted { $0.id < $1.id }
    let links = workloads.map {
      ObservedNetworks.Link(workload: $0.id, port: "p", isActive: world.active.contains($0.id))
    }
    try step(
      .observed(
        HostObservation(
          workloads: workloads, networks: .init(networks: world.networks, links: links),
          volumes: world.volumes)))
  }

  private mutating func completeOne() throws {
    guard !inFlight.isEmpty else { return }
    let action = inFlight.remove(at: Int.random(in: 0..<inFlight.count, using: &generator))
    let error = try apply(action, fails: faults && generator.chance(8))
    let started = now
    now = now + .microseconds(Int.random(in: 10...5000, using: &generator))
    try step(
      .actionEnded(ActionResult(action: action, error: error, started: started, ended: now)))
  }

  // MARK: The loop, as the shell has it

  private mutating func step(_ event: Event) throws {
    let moment = now.microseconds
    if case .observed(let observation) = event {
      // A dictionary's order is not the seed's.
      record("\(moment) observed \(observation.workloads)")
    } else {
      record("\(moment) \(event)")
    }
    let outcome = core.step(event, at: now)
    if faults, generator.chance(1) {
      // Died before the commit: nothing of the step ever was.
      return try crash()
    }
    _ = try store.commit(outcome.changes)
    if faults, generator.chance(1) { return try crash() }
    for (token, result) in outcome.answers {
      try note(tokens.removeValue(forKey: token), result)
    }
    for action in outcome.actions {
      record("-> \(action)")
      // A workload may be retired while its readiness is awaited.
      let isRun = if case .awaitReady = action { true } else { false }
      if inFlight.contains(where: { other in
        if case .awaitReady = other, !isRun { return false }
        return other.subject == action.subject
      }) {
        throw Violation(description: "two actions at once on \(action.subject)")
      }
      inFlight.append(action)
    }
    try check()
  }

  private static func number(_ metadata: JSONValue?) -> Int64? {
    guard case .object(let members)? = metadata, case .integer(let number)? = members["n"] else {
      return nil
    }
    return number
  }

  private mutating func note(
    _ request: Request?, _ result: Result<Response, NFVError>
  ) throws {
    record("<- \(result)")
    switch (request, result) {
    case (.createInstance?, .success(.instance(let instance))): acknowledged.insert(instance.id)
    case (.deleteInstance(let id)?, .success):
      acknowledged.remove(id)
      noted[id] = nil
    case (.modifyInfo(let id, let request)?, .success(.operation(let operation))):
      guard let number = Self.number(request.patch["metadata"]) else { break }
      guard operation.state == .completed else {
        throw Violation(description: "a MODIFY_INFO was answered as \(operation.state)")
      }
      noted[id] = number
    default: break
    }
  }

  /// What an action does to the host; a failing one does its part or nothing.
  private mutating func apply(_ action: Action, fails: Bool) throws -> NFVError? {
    let half = fails && generator.chance(50)
    let error = NFVError(.failed, "injected")
    if fails, !half { return error }
    switch action {
    case .ensureNetwork(let network): world.networks[network.id] = network.tenant
    case .removeNetwork(let network, _):
      if world.workloads.keys.contains(where: { id in
        core.state.vnfcs[id.vnfc]?.ports.contains { $0.network == network } ?? false
      }) {
        throw Violation(description: "removed the network \(network) under a workload")
      }
      world.networks[network] = nil
    case .ensureImage: break
    case .prepareAttachment(let id, let isActive):
      guard world.used.insert(id).inserted else {
        throw Violation(description: "\(id) was used twice")
      }
      world.workloads[id] = .prepared
      world.generations[id] = document(of: id).generation
      if core.state.vnfcs[id.vnfc]?.vdu == "front" {
        world.volumes.insert(id.vnfc)
        guard !world.workloads.contains(where: { $0.key.vnfc == id.vnfc && $0.value == .running })
        else { throw Violation(description: "\(id) comes while another has its volumes") }
      }
      if isActive {
        guard core.state.vnfcs[id.vnfc]?.vdu != "back" else {
          throw Violation(description: "\(id) forwards before it is ready")
        }
        world.active.insert(id)
      }
    case .startWorkload(let id):
      guard world.workloads[id] == .prepared else {
        throw Violation(description: "started \(id), which is not prepared")
      }
      world.workloads[id] = .running
    case .awaitReady(let id):
      guard world.workloads[id] == .running else { return error }
      world.ready.insert(id)
    case .activateAttachment(let id):
      guard world.workloads[id] != nil else { return error }
      guard world.ready.contains(id) else {
        throw Violation(description: "activated \(id), which is not ready")
      }
      world.active.insert(id)
    case .configureWorkload(let id, _):
      guard world.workloads[id] == .running else { return error }
      let (generation, parameters) = document(of: id)
      if case .integer(let number)? = parameters["q"], number % 2 == 1,
        id.vnfc.rawValue.utf8.first.map({ $0 % 2 == 1 }) == true
      {
        world.refused[id] = generation
        return NFVError(.unprocessable, "parameters.q: it is odd")
      }
      world.generations[id] = generation
    case .retireWorkload(let id, _):
      if world.workloads[id] != nil { world.workloads[id] = .exited(.killed(signal: 9)) }
      world.active.remove(id)
    case .releaseAttachment(let id):
      if world.workloads[id] == .running {
        throw Violation(description: "released \(id), which runs")
      }
      world.workloads[id] = nil
      world.active.remove(id)
    case .removeVolumes(let vnfc):
      guard core.state.vnfcs[vnfc] == nil,
        !world.workloads.keys.contains(where: { $0.vnfc == vnfc })
      else { throw Violation(description: "removed the volumes of \(vnfc), which is there") }
      world.volumes.remove(vnfc)
    }
    return fails ? error : nil
  }

  /// What a function would be told now.
  private func document(of id: WorkloadID) -> (generation: Int, parameters: [String: JSONValue]) {
    let instance = core.state.vnfcs[id.vnfc].flatMap { core.state.instances[$0.instance] }
    let wanted = instance?.target ?? instance?.settled
    return (wanted?.generation ?? 0, wanted?.parameters ?? [:])
  }

  // MARK: What must hold

  private func check() throws {
    for instance in core.state.instances.values {
      let open = core.state.openOperations.values.filter { $0.instance == instance.id }
      guard open.count <= 1, open.first?.id == instance.openOperation,
        (instance.target != nil) == (instance.openOperation != nil)
      else {
        throw Violation(description: "\(instance.id): target and open operation disagree")
      }
    }
    var taken: Set<String> = []
    for vnfc in core.state.vnfcs.values {
      for port in vnfc.ports {
        for address in port.addresses where !taken.insert("\(port.network) \(address)").inserted {
          throw Violation(description: "\(address) is given twice on \(port.network)")
        }
      }
    }
    for id in acknowledged where core.state.instances[id] == nil {
      throw Violation(description: "the acknowledged instance \(id) is lost")
    }
    for (id, number) in noted {
      guard let instance = core.state.instances[id] else { continue }
      // Tokens rise; a later one may have been committed before a crash took its answer.
      guard Self.number(.object(instance.info.metadata)) ?? 0 >= number else {
        throw Violation(description: "the acknowledged metadata \(number) of \(id) is lost")
      }
    }
  }

  private mutating func comeToRest() throws {
    for _ in 0..<5000 {
      if !inFlight.isEmpty {
        try completeOne()
      } else if !exits.isEmpty {
        try deliverExit()
      } else if let operation = core.state.openOperations.values
        .filter({ $0.state == .failedTemp }).map(\.id).min()
      {
        let requests: [Request] = [.retry(operation), .rollback(operation), .fail(operation)]
        try request(requests.randomElement(using: &generator)!)
      } else if core.wakeAt != nil {
        try tick()
      } else if let stuck = core.state.openOperations.values.first {
        throw Violation(
          description: "\(stuck.operation) is \(stuck.state) and nothing is under way; "
            + "\(core.state.vnfcs(of: stuck.instance))")
      } else {
        return
      }
    }
    throw Violation(description: "no rest after 5,000 events")
  }

  /// What is settled runs, exactly once, and takes traffic; nothing else is there.
  private func checkAtRest() throws {
    var wanted: Set<VnfcID> = []
    for instance in core.state.instances.values where instance.settled.operational == .started {
      for vnfc in instance.settled.vnfcs.keys
      where core.state.vnfcs[vnfc]?.restart?.isExhausted != true {
        wanted.insert(vnfc)
      }
    }
    let running = world.workloads.filter { $0.value == .running }.keys.map(\.vnfc)
    guard Set(running) == wanted, running.count == wanted.count else {
      throw Violation(description: "at rest \(running.sorted()) run, wanted \(wanted.sorted())")
    }
    let kept = Set(core.state.vnfcs.keys)
    guard world.volumes.isSubset(of: kept),
      wanted.filter({ core.state.vnfcs[$0]?.vdu == "front" }).isSubset(of: world.volumes)
    else {
      throw Violation(description: "at rest there are the volumes of \(world.volumes.sorted())")
    }
    for (id, phase) in world.workloads {
      guard phase == .running, world.active.contains(id), core.state.serving(id.vnfc) == id else {
        throw Violation(description: "at rest \(id) is \(phase) and does not serve")
      }
      let wanted = document(of: id).generation
      guard world.generations[id] == wanted || world.refused[id] == wanted else {
        throw Violation(
          description:
            "at rest \(id) has the document \(world.generations[id] ?? -1), not \(wanted)")
      }
    }
  }

  private mutating func tearDown() throws {
    for instance in core.state.instances.keys.sorted() {
      if core.state.instances[instance]?.settled.isInstantiated == true {
        try request(.terminate(instance, TerminateVnfRequest()))
        try comeToRest()
      }
      try request(.deleteInstance(instance))
    }
    try comeToRest()
    for network in core.state.networks.keys.sorted() { try request(.deleteNetwork(network)) }
    try comeToRest()
    guard world.workloads.isEmpty, world.networks.isEmpty, world.volumes.isEmpty,
      core.state.vnfcs.isEmpty,
      core.state.instances.isEmpty, core.state.networks.isEmpty
    else {
      throw Violation(
        description:
          "left over: \(world.workloads), \(world.networks), \(core.state.vnfcs.keys.sorted()), "
          + "\(core.state.networks.values.map(\.name))")
    }
  }

  // MARK: The package

  static let content = VnfPackage.Content(
    descriptor: VnfDescriptor(
      id: "sim", provider: "p", productName: "n", softwareVersion: "1", descriptorVersion: "1",
      flavours: [
        DeploymentFlavour(
          id: "container",
          vdus: [
            Vdu(
              id: "front", name: "front", technology: .container, imagePath: "a",
              cpds: [VduCpd(id: "out"), VduCpd(id: "in", virtualLink: "middle")],
              storages: [VirtualBlockStorage(id: "disk", sizeBytes: 1)]),
            Vdu(
              id: "back", name: "back", technology: .container, imagePath: "a",
              cpds: [VduCpd(id: "in", virtualLink: "middle")], maximumInstances: 3,
              forwards: true),
          ],
          virtualLinks: [VirtualLinkDescriptor(id: "middle")],
          externalCpds: [ExternalCpd(id: "out", exposes: .vduCpd(vdu: "front", cpd: "out"))],
          scalingAspects: [
            ScalingAspect(id: "width", name: "width", maximumLevel: 2, deltas: ["back": [1]])
          ])
      ], modifiable: .init(configurableProperties: ["q": .init(default: .integer(0))])),
    digest: "sha256:0", size: 0, images: ["a": "sha256:1"], templates: [:])
}

/// A counter that gives identifiers which look random but follow from the seed.
private final class Counter: @unchecked Sendable {
  // SAFETY (@unchecked Sendable): a simulation runs on one thread.
  private var generator: SeededGenerator

  init(seed: UInt64) { generator = SeededGenerator(seed: seed ^ 0x5DEE_CE66) }

  func next() -> (UInt64, UInt64) { (generator.next(), generator.next()) }
}
