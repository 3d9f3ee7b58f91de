public import Archive
internal import LinuxSystem
public import SystemPackage

/// Unpacks layers over one another into one folder (OCI image specification, layer.md).
///
/// Every path is resolved by openat2(2) with RESOLVE_IN_ROOT, so that no link of a layer leads out
/// of the folder; devices, pipes and sockets are left out, set-user-ID bits and extended attributes
/// (file capabilities among them) are never taken over. Whiteouts hide what lower layers hold.
///
/// It needs neither /proc nor any file outside of the folder: `martlet-unpack` calls it where there
/// is none.
public struct RootUnpacker {
  /// The ids that a workload's user namespace has; a file of any other belongs to `nobody`.
  private static let lastUser: UInt32 = 65535
  private static let nobody: UInt32 = 65534

  private let root: FileDescriptor
  private let keepsOwners: Bool
  private let limits: ArchiveLimits
  private var entries = 0
  private var bytes: UInt64 = 0

  /// - Parameters:
  ///   - layers: open files, the lowest first; they are read from their beginning.
  ///   - folder: an existing, empty folder.
  ///   - limits: for all layers together.
  ///   - keepsOwners: whether files get the owners that the layers name, which needs privileges;
  ///     else the caller owns them, and folders are open to it.
  /// - Throws: `ArchiveError` where a layer is damaged or tries to leave the folder, `SystemError`
  ///   where the folder can't be written. What was unpacked until then stays, for the caller to
  ///   remove.
  public static func unpack(
    _ layers: [FileDescriptor], into folder: String, limits: ArchiveLimits, keepsOwners: Bool
  ) throws {
    let root = try openFile(folder, .path)
    defer { try? root.close() }
    var unpacker = RootUnpacker(root: root, keepsOwners: keepsOwners, limits: limits)
    for (index, layer) in layers.enumerated() {
      let name = "layer \(index + 1) of \(layers.count)"
      func reader() throws -> ArchiveReader {
        try layer.seek(offset: 0, from: .start)
        return try ArchiveReader(descriptor: layer.rawValue, path: name, limits: limits)
      }
      // Whiteouts are for the layers below only, wherever in this one they stand.
      if index > 0 { try unpacker.applyWhiteouts(of: try reader(), name) }
      try unpacker.add(try reader(), name)
    }
  }

  private init(root: FileDescriptor, keepsOwners: Bool, limits: ArchiveLimits) {
    self.root = root
    self.keepsOwners = keepsOwners
    self.limits = limits
  }

  private func applyWhiteouts(of layer: ArchiveReader, _ layerName: String) throws {
    while let entry = try layer.next() {
      let (folder, name) = split(try Self.inside(entry, layerName))
      guard name.hasPrefix(".wh.") else { continue }
      if name == ".wh..wh..opq" {
        try Confined.empty(folder, in: root)
        continue
      }
      let hidden = String(name.dropFirst(4))
      guard !["", ".", ".."].contains(hidden) else {
        throw ArchiveError(
          archive: layerName, entry: entry.path, message: "it is a whiteout of no name")
      }
      // Other names that begin so are kept for uses that this reader does not know.
      if !hidden.hasPrefix(".wh.") { try Confined.remove(folder, hidden, in: root) }
    }
  }

  private mutating func add(_ layer: ArchiveReader, _ layerName: String) throws {
    while let entry = try layer.next() {
      entries += 1
      guard entries <= limits.entries else {
        throw ArchiveError(
          archive: layerName,
          message: "with it the image has more than \(limits.entries) entries, which is the limit")
      }
      let path = try Self.inside(entry, layerName)
      let (folder, name) = split(path)
      if path.isEmpty || name.hasPrefix(".wh.") { continue }
      do {
        try Confined.makeFolders(folder, in: root)
        try place(entry, folder, name, from: layer, layerName)
      } catch let error as SystemError where Self.isOfTheLayer(error) {
        throw ArchiveError(
          archive: layerName, entry: entry.path, message: "it cannot be placed: \(error)")
      }
    }
  }

  private mutating func place(
    _ entry: ArchiveEntry, _ folder: String, _ name: String, from layer: ArchiveReader,
    _ layerName: String
  ) throws {
    let owner = keepsOwners ? Self.owner(of: entry) : nil
    switch entry.kind {
    case .directory:
      // Without privileges a folder can be filled, and later removed, by its owner only.
      let mode = entry.mode & 0o1777 | (keepsOwners ? 0 : 0o700)
      try Confined.makeFolder(folder, name, mode: mode, owner: owner, in: root)
    case .file:
      try Confined.remove(folder, name, in: root)
      // No set-user-ID bits: the mount would ignore them, a copy elsewhere would not.
      let file = try Confined.makeFile(
        folder, name, mode: entry.mode & 0o777, owner: owner, in: root)
      defer { try? file.close() }
      while true {
        let piece = try layer.read()
        if piece.isEmpty { break }
        bytes += UInt64(piece.count)
        guard bytes <= limits.bytes else {
          throw ArchiveError(
            archive: layerName, entry: entry.path,
            message: "with it the image unpacks to more than \(limits.bytes) octets, the limit")
        }
        try writeAll(piece, to: file, entry.path)
      }
    case .symbolicLink(let target):
      try Confined.remove(folder, name, in: root)
      try Confined.makeLink(folder, name, to: target, owner: owner, in: root)
    case .hardLink(let target):
      guard let source = safePath(target.hasPrefix("/") ? String(target.dropFirst()) : target),
        !source.isEmpty
      else {
        throw ArchiveError(
          archive: layerName, entry: entry.path,
          message: "it is a hard link to \(target), outside of the image")
      }
      let (sourceFolder, sourceName) = split(source)
      // A link to itself is there already.
      guard (sourceFolder, sourceName) != (folder, name) else { return }
      try Confined.remove(folder, name, in: root)
      try Confined.hardLink((sourceFolder, sourceName), (folder, name), in: root)
    case .other: break
    }
  }

  private static func inside(_ entry: ArchiveEntry, _ layerName: String) throws -> String {
    let relative = entry.path.hasPrefix("/") ? String(entry.path.dropFirst()) : entry.path
    guard let path = safePath(relative) else {
      throw ArchiveError(
        archive: layerName, entry: entry.path, message: "its path climbs out of the image")
    }
    return path
  }

  /// Whether a failure follows from the layer's names and links, not from the host.
  private static func isOfTheLayer(_ error: SystemError) -> Bool {
    [
      .noSuchFileOrDirectory, .notDirectory, .isDirectory, .fileExists, .fileNameTooLong,
      .tooManySymbolicLinkLevels, .notPermitted, .invalidArgument, .tooManyLinks,
    ].contains(error.errno)
  }

  private static func owner(of entry: ArchiveEntry) -> Mount.Owner {
    Mount.Owner(
      user: entry.uid > lastUser ? nobody : entry.uid,
      group: entry.gid > lastUser ? nobody : entry.gid)
  }
}

/// A path's folder, empty for the topmost one, and its last part.
func split(_ path: String) -> (folder: String, name: String) {
  guard let slash = path.lastIndex(of: "/") else { return ("", path) }
  return (String(path[..<slash]), String(path[path.index(after: slash)...]))
}
