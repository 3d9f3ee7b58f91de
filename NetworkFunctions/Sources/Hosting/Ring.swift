import CHosted

/// Received frames of a packet socket, read where the kernel puts them (packet(7), TPACKET_V2).
struct Ring: ~Copyable {
  /// -1 is the ring of no socket, into which nothing comes.
  let descriptor: Int32
  /// Of a slot, in octets.
  let room: Int
  private let layout: CHosted_Ring
  private let slots: Int
  // SAFETY: `layout`, mapped until the end of this value; of no socket one slot that nobody writes to. A
  // slot is ours from when its status says so until it is released.
  private let memory: UnsafeMutableRawPointer
  private var next = 0
  private var oldest = 0

  /// The ring of no socket.
  init() {
    descriptor = -1
    layout = CHosted_Ring(block: 64, blocks: 1, slot: 64)
    room = Int(layout.slot)
    slots = 1
    memory = .allocate(byteCount: room, alignment: 16)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: room)
  }

  /// Maps the ring of a socket, which is closed with it.
  /// - Returns: nil where that is not possible; the socket is closed then.
  init?(_ descriptor: Int32, _ layout: CHosted_Ring) {
    var memory: UnsafeMutableRawPointer?
    guard CHosted_map(descriptor, layout, &memory) == 0, let memory else {
      close(descriptor)
      return nil
    }
    self.descriptor = descriptor
    self.memory = memory
    self.layout = layout
    room = Int(layout.slot)
    slots = Int(layout.block / layout.slot * layout.blocks)
  }

  deinit {
    if descriptor < 0 {
      memory.deallocate()
    } else {
      CHosted_closeRing(descriptor, layout, memory)
    }
  }

  private func slot(_ index: Int) -> UnsafeMutableRawPointer {
    let perBlock = Int(layout.block / layout.slot)
    return memory + index / perBlock * Int(layout.block) + index % perBlock * room
  }

  private var following: Int { next + 1 == slots ? 0 : next + 1 }

  /// The next frame's slot; nil where there is none, or all are held.
  var waiting: UnsafeMutableRawPointer? {
    let slot = slot(next)
    return CHosted_status(slot) & UInt32(TP_STATUS_USER) != 0 && following != oldest ? slot : nil
  }

  /// Passes over the next frame, whose slot is held until ``release()``.
  mutating func take() { next = following }

  /// Gives all slots that were taken back to the kernel.
  mutating func release() {
    while oldest != next {
      CHosted_release(slot(oldest))
      oldest = oldest + 1 == slots ? 0 : oldest + 1
    }
  }
}
