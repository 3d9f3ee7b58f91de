internal import Glibc
internal import SystemPackage

/// Runs `body` on a thread of its own that nobody waits for: for calls that block, which must not
/// hold up the threads of Swift's tasks.
public func startThread(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
  final class Box: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  let box = Unmanaged.passRetained(Box(body))
  var thread = pthread_t()
  // SAFETY: the box is retained for the thread, which takes it over at its start.
  let code = pthread_create(
    &thread, nil,
    { argument in
      Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().body()
      return nil
    }, box.toOpaque())
  guard code == 0 else {
    box.release()
    throw SystemError(call: "pthread_create", errno: Errno(rawValue: code))
  }
  pthread_detach(thread)
}

/// Sleeps the calling thread.
public func sleepThread(milliseconds: UInt32) { usleep(milliseconds * 1000) }
