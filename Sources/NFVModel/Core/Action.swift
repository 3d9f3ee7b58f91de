/// What the planner asks of the host. The same for every technology; drivers expand them.
public enum Action: Sendable, Hashable {
  case ensureNetwork(Network)
  case removeNetwork(NetworkID, TenantID)
  case ensureImage(ImageDigest)
  /// Namespace, links and addresses. A link that replaces a serving one is parked.
  case prepareAttachment(WorkloadID, isActive: Bool)
  case startWorkload(WorkloadID)
  case awaitReady(WorkloadID)
  case activateAttachment(WorkloadID)
  /// A running function is handed its document, of this generation or a later one.
  case configureWorkload(WorkloadID, generation: Int)
  /// The processes end and the ports are cut off.
  case retireWorkload(WorkloadID, grace: Duration)
  /// All that is left is removed; then the addresses are free.
  case releaseAttachment(WorkloadID)
  /// The block devices of a Vnfc that is no more.
  case removeVolumes(VnfcID)

  /// What it acts on: one action at a time per subject, but that a workload may be retired while its
  /// readiness is awaited, whose result counts no more then.
  public enum Subject: Sendable, Hashable, Comparable {
    case network(NetworkID)
    case image(ImageDigest)
    case workload(WorkloadID)
    case volumes(VnfcID)
  }

  public var subject: Subject {
    switch self {
    case .ensureNetwork(let network): .network(network.id)
    case .removeNetwork(let network, _): .network(network)
    case .ensureImage(let digest): .image(digest)
    case .prepareAttachment(let id, _), .startWorkload(let id), .awaitReady(let id),
      .activateAttachment(let id), .configureWorkload(let id, _), .retireWorkload(let id, _),
      .releaseAttachment(let id):
      .workload(id)
    case .removeVolumes(let vnfc): .volumes(vnfc)
    }
  }

  /// Whether what it does outlives the host's power and cannot be done again: then the commit that asks
  /// for it has to be on disk before.
  public var isForGood: Bool {
    if case .removeVolumes = self { true } else { false }
  }

  /// The name in an operation's phases.
  public var name: String {
    switch self {
    case .ensureNetwork: "ensureNetwork"
    case .removeNetwork: "removeNetwork"
    case .ensureImage: "ensureImage"
    case .prepareAttachment: "prepareAttachment"
    case .startWorkload: "startWorkload"
    case .awaitReady: "awaitReady"
    case .activateAttachment: "activateAttachment"
    case .configureWorkload: "configureWorkload"
    case .retireWorkload: "retireWorkload"
    case .releaseAttachment: "releaseAttachment"
    case .removeVolumes: "removeVolumes"
    }
  }
}

/// How an action went.
public struct ActionResult: Sendable, Hashable {
  public var action: Action
  /// nil: it was done.
  public var error: NFVError?
  public var started: Timestamp
  public var ended: Timestamp

  public init(action: Action, error: NFVError? = nil, started: Timestamp, ended: Timestamp) {
    self.action = action
    self.error = error
    self.started = started
    self.ended = ended
  }
}

/// What the host has of our store's things, as a start of the daemon finds it.
public struct HostObservation: Sendable, Hashable {
  public var workloads: [ObservedWorkload]
  public var networks: ObservedNetworks
  /// The Vnfcs that have block devices.
  public var volumes: Set<VnfcID>

  public init(
    workloads: [ObservedWorkload] = [], networks: ObservedNetworks = .init(),
    volumes: Set<VnfcID> = []
  ) {
    self.workloads = workloads
    self.networks = networks
    self.volumes = volumes
  }
}

/// What the core is told.
public enum Event: Sendable, Hashable {
  /// `token` comes back with the answer.
  case request(Request, tenant: TenantID, actor: String, token: UInt64)
  case actionEnded(ActionResult)
  case workloadExited(WorkloadExit)
  /// The host was asked; comes once, before any action.
  case observed(HostObservation)
  /// The moment that `Core.wakeAt` named has come.
  case tick
}

/// What one step leads to.
public struct Outcome: Sendable {
  /// To be committed, in order, before anything else is done with this outcome.
  public var changes: [Change] = []
  /// To be given to callers after the commit.
  public var answers: [(token: UInt64, Result<Response, NFVError>)] = []
  /// To be performed after the commit.
  public var actions: [Action] = []

  public init() {}
}
