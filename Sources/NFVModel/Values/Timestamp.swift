internal import FoundationEssentials

/// A moment as microseconds since 1970-01-01T00:00:00Z.
public struct Timestamp: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  public var microseconds: Int64

  public init(microseconds: Int64) { self.microseconds = microseconds }

  public init(from decoder: any Decoder) throws {
    microseconds = try decoder.singleValueContainer().decode(Int64.self)
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(microseconds)
  }

  public static func < (left: Self, right: Self) -> Bool {
    left.microseconds < right.microseconds
  }

  public static func + (left: Self, right: Duration) -> Self {
    Self(microseconds: left.microseconds + right.microseconds)
  }

  public static func - (left: Self, right: Self) -> Duration {
    .microseconds(left.microseconds - right.microseconds)
  }

  /// RFC 3339 in UTC with milliseconds, as ETSI's DateTime (SOL013 7.2.2).
  public var description: String {
    let seconds =
      microseconds >= 0 ? microseconds / 1_000_000 : (microseconds - 999_999) / 1_000_000
    let milliseconds = (microseconds - seconds * 1_000_000) / 1000
    let date = Date(timeIntervalSince1970: Double(seconds))
    let whole = date.formatted(.iso8601)
    let fraction = String(milliseconds)
    return whole.dropLast() + "." + String(repeating: "0", count: 3 - fraction.count) + fraction
      + "Z"
  }
}

extension Duration {
  /// Whole microseconds, rounded towards zero.
  public var microseconds: Int64 {
    components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000
  }
}
