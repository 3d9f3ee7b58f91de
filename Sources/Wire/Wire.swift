/// Why bytes are not a message of this protocol.
public enum WireError: Error, Sendable, Hashable {
  /// The message ends inside a value.
  case truncated
  /// Bytes are left after the last value.
  case trailing(Int)
  /// A string is not UTF-8 or holds a NUL, which no argument or path can.
  case badString
  /// A tag that this version does not know; `what` names the value.
  case unknownTag(what: String, tag: UInt16)
  /// A value or the whole message is longer than the protocol allows.
  case tooLong
}

/// Builds a message: little-endian integers; strings and lists with a 16-bit length in front.
public struct WireWriter: Sendable {
  public private(set) var bytes: [UInt8] = []
  /// A length has passed 65,535: the message can't be sent.
  private var overflowed = false

  public init() { bytes.reserveCapacity(256) }

  public mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  public mutating func put(_ value: Bool) { bytes.append(value ? 1 : 0) }

  public mutating func put(_ value: String) {
    putCount(value.utf8.count)
    bytes.append(contentsOf: value.utf8)
  }

  public mutating func put(data: [UInt8]) {
    putCount(data.count)
    bytes.append(contentsOf: data)
  }

  /// Octets with a 32-bit length in front.
  public mutating func put(block: [UInt8]) {
    if block.count > Int(UInt32.max) { overflowed = true }
    put(UInt32(truncatingIfNeeded: block.count))
    bytes.append(contentsOf: block)
  }

  public mutating func put<Element>(
    list: [Element], _ body: (inout WireWriter, Element) -> Void
  ) {
    putCount(list.count)
    for element in list { body(&self, element) }
  }

  public mutating func put<Value>(
    optional: Value?, _ body: (inout WireWriter, Value) -> Void
  ) {
    put(optional != nil)
    if let optional { body(&self, optional) }
  }

  /// The whole message, unless it is longer than `limit` bytes.
  public func finish(limit: Int) throws(WireError) -> [UInt8] {
    guard !overflowed, bytes.count <= limit else { throw .tooLong }
    return bytes
  }

  private mutating func putCount(_ count: Int) {
    if count > Int(UInt16.max) { overflowed = true }
    put(UInt16(truncatingIfNeeded: count))
  }
}

/// Reads a message; every length is checked against what is there before anything is allocated.
public struct WireReader: Sendable {
  private let bytes: ArraySlice<UInt8>
  private var position: Int

  public init(_ bytes: [UInt8]) {
    self.bytes = bytes[...]
    position = 0
  }

  public var remaining: Int { bytes.endIndex - position }

  public mutating func get<Value: FixedWidthInteger>(
    _ type: Value.Type = Value.self
  ) throws(WireError) -> Value {
    let size = MemoryLayout<Value>.size
    guard remaining >= size else { throw .truncated }
    var value: Value = 0
    for index in (0..<size).reversed() {
      value = (size == 1 ? 0 : value << 8) | Value(truncatingIfNeeded: bytes[position + index])
    }
    position += size
    return value
  }

  public mutating func getBool() throws(WireError) -> Bool {
    let tag = try get(UInt8.self)
    guard tag <= 1 else { throw .unknownTag(what: "truth value", tag: UInt16(tag)) }
    return tag == 1
  }

  public mutating func getString() throws(WireError) -> String {
    let slice = try getSlice()
    guard !slice.contains(0), let string = String(validating: slice, as: UTF8.self) else {
      throw .badString
    }
    return string
  }

  public mutating func getData() throws(WireError) -> [UInt8] { Array(try getSlice()) }

  public mutating func getBlock() throws(WireError) -> [UInt8] {
    let count = Int(try get(UInt32.self))
    guard count <= remaining else { throw .truncated }
    defer { position += count }
    return Array(bytes[position..<position + count])
  }

  public mutating func getList<Element>(
    _ body: (inout WireReader) throws(WireError) -> Element
  ) throws(WireError) -> [Element] {
    let count = Int(try get(UInt16.self))
    // Every element takes at least one byte.
    guard count <= remaining else { throw .truncated }
    var list: [Element] = []
    list.reserveCapacity(count)
    for _ in 0..<count { list.append(try body(&self)) }
    return list
  }

  public mutating func getOptional<Value>(
    _ body: (inout WireReader) throws(WireError) -> Value
  ) throws(WireError) -> Value? {
    try getBool() ? try body(&self) : nil
  }

  /// Checks that nothing is left.
  public func finish() throws(WireError) {
    if remaining > 0 { throw .trailing(remaining) }
  }

  private mutating func getSlice() throws(WireError) -> ArraySlice<UInt8> {
    let count = Int(try get(UInt16.self))
    guard count <= remaining else { throw .truncated }
    defer { position += count }
    return bytes[position..<position + count]
  }
}

/// A value that has a form on the wire.
public protocol WireValue: Sendable {
  func write(to writer: inout WireWriter)
  init(from reader: inout WireReader) throws(WireError)
}
