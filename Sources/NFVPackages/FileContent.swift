internal import Archive
internal import Glibc

/// A file of the host that is read in pieces.
final class FileContent {
  private let path: String
  private let file: UnsafeMutablePointer<FILE>

  init(path: String) throws(ArchiveError) {
    guard let file = fopen(path, "rbe") else {
      throw ArchiveError(archive: path, message: String(cString: strerror(errno)))
    }
    self.path = path
    self.file = file
  }

  deinit { fclose(file) }

  /// The next piece; empty at the end.
  func next() throws(ArchiveError) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = fread(&buffer, 1, buffer.count, file)
    if count == 0, ferror(file) != 0 {
      throw ArchiveError(archive: path, message: "it cannot be read")
    }
    buffer.removeLast(buffer.count - count)
    return buffer
  }

  var size: Int {
    var status = stat()
    return fstat(fileno(file), &status) == 0 ? Int(status.st_size) : 0
  }
}

/// A new file of the host that is written in pieces.
final class FileOutput {
  private let path: String
  private var file: UnsafeMutablePointer<FILE>?

  init(path: String) throws(ArchiveError) {
    guard let file = fopen(path, "wbxe") else {
      throw ArchiveError(archive: path, message: String(cString: strerror(errno)))
    }
    self.path = path
    self.file = file
  }

  deinit { if let file { fclose(file) } }

  func write(_ bytes: [UInt8]) throws(ArchiveError) {
    guard let file, fwrite(bytes, 1, bytes.count, file) == bytes.count else {
      throw ArchiveError(archive: path, message: String(cString: strerror(errno)))
    }
  }

  func close() throws(ArchiveError) {
    guard let file else { return }
    self.file = nil
    guard fclose(file) == 0 else {
      throw ArchiveError(archive: path, message: String(cString: strerror(errno)))
    }
  }
}
