internal import LinuxSystem
internal import NFVModel

/// Where whole Ethernet frames are sent and received.
protocol FrameSocket {
  func send(_ frame: [UInt8]) throws(SystemError)
  /// - Returns: nil when the time was up.
  func receive(timeout: Duration) throws(SystemError) -> [UInt8]?
}

extension LinkSocket: FrameSocket {}

/// Asks a guest behind a tap, or a function that owns its addresses behind a veth, whether it answers,
/// by frames of our own on the fabric's end: the fabric has no address on the guest's networks, and
/// what is parked is on none.
///
/// It speaks with the last free address of the port's subnet: the guest may take that for ours until
/// its neighbour table ages.
struct FrameProbe<Socket: FrameSocket> {
  private let socket: Socket
  private let guest: (mac: [UInt8], address: [UInt8])
  private let own: (mac: [UInt8], address: [UInt8])

  /// - Parameters:
  ///   - socket: on the fabric's end `interface`.
  ///   - address: IPv4.
  init(on socket: Socket, interface: String, mac: MACAddress, address: IPPrefix) {
    self.socket = socket
    guest = (mac.octets, address.address.octets)
    // The last address of a prefix is its broadcast; of /31 and /32 there is none.
    var own = address.last.value - (address.length < 31 ? 1 : 0)
    if own == address.address.value { own -= 1 }
    self.own = (
      [2, 0x6D] + HostName.hash(interface).bigEndianOctets.prefix(4),
      IPAddress(family: .v4, value: own).octets
    )
  }

  /// Asks every 10 ms until an answer comes or `timeout` has passed.
  func answers(_ check: NetworkCheck, timeout: Duration) throws(SystemError) -> Bool {
    let deadline = ContinuousClock.now + timeout
    while true {
      let now = ContinuousClock.now
      if now >= deadline { return false }
      try send(check)
      let next = min(deadline, now + .milliseconds(10))
      // A guest may send without a pause: then there is always a frame more.
      repeat {
        guard let frame = try socket.receive(timeout: max(next - ContinuousClock.now, .zero)) else {
          break
        }
        if isQuestionForOwnAddress(frame) {
          try socket.send(answer(to: frame))
        } else if let isPositive = answer(in: frame, to: check) {
          return isPositive
        }
      } while ContinuousClock.now < next
    }
  }

  private func send(_ check: NetworkCheck) throws(SystemError) {
    switch check {
    case .icmp:
      var echo: [UInt8] = [8, 0, 0, 0, 0x6D, 0x61, 0, 1]
      echo.replaceSubrange(2..<4, with: Self.checksum(echo))
      try socket.send(packet(proto: 1, echo))
    case .tcp(let port):
      try socket.send(segment(to: port, sequence: 0, flags: 0x02))
    }
  }

  /// nil: it is none.
  private func answer(in frame: [UInt8], to check: NetworkCheck) -> Bool? {
    guard frame.count >= 34, frame[12..<14] == [8, 0], frame[26..<30].elementsEqual(guest.address),
      frame[30..<34].elementsEqual(own.address)
    else { return nil }
    let payload = frame.dropFirst(14 + Int(frame[14] & 15) * 4)
    switch check {
    case .icmp:
      guard frame[23] == 1, payload.count >= 8, payload.first == 0,
        payload.dropFirst(4).prefix(2) == [0x6D, 0x61]
      else { return nil }
      return true
    case .tcp(let port):
      guard frame[23] == 6, payload.count >= 14,
        payload.prefix(2).elementsEqual([UInt8(port >> 8 & 0xFF), UInt8(port & 0xFF)])
      else { return nil }
      let flags = payload[payload.startIndex + 13]
      if flags & 0x04 != 0 { return false }
      guard flags & 0x12 == 0x12 else { return nil }
      // What it has accepted is reset.
      try? socket.send(segment(to: port, sequence: 1, flags: 0x04))
      return true
    }
  }

  // MARK: Frames

  private func isQuestionForOwnAddress(_ frame: [UInt8]) -> Bool {
    frame.count >= 42 && frame[12..<14] == [8, 6] && frame[20..<22] == [0, 1]
      && frame[28..<32].elementsEqual(guest.address) && frame[38..<42].elementsEqual(own.address)
  }

  /// RFC 826.
  private func answer(to question: [UInt8]) -> [UInt8] {
    guest.mac + own.mac + [8, 6, 0, 1, 8, 0, 6, 4, 0, 2] + own.mac + own.address + guest.mac
      + guest.address
  }

  private func packet(proto: UInt8, _ payload: [UInt8]) -> [UInt8] {
    let length = UInt16(20 + payload.count)
    var header: [UInt8] =
      [0x45, 0, UInt8(length >> 8), UInt8(length & 0xFF), 0, 0, 0x40, 0, 64, proto, 0, 0]
      + own.address + guest.address
    header.replaceSubrange(10..<12, with: Self.checksum(header))
    return guest.mac + own.mac + [8, 0] + header + payload
  }

  private func segment(to port: Int, sequence: UInt8, flags: UInt8) -> [UInt8] {
    var tcp: [UInt8] = [
      0xC3, 0x50, UInt8(port >> 8 & 0xFF), UInt8(port & 0xFF), 0, 0, 0, sequence, 0, 0, 0, 0, 0x50,
      flags, 0xFF, 0xFF, 0, 0, 0, 0,
    ]
    tcp.replaceSubrange(
      16..<18, with: Self.checksum(own.address + guest.address + [0, 6, 0, 20] + tcp))
    return packet(proto: 6, tcp)
  }

  /// RFC 1071, of an even number of octets.
  private static func checksum(_ bytes: [UInt8]) -> [UInt8] {
    var sum: UInt32 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) {
      sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
    }
    while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
    return [UInt8(truncatingIfNeeded: ~sum >> 8), UInt8(truncatingIfNeeded: ~sum)]
  }
}

extension UInt64 {
  fileprivate var bigEndianOctets: [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: self >> (56 - 8 * $0)) }
  }
}
