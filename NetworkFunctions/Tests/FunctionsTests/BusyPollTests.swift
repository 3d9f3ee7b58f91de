import Functions
import Testing

@Suite struct BusyPollTests {
  private static let longest: Instant = 100_000

  /// For how long it would look after its last frame, in nanoseconds.
  private func window(_ poll: BusyPoll, after found: Instant) -> Instant {
    var end = found
    while poll.lasts(at: end) { end += 1000 }
    return end - found
  }

  /// Frames at these distances, again and again, from a second on.
  private func poll(gaps: [Instant], times: Int) -> (poll: BusyPoll, at: Instant, most: Instant) {
    var poll = BusyPoll(longest: Self.longest)
    var (now, most): (Instant, Instant) = (1_000_000_000, 0)
    for _ in 0..<times {
      for gap in gaps {
        now += gap
        poll.found(at: now, until: now)
        most = max(most, window(poll, after: now))
      }
    }
    return (poll, now, most)
  }

  @Test func denseFramesAreWaitedForAsLongAsThatIsWorthIt() {
    let (poll, now, most) = poll(gaps: [40_000], times: 4)
    #expect(most == 40_000)
    #expect(poll.lasts(at: now + 39_999))
    #expect(!poll.lasts(at: now + 40_000))
    #expect(self.poll(gaps: [90_000], times: 10).most == Self.longest)
  }

  /// A question and its answer are looked for as long as four times the time between them.
  @Test(
    arguments: [
      (gaps: [5_000_000], most: 0), (gaps: [5_000_000, 9_000], most: 35_999),
      (gaps: [5_000_000, 20_000], most: 79_999), (gaps: [5_000_000, 100_001], most: 0),
    ] as [(gaps: [Instant], most: Instant)])
  func framesNowAndThenLetItSleep(_ row: (gaps: [Instant], most: Instant)) {
    #expect(poll(gaps: row.gaps, times: 100).most <= row.most)
  }

  @Test func pausesCloseItStepByStep() {
    var (poll, now, _) = poll(gaps: [40_000], times: 4)
    for expected: Instant in [20_000, 10_000, 5_000] {
      now += 1_000_000
      poll.found(at: now, until: now)
      #expect(window(poll, after: now) == expected)
    }
  }

  @Test func whatOnesOwnWorkTakesIsNoGap() {
    var (poll, now, _) = poll(gaps: [40_000], times: 4)
    for _ in 0..<10 {
      poll.found(at: now, until: now + 300_000)
      now += 300_000
    }
    #expect(window(poll, after: now) == 40_000)
  }

  @Test func whoWantsTheProcessorForLongHasItForLongerEachTime() {
    var (poll, now, _) = poll(gaps: [40_000], times: 4)
    /// Looks for a moment, and is back after `took`.
    func giveWay(_ took: Instant) {
      poll.gaveWay(from: now, to: now + took)
      now += took
    }
    /// - Returns: for how long it does not look, in milliseconds, while frames come.
    func rested() -> Instant {
      let start = now
      poll.found(at: now, until: now)
      while !poll.lasts(at: now + 1) {
        now += 20_000
        poll.found(at: now, until: now)
      }
      return (now - start + 500_000) / 1_000_000
    }
    giveWay(100_000)
    #expect(rested() == 0)
    giveWay(3_000_000)
    #expect(rested() == 48)
    giveWay(3_000_000)
    #expect(rested() == 96)
    giveWay(3_000_000)
    #expect(rested() == 192)
    // Nobody for as long as it rested.
    now += 200_000_000
    giveWay(1_000_000)
    #expect(rested() == 16)
  }
}
