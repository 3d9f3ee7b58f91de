extension Core {
  // MARK: Packages

  func package(_ id: VnfPackageID, _ tenant: TenantID) throws(NFVError) -> VnfPackage {
    guard let package = state.packages[id], package.tenant == tenant else {
      throw NFVError(.notFound, "there is no VNF package \(id)")
    }
    return package
  }

  mutating func process(
    _ id: VnfPackageID, _ tenant: TenantID, _ outcome: inout Outcome
  ) throws(NFVError) -> VnfPackage {
    var package = try package(id, tenant)
    guard package.content == nil else {
      throw NFVError(.conflict, "the package \(id) is onboarded already")
    }
    package.onboarding = .processing
    package.error = nil
    commit(.putPackage(package), &outcome)
    return package
  }

  mutating func onboard(
    _ id: VnfPackageID, _ content: VnfPackage.Content, _ tenant: TenantID, at now: Timestamp,
    _ outcome: inout Outcome
  ) throws(NFVError) -> VnfPackage {
    var package = try package(id, tenant)
    guard package.content == nil else {
      throw NFVError(.conflict, "the package \(id) is onboarded already")
    }
    if let other = state.packages.values.first(where: {
      $0.tenant == tenant && $0.content?.descriptor.id == content.descriptor.id
    }) {
      throw NFVError(
        .conflict,
        "the descriptor \(content.descriptor.id) is onboarded already by the package \(other.id); "
          + "delete that one or give the descriptor another descriptor_id")
    }
    package.content = content
    package.onboarding = .onboarded
    package.operational = .enabled
    package.error = nil
    commit(.putPackage(package), &outcome)
    notify(.packageOnboarding, package, at: now, &outcome)
    return package
  }

  mutating func modifyPackage(
    _ id: VnfPackageID, _ operational: VnfPackage.OperationalState?,
    _ userDefinedData: [String: JSONValue], _ tenant: TenantID, at now: Timestamp,
    _ outcome: inout Outcome
  ) throws(NFVError) -> VnfPackage {
    var package = try package(id, tenant)
    if let operational {
      guard package.onboarding == .onboarded else {
        throw NFVError(.conflict, "the package \(id) is not onboarded yet")
      }
      guard package.operational != operational else {
        throw NFVError(.conflict, "the package \(id) is already \(operational.rawValue)")
      }
      package.operational = operational
    }
    package.userDefinedData.merge(patch: userDefinedData)
    commit(.putPackage(package), &outcome)
    notify(.packageChange, package, at: now, &outcome)
    return package
  }

  mutating func deletePackage(
    _ id: VnfPackageID, _ tenant: TenantID, at now: Timestamp, _ outcome: inout Outcome
  ) throws(NFVError) {
    let package = try package(id, tenant)
    guard package.onboarding != .processing else {
      throw NFVError(.conflict, "the package \(id) is being read; delete it afterwards")
    }
    let users = state.instances.values.filter { $0.package == id }.map(\.name)
    guard users.isEmpty else {
      throw NFVError(
        .conflict, "the package \(id) is used by \(list(users)); delete those instances first")
    }
    commit(.removePackage(id), &outcome)
    notify(.packageChange, package, at: now, &outcome)
    for digest in (package.content?.images ?? [:]).values {
      state.imagePhases[digest] = nil
    }
  }

  mutating func notify(
    _ kind: Notification.Kind, _ package: VnfPackage, at now: Timestamp,
    _ outcome: inout Outcome
  ) {
    var notification = Notification(kind: kind, tenant: package.tenant, time: now)
    notification.package = package.id
    commit(.notify(notification), &outcome)
  }

  // MARK: Networks

  mutating func createNetwork(
    _ request: NetworkRequest, _ tenant: TenantID, _ outcome: inout Outcome
  ) throws(NFVError) -> Network {
    let network = try makeNetwork(request, tenant, owner: nil, among: Array(state.networks.values))
    commit(.putNetwork(network), &outcome)
    return network
  }

  private func makeNetwork(
    _ request: NetworkRequest, _ tenant: TenantID, owner: VnfInstanceID?, among others: [Network]
  ) throws(NFVError) -> Network {
    let name = request.name
    guard (1...63).contains(name.utf8.count),
      name.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != 47 && $0 != 61 && $0 != 44 })
    else {
      throw NFVError(
        .malformed, "a network's name has 1 to 63 printable characters without / = , and blanks")
    }
    guard (576...65_535).contains(request.mtu) else {
      throw NFVError(.malformed, "the MTU \(request.mtu) of \(name) is not in 576 to 65535")
    }
    if case .device(let device) = request.uplink {
      throw NFVError(
        .unprocessable,
        "the uplink device:\(device) of \(name) cannot be had yet; use none, nat or routed")
    }
    let mine = others.filter { $0.tenant == tenant }
    if mine.contains(where: { $0.name == name }) {
      throw NFVError(.conflict, "there is a network \(name) already; choose another name")
    }
    var subnets = request.subnets
    if subnets.isEmpty {
      subnets = [.init(prefix: try freeSubnet(among: mine))]
    }
    guard Set(subnets.map(\.prefix.address.family)).count == subnets.count else {
      throw NFVError(
        .unprocessable, "\(name) has two subnets of one family; a network has one IPv4 and one IPv6"
      )
    }
    for (index, subnet) in subnets.enumerated() {
      let prefix = subnet.prefix
      guard prefix.length <= prefix.address.family.width - 2, prefix.length >= 8 else {
        throw NFVError(
          .unprocessable, "the subnet \(prefix) of \(name) is too small or too large for functions")
      }
      // RFC 8200, 5; the kernel takes IPv6 off a link with less.
      guard prefix.address.family == .v4 || request.mtu >= 1280 else {
        throw NFVError(
          .unprocessable,
          "the MTU \(request.mtu) of \(name) is too small for its IPv6 subnet \(prefix): IPv6 needs "
            + "1280 or more; raise the MTU, or leave out the subnet")
      }
      for other in mine {
        if let clash = other.subnets.first(where: { $0.prefix.overlaps(prefix) }) {
          throw NFVError(
            .conflict,
            "the subnet \(prefix) of \(name) overlaps \(clash.prefix) of the network \(other.name); choose "
              + "another")
        }
      }
      if let gateway = subnet.gateway, !prefix.contains(gateway) {
        throw NFVError(
          .unprocessable, "the gateway \(gateway) of \(name) is not in its subnet \(prefix)")
      }
      if subnet.gateway == nil, request.uplink != .none {
        subnets[index].gateway = IPAddress(
          family: prefix.address.family, value: prefix.address.value + 1)
      }
    }
    return Network(
      id: identifiers.identifier(), tenant: tenant, name: name, mtu: request.mtu,
      subnets: subnets, routes: request.routes, uplink: request.uplink, owner: owner)
  }

  /// The name, with a number where a network has it: that of an instantiation before, which is still
  /// being swept, among them.
  private func freeName(_ name: String, _ tenant: TenantID, _ networks: [Network]) -> String {
    let base = String(name.prefix(56))
    let taken = Set(
      networks.lazy.filter { $0.tenant == tenant && $0.name.hasPrefix(base) }.map(\.name))
    if !taken.contains(base) { return base }
    return (2...).lazy.map { "\(base)-\($0)" }.first { !taken.contains($0) } ?? base
  }

  /// The first /24 of 10.64.0.0/10 that no network of the tenant touches.
  private func freeSubnet(among networks: [Network]) throws(NFVError) -> IPPrefix {
    let first = 0x0A40_0000
    var isTaken = [Bool](repeating: false, count: 1 << 14)
    for prefix in networks.lazy.flatMap(\.subnets).map(\.prefix)
    where prefix.address.family == .v4 {
      let low = (Int(prefix.network.address.value) - first) >> 8
      let high = (Int(prefix.last.value) - first) >> 8
      for index in max(low, 0)..<max(min(high + 1, isTaken.count), max(low, 0)) {
        isTaken[index] = true
      }
    }
    if let index = isTaken.firstIndex(of: false) {
      return IPPrefix(
        address: IPAddress(family: .v4, value: UInt128(first + index << 8)), length: 24)
    }
    throw NFVError(.exhausted, "no /24 of 10.64.0.0/10 is free; name a subnet")
  }

  mutating func deleteNetwork(
    _ id: NetworkID, _ tenant: TenantID, _ outcome: inout Outcome
  ) throws(NFVError) {
    guard let network = state.networks[id], network.tenant == tenant else {
      throw NFVError(.notFound, "there is no network \(id)")
    }
    if let owner = network.owner {
      throw NFVError(
        .conflict,
        "the network \(network.name) is an internal virtual link of the VNF "
          + "\(state.instances[owner]?.name ?? owner.rawValue) and goes with it")
    }
    let users = state.instances.values.filter { instance in
      [instance.settled, instance.target].compactMap(\.self).contains {
        $0.external.values.contains { $0.network == id }
      }
    }
    guard users.isEmpty else {
      throw NFVError(
        .conflict,
        "the network \(network.name) is used by \(list(users.map(\.name))); terminate them first")
    }
    // Addresses are given back when nothing on the host can answer for them any more.
    let leaving = state.instancesOfNetwork[id] ?? []
    guard leaving.isEmpty else {
      let names = leaving.map { state.instances[$0]?.name ?? "a deleted VNF (\($0))" }
      throw NFVError(
        .conflict,
        "the network \(network.name) still has ports of \(list(names)), which are being removed from "
          + "the host; delete it again in a moment")
    }
    remove(id, &outcome)
  }

  // MARK: What an instantiation shall come to

  func flavour(of instance: VnfInstance, _ wanted: VnfState) throws(NFVError) -> DeploymentFlavour {
    guard let id = wanted.flavour,
      let flavour = state.packages[instance.package]?.content?.descriptor.flavour(id)
    else {
      throw NFVError(.failed, "the flavour of \(instance.name) is in no package")
    }
    return flavour
  }

  func level(
    _ name: String?, of flavour: DeploymentFlavour
  ) throws(NFVError) -> InstantiationLevel {
    var level = InstantiationLevel(
      scale: Dictionary(uniqueKeysWithValues: flavour.scalingAspects.map { ($0.id, 0) }))
    if let name = name ?? flavour.defaultInstantiationLevel {
      guard let named = flavour.instantiationLevels[name] else {
        throw NFVError(
          .unprocessable,
          "the flavour \(flavour.id) has no instantiation level \(name); it has "
            + list(flavour.instantiationLevels.keys))
      }
      level.scale.merge(named.scale) { $1 }
      level.instances = named.instances
    }
    for vdu in flavour.vdus where level.instances[vdu.id] == nil {
      let aspects = flavour.scalingAspects.filter { $0.deltas[vdu.id] != nil }
      level.instances[vdu.id] =
        vdu.initialInstances
        + aspects.reduce(0) { $0 + $1.instances(of: vdu.id, at: level.scale[$1.id] ?? 0) }
    }
    return level
  }

  /// Everything of the target but its Vnfcs: flavour, connections, virtual links, parameters; and
  /// the networks of its internal virtual links.
  func instantiatedState(
    of instance: VnfInstance, _ request: InstantiateVnfRequest
  ) throws(NFVError) -> (VnfState, [Network]) {
    guard let content = state.packages[instance.package]?.content else {
      throw NFVError(.failed, "the package of \(instance.name) has no content")
    }
    let descriptor = content.descriptor
    guard let flavour = request.flavour.map(descriptor.flavour) ?? descriptor.flavours.first else {
      throw NFVError(
        .unprocessable,
        "\(instance.name) has no flavour \(request.flavour ?? ""); it has "
          + list(descriptor.flavours.map(\.id)))
    }
    var target = VnfState(flavour: flavour.id)
    target.parameters = try parameters(request.parameters, of: descriptor, instance)
    target.external = try connections(request, of: flavour, instance)
    for vdu in flavour.vdus {
      guard let path = vdu.imagePath, content.images[path] != nil else {
        throw NFVError(
          .unprocessable,
          "the VDU \(vdu.id) of the flavour \(flavour.id) has no software image in its package")
      }
    }
    if let rule = flavour.affinityRules.first(where: {
      $0.isMandatory && $0.kind == .antiAffinity && $0.scope != "network_link_and_nic"
    }) {
      throw NFVError(
        .unprocessable,
        "mandatory anti-affinity of \(list(rule.vdus)) over \(rule.scope) needs more hosts than one"
      )
    }
    var networks: [Network] = []
    for link in flavour.virtualLinks.sorted(by: { $0.id < $1.id }) {
      let others = state.networks.values + networks
      let request = NetworkRequest(
        name: freeName("\(instance.name).\(link.id)", instance.tenant, others),
        subnets: link.subnets.map { .init(prefix: $0) },
        mtu: link.mtu ?? 1500)
      let network = try makeNetwork(
        request, instance.tenant, owner: instance.id, among: others)
      networks.append(network)
      target.virtualLinks[link.id] = network.id
    }
    return (target, networks)
  }

  private func parameters(
    _ given: [String: JSONValue], of descriptor: VnfDescriptor, _ instance: VnfInstance
  ) throws(NFVError) -> [String: JSONValue] {
    // One that has the name of a configurable property is what that begins with.
    let declared = Set(descriptor.parameters.keys)
      .union(descriptor.modifiable.configurableProperties.keys)
    let unknown = given.keys.filter { !declared.contains($0) }
    // One without a data type for them says nothing of its parameters.
    guard unknown.isEmpty || descriptor.parameters.isEmpty else {
      throw NFVError(
        .unprocessable,
        "\(instance.name) has no parameter \(list(unknown)); it has \(list(declared))")
    }
    for (name, value) in given.sorted(by: { $0.key < $1.key }) where value != .null {
      let parameter =
        descriptor.parameters[name] ?? descriptor.modifiable.configurableProperties[name]
      try parameter?.schema.check(value, called: name)
    }
    var parameters = given
    for (name, parameter) in descriptor.parameters where given[name] == nil {
      guard let value = parameter.default else {
        throw NFVError(
          .unprocessable,
          "the parameter \(name) of \(instance.name) has no default; give it a value: --param \(name)=VALUE"
        )
      }
      parameters[name] = value
    }
    return parameters
  }

  private func connections(
    _ request: InstantiateVnfRequest, of flavour: DeploymentFlavour, _ instance: VnfInstance
  ) throws(NFVError) -> [String: VnfState.ExternalConnection] {
    let points = flavour.externalCpds.map(\.id)
    let unknown = request.connections.keys.filter { !points.contains($0) }
    guard unknown.isEmpty else {
      throw NFVError(
        .unprocessable,
        "\(instance.name) has no external connection point \(list(unknown)); it has \(list(points))"
      )
    }
    var connections: [String: VnfState.ExternalConnection] = [:]
    var missing: [String] = []
    for point in flavour.externalCpds {
      if case .virtualCp = point.exposes {
        throw NFVError(
          .unprocessable,
          "the connection point \(point.id) is a VirtualCp; load balancing does not exist yet")
      }
      guard let connection = request.connections[point.id] else {
        if points.count == 1, let network = network("default", instance.tenant) {
          connections[point.id] = .init(network: network.id)
        } else {
          missing.append(point.id)
        }
        continue
      }
      guard let network = network(connection.network, instance.tenant) else {
        throw NFVError(
          .unprocessable,
          "there is no network \(connection.network) for the connection point \(point.id); make it: "
            + "martlet network create \(connection.network)")
      }
      connections[point.id] = .init(
        network: network.id, addresses: connection.addresses,
        virtualLinkID: connection.virtualLinkID)
    }
    guard missing.isEmpty else {
      throw NFVError(
        .unprocessable,
        "the connection points \(list(missing)) of \(instance.name) need a network each "
          + "(extVirtualLinks; --connect POINT=NETWORK)")
    }
    return connections
  }

  private func network(_ reference: String, _ tenant: TenantID) -> Network? {
    if let network = state.networks[NetworkID(reference)], network.tenant == tenant {
      return network
    }
    return state.networks.values.first {
      $0.tenant == tenant && $0.name == reference && $0.owner == nil
    }
  }
}

/// Addresses given out within one request: those that the state has and those just allotted.
struct AddressAllocation {
  private let state: State
  private let networks: [NetworkID: Network]
  private var given: [NetworkID: Set<IPAddress>] = [:]
  /// The last one given of each subnet without being asked for: all before it are taken.
  private var last: [NetworkID: [IPPrefix: UInt128]] = [:]

  /// - Parameter new: networks that the request makes.
  init(_ state: State, new: [Network]) {
    self.state = state
    networks = Dictionary(uniqueKeysWithValues: new.map { ($0.id, $0) })
  }

  func network(_ id: NetworkID) -> Network? { networks[id] ?? state.networks[id] }

  /// One address of each of the network's subnets: the first fixed one that is free, else the lowest
  /// free one.
  mutating func allocate(
    on network: Network, fixed: [IPAddress], for what: String
  ) throws(NFVError) -> [IPPrefix] {
    for address in fixed where !network.subnets.contains(where: { $0.prefix.contains(address) }) {
      throw NFVError(
        .unprocessable,
        "the fixed address \(address) of \(what) is in no subnet of the network \(network.name)")
    }
    var result: [IPPrefix] = []
    for subnet in network.subnets {
      let prefix = subnet.prefix
      let candidates = fixed.filter(prefix.contains)
      let address: IPAddress
      if candidates.isEmpty {
        address = try lowest(of: subnet, on: network)
      } else {
        // Without an uplink the gateway is a function, or a machine that somebody has put there.
        let free = candidates.first {
          isFree($0, subnet, network)
            || network.uplink == .none && $0 == subnet.gateway
              && $0 != prefix.address && $0 != prefix.last
              && isUntaken($0, network)
        }
        guard let free else {
          let own = [subnet.prefix.address, subnet.prefix.last]
          guard candidates.contains(where: { !own.contains($0) }) else {
            throw NFVError(
              .unprocessable,
              "the fixed address \(list(candidates.map(\.description))) of \(what) is that of the "
                + "subnet \(subnet.prefix) itself, or its broadcast address: give it another one")
          }
          throw NFVError(
            .conflict,
            "the fixed address \(list(candidates.map(\.description))) of \(what) is taken on the "
              + "network \(network.name); each Vnfc needs one of its own: give the point more fixed "
              + "addresses, or none, at instantiation")
        }
        address = free
      }
      given[network.id, default: []].insert(address)
      result.append(IPPrefix(address: address, length: prefix.length))
    }
    return result
  }

  private func isFree(_ address: IPAddress, _ subnet: Network.Subnet, _ network: Network) -> Bool {
    address != subnet.prefix.address && address != subnet.prefix.last && address != subnet.gateway
      && isUntaken(address, network)
  }

  private func isUntaken(_ address: IPAddress, _ network: Network) -> Bool {
    state.takenAddresses[network.id]?.contains(address) != true
      && state.strayAddresses[network.id]?[address] == nil
      && given[network.id]?.contains(address) != true
  }

  private mutating func lowest(
    of subnet: Network.Subnet, on network: Network
  ) throws(NFVError) -> IPAddress {
    let first = last[network.id]?[subnet.prefix] ?? subnet.prefix.address.value
    // At most so many are taken that one of the first ones is free, or none is.
    let taken =
      (state.takenAddresses[network.id]?.count ?? 0) + (given[network.id]?.count ?? 0)
      + (state.strayAddresses[network.id]?.count ?? 0) + 3
    var value = first
    for _ in 0...taken {
      value += 1
      let address = IPAddress(family: subnet.prefix.address.family, value: value)
      guard subnet.prefix.contains(address) else { break }
      if isFree(address, subnet, network) {
        last[network.id, default: [:]][subnet.prefix] = value
        return address
      }
    }
    throw NFVError(
      .exhausted,
      "no address of \(subnet.prefix) is free on the network \(network.name); terminate something "
        + "or use a larger network")
  }
}
