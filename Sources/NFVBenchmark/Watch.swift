public import LinuxSystem
internal import Synchronization

/// How long probes on other threads look for something: until a moment, or until nobody waits for it
/// any more.
public final class Watch: Sendable {
  public let deadline: ContinuousClock.Instant
  private let isEnded = Atomic(false)

  public init(_ limit: Duration) { deadline = .now + limit }

  public var isOver: Bool { isEnded.load(ordering: .relaxed) || ContinuousClock.now >= deadline }

  public func end() { isEnded.store(true, ordering: .relaxed) }
}

extension ProcessEvents {
  /// The first execve(2) of a process that `isMeant`, as the kernel tells; nil when the watch was
  /// over first. Blocks its thread.
  public func firstExecution(
    _ watch: Watch, where isMeant: (_ pid: Int32) -> Bool
  ) throws(SystemError) -> ContinuousClock.Instant? {
    while !watch.isOver {
      // Events wait in the socket between two calls.
      let end = min(watch.deadline, .now + .milliseconds(100))
      if let moment = try firstExecution(until: end, where: isMeant) { return moment }
    }
    return nil
  }
}
