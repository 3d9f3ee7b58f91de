/// A hardware address: the lower 48 bits.
public struct MACAddress: Sendable, Hashable {
  public let bits: UInt64

  @inlinable
  public init(_ bits: UInt64) { self.bits = bits & 0xffff_ffff_ffff }

  public static let broadcast = MACAddress(0xffff_ffff_ffff)

  /// Broadcast is multicast too.
  @inlinable
  public var isMulticast: Bool { bits >> 40 & 1 == 1 }

  /// Where multicast to `group` goes (RFC 2464, section 7).
  @inlinable
  public static func multicast(_ group: IPv6Address) -> MACAddress {
    MACAddress(0x3333_0000_0000 | group.low & 0xffff_ffff)
  }
}

public struct IPv4Address: Sendable, Hashable {
  /// The first octet is the highest.
  public let bits: UInt32

  @inlinable
  public init(_ bits: UInt32) { self.bits = bits }

  @inlinable
  public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
    bits = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
  }

  public static let unspecified = IPv4Address(0)
  public static let broadcast = IPv4Address(0xffff_ffff)

  @inlinable
  public var isMulticast: Bool { bits >> 28 == 0xe }

  /// May stand as the source of a datagram that is answered (RFC 1122, section 3.2.1.3).
  @inlinable
  public var isHost: Bool { bits >> 24 != 0 && bits >> 24 != 127 && bits >> 28 < 0xe }
}

/// Also holds an IPv4 address, as RFC 4291, section 2.5.5.2 maps them: what treats both versions
/// alike knows one type.
public struct IPv6Address: Sendable, Hashable {
  public let high: UInt64
  public let low: UInt64

  @inlinable
  public init(_ high: UInt64, _ low: UInt64) {
    self.high = high
    self.low = low
  }

  @inlinable
  public init(_ address: IPv4Address) { self.init(0, 0xffff_0000_0000 | UInt64(address.bits)) }

  public static let unspecified = IPv6Address(0, 0)
  /// All nodes of a link.
  public static let allNodes = IPv6Address(0xff02_0000_0000_0000, 1)

  /// The IPv4 address that this maps.
  @inlinable
  public var ipv4: IPv4Address? {
    high == 0 && low >> 32 == 0xffff ? IPv4Address(UInt32(truncatingIfNeeded: low)) : nil
  }

  @inlinable
  public var isMulticast: Bool { high >> 56 == 0xff }

  @inlinable
  public var isLinkLocal: Bool { high >> 54 == 0x3fa }

  /// May stand as the source of a datagram that is answered.
  @inlinable
  public var isHost: Bool {
    if let ipv4 { return ipv4.isHost }
    return !isMulticast && !(high == 0 && low <= 1)
  }

  /// The group in which neighbours ask for this address (RFC 4291, section 2.7.1).
  @inlinable
  public var solicitedNode: IPv6Address {
    IPv6Address(0xff02_0000_0000_0000, 0x1_ff00_0000 | low & 0xff_ffff)
  }

  /// The link-local address that a card's MAC gives (RFC 4291, appendix A).
  @inlinable
  public static func linkLocal(_ mac: MACAddress) -> IPv6Address {
    let upper = (mac.bits >> 24) ^ 0x02_0000
    return IPv6Address(
      0xfe80_0000_0000_0000, upper << 40 | 0xff_fe00_0000 | mac.bits & 0xff_ffff)
  }
}

/// An address and how many of its bits name the network. IPv4 is mapped: its length counts from 96.
public struct Prefix: Sendable, Hashable {
  public let address: IPv6Address
  /// 0 to 128.
  public let length: Int

  @inlinable
  public init(_ address: IPv6Address, length: Int) {
    self.address = address
    self.length = min(max(length, 0), 128)
  }

  /// - Parameter length: 0 to 32.
  @inlinable
  public init(_ address: IPv4Address, length: Int) {
    self.init(IPv6Address(address), length: 96 + min(max(length, 0), 32))
  }

  @inlinable
  public func contains(_ other: IPv6Address) -> Bool {
    if length <= 64 {
      return length == 0 || (address.high ^ other.high) >> UInt64(64 - length) == 0
    }
    return address.high == other.high
      && (address.low ^ other.low) >> UInt64(128 - length) == 0
  }
}
