internal import Synchronization

/// A store that is lost with the process: for tests, the simulator and `--store memory`.
public final class MemoryStore: Store, Sendable {
  private struct Content {
    var stored: StoredState
    var packages: [VnfPackageID: VnfPackage] = [:]
    var instances: [VnfInstanceID: VnfInstance] = [:]
    var vnfcs: [VnfcID: Vnfc] = [:]
    var networks: [NetworkID: Network] = [:]
    var operations: [VnfLcmOpOccID: VnfLcmOpOcc] = [:]
    /// In the order of their first commit.
    var operationOrder: [VnfLcmOpOccID] = []
    var outbox: [OutboxEntry] = []
    var lastSequence: Int64 = 0
  }

  private let content: Mutex<Content>
  private let retention: Int

  /// - Parameter retention: how many outbox entries are kept.
  public init(id: StoreID, retention: Int = 10_000) {
    content = Mutex(Content(stored: StoredState(store: id, generation: 0)))
    self.retention = retention
  }

  public func load() throws(NFVError) -> StoredState {
    content.withLock { content in
      var stored = content.stored
      stored.packages = content.packages.values.sorted { $0.id < $1.id }
      stored.instances = content.instances.values.sorted { $0.id < $1.id }
      stored.vnfcs = content.vnfcs.values.sorted { $0.id < $1.id }
      stored.networks = content.networks.values.sorted { $0.id < $1.id }
      stored.openOperations = content.operations.values.filter { !$0.state.isEnded }
        .sorted { $0.id < $1.id }
      stored.lastSequence = content.lastSequence
      return stored
    }
  }

  public func sync() {}

  public func commit(_ changes: [Change]) throws(NFVError) -> [OutboxEntry] {
    content.withLock { content in
      var entries: [OutboxEntry] = []
      var isRaised = false
      for change in changes {
        switch change {
        case .putPackage(let package): content.packages[package.id] = package
        case .removePackage(let id): content.packages[id] = nil
        case .putInstance(let instance): content.instances[instance.id] = instance
        case .removeInstance(let id): content.instances[id] = nil
        case .putVnfc(let vnfc):
          let known = content.vnfcs.updateValue(vnfc, forKey: vnfc.id)
          if known?.incarnation != vnfc.incarnation { isRaised = true }
        case .removeVnfc(let id): content.vnfcs[id] = nil
        case .putNetwork(let network):
          content.networks[network.id] = network
          isRaised = true
        case .removeNetwork(let id): content.networks[id] = nil
        case .putOperation(let operation):
          if content.operations.updateValue(operation, forKey: operation.id) == nil {
            content.operationOrder.append(operation.id)
          }
        case .notify(let notification):
          content.lastSequence += 1
          entries.append(
            OutboxEntry(sequence: content.lastSequence, notification: notification))
        }
      }
      if isRaised { content.stored.generation += 1 }
      content.outbox += entries
      if content.outbox.count > 2 * retention {
        content.outbox.removeFirst(content.outbox.count - retention)
      }
      return entries
    }
  }

  public func operation(_ id: VnfLcmOpOccID) throws(NFVError) -> VnfLcmOpOcc? {
    content.withLock { $0.operations[id] }
  }

  public func operations(
    of instance: VnfInstanceID?, before: VnfLcmOpOccID?, limit: Int
  ) throws(NFVError) -> [VnfLcmOpOcc] {
    content.withLock { content in
      var ids = content.operationOrder[...]
      if let before, let index = ids.firstIndex(of: before) { ids = ids[..<index] }
      return Array(
        ids.reversed().compactMap { content.operations[$0] }
          .filter { instance == nil || $0.instance == instance }.prefix(limit))
    }
  }

  public func outbox(after sequence: Int64, limit: Int) throws(NFVError) -> [OutboxEntry] {
    try content.withLock { content throws(NFVError) in
      let first = content.outbox.first?.sequence ?? content.lastSequence + 1
      guard sequence >= first - 1 else {
        throw NFVError(
          .notFound, "the events after \(sequence) are gone; the oldest kept one is \(first)")
      }
      return Array(content.outbox.lazy.filter { $0.sequence > sequence }.prefix(limit))
    }
  }
}
