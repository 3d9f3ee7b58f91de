/// What a client of iperf 2 asks its server to send: its first octets on a connection, of which a
/// server reads no more than this. Clients before 2.0.14 send none that ask for anything.
public struct IperfRequest: Sendable, Hashable {
  /// In octets; clients have some more behind it for what is not known here.
  public static let length = 60

  /// How much is to be sent.
  public enum Extent: Sendable, Hashable {
    /// Below 2 GiB, as the client writes it.
    case octets(UInt32)
    case nanoseconds(UInt64)
  }

  public var extent: Extent
  /// The client sends as well, at the same time.
  public var isTwoWay: Bool

  private enum Flag {
    /// Of the first word: flags beyond those of version 1 are there, bits 1 to 8 are the length, and
    /// every octet is to be sent back.
    static let extended: UInt32 = 0x4000_0000
    static let hasLength: UInt32 = 0x0001_0000
    static let bouncesBack: UInt32 = 0x0080_0000
    /// Of those beyond.
    static let reverse: UInt16 = 0x0400
    static let fullDuplex: UInt16 = 0x0800
    /// What changes how it is sent: in bursts, with time stamps, at a rate, not before a time.
    static let others: UInt16 = 0x33d1
  }

  /// nil where a client asks for nothing, or for what is not served here: then it only sends.
  ///
  /// - Parameters:
  ///   - offset: of the connection's first octet.
  ///   - count: how many of its octets are there.
  public init?(in frame: borrowing Frame, at offset: Int, count: Int) {
    guard count >= Self.length, offset <= frame.head - Self.length else { return nil }
    let first = frame.u32(at: offset)
    guard first & Flag.extended != 0, first & Flag.bouncesBack == 0,
      first & Flag.hasLength == 0 || Int(first & 0x1fe) >> 1 >= Self.length
    else { return nil }
    let flags = frame.u16(at: offset + 32)
    // A rate is told without a flag.
    guard flags & (Flag.reverse | Flag.fullDuplex) != 0, flags & Flag.others == 0,
      frame.u64(at: offset + 48) == 0
    else { return nil }
    isTwoWay = flags & Flag.fullDuplex != 0
    // Octets, or less than zero hundredths of a second.
    let amount = Int32(bitPattern: frame.u32(at: offset + 20))
    extent =
      amount < 0
      ? .nanoseconds(UInt64(amount.magnitude) * 10_000_000) : .octets(UInt32(amount))
  }
}

/// What every datagram of iperf 2 begins with.
public struct IperfDatagram: Sendable, Hashable {
  /// In octets.
  public static let length = 16

  /// From 1; below zero in the last one.
  public var number: Int64
  /// By the client's clock, in nanoseconds.
  public var sentAt: UInt64

  /// nil where it is cut off.
  ///
  /// - Parameter count: how many octets the datagram has.
  public init?(in frame: borrowing Frame, at offset: Int, count: Int) {
    guard count >= Self.length, offset <= frame.head - Self.length else { return nil }
    let low = frame.u32(at: offset)
    number = Int64(Int32(bitPattern: low))
    // What follows says whether numbers have 64 bits.
    if count >= Self.length + 4, offset <= frame.head - Self.length - 4,
      frame.u32(at: offset + 16) & 0x0800_0000 != 0
    {
      number = Int64(bitPattern: UInt64(frame.u32(at: offset + 12)) << 32 | UInt64(low))
    }
    sentAt =
      UInt64(frame.u32(at: offset + 4)) * 1_000_000_000 + UInt64(frame.u32(at: offset + 8)) * 1000
  }
}

/// What a server of iperf 2 answers to the last datagram.
public struct IperfReport: Sendable, Hashable {
  /// With the head of a datagram, in octets; a client reads no shorter one.
  public static let length = 128

  public var octets: UInt64
  public var nanoseconds: UInt64
  public var datagrams: UInt64
  public var lost: UInt64
  public var disordered: UInt64
  /// As RFC 3550, section 6.4.1 has it, in nanoseconds.
  public var jitter: UInt64

  public init(
    octets: UInt64, nanoseconds: UInt64, datagrams: UInt64, lost: UInt64, disordered: UInt64,
    jitter: UInt64
  ) {
    self.octets = octets
    self.nanoseconds = nanoseconds
    self.datagrams = datagrams
    self.lost = lost
    self.disordered = disordered
    self.jitter = jitter
  }

  @_lifetime(frame: copy frame)
  public func write(to frame: inout Frame, at offset: Int) {
    for place in stride(from: offset, to: offset + Self.length, by: 8) {
      frame.set(UInt64(0), at: place)
    }
    // Version 1, and counts of 64 bits, whose upper halves stand at the end.
    frame.set(UInt32(0x8800_0000), at: offset + 16)
    frame.set(octets, at: offset + 20)
    Self.writeTime(nanoseconds, to: &frame, at: offset + 28)
    Self.writeTime(jitter, to: &frame, at: offset + 48)
    Self.write(lost, to: &frame, at: offset + 36, offset + 116)
    Self.write(disordered, to: &frame, at: offset + 40, offset + 120)
    Self.write(datagrams, to: &frame, at: offset + 44, offset + 124)
  }

  /// Seconds and microseconds.
  @_lifetime(frame: copy frame)
  private static func writeTime(_ nanoseconds: UInt64, to frame: inout Frame, at offset: Int) {
    let microseconds = nanoseconds / 1000
    frame.set(UInt32(truncatingIfNeeded: microseconds / 1_000_000), at: offset)
    frame.set(UInt32(truncatingIfNeeded: microseconds % 1_000_000), at: offset + 4)
  }

  @_lifetime(frame: copy frame)
  private static func write(
    _ count: UInt64, to frame: inout Frame, at low: Int, _ high: Int
  ) {
    frame.set(UInt32(truncatingIfNeeded: count), at: low)
    frame.set(UInt32(truncatingIfNeeded: count >> 32), at: high)
  }
}
