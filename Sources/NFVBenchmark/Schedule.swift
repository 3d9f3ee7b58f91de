/// The order in which things are measured in turn: random, so that what the host does meanwhile
/// meets all of them alike, and the same for the same seed.
public struct Schedule: Sendable {
  private var generator: SplitMix64

  public init(seed: UInt64) { generator = SplitMix64(state: seed) }

  /// Every element as often as it is to be measured, in random order.
  public mutating func order<Element>(_ elements: [(Element, count: Int)]) -> [Element] {
    elements.flatMap { Array(repeating: $0, count: $1) }.shuffled(using: &generator)
  }
}

/// Sebastiano Vigna's splitmix64: the standard library's generator takes no seed.
private struct SplitMix64: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

/// How often one thing is measured: so many times, or fewer where the time for it would not do for
/// another one; once in any case.
public struct Rounds: Sendable, Hashable {
  private let count: Int
  private let limit: Duration?
  private var done = 0
  private var longest = Duration.zero
  private var elapsed = Duration.zero

  /// - Parameter limit: for all rounds together; nil is no limit.
  public init(_ count: Int, within limit: Duration? = nil) {
    self.count = count
    self.limit = limit
  }

  /// How many are left out where none follows.
  public var left: Int { max(0, count - done) }

  /// Whether another round follows.
  public var goesOn: Bool {
    guard left > 0 else { return false }
    guard let limit, done > 0 else { return true }
    return elapsed + longest <= limit
  }

  /// One was made that took so long.
  public mutating func add(_ duration: Duration) {
    done += 1
    elapsed += duration
    longest = max(longest, duration)
  }
}

/// How far a series of steps of different length is, and how long it will yet take.
public struct Pace: Sendable, Hashable {
  /// What all steps take together, in seconds, as far as is known before.
  public var expected: Double
  public private(set) var done = 0.0

  public init(expected: Double) { self.expected = expected }

  public mutating func add(_ seconds: Double) { done += seconds }

  public var fraction: Double { expected > 0 ? min(1, done / expected) : 1 }

  /// What the rest takes if this host goes on as it did.
  public func secondsLeft(after elapsed: Double) -> Double {
    let rest = max(0, expected - done)
    // A few seconds of it tell little.
    let pace = done > 5 ? elapsed / done : max(1, elapsed / max(done, 5))
    return rest * pace
  }
}
