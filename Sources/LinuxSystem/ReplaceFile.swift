internal import CLinux
internal import Glibc
internal import SystemPackage

/// Writes a file whole: whoever reads `path` sees the old content or the new one (rename(2)). Not
/// synchronised to a disk.
///
/// - Parameters:
///   - mode: permission bits.
///   - owner: nil is the caller.
public func replaceFile(
  _ path: String, _ bytes: [UInt8], mode: UInt32, owner: Mount.Owner? = nil
) throws(SystemError) {
  let draft = path + ".new"
  try removeFile(draft)
  let file = FileDescriptor(
    rawValue: try systemCall("open", draft) {
      CLinux_open(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    })
  defer { try? file.close() }
  try writeAll(bytes, to: file, draft)
  if let owner {
    try systemCall("fchown", draft) { fchown(file.rawValue, owner.user, owner.group) }
  }
  try systemCall("fchmod", draft) { fchmod(file.rawValue, mode) }
  try systemCall("rename", path) { rename(draft, path) }
}

/// Writes over a file in its place, for one that somebody has by itself, such as by a bind mount: not
/// at once, so that who reads meanwhile may see some of each content.
public func overwriteFile(_ path: String, _ bytes: [UInt8]) throws(SystemError) {
  let file = try openFile(path, .write)
  defer { try? file.close() }
  try writeAll(bytes, to: file, path)
  try systemCall("ftruncate", path) { ftruncate(file.rawValue, off_t(bytes.count)) }
}
