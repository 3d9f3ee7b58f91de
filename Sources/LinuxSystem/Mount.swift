internal import CLinux
public import SystemPackage

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

/// Mounts in the mount namespace of the calling thread (mount_namespaces(7)).
///
/// Where a sequence of calls fails it leaves nothing mounted by itself.
public enum Mount {
  /// What a mount forbids (mount_setattr(2)).
  public struct Attributes: OptionSet, Sendable, Hashable {
    public var rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static let readOnly = Attributes(rawValue: 0x1)
    public static let noSetUserID = Attributes(rawValue: 0x2)
    public static let noDevices = Attributes(rawValue: 0x4)
    public static let noExecution = Attributes(rawValue: 0x8)
  }

  /// An owner of files, in the caller's user namespace.
  public struct Owner: Sendable, Hashable {
    public var user: UInt32
    public var group: UInt32

    public init(user: UInt32, group: UInt32) {
      self.user = user
      self.group = group
    }
  }

  /// mount(2) as it is.
  /// - Parameter options: the file system's own, such as `size=4096,mode=755`.
  public static func mount(
    source: String, target: String, type: String, flags: UInt, options: String = ""
  ) throws(SystemError) {
    try SystemCalls.perform {
      $0.mount(source, at: target, type: type, flags: flags, options: options)
    }
  }

  /// See ``SystemCalls/makePrivate(_:)``.
  public static func makePrivate(_ path: String) throws(SystemError) {
    try SystemCalls.perform { $0.makePrivate(path) }
  }

  /// See ``SystemCalls/tmpfs(at:size:mode:owner:attributes:)``.
  public static func tmpfs(
    at target: String, size: UInt64, mode: UInt32, owner: Owner? = nil,
    attributes: Attributes = []
  ) throws(SystemError) {
    try SystemCalls.perform {
      $0.tmpfs(at: target, size: size, mode: mode, owner: owner, attributes: attributes)
    }
  }

  /// See ``SystemCalls/bind(_:at:attributes:userNamespace:recursive:)``.
  /// - Parameter userNamespace: a descriptor of it; not the host's own.
  public static func idMappedBind(
    _ source: String, at target: String, userNamespace: FileDescriptor,
    attributes: Attributes = [], recursive: Bool = false
  ) throws(SystemError) {
    try SystemCalls.perform {
      $0.bind(
        source, at: target, attributes: attributes,
        userNamespace: .value(Int(userNamespace.rawValue)), recursive: recursive)
    }
  }

  /// Takes the mount at `target` away.
  /// - Parameter lazily: at once from the tree, even where it is in use (MNT_DETACH).
  public static func unmount(_ target: String, lazily: Bool = true) throws(SystemError) {
    try SystemCalls.perform { $0.unmount(target, lazily: lazily) }
  }

  /// See ``SystemCalls/makeDirectory(_:mode:owner:)``.
  public static func makeDirectory(
    _ path: String, mode: UInt32, owner: Owner? = nil
  ) throws(SystemError) {
    try SystemCalls.perform { $0.makeDirectory(path, mode: mode, owner: owner) }
  }

  /// Makes the mount at `root` the root of the caller's mount namespace and drops the old one.
  /// Afterwards the caller's working directory is the new root.
  public static func pivot(to root: String) throws(SystemError) {
    try systemCall("chdir", root) { chdir(root) }
    // Both arguments alike stack the old root upon the new one (pivot_root(2), notes).
    try systemCall("pivot_root", root) { CLinux_pivot_root(".", ".") }
    try unmount(".")
    try systemCall("chdir", "/") { chdir("/") }
  }
}

/// File systems that are mounted nowhere (fsopen(2)).
enum DetachedFileSystem {
  /// - Parameter options: a flag where the value is nil.
  /// - Returns: the mount; it goes with its last descriptor. The caller's to close.
  static func mount(
    _ type: String, options: [(key: String, value: String?)]
  ) throws(SystemError) -> FileDescriptor {
    // FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC.
    let context = try systemCall("fsopen", type) { CLinux_fsopen(type, 1) }
    defer { close(context) }
    for (key, value) in options {
      try systemCall("fsconfig", key) {
        value.map { CLinux_fsconfig(context, 1, key, $0) } ?? CLinux_fsconfig(context, 0, key, nil)
      }
    }
    try systemCall("fsconfig", "create \(type)") { CLinux_fsconfig(context, 6, nil, nil) }
    return FileDescriptor(
      rawValue: try systemCall("fsmount", type) { CLinux_fsmount(context, 1, 0) })
  }
}
