internal import CLinux
internal import Glibc
public import SystemPackage

/// File operations below a folder that no symbolic link leads out of (openat2(2), RESOLVE_IN_ROOT).
///
/// The folder part of a path may hold links; they are followed as if `root` were `/`. The last part
/// is never followed. An `owner` that is nil is the caller.
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

  /// What is at a path below `root`, as a place in the file tree only (`O_PATH`).
  static func place(
    _ path: String, in root: FileDescriptor
  ) throws(SystemError) -> FileDescriptor {
    FileDescriptor(
      rawValue: Int32(
        try systemCall("openat2", path) {
          CLinux_openat2_in_root(
            root.rawValue, path, UInt64(CLINUX_O_PATH | O_NOFOLLOW | O_CLOEXEC))
        }))
  }

  public static func makeFolder(
    _ folder: String, _ name: String, mode: UInt32, owner: Mount.Owner?, in root: FileDescriptor
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
      try own(name, owner, in: parent)
      try systemCall("fchmodat", name) { fchmodat(parent, name, mode, 0) }
    }
  }

  /// A new, empty file; the caller writes and closes it.
  public static func makeFile(
    _ folder: String, _ name: String, mode: UInt32, owner: Mount.Owner?, in root: FileDescriptor
  ) throws(SystemError) -> FileDescriptor {
    try with(folder, in: root) { (parent) throws(SystemError) in
      let file = FileDescriptor(
        rawValue: try systemCall("openat", name) {
          CLinux_openat(
            parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        })
      do throws(SystemError) {
        if let owner {
          try systemCall("fchown", name) { fchown(file.rawValue, owner.user, owner.group) }
        }
        try systemCall("fchmod", name) { fchmod(file.rawValue, mode) }
      } catch {
        file.closeQuietly()
        throw error
      }
      return file
    }
  }

  public static func makeLink(
    _ folder: String, _ name: String, to target: String, owner: Mount.Owner?,
    in root: FileDescriptor
  ) throws(SystemError) {
    try with(folder, in: root) { (parent) throws(SystemError) in
      try systemCall("symlinkat", name) { symlinkat(target, parent, name) }
      try own(name, owner, in: parent)
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

  private static func own(
    _ name: String, _ owner: Mount.Owner?, in parent: Int32
  ) throws(SystemError) {
    guard let owner else { return }
    try systemCall("fchownat", name) {
      fchownat(parent, name, owner.user, owner.group, Int32(AT_SYMLINK_NOFOLLOW))
    }
  }

  /// Removes one entry, a folder with all that is in it; one that is not there is no error.
  public static func remove(
    _ folder: String, _ name: String, in root: FileDescriptor
  ) throws(SystemError) {
    do throws(SystemError) {
      try with(folder, in: root) { (parent) throws(SystemError) in try remove(name, from: parent) }
    } catch  where error.errno == .noSuchFileOrDirectory {}
  }

  /// Removes everything in a folder; one that is not there is no error.
  public static func empty(_ folder: String, in root: FileDescriptor) throws(SystemError) {
    do throws(SystemError) {
      try with(folder, in: root) { (descriptor) throws(SystemError) in
        for name in try names(in: descriptor) { try remove(name, from: descriptor) }
      }
    } catch  where error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory {}
  }

  private static func remove(_ name: String, from parent: Int32) throws(SystemError) {
    if unlinkat(parent, name, 0) == 0 || errno == ENOENT { return }
    guard errno == EISDIR else { throw .last("unlinkat", name) }
    let folder = try systemCall("openat", name) {
      CLinux_openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
    }
    defer { close(folder) }
    for inner in try names(in: folder) { try remove(inner, from: folder) }
    try systemCall("unlinkat", name) { unlinkat(parent, name, Int32(AT_REMOVEDIR)) }
  }

  /// The names in an open folder, without `.` and `..`; needs no /proc.
  private static func names(in folder: Int32) throws(SystemError) -> [String] {
    // An open file description of its own: closedir(3) closes it.
    let copy = try systemCall("openat", ".") {
      CLinux_openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
    }
    guard let stream = fdopendir(copy) else {
      let error = SystemError.last("fdopendir")
      close(copy)
      throw error
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      // SAFETY: d_name is terminated by a zero within the entry, which lives until the next call.
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}

extension FileDescriptor {
  fileprivate func closeQuietly() { try? close() }
}
