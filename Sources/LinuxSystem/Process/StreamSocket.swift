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
}
