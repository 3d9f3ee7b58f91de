internal import Archive
internal import FoundationEssentials
internal import LinuxSystem
public import NFVModel
internal import Synchronization
internal import SystemPackage

/// The images of one host, by content: blobs under their digest, and one unpacked root per image
/// that all its instances share read-only; a virtual machine's holds its kernel and initramfs.
///
/// Everything is written aside, brought to disk and renamed when it is whole, so that a crash leaves
/// only what the next start removes, and a failed import leaves the store as it was. Methods block
/// their thread. Imports and removals are serial; an image that is ready is given without waiting
/// for them.
public final class ContentStore: ImageStore, Sendable {
  /// Who unpacks layers.
  public enum Unpacker: Sendable, Hashable {
    /// The program `martlet-unpack` at this path, as a child without privileges; needs root.
    case child(String)
    /// This process, without the owners that the layers name: for whoever is not root.
    case inProcess

    /// The program beside the running one where this is root, else this process.
    public static var standard: Unpacker {
      guard ProcessAttributes.effectiveUser == 0 else { return .inProcess }
      let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
      return .child(split(program ?? "").folder + "/martlet-unpack")
    }
  }

  private let paths: StorePaths
  private let limits: ArchiveLimits
  private let unpacker: Unpacker
  /// Held while the store's files change.
  private let change = Mutex(())
  private let prepared = Mutex<[ImageDigest: PreparedImage]>([:])

  /// - Parameters:
  ///   - folder: where the images live; made where it is missing.
  ///   - maximumBytes: of one image, packed and again unpacked.
  public init(
    folder: String, maximumBytes: UInt64 = 8 << 30, unpacker: Unpacker = .standard
  ) throws(NFVError) {
    paths = StorePaths(folder: folder)
    limits = ArchiveLimits(entries: 500_000, bytes: maximumBytes)
    self.unpacker = unpacker
    let paths = paths
    try naming("the image store \(folder) cannot be made; see who may write there") {
      for name in [paths.blobs, paths.roots] {
        try FileManager.default.createDirectory(
          atPath: name, withIntermediateDirectories: true,
          attributes: [.posixPermissions: 0o711])
      }
      // What an import left behind when it was cut off.
      try removeTree(paths.temporary)
      try Mount.makeDirectory(paths.temporary, mode: 0o700)
    }
  }

  // MARK: ImageStore

  public func ensure(_ digest: ImageDigest) async throws(NFVError) -> PreparedImage {
    if let image = prepared.withLock({ $0[digest] }) { return image }
    let image = try StoredImage(digest.rawValue, in: [paths.blobs])
    let root = paths.root(image.name)
    // A root appears when it is whole, so that a restarted daemon need not wait for an import.
    if fileExists(root) { return keep(image) }
    return try change.withLock { _ throws(NFVError) in
      if fileExists(root) { return keep(image) }
      let work = try makeWork()
      defer { try? removeTree(work) }
      try unpack(image, in: work)
      try naming("the image \(digest) cannot be kept") {
        try moveFile("\(work)/root", to: root)
        try synchronize(paths.roots)
      }
      return keep(image)
    }
  }

  /// Imports an OCI layout (a folder or an archive), a docker archive, a machine's image or a root
  /// file system as tar; told apart by content. Archives may be compressed by gzip, bzip2, xz or zstd.
  ///
  /// - Returns: the digest of its manifest for this host's architecture; the same for an image that
  ///   is there already.
  public func importArchive(at path: String) async throws(NFVError) -> ImageDigest {
    try change.withLock { _ throws(NFVError) in
      let work = try makeWork()
      defer { try? removeTree(work) }
      let copied = try ImageSource(path: path, work: work, limits: limits).copy()
      let image = try StoredImage(
        for: OCI.hostArchitecture, of: copied, in: [work, paths.blobs], source: path)
      let isUnpacked = fileExists(paths.root(image.name))
      // Before anything is kept: a layer that cannot be unpacked makes no image.
      if !isUnpacked { try unpack(image, in: work) }
      try naming("the image \(path) cannot be kept") {
        // The manifest comes last: an image whose manifest is there is whole.
        for name in image.blobs.reversed() where !fileExists("\(paths.blobs)/\(name)") {
          try moveFile("\(work)/\(name)", to: "\(paths.blobs)/\(name)")
        }
        if !isUnpacked { try moveFile("\(work)/root", to: paths.root(image.name)) }
        try synchronize(paths.blobs)
        try synchronize(paths.roots)
      }
      return keep(image).digest
    }
  }

  public func removeUnused(keeping used: Set<ImageDigest>) async throws(NFVError) {
    try change.withLock { _ throws(NFVError) in
      prepared.withLock { images in images = images.filter { used.contains($0.key) } }
      var blobs: Set<String> = []
      var roots: Set<String> = []
      for digest in used {
        guard let image = try? StoredImage(digest.rawValue, in: [paths.blobs]) else { continue }
        blobs.formUnion(image.blobs)
        roots.insert(image.name)
      }
      let work = try makeWork()
      defer { try? removeTree(work) }
      try naming("unused images cannot be removed from \(paths.folder)") {
        for (folder, kept) in [(paths.roots, roots), (paths.blobs, blobs)] {
          for name in try listFolder(folder) where !kept.contains(name) {
            // Away in one step: half a root would be taken for a whole one after a crash.
            try moveFile("\(folder)/\(name)", to: "\(work)/\(name)")
            try removeTree("\(work)/\(name)")
          }
        }
      }
    }
  }

  // MARK: Parts

  private func keep(_ image: StoredImage) -> PreparedImage {
    let configuration = image.configuration
    let result = PreparedImage(
      digest: ImageDigest("sha256:\(image.name)"), root: paths.root(image.name),
      configuration: ImageConfiguration(
        entrypoint: configuration?.entrypoint ?? [], command: configuration?.command ?? [],
        environment: configuration?.environment ?? [], user: configuration?.user ?? "",
        workingDirectory: configuration?.workingDirectory.flatMap { $0.isEmpty ? nil : $0 }
          ?? "/"),
      size: image.size, technology: image.technology)
    prepared.withLock { $0[result.digest] = result }
    return result
  }

  private func makeWork() throws(NFVError) -> String {
    let work = "\(paths.temporary)/\(UInt64.random(in: 0 ..< .max))"
    try naming("the image store \(paths.folder) cannot be written") {
      try Mount.makeDirectory(work, mode: 0o700)
    }
    return work
  }

  /// Fills `work/root`; it is on disk when this returns.
  private func unpack(_ image: StoredImage, in work: String) throws(NFVError) {
    let root = "\(work)/root"
    let layers = image.layers.map { name in
      [work, paths.blobs].map { "\($0)/\(name)" }.first(where: fileExists) ?? name
    }
    try naming("the image cannot be unpacked") {
      try Mount.makeDirectory(root, mode: 0o755)
      switch unpacker {
      case _ where image.technology != .container:
        let configuration = [work, paths.blobs].map { "\($0)/\(image.blobs[1])" }
          .first(where: fileExists)
        try MachineImage.prepare([configuration ?? image.blobs[1]] + layers, in: root)
      case .child(let program):
        guard fileExists(program) else {
          throw NFVError(
            .unavailable,
            "the program \(program), which unpacks images, is missing; install Martlet again")
        }
        try UnpackRequest(root: root, layers: layers, limits: limits).run(program)
      case .inProcess:
        var files: [FileDescriptor] = []
        defer { for file in files { try? file.close() } }
        for layer in layers { files.append(try openFile(layer, .read)) }
        try RootUnpacker.unpack(files, into: root, limits: limits, keepsOwners: false)
      }
      try synchronizeFileSystem(of: root)
    }
  }
}

/// Where the store keeps what.
private struct StorePaths {
  var folder: String
  var blobs: String { folder + "/blobs/sha256" }
  var roots: String { folder + "/roots" }
  var temporary: String { folder + "/tmp" }

  func root(_ name: String) -> String { "\(roots)/\(name)" }
}
