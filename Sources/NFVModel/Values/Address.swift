/// An Ethernet address.
public struct MACAddress: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  /// The 48 bits, the first octet highest.
  public var value: UInt64

  public init(value: UInt64) { self.value = value & 0xFFFF_FFFF_FFFF }

  /// Parses six octets of two hexadecimal digits with colons; nil for anything else.
  public init?(_ text: String) {
    let octets = text.split(separator: ":", omittingEmptySubsequences: false)
    guard octets.count == 6, octets.allSatisfy({ $0.count == 2 }) else { return nil }
    var value: UInt64 = 0
    for octet in octets {
      guard let byte = UInt8(octet, radix: 16) else { return nil }
      value = value << 8 | UInt64(byte)
    }
    self.value = value
  }

  /// The six octets in the order of the wire.
  public var octets: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: value >> (40 - 8 * $0)) } }

  public static func < (left: Self, right: Self) -> Bool { left.value < right.value }

  public var description: String {
    octets.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
  }

  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let address = MACAddress(text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "not a MAC address: \(text)"))
    }
    self = address
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// An IPv4 or IPv6 address.
public struct IPAddress: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  public enum Family: String, Sendable, Codable, Comparable {
    case v4, v6
    /// The address's length in bits.
    public var width: Int { self == .v4 ? 32 : 128 }
    public static func < (left: Self, right: Self) -> Bool { left == .v4 && right == .v6 }
  }

  public var family: Family
  /// The address as a number; an IPv4 address uses the low 32 bits.
  public var value: UInt128

  public init(family: Family, value: UInt128) {
    self.family = family
    self.value = family == .v4 ? value & 0xFFFF_FFFF : value
  }

  /// The octets in the order of the wire: 4 or 16.
  public var octets: [UInt8] {
    (0..<family.width / 8).map {
      UInt8(truncatingIfNeeded: value >> UInt128(family.width - 8 - 8 * $0))
    }
  }

  public init?(octets: [UInt8]) {
    guard octets.count == 4 || octets.count == 16 else { return nil }
    family = octets.count == 4 ? .v4 : .v6
    value = octets.reduce(0) { $0 << 8 | UInt128($1) }
  }

  /// Parses dotted decimal (no leading zeros, four parts) or RFC 4291 text; nil for anything else.
  public init?(_ text: String) {
    if text.contains(":") {
      guard let value = Self.parseV6(text) else { return nil }
      self.init(family: .v6, value: value)
    } else {
      guard let value = Self.parseV4(text) else { return nil }
      self.init(family: .v4, value: UInt128(value))
    }
  }

  private static func parseV4(_ text: some StringProtocol) -> UInt32? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
      guard (1...3).contains(part.count), part.allSatisfy({ $0.isASCII && $0.isNumber }),
        part.count == 1 || part.first != "0", let byte = UInt8(part)
      else { return nil }
      value = value << 8 | UInt32(byte)
    }
    return value
  }

  private static func parseV6(_ text: String) -> UInt128? {
    func groups(_ text: some StringProtocol) -> [UInt16]? {
      if text.isEmpty { return [] }
      var result: [UInt16] = []
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      for (index, part) in parts.enumerated() {
        if part.contains(".") {
          guard index == parts.count - 1, let v4 = parseV4(part) else { return nil }
          result += [UInt16(v4 >> 16), UInt16(v4 & 0xFFFF)]
        } else {
          guard (1...4).contains(part.count), part.allSatisfy(\.isHexDigit),
            let group = UInt16(part, radix: 16)
          else { return nil }
          result.append(group)
        }
      }
      return result
    }
    var all: [UInt16]
    if let gap = text.firstRange(of: "::") {
      guard let head = groups(text[..<gap.lowerBound]), let tail = groups(text[gap.upperBound...]),
        head.count + tail.count < 8
      else { return nil }
      all = head + Array(repeating: 0, count: 8 - head.count - tail.count) + tail
    } else {
      guard let whole = groups(text) else { return nil }
      all = whole
    }
    guard all.count == 8 else { return nil }
    return all.reduce(0) { $0 << 16 | UInt128($1) }
  }

  public static func < (left: Self, right: Self) -> Bool {
    (left.family, left.value) < (right.family, right.value)
  }

  /// Dotted decimal, or the canonical text of RFC 5952.
  public var description: String {
    if family == .v4 { return octets.map(String.init).joined(separator: ".") }
    let groups = (0..<8).map { UInt16(truncatingIfNeeded: value >> UInt128(112 - 16 * $0)) }
    var best = 0..<0
    var start = 0
    while start < 8 {
      var end = start
      while end < 8, groups[end] == 0 { end += 1 }
      if end - start > best.count, end - start > 1 { best = start..<end }
      start = max(end, start + 1)
    }
    func text(_ range: Range<Int>) -> String {
      groups[range].map { String($0, radix: 16) }.joined(separator: ":")
    }
    return best.isEmpty ? text(0..<8) : text(0..<best.lowerBound) + "::" + text(best.upperBound..<8)
  }

  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let address = IPAddress(text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "not an IP address: \(text)"))
    }
    self = address
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// An address with the length of its network's prefix: of an interface (`10.0.0.2/24`) or, with no
/// bit set after the prefix, of a network (`10.0.0.0/24`).
public struct IPPrefix: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  public var address: IPAddress
  /// In bits, 0 to the family's width.
  public var length: Int

  public init(address: IPAddress, length: Int) {
    self.address = address
    self.length = min(max(length, 0), address.family.width)
  }

  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let address = IPAddress(String(parts[0])),
      let length = Int(parts[1]), (0...address.family.width).contains(length)
    else { return nil }
    self.init(address: address, length: length)
  }

  private var mask: UInt128 {
    let host = address.family.width - length
    let all: UInt128 = address.family == .v4 ? 0xFFFF_FFFF : .max
    return host >= 128 ? 0 : (all >> UInt128(host)) << UInt128(host)
  }

  /// The network that this prefix names: the bits after the prefix cleared.
  public var network: IPPrefix {
    IPPrefix(
      address: IPAddress(family: address.family, value: address.value & mask), length: length)
  }

  /// The network's last address; IPv4's broadcast address.
  public var last: IPAddress {
    let all: UInt128 = address.family == .v4 ? 0xFFFF_FFFF : .max
    return IPAddress(family: address.family, value: address.value | (all & ~mask))
  }

  public func contains(_ other: IPAddress) -> Bool {
    other.family == address.family && other.value & mask == address.value & mask
  }

  public func overlaps(_ other: IPPrefix) -> Bool {
    contains(other.network.address) || other.contains(network.address)
  }

  public static func < (left: Self, right: Self) -> Bool {
    (left.address, left.length) < (right.address, right.length)
  }

  public var description: String { "\(address)/\(length)" }

  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let prefix = IPPrefix(text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "not an IP prefix: \(text)"))
    }
    self = prefix
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
