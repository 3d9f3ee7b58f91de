internal import LinuxSystem
internal import NFVLifecycle
internal import NFVModel
internal import Synchronization

/// Which workloads are paused. A driver is asked once for each, as it takes its time to answer and
/// nobody but this interface's users pauses anything.
final class Pauses: Sendable {
  private struct Known {
    var isPaused: [WorkloadID: Bool] = [:]
    /// When so many are known, those that have ended are forgotten.
    var bound = 1_000
  }

  private let known = Mutex(Known())
  private let lifecycle: Lifecycle
  /// Where drivers are asked: their calls may block.
  private let threads: BlockingExecutor

  init(lifecycle: Lifecycle, threads: BlockingExecutor) {
    self.lifecycle = lifecycle
    self.threads = threads
  }

  /// Pauses a workload, or lets it go on; a container's processes may take seconds to stand still.
  func set(_ workload: WorkloadID, isPaused: Bool, by driver: any Pausing) async throws(NFVError) {
    let result: Result<Void, NFVError> = await withTaskExecutorPreference(threads) {
      do throws(NFVError) {
        if isPaused { try await driver.pause(workload) } else { try await driver.resume(workload) }
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try result.get()
    known.withLock { $0.isPaused[workload] = isPaused }
  }

  /// Those that are paused; one that does not answer is not known to be.
  func paused(
    among workloads: [(id: WorkloadID, driver: any Pausing)]
  ) async -> Set<WorkloadID> {
    let unknown = known.withLock { known in workloads.filter { known.isPaused[$0.id] == nil } }
    if !unknown.isEmpty {
      let answers = await withTaskGroup(of: (WorkloadID, Bool).self) { group in
        for (id, driver) in unknown {
          group.addTask(executorPreference: threads) {
            (id, (try? await driver.isPaused(id)) ?? false)
          }
        }
        return await group.reduce(into: []) { $0.append($1) }
      }
      known.withLock { known in
        // What was paused meanwhile is known better.
        known.isPaused.merge(answers) { first, _ in first }
      }
      forgetEnded()
    }
    return known.withLock { known in
      Set(workloads.map(\.id).filter { known.isPaused[$0] == true })
    }
  }

  private func forgetEnded() {
    let all = known.withLock { $0.isPaused.count > $0.bound ? Array($0.isPaused.keys) : [] }
    guard !all.isEmpty else { return }
    let ended = try? lifecycle.read { (state: borrowing State) throws(NFVError) in
      all.filter { !state.isAlive($0) }
    }
    known.withLock { known in
      for id in ended ?? [] { known.isPaused[id] = nil }
      known.bound = max(1_000, 2 * known.isPaused.count)
    }
  }
}
