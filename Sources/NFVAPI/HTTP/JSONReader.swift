internal import HTTPTypes
internal import NFVModel

/// Reads JSON (RFC 8259) strictly, and says at which line and column it is not JSON. Nesting is
/// bounded; so is the text, by its caller.
struct JSONReader {
  static let maximumDepth = 64

  private let bytes: [UInt8]
  private var index = 0

  static func read(_ bytes: [UInt8]) throws(Problem) -> JSONValue {
    var reader = JSONReader(bytes: bytes)
    let value = try reader.value(depth: 0)
    reader.skipBlanks()
    guard reader.index == bytes.count else {
      throw reader.problem("something follows the JSON value")
    }
    return value
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private var byte: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func skipBlanks() {
    while let byte, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
  }

  private func problem(_ what: String) -> Problem {
    let before = bytes[..<min(index, bytes.count)]
    let line = before.count { $0 == 0x0A } + 1
    let column = before.count - (before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0) + 1
    return Problem(
      .badRequest, "the body is not JSON: \(what) at line \(line), column \(column)")
  }

  private func expected(_ what: String) -> Problem {
    guard let byte else { return problem("it ends where \(what) is expected") }
    let found =
      (0x21...0x7E).contains(byte)
      ? "'\(Character(Unicode.Scalar(byte)))'" : "octet \(byte)"
    return problem("\(found) stands where \(what) is expected")
  }

  private mutating func value(depth: Int) throws(Problem) -> JSONValue {
    guard depth < Self.maximumDepth else {
      throw problem("values are nested deeper than \(Self.maximumDepth)")
    }
    skipBlanks()
    switch byte {
    case 0x7B: return try object(depth: depth)
    case 0x5B: return try array(depth: depth)
    case 0x22: return .string(try string())
    case 0x74: return try word("true", .bool(true))
    case 0x66: return try word("false", .bool(false))
    case 0x6E: return try word("null", .null)
    case .some(let byte) where byte == 0x2D || (0x30...0x39).contains(byte): return try number()
    default: throw expected("a value")
    }
  }

  private mutating func word(_ word: String, _ value: JSONValue) throws(Problem) -> JSONValue {
    guard bytes[index...].starts(with: word.utf8) else { throw expected("a value") }
    index += word.utf8.count
    return value
  }

  private mutating func object(depth: Int) throws(Problem) -> JSONValue {
    index += 1
    var members: [String: JSONValue] = [:]
    skipBlanks()
    if byte == 0x7D {
      index += 1
      return .object(members)
    }
    while true {
      skipBlanks()
      guard byte == 0x22 else { throw expected("a member's name in \"\"") }
      let start = index
      let name = try string()
      skipBlanks()
      guard byte == 0x3A else { throw expected("':'") }
      index += 1
      guard members.updateValue(try value(depth: depth + 1), forKey: name) == nil else {
        index = start
        throw problem("the member \(name) stands there twice, again")
      }
      skipBlanks()
      if byte == 0x7D { break }
      guard byte == 0x2C else { throw expected("',' or '}'") }
      index += 1
    }
    index += 1
    return .object(members)
  }

  private mutating func array(depth: Int) throws(Problem) -> JSONValue {
    index += 1
    var values: [JSONValue] = []
    skipBlanks()
    if byte == 0x5D {
      index += 1
      return .array(values)
    }
    while true {
      values.append(try value(depth: depth + 1))
      skipBlanks()
      if byte == 0x5D { break }
      guard byte == 0x2C else { throw expected("',' or ']'") }
      index += 1
    }
    index += 1
    return .array(values)
  }

  private mutating func number() throws(Problem) -> JSONValue {
    let start = index
    func isDigit(_ byte: UInt8?) -> Bool { byte.map { (0x30...0x39).contains($0) } ?? false }
    if byte == 0x2D { index += 1 }
    guard isDigit(byte) else { throw expected("a digit") }
    if byte == 0x30 {
      index += 1
      guard !isDigit(byte) else { throw problem("a number begins with 0") }
    }
    while isDigit(byte) { index += 1 }
    var isWhole = true
    if byte == 0x2E {
      isWhole = false
      index += 1
      guard isDigit(byte) else { throw expected("a digit") }
      while isDigit(byte) { index += 1 }
    }
    if byte == 0x65 || byte == 0x45 {
      isWhole = false
      index += 1
      if byte == 0x2B || byte == 0x2D { index += 1 }
      guard isDigit(byte) else { throw expected("a digit") }
      while isDigit(byte) { index += 1 }
    }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    if isWhole, let number = Int64(text) { return .integer(number) }
    guard let number = Double(text), number.isFinite else {
      index = start
      throw problem("a number is too large")
    }
    return .number(number)
  }

  private mutating func string() throws(Problem) -> String {
    index += 1
    let start = index
    while let byte, byte != 0x22, byte != 0x5C, byte >= 0x20 { index += 1 }
    if byte == 0x22 {
      defer { index += 1 }
      return try text(Array(bytes[start..<index]))
    }
    var octets = Array(bytes[start..<index])
    while let byte, byte != 0x22 {
      guard byte >= 0x20 else { throw problem("a control character stands in a string") }
      index += 1
      if byte == 0x5C {
        try unescape(into: &octets)
      } else {
        octets.append(byte)
      }
    }
    guard byte == 0x22 else { throw problem("it ends within a string") }
    index += 1
    return try text(octets)
  }

  private func text(_ octets: [UInt8]) throws(Problem) -> String {
    guard let text = String(validating: octets, as: UTF8.self) else {
      throw problem("a string is not UTF-8")
    }
    return text
  }

  private mutating func unescape(into octets: inout [UInt8]) throws(Problem) {
    guard let byte else { throw problem("it ends within a string") }
    index += 1
    switch byte {
    case 0x22, 0x5C, 0x2F: octets.append(byte)
    case 0x62: octets.append(0x08)
    case 0x66: octets.append(0x0C)
    case 0x6E: octets.append(0x0A)
    case 0x72: octets.append(0x0D)
    case 0x74: octets.append(0x09)
    case 0x75:
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code) {
        guard bytes[index...].starts(with: "\\u".utf8) else {
          throw problem("half a surrogate pair stands in a string")
        }
        index += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else {
          throw problem("half a surrogate pair stands in a string")
        }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw problem("half a surrogate pair stands in a string")
      }
      octets.append(contentsOf: Array(String(Character(scalar)).utf8))
    default:
      index -= 1
      throw expected("one of \"\\/bfnrtu after a backslash")
    }
  }

  private mutating func hexadecimal() throws(Problem) -> UInt32 {
    guard index + 4 <= bytes.count,
      bytes[index..<index + 4].allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
      let code = UInt32(String(decoding: bytes[index..<index + 4], as: UTF8.self), radix: 16)
    else { throw expected("four hexadecimal digits") }
    index += 4
    return code
  }
}
