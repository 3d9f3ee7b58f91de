/// Why octets are not the document that was expected.
enum JSONError: Error, Hashable {
  case malformed
  /// Right, and of another kind than expected.
  case unexpected
  case tooDeep
}

/// Reads JSON (RFC 8259) from its beginning to its end, value by value as its caller expects them:
/// no tree, no allocation but for strings, nesting bounded.
struct JSONReader {
  static let maximumDepth = 32

  private let octets: [UInt8]
  private var position = 0
  private var depth = 0

  init(_ octets: [UInt8]) { self.octets = octets }

  /// Calls `body` for each member; it reads or skips the member's value.
  mutating func object(
    _ body: (inout JSONReader, [UInt8]) throws(JSONError) -> Void
  ) throws(JSONError) {
    try enter(0x7b)
    if try take(0x7d) {
      depth -= 1
      return
    }
    repeat {
      let name = try string()
      try expect(0x3a)
      try body(&self, name)
    } while try take(0x2c)
    try expect(0x7d)
    depth -= 1
  }

  /// Calls `body` for each element, which it reads or skips.
  mutating func array(
    _ body: (inout JSONReader) throws(JSONError) -> Void
  ) throws(JSONError) {
    try enter(0x5b)
    if try take(0x5d) {
      depth -= 1
      return
    }
    repeat { try body(&self) } while try take(0x2c)
    try expect(0x5d)
    depth -= 1
  }

  /// UTF-8 as it stands; `\u` of half a pair gives the replacement character.
  mutating func string() throws(JSONError) -> [UInt8] {
    guard try peek() == 0x22 else { throw .unexpected }
    position += 1
    var result: [UInt8] = []
    while true {
      let octet = try next()
      switch octet {
      case 0x22: return result
      case 0..<0x20: throw .malformed
      case 0x5c: try escape(into: &result)
      default: result.append(octet)
      }
    }
  }

  /// A whole number without sign, below 2^63.
  mutating func integer() throws(JSONError) -> Int {
    guard case 0x30...0x39 = try peek() else { throw .unexpected }
    let start = position
    var value = 0
    while position < octets.count, case 0x30...0x39 = octets[position] {
      let (product, overflows) = value.multipliedReportingOverflow(by: 10)
      let (sum, overflowsToo) = product.addingReportingOverflow(Int(octets[position] - 0x30))
      guard !overflows, !overflowsToo else { throw .unexpected }
      value = sum
      position += 1
    }
    if position - start > 1, octets[start] == 0x30 { throw .malformed }
    if position < octets.count {
      let after = octets[position]
      if after == 0x2e || after | 0x20 == 0x65 { throw .unexpected }
    }
    return value
  }

  /// Passes over a value of any kind.
  mutating func skip() throws(JSONError) {
    switch try peek() {
    case 0x7b: try object { (reader, _) throws(JSONError) in try reader.skip() }
    case 0x5b: try array { (reader) throws(JSONError) in try reader.skip() }
    case 0x22: _ = try string()
    case 0x74: try word("true")
    case 0x66: try word("false")
    case 0x6e: try word("null")
    default: try number()
    }
  }

  /// Only white space may follow.
  mutating func finish() throws(JSONError) {
    skipSpace()
    guard position == octets.count else { throw .malformed }
  }

  private mutating func number() throws(JSONError) {
    if octets[position] == 0x2d { position += 1 }
    if position < octets.count, octets[position] == 0x30 {
      position += 1
    } else {
      try digits()
    }
    if position < octets.count, octets[position] == 0x2e {
      position += 1
      try digits()
    }
    if position < octets.count, octets[position] | 0x20 == 0x65 {
      position += 1
      if position < octets.count, octets[position] == 0x2b || octets[position] == 0x2d {
        position += 1
      }
      try digits()
    }
  }

  private mutating func digits() throws(JSONError) {
    let start = position
    while position < octets.count, case 0x30...0x39 = octets[position] { position += 1 }
    guard position > start else { throw .malformed }
  }

  private mutating func word(_ word: StaticString) throws(JSONError) {
    for index in 0..<word.utf8CodeUnitCount {
      guard try next() == (word.utf8Start + index).pointee else { throw .malformed }
    }
  }

  private mutating func escape(into result: inout [UInt8]) throws(JSONError) {
    switch try next() {
    case 0x22: result.append(0x22)
    case 0x5c: result.append(0x5c)
    case 0x2f: result.append(0x2f)
    case 0x62: result.append(8)
    case 0x66: result.append(12)
    case 0x6e: result.append(10)
    case 0x72: result.append(13)
    case 0x74: result.append(9)
    case 0x75:
      var scalar = try fourDigits()
      if scalar >> 10 == 0x36, position + 1 < octets.count, octets[position] == 0x5c,
        octets[position + 1] == 0x75
      {
        position += 2
        let low = try fourDigits()
        scalar = low >> 10 == 0x37 ? 0x10000 + (scalar & 0x3ff) << 10 + (low & 0x3ff) : 0xfffd
      }
      if scalar >> 11 == 0x1b { scalar = 0xfffd }
      append(scalar, to: &result)
    default: throw .malformed
    }
  }

  private func append(_ scalar: UInt32, to result: inout [UInt8]) {
    func tail(_ shift: UInt32) -> UInt8 {
      0x80 | UInt8(truncatingIfNeeded: scalar >> shift & 0x3f)
    }
    switch scalar {
    case 0..<0x80: result.append(UInt8(scalar))
    case 0x80..<0x800:
      result.append(0xc0 | UInt8(scalar >> 6))
      result.append(tail(0))
    case 0x800..<0x10000:
      result.append(0xe0 | UInt8(scalar >> 12))
      result.append(tail(6))
      result.append(tail(0))
    default:
      result.append(0xf0 | UInt8(truncatingIfNeeded: scalar >> 18))
      result.append(tail(12))
      result.append(tail(6))
      result.append(tail(0))
    }
  }

  private mutating func fourDigits() throws(JSONError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      let octet = try next()
      switch octet {
      case 0x30...0x39: value = value << 4 | UInt32(octet - 0x30)
      case 0x41...0x46: value = value << 4 | UInt32(octet - 0x37)
      case 0x61...0x66: value = value << 4 | UInt32(octet - 0x57)
      default: throw .malformed
      }
    }
    return value
  }

  private mutating func enter(_ octet: UInt8) throws(JSONError) {
    guard try peek() == octet else { throw .unexpected }
    guard depth < Self.maximumDepth else { throw .tooDeep }
    position += 1
    depth += 1
  }

  private mutating func skipSpace() {
    while position < octets.count {
      switch octets[position] {
      case 0x20, 0x09, 0x0a, 0x0d: position += 1
      default: return
      }
    }
  }

  private mutating func peek() throws(JSONError) -> UInt8 {
    skipSpace()
    guard position < octets.count else { throw .malformed }
    return octets[position]
  }

  private mutating func next() throws(JSONError) -> UInt8 {
    guard position < octets.count else { throw .malformed }
    defer { position += 1 }
    return octets[position]
  }

  private mutating func take(_ octet: UInt8) throws(JSONError) -> Bool {
    guard try peek() == octet else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ octet: UInt8) throws(JSONError) {
    guard try take(octet) else { throw .malformed }
  }
}
