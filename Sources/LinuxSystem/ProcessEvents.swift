internal import CLinux
internal import Glibc
internal import SystemPackage

/// What the kernel tells of the host's processes as it happens (the process connector,
/// `linux/cn_proc.h`), without asking and without a part in them. Needs CAP_NET_ADMIN in the host's
/// own namespaces.
public final class ProcessEvents: Sendable {
  private let descriptor: FileDescriptor

  /// Listens from here on.
  /// - Throws: where the kernel has no connector, or the caller is not root.
  public init() throws(SystemError) {
    // NETLINK_CONNECTOR
    let descriptor = FileDescriptor(
      rawValue: try systemCall("socket", "process connector") {
        socket(AF_NETLINK, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 11)
      })
    self.descriptor = descriptor
    // struct sockaddr_nl: AF_NETLINK, no port of ours, the group CN_IDX_PROC.
    let address: [UInt32] = [16, 0, 1]
    try systemCall("bind", "process connector") {
      address.withUnsafeBytes {
        // SAFETY: the kernel reads the 12 octets of the array and no more.
        bind(
          descriptor.rawValue, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self),
          socklen_t($0.count))
      }
    }
    // nlmsghdr (NLMSG_DONE), cn_msg (CN_IDX_PROC, CN_VAL_PROC), PROC_CN_MCAST_LISTEN.
    let listen: [UInt32] = [40, 3, 0, 0, 1, 1, 0, 0, 4, 1]
    try systemCall("send", "process connector") {
      listen.withUnsafeBytes { send(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
    }
  }

  deinit { try? descriptor.close() }

  /// Waits for the first execve(2) of a process that `isMeant`. Blocks its thread.
  /// - Returns: the moment of which the kernel says that the new program began; nil when `deadline`
  ///   came first.
  public func firstExecution(
    until deadline: ContinuousClock.Instant, where isMeant: (_ pid: Int32) -> Bool
  ) throws(SystemError) -> ContinuousClock.Instant? {
    while ContinuousClock.now < deadline {
      guard try waitReadable(descriptor, milliseconds: 20) else { continue }
      var words = [UInt32](repeating: 0, count: 64)
      let count = try systemCall("recv", "process connector") {
        words.withUnsafeMutableBytes { recv(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
      }
      // After both headers (36 octets): what, cpu, time in two halves, and for PROC_EVENT_EXEC (2)
      // the thread and its process.
      guard count >= 60, words[9] == 2, isMeant(Int32(bitPattern: words[14])) else { continue }
      let moment = UInt64(words[11]) | UInt64(words[12]) << 32
      var now = timespec()
      clock_gettime(CLOCK_MONOTONIC, &now)
      let age = UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec) - moment
      return ContinuousClock.now - .nanoseconds(Int64(clamping: age))
    }
    return nil
  }

  /// Whether a process is the first of a process namespace of its own and in a control group whose
  /// path has `part` in it.
  public static func isFirstOfContainer(_ pid: Int32, inGroup part: String) -> Bool {
    guard let status = try? readFile("/proc/\(pid)/status", limit: 4096),
      let line = String(decoding: status, as: UTF8.self).split(separator: "\n")
        .first(where: { $0.hasPrefix("NSpid:") }),
      case let numbers = line.split(whereSeparator: \.isWhitespace).dropFirst(),
      numbers.count > 1, numbers.last == "1",
      let groups = try? readFile("/proc/\(pid)/cgroup", limit: 1 << 16)
    else { return false }
    return String(decoding: groups, as: UTF8.self).contains(part)
  }
}
