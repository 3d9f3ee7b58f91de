import HoldProtocol
import LinuxSystem
import NFVModel
import Synchronization

/// Turns what the hold tells into ends of workloads, those from before this process first. A hold that
/// has taken the place of one that died is given its workloads again.
enum ExitSource {
  /// - Parameter status: nil where the end is told otherwise.
  static func exits(
    of workloads: HeldWorkloads,
    _ status:
      @escaping @Sendable (WorkloadID, LinuxSystem.ExitStatus) async -> NFVModel.ExitStatus?
  ) -> AsyncStream<WorkloadExit> {
    /// Ends that wait to be told; nil until the hold was asked for the first time.
    final class Waiting: Sendable {
      let exits = Mutex<[WorkloadExit]?>(nil)
    }
    let waiting = Waiting()
    let hold = workloads.hold

    @Sendable func exit(
      _ id: WorkloadID, _ ended: LinuxSystem.ExitStatus
    ) async -> WorkloadExit? {
      await status(id, ended).map { WorkloadExit(id: id, status: $0) }
    }
    @Sendable func ended() async -> [WorkloadExit] {
      while !Task.isCancelled {
        do throws(NFVError) {
          var exits: [WorkloadExit] = []
          for (id, ended) in try await workloads.kept().sorted(by: { $0.key < $1.key }) {
            if let ended, let exit = await exit(id, ended) { exits.append(exit) }
          }
          return exits
        } catch  where error.code == .unavailable {
          // That the connection is there again will be told.
          return []
        } catch {
          try? await Task.sleep(for: .seconds(1))
        }
      }
      return []
    }
    return AsyncStream {
      if waiting.exits.withLock({ $0 == nil }) {
        let known = await ended()
        waiting.exits.withLock { $0 = known }
      }
      while true {
        let next = waiting.exits.withLock { exits in
          exits?.isEmpty == false ? exits?.removeFirst() : nil
        }
        if let next { return next }
        // The stream's state is its own: each iterator goes on where the last one stopped.
        var events = hold.events.makeAsyncIterator()
        switch await events.next() {
        case nil: return nil
        case .exited(let key, let status):
          guard let id = workloads.workload(ofKey: key), let exit = await exit(id, status) else {
            continue
          }
          return exit
        case .connected:
          let known = await ended()
          waiting.exits.withLock { $0 = known }
        case .lost: continue
        }
      }
    }
  }

  /// The status with its reason: SIGKILL (or a shell's 137) in a group whose memory ran out is the
  /// kernel's doing.
  static func status(
    _ status: LinuxSystem.ExitStatus, of group: Cgroup
  ) -> NFVModel.ExitStatus {
    switch status {
    case .killed(signal: 9), .exited(code: 137):
      if group.outOfMemoryKills > 0 { return .outOfMemory }
    default: break
    }
    return switch status {
    case .exited(let code): .exited(code: code)
    case .killed(let signal): .killed(signal: signal)
    case .unknown: .unknown
    }
  }
}
