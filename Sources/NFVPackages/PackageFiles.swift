public import Archive
internal import Crypto
internal import FoundationEssentials

/// A package's files: those of an archive, or of a folder that shall become one.
///
/// Small files are held, within a bound for all of them together; of all, the digests are known.
public struct PackageFiles: Sendable {
  struct File: Sendable {
    /// nil where the file is larger than what is held.
    var content: [UInt8]?
    var size: UInt64
    /// In lower-case hexadecimal digits.
    var sha256: String
    var sha512: String
  }

  /// Where the files are: an archive or a folder.
  let path: String
  let isArchive: Bool
  private(set) var files: [String: File] = [:]

  /// Descriptors, templates and scripts are small; images are read where they lie.
  private static let smallFile = 1 << 20
  /// How much of one package is held in memory: its small files together, in octets.
  public static let heldLimit = 32 << 20
  private var held = 0

  /// Reads an archive once.
  /// - Throws: where it is damaged, holds a path that climbs out, names a file twice, or unpacks to
  ///   more than the limits.
  public init(
    archive path: String, limits: ArchiveLimits = .init(entries: 10_000)
  ) throws(PackageError) {
    self.path = path
    isArchive = true
    do {
      let reader = try ArchiveReader(path: path, limits: limits)
      while let entry = try reader.next() {
        guard let name = safePath(entry.path) else {
          throw ArchiveError(
            archive: path, entry: entry.path, message: "its path climbs out of the archive")
        }
        switch entry.kind {
        case .directory: continue
        case .file: break
        default:
          throw ArchiveError(
            archive: path, entry: entry.path, message: "links and devices have no place in a CSAR")
        }
        guard files[name] == nil else {
          throw ArchiveError(archive: path, entry: name, message: "it is in the archive twice")
        }
        try add(name) { () throws(ArchiveError) in try reader.read() }
      }
      if files.isEmpty { throw ArchiveError(archive: path, message: "it holds no file") }
    } catch {
      let failure = error as? ArchiveError
      throw PackageError([
        PackageDiagnostic(
          .error, file: failure?.entry ?? "archive",
          message: failure?.message ?? String(describing: error))
      ])
    }
  }

  /// Reads a folder; names that begin with a dot are left out.
  public init(folder path: String) throws(PackageError) {
    self.path = path
    isArchive = false
    do {
      // Of a folder that is none, all files would be read first, however many there are.
      let root = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
      guard
        root.isEmpty || root.contains("TOSCA-Metadata")
          || root.contains(where: { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") })
      else { throw PackageError([.noEntry]) }
      guard let walk = FileManager.default.enumeratorOfFiles(at: path) else {
        throw PackageError([
          PackageDiagnostic(.error, file: path, message: "there is no such folder")
        ])
      }
      for name in walk {
        let handle = try FileContent(path: "\(path)/\(name)")
        try add(name) { () throws(ArchiveError) in try handle.next() }
      }
    } catch let error as PackageError {
      throw error
    } catch {
      throw PackageError([
        PackageDiagnostic(.error, file: path, message: String(describing: error))
      ])
    }
  }

  private mutating func add(
    _ name: String, _ next: () throws(ArchiveError) -> [UInt8]
  ) throws(ArchiveError) {
    var short = SHA256()
    var long = SHA512()
    var content: [UInt8] = []
    var size: UInt64 = 0
    while true {
      let piece = try next()
      if piece.isEmpty { break }
      short.update(data: piece)
      long.update(data: piece)
      size += UInt64(piece.count)
      if size <= Self.smallFile { content += piece } else { content = [] }
    }
    held += content.count
    guard held <= Self.heldLimit else {
      throw ArchiveError(
        archive: path, entry: name,
        message: "the package's files of at most 1 MiB have together more than "
          + "\(Self.heldLimit >> 20) MiB, which is the limit; put those that are no descriptors, "
          + "templates or scripts into one archive")
    }
    files[name] = File(
      content: size <= Self.smallFile ? content : nil, size: size,
      sha256: hexadecimal(short.finalize()), sha512: hexadecimal(long.finalize()))
  }

  func text(_ name: String) -> String? {
    guard let content = files[name]?.content else { return nil }
    // A byte order mark is no part of the text.
    let bytes = content.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(content.dropFirst(3)) : content
    return String(validating: bytes, as: UTF8.self)
  }

  var names: [String] { files.keys.sorted() }

  /// Copies one file of the package to a path outside it.
  func extract(_ name: String, to target: String) throws {
    if !isArchive {
      try FileManager.default.copyItem(atPath: "\(path)/\(name)", toPath: target)
      return
    }
    let reader = try ArchiveReader(path: path, limits: .init(entries: 10_000))
    while let entry = try reader.next() {
      guard safePath(entry.path) == name else { continue }
      let output = try FileOutput(path: target)
      while true {
        let piece = try reader.read()
        if piece.isEmpty { break }
        try output.write(piece)
      }
      try output.close()
      return
    }
    throw ArchiveError(archive: path, entry: name, message: "it is not in the archive")
  }
}

func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

extension FileManager {
  /// The regular files below a folder, as sorted paths relative to it; nil where it is no folder.
  func enumeratorOfFiles(at root: String) -> [String]? {
    guard let names = try? contentsOfDirectory(atPath: root) else { return nil }
    var result: [String] = []
    for name in names.sorted() where !name.hasPrefix(".") {
      let path = "\(root)/\(name)"
      if let below = enumeratorOfFiles(at: path) {
        result += below.map { "\(name)/\($0)" }
      } else {
        result.append(name)
      }
    }
    return result
  }
}
