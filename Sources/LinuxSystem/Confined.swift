internal import CLinux
internal import Glibc
public import SystemPackage

/// File operations below a folder that no symbolic link leads out of (openat2(2), RESOLVE_IN_ROOT).
///
/// The folder part of a path may hold links; they are followed as if `root` were `/`. The last part
/// is never followed.
public enum Confined {
  /// The descriptor of a folder below `root`; the caller closes it.
  private static func open(
    _ folder: String, in root: FileDescriptor
  ) throws(SystemError) -> FileDescriptor {
    let path = folder.isEmpty ? "." : folder
    return FileDescriptor(
      rawValue: Int32(
        try systemCall("openat2", path) {
          CLinux_openat2_in_root(root.rawValue, path, UInt64(O_RDONLY | O_DIRECTORY | O_CLOEXEC))
        }))
  }

  private static func with<Value>(
    _ folder: String, in root: FileDescriptor,
    _ body: (Int32) throws(SystemError) -> Value
  ) throws(SystemError) -> Value {
    let descriptor = try open(folder, in: root)
    defer { try? descriptor.close() }
    return try body(descriptor.rawValue)
  }

  /// Makes every folder of a path that is missing, with mode 0755.
  public static func makeFolders(
    _ path: String, in root: FileDescriptor
  ) throws(SystemError) {
    var done = ""
    for part in path.split(separator: "/") {
      let parent = done
      done = done.isEmpty ? String(part) : "\(done)/\(part)"
      do throws(SystemError) {
        try open(done, in: root).closeQuietly()
      } catch  where error.errno == .noSuchFileOrDirectory {
        try with(parent, in: root) { (folder) throws(SystemError) in
          _ = try systemCall("mkdirat", done) { mkdirat(folder, String(part), 0o755) }
        }
      }
    }
  }

  /// The first `limit` bytes of a file below `root`, links followed within it.
  public static func read(
    _ path: String, limit: Int, in root: FileDescriptor
  ) throws(SystemError) -> [UInt8] {
    let file = FileDescriptor(
      rawValue: Int32(
        try systemCall("openat2", path) {
          // Without waiting for the writer of a FIFO.
          CLinux_openat2_in_root(root.rawValue, path, UInt64(O_RDONLY | O_NONBLOCK | O_CLOEXEC))
        }))
    defer { try? file.close() }
    return try readRange(of: file, from: nil, limit: limit)
  }

  public static func makeFolder(
    _ folder: String, _ name: String, mode: UInt32, owner: Mount.Owner, in root: FileDescriptor
  ) throws(SystemError) {
    try with(folder, in: root) { (parent) throws(SystemError) in
      do throws(SystemError) {
        try systemCall("mkdirat", name) { mkdirat(parent, name, mode) }
      } catch  where error.errno == .fileExists {
        // A folder of a lower layer stays; anything else makes place.
        if unlinkat(parent, name, 0) == 0 {
          try systemCall("mkdirat", name) { mkdirat(parent, name, mode) }
        }
      }
      try systemCall("fchownat", name) {
        fchownat(parent, name, owner.user, owner.group, Int32(AT_SYMLINK_NOFOLLOW))
      }
      try systemCall("fchmodat", name) { fchmodat(parent, name, mode, 0) }
    }
  }

  /// A new, empty file; the caller writes and closes it.
  public static func makeFile(
    _ folder: String, _ name: String, mode: UInt32, owner: Mount.Owner, in root: FileDescriptor
  ) throws(SystemError) -> FileDescriptor {
    try with(folder, in: root) { (parent) throws(SystemError) in
      let file = FileDescriptor(
        rawValue: try systemCall("openat", name) {
          CLinux_openat(
            parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        })
      try systemCall("fchown", name) { fchown(file.rawValue, owner.user, owner.group) }
      try systemCall("fchmod", name) { fchmod(file.rawValue, mode) }
      return file
    }
  }

  public static func makeLink(
    _ folder: String, _ name: String, to target: String, owner: Mount.Owner,
    in root: FileDescriptor
  ) throws(SystemError) {
    try with(folder, in: root) { (parent) throws(SystemError) in
      try systemCall("symlinkat", name) { symlinkat(target, parent, name) }
      try systemCall("fchownat", name) {
        fchownat(parent, name, owner.user, owner.group, Int32(AT_SYMLINK_NOFOLLOW))
      }
    }
  }

  public static func hardLink(
    _ source: (folder: String, name: String), _ target: (folder: String, name: String),
    in root: FileDescriptor
  ) throws(SystemError) {
    try with(source.folder, in: root) { (from) throws(SystemError) in
      try with(target.folder, in: root) { (to) throws(SystemError) in
        _ = try systemCall("linkat", target.name) {
          linkat(from, source.name, to, target.name, 0)
        }
      }
    }
  }

  /// Removes one entry, a folder with all that is in it; one that is not there is no error.
  public static func remove(
    _ folder: String, _ name: String, in root: FileDescriptor
  ) throws(SystemError) {
    do throws(SystemError) {
      try with(folder, in: root) { (parent) throws(SystemError) in
        if unlinkat(parent, name, 0) == 0 { return }
        guard errno == EISDIR || errno == EPERM else { return }
        try empty(folder.isEmpty ? name : "\(folder)/\(name)", in: root)
        try systemCall("unlinkat", name) { unlinkat(parent, name, Int32(AT_REMOVEDIR)) }
      }
    } catch  where error.errno == .noSuchFileOrDirectory {}
  }

  /// Removes everything in a folder; one that is not there is no error.
  public static func empty(_ folder: String, in root: FileDescriptor) throws(SystemError) {
    do throws(SystemError) {
      let descriptor = try open(folder, in: root)
      defer { try? descriptor.close() }
      for name in try listFolder("/proc/self/fd/\(descriptor.rawValue)") {
        try remove(folder, name, in: root)
      }
    } catch  where error.errno == .noSuchFileOrDirectory {}
  }
}

extension FileDescriptor {
  fileprivate func closeQuietly() { try? close() }
}
