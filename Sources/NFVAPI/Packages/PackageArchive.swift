internal import Archive
internal import HTTPTypes
internal import NFVModel
internal import NFVPackages

/// Files of an onboarded package's archive. Its calls block.
struct PackageArchive {
  let path: String

  /// Descriptors and manifests are small.
  private static let textLimit = 1 << 20
  private static let meta = "TOSCA-Metadata/TOSCA.meta"

  /// The archive's descriptor files by name, in the order of the archive.
  func descriptors() throws -> [(name: String, content: [UInt8])] {
    try files { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") }
  }

  /// The manifest (SOL004 4.3): the one that the metadata name, or the one in the root.
  func manifest() throws -> [UInt8] {
    let found = try files { $0 == Self.meta || $0.hasSuffix(".mf") }
    let named = found.first { $0.name == Self.meta }.flatMap { meta in
      String(decoding: meta.content, as: UTF8.self).split(separator: "\n")
        .first { $0.hasPrefix("ETSI-Entry-Manifest:") }
        .map { $0.drop { $0 != ":" }.dropFirst().filter { !$0.isWhitespace } }
    }
    guard let manifest = found.first(where: { $0.name != Self.meta && named ?? $0.name == $0.name })
    else {
      throw NFVError(.notFound, "the package has no manifest")
    }
    return manifest.content
  }

  /// A new archive with the descriptor files and the metadata only (SOL003 10.4.4.3.2), at `target`.
  func writeDescriptors(to target: String) throws {
    let writer = try ArchiveWriter(path: target, format: .zip)
    for file in try files({ $0 == Self.meta || $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") }) {
      try writer.add(file: file.name, content: file.content)
    }
    try writer.finish()
  }

  /// Opens the archive at one of its files.
  /// - Throws: `notFound` where it has no such file.
  func open(_ name: String) throws -> ArchiveReader {
    let reader = try ArchiveReader(path: path)
    while let entry = try reader.next() {
      if entry.kind == .file, safePath(entry.path) == name { return reader }
    }
    throw NFVError(.notFound, "the package has no artifact \(name)")
  }

  private func files(_ isWanted: (String) -> Bool) throws -> [(name: String, content: [UInt8])] {
    let reader = try ArchiveReader(path: path)
    var files: [(name: String, content: [UInt8])] = []
    var held = 0
    while let entry = try reader.next() {
      guard entry.kind == .file, let name = safePath(entry.path), isWanted(name) else { continue }
      let content = try reader.readAll(limit: Self.textLimit)
      held += content.count
      guard held <= PackageFiles.heldLimit else {
        throw NFVError(
          .tooLarge,
          "the package's descriptor files have together more than \(PackageFiles.heldLimit >> 20) "
            + "MiB; take the whole archive instead: package_content")
      }
      files.append((name, content))
    }
    return files
  }
}
