/// A frame in a buffer of its driver's: Ethernet header first, without checksum.
///
/// All octets are read and written through here, in network order, and every access is checked
/// against the buffer; a header's initialiser checks once and tells by nil, so that code which
/// begins with a header never meets the trap. Segments that a driver merged (GSO) are longer than
/// the buffer that a function sees: ``length`` counts all octets, ``head`` those that are here.
/// Headers are always here.
public struct Frame: ~Copyable, ~Escapable {
  @usableFromInline
  var bytes: MutableRawSpan
  /// Of the whole frame, in octets.
  public private(set) var length: Int
  /// What is left for the card to do, or what it has done.
  public var offload: Offload

  /// - Parameter length: of what stands in `bytes` or, for a frame in several buffers, more.
  @_lifetime(copy bytes)
  public init(_ bytes: consuming MutableRawSpan, length: Int, offload: Offload = Offload()) {
    self.bytes = bytes
    self.length = length
    self.offload = offload
  }

  /// How many octets from the beginning can be read and written.
  @inlinable
  public var head: Int { min(length, bytes.byteCount) }

  /// How long the frame can become.
  @inlinable
  public var capacity: Int { bytes.byteCount }

  /// Cuts the frame or makes it longer; new octets are what the buffer held.
  @_lifetime(self: copy self)
  public mutating func setLength(_ length: Int) {
    precondition(length >= 0 && length <= bytes.byteCount)
    self.length = length
  }

  // SAFETY: the loads below are checked against the span's bounds, and any octets are an integer.

  @inlinable
  public func u8(at offset: Int) -> UInt8 {
    bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
  }

  @inlinable
  public func u16(at offset: Int) -> UInt16 {
    UInt16(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }

  @inlinable
  public func u32(at offset: Int) -> UInt32 {
    UInt32(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  @inlinable
  public func u64(at offset: Int) -> UInt64 {
    UInt64(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  @inlinable @_lifetime(self: copy self)
  public mutating func set(_ value: UInt8, at offset: Int) {
    bytes.storeBytes(of: value, toByteOffset: offset, as: UInt8.self)
  }

  @inlinable @_lifetime(self: copy self)
  public mutating func set(_ value: UInt16, at offset: Int) {
    bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
  }

  @inlinable @_lifetime(self: copy self)
  public mutating func set(_ value: UInt32, at offset: Int) {
    bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
  }

  @inlinable @_lifetime(self: copy self)
  public mutating func set(_ value: UInt64, at offset: Int) {
    bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
  }

  @inlinable
  public func mac(at offset: Int) -> MACAddress {
    MACAddress(UInt64(u32(at: offset)) << 16 | UInt64(u16(at: offset + 4)))
  }

  @inlinable @_lifetime(self: copy self)
  public mutating func set(_ value: MACAddress, at offset: Int) {
    set(UInt32(truncatingIfNeeded: value.bits >> 16), at: offset)
    set(UInt16(truncatingIfNeeded: value.bits), at: offset + 4)
  }

  @inlinable
  public func ipv4(at offset: Int) -> IPv4Address { IPv4Address(u32(at: offset)) }

  @inlinable @_lifetime(self: copy self)
  public mutating func set(_ value: IPv4Address, at offset: Int) { set(value.bits, at: offset) }

  @inlinable
  public func ipv6(at offset: Int) -> IPv6Address {
    IPv6Address(u64(at: offset), u64(at: offset + 8))
  }

  @inlinable @_lifetime(self: copy self)
  public mutating func set(_ value: IPv6Address, at offset: Int) {
    set(value.high, at: offset)
    set(value.low, at: offset + 8)
  }

  /// Moves octets within the buffer; the places may overlap.
  @_lifetime(self: copy self)
  public mutating func move(_ count: Int, from source: Int, to destination: Int) {
    precondition(
      source >= 0 && destination >= 0 && count >= 0 && source <= capacity - count
        && destination <= capacity - count)
    bytes.withUnsafeMutableBytes { buffer in
      // SAFETY: both ranges lie in the buffer, as just checked; `copyMemory` allows overlap.
      guard let base = buffer.baseAddress else { return }
      (base + destination).copyMemory(from: base + source, byteCount: count)
    }
  }

  /// The ones' complement sum of a range, not yet folded.
  public func sum(from start: Int, count: Int) -> Checksum {
    precondition(start >= 0 && count >= 0 && start <= capacity - count)
    var sum = Checksum()
    bytes.withUnsafeBytes { buffer in
      // SAFETY: the range lies in the buffer, as just checked.
      sum.add(UnsafeRawBufferPointer(rebasing: buffer[start..<start + count]))
    }
    return sum
  }
}

/// What a card is asked to do with a frame, or says of one: the fields of `struct virtio_net_hdr`
/// (Virtual I/O Device 1.1, 5.1.6), which AF_PACKET and tun use as well.
public struct Offload: Sendable, Hashable {
  /// The checksum at ``checksumStart`` + ``checksumOffset`` holds only the pseudo-header's sum.
  public static let needsChecksum: UInt8 = 1
  /// The checksum was found right.
  public static let checksumIsValid: UInt8 = 2

  public enum Segmentation {
    public static let none: UInt8 = 0
    public static let tcp4: UInt8 = 1
    public static let udp: UInt8 = 3
    public static let tcp6: UInt8 = 4
    /// Added to one of the others: the first segment has CWR set.
    public static let ecn: UInt8 = 0x80
  }

  public var flags: UInt8 = 0
  /// Of ``Segmentation``.
  public var segmentation: UInt8 = 0
  /// Of all headers of a segmented frame, in octets.
  public var headerLength: UInt16 = 0
  /// The payload of one segment, in octets.
  public var segmentSize: UInt16 = 0
  public var checksumStart: UInt16 = 0
  public var checksumOffset: UInt16 = 0

  public init() {}

  /// A transport's checksum that the card completes.
  @inlinable
  public static func partial(start: Int, offset: Int) -> Offload {
    var offload = Offload()
    offload.flags = needsChecksum
    offload.checksumStart = UInt16(truncatingIfNeeded: start)
    offload.checksumOffset = UInt16(truncatingIfNeeded: offset)
    return offload
  }

  /// Whether the checksum of a transport that begins there need not be verified: the card has done so,
  /// or is to complete it, and not that of a packet within this one.
  @inlinable
  public func trusts(_ transport: Int) -> Bool {
    flags & Self.checksumIsValid != 0 || isPartial && Int(checksumStart) == transport
  }

  @inlinable
  public var isPartial: Bool { flags & Self.needsChecksum != 0 }
}
