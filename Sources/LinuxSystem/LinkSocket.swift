internal import CLinux
internal import Glibc
internal import SystemPackage

/// A socket for whole Ethernet frames of one interface (packet(7), SOCK_RAW).
public final class LinkSocket: Sendable {
  private let descriptor: FileDescriptor

  /// Opens a socket on an interface of the calling thread's network namespace.
  /// - Parameter receives: false opens one that only sends, which costs the interface nothing.
  public init(interface name: String, receives: Bool = true) throws(SystemError) {
    let index = if_nametoindex(name)
    if index == 0 { throw SystemError.last("if_nametoindex", name) }
    let raw = try systemCall("socket", "AF_PACKET") {
      socket(AF_PACKET, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), 0)
    }
    descriptor = FileDescriptor(rawValue: raw)
    try systemCall("bind", name) {
      CLinux_bind_packet(raw, Int32(index), receives ? 3 : 0)  // ETH_P_ALL
    }
  }

  /// Closing one waits until no processor looks at it any more (a grace period of RCU), 10 to 20 ms:
  /// a thread of its own does it, so that nobody waits.
  private static let closing: BlockingQueue<FileDescriptor> = {
    let queue = BlockingQueue<FileDescriptor>()
    startThread(name: "link-sockets") {
      while let descriptors = queue.next(limit: 64) {
        for descriptor in descriptors { try? descriptor.close() }
      }
    }
    return queue
  }()

  deinit { Self.closing.append(descriptor) }

  /// Sends one frame, from the destination's MAC on, without checksum.
  public func send(_ frame: [UInt8]) throws(SystemError) {
    try systemCall("send", "frame") { Glibc.send(descriptor.rawValue, frame, frame.count, 0) }
  }

  /// Waits for a frame that comes to the interface; what leaves it is not heard.
  /// - Parameter timeout: as exact as the kernel's timers, 50 µs.
  /// - Returns: nil when the time was up.
  public func receive(timeout: Duration) throws(SystemError) -> [UInt8]? {
    let (seconds, attoseconds) = max(min(timeout, .seconds(86_400)), .zero).components
    let nanoseconds = seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    let ready = try systemCall("ppoll", "frame") {
      CLinux_await_input(descriptor.rawValue, nanoseconds)
    }
    guard ready > 0 else { return nil }
    // Room for the longest, which is not cleared first.
    var failure: SystemError?
    let frame = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
      do throws(SystemError) {
        count = try systemCall("recv", "frame") {
          recv(descriptor.rawValue, buffer.baseAddress, buffer.count, 0)
        }
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return frame
  }

  /// When the frame that was received last came to the interface, on the clock of ``now`` (socket(7),
  /// SIOCGSTAMPNS): without what the receiver itself needs to be woken. The first call begins to note it,
  /// for frames that come afterwards.
  public func arrival() throws(SystemError) -> Duration {
    var nanoseconds: Int64 = 0
    // ENOENT: nothing has come yet.
    guard CLinux_stamp(descriptor.rawValue, &nanoseconds) == 0 || errno == ENOENT else {
      throw SystemError.last("ioctl", "SIOCGSTAMPNS")
    }
    return .nanoseconds(nanoseconds)
  }

  /// The time since 1970.
  public static var now: Duration {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }
}
