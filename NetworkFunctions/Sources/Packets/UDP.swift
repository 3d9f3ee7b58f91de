/// RFC 768.
public struct UDPHeader: Sendable, Hashable {
  /// In octets.
  public static let length = 8
  /// Where the checksum stands.
  public static let checksumOffset = 6

  public var source: UInt16
  public var destination: UInt16
  /// Header and payload.
  public var totalLength: Int
  /// 0: none was made.
  public var checksum: UInt16

  public init(source: UInt16, destination: UInt16, payload: Int, checksum: UInt16 = 0) {
    self.source = source
    self.destination = destination
    totalLength = Self.length + payload
    self.checksum = checksum
  }

  /// nil where it is cut off or longer than its datagram.
  @inlinable
  public init?(in frame: borrowing Frame, _ datagram: Datagram) {
    let offset = datagram.transport
    guard datagram.present(in: frame) >= Self.length else { return nil }
    source = frame.u16(at: offset)
    destination = frame.u16(at: offset + 2)
    totalLength = Int(frame.u16(at: offset + 4))
    checksum = frame.u16(at: offset + 6)
    // Of the first fragment the datagram has only a part.
    guard totalLength >= Self.length,
      totalLength <= datagram.transportLength || datagram.isFragment
    else { return nil }
  }

  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    frame.set(source, at: offset)
    frame.set(destination, at: offset + 2)
    frame.set(UInt16(truncatingIfNeeded: totalLength), at: offset + 4)
    frame.set(checksum, at: offset + 6)
  }
}
