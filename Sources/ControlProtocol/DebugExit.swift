/// How a guest ends its machine at once with a status, for a host that does not listen at the moment:
/// it writes one octet to a port (QEMU's isa-debug-exit), of which QEMU makes `octet << 1 | 1`, its own
/// exit status. Where there is no such port the guest ends as before.
public enum DebugExit {
  public static let port: UInt16 = 0xf4

  /// 1 to 95 are the exit statuses 0 to 94, 96 to 126 the signals 1 to 31, 127 is any other end.
  public static func octet(_ state: GuestState) -> UInt8 {
    switch state {
    case .ended(.exited(let code)) where code < 95: code + 1
    case .ended(.killed(let signal)) where 1...31 ~= signal: 95 + signal
    case .ended, .running, .failed: 127
    }
  }

  /// Reads QEMU's exit status.
  public enum Told: Sendable, Hashable {
    case ended(GuestExit)
    /// The guest ended in a way that the octet cannot say.
    case otherwise
  }

  /// - Returns: nil where no guest has said it; QEMU's own failures are 1.
  public static func told(by status: Int32) -> Told? {
    guard status & 1 == 1, status > 1, status < 256 else { return nil }
    let octet = UInt8(status >> 1)
    return switch octet {
    case ...95: .ended(.exited(code: octet - 1))
    case ...126: .ended(.killed(signal: octet - 95))
    default: .otherwise
    }
  }
}
