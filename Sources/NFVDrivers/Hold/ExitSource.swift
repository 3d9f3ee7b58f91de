import HoldProtocol
import LinuxSystem
import NFVModel
import Synchronization

/// Turns what the hold tells into ends of workloads, those from before this process first.
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
      _ key: String, _ ended: LinuxSystem.ExitStatus
    ) async -> WorkloadExit? {
      guard let id = workloads.workload(ofKey: key), let status = await status(id, ended) else {
        return nil
      }
      return WorkloadExit(id: id, status: status)
    }
    @Sendable func ended() async -> [WorkloadExit] {
      var exits: [WorkloadExit] = []
      for holding in (try? await hold.list()) ?? [] {
        guard case .exited(_, let status) = holding.state,
          let exit = await exit(holding.key, status)
        else { continue }
        exits.append(exit)
      }
      return exits
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
          if let exit = await exit(key, status) { return exit }
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
