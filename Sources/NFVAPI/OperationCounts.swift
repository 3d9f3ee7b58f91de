internal import NFVLifecycle
internal import NFVModel
internal import ServiceLifecycle
internal import Synchronization

/// Counts what the outbox tells, for the metrics.
final class OperationCounts: Service, Sendable {
  struct Key: Hashable, Comparable {
    var operation: String
    var state: String
    var isAutomatic: Bool

    static func < (left: Self, right: Self) -> Bool {
      (left.operation, left.state, left.isAutomatic ? 1 : 0)
        < (right.operation, right.state, right.isAutomatic ? 1 : 0)
    }
  }

  private struct Counts {
    var ended: [Key: Int] = [:]
    var failures = 0
  }

  private let counts = Mutex(Counts())
  private let lifecycle: Lifecycle

  init(_ lifecycle: Lifecycle) { self.lifecycle = lifecycle }

  /// Operations that ended since the start.
  var ended: [Key: Int] { counts.withLock(\.ended) }
  /// Workloads that ended by themselves since the start.
  var failures: Int { counts.withLock(\.failures) }

  func run() async throws {
    let start = lifecycle.lastSequence
    try await cancelWhenGracefulShutdown {
      for try await entry in self.lifecycle.notifications(after: start) {
        self.count(entry.notification)
      }
    }
  }

  private func count(_ notification: Notification) {
    counts.withLock { counts in
      switch notification.kind {
      case .operationOccurrence:
        guard let operation = notification.operationType, let state = notification.operationState,
          state.isEnded
        else { return }
        let key = Key(
          operation: operation.rawValue, state: state.rawValue,
          isAutomatic: notification.isAutomatic ?? false)
        counts.ended[key, default: 0] += 1
      case .workload: counts.failures += 1
      default: return
      }
    }
  }
}
