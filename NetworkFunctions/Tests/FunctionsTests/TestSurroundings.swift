import Functions
import Packets
import TestFrames

/// Surroundings whose clock the test sets and whose frames it reads.
struct TestSurroundings: Surroundings, ~Copyable {
  var now: Instant = 0
  var emitted: [(port: Int, octets: [UInt8], offload: Offload)] = []
  var segmentsTCP = false
  var freeMemory = Int.max

  private let seed: UInt64
  private var drawn: UInt64 = 0

  init(seed: UInt64 = 1) { self.seed = seed }

  /// The same numbers for each seed.
  mutating func random() -> UInt64 {
    drawn &+= 1
    return Secret(seed, 2).hash(drawn, 0)
  }

  func assign(_ configuration: borrowing Configuration) throws(ConfigurationError) {}
  mutating func adopt(_ configuration: borrowing Configuration, isRouter: Bool) {
    announce(configuration.ports, isRouter: isRouter)
  }

  func segments(port: Int) -> Bool { segmentsTCP }

  mutating func emit(
    on port: Int, payload: UnsafeRawBufferPointer?, _ fill: (inout Frame) -> Void
  ) -> Bool {
    var offload = Offload()
    var octets = withFrame([], capacity: OwnFrame.room) { frame in
      fill(&frame)
      offload = frame.offload
    }
    if let payload { octets += payload }
    emitted.append((port, octets, offload))
    return true
  }
}

extension NetworkFunction where Self: ~Copyable {
  /// What becomes of these octets, and how they then look.
  mutating func process(
    _ octets: [UInt8], from port: Int, _ surroundings: inout TestSurroundings,
    offload: Offload = Offload()
  ) -> (verdict: Verdict, octets: [UInt8]) {
    var verdict = Verdict.drop
    let after = withFrame(octets, offload: offload) { frame in
      verdict = process(&frame, from: port, in: &surroundings)
    }
    return (verdict, after)
  }
}

/// Frames for tests, as their senders would write them.
enum Sample {
  static let clientMAC = MACAddress(0x02_0000_0000_01)
  static let serverMAC = MACAddress(0x02_0000_0000_02)
  static let leftMAC = MACAddress(0x02_0000_0000_11)
  static let rightMAC = MACAddress(0x02_0000_0000_12)
  static let client = IPv4Address(10, 0, 1, 2)
  static let server = IPv4Address(10, 0, 2, 2)
  static let left = IPv4Address(10, 0, 1, 1)
  static let right = IPv4Address(10, 0, 2, 1)

  /// A port to the client's network and one to the server's.
  static var configuration: Configuration { configuration("{}") }

  static func configuration(_ parameters: String) -> Configuration {
    Configuration(
      generation: 1,
      ports: [
        .init(name: Array("left".utf8), mac: leftMAC, addresses: [Prefix(left, length: 24)]),
        .init(
          name: Array("right".utf8), mac: rightMAC, addresses: [Prefix(right, length: 24)],
          routes: [
            .init(
              destination: Prefix(IPv4Address(172, 16, 0, 0), length: 12),
              via: IPv6Address(server))
          ]),
      ], parameters: Array(parameters.utf8))
  }

  static func udp(
    from source: IPv4Address = client, to destination: IPv4Address = server,
    ports: (UInt16, UInt16) = (4000, 53), payload: [UInt8] = [1, 2, 3], hopLimit: UInt8 = 64,
    macs: (MACAddress, MACAddress) = (clientMAC, leftMAC), fragment: UInt16 = 0x4000
  ) -> [UInt8] {
    withFrame([]) { frame in
      let length = 8 + payload.count
      frame.setLength(34 + length)
      EthernetHeader(destination: macs.1, source: macs.0, type: .ipv4).write(to: &frame)
      var ip = IPv4Header(
        source: source, destination: destination, protocol: .udp, payload: length,
        timeToLive: hopLimit)
      ip.fragment = fragment
      ip.write(to: &frame, at: 14)
      frame.set(ports.0, at: 34)
      frame.set(ports.1, at: 36)
      frame.set(UInt16(length), at: 38)
      frame.set(UInt16(0), at: 40)
      for (index, octet) in payload.enumerated() { frame.set(octet, at: 42 + index) }
      var sum = Checksum.pseudoHeader(
        IPv6Address(source), IPv6Address(destination), protocol: .udp, length: length)
      sum.add(frame.sum(from: 34, count: length))
      frame.set(sum.udpValue, at: 40)
    }
  }

  static func tcp(
    from source: IPv4Address = client, to destination: IPv4Address = server,
    ports: (UInt16, UInt16) = (4000, 80), flags: TCPHeader.Flags, payload: [UInt8] = [],
    macs: (MACAddress, MACAddress) = (clientMAC, leftMAC)
  ) -> [UInt8] {
    withFrame([]) { frame in
      let length = 20 + payload.count
      frame.setLength(34 + length)
      EthernetHeader(destination: macs.1, source: macs.0, type: .ipv4).write(to: &frame)
      IPv4Header(source: source, destination: destination, protocol: .tcp, payload: length)
        .write(to: &frame, at: 14)
      TCPHeader(
        source: ports.0, destination: ports.1, sequence: 1000, acknowledgement: 2000, flags: flags
      ).write(to: &frame, at: 34)
      for (index, octet) in payload.enumerated() { frame.set(octet, at: 54 + index) }
      var sum = Checksum.pseudoHeader(
        IPv6Address(source), IPv6Address(destination), protocol: .tcp, length: length)
      sum.add(frame.sum(from: 34, count: length))
      frame.set(sum.value, at: 34 + TCPHeader.checksumOffset)
    }
  }

  static func echo(
    _ type: UInt8 = 8, from source: IPv4Address = client, to destination: IPv4Address = server,
    identifier: UInt16 = 77, macs: (MACAddress, MACAddress) = (clientMAC, leftMAC)
  ) -> [UInt8] {
    withFrame([]) { frame in
      frame.setLength(42)
      EthernetHeader(destination: macs.1, source: macs.0, type: .ipv4).write(to: &frame)
      IPv4Header(source: source, destination: destination, protocol: .icmp, payload: 8)
        .write(to: &frame, at: 14)
      ICMPHeader(type: type, code: 0, rest: UInt32(identifier) << 16 | 1).write(to: &frame, at: 34)
      frame.set(frame.sum(from: 34, count: 8).value, at: 36)
    }
  }

  static func arpReply(
    _ sender: IPv4Address, _ senderMAC: MACAddress, to target: IPv4Address,
    _ targetMAC: MACAddress
  ) -> [UInt8] {
    withFrame([]) { frame in
      frame.setLength(42)
      EthernetHeader(destination: targetMAC, source: senderMAC, type: .arp).write(to: &frame)
      ARPPacket(
        .reply, senderMAC: senderMAC, sender: sender, targetMAC: targetMAC, target: target
      ).write(to: &frame, at: 14)
    }
  }
}

/// What a frame says, for comparison.
struct Seen: Equatable {
  var macs: [MACAddress]
  var source: IPv6Address
  var destination: IPv6Address
  var hopLimit: UInt8
  var `protocol`: IPProtocol
  /// Ports, or type and code of ICMP.
  var first: UInt16
  var second: UInt16
  /// Whether the checksums are right.
  var isRight: Bool

  init?(_ octets: [UInt8]) {
    var seen: Seen?
    withFrame(octets) { frame in
      guard let ethernet = EthernetHeader(in: frame), let datagram = Datagram(in: frame, ethernet)
      else { return }
      let isICMP = datagram.protocol == .icmp || datagram.protocol == .icmpv6
      let at = datagram.transport
      seen = Seen(
        macs: [ethernet.destination, ethernet.source], source: datagram.source,
        destination: datagram.destination, hopLimit: datagram.hopLimit,
        protocol: datagram.protocol,
        first: isICMP ? UInt16(frame.u8(at: at)) : frame.u16(at: at),
        second: isICMP ? UInt16(frame.u8(at: at + 1)) : frame.u16(at: at + 2),
        isRight: datagram.isTransportRight(in: frame))
    }
    guard let seen else { return nil }
    self = seen
  }

  init(
    macs: [MACAddress], source: IPv6Address, destination: IPv6Address, hopLimit: UInt8,
    protocol: IPProtocol, first: UInt16, second: UInt16, isRight: Bool
  ) {
    self.macs = macs
    self.source = source
    self.destination = destination
    self.hopLimit = hopLimit
    self.protocol = `protocol`
    self.first = first
    self.second = second
    self.isRight = isRight
  }
}
