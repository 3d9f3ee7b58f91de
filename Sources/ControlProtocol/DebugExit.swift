/// How a guest that ends its machine by one octet (QEMU's isa-debug-exit) has ended, for a daemon that
/// did not listen at that moment: QEMU's exit status is then `octet << 1 | 1`.
public enum DebugExit: Sendable, Hashable {
  case ended(GuestExit)
  /// In a way that the octet cannot say; the guest's last words may (``words(of:)``).
  case otherwise

  /// Where QEMU's device is.
  public static let port: UInt16 = 0xF4

  /// - Returns: nil where no guest has said it; QEMU's own failures are 1.
  public init?(status: Int32) {
    guard status & 1 == 1, status > 1, status < 256 else { return nil }
    let octet = UInt8(status >> 1)
    switch octet {
    case ...95: self = .ended(.exited(code: octet - 1))
    case ...126: self = .ended(.killed(signal: octet - 95))
    default: self = .otherwise
    }
  }

  public init(_ exit: GuestExit) {
    switch exit {
    case .exited(...94), .killed(1...31): self = .ended(exit)
    default: self = .otherwise
    }
  }

  /// Octets 1 to 95 are the exit statuses 0 to 94, 96 to 126 the signals 1 to 31, 127 is any other end.
  public var octet: UInt8 {
    switch self {
    case .ended(.exited(let code)): code + 1
    case .ended(.killed(let signal)): signal + 95
    case .otherwise: 127
    }
  }

  /// What a guest writes as its last line where the octet cannot say how its function has ended.
  public static func words(of exit: GuestExit) -> String {
    switch exit {
    case .exited(let code): "\(exited)\(code)"
    case .killed(let signal): "\(killed)\(signal)"
    }
  }

  /// Reads the last such line of what a guest wrote; nil where there is none.
  public static func exit(in output: String) -> GuestExit? {
    for line in output.split(whereSeparator: \.isNewline).reversed() {
      if line.hasPrefix(exited), let code = UInt8(line.dropFirst(exited.count)) {
        return .exited(code: code)
      }
      if line.hasPrefix(killed), let signal = UInt8(line.dropFirst(killed.count)) {
        return .killed(signal: signal)
      }
    }
    return nil
  }

  private static let exited = "martlet-init: the function exited with status "
  private static let killed = "martlet-init: the function was killed by signal "
}
