internal import Archive
internal import Crypto
internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import NFVModel
internal import SystemPackage

/// Writes pieces to a new file, until an empty one; it is on disk when this returns.
/// - Throws: where the file is there already, or what `next` throws.
func writeBlob(
  to path: String, _ next: () throws -> [UInt8]
) throws -> (digest: String, size: UInt64) {
  let file = try FileDescriptor.open(
    path, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
    permissions: FilePermissions(rawValue: 0o644))
  defer { try? file.close() }
  var hash = SHA256()
  var size: UInt64 = 0
  while true {
    let piece = try next()
    if piece.isEmpty { break }
    hash.update(data: piece)
    size += UInt64(piece.count)
    try writeAll(piece, to: file, path)
  }
  try systemCall("fsync", path) { fsync(file.rawValue) }
  return (hexadecimal(hash.finalize()), size)
}

func sha256(_ bytes: [UInt8]) -> String { hexadecimal(SHA256.hash(data: bytes)) }

private func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

/// JSON with sorted keys: the same value, the same bytes, the same digest.
func canonicalJSON(_ value: some Encodable) throws(NFVError) -> [UInt8] {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  do {
    return Array(try encoder.encode(value))
  } catch {
    throw NFVError(.failed, "JSON cannot be written", cause: error)
  }
}

/// Removes a file or a folder with all that is in it, following no link; nothing there is no error.
func removeTree(_ path: String) throws(SystemError) {
  let (folder, name) = split(path)
  let parent = try openFile(folder.isEmpty ? "/" : folder, .path)
  defer { try? parent.close() }
  try Confined.remove("", name, in: parent)
}

/// Turns whatever `body` throws into an `NFVError`, with `message` where it is none yet.
func naming<Value>(_ message: String, _ body: () throws -> Value) throws(NFVError) -> Value {
  do {
    return try body()
  } catch {
    throw imageError(error, message)
  }
}

func imageError(_ error: any Error, _ message: String) -> NFVError {
  if let error = error as? NFVError { return error }
  if isDiskFull(error) || (error as? CocoaError)?.code == .fileWriteOutOfSpace {
    return NFVError(
      .exhausted, "\(message): the disk is full; free some space and try again", cause: error)
  }
  if error is ArchiveError { return NFVError(.unprocessable, message, cause: error) }
  return NFVError(.failed, message, cause: error)
}
