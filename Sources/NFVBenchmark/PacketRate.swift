internal import Glibc
public import LinuxSystem
internal import SystemPackage

extension ClientNamespace {
  /// Sends UDP datagrams of 18 octets, which are frames of 60, as fast as one thread can, and counts
  /// what comes to `sink` of them: the wall is the sender's where nothing is lost. Blocks as long.
  /// - Returns: frames a second that came.
  public func packetRate(
    to address: [UInt8], port: UInt16, countedBy sink: ClientNamespace, seconds: Int
  ) throws(SystemError) -> Double {
    // Somebody listens, and reads nothing: what nobody listens for is answered by errors.
    let listener = try sink.namespace.run { () throws(SystemError) in
      try DatagramSocket(bind: [0, 0, 0, 0], port: port)
    }
    defer { listener.close() }
    let sender = try namespace.run { () throws(SystemError) in
      try DatagramSocket(connect: address, port: port)
    }
    defer { sender.close() }
    let payload = [UInt8](repeating: 0, count: 18)
    // Neighbours, flows and their tables are known before anything is counted.
    for _ in 0..<100 {
      sender.send(payload)
      pause(microseconds: 500)
    }
    let before = try sink.receivedPackets()
    let start = ContinuousClock.now
    let end = start + .seconds(seconds)
    while ContinuousClock.now < end {
      for _ in 0..<64 { sender.send(payload) }
    }
    let time = (ContinuousClock.now - start).milliseconds / 1000
    pause(microseconds: 20_000)
    return Double(try sink.receivedPackets() - before) / time
  }

  private func receivedPackets() throws(SystemError) -> UInt64 {
    try namespace.run { () throws(SystemError) in
      try NetlinkSocket(.route).links().first { $0.name == Self.interface }?.receivedPackets ?? 0
    }
  }
}

/// A UDP socket of IPv4.
struct DatagramSocket: Sendable {
  let descriptor: FileDescriptor

  init(bind address: [UInt8], port: UInt16) throws(SystemError) {
    descriptor = try Self.open()
    var value = Self.address(address, port)
    try Self.with(&value, "bind") { bind(descriptor.rawValue, $0, $1) }
  }

  init(connect address: [UInt8], port: UInt16) throws(SystemError) {
    descriptor = try Self.open()
    var value = Self.address(address, port)
    try Self.with(&value, "connect") { connect(descriptor.rawValue, $0, $1) }
  }

  /// What cannot be sent is not counted: it does not come.
  func send(_ payload: [UInt8]) { _ = Glibc.send(descriptor.rawValue, payload, payload.count, 0) }

  func close() { try? descriptor.close() }

  private static func open() throws(SystemError) -> FileDescriptor {
    FileDescriptor(
      rawValue: try systemCall("socket", "udp") {
        socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      })
  }

  private static func address(_ octets: [UInt8], _ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = octets.reversed().reduce(0) { $0 << 8 | UInt32($1) }
    return address
  }

  private static func with(
    _ address: inout sockaddr_in, _ call: String,
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) throws(SystemError) {
    try systemCall(call, "udp") {
      // SAFETY: a sockaddr_in may be read as a sockaddr (ip(7)); the kernel copies it in the call.
      withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
  }
}
