import HoldProtocol
import LinuxSystem
import NFVModel
import Synchronization

/// Turns what the hold tells into ends of workloads, those from before this process first.
enum ExitSource {
  static func exits(
    hold: HoldClient, hierarchies: CgroupHierarchies, store: StoreID
  ) -> AsyncStream<WorkloadExit> {
    /// Ends that wait to be told; nil until the hold was asked for the first time.
    final class Waiting: Sendable {
      let exits = Mutex<[WorkloadExit]?>(nil)
    }
    let waiting = Waiting()

    @Sendable func exit(_ key: String, _ status: LinuxSystem.ExitStatus) -> WorkloadExit? {
      guard key.hasPrefix("workload:"), let id = ContainerDriver.workload(of: key),
        id.store == store
      else { return nil }
      let group = hierarchies.group(ContainerDriver.groupPath(id))
      return WorkloadExit(id: id, status: Self.status(status, of: group))
    }
    @Sendable func ended() async -> [WorkloadExit] {
      let holdings = (try? await hold.list()) ?? []
      return holdings.compactMap { holding in
        guard case .exited(_, let status) = holding.state else { return nil }
        return exit(holding.key, status)
      }
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
          if let exit = exit(key, status) { return exit }
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
