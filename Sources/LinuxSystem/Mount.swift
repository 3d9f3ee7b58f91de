internal import CLinux
public import SystemPackage

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

/// Mounts in the mount namespace of the calling thread (mount_namespaces(7)).
///
/// Every function is a sequence of system calls without locks or shared state, so that it may be
/// called between fork and exec of a single-threaded process. Where a sequence fails it leaves
/// nothing mounted by itself.
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
    try systemCall("mount", "\(type) on \(target)") {
      Glibc.mount(source, target, type, flags, options)
    }
  }

  /// Cuts the propagation of the mount at `path` and of all below it, in both directions.
  public static func makePrivate(_ path: String) throws(SystemError) {
    try mount(source: "none", target: path, type: "", flags: UInt(MS_REC) | UInt(MS_PRIVATE))
  }

  /// An empty file system in memory, nodev and nosuid.
  /// - Parameters:
  ///   - size: its largest size in bytes; 0 is the kernel's default, half of the memory.
  ///   - mode: permission bits of its root.
  ///   - owner: of its root; nil is the caller.
  public static func tmpfs(
    at target: String, size: UInt64, mode: UInt32, owner: Owner? = nil,
    attributes: Attributes = []
  ) throws(SystemError) {
    var options = "size=\(size),mode=\(String(mode, radix: 8))"
    if let owner { options += ",uid=\(owner.user),gid=\(owner.group)" }
    var flags = UInt(MS_NODEV) | UInt(MS_NOSUID)
    if attributes.contains(.noExecution) { flags |= UInt(MS_NOEXEC) }
    if attributes.contains(.readOnly) { flags |= UInt(MS_RDONLY) }
    try mount(source: "tmpfs", target: target, type: "tmpfs", flags: flags, options: options)
  }

  /// Shows `source` at `target` as well; both are files or both folders.
  public static func bind(
    _ source: String, at target: String, attributes: Attributes = [], recursive: Bool = false
  ) throws(SystemError) {
    let tree = try DetachedMount(of: source, recursive: recursive)
    if !attributes.isEmpty { try tree.set(attributes, recursive: recursive) }
    try tree.attach(at: target)
  }

  /// A bind mount whose owners are seen through a user namespace: what belongs to the host's uid 0
  /// on disk belongs to the namespace's uid 0 here (Linux 5.12).
  /// - Parameter userNamespace: a descriptor of it; not the host's own.
  public static func idMappedBind(
    _ source: String, at target: String, userNamespace: FileDescriptor,
    attributes: Attributes = [], recursive: Bool = false
  ) throws(SystemError) {
    let tree = try DetachedMount(of: source, recursive: recursive)
    try tree.set(attributes, userNamespace: userNamespace, recursive: recursive)
    try tree.attach(at: target)
  }

  /// Layers folders over one another (overlayfs).
  /// - Parameters:
  ///   - lower: from the top to the bottom; at least one, two without `upper`.
  ///   - upper: takes what is written; nil makes the mount read-only. Its owner and mode are those of
  ///     the merged root.
  ///   - work: an empty folder of the same file system as `upper`.
  public static func overlay(
    lower: [String], upper: String?, work: String?, at target: String
  ) throws(SystemError) {
    var options = "lowerdir=" + lower.map(escaped).joined(separator: ":")
    if let upper, let work {
      // `volatile`: the upper layer dies with its namespace, it need never be synchronised.
      options += ",upperdir=\(escaped(upper)),workdir=\(escaped(work)),volatile"
    }
    try mount(
      source: "overlay", target: target, type: "overlay", flags: UInt(MS_NODEV) | UInt(MS_NOSUID),
      options: options)
  }

  /// Moves a mount with all below it.
  public static func move(_ source: String, to target: String) throws(SystemError) {
    try mount(source: source, target: target, type: "", flags: UInt(MS_MOVE))
  }

  /// Takes the mount at `target` away.
  /// - Parameter lazily: at once from the tree, even where it is in use (MNT_DETACH).
  public static func unmount(_ target: String, lazily: Bool = true) throws(SystemError) {
    try systemCall("umount2", target) {
      umount2(target, Int32(UMOUNT_NOFOLLOW) | (lazily ? Int32(MNT_DETACH) : 0))
    }
  }

  /// The processes of the caller's pid namespace and nothing else of the host (`subset=pid`, Linux
  /// 5.8).
  public static func processes(at target: String) throws(SystemError) {
    try mount(
      source: "proc", target: target, type: "proc",
      flags: UInt(MS_NODEV) | UInt(MS_NOSUID) | UInt(MS_NOEXEC), options: "subset=pid")
  }

  /// Makes one folder with exactly these permission bits; one that is there already is taken.
  public static func makeDirectory(
    _ path: String, mode: UInt32, owner: Owner? = nil
  ) throws(SystemError) {
    do throws(SystemError) {
      try systemCall("mkdir", path) { mkdir(path, mode) }
    } catch {
      guard error.errno == .fileExists else { throw error }
    }
    try systemCall("chmod", path) { chmod(path, mode) }
    if let owner { try systemCall("chown", path) { chown(path, owner.user, owner.group) } }
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

  /// overlayfs splits its options at commas and its lower folders at colons.
  private static func escaped(_ path: String) -> String {
    var text = ""
    for character in path.unicodeScalars {
      if character == "\\" || character == "," || character == ":" { text += "\\" }
      text.unicodeScalars.append(character)
    }
    return text
  }
}

/// A copy of a mount that no folder shows yet (open_tree(2)); gone with this value where it was not
/// attached.
public struct DetachedMount: ~Copyable {
  private let descriptor: Int32

  public init(of path: String, recursive: Bool) throws(SystemError) {
    let flags =
      UInt32(OPEN_TREE_CLONE) | UInt32(O_CLOEXEC)
      | (recursive ? UInt32(AT_RECURSIVE) : 0)
    descriptor = try systemCall("open_tree", path) { CLinux_open_tree(AT_FDCWD, path, flags) }
  }

  deinit { close(descriptor) }

  /// Adds attributes, and shows the owners through `userNamespace`.
  public borrowing func set(
    _ attributes: Mount.Attributes, userNamespace: FileDescriptor? = nil, recursive: Bool
  ) throws(SystemError) {
    let idMap: UInt64 = userNamespace == nil ? 0 : UInt64(MOUNT_ATTR_IDMAP)
    let flags = UInt32(AT_EMPTY_PATH) | (recursive ? UInt32(AT_RECURSIVE) : 0)
    let descriptor = descriptor
    try systemCall("mount_setattr") {
      CLinux_mount_setattr(
        descriptor, "", flags, attributes.rawValue | idMap, 0, 0,
        UInt64(userNamespace?.rawValue ?? 0))
    }
  }

  public borrowing func attach(at target: String) throws(SystemError) {
    let descriptor = descriptor
    try systemCall("move_mount", target) {
      CLinux_move_mount(descriptor, "", AT_FDCWD, target, UInt32(MOVE_MOUNT_F_EMPTY_PATH))
    }
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
