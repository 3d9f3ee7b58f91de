import CHosted
import Functions

/// Received frames of a packet socket, read where the kernel puts them (packet(7), TPACKET_V2).
struct Ring: ~Copyable {
  let descriptor: Int32
  /// Of a slot, in octets.
  let room: Int
  private let layout: CHosted_Ring
  private let slots: Int
  // SAFETY: `layout`, mapped until the end of this value. A slot is ours from when its status says so
  // until it is released.
  private let memory: UnsafeMutableRawPointer
  private var next = 0
  private var oldest = 0

  /// Gives an opened socket to an interface.
  /// - Throws: where the interface does not exist, or packet sockets are not allowed; the socket is
  ///   closed then.
  init(_ opening: CHosted_Opening, _ interface: [UInt8]) throws(ConfigurationError) {
    var memory: UnsafeMutableRawPointer?
    var error = opening.fd
    if error >= 0 {
      error = withName(interface) { CHosted_bindRing(opening.fd, $0, opening.ring, &memory) }
      if error < 0 { close(opening.fd) }
    }
    guard error >= 0, let memory else {
      switch -error {
      case ENODEV: throw ConfigurationError("a port's interface does not exist")
      case EPERM: throw ConfigurationError("packet sockets are not allowed: give CAP_NET_RAW")
      default: throw ConfigurationError("a port's interface can't be opened")
      }
    }
    descriptor = opening.fd
    self.memory = memory
    layout = opening.ring
    room = Int(layout.slot)
    slots = Int(layout.block / layout.slot * layout.blocks)
  }

  deinit { CHosted_closeRing(descriptor, layout, memory) }

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
