/// The desired state, as it was last committed, and what is known of the host.
public struct State: Sendable {
  public let store: StoreID
  public internal(set) var packages: [VnfPackageID: VnfPackage]
  public internal(set) var instances: [VnfInstanceID: VnfInstance]
  public internal(set) var vnfcs: [VnfcID: Vnfc]
  public internal(set) var networks: [NetworkID: Network]
  public internal(set) var openOperations: [VnfLcmOpOccID: VnfLcmOpOcc]

  /// Observed, in memory only.
  var workloads: [WorkloadID: Workload] = [:]
  var networkPhases: [NetworkID: ResourcePhase] = [:]
  var imagePhases: [ImageDigest: ResourcePhase] = [:]
  /// Networks that are on the host and in no state of ours: to be swept.
  var strayNetworks: [NetworkID: TenantID] = [:]

  /// Addresses of workloads that no Vnfc of ours has, as long as these may answer for them: what a
  /// store that is older than the host does not know is not given twice.
  private(set) var strayAddresses: [NetworkID: [IPAddress: WorkloadID]] = [:]

  /// Vnfcs that have, or may have, block devices on the host.
  var volumePhases: [VnfcID: ResourcePhase] = [:]

  /// Derived: the Vnfcs of an instance, and the incarnations of a Vnfc that the host may have.
  private(set) var vnfcsOfInstance: [VnfInstanceID: Set<VnfcID>] = [:]
  var incarnations: [VnfcID: Set<WorkloadID>] = [:]
  /// Derived: taken addresses by network.
  private(set) var takenAddresses: [NetworkID: Set<IPAddress>] = [:]

  /// Derived: the networks that an instance owns, and the instances with a port on a network.
  private(set) var networksOfInstance: [VnfInstanceID: Set<NetworkID>] = [:]
  private(set) var instancesOfNetwork: [NetworkID: Set<VnfInstanceID>] = [:]

  /// What is known of a workload on the host.
  struct Workload: Sendable, Hashable {
    enum Phase: Sendable, Hashable {
      case preparing
      case prepared
      case starting
      /// Its process runs; not known to be ready.
      case started
      case awaitingReady
      case ready
      case activating
      /// Ready and taking traffic.
      case serving
      /// Serving, and being handed a document.
      case configuring
      case retiring
      /// No process, ports cut off.
      case retired
      case releasing
    }

    var phase: Phase
    /// Whether its links take traffic.
    var isActive: Bool
    /// How its process ended, where it did.
    var exit: ExitStatus?
    var since: Timestamp
    /// After a failure of an action on it: when the next try may be.
    var notBefore: Timestamp?
    /// Of the document that it was told last.
    var generation = 0
    /// After it could not be told a later one: when the next try may be.
    var tellNotBefore: Timestamp?

    /// Its process is or will be there.
    var isAlive: Bool {
      switch phase {
      case .preparing, .prepared, .starting, .started, .awaitingReady, .ready, .activating,
        .serving, .configuring:
        exit == nil
      case .retiring, .retired, .releasing: false
      }
    }

    /// An action is under way on it.
    var isBusy: Bool {
      switch phase {
      case .preparing, .starting, .awaitingReady, .activating, .configuring, .retiring, .releasing:
        true
      case .prepared, .started, .ready, .serving, .retired: false
      }
    }
  }

  enum ResourcePhase: Sendable, Hashable {
    case ensuring, present, removing
  }

  public init(_ stored: StoredState) {
    store = stored.store
    packages = Dictionary(uniqueKeysWithValues: stored.packages.map { ($0.id, $0) })
    instances = Dictionary(uniqueKeysWithValues: stored.instances.map { ($0.id, $0) })
    networks = [:]
    openOperations = Dictionary(uniqueKeysWithValues: stored.openOperations.map { ($0.id, $0) })
    vnfcs = [:]
    for network in stored.networks { put(network) }
    for vnfc in stored.vnfcs { put(vnfc) }
  }

  /// The workload that runs for this Vnfc now and takes its traffic, if any.
  public func serving(_ vnfc: VnfcID) -> WorkloadID? {
    (incarnations[vnfc] ?? [])
      .filter { workloads[$0].map { $0.isAlive && $0.isActive && $0.isStarted } ?? false }.max()
  }

  /// Whether the workload's process is, or will be, there.
  public func isAlive(_ workload: WorkloadID) -> Bool { workloads[workload]?.isAlive ?? false }

  /// Whether somebody waits for the workload to be ready: not where it has ended, or shall end.
  public func awaitsReadiness(_ workload: WorkloadID) -> Bool {
    workloads[workload].map { $0.phase == .awaitingReady && $0.exit == nil } ?? false
  }

  /// The Vnfcs of an instance, in the order of VDU and ordinal.
  public func vnfcs(of instance: VnfInstanceID) -> [Vnfc] {
    (vnfcsOfInstance[instance] ?? []).compactMap { vnfcs[$0] }
      .sorted { ($0.vdu, $0.ordinal, $0.id) < ($1.vdu, $1.ordinal, $1.id) }
  }

  /// Applies a change to what is held in memory; the store applies the same.
  mutating func apply(_ change: Change) {
    switch change {
    case .putPackage(let package): packages[package.id] = package
    case .removePackage(let id): packages[id] = nil
    case .putInstance(let instance): instances[instance.id] = instance
    case .removeInstance(let id): instances[id] = nil
    case .putVnfc(let vnfc): put(vnfc)
    case .removeVnfc(let id): removeVnfc(id)
    case .putNetwork(let network): put(network)
    case .removeNetwork(let id): removeNetwork(id)
    case .putOperation(let operation):
      openOperations[operation.id] = operation.state.isEnded ? nil : operation
    case .notify: break
    }
  }

  private mutating func put(_ network: Network) {
    networks[network.id] = network
    if let owner = network.owner { networksOfInstance[owner, default: []].insert(network.id) }
  }

  private mutating func removeNetwork(_ id: NetworkID) {
    guard let network = networks.removeValue(forKey: id), let owner = network.owner else { return }
    networksOfInstance[owner]?.remove(id)
    if networksOfInstance[owner]?.isEmpty == true { networksOfInstance[owner] = nil }
  }

  private mutating func put(_ vnfc: Vnfc) {
    if vnfcs.updateValue(vnfc, forKey: vnfc.id) == nil {
      vnfcsOfInstance[vnfc.instance, default: []].insert(vnfc.id)
      for port in vnfc.ports {
        instancesOfNetwork[port.network, default: []].insert(vnfc.instance)
        for address in port.addresses {
          takenAddresses[port.network, default: []].insert(address.address)
        }
      }
    }
  }

  private mutating func removeVnfc(_ id: VnfcID) {
    guard let vnfc = vnfcs.removeValue(forKey: id) else { return }
    vnfcsOfInstance[vnfc.instance]?.remove(id)
    if vnfcsOfInstance[vnfc.instance]?.isEmpty == true { vnfcsOfInstance[vnfc.instance] = nil }
    let others = vnfcsOfInstance[vnfc.instance] ?? []
    for network in Set(vnfc.ports.map(\.network))
    where !others.contains(where: { vnfcs[$0]?.ports.contains { $0.network == network } ?? false })
    {
      instancesOfNetwork[network]?.remove(vnfc.instance)
      if instancesOfNetwork[network]?.isEmpty == true { instancesOfNetwork[network] = nil }
    }
    for port in vnfc.ports {
      for address in port.addresses { takenAddresses[port.network]?.remove(address.address) }
    }
  }

  /// The identity of a Vnfc's run.
  public func workload(_ vnfc: Vnfc, incarnation: Int) -> WorkloadID {
    WorkloadID(store: store, tenant: vnfc.tenant, vnfc: vnfc.id, incarnation: incarnation)
  }

  /// Keeps the addresses of a link whose workload is no Vnfc's of ours from being given away.
  mutating func reserve(addressesOf link: ObservedNetworks.Link) {
    guard let network = link.network, vnfcs[link.workload.vnfc] == nil else { return }
    for address in link.addresses {
      strayAddresses[network, default: [:]][address] = link.workload
    }
  }

  mutating func set(_ id: WorkloadID, _ workload: Workload?) {
    workloads[id] = workload
    if workload == nil {
      for (network, holders) in strayAddresses where holders.values.contains(id) {
        strayAddresses[network] = holders.filter { $0.value != id }
      }
      incarnations[id.vnfc]?.remove(id)
      if incarnations[id.vnfc]?.isEmpty == true { incarnations[id.vnfc] = nil }
    } else {
      incarnations[id.vnfc, default: []].insert(id)
    }
  }
}

extension State.Workload {
  var isStarted: Bool {
    switch phase {
    case .started, .awaitingReady, .ready, .activating, .serving, .configuring: true
    default: false
    }
  }
}
