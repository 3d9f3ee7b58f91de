import Boot
import Functions

/// Time by the processor's stamp, whose pace is found by the local APIC's timer (one count a
/// nanosecond under QEMU's and KVM's APIC); and the alarm that wakes.
struct Clock {
  private static let apic: UInt64 = 0xfee0_0000
  private static let calibration: UInt64 = 200_000
  private static let longest: UInt64 = 0xffff_ffff

  /// The timer's count and the stamp of one moment.
  private typealias Reading = (count: UInt64, stamp: UInt64)

  private let begin: Reading
  /// Whether the timer was stopped since, as an alarm.
  private var isSettled = false
  private var start: UInt64
  /// The time at ``start``.
  private var base: Instant = 0
  /// Nanoseconds a tick, with 32 fractional bits.
  private var pace: UInt64

  init() {
    Boot_store32(Clock.apic + 0xf0, 0x1ff)
    Boot_store32(Clock.apic + 0x3e0, 0xb)
    Boot_store32(Clock.apic + 0x320, 0x1_0020)
    Boot_store32(Clock.apic + 0x380, UInt32(Clock.longest))
    begin = Clock.reading()
    while begin.count - min(begin.count, Clock.count) < Clock.calibration {}
    start = begin.stamp
    pace = Clock.pace(from: begin, to: Clock.reading())
  }

  var now: Instant {
    let product = (Boot_timeStamp() - start).multipliedFullWidth(by: pace)
    return base + (product.high << 32 | product.low >> 32)
  }

  /// Wakes the processor at `deadline`, or earlier where it is far.
  mutating func setAlarm(_ deadline: Instant) {
    if !isSettled { settle() }
    let now = now
    let wait = deadline > now ? deadline - now : 1
    Boot_store32(Clock.apic + 0x380, UInt32(min(wait, Clock.longest)))
  }

  /// Finds the pace anew before the timer is first used as an alarm: the milliseconds since its
  /// beginning tell it to a part of a per cent, the first 200 us to a tenth on a busy host.
  private mutating func settle() {
    let end = Clock.reading()
    // One that has run out stands still.
    if end.count > 0 {
      (base, start) = (now, Boot_timeStamp())
      pace = Clock.pace(from: begin, to: end)
    }
    // One shot, vector 32.
    Boot_store32(Clock.apic + 0x320, 0x20)
    isSettled = true
  }

  private static var count: UInt64 { UInt64(Boot_load32(apic + 0x390)) }

  /// Of some readings that which took least: where the host had this processor do something else for a
  /// millisecond between the two, a clock went seven times too slow for good.
  private static func reading() -> Reading {
    var least = UInt64.max
    var result: Reading = (0, 0)
    for _ in 0..<4 {
      let before = Boot_timeStamp()
      let count = count
      let took = Boot_timeStamp() - before
      if took < least { (least, result) = (took, (count, before + took / 2)) }
    }
    return result
  }

  private static func pace(from begin: Reading, to end: Reading) -> UInt64 {
    ((begin.count - min(begin.count, end.count)) << 32) / max(1, end.stamp - begin.stamp)
  }
}

/// Lets the interrupts of devices reach the processor.
enum InterruptController {
  private static let address: UInt64 = 0xfec0_0000

  /// By edges, as vector 64 and more.
  static func enable(pin: UInt32) {
    Boot_store32(address, 0x10 + 2 * pin + 1)
    Boot_store32(address + 0x10, 0)
    Boot_store32(address, 0x10 + 2 * pin)
    Boot_store32(address + 0x10, 64 + pin)
  }
}
