internal import CLinux
internal import Glibc
public import SystemPackage

/// A pseudoterminal (pty(7)): what is written to `master` is typed at `terminal`.
public struct PseudoTerminal: Sendable {
  public var master: FileDescriptor
  public var terminal: FileDescriptor

  /// Both ends, close-on-exec; the caller's to close.
  public init(rows: Int, columns: Int) throws(SystemError) {
    let descriptor = try systemCall("open", "/dev/ptmx") {
      CLinux_open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0)
    }
    master = FileDescriptor(rawValue: descriptor)
    do throws(SystemError) {
      try Self.resize(master, rows: rows, columns: columns)
      terminal = FileDescriptor(
        rawValue: try systemCall("ioctl TIOCGPTPEER") { CLinux_open_terminal_peer(descriptor) })
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// Tells whoever runs at the terminal its new size (SIGWINCH).
  public static func resize(
    _ master: FileDescriptor, rows: Int, columns: Int
  ) throws(SystemError) {
    try systemCall("ioctl TIOCSWINSZ") {
      CLinux_set_terminal_size(
        master.rawValue, UInt16(clamping: rows), UInt16(clamping: columns))
    }
  }
}

/// Waits until one of `descriptors` is readable or has hung up (poll(2)).
///
/// - Parameter milliseconds: negative: for ever.
/// - Returns: which of them are; none where the time has passed.
public func waitReadable(
  anyOf descriptors: [FileDescriptor], milliseconds: Int32
) throws(SystemError) -> [Bool] {
  var entries = descriptors.map { pollfd(fd: $0.rawValue, events: Int16(POLLIN), revents: 0) }
  try systemCall("poll") { poll(&entries, nfds_t(entries.count), milliseconds) }
  return entries.map { $0.revents != 0 }
}

/// The first offset from `offset` on that has data on the device, past what was punched out
/// (lseek(2), SEEK_DATA); nil where there is none.
public func nextData(
  in descriptor: FileDescriptor, from offset: UInt64
) throws(SystemError) -> UInt64? {
  do throws(SystemError) {
    // SEEK_DATA
    return UInt64(try systemCall("lseek") { lseek(descriptor.rawValue, off_t(offset), 3) })
  } catch  where error.errno.rawValue == ENXIO {
    return nil
  }
}

/// Has writes to a pipe that nobody reads any more fail with EPIPE instead of ending this process.
public func ignoreBrokenPipes() { signal(SIGPIPE, SIG_IGN) }
