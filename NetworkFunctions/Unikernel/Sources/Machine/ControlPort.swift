/// A virtio console (5.3) that carries the control channel.
struct ControlPort: ~Copyable {
  /// Of a buffer, in octets.
  static let size = 2048
  private static let buffers = 8

  let device: VirtioDevice
  private var receiving: VirtioQueue
  private var sending: VirtioQueue
  // SAFETY: `buffers` to receive and one to send, of `size` octets each, never freed.
  private let memory: UInt64
  private(set) var isSending = false
  /// More is to be sent when the device is done with what was sent last, and tells so.
  private var isWaiting = false

  init(_ device: VirtioDevice) {
    self.device = device
    _ = device.begin(wanted: 0)
    receiving = VirtioQueue(device, index: 0)
    sending = VirtioQueue(device, index: 1)
    memory = Heap.allocate(UInt64((Self.buffers + 1) * Self.size), alignment: 64)
    device.end()
    sending.setInterrupts(false)
    for number in 0..<Self.buffers {
      receiving.describe(
        number, address: memory + UInt64(number * Self.size), length: Self.size, next: nil,
        isWritten: true)
      receiving.offer(number)
    }
    receiving.announce()
  }

  var hasWork: Bool { receiving.hasUsed || isWaiting && sending.hasUsed }

  func setInterrupts(_ isOn: Bool) {
    receiving.setInterrupts(isOn)
    sending.setInterrupts(isOn && isWaiting)
  }

  mutating func receive(_ body: (UInt8) -> Void) {
    while let (number, length) = receiving.take() {
      guard number < Self.buffers else { halt("the console's device names no buffer of its own") }
      for offset in 0..<min(length, Self.size) {
        body(octet(number * Self.size + offset).load(as: UInt8.self))
      }
      receiving.offer(number)
    }
    receiving.announce()
  }

  /// Sends the beginning of `octets` and takes it away, once the last was sent.
  mutating func send(_ octets: inout [UInt8]) {
    if sending.take() != nil { isSending = false }
    guard !isSending, !octets.isEmpty else {
      isWaiting = !octets.isEmpty
      return
    }
    let count = min(octets.count, Self.size)
    let start = Self.buffers * Self.size
    for offset in 0..<count {
      octet(start + offset).storeBytes(of: octets[offset], as: UInt8.self)
    }
    octets.removeFirst(count)
    isWaiting = !octets.isEmpty
    sending.describe(
      0, address: memory + UInt64(start), length: count, next: nil, isWritten: false)
    sending.offer(0)
    sending.announce()
    isSending = true
  }

  private func octet(_ offset: Int) -> UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(bitPattern: UInt(memory) + UInt(offset))!
  }
}
