internal import CLinux
internal import Glibc
public import SystemPackage

/// Tells whoever runs at the terminal of `master` (pty(7)) its new size, by SIGWINCH.
public func resizeTerminal(
  _ master: FileDescriptor, rows: Int, columns: Int
) throws(SystemError) {
  try systemCall("ioctl TIOCSWINSZ") {
    CLinux_set_terminal_size(master.rawValue, UInt16(clamping: rows), UInt16(clamping: columns))
  }
}

/// A new terminal (pty(7)), both ends close-on-exec.
public func makeTerminal(
  rows: Int, columns: Int
) throws(SystemError) -> (master: FileDescriptor, terminal: FileDescriptor) {
  let flags = O_RDWR | O_NOCTTY | O_CLOEXEC
  let master = FileDescriptor(
    rawValue: try systemCall("open", "/dev/ptmx") { CLinux_open("/dev/ptmx", flags, 0) })
  do throws(SystemError) {
    let terminal = FileDescriptor(
      rawValue: try systemCall("ioctl TIOCGPTPEER") {
        CLinux_open_terminal_peer(master.rawValue, flags)
      })
    try resizeTerminal(terminal, rows: rows, columns: columns)
    return (master, terminal)
  } catch {
    try? master.close()
    throw error
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

/// A socket at which an OCI runtime hands over the master of a terminal that it made
/// (`--console-socket`). Its path goes with this object.
public final class ConsoleSocket: Sendable {
  public let path: String
  private let listener: FileDescriptor

  /// - Parameter path: at most 107 octets, in a folder that only we can search: whoever connects
  ///   first is believed.
  public init(_ path: String) throws(SystemError) {
    self.path = path
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let fits = withUnsafeMutableBytes(of: &address.sun_path) { buffer in
      guard path.utf8.count < buffer.count else { return false }
      buffer.copyBytes(from: path.utf8)
      return true
    }
    guard fits else {
      throw SystemError(call: "bind", errno: .fileNameTooLong, subject: path)
    }
    let descriptor = try systemCall("socket") {
      socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    }
    listener = FileDescriptor(rawValue: descriptor)
    // SAFETY: the address lives during the call and is read with its own length.
    try systemCall("bind", path) {
      withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
    }
    try systemCall("listen", path) { listen(descriptor, 1) }
  }

  deinit {
    try? listener.close()
    try? removeFile(path)
  }

  /// Waits for the terminal's master, the caller's to close. On a thread of its own: a runtime that
  /// hangs holds nobody up.
  /// - Parameter process: a pidfd of the runtime; where it ends first there will be no terminal.
  /// - Returns: nil then, and where the time has passed.
  public func receive(
    unlessEnded process: FileDescriptor, milliseconds: Int32
  ) async throws(SystemError) -> FileDescriptor? {
    try await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<FileDescriptor?, SystemError>, Never>) in
      startThread(name: "martlet-console") {
        continuation.resume(
          returning: Result { () throws(SystemError) in
            try self.wait(unlessEnded: process, milliseconds: milliseconds)
          })
      }
    }.get()
  }

  private func wait(
    unlessEnded process: FileDescriptor, milliseconds: Int32
  ) throws(SystemError) -> FileDescriptor? {
    let ready = try waitReadable(anyOf: [listener, process], milliseconds: milliseconds)
    guard ready[0], let connection = try PacketSocket.accept(listener) else { return nil }
    defer { try? connection.close() }
    guard try waitReadable(connection, milliseconds: milliseconds),
      case .packet(_, let descriptors) = try PacketSocket.receive(
        on: connection, limit: 4096, descriptorLimit: 1)
    else { return nil }
    return descriptors.first
  }
}
