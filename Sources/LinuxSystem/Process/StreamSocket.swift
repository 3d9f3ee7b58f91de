internal import CLinux
internal import Glibc
public import SystemPackage

/// Unix sockets of octets (`SOCK_STREAM`, `unix(7)`); close-on-exec.
public enum StreamSocket {
  /// A blocking, listening socket at `path`, which must not be there; only its owner may connect.
  public static func listen(_ path: String) throws(SystemError) -> FileDescriptor {
    let descriptor = FileDescriptor(
      rawValue: try systemCall("socket", path) {
        socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      })
    do throws(SystemError) {
      try PacketSocket.withAddress(path) { (address, length) throws(SystemError) in
        _ = try systemCall("bind", path) { bind(descriptor.rawValue, address, length) }
      }
      // Nobody can connect before it listens.
      try systemCall("chmod", path) { chmod(path, 0o600) }
      try systemCall("listen", path) { Glibc.listen(descriptor.rawValue, 4) }
    } catch {
      try? descriptor.close()
      throw error
    }
    return descriptor
  }

  /// A connection to the socket at `path` that does not block.
  ///
  /// - Throws: ECONNREFUSED where nobody listens there, EAGAIN where too many wait already.
  public static func connect(_ path: String) throws(SystemError) -> FileDescriptor {
    let descriptor = FileDescriptor(
      rawValue: try systemCall("socket", path) {
        socket(
          AF_UNIX,
          Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
      })
    do throws(SystemError) {
      try PacketSocket.withAddress(path) { (address, length) throws(SystemError) in
        _ = try systemCall("connect", path) { Glibc.connect(descriptor.rawValue, address, length) }
      }
    } catch {
      try? descriptor.close()
      throw error
    }
    return descriptor
  }

  /// A connection to the socket at `path` below `root`, whose owner may have put anything there.
  ///
  /// - Returns: nil where there is no socket, or nobody listens.
  public static func connect(
    _ path: String, in root: FileDescriptor
  ) throws(SystemError) -> FileDescriptor? {
    do throws(SystemError) {
      let place = try Confined.place(path, in: root)
      defer { try? place.close() }
      var status = stat()
      try systemCall("fstat", path) { fstat(place.rawValue, &status) }
      guard status.st_mode & S_IFMT == S_IFSOCK else { return nil }
      return try connect("/proc/self/fd/\(place.rawValue)")
    } catch  where error.errno == .noSuchFileOrDirectory || error.errno == .connectionRefused {
      return nil
    }
  }
}
