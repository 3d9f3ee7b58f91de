public import LinuxSystem

/// Measures when a function's network answers first, as the draft does (4.2): by a flood of SYNs
/// until the first RST or SYN-ACK comes back.
///
/// Raw frames, so that neither ARP's nor TCP's retransmission timers are measured. The function's
/// MAC address is not known before it exists: it is asked for by raw ARP first, as often.
public enum SynProbe {
  /// Nobody serves it (tcpmux, RFC 1078), so that the answer is an RST.
  public static let closedPort: UInt16 = 1

  /// Floods `address` until it answers.
  /// - Parameters:
  ///   - namespace: from where, by its interface called `interface`.
  ///   - source: an IPv4 address of that interface, in the order of the wire.
  ///   - address: the function's IPv4 address, or of a host that is reached through it.
  ///   - gateway: the function's address where `address` is another's.
  /// - Returns: the moment of the answer; nil when the watch was over first.
  public static func firstAnswer(
    in namespace: NetworkNamespace, interface: String, source: [UInt8], to address: [UInt8],
    through gateway: [UInt8]? = nil, port: UInt16, watch: Watch
  ) throws(SystemError) -> ContinuousClock.Instant? {
    try namespace.run { () throws(SystemError) in
      let socket = try LinkSocket(interface: interface)
      let mac = try NetlinkSocket(.route).links().first { $0.name == interface }?.mac ?? []
      // It takes 25 µs at a time. As another of the host's threads it looked, with two processors, up to
      // 2 ms after the answer had come.
      return try comingFirst { () throws(SystemError) in
        try firstAnswer(
          on: socket, mac, source: source, to: address, through: gateway, port: port, watch: watch)
      }
    }
  }

  private static func firstAnswer(
    on socket: LinkSocket, _ mac: [UInt8], source: [UInt8], to address: [UInt8],
    through gateway: [UInt8]?, port: UInt16, watch: Watch
  ) throws(SystemError) -> ContinuousClock.Instant? {
    let neighbour = gateway ?? address
    var target: [UInt8]?
    var sequence: UInt32 = 1
    let began = ContinuousClock.now
    while !watch.isOver {
      sequence &+= 1
      // A bridge without ports, as a peer's is at first, takes no frames: nobody would answer.
      try? socket.send(
        target.map { syn(mac, $0, source, address, port: port, sequence: sequence) }
          ?? arpRequest(mac, source, neighbour))
      let interval = interval(after: .now - began)
      let next = ContinuousClock.now + min(interval, target == nil ? interval : .milliseconds(1))
      // Whoever waits for an answer learns of it at once, as a host's kernel does.
      repeat {
        guard let frame = try socket.receive(timeout: next - .now) else { break }
        // Every request that waited in a machine's tap is answered: only the first one counts.
        if target == nil, let found = arpReply(frame, from: neighbour) {
          target = found
          break
        }
        if isTCPAnswer(frame, from: address) { return ContinuousClock.now }
      } while ContinuousClock.now < next
    }
    return nil
  }

  /// Between two ARP requests; SYNs follow faster. A hundredth of the time that has
  /// passed, so that it is as exact for what takes seconds as for what takes milliseconds: each frame
  /// takes 30 to 60 µs of a processor away from what is measured, and waits in a machine's tap until
  /// its guest has worked it off.
  static func interval(after passed: Duration) -> Duration {
    min(max(passed / 100, .microseconds(150)), .milliseconds(20))
  }

  /// RFC 826.
  static func arpRequest(_ mac: [UInt8], _ source: [UInt8], _ target: [UInt8]) -> [UInt8] {
    [UInt8](repeating: 0xFF, count: 6) + mac + [8, 6, 0, 1, 8, 0, 6, 4, 0, 1] + mac + source
      + [UInt8](repeating: 0, count: 6) + target
  }

  static func arpReply(_ frame: [UInt8], from address: [UInt8]) -> [UInt8]? {
    guard frame.count >= 42, frame[12..<14] == [8, 6], frame[20..<22] == [0, 2],
      Array(frame[28..<32]) == address
    else { return nil }
    return Array(frame[22..<28])
  }

  /// Asks by ARP for up to 2 s; nil where nobody says that the address is his.
  static func mac(
    of address: [UInt8], on socket: LinkSocket, _ own: [UInt8], _ source: [UInt8]
  ) throws(SystemError) -> [UInt8]? {
    for _ in 0..<20 {
      try socket.send(arpRequest(own, source, address))
      while let frame = try socket.receive(timeout: .milliseconds(100)) {
        if let found = arpReply(frame, from: address) { return found }
      }
    }
    return nil
  }

  /// RST or SYN together with ACK, from `address`.
  static func isTCPAnswer(_ frame: [UInt8], from address: [UInt8]) -> Bool {
    guard frame.count >= 54, frame[12..<14] == [8, 0], frame[23] == 6,
      Array(frame[26..<30]) == address, frame.count >= 14 + Int(frame[14] & 15) * 4 + 14
    else { return false }
    let flags = frame[14 + Int(frame[14] & 15) * 4 + 13]
    return flags & 0x04 != 0 || flags & 0x12 == 0x12
  }

  /// A reset of the SYN that had this number (RFC 9293, 3.10.7.1).
  static func isReset(_ frame: [UInt8], from address: [UInt8], of sequence: UInt32) -> Bool {
    guard isTCPAnswer(frame, from: address) else { return false }
    let tcp = 14 + Int(frame[14] & 15) * 4
    guard frame.count >= tcp + 20, frame[tcp + 13] & 0x14 == 0x14 else { return false }
    return frame[tcp + 8..<tcp + 12].reduce(0) { $0 << 8 | UInt32($1) } == sequence &+ 1
  }

  static func syn(
    _ from: [UInt8], _ to: [UInt8], _ source: [UInt8], _ target: [UInt8], port: UInt16,
    sequence: UInt32
  ) -> [UInt8] {
    func octets(_ value: UInt32) -> [UInt8] {
      [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
    }
    var ip: [UInt8] = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0] + source + target
    ip.replaceSubrange(10..<12, with: checksum(ip))
    var tcp: [UInt8] =
      [0xC3, 0x50, UInt8(port >> 8), UInt8(port & 0xFF)] + octets(sequence) + [0, 0, 0, 0]
      + [0x50, 0x02, 0xFF, 0xFF, 0, 0, 0, 0]
    tcp.replaceSubrange(16..<18, with: checksum(source + target + [0, 6, 0, 20] + tcp))
    return to + from + [8, 0] + ip + tcp
  }

  /// RFC 1071.
  static func checksum(_ bytes: [UInt8]) -> [UInt8] {
    var sum: UInt32 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) {
      sum += UInt32(bytes[index]) << 8 | UInt32(index + 1 < bytes.count ? bytes[index + 1] : 0)
    }
    while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
    return [UInt8(truncatingIfNeeded: ~sum >> 8), UInt8(truncatingIfNeeded: ~sum)]
  }
}
