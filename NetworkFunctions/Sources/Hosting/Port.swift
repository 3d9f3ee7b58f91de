import CHosted
import Functions
import Packets

/// A packet socket on one interface with rings both ways (packet(7), TPACKET_V2): each slot holds a
/// frame of up to 64 KiB and the virtio_net_hdr in front of it.
struct HostedPort: ~Copyable {
  private static let slot = 1 << 17
  private static let slots = 64
  private static let offloadHeader = 10

  let descriptor: Int32
  // SAFETY: `slots` slots to receive, then as many to send; mapped for the program's life. A slot is
  // ours from when its status says so until we set it.
  private let memory: UnsafeMutableRawPointer
  private var nextReceived = 0
  private var nextSent = 0
  private(set) var hasUnsent = false

  /// - Throws: where the interface does not exist, or packet sockets are not allowed.
  init(interface: [CChar]) throws(ConfigurationError) {
    var memory: UnsafeMutableRawPointer?
    descriptor = CHosted_openPort(interface, UInt32(Self.slot), UInt32(Self.slots), &memory)
    guard descriptor >= 0, let memory else {
      throw ConfigurationError("a port's interface can't be opened (it needs CAP_NET_RAW)")
    }
    self.memory = memory
  }

  /// A received frame's slot, if there is one.
  func received() -> UnsafeMutableRawPointer? {
    let slot = memory + nextReceived * Self.slot
    return CHosted_status(slot) & UInt32(TP_STATUS_USER) != 0 ? slot : nil
  }

  /// Gives the slot back to the kernel.
  mutating func release(_ slot: UnsafeMutableRawPointer) {
    CHosted_setStatus(slot, UInt32(TP_STATUS_KERNEL))
    nextReceived = (nextReceived + 1) % Self.slots
  }

  /// The octets of a received slot, how long its frame is, and its offload.
  static func content(
    of slot: UnsafeMutableRawPointer
  ) -> (octets: UnsafeMutableRawBufferPointer, length: Int, offload: Offload) {
    let header = CHosted_header(slot).pointee
    let start = Int(header.tp_mac)
    let base = slot + start
    var offload = Offload()
    let fields = base - offloadHeader
    offload.flags = fields.load(as: UInt8.self)
    offload.segmentation = fields.load(fromByteOffset: 1, as: UInt8.self)
    offload.headerLength = fields.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
    offload.segmentSize = fields.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
    offload.checksumStart = fields.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
    offload.checksumOffset = fields.loadUnaligned(fromByteOffset: 8, as: UInt16.self)
    let room = Self.slot - start
    return (
      UnsafeMutableRawBufferPointer(start: base, count: room),
      min(Int(header.tp_snaplen), room), offload
    )
  }

  /// The octets of the next free slot to send; nil where none is free.
  func sendable() -> UnsafeMutableRawBufferPointer? {
    let slot = memory + (Self.slots + nextSent) * Self.slot
    let status = CHosted_status(slot)
    guard status == UInt32(TP_STATUS_AVAILABLE) || status & UInt32(TP_STATUS_WRONG_FORMAT) != 0
    else { return nil }
    let start = Int(CHosted_sendOffset()) + Self.offloadHeader
    return UnsafeMutableRawBufferPointer(start: slot + start, count: Self.slot - start)
  }

  /// Sends what stands in ``sendable()``.
  mutating func send(_ length: Int, _ offload: Offload) {
    let slot = memory + (Self.slots + nextSent) * Self.slot
    let fields = slot + Int(CHosted_sendOffset())
    fields.storeBytes(of: offload.flags & Offload.needsChecksum, as: UInt8.self)
    fields.storeBytes(of: offload.segmentation, toByteOffset: 1, as: UInt8.self)
    fields.storeBytes(of: offload.headerLength, toByteOffset: 2, as: UInt16.self)
    fields.storeBytes(of: offload.segmentSize, toByteOffset: 4, as: UInt16.self)
    fields.storeBytes(of: offload.checksumStart, toByteOffset: 6, as: UInt16.self)
    fields.storeBytes(of: offload.checksumOffset, toByteOffset: 8, as: UInt16.self)
    CHosted_setLength(slot, UInt32(length + Self.offloadHeader))
    CHosted_setStatus(slot, UInt32(TP_STATUS_SEND_REQUEST))
    nextSent = (nextSent + 1) % Self.slots
    hasUnsent = true
  }

  mutating func flush() {
    guard hasUnsent else { return }
    hasUnsent = CHosted_flush(descriptor) == -EAGAIN
  }
}
