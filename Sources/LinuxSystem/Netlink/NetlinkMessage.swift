/// One netlink message being written (netlink(7)): header, the family's fixed part, attributes.
///
/// Numbers are in the host's byte order and everything is aligned to 4 octets, as the kernel wants.
public struct NetlinkMessage: Sendable, Hashable {
  /// With the header; its length, sequence number and port are filled in when it is sent.
  public private(set) var bytes: [UInt8]

  /// - Parameters:
  ///   - type: such as RTM_NEWLINK.
  ///   - flags: beside NLM_F_REQUEST, which every message gets.
  ///   - fixed: the part between header and attributes, such as a `struct ifinfomsg`.
  public init(type: UInt16, flags: UInt16 = 0, fixed: [UInt8]) {
    bytes = [0, 0, 0, 0] + Self.octets(type) + Self.octets(flags | 1)
    bytes += [UInt8](repeating: 0, count: 8)
    bytes += fixed
    align()
  }

  static func octets<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    // SAFETY: only the bytes of an integer are read, while it lives.
    withUnsafeBytes(of: value) { Array($0) }
  }

  private mutating func align() {
    bytes += [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
  }

  public mutating func attribute(_ type: UInt16, _ payload: [UInt8]) {
    bytes += Self.octets(UInt16(4 + payload.count)) + Self.octets(type) + payload
    align()
  }

  public mutating func attribute(_ type: UInt16, _ value: some FixedWidthInteger) {
    attribute(type, Self.octets(value))
  }

  /// A text with its terminating zero.
  public mutating func attribute(_ type: UInt16, _ text: String) {
    attribute(type, Array(text.utf8) + [0])
  }

  /// An attribute that holds what `body` writes.
  /// - Parameter prefix: a fixed part before the attributes inside, such as the `struct ifinfomsg` of
  ///   a veth's peer.
  public mutating func nested(
    _ type: UInt16, prefix: [UInt8] = [], _ body: (inout NetlinkMessage) -> Void
  ) {
    let start = bytes.count
    bytes += [0, 0] + Self.octets(type) + prefix
    body(&self)
    bytes.replaceSubrange(start..<start + 2, with: Self.octets(UInt16(bytes.count - start)))
    align()
  }

  /// The message as it is sent.
  func sealed(sequence: UInt32, flags: UInt16) -> [UInt8] {
    var sealed = bytes
    sealed.replaceSubrange(0..<4, with: Self.octets(UInt32(bytes.count)))
    let own = UInt16(bytes[6]) | UInt16(bytes[7]) << 8
    sealed.replaceSubrange(6..<8, with: Self.octets(own | flags))
    sealed.replaceSubrange(8..<12, with: Self.octets(sequence))
    return sealed
  }
}

/// The attributes of a received message, by type.
public struct NetlinkAttributes: Sendable {
  private var values: [UInt16: ArraySlice<UInt8>] = [:]

  /// Reads attributes until the end, or until one does not fit.
  public init(_ bytes: ArraySlice<UInt8>) {
    var rest = bytes
    while rest.count >= 4 {
      let length = Int(rest.integer(at: 0, as: UInt16.self))
      // The two highest bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
      let type = rest.integer(at: 2, as: UInt16.self) & 0x3FFF
      guard length >= 4, length <= rest.count else { return }
      values[type] = rest.dropFirst(4).prefix(length - 4)
      rest = rest.dropFirst((length + 3) & ~3)
    }
  }

  public subscript(type: UInt16) -> ArraySlice<UInt8>? { values[type] }

  public func text(_ type: UInt16) -> String? {
    values[type].map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  public func integer<Value: FixedWidthInteger>(_ type: UInt16, as: Value.Type) -> Value? {
    guard let bytes = values[type], bytes.count >= Value.bitWidth / 8 else { return nil }
    return bytes.integer(at: 0, as: Value.self)
  }

  public func nested(_ type: UInt16) -> NetlinkAttributes? {
    values[type].map(NetlinkAttributes.init)
  }
}

extension ArraySlice<UInt8> {
  /// The integer at `offset` from the start, in the host's byte order; the caller has checked the
  /// length.
  func integer<Value: FixedWidthInteger>(at offset: Int, as: Value.Type) -> Value {
    var value: Value = 0
    for index in 0..<Value.bitWidth / 8 {
      value |= Value(truncatingIfNeeded: UInt64(self[startIndex + offset + index]) << (8 * index))
    }
    return value
  }
}
