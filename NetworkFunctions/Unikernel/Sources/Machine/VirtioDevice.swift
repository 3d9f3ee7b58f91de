import Boot

/// A device behind virtio-mmio (Virtual I/O Device 1.1, 4.2), version 2 only.
struct VirtioDevice {
  enum Kind {
    static let network: UInt32 = 1
    static let console: UInt32 = 3
  }

  let address: UInt64
  let interrupt: UInt32

  var kind: UInt32 { Boot_load32(address + 0x08) }
  var isPresent: Bool {
    Boot_load32(address) == 0x7472_6976 && Boot_load32(address + 4) == 2 && kind != 0
  }

  /// Resets it and takes what both know of `wanted` and VERSION_1.
  ///
  /// - Returns: the features taken.
  @inline(never)
  func begin(wanted: UInt64) -> UInt64 {
    status(0)
    status(1)
    status(3)
    Boot_store32(address + 0x14, 0)
    var offered = UInt64(Boot_load32(address + 0x10))
    Boot_store32(address + 0x14, 1)
    offered |= UInt64(Boot_load32(address + 0x10)) << 32
    let taken = offered & (wanted | 1 << 32)
    Boot_store32(address + 0x24, 0)
    Boot_store32(address + 0x20, UInt32(truncatingIfNeeded: taken))
    Boot_store32(address + 0x24, 1)
    Boot_store32(address + 0x20, UInt32(truncatingIfNeeded: taken >> 32))
    status(11)
    guard taken >> 32 & 1 == 1, Boot_load32(address + 0x70) & 8 != 0 else {
      halt("a virtio device refuses version 1")
    }
    return taken
  }

  /// After the queues were made.
  func end() {
    status(15)
    InterruptController.enable(pin: interrupt)
  }

  func acknowledgeInterrupt() {
    let status = Boot_load32(address + 0x60)
    if status != 0 { Boot_store32(address + 0x64, status) }
  }

  func notify(_ queue: Int) { Boot_store32(address + 0x50, UInt32(queue)) }

  private func status(_ value: UInt32) { Boot_store32(address + 0x70, value) }

  func make(queue: Int, size: Int, descriptors: UInt64, driver: UInt64, device: UInt64) {
    Boot_store32(address + 0x30, UInt32(queue))
    guard Boot_load32(address + 0x34) >= UInt32(size) else {
      halt("a virtio queue is too small")
    }
    Boot_store32(address + 0x38, UInt32(size))
    for (place, value) in [(0x80, descriptors), (0x90, driver), (0xa0, device)]
      as [(UInt64, UInt64)]
    {
      Boot_store32(address + place, UInt32(truncatingIfNeeded: value))
      Boot_store32(address + place + 4, UInt32(truncatingIfNeeded: value >> 32))
    }
    Boot_store32(address + 0x44, 1)
  }
}

/// A split queue (2.6). Descriptors are chosen by the caller: here a buffer has the same number in
/// every queue, so that nothing has to be looked for or kept free.
struct VirtioQueue: ~Copyable {
  static let size = 256

  let device: VirtioDevice
  let index: Int
  // SAFETY: three areas of a size and alignment that the standard prescribes, never freed. The
  // device writes only `used`, whose content is checked before it leads anywhere.
  private let descriptors: UInt64
  private let available: UInt64
  private let used: UInt64
  private var nextAvailable: UInt16 = 0
  private var nextUsed: UInt16 = 0
  private var announced: UInt16 = 0

  @inline(never)
  init(_ device: VirtioDevice, index: Int) {
    self.device = device
    self.index = index
    let base = Heap.allocate(3 * 4096, alignment: 4096)
    for offset in stride(from: UInt64(0), to: 3 * 4096, by: 4) { Boot_store32(base + offset, 0) }
    descriptors = base
    available = base + 4096
    used = base + 4096 + 1024
    device.make(
      queue: index, size: Self.size, descriptors: descriptors, driver: available, device: used)
  }

  // Not copied to each of its many callers: the image shall be small.
  /// - Parameter next: the chain's next descriptor.
  @inline(never)
  func describe(_ number: Int, address: UInt64, length: Int, next: Int?, isWritten: Bool) {
    let place = descriptors + UInt64(number & 255) * 16
    Boot_store32(place, UInt32(truncatingIfNeeded: address))
    Boot_store32(place + 4, UInt32(truncatingIfNeeded: address >> 32))
    Boot_store32(place + 8, UInt32(truncatingIfNeeded: length))
    Boot_store16(place + 12, (next == nil ? 0 : 1) | (isWritten ? 2 : 0))
    Boot_store16(place + 14, UInt16(truncatingIfNeeded: next ?? 0))
  }

  @inline(never)
  mutating func offer(_ number: Int) {
    Boot_store16(
      available + 4 + UInt64(nextAvailable & 255) * 2, UInt16(truncatingIfNeeded: number))
    nextAvailable &+= 1
  }

  /// Shows the device what was offered, and wakes it where it wants that.
  ///
  /// - Parameter isUrgent: a card of QEMU's with `tx=timer` sends at the second notification, in the
  ///   thread that executes the machine. At one alone another thread has to be woken, which then sends
  ///   while the machine goes on: better for many.
  @inline(never)
  mutating func announce(isUrgent: Bool = false) {
    let count = nextAvailable &- announced
    guard count != 0 else { return }
    Boot_order()
    Boot_store16(available + 2, nextAvailable)
    announced = nextAvailable
    Boot_fence()
    guard Boot_load16(used) & 1 == 0 else { return }
    device.notify(index)
    if isUrgent, count < 4 { device.notify(index) }
  }

  var hasUnannounced: Bool { announced != nextAvailable }

  /// The next descriptor that the device is done with, and how many octets it wrote.
  mutating func take() -> (number: Int, length: Int)? {
    guard Boot_load16(used + 2) != nextUsed else { return nil }
    Boot_order()
    let place = used + 4 + UInt64(nextUsed & 255) * 8
    nextUsed &+= 1
    return (Int(Boot_load32(place) & 255), Int(Boot_load32(place + 4)))
  }

  /// How many chains were offered and not taken back.
  var offered: Int { Int(nextAvailable &- nextUsed) }

  var hasUsed: Bool { Boot_load16(used + 2) != nextUsed }

  /// Whether the device interrupts when it is done with something.
  func setInterrupts(_ isOn: Bool) { Boot_store16(available, isOn ? 0 : 1) }
}
