/// So many at once, and so many more as time passes.
struct Allowance: Sendable {
  private let burst: UInt64
  /// Between two that are allowed, where all of the burst is used.
  private let interval: Instant
  private var left: UInt64
  private var countedAt: Instant = 0

  init(burst: UInt64, every interval: Instant) {
    self.burst = burst
    self.interval = interval
    left = burst
  }

  /// ICMP errors: 100 a second (RFC 1812, section 4.3.2.8).
  static let errors = Allowance(burst: 50, every: 10_000_000)

  /// - Returns: whether there was one left; it is used then.
  mutating func take(at now: Instant) -> Bool {
    let earned = (now - countedAt) / interval
    if earned > 0 {
      left = min(burst, left + earned)
      countedAt += earned * interval
    }
    guard left > 0 else { return false }
    left -= 1
    return true
  }
}
