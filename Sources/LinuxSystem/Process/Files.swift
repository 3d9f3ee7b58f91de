internal import CLinux
internal import Glibc
public import SystemPackage

/// How to open a file; always close-on-exec, never a controlling terminal.
public enum FileAccess: Sendable {
  case read
  case write
  case readWrite
  /// Read and append, made with mode 0600 where it is missing.
  case append
  /// As `append`, without reading.
  case appendOnly
  /// A place in the file tree only (`O_PATH`).
  case path
  /// An end of a fifo that is read, opened whether or not somebody writes (fifo(7)).
  case readNonBlocking
  /// An end of a fifo that is written; ENXIO where nobody reads.
  case writeNonBlocking
}

/// `open(2)`.
public func openFile(_ path: String, _ access: FileAccess) throws(SystemError) -> FileDescriptor {
  let flags =
    switch access {
    case .read: O_RDONLY
    case .write: O_WRONLY
    case .readWrite: O_RDWR
    case .append: O_RDWR | O_APPEND | O_CREAT
    case .appendOnly: O_WRONLY | O_APPEND | O_CREAT
    case .path: CLINUX_O_PATH
    case .readNonBlocking: O_RDONLY | O_NONBLOCK
    case .writeNonBlocking: O_WRONLY | O_NONBLOCK
    }
  return FileDescriptor(
    rawValue: try systemCall("open", path) {
      CLinux_open(path, flags | O_CLOEXEC | O_NOCTTY, 0o600)
    })
}

/// The first `limit` bytes of a file.
public func readFile(_ path: String, limit: Int) throws(SystemError) -> [UInt8] {
  let descriptor = try openFile(path, .read)
  defer { try? descriptor.close() }
  return try readRange(of: descriptor, from: nil, limit: limit)
}

/// Makes the file at `path`, where it is missing, and as long as `length` where it is shorter; what is
/// added takes no room until it is written.
public func makeSparseFile(_ path: String, length: UInt64) throws(SystemError) {
  let file = try openFile(path, .append)
  defer { try? file.close() }
  guard try fileSize(file).length < length else { return }
  try systemCall("ftruncate", path) { ftruncate(file.rawValue, off_t(clamping: length)) }
}

/// Up to `limit` bytes of an open file, from `offset` or, where that is nil, from its position.
public func readRange(
  of descriptor: FileDescriptor, from offset: UInt64?, limit: Int
) throws(SystemError) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: limit)
  var used = 0
  while used < limit {
    // SAFETY: the kernel writes at most `limit - used` bytes behind the first `used`.
    let count = try systemCall("read", "descriptor \(descriptor.rawValue)") {
      bytes.withUnsafeMutableBytes { buffer in
        let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[used...])
        return if let offset {
          pread(descriptor.rawValue, rest.baseAddress, rest.count, off_t(offset) + used)
        } else {
          read(descriptor.rawValue, rest.baseAddress, rest.count)
        }
      }
    }
    if count == 0 { break }
    used += count
  }
  bytes.removeLast(limit - used)
  return bytes
}

/// What one `read(2)` brings, at most `limit` bytes.
public func readSome(
  of descriptor: FileDescriptor, limit: Int
) throws(SystemError) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: limit)
  let count = try systemCall("read", "descriptor \(descriptor.rawValue)") {
    read(descriptor.rawValue, &bytes, limit)
  }
  bytes.removeLast(limit - count)
  return bytes
}

/// Writes `text` to an existing file by one `write(2)`, as files of /proc and cgroups want it.
public func writeFile(_ path: String, _ text: String) throws(SystemError) {
  let descriptor = try openFile(path, .write)
  defer { try? descriptor.close() }
  try writeAll(Array(text.utf8), to: descriptor, path)
}

/// Writes all of `bytes`.
public func writeAll(
  _ bytes: [UInt8], to descriptor: FileDescriptor, _ subject: String = ""
) throws(SystemError) {
  var done = 0
  while done < bytes.count {
    // SAFETY: the slice is within `bytes`, which lives during the call.
    done += try systemCall("write", subject) {
      bytes.withUnsafeBytes { buffer in
        write(descriptor.rawValue, buffer.baseAddress! + done, buffer.count - done)
      }
    }
  }
}

/// Writes what is taken at once of the bytes from `offset` on.
///
/// - Returns: how many; 0 where a descriptor that does not wait takes none now.
public func writeSome(
  _ bytes: [UInt8], from offset: Int, to descriptor: FileDescriptor
) throws(SystemError) -> Int {
  do throws(SystemError) {
    // SAFETY: the slice is within `bytes`, which lives during the call.
    return try systemCall("write", "descriptor \(descriptor.rawValue)") {
      bytes.withUnsafeBytes { buffer in
        write(descriptor.rawValue, buffer.baseAddress! + offset, buffer.count - offset)
      }
    }
  } catch  where error.errno == .wouldBlock {
    return 0
  }
}

/// Says whether calls on the descriptor wait (`O_NONBLOCK`).
public func setWaiting(_ waits: Bool, _ descriptor: FileDescriptor) throws(SystemError) {
  try systemCall("fcntl F_SETFL", "descriptor \(descriptor.rawValue)") {
    let flags = CLinux_fcntl_int(descriptor.rawValue, F_GETFL, 0)
    return CLinux_fcntl_int(
      descriptor.rawValue, F_SETFL, waits ? flags & ~O_NONBLOCK : flags | O_NONBLOCK)
  }
}

/// `symlink(2)`; a link that is there already is taken.
public func makeLink(_ path: String, to target: String) throws(SystemError) {
  do throws(SystemError) {
    try systemCall("symlink", path) { symlink(target, path) }
  } catch  where error.errno == .fileExists {}
}

/// A file in memory only (`memfd_create(2)`); close-on-exec.
public func makeMemoryFile(_ name: String) throws(SystemError) -> FileDescriptor {
  // MFD_CLOEXEC
  FileDescriptor(
    rawValue: try systemCall("memfd_create", name) { CLinux_memfd_create(name, 1) })
}

/// Appends all of `source`, from its position on, within the kernel (`sendfile(2)`).
public func copyAll(
  of source: FileDescriptor, to target: FileDescriptor
) throws(SystemError) {
  var count = 1
  while count > 0 {
    count = try systemCall("sendfile") {
      CLinux_sendfile(target.rawValue, source.rawValue, 1 << 30)
    }
  }
}

/// A file's length and what it takes on its device, in bytes.
public func fileSize(
  _ descriptor: FileDescriptor
) throws(SystemError) -> (length: UInt64, allocated: UInt64) {
  var status = stat()
  try systemCall("fstat") { fstat(descriptor.rawValue, &status) }
  return (UInt64(status.st_size), UInt64(status.st_blocks) * 512)
}

/// Which file a path names, and since when it is as it is (`stat(2)`): another one, or one that was
/// written, is not equal.
public struct FileIdentity: Sendable, Hashable {
  private var device, inode: UInt64
  private var seconds, nanoseconds: Int

  public init(_ path: String) throws(SystemError) {
    var status = stat()
    try systemCall("stat", path) { stat(path, &status) }
    (device, inode) = (UInt64(status.st_dev), UInt64(status.st_ino))
    (seconds, nanoseconds) = (status.st_ctim.tv_sec, status.st_ctim.tv_nsec)
  }
}

/// Where a symbolic link points to (`readlink(2)`), at most 4,095 octets.
public func readLink(_ path: String) throws(SystemError) -> String {
  var octets = [UInt8](repeating: 0, count: 4096)
  let count = try systemCall("readlink", path) {
    octets.withUnsafeMutableBytes {
      // SAFETY: readlink(2) writes at most as many octets as the buffer has.
      readlink(path, $0.baseAddress!, $0.count)
    }
  }
  return String(decoding: octets[..<count], as: UTF8.self)
}

/// Frees the file's bytes before `offset`; its length and all offsets stay (`fallocate(2)`,
/// FALLOC_FL_PUNCH_HOLE). EOPNOTSUPP on file systems that can't.
public func punchHead(
  of descriptor: FileDescriptor, before offset: UInt64
) throws(SystemError) {
  // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
  try systemCall("fallocate") {
    CLinux_fallocate(descriptor.rawValue, 0x02 | 0x01, 0, Int64(offset))
  }
}

/// Removes a file; one that is not there is no error.
public func removeFile(_ path: String) throws(SystemError) {
  do throws(SystemError) {
    try systemCall("unlink", path) { unlink(path) }
  } catch  where error.errno == .noSuchFileOrDirectory {}
}

/// Whether `path` is on a cgroup file system of version 2.
public func isCgroup2(_ path: String) throws(SystemError) -> Bool {
  try systemCall("statfs", path) { CLinux_file_system_type(path) } == 0x6367_7270
}

/// Whether `path` is in a file system of memory, which is empty after a boot.
public func isInMemory(_ path: String) throws(SystemError) -> Bool {
  // tmpfs and ramfs (statfs(2)).
  [0x0102_1994, 0x8584_58f6].contains(
    try systemCall("statfs", path) { CLinux_file_system_type(path) })
}

/// Takes the only writer's lock on an open file without waiting (`flock(2)`).
///
/// - Returns: false where another process has it.
public func tryLock(_ descriptor: FileDescriptor) throws(SystemError) -> Bool {
  do throws(SystemError) {
    try systemCall("flock") { flock(descriptor.rawValue, LOCK_EX | LOCK_NB) }
    return true
  } catch  where error.errno == .wouldBlock {
    return false
  }
}

/// Duplicates a descriptor, close-on-exec, to a number of at least `minimum`.
public func duplicate(
  _ descriptor: FileDescriptor, atLeast minimum: Int32 = 3
) throws(SystemError) -> FileDescriptor {
  FileDescriptor(
    rawValue: try systemCall("fcntl F_DUPFD_CLOEXEC", "descriptor \(descriptor.rawValue)") {
      CLinux_fcntl_int(descriptor.rawValue, F_DUPFD_CLOEXEC, minimum)
    })
}

/// Duplicates a descriptor to the number `target`, which `execve(2)` leaves open.
public func duplicate(
  _ descriptor: FileDescriptor, to target: Int32
) throws(SystemError) {
  try SystemCalls.perform { $0.duplicate(.value(Int(descriptor.rawValue)), to: target) }
}

/// Says whether `execve(2)` closes the descriptor.
public func setCloseOnExec(
  _ closes: Bool, _ descriptor: FileDescriptor
) throws(SystemError) {
  try systemCall("fcntl F_SETFD", "descriptor \(descriptor.rawValue)") {
    CLinux_fcntl_int(descriptor.rawValue, F_SETFD, closes ? FD_CLOEXEC : 0)
  }
}

/// Makes every descriptor from `first` up close-on-exec.
public func closeOnExec(from first: UInt32) throws(SystemError) {
  try SystemCalls.perform { $0.closeDescriptors(first...UInt32.max, onExecOnly: true) }
}

/// Closes every descriptor from `first` up.
public func closeDescriptors(from first: UInt32) throws(SystemError) {
  try SystemCalls.perform { $0.closeDescriptors(first...UInt32.max) }
}

/// A pipe, both ends close-on-exec.
public func makePipe() throws(SystemError) -> (read: FileDescriptor, write: FileDescriptor) {
  var ends: [Int32] = [-1, -1]
  try systemCall("pipe2") { CLinux_pipe(&ends, O_CLOEXEC) }
  return (FileDescriptor(rawValue: ends[0]), FileDescriptor(rawValue: ends[1]))
}

/// Has a file's or folder's content on disk before it returns (`fsync(2)`).
public func synchronize(_ path: String) throws(SystemError) {
  let descriptor = try openFile(path, .read)
  defer { try? descriptor.close() }
  try systemCall("fsync", path) { fsync(descriptor.rawValue) }
}

/// Has all of the file system that holds `path` on disk before it returns (`syncfs(2)`).
public func synchronizeFileSystem(of path: String) throws(SystemError) {
  let descriptor = try openFile(path, .read)
  defer { try? descriptor.close() }
  try systemCall("syncfs", path) { CLinux_syncfs(descriptor.rawValue) }
}

/// `rename(2)`: replaces a file or an empty folder at `target`.
public func moveFile(_ source: String, to target: String) throws(SystemError) {
  try systemCall("rename", target) { rename(source, target) }
}

/// Whether there is anything at `path`; what a link at its end refers to does not matter.
public func fileExists(_ path: String) -> Bool {
  var status = stat()
  return lstat(path, &status) == 0
}
