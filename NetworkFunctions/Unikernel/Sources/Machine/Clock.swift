import Boot
import Functions

/// Time by the processor's stamp, whose pace is found by the local APIC's timer (one count a
/// nanosecond under QEMU's and KVM's APIC); and the alarm that wakes.
struct Clock {
  private static let apic: UInt64 = 0xfee0_0000
  private static let calibration: UInt64 = 200_000

  private let start: UInt64
  /// Nanoseconds a tick, with 32 fractional bits.
  private let pace: UInt64

  init() {
    Boot_store32(Clock.apic + 0xf0, 0x1ff)
    Boot_store32(Clock.apic + 0x3e0, 0xb)
    Boot_store32(Clock.apic + 0x320, 0x1_0020)
    Boot_store32(Clock.apic + 0x380, 0xffff_ffff)
    let begin = UInt64(Boot_load32(Clock.apic + 0x390))
    start = Boot_timeStamp()
    var elapsed: UInt64 = 0
    while elapsed < Clock.calibration {
      elapsed = begin - min(begin, UInt64(Boot_load32(Clock.apic + 0x390)))
    }
    let ticks = max(1, Boot_timeStamp() - start)
    pace = (elapsed << 32) / ticks
    Boot_store32(Clock.apic + 0x380, 0)
    // One shot, vector 32.
    Boot_store32(Clock.apic + 0x320, 0x20)
  }

  var now: Instant {
    let product = (Boot_timeStamp() - start).multipliedFullWidth(by: pace)
    return product.high << 32 | product.low >> 32
  }

  /// Wakes the processor at `deadline`, or earlier where it is far.
  func setAlarm(_ deadline: Instant, now: Instant) {
    let wait = deadline > now ? deadline - now : 1
    Boot_store32(Clock.apic + 0x380, UInt32(min(wait, 0xffff_ffff)))
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
