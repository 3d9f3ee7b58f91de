internal import FoundationEssentials
internal import NFVModel

/// Octets with a binary unit, three significant digits at most: `1.5 MiB`.
func octets(_ count: Int64) -> String {
  var value = Double(count)
  var unit = 0
  let units = ["B", "KiB", "MiB", "GiB", "TiB"]
  while value >= 1024, unit < units.count - 1 {
    value /= 1024
    unit += 1
  }
  if unit == 0 { return "\(count) B" }
  let tenths = Int64((value * 10).rounded())
  return tenths < 1000 && tenths % 10 != 0
    ? "\(tenths / 10).\(tenths % 10) \(units[unit])" : "\((tenths + 5) / 10) \(units[unit])"
}

/// Microseconds with groups of three digits: `12,345`.
func microseconds(_ value: Int64) -> String {
  let digits = String(value.magnitude)
  var result = ""
  for (index, digit) in digits.enumerated() {
    if index > 0, (digits.count - index) % 3 == 0 { result += "," }
    result.append(digit)
  }
  return value < 0 ? "-" + result : result
}

/// A span of time in its largest two units: `3m12s`, `5d4h`.
func span(_ duration: Duration) -> String {
  let seconds = max(0, duration.components.seconds)
  switch seconds {
  case ..<60: return "\(seconds)s"
  case ..<3600: return "\(seconds / 60)m\(seconds % 60)s"
  case ..<86400: return "\(seconds / 3600)h\(seconds % 3600 / 60)m"
  default: return "\(seconds / 86400)d\(seconds % 86400 / 3600)h"
  }
}

extension Timestamp {
  static var now: Timestamp {
    Timestamp(microseconds: Int64(Date().timeIntervalSince1970 * 1_000_000))
  }

  /// Reads RFC 3339 with or without a fraction; nil where it is not that.
  init?(_ text: String) {
    let style = Date.ISO8601FormatStyle()
    let fraction = text.contains(".")
    guard
      let date = try?
        (fraction
        ? style.year().month().day().time(includingFractionalSeconds: true)
          .timeZone(separator: .omitted) : style).parse(text)
    else { return nil }
    self.init(microseconds: Int64((date.timeIntervalSince1970 * 1_000_000).rounded()))
  }
}
