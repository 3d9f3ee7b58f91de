public import Packets
public import Testing

/// Runs `body` with a frame of these octets and room for more; gives what the frame then holds.
@discardableResult
public func withFrame(
  _ octets: [UInt8], capacity: Int = 2048, offload: Offload = Offload(),
  _ body: (inout Frame) throws -> Void
) rethrows -> [UInt8] {
  var buffer = octets + [UInt8](repeating: 0, count: max(0, capacity - octets.count))
  var length = 0
  try buffer.withUnsafeMutableBytes { bytes in
    var frame = Frame(bytes.mutableBytes, length: octets.count, offload: offload)
    try body(&frame)
    length = frame.length
  }
  return Array(buffer[..<length])
}

/// Octets from hexadecimal digits; what follows `//` in a line is its annotation.
public func golden(_ text: String) -> [UInt8] {
  var digits: [UInt8] = []
  for line in text.split(separator: "\n") {
    var previous: Character = " "
    for character in line {
      if character == "/", previous == "/" { break }
      previous = character
      if let digit = character.hexDigitValue { digits.append(UInt8(digit)) }
    }
  }
  return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

// A frame can't be captured, and the macros capture what they look at: these take values.

public func present<Value>(
  _ value: Value?, sourceLocation: SourceLocation = #_sourceLocation
) throws -> Value {
  try #require(value, sourceLocation: sourceLocation)
}

public func expect<Value: Equatable>(
  _ value: Value, is expected: Value, sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(value == expected, sourceLocation: sourceLocation)
}
