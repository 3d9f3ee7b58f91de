internal import CArchive

/// What is wrong with an archive, and where.
public struct ArchiveError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The archive's file.
  public var archive: String
  /// The entry that it is about; nil for the archive as a whole.
  public var entry: String?
  public var message: String

  public init(archive: String, entry: String? = nil, message: String) {
    self.archive = archive
    self.entry = entry
    self.message = message
  }

  public var description: String {
    entry.map { "\(archive): \($0): \(message)" } ?? "\(archive): \(message)"
  }
}

/// One entry of an archive, as the archive says; nothing of it is trustworthy.
public struct ArchiveEntry: Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    case file
    case directory
    case symbolicLink(target: String)
    case hardLink(target: String)
    /// A device, a pipe or a socket.
    case other
  }

  /// As it stands in the archive: may be absolute or climb out; see `safePath`.
  public var path: String
  public var kind: Kind
  /// Permission bits.
  public var mode: UInt32
  public var uid: UInt32
  public var gid: UInt32
  /// In octets, as the archive claims.
  public var size: UInt64
}

/// How much of an archive is read at most: what bounds a decompression bomb.
public struct ArchiveLimits: Sendable, Hashable {
  public var entries: Int
  /// Unpacked octets of all entries together.
  public var bytes: UInt64
  /// How many octets one octet of the archive may unpack to, on average; applies to what is beyond
  /// `ratioFreeBytes`, since a few small files of zeros are no bomb.
  public var ratio: UInt64

  /// Unpacked octets that are never held against `ratio`.
  public static let ratioFreeBytes: UInt64 = 16 << 20

  public init(entries: Int = 100_000, bytes: UInt64 = 4 << 30, ratio: UInt64 = 250) {
    self.entries = entries
    self.bytes = bytes
    self.ratio = ratio
  }
}

/// Reads an archive from its beginning to its end: zip, tar and its compressions, told apart by
/// content (libarchive(3)). Not to be used from two threads at once.
public final class ArchiveReader {
  private let path: String
  private let limits: ArchiveLimits
  private let handle: OpaquePointer
  private var entries = 0
  private var bytes: UInt64 = 0
  private var current: String?

  /// - Throws: where the file cannot be read or is no archive.
  public convenience init(path: String, limits: ArchiveLimits = .init()) throws(ArchiveError) {
    try self.init(path, limits) { archive_read_open_filename($0, path, 1 << 16) }
  }

  /// Reads an initramfs: cpio, perhaps compressed.
  /// - Throws: where the file cannot be read or is none.
  public convenience init(
    initramfs path: String, limits: ArchiveLimits = .init()
  ) throws(ArchiveError) {
    try self.init(path, limits, isInitramfs: true) {
      archive_read_open_filename($0, path, 1 << 16)
    }
  }

  /// Reads from an open file, which stays the caller's to close after the reader is gone.
  /// - Parameter path: what errors call it.
  public convenience init(
    descriptor: Int32, path: String, limits: ArchiveLimits = .init()
  ) throws(ArchiveError) {
    try self.init(path, limits) { archive_read_open_fd($0, descriptor, 1 << 16) }
  }

  private init(
    _ path: String, _ limits: ArchiveLimits, isInitramfs: Bool = false,
    open: (OpaquePointer) -> Int32
  ) throws(ArchiveError) {
    self.path = path
    self.limits = limits
    guard let handle = archive_read_new() else {
      throw ArchiveError(archive: path, message: "no memory is left")
    }
    self.handle = handle
    // Not `filter_all`: some of its filters start programs of the host (archive_read_filter(3)).
    archive_read_support_filter_gzip(handle)
    archive_read_support_filter_bzip2(handle)
    archive_read_support_filter_xz(handle)
    archive_read_support_filter_zstd(handle)
    if isInitramfs {
      archive_read_support_format_cpio(handle)
    } else {
      archive_read_support_format_tar(handle)
      archive_read_support_format_zip(handle)
    }
    if open(handle) != ARCHIVE_OK { throw error() }
  }

  deinit { archive_read_free(handle) }

  /// The next entry; nil at the end.
  public func next() throws(ArchiveError) -> ArchiveEntry? {
    try inUTF8 { () throws(ArchiveError) in try readHeader() }
  }

  private func readHeader() throws(ArchiveError) -> ArchiveEntry? {
    var entry: OpaquePointer?
    let code = archive_read_next_header(handle, &entry)
    if code == ARCHIVE_EOF { return nil }
    guard code >= ARCHIVE_WARN, let entry else { throw error() }
    entries += 1
    guard entries <= limits.entries else {
      throw ArchiveError(
        archive: path, message: "it has more than \(limits.entries) entries, which is the limit")
    }
    guard let name = archive_entry_pathname(entry) else {
      throw ArchiveError(archive: path, message: "an entry has no readable name")
    }
    current = String(cString: name)
    let kind: ArchiveEntry.Kind
    if let target = archive_entry_hardlink(entry) {
      kind = .hardLink(target: String(cString: target))
    } else {
      switch UInt32(archive_entry_filetype(entry)) {
      case 0o100000: kind = .file
      case 0o040000: kind = .directory
      case 0o120000:
        kind = .symbolicLink(target: archive_entry_symlink(entry).map { String(cString: $0) } ?? "")
      default: kind = .other
      }
    }
    return ArchiveEntry(
      path: String(cString: name), kind: kind, mode: UInt32(archive_entry_perm(entry)),
      uid: UInt32(truncatingIfNeeded: archive_entry_uid(entry)),
      gid: UInt32(truncatingIfNeeded: archive_entry_gid(entry)),
      size: UInt64(max(0, archive_entry_size(entry))))
  }

  /// Some more of the current entry's content; empty at its end.
  public func read(upTo count: Int = 1 << 16) throws(ArchiveError) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: count)
    let read = archive_read_data(handle, &buffer, count)
    guard read >= 0 else { throw error() }
    bytes += UInt64(read)
    guard bytes <= limits.bytes else {
      throw ArchiveError(
        archive: path, entry: current,
        message: "it unpacks to more than \(limits.bytes) octets, which is the limit")
    }
    let packed = UInt64(max(1, archive_filter_bytes(handle, -1)))
    guard bytes <= ArchiveLimits.ratioFreeBytes || bytes / packed <= limits.ratio else {
      throw ArchiveError(
        archive: path, entry: current,
        message: "it unpacks to more than \(limits.ratio) times its size, as a zip bomb does")
    }
    buffer.removeLast(count - read)
    return buffer
  }

  /// All of the current entry's content.
  /// - Throws: where it has more than `limit` octets.
  public func readAll(limit: Int) throws(ArchiveError) -> [UInt8] {
    var content: [UInt8] = []
    while true {
      let more = try read()
      if more.isEmpty { return content }
      content += more
      guard content.count <= limit else {
        throw ArchiveError(
          archive: path, entry: current, message: "it is larger than \(limit) octets")
      }
    }
  }

  private func error() -> ArchiveError {
    let text = archive_error_string(handle).map { String(cString: $0) }
    return ArchiveError(
      archive: path, entry: current,
      message: "it is damaged, or no archive (zip, tar): fetch or build it again"
        + (text.map { " (\($0))" } ?? ""))
  }
}

/// The path of an entry below the archive's root, without `.` and doubled slashes.
///
/// A path that means the root itself, such as `./`, is the empty string.
/// - Returns: nil where it is empty, absolute, climbs out or holds a zero.
public func safePath(_ path: String) -> String? {
  guard !path.isEmpty, !path.hasPrefix("/"), !path.utf8.contains(0) else { return nil }
  let parts = path.split(separator: "/").filter { $0 != "." }
  guard !parts.contains("..") else { return nil }
  return parts.joined(separator: "/")
}
