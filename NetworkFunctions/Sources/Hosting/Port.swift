import CHosted
import Functions
import Packets

/// Packet sockets on one interface (packet(7), TPACKET_V2). Frames are read where the kernel put
/// them, changed there and sent from there: in a slot `virtio_net_hdr` stands in front of the frame
/// as the socket wants it back.
///
/// There are two rings: one of small slots for ordinary frames, of which many wait while others have
/// the processor, and one for segments of up to 64 KiB.
struct HostedPort: ~Copyable {
  /// A frame of up to 64 KiB, its headers and room to grow, in whole pages.
  private static let largeSlot = 17 << 12
  private static let smallSlot = 2048
  /// Of a packet in a small slot, without its link header, in octets.
  private static let smallPacket: UInt32 = 1880
  private static let offloadHeader = 10
  /// Frames that wait to be sent; of them so many of our own.
  private static let maximumMessages = 256
  private static let maximumOwn = 64
  private static let ownSize = OwnFrame.room + offloadHeader

  /// Interfaces have names of up to 15 octets.
  let interface: [UInt8]
  private var small: Ring
  private var large: Ring
  // SAFETY: `maximumMessages` of them, with two vectors each, and `maximumOwn` buffers; all until
  // the end of this value.
  private let messages: UnsafeMutablePointer<mmsghdr>
  private let vectors: UnsafeMutablePointer<iovec>
  private let own: UnsafeMutableRawPointer
  private var messageCount = 0
  private var ownCount = 0

  /// What has to be opened for one port: its ring of small slots, and that of large ones. A block is
  /// a power of two, as the kernel allots no other.
  static let rings = (
    small: CHosted_Ring(block: 1 << 20, blocks: 6, slot: UInt32(smallSlot)),
    large: CHosted_Ring(block: 1 << 20, blocks: 4, slot: UInt32(largeSlot))
  )

  /// - Throws: where the interface does not exist, or packet sockets are not allowed; what was opened
  ///   is closed then.
  init(
    _ interface: [UInt8], _ rings: (small: CHosted_Opening, large: CHosted_Opening)
  ) throws(ConfigurationError) {
    let small: Ring
    do throws(ConfigurationError) {
      small = try Ring(rings.small, interface)
    } catch {
      if rings.large.fd >= 0 { close(rings.large.fd) }
      throw error
    }
    let large = try Ring(rings.large, interface)
    guard CHosted_divide(small.descriptor, large.descriptor, Self.smallPacket) == 0 else {
      throw ConfigurationError("a port's interface can't be opened")
    }
    self.interface = interface
    self.small = small
    self.large = large
    messages = .allocate(capacity: Self.maximumMessages)
    messages.initialize(repeating: mmsghdr(), count: Self.maximumMessages)
    vectors = .allocate(capacity: 2 * Self.maximumMessages)
    vectors.initialize(repeating: iovec(), count: 2 * Self.maximumMessages)
    own = .allocate(byteCount: Self.maximumOwn * Self.ownSize, alignment: 64)
    for index in 0..<Self.maximumMessages {
      messages[index].msg_hdr.msg_iov = vectors + 2 * index
    }
  }

  deinit {
    messages.deallocate()
    vectors.deallocate()
    own.deallocate()
  }

  // MARK: Receiving

  /// What tells of received frames, and of errors.
  var descriptors: (small: Int32, large: Int32) { (small.descriptor, large.descriptor) }

  /// The next received frame: its octets with room for more, its length, its offload. It stays
  /// until ``release()``; nil where there is none, or all slots are held.
  mutating func receive() -> (octets: UnsafeMutableRawBufferPointer, length: Int, Offload)? {
    while true {
      let slot: UnsafeMutableRawPointer
      let room: Int
      switch (small.waiting, large.waiting) {
      case (let first?, nil):
        slot = first
        room = small.room
        small.take()
      case (let first?, let second?) where CHosted_isBefore(first, second) != 0:
        slot = first
        room = small.room
        small.take()
      case (_, let second?):
        slot = second
        room = large.room
        large.take()
        // Before the rings were divided both had every frame.
        guard CHosted_header(slot).pointee.tp_len > Self.smallPacket + 14 else { continue }
      case (nil, nil): return nil
      }
      let status = CHosted_status(slot)
      let header = CHosted_header(slot).pointee
      // What did not fit was cut off.
      guard header.tp_len == header.tp_snaplen else { continue }
      var start = slot + Int(header.tp_mac)
      var length = Int(header.tp_snaplen)
      var offload = Self.offload(before: start)
      if status & UInt32(TP_STATUS_VLAN_VALID) != 0 {
        let type = status & UInt32(TP_STATUS_VLAN_TPID_VALID) != 0 ? header.tp_vlan_tpid : 0x8100
        start = Self.insert(tag: header.tp_vlan_tci, type: type, at: start)
        length += 4
        if offload.isPartial { offload.checksumStart &+= 4 }
        if offload.segmentation != 0 { offload.headerLength &+= 4 }
      }
      return (
        UnsafeMutableRawBufferPointer(start: start, count: room - (start - slot)), length, offload
      )
    }
  }

  /// Puts back the tag that the kernel took out of a frame; the frame then begins earlier.
  private static func insert(
    tag: UInt16, type: UInt16, at frame: UnsafeMutableRawPointer
  ) -> UnsafeMutableRawPointer {
    let start = frame - 4
    // SAFETY: before a frame stand its virtio_net_hdr, which was read, and the slot's header.
    start.copyMemory(from: frame, byteCount: 12)
    start.storeBytes(of: type.bigEndian, toByteOffset: 12, as: UInt16.self)
    start.storeBytes(of: tag.bigEndian, toByteOffset: 14, as: UInt16.self)
    return start
  }

  private static func offload(before frame: UnsafeMutableRawPointer) -> Offload {
    let fields = frame - offloadHeader
    var offload = Offload()
    offload.flags = fields.load(as: UInt8.self)
    offload.segmentation = fields.load(fromByteOffset: 1, as: UInt8.self)
    offload.headerLength = fields.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
    offload.segmentSize = fields.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
    offload.checksumStart = fields.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
    offload.checksumOffset = fields.loadUnaligned(fromByteOffset: 8, as: UInt16.self)
    return offload
  }

  /// Gives all slots that were received back to the kernel, after everything was sent.
  mutating func release() {
    small.release()
    large.release()
  }

  // MARK: Sending

  /// Sends a received frame with the next ``flush()``, from where it stands; it may be another
  /// port's.
  mutating func send(_ frame: UnsafeMutableRawPointer, length: Int, _ offload: Offload) {
    store(offload, before: frame)
    append(frame - Self.offloadHeader, length + Self.offloadHeader, payload: nil)
  }

  /// Sends a frame that `fill` writes.
  ///
  /// - Parameter payload: follows it; stays as it is until ``flush()``.
  mutating func send(payload: UnsafeRawBufferPointer?, _ fill: (inout Frame) -> Void) {
    if ownCount == Self.maximumOwn { flush() }
    let start = own + ownCount * Self.ownSize + Self.offloadHeader
    ownCount += 1
    // SAFETY: the buffer is not used until the next `flush`.
    let octets = UnsafeMutableRawBufferPointer(
      start: start, count: Self.ownSize - Self.offloadHeader)
    var frame = Frame(octets.mutableBytes, length: 0)
    fill(&frame)
    store(frame.offload, before: start)
    append(start - Self.offloadHeader, frame.length + Self.offloadHeader, payload: payload)
  }

  private mutating func append(
    _ start: UnsafeMutableRawPointer, _ count: Int, payload: UnsafeRawBufferPointer?
  ) {
    if messageCount == Self.maximumMessages { flush() }
    let first = 2 * messageCount
    vectors[first] = iovec(iov_base: start, iov_len: count)
    if let payload {
      vectors[first + 1] = iovec(
        iov_base: UnsafeMutableRawPointer(mutating: payload.baseAddress), iov_len: payload.count)
    }
    messages[messageCount].msg_hdr.msg_iovlen = payload == nil ? 1 : 2
    messageCount += 1
  }

  private func store(_ offload: Offload, before frame: UnsafeMutableRawPointer) {
    let fields = frame - Self.offloadHeader
    let isSegmented = offload.segmentation != 0
    fields.storeBytes(of: offload.flags & Offload.needsChecksum, as: UInt8.self)
    fields.storeBytes(of: offload.segmentation, toByteOffset: 1, as: UInt8.self)
    fields.storeBytes(of: offload.headerLength, toByteOffset: 2, as: UInt16.self)
    fields.storeBytes(of: isSegmented ? offload.segmentSize : 0, toByteOffset: 4, as: UInt16.self)
    fields.storeBytes(of: offload.checksumStart, toByteOffset: 6, as: UInt16.self)
    fields.storeBytes(of: offload.checksumOffset, toByteOffset: 8, as: UInt16.self)
  }

  /// Sends all that waits. What the kernel does not take (the interface is down, the frame is longer
  /// than its MTU, there is no room for 10 ms) is lost, as on a wire.
  mutating func flush() {
    var first = 0
    while first < messageCount {
      let sent = CHosted_send(small.descriptor, messages + first, UInt32(messageCount - first))
      switch -sent {
      case EINTR: continue
      case EAGAIN, ENETDOWN, ENXIO: first = messageCount
      default: first += sent > 0 ? Int(sent) : 1
      }
    }
    messageCount = 0
    ownCount = 0
  }
}

/// Gives `body` an interface's name as C wants it.
func withName<Result>(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Result) -> Result {
  let text = name + [0]
  return text.withUnsafeBufferPointer { octets in
    octets.withMemoryRebound(to: CChar.self) { body($0.baseAddress!) }
  }
}
