public import Functions
public import Packets

/// Runs a function over a capture without a network: the same capture gives the same octets in each
/// build, whatever compiled it.
///
/// A capture is records of length (4 octets), port (1), nanoseconds since the one before (8), and the
/// frame; numbers have their lowest octet first. Port 255 is a document instead of a frame. The output
/// has the same records without time: first the frames of the function's own, then each frame as it
/// leaves, or without octets and with port 255 where it was dropped; after a document's record, why
/// it was refused. At last, the counters.
public struct Replay: Surroundings, ~Copyable {
  public static let header = 13
  private static let document: UInt8 = 255
  /// Of a buffer; some functions make a frame longer.
  private static let room = 2048

  public private(set) var now: Instant = 0
  public private(set) var output: [UInt8] = []
  private var drawn: UInt64 = 0

  public init() {}

  /// - Returns: where in the capture the last frame begins.
  @discardableResult
  public mutating func run<F: NetworkFunction & ~Copyable>(
    _ function: inout F, over capture: [UInt8]
  ) -> Int {
    var place = 0
    var last = 0
    var steps = 0
    while place + Self.header <= capture.count {
      let length = Int(number(capture, at: place, octets: 4))
      guard length <= capture.count - place - Self.header else { break }
      now += number(capture, at: place + 5, octets: 8)
      let start = place + Self.header
      if capture[place + 4] == Self.document {
        configure(&function, Array(capture[start..<start + length]))
      } else {
        last = place
        process(
          &function, Array(capture[start..<start + length]), from: Int(capture[place + 4]))
      }
      place = start + length
      steps += 1
      if steps % 64 == 0 { _ = function.advance(in: &self) }
    }
    function.readCounters { name, value in
      for index in 0..<name.utf8CodeUnitCount { output.append((name.utf8Start + index).pointee) }
      put(value, octets: 8)
    }
    return last
  }

  private mutating func configure<F: NetworkFunction & ~Copyable>(
    _ function: inout F, _ document: [UInt8]
  ) {
    do throws(ConfigurationError) {
      let configuration = try Configuration(document: document)
      try function.configure(configuration, in: &self)
      record(Self.document, [])
    } catch {
      record(Self.document, error.text)
    }
  }

  private mutating func process<F: NetworkFunction & ~Copyable>(
    _ function: inout F, _ frame: [UInt8], from port: Int
  ) {
    var octets = frame + [UInt8](repeating: 0, count: Self.room)
    var verdict = Verdict.drop
    var length = 0
    octets.withUnsafeMutableBytes { bytes in
      var frame = Frame(bytes.mutableBytes, length: frame.count)
      verdict = function.process(&frame, from: port, in: &self)
      length = frame.length
    }
    switch verdict {
    case .drop: record(255, [])
    case .send(let port): record(UInt8(port), Array(octets[..<length]))
    }
  }

  /// How long a function takes for one frame of the capture, over and over.
  public mutating func repeatFrame<F: NetworkFunction & ~Copyable>(
    _ function: inout F, of capture: [UInt8], at place: Int, times: Int
  ) -> Int {
    let length = Int(number(capture, at: place, octets: 4))
    let start = place + Self.header
    let frame = Array(capture[start..<start + length])
    var octets = frame + [UInt8](repeating: 0, count: Self.room)
    var sent = 0
    octets.withUnsafeMutableBytes { bytes in
      for _ in 0..<times {
        frame.withUnsafeBytes { bytes.copyMemory(from: $0) }
        var buffer = Frame(bytes.mutableBytes, length: length)
        if case .send = function.process(&buffer, from: Int(capture[place + 4]), in: &self) {
          sent += 1
        }
      }
    }
    return sent
  }

  private func number(_ octets: [UInt8], at place: Int, octets count: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in (0..<count).reversed() { value = value << 8 | UInt64(octets[place + index]) }
    return value
  }

  private mutating func put(_ value: UInt64, octets count: Int) {
    for index in 0..<count { output.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
  }

  private mutating func record(_ port: UInt8, _ octets: [UInt8]) {
    put(UInt64(octets.count), octets: 4)
    output.append(port)
    output += octets
  }

  // MARK: Surroundings

  public mutating func random() -> UInt64 {
    drawn &+= 1
    return Secret(3, 4).hash(drawn, 0)
  }

  public func assign(_ configuration: borrowing Configuration) throws(ConfigurationError) {}

  public func adopt(_ configuration: borrowing Configuration, isRouter: Bool) {}

  public func segments(port: Int) -> Bool { false }

  public mutating func emit(
    on port: Int, payload: UnsafeRawBufferPointer?, _ fill: (inout Frame) -> Void
  ) -> Bool {
    var octets = [UInt8](repeating: 0, count: Self.room)
    var length = 0
    octets.withUnsafeMutableBytes { bytes in
      var frame = Frame(bytes.mutableBytes, length: 0)
      fill(&frame)
      length = frame.length
    }
    octets.removeLast(octets.count - length)
    if let payload { octets += payload }
    record(UInt8(truncatingIfNeeded: port), octets)
    return true
  }
}
