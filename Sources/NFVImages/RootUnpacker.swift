internal import Archive
internal import FoundationEssentials
internal import LinuxSystem
internal import SystemPackage

/// Unpacks layers over one another into one folder.
///
/// Every path is resolved by openat2(2) with RESOLVE_IN_ROOT, so that no link of a layer leads out
/// of the folder; devices, pipes and sockets are left out, and extended attributes (file
/// capabilities among them) are never taken over. Whiteouts are applied.
struct RootUnpacker {
  private let root: FileDescriptor

  /// - Parameter root: an existing, empty folder.
  init(root path: String) throws(SystemError) {
    root = try openFile(path, .path)
  }

  func add(layer: ArchiveReader) throws {
    while let entry = try layer.next() {
      guard
        let path = safePath(entry.path.hasPrefix("/") ? String(entry.path.dropFirst()) : entry.path)
      else {
        throw ArchiveError(
          archive: "layer", entry: entry.path, message: "its path climbs out of the image")
      }
      if path.isEmpty { continue }
      let (folder, name) = Self.split(path)
      if name == ".wh..wh..opq" {
        try Confined.empty(folder, in: root)
        continue
      }
      if name.hasPrefix(".wh.") {
        try Confined.remove(folder, String(name.dropFirst(4)), in: root)
        continue
      }
      try Confined.makeFolders(folder, in: root)
      try place(entry, folder, name, from: layer)
    }
  }

  private func place(
    _ entry: ArchiveEntry, _ folder: String, _ name: String, from layer: ArchiveReader
  ) throws {
    let owner = Mount.Owner(user: entry.uid & 0xFFFF, group: entry.gid & 0xFFFF)
    switch entry.kind {
    case .directory:
      try Confined.makeFolder(folder, name, mode: entry.mode & 0o1777, owner: owner, in: root)
    case .file:
      try Confined.remove(folder, name, in: root)
      // No set-uid bits: the mount would ignore them, a copy elsewhere would not.
      let file = try Confined.makeFile(
        folder, name, mode: entry.mode & 0o777, owner: owner, in: root)
      defer { try? file.close() }
      while true {
        let piece = try layer.read()
        if piece.isEmpty { break }
        try writeAll(piece, to: file, entry.path)
      }
    case .symbolicLink(let target):
      try Confined.remove(folder, name, in: root)
      try Confined.makeLink(folder, name, to: target, owner: owner, in: root)
    case .hardLink(let target):
      guard let source = safePath(target.hasPrefix("/") ? String(target.dropFirst()) : target)
      else {
        throw ArchiveError(
          archive: "layer", entry: entry.path, message: "it is a link to a path outside the image")
      }
      try Confined.remove(folder, name, in: root)
      let (sourceFolder, sourceName) = Self.split(source)
      try Confined.hardLink((sourceFolder, sourceName), (folder, name), in: root)
    case .other: break
    }
  }

  static func split(_ path: String) -> (folder: String, name: String) {
    guard let slash = path.lastIndex(of: "/") else { return ("", path) }
    return (String(path[..<slash]), String(path[path.index(after: slash)...]))
  }
}
