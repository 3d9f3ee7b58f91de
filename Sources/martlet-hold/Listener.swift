import LinuxSystem
import SystemPackage

/// The socket of this hold, and the lock that keeps a second one away from it.
struct Listener {
  let path: String
  let socket: FileDescriptor
  /// Open on `path` + `.lock`; a socket's file alone does not say whether anyone serves it.
  let lock: FileDescriptor

  init(path: String, socket: FileDescriptor, lock: FileDescriptor) {
    self.path = path
    self.socket = socket
    self.lock = lock
  }

  /// Nil where another hold has the lock.
  init?(socket path: String) throws(SystemError) {
    lock = try openFile(path + ".lock", .append)
    guard try tryLock(lock) else { return nil }
    try removeFile(path)
    socket = try PacketSocket.listen(path)
    self.path = path
  }

  /// Takes the files away; nothing is served any more.
  func remove() {
    try? removeFile(path)
    try? removeFile(path + ".lock")
  }
}

/// Writes a line to standard error, for the journal; there is nobody else to tell.
func complain(_ message: String) {
  try? writeAll(Array("martlet-hold: \(message)\n".utf8), to: .standardError)
}
