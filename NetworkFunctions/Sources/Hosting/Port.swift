import CHosted
import Functions
import Packets

/// Packet sockets on one interface (packet(7), TPACKET_V2). Frames are read where the kernel put
/// them, changed there and sent from there: in a slot `virtio_net_hdr` stands in front of the frame
/// as the socket wants it back.
///
/// There are two rings: one of small slots for ordinary frames, of which many wait while others have
/// the processor, and one for segments of up to 64 KiB. Until they are open, 16 to 40 ms after the
/// socket, that one is read, frame by frame.
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
  private let socket: Int32
  private var small = Ring()
  private var large = Ring()
  // SAFETY: from the beginning until they are taken over, and the thread that opens them has ended.
  private var rings: UnsafeMutablePointer<CHosted_Rings>?
  // SAFETY: `largeSlot` octets, as long as the socket has frames; used until ``release()`` where the
  // frame in it `isHeld`.
  private var buffer: UnsafeMutableRawPointer?
  private var isHeld = false
  /// Until when the socket is read beside the rings: another processor may just deliver to it.
  private var lingersUntil: Instant = 0
  /// Whether its interface was found to be down, or is gone.
  var isDown = false
  // SAFETY: `maximumMessages` of them, with two vectors each, and `maximumOwn` buffers; all until
  // the end of this value.
  private let messages: UnsafeMutablePointer<mmsghdr>
  private let vectors: UnsafeMutablePointer<iovec>
  private let own: UnsafeMutableRawPointer
  private var messageCount = 0
  private var ownCount = 0

  /// - Parameter event: is written to when its rings are open.
  /// - Throws: where the interface does not exist, or packet sockets are not allowed.
  init(_ interface: [UInt8], event: Int32) throws(ConfigurationError) {
    socket = withName(interface) { CHosted_open($0) }
    guard socket >= 0 else {
      switch -socket {
      case ENODEV: throw ConfigurationError("a port's interface does not exist")
      case EPERM: throw ConfigurationError("packet sockets are not allowed: give CAP_NET_RAW")
      default: throw ConfigurationError("a port's interface can't be opened")
      }
    }
    self.interface = interface
    buffer = .allocate(byteCount: Self.largeSlot, alignment: 64)
    messages = .allocate(capacity: Self.maximumMessages)
    messages.initialize(repeating: mmsghdr(), count: Self.maximumMessages)
    vectors = .allocate(capacity: 2 * Self.maximumMessages)
    vectors.initialize(repeating: iovec(), count: 2 * Self.maximumMessages)
    own = .allocate(byteCount: Self.maximumOwn * Self.ownSize, alignment: 64)
    for index in 0..<Self.maximumMessages {
      messages[index].msg_hdr.msg_iov = vectors + 2 * index
    }
    // A block is a power of two, as the kernel allots no other.
    let rings = UnsafeMutablePointer<CHosted_Rings>.allocate(capacity: 1)
    rings.initialize(to: CHosted_Rings())
    rings.pointee.layouts.0 = CHosted_Ring(block: 1 << 20, blocks: 6, slot: UInt32(Self.smallSlot))
    rings.pointee.layouts.1 = CHosted_Ring(block: 1 << 20, blocks: 4, slot: UInt32(Self.largeSlot))
    rings.pointee.event = event
    CHosted_beginRings(rings)
    self.rings = rings
  }

  deinit {
    if let rings {
      CHosted_awaitRings(rings)
      for fd in [rings.pointee.fds.0, rings.pointee.fds.1] where fd >= 0 { close(fd) }
      rings.deallocate()
    }
    close(socket)
    buffer?.deallocate()
    messages.deallocate()
    vectors.deallocate()
    own.deallocate()
  }

  /// Receives by the rings from now on, where they are open.
  /// - Returns: 0, or an errno where they can't be: frames are read from the socket as before.
  mutating func takeRings(at now: Instant) -> Int32 {
    guard let rings, CHosted_areOpened(rings) != 0 else { return 0 }
    CHosted_awaitRings(rings)
    defer { rings.deallocate() }
    self.rings = nil
    let (first, second) = rings.pointee.fds
    guard first >= 0, second >= 0 else {
      for fd in [first, second] where fd >= 0 { close(fd) }
      return -min(first, second)
    }
    guard let small = Ring(first, rings.pointee.layouts.0) else {
      close(second)
      return ENOMEM
    }
    guard let large = Ring(second, rings.pointee.layouts.1) else { return ENOMEM }
    let error = -CHosted_divide(socket, [first, second], Self.smallPacket)
    guard error == 0 else { return error }
    self.small = small
    self.large = large
    lingersUntil = now + 100_000_000
    return 0
  }

  // MARK: Receiving

  /// What tells of received frames, and of errors: that of a socket which is not read any more would
  /// take the next frame that is sent by it.
  var polled: (socket: pollfd, small: pollfd, large: pollfd) {
    (
      pollfd(fd: socket, events: buffer == nil ? 0 : Int16(POLLIN), revents: 0),
      pollfd(fd: small.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: large.descriptor, events: Int16(POLLIN), revents: 0)
    )
  }

  /// Takes away the errors of its sockets, which were found to have some.
  mutating func clearErrors() {
    isDown = true
    for fd in [socket, small.descriptor, large.descriptor] where fd >= 0 { CHosted_clearError(fd) }
  }

  /// Whether its interface still exists.
  var isThere: Bool { CHosted_isBound(socket) != 0 }

  /// The next received frame: its octets with room for more, its length, its offload. It stays
  /// until ``release()``; nil where there is none, or all slots are held.
  mutating func receive() -> (octets: UnsafeMutableRawBufferPointer, length: Int, Offload)? {
    if let buffer {
      // What came before the rings comes before what is in them.
      guard !isHeld else { return nil }
      if let frame = read(into: buffer) {
        isHeld = true
        return frame
      }
      guard small.descriptor >= 0 else { return nil }
      if CHosted_now() > lingersUntil {
        buffer.deallocate()
        self.buffer = nil
      }
    }
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
      case (nil, nil): return nil
      }
      let status = CHosted_status(slot)
      let header = CHosted_header(slot).pointee
      // What did not fit was cut off.
      guard header.tp_len == header.tp_snaplen else { continue }
      let start = slot + Int(header.tp_mac)
      var type: UInt16 = 0
      if status & UInt32(TP_STATUS_VLAN_VALID) != 0 {
        type = status & UInt32(TP_STATUS_VLAN_TPID_VALID) != 0 ? header.tp_vlan_tpid : 0x8100
      }
      return Self.frame(
        at: start, length: Int(header.tp_snaplen), tag: header.tp_vlan_tci, type: type,
        end: slot + room)
    }
  }

  /// The socket's next frame. Before it there is as much room as before one in a slot.
  private mutating func read(
    into buffer: UnsafeMutableRawPointer
  ) -> (octets: UnsafeMutableRawBufferPointer, length: Int, Offload)? {
    let start = buffer + 64
    var tag: UInt16 = 0
    var type: UInt16 = 0
    var isDown: Int32 = 0
    let count = CHosted_frame(socket, start, Self.largeSlot - 64, &tag, &type, &isDown)
    if isDown != 0 { self.isDown = true }
    guard count > Self.offloadHeader else { return nil }
    return Self.frame(
      at: start + Self.offloadHeader, length: count - Self.offloadHeader, tag: tag, type: type,
      end: buffer + Self.largeSlot)
  }

  /// A frame that was received, with the tag (of a type other than 0) that the kernel took out of it.
  private static func frame(
    at place: UnsafeMutableRawPointer, length: Int, tag: UInt16, type: UInt16,
    end: UnsafeMutableRawPointer
  ) -> (octets: UnsafeMutableRawBufferPointer, length: Int, Offload) {
    var (start, length) = (place, length)
    var offload = Self.offload(before: start)
    if type != 0 {
      start = insert(tag: tag, type: type, at: start)
      length += 4
      if offload.isPartial { offload.checksumStart &+= 4 }
      if offload.segmentation != 0 { offload.headerLength &+= 4 }
    }
    return (UnsafeMutableRawBufferPointer(start: start, count: end - start), length, offload)
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
    isHeld = false
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
      let sent = CHosted_send(socket, messages + first, UInt32(messageCount - first))
      switch -sent {
      case EINTR: continue
      case EAGAIN: first = messageCount
      case ENETDOWN, ENXIO:
        isDown = true
        first = messageCount
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
