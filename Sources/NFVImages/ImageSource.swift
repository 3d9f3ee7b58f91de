internal import Archive
internal import FoundationEssentials
internal import LinuxSystem
internal import NFVModel
internal import SystemPackage

/// What an image is imported from: reads it once and copies its blobs aside, each under its digest.
struct ImageSource {
  var path: String
  /// The folder that the blobs are copied to.
  var work: String
  var limits: ArchiveLimits

  private static let layoutMarker = "oci-layout"
  private static let maximumIndex = 1 << 20

  /// One image of a docker archive (`docker save`), as its manifest.json says.
  private struct DockerImage: Decodable {
    var config: String
    var layers: [String]

    enum CodingKeys: String, CodingKey {
      case config = "Config"
      case layers = "Layers"
    }
  }

  /// What an archive's headers and short documents tell.
  private struct Survey {
    var isLayout = false
    var index: OCI.Index?
    var docker: [DockerImage]?
    /// Symbolic links by their path: docker archives share layers so.
    var links: [String: String] = [:]
    var entries = 0
    /// Its first entry is that of a machine's image.
    var isMachine = false
  }

  /// - Returns: an index of what was copied. Every blob's content is that of its name.
  func copy() throws(NFVError) -> OCI.Index {
    guard fileExists(path) else {
      throw NFVError(.notFound, "there is no image \(path)")
    }
    return try naming("the image \(path) cannot be read; see whether it is a whole tar archive") {
      if fileExists("\(path)/\(Self.layoutMarker)") { return try copyLayoutFolder() }
      let survey = try survey()
      if survey.isMachine { return try copyMachine() }
      if survey.isLayout { return try copyLayout(survey) }
      if let docker = survey.docker { return try copyDocker(docker, survey.links) }
      guard survey.entries > 0 else {
        throw NFVError(.unprocessable, "\(path) is no image: an archive without entries")
      }
      return try wrapRootFileSystem()
    }
  }

  private func survey() throws -> Survey {
    var survey = Survey()
    let reader = try ArchiveReader(path: path, limits: limits)
    while let entry = try reader.next() {
      survey.entries += 1
      guard let name = safePath(entry.path) else { continue }
      if survey.entries == 1, name == MachineConfiguration.fileName {
        survey.isMachine = true
        return survey
      }
      switch (entry.kind, name) {
      case (.file, Self.layoutMarker): survey.isLayout = true
      case (.file, "index.json"):
        survey.index = try? JSONDecoder().decode(
          OCI.Index.self, from: Data(try reader.readAll(limit: Self.maximumIndex)))
      case (.file, "manifest.json"):
        survey.docker = try? JSONDecoder().decode(
          [DockerImage].self, from: Data(try reader.readAll(limit: Self.maximumIndex)))
      case (.symbolicLink(let target), _):
        survey.links[name] = target
      default: break
      }
    }
    return survey
  }

  // MARK: OCI layouts (image-layout.md)

  private func copyLayout(_ survey: Survey) throws -> OCI.Index {
    guard let index = survey.index else { throw withoutIndex }
    let reader = try ArchiveReader(path: path, limits: limits)
    while let entry = try reader.next() {
      guard entry.kind == .file, let name = safePath(entry.path) else { continue }
      try copyBlob(name) { try reader.read() }
    }
    return index
  }

  private func copyLayoutFolder() throws -> OCI.Index {
    let document = try readFile("\(path)/index.json", limit: Self.maximumIndex)
    guard let index = try? JSONDecoder().decode(OCI.Index.self, from: Data(document)) else {
      throw withoutIndex
    }
    var bytes: UInt64 = 0
    for name in try listFolder("\(path)/blobs/sha256") {
      let file = try openFile("\(path)/blobs/sha256/\(name)", .read)
      defer { try? file.close() }
      bytes += try fileSize(file).length
      guard bytes <= limits.bytes else {
        throw NFVError(
          .tooLarge, "the image \(path) has more than \(limits.bytes) octets, which is the limit")
      }
      try copyBlob("blobs/sha256/\(name)") { try readSome(of: file, limit: 1 << 16) }
    }
    return index
  }

  /// Copies one file of a layout where it is a blob.
  private func copyBlob(_ name: String, _ next: () throws -> [UInt8]) throws {
    guard name.hasPrefix("blobs/sha256/"),
      let expected = try? OCI.name("sha256:" + name.dropFirst(13))
    else { return }
    guard !fileExists("\(work)/\(expected)") else {
      throw NFVError(
        .unprocessable, "\(path) has the blob \(expected.prefix(12)) twice; make it again")
    }
    let written = try writeBlob(to: "\(work)/\(expected)", next)
    guard written.digest == expected else {
      throw NFVError(
        .unprocessable,
        "the blob \(expected.prefix(12)) of \(path) has the content of another "
          + "(\(written.digest.prefix(12))); the image is damaged, make it again")
    }
  }

  private var withoutIndex: NFVError {
    NFVError(.unprocessable, "the OCI layout \(path) has no readable index.json")
  }

  // MARK: Docker archives

  private func copyDocker(_ images: [DockerImage], _ links: [String: String]) throws -> OCI.Index {
    guard let image = images.first, images.count == 1 else {
      throw NFVError(
        .unprocessable, "\(path) holds \(images.count) images; save one image in an archive")
    }
    func resolved(_ name: String) throws -> String {
      guard let target = links[name] else { return name }
      // Old versions link a layer to the same one of another: `../ID/layer.tar`.
      let folder = split(name).folder.split(separator: "/")
      var parts = folder[...]
      for part in target.split(separator: "/") {
        if part == ".." { parts = parts.dropLast() } else { parts.append(part) }
      }
      return parts.joined(separator: "/")
    }
    let config = try resolved(image.config)
    let layers = try image.layers.map(resolved)
    let wanted = Set(layers + [config])
    var found: [String: OCI.Descriptor] = [:]
    let reader = try ArchiveReader(path: path, limits: limits)
    while let entry = try reader.next() {
      guard entry.kind == .file, let name = safePath(entry.path), wanted.contains(name),
        found[name] == nil
      else { continue }
      found[name] = try takeBlob(
        name == config ? OCI.configurationType : OCI.layerType, { try reader.read() })
    }
    func part(_ name: String) throws -> OCI.Descriptor {
      guard let part = found[name] else {
        throw NFVError(
          .unprocessable, "the docker archive \(path) lacks \(name), which it names; make it again")
      }
      return part
    }
    return try index(of: try part(config), try layers.map(part))
  }

  // MARK: Virtual machines

  private func copyMachine() throws -> OCI.Index {
    let manifest = try MachineImage.copy(path, limits: limits) { next in
      let blob = try takeBlob(OCI.machineType, next)
      return (String(blob.digest.dropFirst(7)), UInt64(blob.size))
    }
    return OCI.Index(manifests: [try put(manifest, OCI.manifestType)])
  }

  // MARK: Root file systems

  /// Makes a plain root file system an image of one layer.
  private func wrapRootFileSystem() throws -> OCI.Index {
    let file = try openFile(path, .read)
    defer { try? file.close() }
    let layer = try takeBlob(OCI.layerType) { try readSome(of: file, limit: 1 << 16) }
    let image = OCI.Image(
      architecture: OCI.hostArchitecture, os: "linux", config: nil,
      rootfs: .init(diffIDs: [layer.digest]))
    return try index(of: try put(image, OCI.configurationType), [layer])
  }

  // MARK: Blobs

  private func index(
    of config: OCI.Descriptor, _ layers: [OCI.Descriptor]
  ) throws -> OCI.Index {
    OCI.Index(manifests: [
      try put(OCI.Manifest(config: config, layers: layers), OCI.manifestType)
    ])
  }

  private func put(_ value: some Encodable, _ type: String) throws -> OCI.Descriptor {
    var rest = try canonicalJSON(value)
    return try takeBlob(type) {
      defer { rest = [] }
      return rest
    }
  }

  /// Copies content whose digest is not known before.
  private func takeBlob(
    _ type: String, _ next: () throws -> [UInt8]
  ) throws -> OCI.Descriptor {
    let aside = "\(work)/part"
    let written = try writeBlob(to: aside, next)
    try moveFile(aside, to: "\(work)/\(written.digest)")
    return OCI.Descriptor(
      mediaType: type, digest: "sha256:\(written.digest)", size: Int(written.size))
  }
}
