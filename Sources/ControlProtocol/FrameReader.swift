public import Wire

/// Cuts frames out of the octets of one connection after another.
public struct FrameReader: Sendable {
  /// A greeting's place in its frame: after length, id and kind.
  private static let greetingOffset = 4 + 8 + 2
  private static let greetingEnd = greetingOffset + 16

  private let findsGreetings: Bool
  private var unread: [UInt8] = []
  private var start = 0

  /// - Parameter findsGreetings: the guest's side: a `hello` is found wherever it stands, and what
  ///   comes before the first is dropped.
  public init(findsGreetings: Bool) {
    self.findsGreetings = findsGreetings
    isSynchronised = !findsGreetings
  }

  /// Whether a connection has begun.
  public private(set) var isSynchronised: Bool

  public mutating func append(_ bytes: [UInt8]) {
    // What may be the beginning of a greeting's frame is kept, even where it was taken for the end
    // of another.
    let kept = findsGreetings ? Self.greetingEnd : 0
    if start > kept {
      unread.removeFirst(start - kept)
      start = kept
    }
    let first = unread.count
    unread += bytes
    guard findsGreetings else { return }
    if let hello = lastHello(endingAfter: first) {
      start = hello
      isSynchronised = true
    } else if !isSynchronised {
      start = unread.count
    }
  }

  /// The next whole frame's body; nil where it has not come yet.
  ///
  /// - Throws: ``WireError/tooLong``; then the connection is at its end, and the guest's side waits
  ///   for the next `hello`.
  public mutating func next() throws(WireError) -> [UInt8]? {
    guard isSynchronised, unread.count - start >= 4 else { return nil }
    let length = (0..<4).reduce(0) { $0 | Int(unread[start + $1]) << (8 * $1) }
    guard length <= ControlProtocol.maximumFrameSize else {
      isSynchronised = !findsGreetings
      start = unread.count
      throw .tooLong
    }
    guard unread.count - start >= 4 + length else { return nil }
    let body = Array(unread[start + 4..<start + 4 + length])
    start += 4 + length
    return body
  }

  /// Forgets what has come, as the connection has ended.
  public mutating func reset() {
    unread = []
    start = 0
    isSynchronised = !findsGreetings
  }

  /// Where the frame of the last `hello` begins whose greeting has ended with the last octets.
  private func lastHello(endingAfter first: Int) -> Int? {
    let greeting = ControlProtocol.greeting
    var position = unread.count - greeting.count
    let lowest = max(Self.greetingOffset, first - greeting.count + 1)
    while position >= lowest {
      if unread[position] == greeting[0], unread[position...].starts(with: greeting) {
        return position - Self.greetingOffset
      }
      position -= 1
    }
    return nil
  }
}
