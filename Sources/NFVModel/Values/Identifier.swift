/// The identifier of one kind of thing: a text that is unique within the store, so that a network's
/// identifier cannot stand where a port's is meant.
public struct Identifier<Subject>: RawRepresentable, Hashable, Comparable, Sendable, Codable,
  CodingKeyRepresentable, CustomStringConvertible, ExpressibleByStringLiteral
{
  public var rawValue: String

  public init(rawValue: String) { self.rawValue = rawValue }
  public init(_ rawValue: String) { self.rawValue = rawValue }
  public init(stringLiteral value: String) { self.rawValue = value }

  public init(from decoder: any Decoder) throws {
    rawValue = try decoder.singleValueContainer().decode(String.self)
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(rawValue)
  }

  private struct Key: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  /// A dictionary by identifier is a JSON object.
  public var codingKey: any CodingKey { Key(stringValue: rawValue) }
  public init?(codingKey: some CodingKey) { rawValue = codingKey.stringValue }

  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
  public var description: String { rawValue }
}

/// Who owns an instance, a network or a package; tenants are apart by construction.
public enum Tenant {}
/// The database of one Martlet; several may live on one host and never touch each other's things.
public enum StoreIdentity {}
/// A machine that carries workloads.
public enum Host {}

public typealias TenantID = Identifier<Tenant>
public typealias StoreID = Identifier<StoreIdentity>
public typealias HostID = Identifier<Host>
public typealias VnfPackageID = Identifier<VnfPackage>
public typealias VnfInstanceID = Identifier<VnfInstance>
public typealias VnfLcmOpOccID = Identifier<VnfLcmOpOcc>
public typealias VnfcID = Identifier<Vnfc>
public typealias NetworkID = Identifier<Network>
public typealias PortID = Identifier<Port>

extension Identifier where Subject == Tenant {
  /// The one tenant of an installation that has not made others.
  public static var `default`: Self { "default" }
}

extension Identifier where Subject == Host {
  /// The machine that the daemon runs on.
  public static var local: Self { "local" }
}

/// Where identifiers come from: the system's randomness in the daemon, a seed in the simulator.
public struct IdentifierSource: Sendable {
  private var next: @Sendable () -> (UInt64, UInt64)

  public init(_ next: @escaping @Sendable () -> (UInt64, UInt64)) { self.next = next }

  public static var system: Self {
    Self {
      var generator = SystemRandomNumberGenerator()
      return (generator.next(), generator.next())
    }
  }

  /// A random (version 4) UUID in lower case (RFC 9562).
  public func uuid() -> String {
    var (high, low) = next()
    high = high & 0xFFFF_FFFF_FFFF_0FFF | 0x4000
    low = low & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    func hex(_ value: UInt64) -> String {
      let digits = String(value, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }
    let text = Array(hex(high) + hex(low))
    return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(text[$0]) }
      .joined(separator: "-")
  }

  public func identifier<Subject>(_: Identifier<Subject>.Type = Identifier<Subject>.self)
    -> Identifier<Subject>
  {
    Identifier(uuid())
  }
}
