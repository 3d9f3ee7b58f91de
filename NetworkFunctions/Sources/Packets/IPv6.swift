/// RFC 8200, section 3.
public struct IPv6Header: Sendable, Hashable {
  /// In octets.
  public static let length = 40

  public var trafficClass: UInt8
  /// 20 bits.
  public var flowLabel: UInt32
  public var payloadLength: Int
  /// Of the first header after this one.
  public var nextHeader: IPProtocol
  public var hopLimit: UInt8
  public var source: IPv6Address
  public var destination: IPv6Address

  public init(
    source: IPv6Address, destination: IPv6Address, nextHeader: IPProtocol, payload: Int,
    hopLimit: UInt8 = 64
  ) {
    trafficClass = 0
    flowLabel = 0
    payloadLength = payload
    self.nextHeader = nextHeader
    self.hopLimit = hopLimit
    self.source = source
    self.destination = destination
  }

  /// nil where it is cut off or longer than the frame.
  @inlinable
  public init?(in frame: borrowing Frame, at offset: Int) {
    guard frame.head - offset >= Self.length else { return nil }
    let first = frame.u32(at: offset)
    payloadLength = Int(frame.u16(at: offset + 4))
    guard first >> 28 == 6, frame.length - offset - Self.length >= payloadLength else {
      return nil
    }
    trafficClass = UInt8(truncatingIfNeeded: first >> 20)
    flowLabel = first & 0xf_ffff
    nextHeader = IPProtocol(frame.u8(at: offset + 6))
    hopLimit = frame.u8(at: offset + 7)
    source = frame.ipv6(at: offset + 8)
    destination = frame.ipv6(at: offset + 24)
  }

  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    frame.set(6 << 28 | UInt32(trafficClass) << 20 | flowLabel & 0xf_ffff, at: offset)
    frame.set(UInt16(truncatingIfNeeded: payloadLength), at: offset + 4)
    frame.set(nextHeader.rawValue, at: offset + 6)
    frame.set(hopLimit, at: offset + 7)
    frame.set(source, at: offset + 8)
    frame.set(destination, at: offset + 24)
  }
}
