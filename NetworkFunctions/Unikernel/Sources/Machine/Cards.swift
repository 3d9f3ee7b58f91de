import Boot
import Functions
import Packets

/// All network cards (5.1) and the buffers that they share. A buffer's number is its descriptor's
/// number in every queue: a frame is forwarded by describing its buffers anew, without a copy.
struct Cards: ~Copyable, Surroundings {
  /// All that is received into, in octets.
  private static let room = 192 * 4096
  /// `struct virtio_net_hdr_v1`
  private static let header = 12
  /// Frames of our own that wait to be sent, of a card; each has a second descriptor for a payload.
  private static let own = 32
  private static let ownSize = OwnFrame.room + header
  private static let none: UInt8 = 255

  private struct Feature {
    static let checksum: UInt64 = 1 << 0
    static let receivesPartial: UInt64 = 1 << 1
    static let mac: UInt64 = 1 << 5
    static let receivesSegmented: UInt64 = 1 << 7 | 1 << 8
    static let segments: UInt64 = 1 << 11 | 1 << 12
    static let merges: UInt64 = 1 << 15
  }

  private var entropy = Entropy()

  private struct Card: ~Copyable {
    let device: VirtioDevice
    let segments: Bool
    var receiving: VirtioQueue
    var sending: VirtioQueue
    /// Buffers of our own that are free, a bit each.
    var free: UInt32 = .max
    /// The configuration's number of this card; -1 is none.
    var port = -1
  }

  // SAFETY: `count` cards, initialised in the beginning and there for ever.
  private let cards = UnsafeMutablePointer<Card>.allocate(capacity: 8)
  private var macs = InlineArray<8, MACAddress>(repeating: MACAddress(0))
  private(set) var count = 0
  private let perCard: Int
  /// Of a buffer to receive; a frame of up to 64 KiB is in several. Each costs the monitor about 1 µs,
  /// and small frames, which routers are measured by, take one as well.
  private let size: Int
  // SAFETY: `received` has `perCard` * `count` buffers, `owned` `own` * `count`; never freed.
  private let received: UInt64
  private let owned: UInt64
  /// In a chain of received buffers, the number after each.
  private var chain = InlineArray<256, UInt8>(repeating: 255)
  /// The card of each port of the configuration; -1 is none.
  private var ports = InlineArray<8, Int>(repeating: -1)
  /// The next configuration's.
  private var assigned = InlineArray<8, Int>(repeating: -1)
  private var clock: Clock
  private let isTranslated: Bool
  private(set) var now: Instant = 0
  /// An emission failed; told when buffers are free again.
  private(set) var isWaiting = false
  private(set) var dropped: UInt64 = 0
  /// Nothing is sent or received; what a document assigned is forgotten when it is over.
  var isRehearsing = false {
    didSet {
      guard !isRehearsing else { return }
      ports = InlineArray<8, Int>(repeating: -1)
      for index in 0..<count { cards[index].port = -1 }
      offerSpares()
    }
  }
  /// The last buffer of each card is no card's until the ports are known, or a rehearsal is over: its
  /// frames are in it.
  private var keepsSpares = true
  /// The card that a frame of a rehearsal would have left by, and its length.
  private var onward: (card: Int, count: Int)?

  /// - Parameter isTranslated: the machine is QEMU's, under translation.
  init(_ devices: [VirtioDevice], clock: Clock, isTranslated: Bool) {
    self.clock = clock
    self.isTranslated = isTranslated
    let number = min(devices.count, 8)
    let size = number < 2 ? 8192 : 4096
    let perCard = Self.room / size / max(1, number)
    (self.size, self.perCard) = (size, perCard)
    received = Heap.allocate(UInt64(Self.room), alignment: 4096)
    owned = Heap.allocate(UInt64(Self.own * number * Self.ownSize), alignment: 64)
    count = number
    for index in 0..<number {
      let device = devices[index]
      let features = device.begin(
        wanted: Feature.checksum | Feature.receivesPartial | Feature.mac
          | Feature.receivesSegmented | Feature.segments | Feature.merges)
      guard features & Feature.merges != 0, features & Feature.mac != 0 else {
        halt("a network card merges no buffers")
      }
      var mac: UInt64 = 0
      for octet in UInt64(0)..<6 {
        mac = mac << 8 | UInt64(Boot_load8(device.address + 0x100 + octet))
      }
      macs[index] = MACAddress(mac)
      let all = Feature.checksum | Feature.segments
      let card = Card(
        device: device, segments: features & all == all,
        receiving: VirtioQueue(device, index: 0), sending: VirtioQueue(device, index: 1))
      device.end()
      card.receiving.setInterrupts(false)
      card.sending.setInterrupts(false)
      (cards + index).initialize(to: card)
      for buffer in index * perCard..<spare(of: index) { post(buffer) }
    }
  }

  mutating func readClock() { now = clock.now }

  /// The time as it is, not as the loop last read it.
  var time: Instant { clock.now }

  mutating func setAlarm(_ deadline: Instant) { clock.setAlarm(deadline) }

  // MARK: The loop's

  var hasWork: Bool {
    for index in 0..<count where cards[index].receiving.hasUsed { return true }
    if isWaiting || isShort {
      for index in 0..<count where cards[index].sending.hasUsed { return true }
    }
    return false
  }

  /// Whether most of a card's buffers are with another card, which sends them. Until it is done and
  /// that is taken note of, a frame that comes has no place, and so nobody would tell of it.
  private var isShort: Bool {
    for index in 0..<count where cards[index].receiving.offered < perCard / 2 { return true }
    return false
  }

  func setInterrupts(_ isOn: Bool) {
    let isSendingTold = isOn && (isWaiting || isShort)
    for index in 0..<count {
      cards[index].receiving.setInterrupts(isOn)
      cards[index].sending.setInterrupts(isSendingTold)
    }
  }

  func acknowledgeInterrupts() {
    for index in 0..<count { cards[index].device.acknowledgeInterrupt() }
  }

  /// Whether there is something that is sent with the next announcement.
  var hasSent: Bool {
    for index in 0..<count where cards[index].sending.hasUnannounced { return true }
    return false
  }

  mutating func announce() {
    for index in 0..<count {
      cards[index].sending.announce(isUrgent: isTranslated)
      // Until then frames wait before the machine: they would be for nobody, and each keeps a machine that
      // boots from the monitor's lock.
      if !keepsSpares { cards[index].receiving.announce() }
    }
  }

  /// Takes back what was sent.
  ///
  /// - Returns: whether something was.
  mutating func reclaim() -> Bool {
    var any = false
    for index in 0..<count {
      while let (number, _) = cards[index].sending.take() {
        any = true
        if number < perCard * count {
          recycle(number)
        } else {
          cards[index].free |= 1 << UInt32(number - 256 + 2 * Self.own)
        }
      }
    }
    if any { isWaiting = false }
    return any
  }

  /// Gives up to `budget` received frames of each card to the function.
  ///
  /// - Returns: whether there was one.
  mutating func receive<F: NetworkFunction & ~Copyable>(
    into function: inout F, budget: Int
  ) -> Bool {
    var any = false
    for index in 0..<count {
      var left = budget
      while left > 0, let (first, length) = cards[index].receiving.take() {
        left -= 1
        any = true
        handle(first, length, card: index, for: &function)
      }
    }
    return any
  }

  /// Gives the function a packet that nobody sent, as a card would, and, where it sends it on, the
  /// answer to it.
  mutating func rehearse<F: NetworkFunction & ~Copyable>(
    _ step: Rehearsal, with function: inout F
  ) {
    let index = ports[step.port]
    guard index >= 0 else { return }
    let number = spare(of: index)
    onward = nil
    handle(number, write(number, 0) { step.write(to: &$0) }, card: index, for: &function)
    guard let (card, count) = onward, card != index else { return }
    let port = cards[card].port
    handle(
      number, write(number, count) { Rehearsal.answer(&$0, on: port) }, card: card, for: &function)
  }

  /// Writes a frame as a card does that found its checksum right.
  ///
  /// - Returns: how much it wrote.
  private func write(_ number: Int, _ length: Int, _ body: (inout Frame) -> Void) -> Int {
    let address = buffer(number)
    var frame = Frame(octets(of: number).mutableBytes, length: length)
    body(&frame)
    for offset in UInt64(1)..<5 { Boot_store16(address + 2 * offset, 0) }
    Boot_store16(address, UInt16(Offload.checksumIsValid))
    Boot_store16(address + 10, 1)
    return frame.length + Self.header
  }

  private func spare(of index: Int) -> Int { (index + 1) * perCard - 1 }

  private mutating func offerSpares() {
    guard keepsSpares else { return }
    keepsSpares = false
    for index in 0..<count { post(spare(of: index)) }
  }

  private mutating func handle<F: NetworkFunction & ~Copyable>(
    _ first: Int, _ length: Int, card index: Int, for function: inout F
  ) {
    guard first < perCard * count, length >= Self.header, length <= size else {
      halt("a network card names no buffer that it has")
    }
    let address = buffer(first)
    var total = length - Self.header
    var last = first
    chain[first] = Self.none
    var left = Int(Boot_load16(address + 10)) - 1
    var lengths = length
    while left > 0, let (next, more) = cards[index].receiving.take() {
      guard next < perCard * count, more <= size else {
        halt("a network card names no buffer that it has")
      }
      chain[last] = UInt8(next)
      chain[next] = Self.none
      last = next
      total += more
      lengths = more
      left -= 1
    }
    var verdict = Verdict.drop
    var sent = 0
    let port = cards[index].port
    if port >= 0 {
      var frame = Frame(
        octets(of: first).mutableBytes, length: total, offload: offload(at: address))
      verdict = function.process(&frame, from: port, in: &self)
      sent = frame.length
      if case .send = verdict { store(frame.offload, at: address) }
    }
    guard case .send(let port) = verdict, port >= 0, port < 8, ports[port] >= 0 else {
      recycle(first)
      return
    }
    transmit(first, count: sent, was: total, lastLength: lengths, on: ports[port])
  }

  /// Describes a chain of received buffers for sending, with `count` octets; what is too much of it
  /// is given back.
  private mutating func transmit(
    _ first: Int, count: Int, was total: Int, lastLength: Int, on index: Int
  ) {
    var number = first
    var left = count + Self.header
    while true {
      let length = min(left, size)
      left -= length
      let next = chain[number]
      let ends = left == 0 || next == Self.none
      cards[index].sending.describe(
        number, address: buffer(number), length: length, next: ends ? nil : Int(next),
        isWritten: false)
      if ends {
        chain[number] = Self.none
        if next != Self.none { recycle(Int(next)) }
        break
      }
      number = Int(next)
    }
    guard !isRehearsing else {
      onward = (index, count)
      return
    }
    cards[index].sending.offer(first)
  }

  /// Gives a chain's buffers back to the cards that they belong to.
  private mutating func recycle(_ first: Int) {
    var number = first
    while true {
      let next = chain[number]
      chain[number] = Self.none
      post(number)
      guard next != Self.none else { return }
      number = Int(next)
    }
  }

  private mutating func post(_ number: Int) {
    let index = number / perCard
    cards[index].receiving.describe(
      number, address: buffer(number), length: size, next: nil, isWritten: true)
    guard !isRehearsing else { return }
    cards[index].receiving.offer(number)
  }

  private func buffer(_ number: Int) -> UInt64 { received + UInt64(number * size) }

  /// A buffer's octets after the header.
  // SAFETY: nobody else uses them until it is offered to a card.
  private func octets(of number: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: UInt(buffer(number)) + UInt(Self.header)),
      count: size - Self.header)
  }

  private func offload(at address: UInt64) -> Offload {
    var offload = Offload()
    offload.flags = Boot_load8(address)
    offload.segmentation = Boot_load8(address + 1)
    offload.headerLength = Boot_load16(address + 2)
    offload.segmentSize = Boot_load16(address + 4)
    offload.checksumStart = Boot_load16(address + 6)
    offload.checksumOffset = Boot_load16(address + 8)
    return offload
  }

  private func store(_ offload: Offload, at address: UInt64) {
    // Only what a driver may say: whether the checksum was found right is the device's word.
    Boot_store16(
      address,
      UInt16(offload.flags & Offload.needsChecksum) | UInt16(offload.segmentation) << 8)
    Boot_store16(address + 2, offload.headerLength)
    Boot_store16(address + 4, offload.segmentSize)
    Boot_store16(address + 6, offload.checksumStart)
    Boot_store16(address + 8, offload.checksumOffset)
    Boot_store16(address + 10, 0)
  }

  // MARK: Surroundings

  mutating func random() -> UInt64 { entropy.next() }

  /// Finds each port's card by its MAC; where no card has the MAC of any port, the machine was there
  /// before its ports were known, and its cards are in their order.
  mutating func assign(_ configuration: borrowing Configuration) throws(ConfigurationError) {
    var found = InlineArray<8, Int>(repeating: -1)
    var isKnown = false
    for port in 0..<configuration.ports.count {
      for index in 0..<count where macs[index] == configuration.ports[port].mac {
        found[port] = index
        isKnown = true
      }
    }
    for port in 0..<configuration.ports.count where found[port] < 0 {
      guard !isKnown else {
        throw ConfigurationError("a port has a MAC that no card of the machine has")
      }
      guard port < count else {
        throw ConfigurationError("the machine has fewer cards than the document has ports")
      }
      // In the order of QEMU's command line, whose last one is the first here.
      found[port] = count - 1 - port
    }
    assigned = found
  }

  mutating func adopt(_ configuration: borrowing Configuration, isRouter: Bool) {
    if !isRehearsing { offerSpares() }
    ports = assigned
    for index in 0..<count { cards[index].port = -1 }
    for port in 0..<configuration.ports.count { cards[ports[port]].port = port }
    announce(configuration.ports, isRouter: isRouter)
  }

  func segments(port: Int) -> Bool {
    port < 8 && ports[port] >= 0 && cards[ports[port]].segments
  }

  mutating func emit(
    on port: Int, payload: UnsafeRawBufferPointer?, _ fill: (inout Frame) -> Void
  ) -> Bool {
    guard port < 8, ports[port] >= 0 else { return true }
    let index = ports[port]
    guard let slot = takeSlot(of: index) else { return false }
    let address = owned + UInt64((index * Self.own + slot) * Self.ownSize)
    // SAFETY: the slot's octets, which nobody uses while its bit was set.
    let octets = UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: UInt(address) + UInt(Self.header)),
      count: Self.ownSize - Self.header)
    var frame = Frame(octets.mutableBytes, length: 0)
    fill(&frame)
    store(frame.offload, at: address)
    send(slot, at: address, frame.length, payload, of: index)
    return true
  }

  /// What is not to be made anew for each `fill` begins here.
  @inline(never)
  private mutating func takeSlot(of index: Int) -> Int? {
    let free = cards[index].free
    guard free != 0 else {
      isWaiting = true
      return nil
    }
    let slot = free.trailingZeroBitCount
    cards[index].free = free & ~(1 << UInt32(slot))
    return slot
  }

  @inline(never)
  private mutating func send(
    _ slot: Int, at address: UInt64, _ length: Int, _ payload: UnsafeRawBufferPointer?,
    of index: Int
  ) {
    let number = 256 - 2 * Self.own + slot
    cards[index].sending.describe(
      number, address: address, length: length + Self.header,
      next: payload == nil ? nil : number + Self.own, isWritten: false)
    if let payload {
      cards[index].sending.describe(
        number + Self.own, address: UInt64(UInt(bitPattern: payload.baseAddress)),
        length: payload.count, next: nil, isWritten: false)
    }
    guard !isRehearsing else {
      cards[index].free |= 1 << UInt32(slot)
      return
    }
    cards[index].sending.offer(number)
  }
}
