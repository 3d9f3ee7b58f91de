/// A VNF package in the catalogue (SOL005 9.5.2.5, SOL003 10.5.2.2).
public struct VnfPackage: Sendable, Hashable, Codable, Identifiable {
  public enum OnboardingState: String, Sendable, Hashable, Codable {
    case created = "CREATED"
    case uploading = "UPLOADING"
    case processing = "PROCESSING"
    case onboarded = "ONBOARDED"
    case error = "ERROR"
  }

  public enum OperationalState: String, Sendable, Hashable, Codable {
    case enabled = "ENABLED"
    case disabled = "DISABLED"
  }

  /// What the archive held, once it was read.
  public struct Content: Sendable, Hashable, Codable {
    public var descriptor: VnfDescriptor
    /// The digest of the archive, `sha256:` and hexadecimal digits; names its file in the catalogue.
    public var digest: String
    /// In octets.
    public var size: UInt64
    /// The imported images by the artifact's path in the archive.
    public var images: [String: ImageDigest]
    /// In octets, of the images that are there.
    public var imageSizes: [String: UInt64]
    /// The package's template files by path; small, bounded when read.
    public var templates: [String: String]

    public init(
      descriptor: VnfDescriptor, digest: String, size: UInt64, images: [String: ImageDigest],
      imageSizes: [String: UInt64] = [:], templates: [String: String]
    ) {
      self.descriptor = descriptor
      self.digest = digest
      self.size = size
      self.images = images
      self.imageSizes = imageSizes
      self.templates = templates
    }
  }

  public var id: VnfPackageID
  public var tenant: TenantID
  public var createdAt: Timestamp
  public var onboarding: OnboardingState
  public var operational: OperationalState
  public var userDefinedData: [String: JSONValue]
  public var content: Content?
  public var error: NFVError?

  public init(
    id: VnfPackageID, tenant: TenantID, createdAt: Timestamp,
    userDefinedData: [String: JSONValue] = [:]
  ) {
    self.id = id
    self.tenant = tenant
    self.createdAt = createdAt
    self.onboarding = .created
    self.operational = .disabled
    self.userDefinedData = userDefinedData
  }
}
