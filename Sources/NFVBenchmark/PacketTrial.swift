public import LinuxSystem

/// What became of a packet, as who sent it sees it.
public enum PacketVerdict: Sendable, Hashable, CustomStringConvertible {
  /// Answered by whom it was sent to.
  case passed
  /// By a reset or an ICMP error.
  case refused
  /// Its time to live ended there (RFC 792).
  case expired(at: [UInt8])
  /// No answer came.
  case dropped

  public var description: String {
    switch self {
    case .passed: "passed"
    case .refused: "refused"
    case .expired(let address): "expired at \(address.map(String.init).joined(separator: "."))"
    case .dropped: "dropped"
    }
  }
}

/// A packet that is sent to see what becomes of it: the same octets each time, but for addresses.
public struct PacketTrial: Sendable, Hashable, CustomStringConvertible {
  public enum Kind: Sendable, Hashable {
    /// A ping with so many octets after its header.
    case echo(octets: Int)
    /// The beginning of a connection.
    case connection(port: UInt16)
    /// The middle of a connection that has not begun.
    case stray(port: UInt16)
    case datagram(port: UInt16)
  }

  public var kind: Kind
  /// Its time to live.
  public var hops: UInt8
  /// What has to become of it.
  public var expected: PacketVerdict

  public init(_ kind: Kind, hops: UInt8 = 64, expected: PacketVerdict) {
    self.kind = kind
    self.hops = hops
    self.expected = expected
  }

  public var description: String {
    let what =
      switch kind {
      case .echo(let octets): "a ping of \(octets) octets"
      case .connection(let port): "a SYN to port \(port)"
      case .stray(let port): "an ACK out of nowhere to port \(port)"
      case .datagram(let port): "a datagram to port \(port)"
      }
    return hops == 64 ? what : "\(what) with a time to live of \(hops)"
  }

  // MARK: Octets

  private static let icmp: UInt8 = 1
  private static let tcp: UInt8 = 6
  private static let udp: UInt8 = 17

  private var transport: UInt8 {
    switch kind {
    case .echo: Self.icmp
    case .connection, .stray: Self.tcp
    case .datagram: Self.udp
    }
  }

  /// By its number packet and answer are told: it is a ping's sequence, or the source port's distance
  /// from this.
  private static let firstPort = 20_000

  /// The IPv4 packet.
  func packet(_ number: Int, from source: [UInt8], to target: [UInt8]) -> [UInt8] {
    let body = body(number, from: source, to: target)
    let total = 20 + body.count
    var header: [UInt8] =
      [0x45, 0] + Self.octets(UInt16(total)) + [0, 0, 0x40, 0, hops, transport, 0, 0] + source
      + target
    header.replaceSubrange(10..<12, with: SynProbe.checksum(header))
    return header + body
  }

  private func body(_ number: Int, from source: [UInt8], to target: [UInt8]) -> [UInt8] {
    let place = Self.octets(UInt16(Self.firstPort + number))
    func ports(_ port: UInt16) -> [UInt8] { place + Self.octets(port) }
    func sum(_ body: [UInt8]) -> [UInt8] {
      SynProbe.checksum(
        source + target + [0, transport] + Self.octets(UInt16(body.count)) + body)
    }
    var body: [UInt8]
    switch kind {
    case .echo(let octets):
      body = [8, 0, 0, 0] + Self.octets(UInt16(Self.firstPort)) + Self.octets(UInt16(number))
      body += (0..<octets).map { UInt8(truncatingIfNeeded: $0) }
      body.replaceSubrange(2..<4, with: SynProbe.checksum(body))
    case .connection(let port), .stray(let port):
      let isSyn = if case .connection = kind { true } else { false }
      body = ports(port) + [0, 0, 0, 1, 0, 0, 0, isSyn ? 0 : 1]
      body += [0x50, isSyn ? 0x02 : 0x10, 0xFF, 0xFF, 0, 0, 0, 0]
      body.replaceSubrange(16..<18, with: sum(body))
    case .datagram(let port):
      body = ports(port) + [0, 12, 0, 0] + [1, 2, 3, 4]
      body.replaceSubrange(6..<8, with: sum(body))
    }
    return body
  }

  private static func octets(_ value: UInt16) -> [UInt8] {
    [UInt8(value >> 8), UInt8(value & 255)]
  }

  /// Which packet a frame answers, and how; nil where it is none's answer.
  /// - Parameters:
  ///   - source: who sent the packets.
  ///   - target: to whom.
  static func answer(
    in frame: [UInt8], from source: [UInt8], to target: [UInt8]
  ) -> (number: Int, verdict: PacketVerdict)? {
    guard frame.count >= 34, frame[12..<14] == [8, 0], frame[14] == 0x45,
      Array(frame[30..<34]) == source
    else { return nil }
    let sender = Array(frame[26..<30])
    let body = Array(frame[34...])
    guard body.count >= 8 else { return nil }
    if frame[23] == icmp, body[0] == 3 || body[0] == 11 {
      // The packet's header, and eight octets after it (RFC 792).
      let quoted = Array(body[8...])
      guard quoted.count >= 28, quoted[0] == 0x45, Array(quoted[16..<20]) == target,
        let number = number(of: Array(quoted[20...]), quoted[9], isAnswer: false)
      else { return nil }
      return (number, body[0] == 3 ? .refused : .expired(at: sender))
    }
    guard sender == target, let number = number(of: body, frame[23], isAnswer: true) else {
      return nil
    }
    switch frame[23] {
    case icmp: return body[0] == 0 ? (number, .passed) : nil
    case tcp where body.count >= 20:
      let isReset = body[13] & 0x04 != 0
      return isReset || body[13] & 0x12 == 0x12 ? (number, isReset ? .refused : .passed) : nil
    case udp: return (number, .passed)
    default: return nil
    }
  }

  private static func number(of body: [UInt8], _ transport: UInt8, isAnswer: Bool) -> Int? {
    func value(_ place: Int) -> Int { Int(body[place]) << 8 | Int(body[place + 1]) }
    if transport == icmp { return value(4) == firstPort ? value(6) : nil }
    guard transport == tcp || transport == udp else { return nil }
    return value(isAnswer ? 2 : 0) - firstPort
  }
}

extension ClientNamespace {
  /// Sends packets as raw frames, 2 ms apart, and waits for what becomes of each: for an answer that is
  /// expected 2 s after the last packet, and a fifth of a second more for those that are not. Blocks as
  /// long.
  /// - Parameters:
  ///   - source: the client's own address.
  ///   - gateway: whose MAC address the frames get.
  /// - Returns: a verdict for each trial; an empty list where the gateway does not answer ARP for 2 s.
  public func verdicts(
    of trials: [PacketTrial], from source: [UInt8], to target: [UInt8], through gateway: [UInt8]
  ) throws(SystemError) -> [PacketVerdict] {
    try namespace.run { () throws(SystemError) in
      let socket = try LinkSocket(interface: Self.interface)
      let links = try NetlinkSocket(.route).links()
      let own = links.first { $0.name == Self.interface }?.mac ?? []
      guard let mac = try SynProbe.mac(of: gateway, on: socket, own, source) else { return [] }
      var verdicts = trials.map { _ in PacketVerdict.dropped }
      var isMissing = trials.map { $0.expected != .dropped }
      func look(until end: ContinuousClock.Instant, while isWanted: () -> Bool) throws(SystemError)
      {
        while isWanted() {
          let left = end - .now
          guard left > .zero else { return }
          guard let frame = try socket.receive(timeout: left) else { continue }
          guard let answer = PacketTrial.answer(in: frame, from: source, to: target),
            trials.indices.contains(answer.number), verdicts[answer.number] == .dropped
          else { continue }
          verdicts[answer.number] = answer.verdict
          isMissing[answer.number] = false
        }
      }
      for (number, trial) in trials.enumerated() {
        try socket.send(mac + own + [8, 0] + trial.packet(number, from: source, to: target))
        try look(until: .now + .milliseconds(2)) { true }
      }
      try look(until: .now + .seconds(2)) { isMissing.contains(true) }
      try look(until: .now + .milliseconds(200)) { true }
      return verdicts
    }
  }
}
