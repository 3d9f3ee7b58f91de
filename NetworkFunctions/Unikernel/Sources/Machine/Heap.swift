import Boot

/// Memory from the image's end to the end of what the monitor gave. Blocks are powers of two with
/// 16 octets in front that say which; freed ones wait in a list a size. Large ones, such as tables of
/// flows, have the size that was asked for, and wait in one list. Spent is the end.
struct Heap {
  private static let header: UInt64 = 16
  /// Powers of two below this are classes; what is larger says its size instead.
  private static let classes = 15

  // SAFETY: one processor, and interrupts run nothing of ours.
  nonisolated(unsafe) private static var next: UInt64 = 0
  nonisolated(unsafe) private static var end: UInt64 = 0
  nonisolated(unsafe) private static var free = InlineArray<15, UInt64>(repeating: 0)
  nonisolated(unsafe) private static var freeLarge: UInt64 = 0

  static func begin(at start: UInt64, end: UInt64) {
    next = (start + 15) & ~15
    self.end = end
  }

  /// How many octets were never given out.
  static var remaining: UInt64 { end - next }

  static func allocate(_ size: UInt64, alignment: UInt64) -> UInt64 {
    // Large alignments are the rings', which are never freed.
    if alignment > 16 { return take(size, alignment: alignment) }
    let level = max(5, UInt64.bitWidth - (size + header - 1).leadingZeroBitCount)
    guard level < classes else { return allocateLarge(size) }
    var block = free[level]
    if block != 0 {
      free[level] = load(block + 8)
    } else {
      block = take(1 << UInt64(level), alignment: 16)
      store(UInt64(level), at: block)
    }
    return block + header
  }

  static func release(_ address: UInt64) {
    let block = address - header
    let level = load(block)
    if level < classes {
      store(free[Int(level)], at: block + 8)
      free[Int(level)] = block
    } else {
      store(freeLarge, at: block + 8)
      freeLarge = block
    }
  }

  /// The first one of the freed that fits and of which no more than half is wasted, or a new one.
  private static func allocateLarge(_ size: UInt64) -> UInt64 {
    guard size < 1 << 40 else { halt("an allocation makes no sense") }
    var before: UInt64 = 0
    var block = freeLarge
    while block != 0 {
      let next = load(block + 8)
      let room = load(block)
      if room >= size, room / 2 <= size {
        if before == 0 { freeLarge = next } else { store(next, at: before + 8) }
        return block + header
      }
      before = block
      block = next
    }
    block = take(size + header, alignment: 16)
    store(size, at: block)
    return block + header
  }

  private static func take(_ size: UInt64, alignment: UInt64) -> UInt64 {
    let start = (next + alignment - 1) & ~(alignment - 1)
    guard start + size <= end else { halt("the memory is spent; give the machine more") }
    next = start + size
    return start
  }

  // SAFETY: both are called with addresses of blocks within the heap only.
  private static func load(_ address: UInt64) -> UInt64 {
    UnsafeRawPointer(bitPattern: UInt(address))!.load(as: UInt64.self)
  }

  private static func store(_ value: UInt64, at address: UInt64) {
    UnsafeMutableRawPointer(bitPattern: UInt(address))!.storeBytes(of: value, as: UInt64.self)
  }
}

// What Swift's runtime calls, by the names that Boot gives them.

@c(machine_allocate)
public func allocate(
  _ result: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ alignment: UInt, _ size: UInt
) -> Int32 {
  let address = Heap.allocate(UInt64(size), alignment: UInt64(alignment))
  result.pointee = UnsafeMutableRawPointer(bitPattern: UInt(address))
  return 0
}

@c(machine_free)
public func release(_ pointer: UnsafeMutableRawPointer?) {
  if let pointer { Heap.release(UInt64(UInt(bitPattern: pointer))) }
}
