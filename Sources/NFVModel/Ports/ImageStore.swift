/// The digest of an image's manifest, `sha256:` and 64 hexadecimal digits.
public enum ImageSubject {}
public typealias ImageDigest = Identifier<ImageSubject>

/// What an image says about running it (OCI image specification, config).
public struct ImageConfiguration: Sendable, Hashable, Codable {
  public var entrypoint: [String]
  public var command: [String]
  /// `NAME=value`.
  public var environment: [String]
  /// `uid`, `uid:gid` or a name of the image's /etc/passwd; empty is root.
  public var user: String
  public var workingDirectory: String

  public init(
    entrypoint: [String] = [], command: [String] = [], environment: [String] = [],
    user: String = "", workingDirectory: String = "/"
  ) {
    self.entrypoint = entrypoint
    self.command = command
    self.environment = environment
    self.user = user
    self.workingDirectory = workingDirectory
  }
}

/// An image that is ready to be run: unpacked, shared read-only by all its instances.
public struct PreparedImage: Sendable, Hashable {
  public var digest: ImageDigest
  /// The unpacked root file system on this host, or the folder of a virtual machine's kernel and
  /// initramfs; empty on a simulated one.
  public var root: String
  public var configuration: ImageConfiguration
  /// What has to be transferred and stored: the sum of its configuration and layers, in
  /// octets.
  public var size: UInt64
  /// What can run it; nil where that does not matter, as on a simulated host.
  public var technology: Technology?

  public init(
    digest: ImageDigest, root: String, configuration: ImageConfiguration, size: UInt64,
    technology: Technology? = nil
  ) {
    self.digest = digest
    self.root = root
    self.configuration = configuration
    self.size = size
    self.technology = technology
  }
}

/// The images of one host. Methods may block their thread; concurrent calls are allowed.
public protocol ImageStore: Sendable {
  /// The image, unpacked where it was not yet.
  /// - Throws: `notFound` where it was never imported, `exhausted` where the disk is full.
  func ensure(_ digest: ImageDigest) async throws(NFVError) -> PreparedImage

  /// Imports what a package's SwImage artifact holds: an OCI layout archive, a docker archive, a
  /// machine's image or a root file system as tar; told apart by content.
  func importArchive(at path: String) async throws(NFVError) -> ImageDigest

  /// Removes every image that is not in use.
  func removeUnused(keeping used: Set<ImageDigest>) async throws(NFVError)
}
