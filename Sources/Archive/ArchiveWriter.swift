internal import CArchive

/// Writes an archive whose bytes follow from what is put in: no time, no owner, in the caller's
/// order.
public final class ArchiveWriter {
  public enum Format: Sendable {
    case tar
    case tarGzip
    case zip
    /// As Linux unpacks it into its first root file system (cpio(5), newc).
    case cpio
  }

  private let path: String
  private let handle: OpaquePointer

  public init(path: String, format: Format) throws(ArchiveError) {
    self.path = path
    guard let handle = archive_write_new() else {
      throw ArchiveError(archive: path, message: "no memory is left")
    }
    self.handle = handle
    switch format {
    case .tar, .tarGzip: archive_write_set_format_pax_restricted(handle)
    case .zip: archive_write_set_format_zip(handle)
    case .cpio: archive_write_set_format_cpio_newc(handle)
    }
    if format == .tarGzip {
      archive_write_add_filter_gzip(handle)
      // Or gzip's header holds the time of writing (RFC 1952 2.3.1).
      archive_write_set_filter_option(handle, "gzip", "timestamp", nil)
    } else {
      archive_write_add_filter_none(handle)
    }
    archive_write_set_bytes_in_last_block(handle, 1)
    if archive_write_open_filename(handle, path) != ARCHIVE_OK { throw error() }
  }

  deinit { archive_write_free(handle) }

  public func add(directory name: String, mode: UInt32 = 0o755) throws(ArchiveError) {
    try header(name, type: 0o040000, mode: mode, size: 0)
  }

  public func add(file name: String, mode: UInt32 = 0o644, content: [UInt8]) throws(ArchiveError) {
    try header(name, type: 0o100000, mode: mode, size: content.count)
    try write(content)
  }

  /// Adds a file whose content comes in pieces; `size` must be its length.
  /// - Parameter next: the next piece, empty at the end.
  public func add(
    file name: String, mode: UInt32 = 0o644, size: Int,
    next: () throws(ArchiveError) -> [UInt8]
  ) throws(ArchiveError) {
    try header(name, type: 0o100000, mode: mode, size: size)
    while true {
      let piece = try next()
      if piece.isEmpty { return }
      try write(piece)
    }
  }

  public func add(symbolicLink name: String, target: String) throws(ArchiveError) {
    try header(name, type: 0o120000, mode: 0o777, size: 0, target: target)
  }

  /// Writes what is left and closes the file.
  public func finish() throws(ArchiveError) {
    if archive_write_close(handle) != ARCHIVE_OK { throw error() }
  }

  private func header(
    _ name: String, type: UInt32, mode: UInt32, size: Int, target: String? = nil
  ) throws(ArchiveError) {
    guard let entry = archive_entry_new() else { throw error() }
    defer { archive_entry_free(entry) }
    archive_entry_set_pathname(entry, name)
    archive_entry_set_filetype(entry, type)
    archive_entry_set_perm(entry, mode_t(mode))
    archive_entry_set_size(entry, Int64(size))
    // No time is set at all: zip would write it in the time zone of whoever builds.
    if let target { archive_entry_set_symlink(entry, target) }
    if inUTF8({ archive_write_header(handle, entry) }) != ARCHIVE_OK { throw error(name) }
  }

  private func write(_ content: [UInt8]) throws(ArchiveError) {
    var done = 0
    while done < content.count {
      // SAFETY: the pointer stays within `content`, which lives during the call.
      let count = content.withUnsafeBytes {
        archive_write_data(handle, $0.baseAddress! + done, $0.count - done)
      }
      guard count > 0 else { throw error() }
      done += count
    }
  }

  private func error(_ entry: String? = nil) -> ArchiveError {
    let text = archive_error_string(handle).map { String(cString: $0) }
    return ArchiveError(archive: path, entry: entry, message: text ?? "it cannot be written")
  }
}
