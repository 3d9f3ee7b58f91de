internal import FoundationEssentials
internal import LinuxSystem
internal import NFVModel
internal import SystemPackage

/// An image's manifest and configuration, read from its blobs and checked.
struct StoredImage {
  private static let maximumLayers = 127
  private static let maximumDocument = 4 << 20

  /// The manifest's digest, hexadecimal.
  let name: String
  /// The digests of what it consists of, hexadecimal: the manifest, its configuration, its layers.
  let blobs: [String]
  let configuration: OCI.Image.Configuration?
  let technology: Technology
  /// Of the configuration and the layers, in octets.
  let size: UInt64

  var layers: ArraySlice<String> { blobs.dropFirst(2) }

  /// The image of a manifest.
  /// - Parameter folders: where blobs are looked for, in order.
  init(_ digest: String, in folders: [String]) throws(NFVError) {
    let manifest: OCI.Manifest = try Self.decode(digest, "manifest", in: folders)
    if manifest.config.mediaType == OCI.machineType {
      try self.init(machine: digest, manifest, in: folders)
    } else {
      let image: OCI.Image = try Self.decode(manifest.config.digest, "configuration", in: folders)
      try self.init(digest, manifest, image.config, in: folders)
    }
  }

  /// The image of an index that is for an architecture.
  /// - Parameter source: what errors call it.
  init(
    for architecture: String, of index: OCI.Index, in folders: [String], source: String
  ) throws(NFVError) {
    var others: [String] = []
    for descriptor in try Self.manifests(of: index, in: folders, depth: 0) {
      if let platform = descriptor.platform,
        platform.os != "linux" || platform.architecture != architecture
      {
        // What accompanies images, such as attestations, is for `unknown/unknown`.
        if platform.os != "unknown" { others.append("\(platform.os)/\(platform.architecture)") }
        continue
      }
      let manifest: OCI.Manifest = try Self.decode(descriptor.digest, "manifest", in: folders)
      if manifest.config.mediaType == OCI.machineType {
        try self.init(machine: descriptor.digest, manifest, in: folders)
        return
      }
      let image: OCI.Image = try Self.decode(manifest.config.digest, "configuration", in: folders)
      guard image.os == "linux", image.architecture == architecture else {
        others.append("\(image.os)/\(image.architecture)")
        continue
      }
      try self.init(descriptor.digest, manifest, image.config, in: folders)
      return
    }
    guard !others.isEmpty else {
      throw NFVError(.unprocessable, "\(source) holds no image; its index is empty")
    }
    throw NFVError(
      .unprocessable,
      "the image \(source) is for \(others.joined(separator: ", ")), this host is "
        + "linux/\(architecture); get it for this architecture")
  }

  private init(
    machine digest: String, _ manifest: OCI.Manifest, in folders: [String]
  ) throws(NFVError) {
    let path = try Self.path(of: try OCI.name(manifest.config.digest), "configuration", in: folders)
    let bytes = try naming("the image's configuration cannot be read") {
      try readFile(path, limit: Self.maximumDocument)
    }
    let machine = try MachineImage.configuration(bytes, digest)
    let hasInitramfs = MachineConfiguration.hasInitramfs(machine.technology)
    guard manifest.layers.count == (hasInitramfs ? 2 : 1) else {
      throw NFVError(
        .unprocessable,
        "the \(machine.technology.rawValue) image \(digest) has other parts than it should")
    }
    try self.init(
      digest, manifest,
      OCI.Image.Configuration(
        environment: machine.environment, entrypoint: machine.entrypoint,
        workingDirectory: machine.workingDirectory), technology: machine.technology, in: folders)
  }

  private init(
    _ digest: String, _ manifest: OCI.Manifest, _ configuration: OCI.Image.Configuration?,
    technology: Technology = .container, in folders: [String]
  ) throws(NFVError) {
    guard manifest.layers.count <= Self.maximumLayers else {
      throw NFVError(
        .unprocessable,
        "the image has \(manifest.layers.count) layers; at most \(Self.maximumLayers) are taken")
    }
    var blobs = [try OCI.name(digest)]
    var size: UInt64 = 0
    for blob in [manifest.config] + manifest.layers {
      let name = try OCI.name(blob.digest)
      let path = try Self.path(of: name, "blob", in: folders)
      let length: UInt64
      do throws(SystemError) {
        let file = try openFile(path, .read)
        defer { try? file.close() }
        length = try fileSize(file).length
      } catch {
        throw imageError(error, "the image's blob sha256:\(name.prefix(12)) cannot be read")
      }
      guard Int64(exactly: length) == Int64(blob.size) else {
        throw NFVError(
          .unprocessable,
          "the image's blob sha256:\(name.prefix(12)) has \(length) octets, its manifest says "
            + "\(blob.size); the image is damaged, make it again")
      }
      blobs.append(name)
      size += length
    }
    for layer in manifest.layers
    where technology == .container
      && (!layer.mediaType.contains("tar") || layer.mediaType.contains("encrypted"))
    {
      throw NFVError(
        .unprocessable,
        "the image has a layer of the type \(layer.mediaType); only tar archives are taken")
    }
    name = blobs[0]
    self.blobs = blobs
    self.configuration = configuration
    self.technology = technology
    self.size = size
  }

  /// The manifests of an index and of the indexes in it.
  private static func manifests(
    of index: OCI.Index, in folders: [String], depth: Int
  ) throws(NFVError) -> [OCI.Descriptor] {
    guard depth < 4, index.manifests.count <= 1000 else {
      throw NFVError(.unprocessable, "the image's index is too large or too deep")
    }
    var result: [OCI.Descriptor] = []
    for descriptor in index.manifests {
      if descriptor.mediaType.contains("index") || descriptor.mediaType.contains("list") {
        let inner: OCI.Index = try decode(descriptor.digest, "index", in: folders)
        result += try manifests(of: inner, in: folders, depth: depth + 1)
      } else {
        result.append(descriptor)
      }
    }
    return result
  }

  private static func path(
    of name: String, _ what: String, in folders: [String]
  ) throws(NFVError) -> String {
    guard let path = folders.map({ "\($0)/\(name)" }).first(where: fileExists) else {
      throw NFVError(
        .notFound, "the image's \(what) sha256:\(name) is not there; import the image again")
    }
    return path
  }

  private static func decode<Value: Decodable>(
    _ digest: String, _ what: String, in folders: [String]
  ) throws(NFVError) -> Value {
    let path = try path(of: try OCI.name(digest), what, in: folders)
    do {
      let bytes = try readFile(path, limit: maximumDocument)
      return try JSONDecoder().decode(Value.self, from: Data(bytes))
    } catch {
      throw NFVError(.unprocessable, "the image's \(what) \(digest) cannot be read", cause: error)
    }
  }
}

extension OCI {
  /// The hexadecimal part of a digest, which names its file.
  static func name(_ digest: String) throws(NFVError) -> String {
    let name = digest.utf8.dropFirst(7)
    guard digest.hasPrefix("sha256:"), name.count == 64,
      name.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
    else {
      throw NFVError(
        .unprocessable, "\(digest.prefix(80)) is no digest as sha256: and 64 hexadecimal digits")
    }
    return String(Substring(name))
  }
}
