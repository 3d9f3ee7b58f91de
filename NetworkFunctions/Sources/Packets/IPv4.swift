/// What an IP datagram carries (IANA, Assigned Internet Protocol Numbers).
public struct IPProtocol: Sendable, Hashable {
  public let rawValue: UInt8

  @inlinable
  public init(_ rawValue: UInt8) { self.rawValue = rawValue }

  public static let icmp = IPProtocol(1)
  public static let tcp = IPProtocol(6)
  public static let udp = IPProtocol(17)
  public static let icmpv6 = IPProtocol(58)
  /// Nothing follows (RFC 8200, section 4.7).
  public static let none = IPProtocol(59)
}

/// RFC 791, section 3.1. Options are kept where they stand; ``headerLength`` counts them.
public struct IPv4Header: Sendable, Hashable {
  /// Without options, in octets.
  public static let minimumLength = 20
  /// Where the checksum stands.
  public static let checksumOffset = 10

  /// In octets, 20 to 60.
  public var headerLength: Int
  public var trafficClass: UInt8
  /// Header and payload.
  public var totalLength: Int
  public var identification: UInt16
  /// Three flags and the offset in units of eight octets, as they stand.
  public var fragment: UInt16
  public var timeToLive: UInt8
  public var `protocol`: IPProtocol
  public var source: IPv4Address
  public var destination: IPv4Address

  public init(
    source: IPv4Address, destination: IPv4Address, protocol: IPProtocol, payload: Int,
    timeToLive: UInt8 = 64, identification: UInt16 = 0
  ) {
    headerLength = Self.minimumLength
    trafficClass = 0
    totalLength = Self.minimumLength + payload
    self.identification = identification
    // Not to be fragmented: then the identification need not be unique (RFC 6864, section 4.1).
    fragment = 0x4000
    self.timeToLive = timeToLive
    self.protocol = `protocol`
    self.source = source
    self.destination = destination
  }

  /// nil where it is cut off or contradicts itself or the frame. The checksum is not looked at.
  @inline(__always)
  public init?(in frame: borrowing Frame, at offset: Int) {
    guard frame.head - offset >= Self.minimumLength else { return nil }
    let first = frame.u8(at: offset)
    headerLength = Int(first & 15) * 4
    totalLength = Int(frame.u16(at: offset + 2))
    guard first >> 4 == 4, headerLength >= Self.minimumLength, frame.head - offset >= headerLength,
      totalLength >= headerLength, frame.length - offset >= totalLength
    else { return nil }
    trafficClass = frame.u8(at: offset + 1)
    identification = frame.u16(at: offset + 4)
    fragment = frame.u16(at: offset + 6)
    timeToLive = frame.u8(at: offset + 8)
    `protocol` = IPProtocol(frame.u8(at: offset + 9))
    source = frame.ipv4(at: offset + 12)
    destination = frame.ipv4(at: offset + 16)
  }

  /// Whether it is a part of a datagram.
  @inlinable
  public var isFragment: Bool { fragment & 0x3fff != 0 }

  /// Whether the header's checksum is right.
  public func isRight(in frame: borrowing Frame, at offset: Int) -> Bool {
    frame.sum(from: offset, count: headerLength).isRight
  }

  /// Without options, with its checksum.
  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    frame.set(UInt8(0x45), at: offset)
    frame.set(trafficClass, at: offset + 1)
    frame.set(UInt16(truncatingIfNeeded: totalLength), at: offset + 2)
    frame.set(identification, at: offset + 4)
    frame.set(fragment, at: offset + 6)
    frame.set(timeToLive, at: offset + 8)
    frame.set(`protocol`.rawValue, at: offset + 9)
    frame.set(UInt16(0), at: offset + 10)
    frame.set(source, at: offset + 12)
    frame.set(destination, at: offset + 16)
    frame.set(frame.sum(from: offset, count: 20).value, at: offset + Self.checksumOffset)
  }
}
