internal import CLinux
internal import Glibc
internal import Synchronization
public import SystemPackage

/// A network namespace that is open (network_namespaces(7)); it is let go of with this object.
public final class NetworkNamespace: Sendable {
  public let descriptor: FileDescriptor

  /// Takes over an open descriptor of a namespace.
  public init(owning descriptor: FileDescriptor) { self.descriptor = descriptor }

  /// Opens the namespace that is bound to a path, or /proc/PID/ns/net.
  public convenience init(path: String) throws(SystemError) {
    self.init(owning: try openFile(path, .read))
  }

  deinit { try? descriptor.close() }

  /// Makes a new namespace of the calling process's user namespace. Blocks for less than 1 ms.
  public static func create() throws(SystemError) -> NetworkNamespace {
    try comingBack { () throws(SystemError) in
      try unshareNamespaces(.newNetwork)
      return try NetworkNamespace(path: ownNamespace)
    }
  }

  /// Keeps the namespace alive by a bind mount, also after this process's end.
  public func pin(at path: String) throws(SystemError) {
    let file = try openFile(path, .append)
    try? file.close()
    try Mount.mount(
      source: "/proc/self/fd/\(descriptor.rawValue)", target: path, type: "", flags: UInt(MS_BIND))
  }

  /// Undoes `pin`.
  public static func unpin(_ path: String) throws(SystemError) {
    do throws(SystemError) {
      try Mount.unmount(path)
    } catch  where error.errno == .invalidArgument || error.errno == .noSuchFileOrDirectory {}
    try removeFile(path)
  }

  /// Runs `body` inside the namespace, into which the calling thread goes for so long: some 10 µs.
  /// What is opened there, such as sockets, stays in the namespace wherever it is used.
  public func run<Value>(_ body: () throws(SystemError) -> Value) throws(SystemError) -> Value {
    try comingBack { () throws(SystemError) in
      try joinNamespace(descriptor)
      return try body()
    }
  }
}

private let ownNamespace = "/proc/thread-self/ns/net"

/// Runs `body`, which may change the calling thread's network namespace.
///
/// A process whose thread cannot go back would act on the wrong network: it ends.
private func comingBack<Value>(
  _ body: () throws(SystemError) -> Value
) throws(SystemError) -> Value {
  let own = try openFile(ownNamespace, .read)
  defer {
    do throws(SystemError) {
      try joinNamespace(own)
    } catch {
      fatalError("a thread cannot go back to its network namespace: \(error)")
    }
    try? own.close()
  }
  return try body()
}
