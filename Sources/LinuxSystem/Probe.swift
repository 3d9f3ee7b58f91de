internal import CLinux
internal import Glibc
internal import SystemPackage

/// Whether something accepts a TCP connection, from the calling thread's network namespace.
/// - Parameter address: 4 or 16 octets in the order of the wire.
public func acceptsConnection(
  _ address: [UInt8], port: UInt16, timeout: Duration
) throws(SystemError) -> Bool {
  let family = address.count == 4 ? AF_INET : AF_INET6
  let flags = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
  let descriptor = FileDescriptor(
    rawValue: try systemCall("socket", "tcp") { socket(family, flags, 0) })
  defer { try? descriptor.close() }
  do throws(SystemError) {
    try systemCall("connect", "port \(port)") {
      withSocketAddress(address, port: port) { connect(descriptor.rawValue, $0, $1) }
    }
    return true
  } catch  where error.errno != Errno(rawValue: EINPROGRESS) {
    return false
  } catch {}
  var state = pollfd(fd: descriptor.rawValue, events: Int16(POLLOUT), revents: 0)
  let ready = try systemCall("poll") { poll(&state, 1, milliseconds(timeout)) }
  guard ready == 1 else { return false }
  var code: Int32 = 0
  var length = socklen_t(4)
  try systemCall("getsockopt") {
    getsockopt(descriptor.rawValue, SOL_SOCKET, SO_ERROR, &code, &length)
  }
  return code == 0
}

/// Whether an address answers an ICMP or ICMPv6 echo request (icmp(7)), from the calling thread's
/// network namespace. Needs CAP_NET_RAW there.
public func answersEcho(_ address: [UInt8], timeout: Duration) throws(SystemError) -> Bool {
  let isV4 = address.count == 4
  let descriptor = FileDescriptor(
    rawValue: try systemCall("socket", "icmp") {
      socket(
        isV4 ? AF_INET : AF_INET6, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue),
        isV4 ? 1 : 58)
    })
  defer { try? descriptor.close() }
  let identifier = UInt16(truncatingIfNeeded: getpid())
  var request: [UInt8] = [
    isV4 ? 8 : 128, 0, 0, 0, UInt8(identifier >> 8), UInt8(identifier & 0xFF), 0, 1,
  ]
  if isV4 {
    // The kernel computes ICMPv6's checksum, not ICMP's (RFC 1071).
    var sum: UInt32 = 0
    for index in stride(from: 0, to: request.count, by: 2) {
      sum += UInt32(request[index]) << 8 | UInt32(request[index + 1])
    }
    while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
    request[2] = UInt8(truncatingIfNeeded: ~sum >> 8)
    request[3] = UInt8(truncatingIfNeeded: ~sum)
  }
  try systemCall("sendto", "icmp") {
    withSocketAddress(address, port: 0) {
      sendto(descriptor.rawValue, request, request.count, 0, $0, $1)
    }
  }
  let deadline = ContinuousClock.now + timeout
  while true {
    let left = deadline - ContinuousClock.now
    // Others' packets may come without a pause.
    if left <= .zero { return false }
    var state = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
    let ready = try systemCall("poll") { poll(&state, 1, milliseconds(left)) }
    guard ready == 1 else { return false }
    var answer = [UInt8](repeating: 0, count: 256)
    let count = try systemCall("recv", "icmp") { recv(descriptor.rawValue, &answer, 256, 0) }
    // IPv4's raw sockets show the IP header.
    let start = isV4 ? Int(answer[0] & 15) * 4 : 0
    if count >= start + 8, answer[start] == (isV4 ? 0 : 129),
      Array(answer[start + 4..<start + 6]) == Array(request[4..<6])
    {
      return true
    }
  }
}

/// Lets the calling thread sleep (nanosleep(2)); the kernel adds its timer slack, 50 µs by default.
public func pause(microseconds: UInt32) { _ = usleep(microseconds) }

private func milliseconds(_ duration: Duration) -> Int32 {
  let (seconds, attoseconds) = max(duration, .zero).components
  return Int32(min(seconds * 1000 + attoseconds / 1_000_000_000_000_000, 600_000))
}

private func withSocketAddress<Value>(
  _ address: [UInt8], port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value
) -> Value {
  func call<Address>(_ value: Address) -> Value {
    // SAFETY: both kinds of address begin as a sockaddr does, and the pointer lives for the call.
    withUnsafePointer(to: value) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<Address>.size))
      }
    }
  }
  if address.count == 4 {
    var value = sockaddr_in()
    value.sin_family = sa_family_t(AF_INET)
    value.sin_port = port.bigEndian
    withUnsafeMutableBytes(of: &value.sin_addr) { $0.copyBytes(from: address) }
    return call(value)
  }
  var value = sockaddr_in6()
  value.sin6_family = sa_family_t(AF_INET6)
  value.sin6_port = port.bigEndian
  withUnsafeMutableBytes(of: &value.sin6_addr) { $0.copyBytes(from: address.prefix(16)) }
  return call(value)
}
