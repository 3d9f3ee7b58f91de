/// One durable change; a commit is a list of them, applied together or not at all.
public enum Change: Sendable, Hashable {
  case putPackage(VnfPackage)
  case removePackage(VnfPackageID)
  case putInstance(VnfInstance)
  case removeInstance(VnfInstanceID)
  case putVnfc(Vnfc)
  case removeVnfc(VnfcID)
  case putNetwork(Network)
  case removeNetwork(NetworkID)
  case putOperation(VnfLcmOpOcc)
  case notify(Notification)
}

/// What subscribers and the event stream are told; written in the commit that makes it true.
public struct Notification: Sendable, Hashable, Codable {
  public enum Kind: String, Sendable, Hashable, Codable {
    case vnfIdentifierCreation = "VnfIdentifierCreationNotification"
    case vnfIdentifierDeletion = "VnfIdentifierDeletionNotification"
    case operationOccurrence = "VnfLcmOperationOccurrenceNotification"
    case packageOnboarding = "VnfPackageOnboardingNotification"
    case packageChange = "VnfPackageChangeNotification"
    /// Not ETSI's: a workload ended, or serves again.
    case workload = "WorkloadNotification"
  }

  public var kind: Kind
  public var tenant: TenantID
  public var time: Timestamp
  public var instance: VnfInstanceID?
  public var package: VnfPackageID?
  public var operation: VnfLcmOpOccID?
  public var operationType: LcmOperationType?
  public var operationState: LcmOperationState?
  public var isAutomatic: Bool?
  public var vnfc: VnfcID?
  /// For people.
  public var message: String?

  public init(kind: Kind, tenant: TenantID, time: Timestamp) {
    self.kind = kind
    self.tenant = tenant
    self.time = time
  }
}

/// A notification with its place in the outbox.
public struct OutboxEntry: Sendable, Hashable, Codable {
  /// Rises by one with each notification, over restarts as well.
  public var sequence: Int64
  public var notification: Notification

  public init(sequence: Int64, notification: Notification) {
    self.sequence = sequence
    self.notification = notification
  }
}

/// All that the core needs to go on after a restart. Ended operations stay in the store.
public struct StoredState: Sendable, Hashable {
  public var store: StoreID
  /// Rises with every commit that may bring something new onto the host: a network, a Vnfc, or another
  /// incarnation of one. The host keeps a copy, so that a restored backup is noticed.
  public var generation: Int
  public var packages: [VnfPackage]
  public var instances: [VnfInstance]
  public var vnfcs: [Vnfc]
  public var networks: [Network]
  public var openOperations: [VnfLcmOpOcc]
  /// Of the newest outbox entry; 0 where there was none.
  public var lastSequence: Int64

  public init(
    store: StoreID, generation: Int = 1, packages: [VnfPackage] = [],
    instances: [VnfInstance] = [], vnfcs: [Vnfc] = [], networks: [Network] = [],
    openOperations: [VnfLcmOpOcc] = [], lastSequence: Int64 = 0
  ) {
    self.store = store
    self.generation = generation
    self.packages = packages
    self.instances = instances
    self.vnfcs = vnfcs
    self.networks = networks
    self.openOperations = openOperations
    self.lastSequence = lastSequence
  }
}

/// Where the desired state is durable. Calls block; one thread writes, any reads.
public protocol Store: Sendable {
  func load() throws(NFVError) -> StoredState

  /// Applies the changes in one transaction, which outlives this process when this returns, and the
  /// host's power when ``sync()`` has returned.
  /// - Returns: the outbox entries of the changes' notifications, in order.
  /// - Throws: `exhausted` where the disk is full; then nothing was changed.
  func commit(_ changes: [Change]) throws(NFVError) -> [OutboxEntry]

  /// Returns when all that was committed is on disk.
  func sync() throws(NFVError)

  func operation(_ id: VnfLcmOpOccID) throws(NFVError) -> VnfLcmOpOcc?

  /// Occurrences, the newest first; `before` is the last of the page before.
  func operations(
    of instance: VnfInstanceID?, before: VnfLcmOpOccID?, limit: Int
  ) throws(NFVError) -> [VnfLcmOpOcc]

  /// Outbox entries after `sequence`, the oldest first.
  /// - Throws: `notFound` where entries after `sequence` were already dropped.
  func outbox(after sequence: Int64, limit: Int) throws(NFVError) -> [OutboxEntry]
}
