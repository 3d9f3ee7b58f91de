/// Reads JSON (RFC 8259) from its beginning to its end, value by value as its caller expects them:
/// no tree, no allocation but for strings, nesting bounded. Errors say in which member they are. A
/// member that is `null` is one that is not there.
struct JSONReader {
  static let maximumDepth = 32
  static let maximumString = 1024

  private let octets: [UInt8]
  private var position: Int
  private let end: Int
  /// How much memory what is read may take, in octets.
  private(set) var memory: Int
  /// Objects and lists that have begun: how long `place` is without their parts, and how many
  /// elements have come.
  private var open: [(base: Int, count: Int)] = []
  /// The last of them has just begun.
  private var isFirst = false
  /// Names and indices of what is being read, such as `ports[1].mac`.
  private var place: [UInt8]

  /// - Parameters:
  ///   - range: what of the octets is to be read.
  ///   - place: what that is part of.
  init(_ octets: [UInt8], _ range: Range<Int>, memory: Int, at place: [UInt8] = []) {
    self.octets = octets
    position = range.lowerBound
    end = range.upperBound
    self.memory = memory
    self.place = place
    self.place.reserveCapacity(64)
  }

  /// Takes note of what an element that was read will take, in octets, its share of tables and of lists
  /// that grow included: in a machine of its own spent memory would be the end.
  @inline(never)
  mutating func spend(_ octets: Int) throws(ConfigurationError) {
    guard octets <= memory else { throw error("there is no memory for so many of these") }
    memory -= octets
  }

  /// An error about what is being read.
  @inline(never)
  func error(_ reason: StaticString) -> ConfigurationError {
    ConfigurationError(reason, at: place)
  }

  /// For a member that may not be passed over: what it belongs to would mean another thing without it.
  var unknownMember: ConfigurationError { error("there is no member of this name here") }

  private var malformed: ConfigurationError { error("this is not JSON") }

  /// Begins an object, whose members ``nextMember()`` then gives.
  mutating func enterObject() throws(ConfigurationError) {
    try enter(0x7b, "an object is expected")
  }

  /// The next member's name; its value is to be read or skipped then. nil at the object's end.
  @inline(never)
  mutating func nextMember() throws(ConfigurationError) -> [UInt8]? {
    while true {
      guard try goOn(0x7d) else { return nil }
      let name = try string()
      try expect(0x3a)
      if try peek() == 0x6e {
        try word("null")
        continue
      }
      if !place.isEmpty { place.push(0x2e) }
      place += name
      return name
    }
  }

  /// Begins a list, whose elements ``nextElement()`` then finds.
  mutating func enterArray() throws(ConfigurationError) {
    try enter(0x5b, "a list is expected")
  }

  /// Whether there is another element, which is to be read or skipped then.
  @inline(never)
  mutating func nextElement() throws(ConfigurationError) -> Bool {
    guard try goOn(0x5d) else { return false }
    place.pushIndex(open[open.count - 1].count)
    open[open.count - 1].count += 1
    return true
  }

  /// Steps to the next part of what is open, or closes it.
  private mutating func goOn(_ end: UInt8) throws(ConfigurationError) -> Bool {
    let base = open[open.count - 1].base
    place.removeLast(place.count - base)
    if try take(end) {
      open.removeLast()
      isFirst = false
      return false
    }
    if !isFirst { try expect(0x2c) }
    isFirst = false
    return true
  }

  /// UTF-8 as it stands; `\u` of half a pair gives the replacement character.
  ///
  /// - Parameter isKept: else it is passed over, may have any length, and nothing is given.
  @inline(never)
  mutating func string(isKept: Bool = true) throws(ConfigurationError) -> [UInt8] {
    guard try peek() == 0x22 else { throw error("a string is expected") }
    position += 1
    // Most have no escapes, and are copied at once.
    let start = position
    while position < end {
      let octet = octets[position]
      guard octet >= 0x20, octet != 0x22, octet != 0x5c else { break }
      position += 1
    }
    var result: [UInt8] = []
    if isKept {
      guard position - start <= Self.maximumString else {
        throw error("a string has more than 1024 octets")
      }
      result.append(contentsOf: octets[start..<position])
    }
    while true {
      if !isKept { result.removeAll(keepingCapacity: true) }
      guard result.count <= Self.maximumString else {
        throw error("a string has more than 1024 octets")
      }
      let octet = try next()
      switch octet {
      case 0x22: return result
      case 0..<0x20: throw malformed
      case 0x5c: try escape(into: &result)
      default: result.push(octet)
      }
    }
  }

  /// A whole number without sign, below 2^63.
  @inline(never)
  mutating func integer() throws(ConfigurationError) -> Int {
    guard case 0x30...0x39 = try peek() else { throw error("a whole number is expected") }
    let start = position
    var value = 0
    while position < end, case 0x30...0x39 = octets[position] {
      let (product, overflows) = value.multipliedReportingOverflow(by: 10)
      let (sum, overflowsToo) = product.addingReportingOverflow(Int(octets[position] - 0x30))
      guard !overflows, !overflowsToo else { throw error("the number is too large") }
      value = sum
      position += 1
    }
    if position - start > 1, octets[start] == 0x30 { throw malformed }
    if position < end {
      let after = octets[position]
      if after == 0x2e || after | 0x20 == 0x65 { throw error("a whole number is expected") }
    }
    return value
  }

  /// Passes over a value of any kind.
  @inline(never)
  mutating func skip() throws(ConfigurationError) {
    switch try peek() {
    case 0x7b:
      try enterObject()
      while try nextMember() != nil { try skip() }
    case 0x5b:
      try enterArray()
      while try nextElement() { try skip() }
    case 0x22: _ = try string(isKept: false)
    case 0x74: try word("true")
    case 0x66: try word("false")
    case 0x6e: try word("null")
    default: try number()
    }
  }

  /// Passes over a value of any kind and tells where it stands.
  mutating func value() throws(ConfigurationError) -> Range<Int> {
    skipSpace()
    let start = position
    try skip()
    return start..<position
  }

  /// Only white space may follow.
  mutating func finish() throws(ConfigurationError) {
    skipSpace()
    guard position == end else { throw malformed }
  }

  private mutating func number() throws(ConfigurationError) {
    if octets[position] == 0x2d { position += 1 }
    if position < end, octets[position] == 0x30 {
      position += 1
    } else {
      try digits()
    }
    if position < end, octets[position] == 0x2e {
      position += 1
      try digits()
    }
    if position < end, octets[position] | 0x20 == 0x65 {
      position += 1
      if position < end, octets[position] == 0x2b || octets[position] == 0x2d {
        position += 1
      }
      try digits()
    }
  }

  private mutating func digits() throws(ConfigurationError) {
    let start = position
    while position < end, case 0x30...0x39 = octets[position] { position += 1 }
    guard position > start else { throw malformed }
  }

  private mutating func word(_ word: StaticString) throws(ConfigurationError) {
    for index in 0..<word.utf8CodeUnitCount {
      guard try next() == (word.utf8Start + index).pointee else { throw malformed }
    }
  }

  private mutating func escape(into result: inout [UInt8]) throws(ConfigurationError) {
    switch try next() {
    case 0x22: result.push(0x22)
    case 0x5c: result.push(0x5c)
    case 0x2f: result.push(0x2f)
    case 0x62: result.push(8)
    case 0x66: result.push(12)
    case 0x6e: result.push(10)
    case 0x72: result.push(13)
    case 0x74: result.push(9)
    case 0x75:
      var scalar = try fourDigits()
      if scalar >> 10 == 0x36, position + 1 < end, octets[position] == 0x5c,
        octets[position + 1] == 0x75
      {
        position += 2
        let low = try fourDigits()
        scalar = low >> 10 == 0x37 ? 0x10000 + (scalar & 0x3ff) << 10 + (low & 0x3ff) : 0xfffd
      }
      if scalar >> 11 == 0x1b { scalar = 0xfffd }
      append(scalar, to: &result)
    default: throw malformed
    }
  }

  private func append(_ scalar: UInt32, to result: inout [UInt8]) {
    func tail(_ shift: UInt32) -> UInt8 {
      0x80 | UInt8(truncatingIfNeeded: scalar >> shift & 0x3f)
    }
    switch scalar {
    case 0..<0x80: result.push(UInt8(scalar))
    case 0x80..<0x800:
      result.push(0xc0 | UInt8(scalar >> 6))
      result.push(tail(0))
    case 0x800..<0x10000:
      result.push(0xe0 | UInt8(scalar >> 12))
      result.push(tail(6))
      result.push(tail(0))
    default:
      result.push(0xf0 | UInt8(truncatingIfNeeded: scalar >> 18))
      result.push(tail(12))
      result.push(tail(6))
      result.push(tail(0))
    }
  }

  private mutating func fourDigits() throws(ConfigurationError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      let octet = try next()
      switch octet {
      case 0x30...0x39: value = value << 4 | UInt32(octet - 0x30)
      case 0x41...0x46: value = value << 4 | UInt32(octet - 0x37)
      case 0x61...0x66: value = value << 4 | UInt32(octet - 0x57)
      default: throw malformed
      }
    }
    return value
  }

  @inline(never)
  private mutating func enter(
    _ octet: UInt8, _ expected: StaticString
  ) throws(ConfigurationError) {
    guard try peek() == octet else { throw error(expected) }
    guard open.count < Self.maximumDepth else {
      throw error("the document is nested more than 32 deep")
    }
    position += 1
    open.append((place.count, 0))
    isFirst = true
  }

  private mutating func skipSpace() {
    while position < end {
      switch octets[position] {
      case 0x20, 0x09, 0x0a, 0x0d: position += 1
      default: return
      }
    }
  }

  /// The first octet of the next value.
  @inline(never)
  mutating func peek() throws(ConfigurationError) -> UInt8 {
    skipSpace()
    guard position < end else { throw malformed }
    return octets[position]
  }

  private mutating func next() throws(ConfigurationError) -> UInt8 {
    guard position < end else { throw malformed }
    defer { position += 1 }
    return octets[position]
  }

  private mutating func take(_ octet: UInt8) throws(ConfigurationError) -> Bool {
    guard try peek() == octet else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ octet: UInt8) throws(ConfigurationError) {
    guard try take(octet) else { throw malformed }
  }
}

extension [UInt8] {
  fileprivate mutating func pushIndex(_ index: Int) {
    push(0x5b)
    var divisor = 1
    while index / divisor > 9 { divisor *= 10 }
    while divisor > 0 {
      push(0x30 + UInt8(index / divisor % 10))
      divisor /= 10
    }
    push(0x5d)
  }
}
