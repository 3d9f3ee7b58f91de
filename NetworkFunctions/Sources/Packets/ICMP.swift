/// The first eight octets of an ICMP message (RFC 792) or of an ICMPv6 one (RFC 4443).
public struct ICMPHeader: Sendable, Hashable {
  /// In octets.
  public static let length = 8
  /// Where the checksum stands.
  public static let checksumOffset = 2

  public enum V4 {
    public static let echoReply: UInt8 = 0
    public static let unreachable: UInt8 = 3
    public static let echoRequest: UInt8 = 8
    public static let timeExceeded: UInt8 = 11
    public static let timestampRequest: UInt8 = 13
    public static let timestampReply: UInt8 = 14
    public static let portUnreachable: UInt8 = 3
  }

  public enum V6 {
    public static let unreachable: UInt8 = 1
    public static let packetTooBig: UInt8 = 2
    public static let timeExceeded: UInt8 = 3
    public static let echoRequest: UInt8 = 128
    public static let echoReply: UInt8 = 129
    public static let neighbourSolicitation: UInt8 = 135
    public static let neighbourAdvertisement: UInt8 = 136
    public static let portUnreachable: UInt8 = 4
  }

  public var type: UInt8
  public var code: UInt8
  public var checksum: UInt16
  /// What the type makes of it: identifier and sequence number, an MTU, flags.
  public var rest: UInt32

  public init(type: UInt8, code: UInt8, rest: UInt32 = 0) {
    self.type = type
    self.code = code
    checksum = 0
    self.rest = rest
  }

  /// nil where it is cut off.
  @inlinable
  public init?(in frame: borrowing Frame, at offset: Int) {
    guard frame.head - offset >= Self.length else { return nil }
    type = frame.u8(at: offset)
    code = frame.u8(at: offset + 1)
    checksum = frame.u16(at: offset + 2)
    rest = frame.u32(at: offset + 4)
  }

  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    frame.set(type, at: offset)
    frame.set(code, at: offset + 1)
    frame.set(checksum, at: offset + 2)
    frame.set(rest, at: offset + 4)
  }
}

/// A neighbour solicitation or advertisement (RFC 4861, sections 4.3 and 4.4), its ICMPv6 header
/// included.
public struct NeighbourMessage: Sendable, Hashable {
  /// With the option of a link-layer address, in octets.
  public static let length = 32

  public enum Kind: Sendable { case solicitation, advertisement }

  /// The sender of an advertisement is a router, was asked, and overrides what is known.
  public enum Flag {
    public static let router: UInt32 = 1 << 31
    public static let solicited: UInt32 = 1 << 30
    public static let override: UInt32 = 1 << 29
  }

  public var kind: Kind
  /// Of ``Flag``.
  public var flags: UInt32
  public var target: IPv6Address
  /// The sender's in a solicitation, the target's in an advertisement.
  public var linkAddress: MACAddress?

  public init(
    _ kind: Kind, flags: UInt32 = 0, target: IPv6Address, linkAddress: MACAddress? = nil
  ) {
    self.kind = kind
    self.flags = flags
    self.target = target
    self.linkAddress = linkAddress
  }

  /// nil where it is another message, cut off, was forwarded (its hop limit is not 255), or has an
  /// option without length (RFC 4861, section 7.1).
  public init?(in frame: borrowing Frame, _ datagram: Datagram) {
    let offset = datagram.transport
    let end = offset + datagram.transportLength
    guard datagram.protocol == .icmpv6, datagram.hopLimit == 255, !datagram.isFragment,
      datagram.transportLength >= 24, end <= frame.head, frame.u8(at: offset + 1) == 0
    else { return nil }
    switch frame.u8(at: offset) {
    case ICMPHeader.V6.neighbourSolicitation: kind = .solicitation
    case ICMPHeader.V6.neighbourAdvertisement: kind = .advertisement
    default: return nil
    }
    flags = frame.u32(at: offset + 4)
    target = frame.ipv6(at: offset + 8)
    guard !target.isMulticast else { return nil }
    let wanted: UInt8 = kind == .solicitation ? 1 : 2
    var option = offset + 24
    while option + 8 <= end {
      let length = Int(frame.u8(at: option + 1)) * 8
      guard length > 0 else { return nil }
      if frame.u8(at: option) == wanted { linkAddress = frame.mac(at: option + 2) }
      option += length
    }
    // Section 7.1.1: who has no address yet tells none of his link, and asks the address's group.
    if kind == .solicitation, datagram.source == .unspecified,
      linkAddress != nil || datagram.destination != target.solicitedNode
    {
      return nil
    }
  }

  /// Without checksum; 24 octets, 32 with a link address.
  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    let isSolicitation = kind == .solicitation
    ICMPHeader(
      type: isSolicitation
        ? ICMPHeader.V6.neighbourSolicitation : ICMPHeader.V6.neighbourAdvertisement,
      code: 0, rest: flags
    ).write(to: &frame, at: offset)
    frame.set(target, at: offset + 8)
    guard let linkAddress else { return }
    frame.set(UInt8(isSolicitation ? 1 : 2), at: offset + 24)
    frame.set(UInt8(1), at: offset + 25)
    frame.set(linkAddress, at: offset + 26)
  }
}
