/// A query or reply for IPv4 on Ethernet (RFC 826).
public struct ARPPacket: Sendable, Hashable {
  /// In octets.
  public static let length = 28

  public enum Operation: UInt16, Sendable {
    case request = 1
    case reply = 2
  }

  public var operation: Operation
  public var senderMAC: MACAddress
  public var sender: IPv4Address
  public var targetMAC: MACAddress
  public var target: IPv4Address

  public init(
    _ operation: Operation, senderMAC: MACAddress, sender: IPv4Address,
    targetMAC: MACAddress = MACAddress(0), target: IPv4Address
  ) {
    self.operation = operation
    self.senderMAC = senderMAC
    self.sender = sender
    self.targetMAC = targetMAC
    self.target = target
  }

  /// nil where it is cut off, or of other kinds of addresses.
  public init?(in frame: borrowing Frame, at offset: Int) {
    guard frame.head - offset >= Self.length, frame.u16(at: offset) == 1,
      frame.u16(at: offset + 2) == EtherType.ipv4.rawValue, frame.u16(at: offset + 4) == 0x0604,
      let operation = Operation(rawValue: frame.u16(at: offset + 6))
    else { return nil }
    self.operation = operation
    senderMAC = frame.mac(at: offset + 8)
    sender = frame.ipv4(at: offset + 14)
    targetMAC = frame.mac(at: offset + 18)
    target = frame.ipv4(at: offset + 24)
  }

  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    frame.set(UInt16(1), at: offset)
    frame.set(EtherType.ipv4.rawValue, at: offset + 2)
    frame.set(UInt16(0x0604), at: offset + 4)
    frame.set(operation.rawValue, at: offset + 6)
    frame.set(senderMAC, at: offset + 8)
    frame.set(sender, at: offset + 14)
    frame.set(targetMAC, at: offset + 18)
    frame.set(target, at: offset + 24)
  }
}
