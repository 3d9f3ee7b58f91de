internal import NFVModel

/// Writes JSON (RFC 8259) straight into octets: a page of a hundred instances is a few hundred
/// kilobytes, and a generic encoder takes longer over it than everything else together.
///
/// Commas are its business; nesting follows the closures, so that what it writes is well formed.
struct JSONWriter {
  private(set) var bytes: [UInt8] = []
  private var needsComma = false

  init(capacity: Int = 512) { bytes.reserveCapacity(capacity) }

  // MARK: Values

  mutating func object(_ body: (inout JSONWriter) -> Void) { nest(0x7B, 0x7D, body) }

  mutating func array(_ body: (inout JSONWriter) -> Void) { nest(0x5B, 0x5D, body) }

  private mutating func nest(
    _ open: UInt8, _ close: UInt8, _ body: (inout JSONWriter) -> Void
  ) {
    separate()
    bytes.append(open)
    needsComma = false
    body(&self)
    bytes.append(close)
    needsComma = true
  }

  mutating func value(_ text: String) {
    separate()
    quote(text)
    needsComma = true
  }

  mutating func value(_ number: some BinaryInteger) {
    separate()
    bytes.append(contentsOf: String(number).utf8)
    needsComma = true
  }

  mutating func value(_ truth: Bool) {
    separate()
    bytes.append(contentsOf: (truth ? "true" : "false").utf8)
    needsComma = true
  }

  mutating func value(_ value: JSONValue) {
    switch value {
    case .null:
      separate()
      bytes.append(contentsOf: "null".utf8)
      needsComma = true
    case .bool(let value): self.value(value)
    case .integer(let value): self.value(value)
    case .number(let value):
      separate()
      // JSON has no infinity; nothing that was read as JSON holds one.
      bytes.append(contentsOf: (value.isFinite ? String(value) : "null").utf8)
      needsComma = true
    case .string(let value): self.value(value)
    case .array(let values):
      array { json in
        for value in values { json.value(value) }
      }
    case .object(let members):
      object { json in
        for (key, value) in members.sorted(by: { $0.key < $1.key }) { json.field(key, value) }
      }
    }
  }

  // MARK: Members

  mutating func key(_ name: String) {
    separate()
    quote(name)
    bytes.append(0x3A)
    needsComma = false
  }

  /// A member; nil leaves it out.
  mutating func field(_ name: String, _ text: String?) {
    guard let text else { return }
    key(name)
    value(text)
  }

  mutating func field(_ name: String, _ number: (some BinaryInteger)?) {
    guard let number else { return }
    key(name)
    value(number)
  }

  mutating func field(_ name: String, _ truth: Bool?) {
    guard let truth else { return }
    key(name)
    value(truth)
  }

  mutating func field(_ name: String, _ value: JSONValue) {
    key(name)
    self.value(value)
  }

  mutating func field(_ name: String, _ moment: Timestamp) { field(name, moment.description) }

  mutating func field<Subject>(_ name: String, _ identifier: Identifier<Subject>?) {
    field(name, identifier?.rawValue)
  }

  mutating func object(_ name: String, _ body: (inout JSONWriter) -> Void) {
    key(name)
    object(body)
  }

  mutating func array(_ name: String, _ body: (inout JSONWriter) -> Void) {
    key(name)
    array(body)
  }

  /// An array with an object for each item.
  mutating func objects<Items: Sequence>(
    _ name: String, _ items: Items, _ body: (inout JSONWriter, Items.Element) -> Void
  ) {
    array(name) { json in
      for item in items { json.object { body(&$0, item) } }
    }
  }

  // MARK: Octets

  private mutating func separate() {
    if needsComma { bytes.append(0x2C) }
  }

  private mutating func quote(_ text: String) {
    bytes.append(0x22)
    var text = text
    text.withUTF8 { utf8 in
      if utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x22 && $0 != 0x5C }) {
        bytes.append(contentsOf: utf8)
      } else {
        for byte in utf8 { escape(byte) }
      }
    }
    bytes.append(0x22)
  }

  private mutating func escape(_ byte: UInt8) {
    switch byte {
    case 0x22, 0x5C: bytes += [0x5C, byte]
    case 0x0A: bytes += [0x5C, 0x6E]
    case 0x0D: bytes += [0x5C, 0x72]
    case 0x09: bytes += [0x5C, 0x74]
    case 0..<0x20:
      let digits = Array("0123456789abcdef".utf8)
      bytes += [0x5C, 0x75, 0x30, 0x30, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
    default: bytes.append(byte)
    }
  }
}
