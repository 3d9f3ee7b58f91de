/// For how long one goes on looking for frames before one sleeps.
///
/// Who sleeps has to be woken by the next frame, which takes longer than what is then done with it: 22
/// of the 30 µs that a firewall added to a round trip. Who looks in vain has a processor for nothing. So
/// one looks for not much longer than the gaps between frames have lately been.
public struct BusyPoll: Sendable {
  /// With what the window opens, in nanoseconds.
  private static let least: Instant = 10_000
  /// A rest is so many times as long as others had the processor: who computes waits for those that look
  /// no more than a 16th of the time.
  private static let restFactor: Instant = 16
  private static let longestRest: Instant = 60_000_000_000

  /// Gaps that are longer are slept through, in nanoseconds.
  private let longest: Instant
  private var window: Instant = 0
  private var doneAt: Instant = 0
  private var rest: Instant = 0
  private var restsUntil: Instant = 0

  /// - Parameter longest: of the gaps that are worth it, in nanoseconds.
  public init(longest: Instant) {
    self.longest = longest
  }

  /// There were frames, which have been worked off. A gap that was too long for the window and would have
  /// been worth it opens it further; one that was worth none halves it, so that a question and its answer
  /// now and then leave it small. With twice as far instead of four times a tenth less went into a
  /// responder by TCP.
  ///
  /// - Parameters:
  ///   - start: when they were found.
  ///   - end: when they were worked off, after which the next gap begins.
  public mutating func found(at start: Instant, until end: Instant) {
    let gap = start &- doneAt
    doneAt = end
    if gap > longest {
      window /= 2
    } else if gap > window {
      window = min(max(4 * window, Self.least), longest)
    }
  }

  /// Whether to look again instead of sleeping, where there was nothing.
  public func lasts(at now: Instant) -> Bool {
    now &- doneAt < window && now >= restsUntil
  }

  /// The processor was offered to others, and they had it for so long. Where that is longer than a gap
  /// that is worth it somebody computes: who sleeps is given the processor when a frame comes, who looks
  /// has to wait for his turn. A rest follows, which is twice the one before where that ended only now;
  /// so one that has used up his quota of processor time by looking soon does no more.
  public mutating func gaveWay(from start: Instant, to end: Instant) {
    let took = end &- start
    guard took > longest else { return }
    let isAgain = start < restsUntil &+ rest
    rest = min(max(isAgain ? 2 * rest : 0, Self.restFactor * took), Self.longestRest)
    restsUntil = end &+ rest
  }
}
