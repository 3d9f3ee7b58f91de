import Boot
import Functions

/// Numbers that the network cannot foresee: by RDRAND where the processor has it, else by how long
/// the processor takes for the same work, over and over.
struct Entropy {
  /// How often RDRAND may have none (Intel SDM, volume 1, 7.3.17.1).
  private static let tries = 10
  private static let samples = 256

  private var pool = Secret(0, 0)
  private let hasInstruction = Boot_hasRandom() != 0
  private var last: UInt64 = 0

  mutating func next() -> UInt64 {
    guard hasInstruction else { return gather() }
    for _ in 0..<Entropy.tries {
      var value: UInt64 = 0
      // The same number twice is a processor that is out of order.
      guard Boot_random(&value) != 0, value != last, value != 0, value != .max else { continue }
      last = value
      return value
    }
    halt("the processor's source of random numbers does not work")
  }

  private mutating func gather() -> UInt64 {
    for _ in 0..<Entropy.samples {
      // The monitor answers this instruction; how long it takes depends on all that its host does.
      _ = Boot_hasRandom()
      let time = Boot_timeStamp()
      pool = Secret(pool.hash(time, 0), pool.hash(time, 1))
    }
    return pool.hash(0, 2)
  }
}
