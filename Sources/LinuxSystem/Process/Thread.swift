internal import CLinux
internal import Glibc

/// Runs `body` on a new thread of its own, detached: for calls that block, which must not hold up the
/// threads of Swift's tasks.
/// - Parameter name: as ps(1) and debuggers show it (PR_SET_NAME), at most 15 octets.
public func startThread(name: String, _ body: @escaping @Sendable () -> Void) {
  final class Box: Sendable {
    let name: String
    let body: @Sendable () -> Void
    init(name: String, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }
  var thread = pthread_t()
  let box = Unmanaged.passRetained(Box(name: name, body: body))
  let code = pthread_create(
    &thread, nil,
    { argument in
      // SAFETY: the argument is the box retained below, handed to this thread alone.
      let box = Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue()
      _ = CLinux_set_thread_name(box.name)
      box.body()
      return nil
    }, box.toOpaque())
  precondition(code == 0, "pthread_create: errno \(code)")
  pthread_detach(thread)
}

/// Sleeps the calling thread.
public func sleepThread(milliseconds: UInt32) { sleepThread(microseconds: milliseconds * 1000) }

/// Sleeps the calling thread.
public func sleepThread(microseconds: UInt32) { usleep(microseconds) }

/// Runs `body` on this thread before all threads that are scheduled as usual (SCHED_FIFO, sched(7)): for
/// what measures, and sleeps in between. Where that is not allowed it runs as usual.
public func comingFirst<Value>(
  _ body: () throws(SystemError) -> Value
) throws(SystemError) -> Value {
  let comesFirst = CLinux_set_scheduler(1, 1) == 0
  defer { if comesFirst { _ = CLinux_set_scheduler(0, 0) } }
  return try body()
}
