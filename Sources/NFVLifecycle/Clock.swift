import Glibc
import NFVModel

/// The daemon's clock: the wall's time at the process' start, carried on by the monotonic clock, so
/// that a step of the wall clock moves no back-off and no phase.
enum Clock {
  private static let offset: Int64 = microseconds(CLOCK_REALTIME) - microseconds(CLOCK_MONOTONIC)

  static var now: Timestamp { Timestamp(microseconds: microseconds(CLOCK_MONOTONIC) + offset) }

  private static func microseconds(_ clock: clockid_t) -> Int64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
  }
}
