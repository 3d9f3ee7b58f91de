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
    try onOwnThread { () throws(SystemError) in
      try unshareNamespaces(.newNetwork)
      return try NetworkNamespace(path: "/proc/thread-self/ns/net")
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

  /// Runs `body` inside the namespace, on a thread of its own for which the caller blocks: about
  /// 0.05 ms. What is opened there, such as sockets, stays in the namespace wherever it is used.
  public func run<Value: Sendable>(
    _ body: @escaping @Sendable () throws(SystemError) -> Value
  ) throws(SystemError) -> Value {
    try onOwnThread { [descriptor] () throws(SystemError) in
      try joinNamespace(descriptor)
      return try body()
    }
  }
}

/// Runs `body` on a new thread, which may change its namespaces as it ends afterwards.
private func onOwnThread<Value: Sendable>(
  _ body: @escaping @Sendable () throws(SystemError) -> Value
) throws(SystemError) -> Value {
  let result = BlockingQueue<Result<Value, SystemError>>()
  startThread(name: "netns") {
    do throws(SystemError) {
      result.append(.success(try body()))
    } catch {
      result.append(.failure(error))
    }
  }
  guard let value = result.next(limit: 1)?.first else {
    fatalError("a queue that nobody closes gave nothing")
  }
  return try value.get()
}
