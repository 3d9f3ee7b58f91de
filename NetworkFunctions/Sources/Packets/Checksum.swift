/// The Internet checksum (RFC 1071): a ones' complement sum that grows and is folded at the end.
public struct Checksum: Sendable {
  @usableFromInline
  var sum: UInt64 = 0

  @inlinable
  public init() {}

  @inlinable
  public mutating func add(_ value: UInt16) { sum &+= UInt64(value) }

  @inlinable
  public mutating func add(_ value: UInt32) {
    sum &+= UInt64(value >> 16) &+ UInt64(value & 0xffff)
  }

  @inlinable
  public mutating func add(_ value: UInt64) {
    add(UInt32(truncatingIfNeeded: value >> 32))
    add(UInt32(truncatingIfNeeded: value))
  }

  @inlinable
  public mutating func add(_ address: IPv4Address) { add(address.bits) }

  @inlinable
  public mutating func add(_ address: IPv6Address) {
    add(address.high)
    add(address.low)
  }

  /// The pseudo-header of a transport (RFC 793, section 3.1; RFC 8200, section 8.1). Mapped
  /// addresses give IPv4's.
  @inlinable
  public static func pseudoHeader(
    _ source: IPv6Address, _ destination: IPv6Address, protocol: IPProtocol, length: Int
  ) -> Checksum {
    var checksum = Checksum()
    if let source = source.ipv4, let destination = destination.ipv4 {
      checksum.add(source)
      checksum.add(destination)
    } else {
      checksum.add(source)
      checksum.add(destination)
    }
    checksum.add(UInt16(`protocol`.rawValue))
    checksum.add(UInt32(truncatingIfNeeded: length))
    return checksum
  }

  /// Octets that begin at an even place of what is summed; an odd one at the end is padded.
  public mutating func add(_ octets: UnsafeRawBufferPointer) {
    // Summed as the machine has them: the sum of swapped words is the swapped sum (RFC 1071, 2B).
    var native: UInt64 = 0
    var offset = 0
    while offset + 8 <= octets.count {
      let word = octets.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      let (partial, carry) = native.addingReportingOverflow(word)
      native = partial &+ (carry ? 1 : 0)
      offset += 8
    }
    native = (native >> 32) &+ (native & 0xffff_ffff)
    while offset + 2 <= octets.count {
      native &+= UInt64(octets.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
      offset += 2
    }
    if offset < octets.count { native &+= UInt64(UInt16(octets[offset]).littleEndian) }
    sum &+= UInt64(UInt16(bigEndian: Checksum.fold(native)))
  }

  @inlinable
  public mutating func add(_ other: Checksum) { sum &+= UInt64(other.folded) }

  /// The sum in 16 bits, as a partial checksum holds it.
  @inlinable
  public var folded: UInt16 { Checksum.fold(sum) }

  /// As it stands in a header.
  @inlinable
  public var value: UInt16 { ~folded }

  /// As it stands in a UDP header, where 0 means none (RFC 768).
  @inlinable
  public var udpValue: UInt16 { value == 0 ? 0xffff : value }

  /// Of octets that include their checksum.
  @inlinable
  public var isRight: Bool { folded == 0xffff }

  @inlinable
  static func fold(_ sum: UInt64) -> UInt16 {
    var sum = (sum >> 32) &+ (sum & 0xffff_ffff)
    sum = (sum >> 16) &+ (sum & 0xffff)
    sum = (sum >> 16) &+ (sum & 0xffff)
    sum = (sum >> 16) &+ (sum & 0xffff)
    return UInt16(truncatingIfNeeded: sum)
  }

  /// The checksum of a header in which `old` became `new` (RFC 1624, equation 3).
  @inlinable
  public static func update(_ checksum: UInt16, from old: UInt16, to new: UInt16) -> UInt16 {
    ~fold(UInt64(~checksum) + UInt64(~old) + UInt64(new))
  }

  /// What the change of some words does to checksums over them (RFC 1624, equation 3).
  public struct Change: Sendable {
    @usableFromInline
    var sum: UInt64 = 0

    @inlinable
    public init() {}

    @inlinable
    public mutating func add(from old: UInt16, to new: UInt16) {
      sum &+= UInt64(~old) &+ UInt64(new)
    }

    @inlinable
    public mutating func add(from old: UInt32, to new: UInt32) {
      sum &+= UInt64(~old) &+ UInt64(new)
    }

    @inlinable
    public mutating func add(_ other: Change) { sum &+= other.sum }

    @inlinable
    public func applied(to checksum: UInt16) -> UInt16 {
      ~Checksum.fold(UInt64(~checksum) &+ sum)
    }

    /// The same for a partial checksum, which holds the sum itself.
    @inlinable
    public func appliedToPartial(_ checksum: UInt16) -> UInt16 {
      Checksum.fold(UInt64(checksum) &+ sum)
    }
  }
}
