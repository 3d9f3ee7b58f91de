/// RFC 9293, section 3.1.
public struct TCPHeader: Sendable, Hashable {
  /// Without options, in octets.
  public static let minimumLength = 20
  /// Where the checksum stands.
  public static let checksumOffset = 16

  public struct Flags: OptionSet, Sendable, Hashable {
    public let rawValue: UInt8

    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let fin = Flags(rawValue: 1)
    public static let syn = Flags(rawValue: 2)
    public static let rst = Flags(rawValue: 4)
    public static let psh = Flags(rawValue: 8)
    public static let ack = Flags(rawValue: 16)
  }

  public var source: UInt16
  public var destination: UInt16
  public var sequence: UInt32
  public var acknowledgement: UInt32
  /// With options, 20 to 60 octets.
  public var headerLength: Int
  public var flags: Flags
  public var window: UInt16
  public var checksum: UInt16

  public init(
    source: UInt16, destination: UInt16, sequence: UInt32, acknowledgement: UInt32, flags: Flags,
    window: UInt16 = 0, headerLength: Int = TCPHeader.minimumLength
  ) {
    self.source = source
    self.destination = destination
    self.sequence = sequence
    self.acknowledgement = acknowledgement
    self.headerLength = headerLength
    self.flags = flags
    self.window = window
    checksum = 0
  }

  /// nil where it is cut off.
  @inlinable
  public init?(in frame: borrowing Frame, _ datagram: Datagram) {
    let offset = datagram.transport
    let present = datagram.present(in: frame)
    guard present >= Self.minimumLength else { return nil }
    headerLength = Int(frame.u8(at: offset + 12) >> 4) * 4
    guard headerLength >= Self.minimumLength, present >= headerLength else { return nil }
    source = frame.u16(at: offset)
    destination = frame.u16(at: offset + 2)
    sequence = frame.u32(at: offset + 4)
    acknowledgement = frame.u32(at: offset + 8)
    flags = Flags(rawValue: frame.u8(at: offset + 13))
    window = frame.u16(at: offset + 14)
    checksum = frame.u16(at: offset + 16)
  }

  /// Without options, whose place is left as it is.
  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    frame.set(source, at: offset)
    frame.set(destination, at: offset + 2)
    frame.set(sequence, at: offset + 4)
    frame.set(acknowledgement, at: offset + 8)
    frame.set(UInt8(truncatingIfNeeded: headerLength / 4) << 4, at: offset + 12)
    frame.set(flags.rawValue, at: offset + 13)
    frame.set(window, at: offset + 14)
    frame.set(checksum, at: offset + 16)
    frame.set(UInt16(0), at: offset + 18)
  }

  /// How far a segment moves the sequence number: SYN and FIN count.
  @inlinable
  public func span(payload: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: payload) &+ (flags.contains(.syn) ? 1 : 0)
      &+ (flags.contains(.fin) ? 1 : 0)
  }
}

/// The options of a SYN that are known here (RFC 9293, section 3.2; RFC 7323).
public struct TCPOptions: Sendable, Hashable {
  /// The largest segment's payload that the sender takes.
  public var maximumSegment: UInt16?
  /// 0 to 14.
  public var windowScale: UInt8?

  public init(maximumSegment: UInt16? = nil, windowScale: UInt8? = nil) {
    self.maximumSegment = maximumSegment
    self.windowScale = windowScale
  }

  /// What is there up to the first that makes no sense.
  public init(in frame: borrowing Frame, at offset: Int, of header: TCPHeader) {
    var option = offset + TCPHeader.minimumLength
    let end = min(offset + header.headerLength, frame.head)
    while option < end {
      let kind = frame.u8(at: option)
      if kind == 0 { return }
      if kind == 1 {
        option += 1
        continue
      }
      guard option + 2 <= end else { return }
      let length = Int(frame.u8(at: option + 1))
      guard length >= 2, option + length <= end else { return }
      if kind == 2, length == 4 { maximumSegment = frame.u16(at: option + 2) }
      if kind == 3, length == 3 { windowScale = min(frame.u8(at: option + 2), 14) }
      option += length
    }
  }

  /// In octets, a multiple of four.
  public var length: Int { (maximumSegment == nil ? 0 : 4) + (windowScale == nil ? 0 : 4) }

  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    var option = offset + TCPHeader.minimumLength
    if let maximumSegment {
      frame.set(UInt16(0x0204), at: option)
      frame.set(maximumSegment, at: option + 2)
      option += 4
    }
    if let windowScale {
      // With one octet of no operation in front.
      frame.set(0x0103_0300 | UInt32(windowScale), at: option)
    }
  }
}
