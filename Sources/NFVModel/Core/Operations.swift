extension Core {
  /// Checks a request against the state and turns it into changes of what is desired.
  mutating func perform(
    _ request: Request, tenant: TenantID, actor: String, at now: Timestamp,
    _ outcome: inout Outcome
  ) throws(NFVError) -> Response {
    switch request {
    case .createPackage(let data):
      let package = VnfPackage(
        id: identifiers.identifier(), tenant: tenant, createdAt: now, userDefinedData: data)
      commit(.putPackage(package), &outcome)
      return .package(package)
    case .processPackage(let id):
      return .package(try process(id, tenant, &outcome))
    case .onboardPackage(let id, let content):
      return .package(try onboard(id, content, tenant, at: now, &outcome))
    case .failPackage(let id, let error):
      var package = try package(id, tenant)
      package.onboarding = .error
      package.error = error
      commit(.putPackage(package), &outcome)
      notify(.packageChange, package, at: now, &outcome)
      return .package(package)
    case .modifyPackage(let id, let operational, let data, let expected):
      if let expected, expected != (try package(id, tenant)) {
        throw NFVError(
          .preconditionFailed, "the package \(id) was changed by another; read it again")
      }
      return .package(try modifyPackage(id, operational, data, tenant, at: now, &outcome))
    case .deletePackage(let id):
      try deletePackage(id, tenant, at: now, &outcome)
      return .done
    case .createNetwork(let request):
      return .network(try createNetwork(request, tenant, &outcome))
    case .deleteNetwork(let id):
      try deleteNetwork(id, tenant, &outcome)
      return .done
    case .createInstance(let request):
      return .instance(try createInstance(request, tenant, at: now, &outcome))
    case .deleteInstance(let id):
      try deleteInstance(id, tenant, at: now, &outcome)
      return .done
    case .modifyInfo(let id, let request):
      return .operation(try modifyInfo(id, request, tenant, actor, at: now, &outcome))
    case .instantiate(let id, let request):
      var instance = try instance(id, tenant, instantiated: false)
      instance.info = try info(of: instance, at: request)
      var (target, networks) = try instantiatedState(of: instance, request)
      let flavour = try flavour(of: instance, target)
      target.parameters = configured(target.parameters, by: instance.info, of: instance)
      let level = try level(request.instantiationLevel, of: flavour)
      target.scale = level.scale
      let made = try setCounts(level.instances, of: instance, &target, new: networks)
      try checkHost(flavour, made)
      for network in networks { commit(.putNetwork(network), &outcome) }
      for vnfc in made { commit(.putVnfc(vnfc), &outcome) }
      return .operation(
        open(.instantiate, instance, target, request.body, actor, at: now, &outcome))
    case .scale(let id, let request):
      let instance = try instance(id, tenant, instantiated: true)
      let flavour = try flavour(of: instance, instance.settled)
      guard let aspect = flavour.scalingAspects.first(where: { $0.id == request.aspect }) else {
        throw NFVError(
          .unprocessable,
          "\(instance.name) has no scaling aspect \(request.aspect); it has "
            + list(flavour.scalingAspects.map(\.id)))
      }
      guard (1...10_000).contains(request.steps) else {
        throw NFVError(.malformed, "numberOfSteps is \(request.steps); it must be 1 or more")
      }
      let level =
        (instance.settled.scale[aspect.id] ?? 0)
        + (request.direction == .out ? request.steps : -request.steps)
      return try scale(
        .scale, instance, flavour, [aspect.id: level], request.body, actor, at: now, &outcome)
    case .scaleToLevel(let id, let request):
      let instance = try instance(id, tenant, instantiated: true)
      let flavour = try flavour(of: instance, instance.settled)
      var levels = request.levels
      if let name = request.instantiationLevel { levels = try self.level(name, of: flavour).scale }
      return try scale(
        .scaleToLevel, instance, flavour, levels, request.body, actor, at: now, &outcome)
    case .operate(let id, let request):
      let instance = try instance(id, tenant, instantiated: true)
      guard instance.settled.operational != request.state else {
        throw NFVError(.conflict, "\(instance.name) is already \(request.state.rawValue)")
      }
      if request.state == .started {
        try checkHost(try flavour(of: instance, instance.settled), state.vnfcs(of: instance.id))
      }
      var target = instance.settled
      target.operational = request.state
      return .operation(open(.operate, instance, target, request.body, actor, at: now, &outcome))
    case .heal(let id, let request):
      let instance = try instance(id, tenant, instantiated: true)
      guard instance.settled.operational == .started else {
        throw NFVError(
          .conflict,
          "\(instance.name) is STOPPED; start it: martlet vnf operate \(instance.name) start")
      }
      let unknown = request.vnfcs.filter { instance.settled.vnfcs[$0] == nil }
      guard unknown.isEmpty else {
        throw NFVError(
          .unprocessable, "\(instance.name) has no Vnfc \(list(unknown.map(\.rawValue)))")
      }
      var target = instance.settled
      let healed = request.vnfcs.isEmpty ? Array(target.vnfcs.keys) : request.vnfcs
      try checkHost(
        try flavour(of: instance, instance.settled), healed.compactMap { state.vnfcs[$0] })
      for vnfc in healed { target.vnfcs[vnfc] = (state.vnfcs[vnfc]?.incarnation ?? 0) + 1 }
      return .operation(open(.heal, instance, target, request.body, actor, at: now, &outcome))
    case .terminate(let id, let request):
      let instance = try instance(id, tenant, instantiated: true)
      return .operation(
        open(.terminate, instance, .notInstantiated, request.body, actor, at: now, &outcome))
    case .retry(let id):
      let (instance, operation) = try failedOperation(id, tenant)
      var retried = operation
      retried.error = nil
      forgetFailures(of: instance, &outcome)
      enter(.processing, &retried, at: now, &outcome)
      converge(instance.id, at: now, &outcome)
      return .operation(state.openOperations[id] ?? retried)
    case .rollback(let id):
      let (instance, operation) = try failedOperation(id, tenant)
      guard operation.operation.canRollBack else {
        throw NFVError(
          .conflict,
          "\(operation.operation.rawValue) cannot be rolled back (SOL003 5.6.2.3); retry it or "
            + "fail it")
      }
      var rolled = operation
      forgetFailures(of: instance, &outcome)
      enter(.rollingBack, &rolled, at: now, &outcome)
      converge(instance.id, at: now, &outcome)
      return .operation(state.openOperations[id] ?? rolled)
    case .fail(let id):
      return .operation(try giveUp(id, tenant, at: now, &outcome))
    }
  }

  // MARK: Occurrences

  /// Opens an operation: from here on the instance converges to `target`.
  mutating func open(
    _ type: LcmOperationType, _ instance: VnfInstance, _ target: VnfState, _ body: JSONValue,
    _ actor: String, changedInfo: [String: JSONValue]? = nil, at now: Timestamp,
    _ outcome: inout Outcome
  ) -> VnfLcmOpOcc {
    var operation = VnfLcmOpOcc(
      id: identifiers.identifier(), tenant: instance.tenant, instance: instance.id,
      operation: type, state: .starting, startTime: now, actor: actor, parameters: body)
    operation.changedInfo = changedInfo
    let before = instance.settled.vnfcs
    for (id, floor) in target.vnfcs.sorted(by: { $0.key < $1.key }) where before[id] != floor {
      operation.affected.append(
        .init(
          vnfc: id, vdu: state.vnfcs[id]?.vdu ?? "",
          change: before[id] == nil ? .added : .modified))
    }
    for id in before.keys.sorted() where target.vnfcs[id] == nil {
      operation.affected.append(
        .init(vnfc: id, vdu: state.vnfcs[id]?.vdu ?? "", change: .removed))
    }
    forgetFailures(of: instance, &outcome)
    notify(operation, at: now, &outcome)
    operation.state = .processing
    var opened = instance
    opened.target = target
    opened.openOperation = operation.id
    commit(.putOperation(operation), &outcome)
    commit(.putInstance(opened), &outcome)
    notify(operation, at: now, &outcome)
    converge(instance.id, at: now, &outcome)
    return state.openOperations[operation.id] ?? operation
  }

  private func failedOperation(
    _ id: VnfLcmOpOccID, _ tenant: TenantID
  ) throws(NFVError) -> (VnfInstance, VnfLcmOpOcc) {
    guard let operation = state.openOperations[id], operation.tenant == tenant,
      let instance = state.instances[operation.instance]
    else {
      throw NFVError(
        .conflict,
        "the operation occurrence \(id) is not open; only one in FAILED_TEMP can be "
          + "retried, rolled back or failed")
    }
    guard operation.state == .failedTemp else {
      throw NFVError(
        .conflict, "the operation occurrence \(id) is \(operation.state.rawValue), not FAILED_TEMP")
    }
    return (instance, operation)
  }

  /// Ends a failed operation for good: what was reached stays, the rest is swept.
  private mutating func giveUp(
    _ id: VnfLcmOpOccID, _ tenant: TenantID, at now: Timestamp, _ outcome: inout Outcome
  ) throws(NFVError) -> VnfLcmOpOcc {
    let (instance, operation) = try failedOperation(id, tenant)
    var settled = instance
    if let target = instance.target {
      switch operation.operation {
      case .instantiate: break
      case .modifyInfo: restoreConfiguration(of: &settled)
      case .terminate:
        settled.settled.vnfcs = instance.settled.vnfcs.filter { isAlive($0.key) }
      case .operate:
        // Vnfcs that reached the wanted state do not keep it: the VNF has one operational state.
        break
      case .heal:
        for (vnfc, floor) in target.vnfcs where isAlive(vnfc, from: floor) {
          settled.settled.vnfcs[vnfc] = floor
        }
      case .scale, .scaleToLevel, .changeFlavour:
        for (vnfc, floor) in target.vnfcs where state.serving(vnfc) != nil {
          settled.settled.vnfcs[vnfc] = floor
        }
        for vnfc in instance.settled.vnfcs.keys
        where target.vnfcs[vnfc] == nil && !isAlive(vnfc) {
          settled.settled.vnfcs[vnfc] = nil
        }
        if settled.settled.vnfcs == target.vnfcs { settled.settled.scale = target.scale }
      }
    }
    settled.target = nil
    settled.openOperation = nil
    var failed = operation
    if failed.operation == .modifyInfo { failed.forgetConfiguration() }
    enter(.failed, &failed, at: now, &outcome)
    commit(.putInstance(settled), &outcome)
    forgetFailures(of: settled, &outcome)
    converge(settled.id, at: now, &outcome)
    return failed
  }

  private func isAlive(_ vnfc: VnfcID, from floor: Int = 0) -> Bool {
    (state.incarnations[vnfc] ?? []).contains {
      $0.incarnation >= floor && state.workloads[$0]?.isAlive == true
    }
  }

  /// A client's operation gives a Vnfc that failed too often another chance.
  private mutating func forgetFailures(
    of instance: VnfInstance, _ outcome: inout Outcome
  ) {
    for var vnfc in state.vnfcs(of: instance.id) where vnfc.restart != nil {
      vnfc.restart = nil
      healing[vnfc.id] = nil
      commit(.putVnfc(vnfc), &outcome)
    }
  }

  // MARK: Instances

  /// The instance, not busy, in the wanted instantiation state; nil: in any.
  func instance(
    _ id: VnfInstanceID, _ tenant: TenantID, instantiated: Bool?
  ) throws(NFVError) -> VnfInstance {
    guard let instance = state.instances[id], instance.tenant == tenant else {
      throw NFVError(.notFound, "there is no VNF instance \(id)")
    }
    if let open = instance.openOperation.flatMap({ state.openOperations[$0] }) {
      throw NFVError(
        .conflict,
        "\(instance.name) is busy: \(open.operation.rawValue) \(open.id) is "
          + open.state.rawValue
          + (open.state == .failedTemp
            ? "; retry it, roll it back or fail it first" : "; wait for it: martlet wait op"))
    }
    if let instantiated, instance.settled.isInstantiated != instantiated {
      throw NFVError(
        .conflict,
        "\(instance.name) is "
          + (instantiated
            ? "NOT_INSTANTIATED: nothing of it runs; martlet vnf instantiate starts it"
            : "already INSTANTIATED; martlet vnf scale or heal changes it, martlet vnf terminate ends "
              + "it"))
    }
    return instance
  }

  private mutating func createInstance(
    _ request: CreateVnfRequest, _ tenant: TenantID, at now: Timestamp, _ outcome: inout Outcome
  ) throws(NFVError) -> VnfInstance {
    let packages = state.packages.values.filter {
      $0.tenant == tenant && $0.content?.descriptor.id == request.vnfd
    }
    guard let package = packages.first else {
      throw NFVError(
        .unprocessable,
        "no package with the descriptor \(request.vnfd) is onboarded; see: martlet package list")
    }
    guard package.operational == .enabled else {
      throw NFVError(.conflict, "the package \(package.id) is DISABLED; enable it first")
    }
    let id = identifiers.identifier(VnfInstanceID.self)
    let name = request.name ?? Self.defaultName(of: id)
    try checkName(name, of: id, tenant)
    var instance = VnfInstance(
      id: id, tenant: tenant, name: name, description: request.description ?? "",
      package: package.id, createdAt: now)
    if let declared = package.content?.descriptor.modifiable {
      instance.info = VnfInfo(defaultsOf: declared)
    }
    instance.info.metadata.merge(patch: request.metadata)
    try instance.info.checkSize(of: name)
    commit(.putInstance(instance), &outcome)
    notify(.vnfIdentifierCreation, instance, at: now, &outcome)
    return instance
  }

  private mutating func deleteInstance(
    _ id: VnfInstanceID, _ tenant: TenantID, at now: Timestamp, _ outcome: inout Outcome
  ) throws(NFVError) {
    guard let found = state.instances[id], found.tenant == tenant else {
      throw NFVError(.notFound, "there is no VNF instance \(id)")
    }
    guard !found.settled.isInstantiated else {
      throw NFVError(
        .conflict,
        "\(found.name) is INSTANTIATED; terminate it first: martlet vnf terminate \(found.name)")
    }
    let instance = try instance(id, tenant, instantiated: false)
    commit(.removeInstance(id), &outcome)
    notify(.vnfIdentifierDeletion, instance, at: now, &outcome)
    converge(id, at: now, &outcome)
  }

  private mutating func notify(
    _ kind: Notification.Kind, _ instance: VnfInstance, at now: Timestamp,
    _ outcome: inout Outcome
  ) {
    var notification = Notification(kind: kind, tenant: instance.tenant, time: now)
    notification.instance = instance.id
    commit(.notify(notification), &outcome)
  }

  // MARK: Scaling

  private mutating func scale(
    _ type: LcmOperationType, _ instance: VnfInstance, _ flavour: DeploymentFlavour,
    _ levels: [String: Int], _ body: JSONValue, _ actor: String, at now: Timestamp,
    _ outcome: inout Outcome
  ) throws(NFVError) -> Response {
    guard instance.settled.operational == .started else {
      throw NFVError(
        .conflict,
        "\(instance.name) is STOPPED; start it before scaling it: martlet vnf operate "
          + "\(instance.name) start")
    }
    var target = instance.settled
    for (id, level) in levels.sorted(by: { $0.key < $1.key }) {
      guard let aspect = flavour.scalingAspects.first(where: { $0.id == id }) else {
        throw NFVError(.unprocessable, "\(instance.name) has no scaling aspect \(id)")
      }
      guard (0...aspect.maximumLevel).contains(level) else {
        throw NFVError(
          .unprocessable,
          "the aspect \(id) of \(instance.name) is at level \(instance.settled.scale[id] ?? 0) and "
            + "goes from 0 to \(aspect.maximumLevel); level \(level) is out of it")
      }
      target.scale[id] = level
    }
    var counts: [String: Int] = [:]
    for vdu in flavour.vdus {
      guard
        let aspect = flavour.scalingAspects.first(where: {
          $0.deltas[vdu.id] != nil && levels[$0.id] != nil
        })
      else { continue }
      counts[vdu.id] =
        vdu.initialInstances + aspect.instances(of: vdu.id, at: target.scale[aspect.id] ?? 0)
    }
    let made = try setCounts(counts, of: instance, &target, new: [])
    try checkHost(flavour, made)
    for vnfc in made { commit(.putVnfc(vnfc), &outcome) }
    return .operation(open(type, instance, target, body, actor, at: now, &outcome))
  }

  /// Refuses to start Vnfcs that the host's drivers cannot run.
  private func checkHost(_ flavour: DeploymentFlavour, _ vnfcs: [Vnfc]) throws(NFVError) {
    guard let capabilities else { return }
    for vdu in flavour.vdus where vnfcs.contains(where: { $0.vdu == vdu.id }) {
      guard let given = capabilities[vdu.technology] else { throw .cannotRun(vdu) }
      try vdu.check(on: given)
    }
  }

  /// Brings the Vnfcs of each named VDU to a number; the last ones go first.
  /// - Returns: the new ones.
  private func setCounts(
    _ counts: [String: Int], of instance: VnfInstance, _ target: inout VnfState,
    new networks: [Network]
  ) throws(NFVError) -> [Vnfc] {
    let flavour = try flavour(of: instance, target)
    try checkBounds(counts, of: instance, flavour, target)
    var made: [Vnfc] = []
    var allocation = AddressAllocation(state, new: networks)
    for vdu in flavour.vdus {
      guard let count = counts[vdu.id] else { continue }
      guard (0...vdu.maximumInstances).contains(count) else {
        throw NFVError(
          .unprocessable,
          "\(count) instances of the VDU \(vdu.id) are asked for; it has at most "
            + "\(vdu.maximumInstances)")
      }
      let present = target.vnfcs.keys.compactMap { state.vnfcs[$0] }
        .filter { $0.vdu == vdu.id && $0.flavour == flavour.id }.sorted { $0.ordinal < $1.ordinal }
      for vnfc in present.dropFirst(count) { target.vnfcs[vnfc.id] = nil }
      var ordinals = Set(present.map(\.ordinal))
      var ordinal = 0
      for _ in 0..<max(0, count - present.count) {
        while ordinals.contains(ordinal) { ordinal += 1 }
        ordinals.insert(ordinal)
        let vnfc = try makeVnfc(
          vdu, ordinal, of: instance, flavour, target, &allocation)
        target.vnfcs[vnfc.id] = 1
        made.append(vnfc)
      }
    }
    return made
  }

  /// How many Vnfcs there are at most: what is asked of the core is done while others wait.
  private static let vnfcsOfInstance = 1_000
  private static let vnfcsOfHost = 10_000

  /// Refuses more Vnfcs than a VNF or the host may have.
  private func checkBounds(
    _ counts: [String: Int], of instance: VnfInstance, _ flavour: DeploymentFlavour,
    _ target: VnfState
  ) throws(NFVError) {
    var present: [String: Int] = [:]
    for vnfc in target.vnfcs.keys.lazy.compactMap({ state.vnfcs[$0] })
    where vnfc.flavour == flavour.id {
      present[vnfc.vdu, default: 0] += 1
    }
    let before = present.values.reduce(0, +)
    let count = present.merging(counts) { $1 }.values.reduce(0, +)
    guard count <= max(before, Self.vnfcsOfInstance) else {
      throw NFVError(
        .unprocessable,
        "\(instance.name) would have \(count) Vnfcs; a VNF has at most \(Self.vnfcsOfInstance). Ask "
          + "for a lower level, or spread them over several VNFs")
    }
    guard count <= before || state.vnfcs.count + count - before <= Self.vnfcsOfHost else {
      throw NFVError(
        .unprocessable,
        "\(instance.name) would get \(count - before) Vnfcs more, the host has \(state.vnfcs.count) "
          + "of at most \(Self.vnfcsOfHost); terminate something first")
    }
  }

  private func makeVnfc(
    _ vdu: Vdu, _ ordinal: Int, of instance: VnfInstance, _ flavour: DeploymentFlavour,
    _ target: VnfState, _ allocation: inout AddressAllocation
  ) throws(NFVError) -> Vnfc {
    var ports: [Port] = []
    for (index, cpd) in vdu.cpds.enumerated() {
      let external = flavour.externalCpds.first {
        switch $0.exposes {
        case .vduCpd(let vduID, let cpdID): vduID == vdu.id && cpdID == cpd.id
        case .virtualLink(let link): link == cpd.virtualLink
        case .virtualCp: false
        }
      }
      let connection = external.flatMap { target.external[$0.id] }
      guard
        let networkID = connection?.network ?? cpd.virtualLink.flatMap({ target.virtualLinks[$0] }),
        let network = allocation.network(networkID)
      else { continue }
      let id = identifiers.identifier(PortID.self)
      let addresses = try allocation.allocate(
        on: network, fixed: connection?.addresses ?? [],
        for: external.map { "the connection point \($0.id)" } ?? "\(vdu.id).\(cpd.id)")
      ports.append(
        Port(
          id: id, cpd: cpd.id, externalCpd: external?.id, network: networkID,
          // Locally administered, unicast; 40 bits of the identifier's hash.
          mac: MACAddress(value: 0x0200_0000_0000 | HostName.hash(id.rawValue) & 0xFF_FFFF_FFFF),
          addresses: addresses, mode: cpd.mode, mtu: network.mtu, interface: "eth\(index)",
          // The router that a route goes by does not get the route to itself.
          routes: (network.routes
            + (external == nil || index > 0 ? [] : Self.defaultRoutes(of: network))).filter {
              route in
              !addresses.contains { $0.address == route.via }
            }))
    }
    return Vnfc(
      id: identifiers.identifier(), instance: instance.id, tenant: instance.tenant, vdu: vdu.id,
      flavour: flavour.id, ordinal: ordinal, ports: ports)
  }
}

extension Core {
  /// By the network's gateways; the first external connection point's network gives them.
  static func defaultRoutes(of network: Network) -> [Network.Route] {
    network.subnets.compactMap { subnet in
      subnet.gateway.map { gateway in
        Network.Route(
          destination: IPPrefix(
            address: IPAddress(family: gateway.family, value: 0), length: 0), via: gateway)
      }
    }
  }
}

/// Names with commas, not too many of them, or `none`.
func list(_ names: some Sequence<String>) -> String {
  let sorted = names.sorted()
  guard !sorted.isEmpty else { return "none" }
  let joined = sorted.prefix(20).joined(separator: ", ")
  return sorted.count > 20 ? "\(joined) and \(sorted.count - 20) more" : joined
}
