/// The types of Ethernet payloads that are known here.
public struct EtherType: Sendable, Hashable {
  public let rawValue: UInt16

  @inlinable
  public init(_ rawValue: UInt16) { self.rawValue = rawValue }

  public static let ipv4 = EtherType(0x0800)
  public static let arp = EtherType(0x0806)
  public static let vlan = EtherType(0x8100)
  public static let serviceVLAN = EtherType(0x88a8)
  public static let ipv6 = EtherType(0x86dd)
}

/// The beginning of a frame, with one VLAN tag or none (IEEE 802.3, 802.1Q).
public struct EthernetHeader: Sendable, Hashable {
  public var destination: MACAddress
  public var source: MACAddress
  /// Priority, drop eligibility and VLAN identifier as they stand in the tag.
  public var tag: UInt16?
  /// Of the payload.
  public var type: EtherType

  @inlinable
  public init(
    destination: MACAddress, source: MACAddress, type: EtherType, tag: UInt16? = nil
  ) {
    self.destination = destination
    self.source = source
    self.type = type
    self.tag = tag
  }

  /// nil where the frame is shorter.
  @inlinable
  public init?(in frame: borrowing Frame) {
    guard frame.head >= 14 else { return nil }
    destination = frame.mac(at: 0)
    source = frame.mac(at: 6)
    type = EtherType(frame.u16(at: 12))
    guard type == .vlan else { return }
    guard frame.head >= 18 else { return nil }
    tag = frame.u16(at: 14)
    type = EtherType(frame.u16(at: 16))
  }

  /// In octets; where the payload begins.
  @inlinable
  public var length: Int { tag == nil ? 14 : 18 }

  /// The lower twelve bits of the tag.
  @inlinable
  public var vlan: UInt16? { tag.map { $0 & 0xfff } }

  /// Whether it is of a VLAN; one of number 0 tells a priority only (IEEE 802.1Q, 9.6).
  @inlinable
  public var isTagged: Bool { (tag ?? 0) & 0xfff != 0 }

  @inlinable @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame) {
    frame.set(destination, at: 0)
    frame.set(source, at: 6)
    if let tag {
      frame.set(EtherType.vlan.rawValue, at: 12)
      frame.set(tag, at: 14)
      frame.set(type.rawValue, at: 16)
    } else {
      frame.set(type.rawValue, at: 12)
    }
  }
}
