internal import CLinux
internal import Glibc
public import SystemPackage

/// Unix sockets of packets (`SOCK_SEQPACKET`) that carry descriptors (SCM_RIGHTS; `unix(7)`). All
/// descriptors are close-on-exec.
public enum PacketSocket {
  /// What a receive has brought.
  public enum Received: Sendable, Hashable {
    case packet([UInt8], [FileDescriptor])
    /// The packet was longer than allowed, or had more descriptors; it is lost, and they are closed.
    case oversized
    case wouldBlock
    case closed
  }

  /// Who is at the other end, as the kernel took it down at connect (SO_PEERCRED).
  public struct Peer: Sendable, Hashable {
    public var pid: Int32
    public var uid: UInt32
    public var gid: UInt32
  }

  /// A non-blocking listening socket at `path`, mode 0600. Changes the process's umask for a
  /// moment, so other threads must not make files meanwhile.
  public static func listen(_ path: String) throws(SystemError) -> FileDescriptor {
    let descriptor = try make(nonBlocking: true)
    let mask = umask(0o177)
    defer { umask(mask) }
    do throws(SystemError) {
      try withAddress(path) { (address, length) throws(SystemError) in
        _ = try systemCall("bind", path) { bind(descriptor.rawValue, address, length) }
      }
      try systemCall("listen", path) { Glibc.listen(descriptor.rawValue, 64) }
    } catch {
      try? descriptor.close()
      throw error
    }
    return descriptor
  }

  /// A blocking connection to the socket at `path`.
  public static func connect(_ path: String) throws(SystemError) -> FileDescriptor {
    let descriptor = try make(nonBlocking: false)
    do throws(SystemError) {
      try withAddress(path) { (address, length) throws(SystemError) in
        _ = try systemCall("connect", path) { Glibc.connect(descriptor.rawValue, address, length) }
      }
    } catch {
      try? descriptor.close()
      throw error
    }
    return descriptor
  }

  /// Two that are connected: ours does not block, theirs does.
  public static func pair() throws(SystemError) -> (ours: FileDescriptor, theirs: FileDescriptor) {
    var numbers: (Int32, Int32) = (-1, -1)
    let type = Int32(SOCK_SEQPACKET.rawValue) | O_CLOEXEC
    try systemCall("socketpair") {
      withUnsafeMutableBytes(of: &numbers) {
        // SAFETY: socketpair(2) writes two descriptors' numbers, which is what the tuple holds.
        socketpair(AF_UNIX, type, 0, $0.baseAddress!.assumingMemoryBound(to: Int32.self))
      }
    }
    let pair = (
      ours: FileDescriptor(rawValue: numbers.0), theirs: FileDescriptor(rawValue: numbers.1)
    )
    try setWaiting(false, pair.ours)
    return pair
  }

  /// The next waiting connection, non-blocking; nil where none waits.
  public static func accept(_ listener: FileDescriptor) throws(SystemError) -> FileDescriptor? {
    do throws(SystemError) {
      return FileDescriptor(
        rawValue: try systemCall("accept4") {
          CLinux_accept(listener.rawValue, O_NONBLOCK | O_CLOEXEC)
        })
    } catch  where error.errno == .wouldBlock || error.errno == .connectionAbort {
      return nil
    }
  }

  public static func peer(of descriptor: FileDescriptor) throws(SystemError) -> Peer {
    var credentials = CLinux_credentials()
    var length = socklen_t(MemoryLayout<CLinux_credentials>.size)
    try systemCall("getsockopt", "SO_PEERCRED") {
      getsockopt(descriptor.rawValue, SOL_SOCKET, SO_PEERCRED, &credentials, &length)
    }
    return Peer(pid: credentials.pid, uid: credentials.uid, gid: credentials.gid)
  }

  /// Ends both directions, which wakes a thread that receives; the descriptor stays open.
  public static func shutDown(_ descriptor: FileDescriptor) {
    _ = shutdown(descriptor.rawValue, Int32(SHUT_RDWR))
  }

  /// Sends one packet with descriptors beside it.
  ///
  /// - Returns: false where the peer's queue is full and the socket does not block.
  public static func send(
    _ bytes: [UInt8], _ descriptors: [FileDescriptor] = [], on socket: FileDescriptor
  ) throws(SystemError) -> Bool {
    var control = controlMessage(descriptors)
    do throws(SystemError) {
      // SAFETY: the message's pointers are into `bytes` and `control`, both alive during the call,
      // which only reads them.
      try systemCall("sendmsg") {
        bytes.withUnsafeBytes { data in
          control.withUnsafeMutableBytes { extra in
            var vector = iovec(
              iov_base: UnsafeMutableRawPointer(mutating: data.baseAddress), iov_len: data.count)
            return withUnsafeMutablePointer(to: &vector) { vector in
              var message = msghdr()
              message.msg_iov = vector
              message.msg_iovlen = 1
              message.msg_control = extra.baseAddress
              message.msg_controllen = extra.count
              return sendmsg(socket.rawValue, &message, Int32(MSG_NOSIGNAL))
            }
          }
        }
      }
      return true
    } catch  where error.errno == .wouldBlock {
      return false
    }
  }

  /// Receives one packet of at most `limit` bytes and `descriptorLimit` descriptors.
  public static func receive(
    on socket: FileDescriptor, limit: Int, descriptorLimit: Int
  ) throws(SystemError) -> Received {
    var bytes = [UInt8](repeating: 0, count: limit)
    var control = [UInt8](repeating: 0, count: headerSize + aligned(descriptorLimit * 4))
    var flags: Int32 = 0
    var controlLength = 0
    let count: Int
    do throws(SystemError) {
      // SAFETY: the kernel writes at most `limit` bytes and the length of `control`; both arrays
      // outlive the call.
      count = try systemCall("recvmsg") {
        bytes.withUnsafeMutableBytes { data in
          control.withUnsafeMutableBytes { extra in
            var vector = iovec(iov_base: data.baseAddress, iov_len: data.count)
            return withUnsafeMutablePointer(to: &vector) { vector in
              var message = msghdr()
              message.msg_iov = vector
              message.msg_iovlen = 1
              message.msg_control = extra.baseAddress
              message.msg_controllen = extra.count
              let count = recvmsg(socket.rawValue, &message, Int32(MSG_CMSG_CLOEXEC))
              flags = message.msg_flags
              controlLength = message.msg_controllen
              return count
            }
          }
        }
      }
    } catch  where error.errno == .wouldBlock {
      return .wouldBlock
    } catch  where error.errno == .connectionReset {
      return .closed
    }
    let descriptors = descriptors(in: control, length: controlLength)
    if flags & Int32(MSG_TRUNC | MSG_CTRUNC) != 0 {
      for descriptor in descriptors { try? descriptor.close() }
      return .oversized
    }
    // Our packets are never empty, so an empty one is the end.
    guard count > 0 else { return .closed }
    bytes.removeLast(limit - count)
    return .packet(bytes, descriptors)
  }

  /// `struct cmsghdr`: a 64-bit length, two 32-bit integers; no padding follows on 64-bit machines.
  private static let headerSize = 16

  private static func aligned(_ length: Int) -> Int { (length + 7) & ~7 }

  private static func controlMessage(_ descriptors: [FileDescriptor]) -> [UInt8] {
    guard !descriptors.isEmpty else { return [] }
    let length = headerSize + 4 * descriptors.count
    var bytes = [UInt8](repeating: 0, count: aligned(length))
    bytes.withUnsafeMutableBytes { buffer in
      buffer.storeBytes(of: length, as: Int.self)
      buffer.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: Int32.self)
      buffer.storeBytes(of: Int32(1), toByteOffset: 12, as: Int32.self)
      for (index, descriptor) in descriptors.enumerated() {
        buffer.storeBytes(
          of: descriptor.rawValue, toByteOffset: headerSize + 4 * index, as: Int32.self)
      }
    }
    return bytes
  }

  private static func descriptors(in control: [UInt8], length: Int) -> [FileDescriptor] {
    control.withUnsafeBytes { buffer in
      var found: [FileDescriptor] = []
      var position = 0
      while position + headerSize <= length {
        let size = buffer.loadUnaligned(fromByteOffset: position, as: Int.self)
        guard size >= headerSize, position + size <= length else { break }
        let level = buffer.loadUnaligned(fromByteOffset: position + 8, as: Int32.self)
        let type = buffer.loadUnaligned(fromByteOffset: position + 12, as: Int32.self)
        if level == SOL_SOCKET, type == Int32(1) {
          for offset in stride(from: position + headerSize, to: position + size - 3, by: 4) {
            found.append(
              FileDescriptor(
                rawValue: buffer.loadUnaligned(fromByteOffset: offset, as: Int32.self)))
          }
        }
        position += aligned(size)
      }
      return found
    }
  }

  private static func make(nonBlocking: Bool) throws(SystemError) -> FileDescriptor {
    // SOCK_CLOEXEC and SOCK_NONBLOCK are the same bits as open(2)'s.
    let type =
      Int32(SOCK_SEQPACKET.rawValue) | O_CLOEXEC | (nonBlocking ? O_NONBLOCK : 0)
    return FileDescriptor(rawValue: try systemCall("socket") { socket(AF_UNIX, type, 0) })
  }

  static func withAddress<Value>(
    _ path: String,
    _ body: (UnsafePointer<sockaddr>, socklen_t) throws(SystemError) -> Value
  ) throws(SystemError) -> Value {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard bytes.count < room else {
      throw SystemError(call: "bind", errno: .fileNameTooLong, subject: path)
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    // SAFETY: a sockaddr_un is a sockaddr for the kernel, which is told its length.
    return try withUnsafePointer(to: &address) { (pointer) throws(SystemError) in
      try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        (pointer) throws(SystemError) in
        try body(pointer, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }
}
