internal import Archive
internal import Crypto
internal import FoundationEssentials
internal import LinuxSystem
public import NFVModel
internal import Synchronization
internal import SystemPackage

/// The images of one host, by content: blobs under their digest, and one unpacked root per image
/// that all its instances share read-only.
///
/// Everything is written aside and renamed when it is whole, so that a crash leaves only what the
/// next start removes. Methods block their thread; imports are serial.
public final class ContentStore: ImageStore, Sendable {
  private let folder: String
  private let limits: ArchiveLimits
  private let lock = Mutex<[ImageDigest: PreparedImage]>([:])

  /// - Parameter folder: where the images live; made where it is missing.
  public init(folder: String, maximumBytes: UInt64 = 8 << 30) throws(NFVError) {
    self.folder = folder
    limits = ArchiveLimits(entries: 500_000, bytes: maximumBytes)
    try Self.files("the image store \(folder) cannot be made") {
      let manager = FileManager.default
      // What an import left behind when it was cut off.
      if manager.fileExists(atPath: folder + "/tmp") {
        try manager.removeItem(atPath: folder + "/tmp")
      }
      for name in ["tmp", "blobs/sha256", "roots"] {
        try manager.createDirectory(
          atPath: "\(folder)/\(name)", withIntermediateDirectories: true,
          attributes: [.posixPermissions: 0o711])
      }
    }
  }

  // MARK: ImageStore

  public func ensure(_ digest: ImageDigest) async throws(NFVError) -> PreparedImage {
    try lock.withLock { prepared throws(NFVError) in
      if let image = prepared[digest] { return image }
      let manifest: OCI.Manifest = try decode(digest.rawValue, "manifest")
      let image: OCI.Image = try decode(manifest.config.digest, "configuration")
      let root = "\(folder)/roots/\(Self.hex(digest.rawValue))"
      if !FileManager.default.fileExists(atPath: root) {
        try unpack(manifest.layers.map(\.digest), to: root)
      }
      let configuration = image.config
      let result = PreparedImage(
        digest: digest, root: root,
        configuration: ImageConfiguration(
          entrypoint: configuration?.entrypoint ?? [], command: configuration?.command ?? [],
          environment: configuration?.environment ?? [], user: configuration?.user ?? "",
          workingDirectory: configuration?.workingDirectory.flatMap { $0.isEmpty ? nil : $0 }
            ?? "/"),
        size: UInt64(
          manifest.config.size + manifest.layers.reduce(0) { $0 + $1.size }))
      prepared[digest] = result
      return result
    }
  }

  public func importArchive(at path: String) async throws(NFVError) -> ImageDigest {
    try lock.withLock { _ throws(NFVError) in
      let work = "\(folder)/tmp/\(UInt64.random(in: 0 ..< .max))"
      try Self.files("the image cannot be imported") {
        try FileManager.default.createDirectory(
          atPath: work, withIntermediateDirectories: true)
      }
      defer { try? FileManager.default.removeItem(atPath: work) }
      let kind = try copyBlobs(of: path, to: work)
      switch kind {
      case .layout(let index): return try adopt(index, from: work)
      case .rootFileSystem: return try wrap(path, in: work)
      }
    }
  }

  public func removeUnused(keeping used: Set<ImageDigest>) async throws(NFVError) {
    try lock.withLock { prepared throws(NFVError) in
      var blobs: Set<String> = []
      for digest in used {
        guard let manifest: OCI.Manifest = try? decode(digest.rawValue, "manifest") else {
          continue
        }
        blobs.formUnion([Self.hex(digest.rawValue), Self.hex(manifest.config.digest)])
        blobs.formUnion(manifest.layers.map { Self.hex($0.digest) })
      }
      let roots = Set(used.map { Self.hex($0.rawValue) })
      try Self.files("unused images cannot be removed from \(folder)") {
        let manager = FileManager.default
        for (sub, kept) in [("roots", roots), ("blobs/sha256", blobs)] {
          for name in try manager.contentsOfDirectory(atPath: "\(folder)/\(sub)")
          where !kept.contains(name) {
            try manager.removeItem(atPath: "\(folder)/\(sub)/\(name)")
          }
        }
      }
      prepared = prepared.filter { used.contains($0.key) }
    }
  }

  // MARK: Import

  private enum Kind {
    case layout(OCI.Index)
    case rootFileSystem
  }

  /// Copies an OCI layout's blobs aside, each checked against its name.
  private func copyBlobs(of path: String, to work: String) throws(NFVError) -> Kind {
    var index: OCI.Index?
    var hasLayout = false
    try Self.archive {
      let reader = try ArchiveReader(path: path, limits: limits)
      while let entry = try reader.next() {
        guard entry.kind == .file, let name = safePath(entry.path) else { continue }
        if name == "oci-layout" {
          hasLayout = true
        } else if name == "index.json" {
          index = try JSONDecoder().decode(
            OCI.Index.self, from: Data(try reader.readAll(limit: 1 << 20)))
        } else if name.hasPrefix("blobs/sha256/") {
          let expected = String(name.dropFirst(13))
          guard expected.utf8.count == 64, expected.allSatisfy(\.isHexDigit) else { continue }
          let target = "\(work)/\(expected)"
          let digest = try Self.write(to: target) { try reader.read() }
          guard digest == expected else {
            throw NFVError(
              .unprocessable,
              "the blob \(expected.prefix(12)) of \(path) has the content of another "
                + "(\(digest.prefix(12))); the archive is damaged, make it again")
          }
        } else if name == "manifest.json" {
          hasLayout = hasLayout || false
        }
      }
    }
    guard hasLayout else { return .rootFileSystem }
    guard let index else {
      throw NFVError(.unprocessable, "the OCI layout \(path) has no index.json")
    }
    return .layout(index)
  }

  private func adopt(_ index: OCI.Index, from work: String) throws(NFVError) -> ImageDigest {
    let candidates = index.manifests.filter { !$0.mediaType.contains("index") }
    let architecture = OCI.hostArchitecture
    guard
      let chosen = candidates.first(where: {
        $0.platform == nil || $0.platform?.architecture == architecture
      })
    else {
      let others = candidates.compactMap { $0.platform?.architecture }.joined(separator: ", ")
      throw NFVError(
        .unprocessable, "the image is for \(others), this host is \(architecture)")
    }
    let manifest: OCI.Manifest = try decode(chosen.digest, "manifest", in: work)
    let image: OCI.Image = try decode(manifest.config.digest, "configuration", in: work)
    guard image.architecture == architecture, image.os == "linux" else {
      throw NFVError(
        .unprocessable,
        "the image is for \(image.os)/\(image.architecture), this host is linux/\(architecture)")
    }
    let digests = [chosen.digest, manifest.config.digest] + manifest.layers.map(\.digest)
    for digest in digests {
      let name = Self.hex(digest)
      let target = "\(folder)/blobs/sha256/\(name)"
      if FileManager.default.fileExists(atPath: target) { continue }
      try Self.files("the blob \(name.prefix(12)) is missing from the image") {
        try FileManager.default.moveItem(atPath: "\(work)/\(name)", toPath: target)
      }
    }
    return ImageDigest(chosen.digest)
  }

  /// Makes a plain root file system an image of one layer.
  private func wrap(_ path: String, in work: String) throws(NFVError) -> ImageDigest {
    var isEmpty = true
    try Self.archive {
      let reader = try ArchiveReader(path: path, limits: limits)
      while try reader.next() != nil { isEmpty = false }
    }
    guard !isEmpty else {
      throw NFVError(.unprocessable, "\(path) is no image: an archive without entries")
    }
    let layer = "\(work)/layer"
    var digest = ""
    var size = 0
    try Self.archive {
      let source = try openFile(path, .read)
      defer { try? source.close() }
      digest = try Self.write(to: layer) {
        let bytes = try readSome(of: source, limit: 1 << 16)
        size += bytes.count
        return bytes
      }
    }
    try Self.files("the layer of \(path) cannot be kept") {
      try FileManager.default.moveItem(atPath: layer, toPath: "\(work)/\(digest)")
    }
    let descriptor = OCI.Descriptor(
      mediaType: OCI.layerType, digest: "sha256:\(digest)", size: size)
    let image = OCI.Image(
      architecture: OCI.hostArchitecture, os: "linux", config: nil,
      rootfs: .init(diffIDs: [descriptor.digest]))
    let config = try put(image, "application/vnd.oci.image.config.v1+json", in: work)
    let manifest = try put(
      OCI.Manifest(config: config, layers: [descriptor]),
      "application/vnd.oci.image.manifest.v1+json", in: work)
    return try adopt(OCI.Index(manifests: [manifest]), from: work)
  }

  private func put(
    _ value: some Encodable, _ type: String, in work: String
  ) throws(NFVError) -> OCI.Descriptor {
    let bytes = try canonicalJSON(value)
    let digest = sha256(bytes)
    try Self.files("the image cannot be written") {
      try Data(bytes).write(to: URL(filePath: "\(work)/\(digest)"))
    }
    return OCI.Descriptor(mediaType: type, digest: "sha256:\(digest)", size: bytes.count)
  }

  // MARK: Unpacking

  private func unpack(_ layers: [String], to root: String) throws(NFVError) {
    let work = "\(folder)/tmp/\(UInt64.random(in: 0 ..< .max))"
    defer { try? FileManager.default.removeItem(atPath: work) }
    try Self.archive {
      try FileManager.default.createDirectory(
        atPath: work, withIntermediateDirectories: true,
        attributes: [.posixPermissions: 0o755])
      let unpacker = try RootUnpacker(root: work)
      for layer in layers {
        let path = "\(folder)/blobs/sha256/\(Self.hex(layer))"
        try unpacker.add(layer: try ArchiveReader(path: path, limits: limits))
      }
    }
    try Self.files("the image cannot be unpacked") {
      try FileManager.default.moveItem(atPath: work, toPath: root)
    }
  }

  // MARK: Blobs

  private func decode<Value: Decodable>(
    _ digest: String, _ what: String, in work: String? = nil
  ) throws(NFVError) -> Value {
    let name = Self.hex(digest)
    let paths = [work.map { "\($0)/\(name)" }, "\(folder)/blobs/sha256/\(name)"].compactMap(\.self)
    guard let path = paths.first(where: FileManager.default.fileExists(atPath:)) else {
      throw NFVError(.notFound, "the image's \(what) \(digest) is not in the store; import it")
    }
    do {
      let bytes = try readFile(path, limit: 4 << 20)
      return try JSONDecoder().decode(Value.self, from: Data(bytes))
    } catch {
      throw NFVError(.unprocessable, "the image's \(what) \(digest) cannot be read", cause: error)
    }
  }

  private static func hex(_ digest: String) -> String {
    let hex = digest.hasPrefix("sha256:") ? String(digest.dropFirst(7)) : digest
    // What is no digest names no file.
    return hex.utf8.count == 64 && hex.allSatisfy(\.isHexDigit) ? hex : "none"
  }

  /// Writes pieces to a new file and gives their digest.
  private static func write(
    to path: String, _ next: () throws -> [UInt8]
  ) throws -> String {
    let file = try openFile(path, .append)
    defer { try? file.close() }
    var hash = SHA256()
    while true {
      let piece = try next()
      if piece.isEmpty { break }
      hash.update(data: piece)
      try writeAll(piece, to: file, path)
    }
    return hash.finalize().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  private static func files(_ message: String, _ body: () throws -> Void) throws(NFVError) {
    do {
      try body()
    } catch let error as NFVError {
      throw error
    } catch {
      throw imageError(error, message)
    }
  }

  private static func archive(_ body: () throws -> Void) throws(NFVError) {
    try files("the image cannot be read", body)
  }
}

func imageError(_ error: any Error, _ message: String) -> NFVError {
  if let error = error as? SystemError, error.errno == .noSpace {
    return NFVError(.exhausted, "the disk is full; free some space and try again", cause: error)
  }
  if let error = error as? CocoaError, error.code == .fileWriteOutOfSpace {
    return NFVError(.exhausted, "the disk is full; free some space and try again", cause: error)
  }
  if error is ArchiveError { return NFVError(.unprocessable, message, cause: error) }
  return NFVError(.failed, message, cause: error)
}

func sha256(_ bytes: [UInt8]) -> String {
  SHA256.hash(data: bytes).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
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
