internal import CLinux
internal import SystemPackage

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

/// Mounts in the mount namespace of the process that makes the calls (mount_namespaces(7)).
extension SystemCalls {
  /// mount(2) as it is.
  mutating func mount(
    _ source: String, at target: String, type: String, flags: UInt, options: String = ""
  ) {
    append(
      Int32(SYS_mount), "mount", type.isEmpty ? "on \(target)" : "\(type) on \(target)",
      .text(source), .text(target), .text(type), .value(Int(flags)), .text(options))
  }

  /// Cuts the propagation of the mount at `path` and of all below it, in both directions.
  public mutating func makePrivate(_ path: String) {
    mount("none", at: path, type: "", flags: UInt(MS_REC) | UInt(MS_PRIVATE))
  }

  /// Cuts what would propagate from the mount at `path` and all below it, not what propagates to them.
  public mutating func makeSlave(_ path: String) {
    mount("none", at: path, type: "", flags: UInt(MS_REC) | UInt(MS_SLAVE))
  }

  /// An empty file system in memory, nodev and nosuid.
  /// - Parameters:
  ///   - size: its largest size in bytes; 0 is the kernel's default, half of the memory.
  ///   - mode: permission bits of its root.
  ///   - owner: of its root; nil is the caller.
  public mutating func tmpfs(
    at target: String, size: UInt64, mode: UInt32, owner: Mount.Owner? = nil,
    attributes: Mount.Attributes = []
  ) {
    var options = "size=\(size),mode=\(String(mode, radix: 8))"
    if let owner { options += ",uid=\(owner.user),gid=\(owner.group)" }
    var flags = UInt(MS_NODEV) | UInt(MS_NOSUID)
    if attributes.contains(.noExecution) { flags |= UInt(MS_NOEXEC) }
    if attributes.contains(.readOnly) { flags |= UInt(MS_RDONLY) }
    mount("tmpfs", at: target, type: "tmpfs", flags: flags, options: options)
  }

  /// Shows `source` at `target` as well; both are files or both folders. Where that fails, a descriptor
  /// stays open: for processes that end then.
  /// - Parameter userNamespace: owners are seen through it: what belongs to the host's uid 0 on disk
  ///   belongs to the namespace's uid 0 here (Linux 5.12).
  public mutating func bind(
    _ source: String, at target: String, attributes: Mount.Attributes = [],
    userNamespace: Argument? = nil, recursive: Bool = false
  ) {
    let all = recursive ? Int(AT_RECURSIVE) : 0
    let tree = append(
      Int32(SYS_open_tree), "open_tree", source, .value(Int(AT_FDCWD)), .text(source),
      .value(Int(OPEN_TREE_CLONE) | Int(O_CLOEXEC) | all))
    if !attributes.isEmpty || userNamespace != nil {
      // struct mount_attr: what is set, what is cleared, the propagation, the user namespace.
      var values: [UInt64] = [attributes.rawValue, 0, 0, 0]
      if userNamespace != nil { values[0] |= UInt64(MOUNT_ATTR_IDMAP) }
      let octets = values.flatMap { value in
        (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
      }
      let structure =
        userNamespace.map { store($0, in: octets, at: 24) } ?? .octets(octets)
      append(
        Int32(SYS_mount_setattr), "mount_setattr", source, tree, .text(""),
        .value(Int(AT_EMPTY_PATH) | all), structure, .value(octets.count))
    }
    append(
      Int32(SYS_move_mount), "move_mount", target, tree, .text(""), .value(Int(AT_FDCWD)),
      .text(target), .value(Int(MOVE_MOUNT_F_EMPTY_PATH)))
    append(Int32(SYS_close), "close", source, tree)
  }

  /// Layers folders over one another (overlayfs).
  /// - Parameters:
  ///   - lower: from the top to the bottom; at least one, two without `upper`.
  ///   - upper: takes what is written; nil makes the mount read-only. Its owner and mode are those of
  ///     the merged root.
  ///   - work: an empty folder of the same file system as `upper`.
  public mutating func overlay(lower: [String], upper: String?, work: String?, at target: String) {
    var options = "lowerdir=" + lower.map(Self.escaped).joined(separator: ":")
    if let upper, let work {
      // `volatile`: the upper layer dies with its namespace, it need never be synchronised.
      options +=
        ",upperdir=\(Self.escaped(upper)),workdir=\(Self.escaped(work)),volatile"
    }
    mount(
      "overlay", at: target, type: "overlay", flags: UInt(MS_NODEV) | UInt(MS_NOSUID),
      options: options)
  }

  /// Moves a mount with all below it.
  public mutating func move(_ source: String, to target: String) {
    mount(source, at: target, type: "", flags: UInt(MS_MOVE))
  }

  /// Takes the mount at `target` away.
  /// - Parameter lazily: at once from the tree, even where it is in use (MNT_DETACH).
  public mutating func unmount(_ target: String, lazily: Bool = true) {
    append(
      Int32(SYS_umount2), "umount2", target, .text(target),
      .value(Int(UMOUNT_NOFOLLOW) | (lazily ? Int(MNT_DETACH) : 0)))
  }

  /// The processes of the caller's pid namespace and nothing else of the host (`subset=pid`, Linux
  /// 5.8).
  public mutating func processes(at target: String) {
    mount(
      "proc", at: target, type: "proc",
      flags: UInt(MS_NODEV) | UInt(MS_NOSUID) | UInt(MS_NOEXEC), options: "subset=pid")
  }

  /// Makes one folder with exactly these permission bits; one that is there already is taken.
  public mutating func makeDirectory(_ path: String, mode: UInt32, owner: Mount.Owner? = nil) {
    append(
      Int32(SYS_mkdir), "mkdir", path, .text(path), .value(Int(mode)), tolerating: .fileExists)
    append(Int32(SYS_chmod), "chmod", path, .text(path), .value(Int(mode)))
    guard let owner else { return }
    append(
      Int32(SYS_chown), "chown", path, .text(path), .value(Int(owner.user)),
      .value(Int(owner.group)))
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
