import ControlProtocol

/// How a guest that ends its machine by one octet (QEMU's isa-debug-exit) has ended, for a daemon that
/// did not listen at that moment: QEMU's exit status is then `octet << 1 | 1`.
enum DebugExit: Hashable {
  case ended(GuestExit)
  /// In a way that the octet cannot say.
  case otherwise

  /// Octets 1 to 95 are the exit statuses 0 to 94, 96 to 126 the signals 1 to 31, 127 is any other end.
  ///
  /// - Returns: nil where no guest has said it; QEMU's own failures are 1.
  init?(status: Int32) {
    guard status & 1 == 1, status > 1, status < 256 else { return nil }
    let octet = UInt8(status >> 1)
    switch octet {
    case ...95: self = .ended(.exited(code: octet - 1))
    case ...126: self = .ended(.killed(signal: octet - 95))
    default: self = .otherwise
    }
  }
}
