internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// What surrounds a command: its outputs, what they are, and the environment. Tests put their own
/// in its place.
struct Console: Sendable {
  var output: @Sendable ([UInt8]) -> Void
  var error: @Sendable ([UInt8]) -> Void
  var environment: [String: String]
  var outputIsTerminal: Bool
  var errorIsTerminal: Bool
  /// Columns of the terminal.
  var width: @Sendable () -> Int

  @TaskLocal static var current = Console.process

  /// Whether to colour what goes to the output (https://no-color.org).
  var colors: Bool { outputIsTerminal && (environment["NO_COLOR"] ?? "").isEmpty && !isDumb }

  /// Whether to draw progress.
  var drawsProgress: Bool { errorIsTerminal && !isDumb }

  private var isDumb: Bool { environment["TERM"] == "dumb" }

  func print(_ text: String) { output(Array((text.hasSuffix("\n") ? text : text + "\n").utf8)) }
  func note(_ text: String) { error(Array((text.hasSuffix("\n") ? text : text + "\n").utf8)) }

  /// This process's own.
  static let process = Console(
    output: { write($0, to: STDOUT_FILENO) },
    error: { write($0, to: STDERR_FILENO) },
    environment: environmentOfProcess(),
    outputIsTerminal: isatty(STDOUT_FILENO) == 1,
    errorIsTerminal: isatty(STDERR_FILENO) == 1,
    width: {
      (TerminalSize.current(STDERR_FILENO) ?? TerminalSize.current(STDOUT_FILENO))?.columns ?? 80
    })

  private static func write(_ octets: [UInt8], to descriptor: CInt) {
    var rest = octets[...]
    while !rest.isEmpty {
      do throws(SystemError) {
        let count = try systemCall("write") {
          // SAFETY: the buffer is valid for the call, and write(2) only reads it.
          rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        }
        rest = rest.dropFirst(count)
      } catch {
        // The reader has gone (`martlet events | head`): as if SIGPIPE had come. Another failure
        // of the output leaves nobody to tell.
        exit(error.errno == .brokenPipe ? 128 + SIGPIPE : 1)
      }
    }
  }

  private static func environmentOfProcess() -> [String: String] {
    var result: [String: String] = [:]
    for name in [
      "MARTLET_SOCKET", "MARTLET_URL", "MARTLET_TOKEN_FILE", "NO_COLOR", "TERM",
    ] {
      // SAFETY: getenv(3)'s result is copied before anything could change the environment.
      if let value = getenv(name) { result[name] = String(cString: value) }
    }
    return result
  }
}

/// A terminal's size in characters.
struct TerminalSize: Sendable, Hashable {
  var rows: Int
  var columns: Int

  /// The terminal's size (tty_ioctl(4) TIOCGWINSZ); nil where it is none or does not know.
  static func current(_ descriptor: CInt) -> TerminalSize? {
    var size = winsize()
    // SAFETY: TIOCGWINSZ writes one winsize.
    guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
      return nil
    }
    return TerminalSize(rows: Int(size.ws_row), columns: Int(size.ws_col))
  }
}
