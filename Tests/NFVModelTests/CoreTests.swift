import Testing

@testable import NFVModel

/// What the core refuses, and with which words; what it gives is the simulator's.
@Suite struct CoreTests {
  @Test("What a program did not say is no cause")
  func errorWithoutCause() {
    let error = NFVError(.failed, "QEMU ended", cause: "")
    #expect(error.cause == nil && error.description == "QEMU ended")
    #expect(NFVError(.failed, "it ended", cause: "why").description == "it ended: why")
  }

  /// A core on a host that does everything at once.
  struct Fixture {
    let store = MemoryStore(id: "s")
    var core: Core
    let now = Timestamp(microseconds: 1)

    init() throws {
      core = Core(try store.load(), identifiers: .system)
      _ = core.step(.observed(HostObservation()), at: now)
    }

    /// What the host has yet to do.
    var undone: [Action] = []

    /// - Parameter isUndone: what the host does not do for now.
    mutating func ask(
      _ request: Request, except isUndone: (Action) -> Bool = { _ in false }
    ) throws(NFVError) -> Response {
      let outcome = core.step(.request(request, tenant: .default, actor: "t", token: 1), at: now)
      _ = try store.commit(outcome.changes)
      try perform(outcome.actions, except: isUndone)
      return try outcome.answers[0].1.get()
    }

    mutating func perform(
      _ actions: [Action], except isUndone: (Action) -> Bool = { _ in false }
    ) throws(NFVError) {
      var actions = actions
      while !actions.isEmpty {
        let action = actions.removeFirst()
        if isUndone(action) {
          undone.append(action)
          continue
        }
        let result = ActionResult(action: action, started: now, ended: now)
        let next = core.step(.actionEnded(result), at: now)
        _ = try store.commit(next.changes)
        actions += next.actions
      }
    }

    mutating func instance(
      of content: VnfPackage.Content = Simulation.content
    ) throws -> VnfInstanceID {
      guard case .package(let package) = try ask(.createPackage(userDefinedData: [:])) else {
        fatalError("no package")
      }
      _ = try ask(.onboardPackage(package.id, content))
      _ = try ask(.createNetwork(NetworkRequest(name: "outside")))
      guard
        case .instance(let instance) = try ask(
          .createInstance(CreateVnfRequest(vnfd: "sim", name: "one")))
      else { fatalError("no instance") }
      return instance.id
    }
  }

  let connected = InstantiateVnfRequest(connections: ["out": .init(network: "outside")])

  func refusal(
    _ fixture: inout Fixture, _ request: Request
  ) -> NFVError? {
    do throws(NFVError) {
      _ = try fixture.ask(request)
      return nil
    } catch {
      return error
    }
  }

  /// The host may have lost rules and routes while nobody looked.
  @Test func uplinksAreMendedAfterARestart() throws {
    var fixture = try Fixture()
    _ = try fixture.ask(.createNetwork(NetworkRequest(name: "inside")))
    guard
      case .network(let network) = try fixture.ask(
        .createNetwork(NetworkRequest(name: "wide", uplink: .nat)))
    else { fatalError("no network") }
    var core = Core(try fixture.store.load(), identifiers: .system)
    var observation = HostObservation()
    observation.networks.networks = [network.id: .default]
    let outcome = core.step(.observed(observation), at: fixture.now)
    #expect(outcome.actions == [.ensureNetwork(network)])
  }

  /// A descriptor of one VDU, of which there are so many at first and as many more by each step.
  func many(_ initial: Int, more: Int = 0, id: String = "sim") -> VnfPackage.Content {
    let vdu = Vdu(
      id: "v", name: "v", technology: .container, imagePath: "a", cpds: [VduCpd(id: "out")],
      initialInstances: initial, maximumInstances: 100_000)
    let flavour = DeploymentFlavour(
      id: "container", vdus: [vdu],
      externalCpds: [ExternalCpd(id: "out", exposes: .vduCpd(vdu: "v", cpd: "out"))],
      scalingAspects: [
        ScalingAspect(id: "width", name: "width", maximumLevel: 100_000, deltas: ["v": [more]])
      ])
    return VnfPackage.Content(
      descriptor: VnfDescriptor(
        id: id, provider: "p", productName: "n", softwareVersion: "1", descriptorVersion: "1",
        flavours: [flavour]),
      digest: "sha256:0", size: 0, images: ["a": "sha256:1"], templates: [:])
  }

  /// With the request, before anything is begun.
  @Test func valuesThatTheDescriptorDoesNotAllowAreRefused() throws {
    let small = ValueSchema(.integer, [.atMost(5)])
    var content = many(1)
    content.descriptor.parameters = ["p": .init(default: .integer(0), schema: small)]
    content.descriptor.modifiable.configurableProperties = [
      "q": .init(default: .integer(0), schema: small)
    ]
    var fixture = try Fixture()
    let id = try fixture.instance(of: content)
    var request = connected
    for name in ["p", "q"] {
      request.parameters = [name: .integer(6)]
      let refused = refusal(&fixture, .instantiate(id, request))
      #expect(refused?.code == .unprocessable)
      #expect(refused?.message == "\(name) is 6; it has to be at most 5")
      let properties = ModifyVnfInfoRequest(
        patch: ["vnfConfigurableProperties": .object(["q": .integer(6)])])
      #expect(
        refusal(&fixture, .modifyInfo(id, properties))?.message == "q is 6; it has to be at most 5")
    }
    request.parameters = ["p": .integer(5), "q": .integer(5)]
    #expect(refusal(&fixture, .instantiate(id, request)) == nil)
  }

  @Test func parametersThatNobodyDeclaresAreRefused() throws {
    var content = many(1)
    content.descriptor.parameters = ["q": .init(default: .integer(0))]
    var fixture = try Fixture()
    let id = try fixture.instance(of: content)
    var request = connected
    request.parameters = ["q": .integer(1), "typo": .integer(2)]
    let refused = refusal(&fixture, .instantiate(id, request))
    #expect(refused?.code == .unprocessable)
    #expect(refused?.message.contains("no parameter typo; it has q") == true)
    // A descriptor without a data type for them takes what its functions know.
    var open = try Fixture()
    let other = try open.instance(of: many(1))
    #expect(refusal(&open, .instantiate(other, request)) == nil)
  }

  @Test func aVnfHasSoManyVnfcsAtMost() throws {
    var fixture = try Fixture()
    let id = try fixture.instance(of: many(1_001))
    let refused = refusal(&fixture, .instantiate(id, connected))
    #expect(refused?.code == .unprocessable && refused?.message.contains("1001 Vnfcs") == true)
    var other = try Fixture()
    let scaled = try other.instance(of: many(2, more: 998))
    _ = try other.ask(.instantiate(scaled, connected))
    let wide = ScaleVnfRequest(direction: .out, aspect: "width", steps: 2)
    #expect(refusal(&other, .scale(scaled, wide))?.message.contains("1998 Vnfcs") == true)
    #expect(other.core.state.vnfcs.count == 2)
  }

  @Test func aHostHasSoManyVnfcsAtMost() throws {
    let store = MemoryStore(id: "s")
    // One that does not know its host only notes what shall be.
    var core = Core(try store.load(), identifiers: .system)
    func ask(_ request: Request) throws(NFVError) -> Response {
      let event = Event.request(request, tenant: .default, actor: "t", token: 1)
      return try core.step(event, at: Timestamp(microseconds: 1)).answers[0].1.get()
    }
    guard case .package(let package) = try ask(.createPackage(userDefinedData: [:])) else {
      fatalError("no package")
    }
    _ = try ask(.onboardPackage(package.id, many(1_000)))
    _ = try ask(
      .createNetwork(
        NetworkRequest(name: "outside", subnets: [.init(prefix: IPPrefix("10.0.0.0/8")!)])))
    for index in 0...10 {
      guard
        case .instance(let instance) = try ask(
          .createInstance(CreateVnfRequest(vnfd: "sim", name: "\(index)")))
      else { fatalError("no instance") }
      do throws(NFVError) {
        _ = try ask(.instantiate(instance.id, connected))
        #expect(index < 10)
      } catch {
        #expect(index == 10 && error.code == .unprocessable, "\(index): \(error)")
        #expect(error.message.contains("10000 of at most 10000"))
      }
    }
    let ordinals = core.state.vnfcs.values.filter {
      $0.instance == core.state.vnfcs.values.first?.instance
    }
    .map(\.ordinal)
    #expect(ordinals.sorted() == Array(0..<1_000))
  }

  /// The lowest free ones, without looking at all of them for each.
  @Test(.timeLimit(.minutes(1))) func manyAddressesAreGivenSoon() throws {
    var fixture = try Fixture()
    guard
      case .network(let network) = try fixture.ask(
        .createNetwork(
          NetworkRequest(name: "wide", subnets: [.init(prefix: IPPrefix("10.0.0.0/8")!)])))
    else { fatalError("no network") }
    var allocation = AddressAllocation(fixture.core.state, new: [])
    let fixed = IPAddress("10.0.0.2")!
    #expect(try allocation.allocate(on: network, fixed: [fixed], for: "x")[0].address == fixed)
    let start = ContinuousClock.now
    var given: Set<IPAddress> = [fixed]
    for _ in 0..<20_000 {
      given.insert(try allocation.allocate(on: network, fixed: [], for: "x")[0].address)
    }
    #expect(given.count == 20_001)
    #expect(given.map(\.value).max()! - given.map(\.value).min()! == 20_000)
    #expect(ContinuousClock.now - start < .seconds(10))
  }

  @Test func wrongStatesAreConflicts() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    #expect(refusal(&fixture, .terminate(id, TerminateVnfRequest()))?.code == .conflict)
    #expect(refusal(&fixture, .heal(id, HealVnfRequest()))?.code == .conflict)
    _ = try fixture.ask(.instantiate(id, connected))
    #expect(fixture.core.state.instances[id]?.settled.isInstantiated == true)
    #expect(refusal(&fixture, .instantiate(id, connected))?.code == .conflict)
    #expect(refusal(&fixture, .deleteInstance(id))?.code == .conflict)
    #expect(
      refusal(&fixture, .operate(id, OperateVnfRequest(state: .started)))?.code == .conflict)
    let network = try #require(fixture.core.state.networks.values.first { $0.name == "outside" })
    #expect(refusal(&fixture, .deleteNetwork(network.id))?.message.contains("one") == true)
    let package = try #require(fixture.core.state.packages.keys.first)
    #expect(refusal(&fixture, .deletePackage(package))?.code == .conflict)
  }

  @Test func aNetworkIsDeletedWhenItsLastPortIsGone() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    _ = try fixture.ask(.instantiate(id, connected))
    let network = try #require(fixture.core.state.networks.values.first { $0.name == "outside" })
    _ = try fixture.ask(.terminate(id, TerminateVnfRequest())) { action in
      if case .releaseAttachment = action { true } else { false }
    }
    #expect(fixture.core.state.instances[id]?.settled.isInstantiated == false)
    let early = refusal(&fixture, .deleteNetwork(network.id))
    #expect(early?.code == .conflict)
    #expect(early?.message.contains("still has ports of one, which are being removed") == true)
    try fixture.perform(fixture.undone)
    #expect(refusal(&fixture, .deleteNetwork(network.id)) == nil)
  }

  /// A restored backup of the store does not know what was made since; that may be wanted.
  @Test(arguments: [true, false])
  func straysAreEndedUnlessTheStoreIsTooOld(sweeps: Bool) throws {
    var core = Core(
      try MemoryStore(id: "s").load(), identifiers: .system, sweepsStrays: sweeps)
    let stray = WorkloadID(store: "s", tenant: .default, vnfc: "unknown", incarnation: 1)
    var outcome = core.step(
      .observed(
        HostObservation(workloads: [ObservedWorkload(id: stray, phase: .running)])),
      at: Timestamp(microseconds: 1))
    outcome.actions += core.step(.tick, at: Timestamp(microseconds: 1 << 50)).actions
    let retired = outcome.actions.contains { (action: Action) in
      if case .retireWorkload(stray, _) = action { true } else { false }
    }
    #expect(retired == sweeps)
  }

  /// What a restored backup does not know runs on, with its addresses; they are given to nobody else
  /// until it is gone.
  @Test(arguments: [true, false])
  func addressesOfStraysAreNotGivenTwice(sweeps: Bool) throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    let network = try #require(fixture.core.state.networks.values.first { $0.name == "outside" })
    let addresses = network.subnets.compactMap { subnet in
      IPAddress(family: subnet.prefix.address.family, value: subnet.prefix.address.value + 1)
    }
    #expect(!addresses.isEmpty)
    fixture.core = Core(
      try fixture.store.load(), identifiers: .system, sweepsStrays: sweeps)
    let stray = WorkloadID(store: "s", tenant: .default, vnfc: "unknown", incarnation: 1)
    var observation = HostObservation(workloads: [.init(id: stray, phase: .running)])
    observation.networks.networks = [network.id: .default]
    observation.networks.links = [
      .init(
        workload: stray, port: "p", isActive: true, network: network.id, addresses: addresses)
    ]
    let outcome = fixture.core.step(.observed(observation), at: fixture.now)
    let fixed = InstantiateVnfRequest(
      connections: ["out": .init(network: "outside", addresses: addresses)])
    let error = refusal(&fixture, .instantiate(id, fixed))
    #expect(error?.code == .conflict && error?.message.contains("taken") == true)
    _ = try fixture.ask(.instantiate(id, connected))
    let given = fixture.core.state.vnfcs(of: id).flatMap { $0.ports.flatMap(\.addresses) }
    #expect(Set(given.map(\.address)).isDisjoint(with: addresses))
    guard sweeps else { return }
    // Once it was swept they are free.
    var actions = outcome.actions
    while !actions.isEmpty {
      let result = ActionResult(
        action: actions.removeFirst(), started: fixture.now, ended: fixture.now)
      actions += fixture.core.step(.actionEnded(result), at: fixture.now).actions
    }
    _ = try fixture.ask(.terminate(id, TerminateVnfRequest()))
    _ = try fixture.ask(.instantiate(id, fixed))
    let freed = fixture.core.state.vnfcs(of: id).flatMap { $0.ports.flatMap(\.addresses) }
    #expect(Set(freed.map(\.address)).isSuperset(of: addresses))
  }

  @Test func anAliasTellsWorkloadPortAndAddresses() throws {
    let id = WorkloadID(store: "s", tenant: "t", vnfc: "v", incarnation: 3)
    var port = Port(
      id: "p", cpd: "cp", externalCpd: nil, network: "n", mac: MACAddress(value: 2),
      addresses: [try #require(IPPrefix("10.0.0.1/24")), try #require(IPPrefix("fd00::1/64"))],
      mode: .host, mtu: 1500, interface: "eth0", routes: [])
    let alias = Attachment(port: port, workload: id).alias
    #expect(alias == "s/t/v/3/p/10.0.0.1,fd00::1")
    let link = try #require(ObservedNetworks.Link(alias: alias, isActive: true, network: "n"))
    #expect(link.workload == id && link.port == "p")
    #expect(link.addresses == port.addresses.map(\.address))
    port.addresses = (0..<40).map {
      IPPrefix(address: IPAddress(family: .v6, value: UInt128(0xfd00) << 112 | $0), length: 64)
    }
    #expect((230...255).contains(Attachment(port: port, workload: id).alias.utf8.count))
    port.addresses = []
    let bare = Attachment(port: port, workload: id).alias
    #expect(ObservedNetworks.Link(alias: bare, isActive: false, network: nil)?.addresses == [])
    for other in ["s/t/n", "s/t/v/0/p", "s/t/v/x/p", "", "s/t/v/3/p/10.0.0.1/more"] {
      #expect(ObservedNetworks.Link(alias: other, isActive: true, network: nil) == nil)
    }
  }

  /// A restored backup knows the Vnfc, and not that it was started again since: what runs is taken
  /// back, and what comes next has a name that was not there.
  @Test(arguments: [true, false])
  func aRunThatIsLaterThanTheStoreIsTakenBack(isRunning: Bool) throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    _ = try fixture.ask(.instantiate(id, connected))
    let vnfc = try #require(fixture.core.state.vnfcs(of: id).first)
    #expect(vnfc.incarnation == 1)
    let later = fixture.core.state.workload(vnfc, incarnation: 5)

    var core = Core(try fixture.store.load(), identifiers: .system, sweepsStrays: false)
    var observation = HostObservation()
    observation.networks.links = [.init(workload: later, port: "p", isActive: true)]
    if isRunning {
      observation.workloads = [ObservedWorkload(id: later, phase: .running)]
    } else {
      // The network of an earlier run, which is still going.
      observation.networks.networks = Dictionary(
        uniqueKeysWithValues: fixture.core.state.networks.keys.map { ($0, .default) })
    }
    let outcome = core.step(.observed(observation), at: fixture.now)
    _ = try fixture.store.commit(outcome.changes)
    let stored = try #require(try fixture.store.load().vnfcs.first { $0.id == vnfc.id })
    #expect(stored.incarnation >= 5)
    #expect(stored.ports == vnfc.ports)
    if isRunning {
      #expect(core.state.serving(vnfc.id) == later)
      for case .retireWorkload(let retired, _) in outcome.actions { #expect(retired != later) }
    }
    var actions = outcome.actions
    var prepared: [WorkloadID] = []
    while !actions.isEmpty {
      let action = actions.removeFirst()
      if case .prepareAttachment(let workload, _) = action { prepared.append(workload) }
      actions +=
        core.step(
          .actionEnded(ActionResult(action: action, started: fixture.now, ended: fixture.now)),
          at: fixture.now
        ).actions
    }
    let next = prepared.filter { $0.vnfc == vnfc.id }.map(\.incarnation)
    #expect(next == (isRunning ? [] : [6]))
  }

  @Test func whatIsNotThereIsNamed() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    #expect(
      refusal(&fixture, .instantiate(id, InstantiateVnfRequest()))?.message.contains("out") == true)
    #expect(
      refusal(
        &fixture,
        .instantiate(id, InstantiateVnfRequest(connections: ["out": .init(network: "gone")])))?
        .message.contains("gone") == true)
    #expect(
      refusal(&fixture, .instantiate(id, InstantiateVnfRequest(flavour: "gold")))?.message
        .contains("container") == true)
    #expect(
      refusal(&fixture, .createInstance(CreateVnfRequest(vnfd: "sim", name: "one")))?.code
        == .conflict)
    #expect(
      refusal(&fixture, .createInstance(CreateVnfRequest(vnfd: "other")))?.code == .unprocessable)
  }

  @Test func networksThatCannotBeAreRefused() throws {
    var fixture = try Fixture()
    let first = try #require(IPPrefix("10.5.0.0/16"))
    _ = try fixture.ask(.createNetwork(NetworkRequest(name: "a", subnets: [.init(prefix: first)])))
    let inside = try #require(IPPrefix("10.5.7.0/24"))
    #expect(
      refusal(
        &fixture, .createNetwork(NetworkRequest(name: "b", subnets: [.init(prefix: inside)])))?
        .message.contains("overlaps") == true)
    #expect(refusal(&fixture, .createNetwork(NetworkRequest(name: "a")))?.code == .conflict)
    #expect(refusal(&fixture, .createNetwork(NetworkRequest(name: "x/y")))?.code == .malformed)
    #expect(
      refusal(&fixture, .createNetwork(NetworkRequest(name: "m", mtu: 10)))?.code == .malformed)
    #expect(
      refusal(&fixture, .createNetwork(NetworkRequest(name: "d", uplink: .device("eth0"))))?.code
        == .unprocessable)
  }

  /// An IPv6 link needs an MTU of 1280 (RFC 8200, 5).
  @Test func anIPv6SubnetNeedsItsMTU() throws {
    var fixture = try Fixture()
    let prefix = try #require(IPPrefix("fd00:5::/64"))
    func request(_ name: String, mtu: Int) -> Request {
      .createNetwork(NetworkRequest(name: name, subnets: [.init(prefix: prefix)], mtu: mtu))
    }
    let error = try #require(refusal(&fixture, request("small", mtu: 1279)))
    #expect(error.code == .unprocessable)
    #expect(error.message.contains("1280") && error.message.contains("small"))
    #expect(refusal(&fixture, request("large", mtu: 1280)) == nil)
    #expect(refusal(&fixture, .createNetwork(NetworkRequest(name: "v4", mtu: 576))) == nil)
  }

  // MARK: Modification

  private func modify(_ id: VnfInstanceID, _ patch: [String: JSONValue]) -> Request {
    .modifyInfo(id, ModifyVnfInfoRequest(patch: patch))
  }

  @Test func aModificationIsOneCommitWithAllItsStates() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    let outcome = fixture.core.step(
      .request(
        modify(id, ["vnfInstanceName": .string("two"), "vnfInstanceDescription": .null]),
        tenant: .default, actor: "t", token: 1), at: fixture.now)
    var states: [LcmOperationState] = []
    for case .notify(let notification) in outcome.changes {
      if let state = notification.operationState { states.append(state) }
    }
    #expect(states == [.starting, .processing, .completed])
    #expect(outcome.actions.isEmpty)
    let instance = try #require(fixture.core.state.instances[id])
    #expect(instance.name == "two" && instance.openOperation == nil && instance.target == nil)
    guard case .operation(let operation) = try outcome.answers[0].1.get() else {
      fatalError("no operation")
    }
    #expect(operation.operation == .modifyInfo && operation.state == .completed)
    #expect(operation.changedInfo == ["vnfInstanceName": .string("two")])
    #expect(fixture.core.state.openOperations.isEmpty)
  }

  /// RFC 7396: null removes, objects are merged, all else replaces.
  @Test func metadataIsMerged() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    _ = try fixture.ask(
      modify(
        id, ["metadata": .object(["a": .object(["x": .integer(1)]), "b": .array([.integer(1)])])]))
    _ = try fixture.ask(
      modify(
        id,
        [
          "metadata": .object([
            "a": .object(["y": .integer(2)]), "b": .array([]), "c": .object(["z": .null]),
          ])
        ]))
    func metadata() -> [String: JSONValue]? { fixture.core.state.instances[id]?.info.metadata }
    #expect(
      metadata() == [
        "a": .object(["x": .integer(1), "y": .integer(2)]), "b": .array([]), "c": .object([:]),
      ])
    _ = try fixture.ask(modify(id, ["metadata": .object(["a": .null, "c": .null])]))
    #expect(metadata() == ["b": .array([])])
    _ = try fixture.ask(modify(id, ["metadata": .null, "vnfInstanceName": .null]))
    #expect(metadata() == [:])
    #expect(fixture.core.state.instances[id]?.name == Core.defaultName(of: id))
  }

  @Test func aModificationThatIsRefusedChangesNothing() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    _ = try fixture.ask(.createInstance(CreateVnfRequest(vnfd: "sim", name: "taken")))
    let before = fixture.core.state.instances[id]
    for (patch, code, part) in [
      (["vnfdId": .string("x")], .unprocessable, "vnfInstanceName"),
      (["extensions": .object(["e": .null, "f": .integer(1)])], .unprocessable, "extension f"),
      (["vnfConfigurableProperties": .object(["p": .bool(true)])], .unprocessable, "property p"),
      (["vnfInstanceName": .integer(1)], .malformed, "must be a string"),
      (["vnfInstanceName": .string("")], .malformed, "1 to 63"),
      (["vnfInstanceName": .string("taken")], .conflict, "taken"),
      (["metadata": .string("a")], .malformed, "must be an object"),
      (
        ["metadata": .object(["a": .string(String(repeating: "a", count: 300_000))])], .tooLarge,
        "262144"
      ),
    ] as [([String: JSONValue], NFVError.Code, String)] {
      let error = refusal(&fixture, modify(id, patch))
      #expect(error?.code == code && error?.message.contains(part) == true, "\(patch): \(error)")
    }
    #expect(fixture.core.state.instances[id] == before)
    #expect(refusal(&fixture, modify("none", [:]))?.code == .notFound)
  }

  /// Two that read the same and change it at once: the second is refused.
  @Test func aModificationOfAnotherVersionIsRefused() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    let read = try #require(fixture.core.state.instances[id])
    func rename(_ name: String) -> Request {
      .modifyInfo(
        id, ModifyVnfInfoRequest(patch: ["vnfInstanceName": .string(name)], expected: read))
    }
    _ = try fixture.ask(rename("two"))
    #expect(refusal(&fixture, rename("three"))?.code == .preconditionFailed)
    let package = try #require(fixture.core.state.packages[read.package])
    func disable() -> Request {
      .modifyPackage(
        package.id, operational: .disabled, userDefinedData: [:], expected: package)
    }
    _ = try fixture.ask(disable())
    #expect(refusal(&fixture, disable())?.code == .preconditionFailed)
    #expect(fixture.core.state.instances[id]?.name == "two")
  }

  /// While another operation is open, instance information is not changed.
  @Test func anOpenOperationForbidsAModification() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    _ = fixture.core.step(
      .request(.instantiate(id, connected), tenant: .default, actor: "t", token: 1),
      at: fixture.now)
    let error = refusal(&fixture, modify(id, ["vnfInstanceName": .string("two")]))
    #expect(error?.code == .conflict && error?.message.contains("INSTANTIATE") == true)
  }

  @Test func declaredInformationIsCheckedAndCompleteOnceInstantiated() throws {
    var fixture = try Fixture()
    var content = Simulation.content
    content.descriptor.id = "declared"
    content.descriptor.modifiable = VnfDescriptor.Modifiable(
      configurableProperties: ["sessions": .init(default: .integer(10))],
      extensions: ["site": .init(), "note": .init(default: .null)])
    guard case .package(let package) = try fixture.ask(.createPackage(userDefinedData: [:])) else {
      fatalError("no package")
    }
    _ = try fixture.ask(.onboardPackage(package.id, content))
    _ = try fixture.ask(.createNetwork(NetworkRequest(name: "outside")))
    guard
      case .instance(let instance) = try fixture.ask(
        .createInstance(CreateVnfRequest(vnfd: "declared", metadata: ["m": .integer(1)])))
    else { fatalError("no instance") }
    #expect(
      instance.info
        == VnfInfo(configurableProperties: ["sessions": .integer(10)], metadata: ["m": .integer(1)])
    )
    let id = instance.id
    #expect(refusal(&fixture, .instantiate(id, connected))?.message.contains("site") == true)
    var request = connected
    request.extensions = ["site": .string("north")]
    _ = try fixture.ask(.instantiate(id, request))
    _ = try fixture.ask(
      modify(id, ["vnfConfigurableProperties": .object(["sessions": .integer(20)])]))
    // Before an instantiation it may be missing, after it not.
    #expect(
      refusal(&fixture, modify(id, ["extensions": .object(["site": .null])]))?.code
        == .unprocessable)
    #expect(
      fixture.core.state.instances[id]?.info
        == VnfInfo(
          configurableProperties: ["sessions": .integer(20)], metadata: ["m": .integer(1)],
          extensions: ["site": .string("north")]))
  }

  @Test func scalingStaysWithinItsLevels() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    _ = try fixture.ask(.instantiate(id, connected))
    #expect(
      refusal(&fixture, .scale(id, ScaleVnfRequest(direction: .in, aspect: "width")))?.code
        == .unprocessable)
    #expect(
      refusal(&fixture, .scale(id, ScaleVnfRequest(direction: .out, aspect: "depth")))?.message
        .contains("width") == true)
    _ = try fixture.ask(.scale(id, ScaleVnfRequest(direction: .out, aspect: "width", steps: 2)))
    #expect(fixture.core.state.vnfcs(of: id).count == 4)
    _ = try fixture.ask(.scaleToLevel(id, ScaleVnfToLevelRequest(levels: ["width": 0])))
    #expect(fixture.core.state.vnfcs(of: id).count == 2)
  }
}
