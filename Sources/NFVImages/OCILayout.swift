/// The parts of the OCI image specification that Martlet reads and writes.
enum OCI {
  struct Descriptor: Codable, Hashable {
    struct Platform: Codable, Hashable {
      var architecture: String
      var os: String
    }
    var mediaType: String
    var digest: String
    var size: Int
    var platform: Platform?
    var annotations: [String: String]?
  }

  struct Index: Codable {
    var schemaVersion = 2
    var mediaType: String? = "application/vnd.oci.image.index.v1+json"
    var manifests: [Descriptor]
  }

  struct Manifest: Codable {
    var schemaVersion = 2
    var mediaType: String? = manifestType
    var config: Descriptor
    var layers: [Descriptor]
  }

  struct Image: Codable {
    struct Configuration: Codable {
      var user: String?
      var environment: [String]?
      var entrypoint: [String]?
      var command: [String]?
      var workingDirectory: String?

      enum CodingKeys: String, CodingKey {
        case user = "User"
        case environment = "Env"
        case entrypoint = "Entrypoint"
        case command = "Cmd"
        case workingDirectory = "WorkingDir"
      }
    }
    struct RootFileSystem: Codable {
      var type = "layers"
      var diffIDs: [String]

      enum CodingKeys: String, CodingKey {
        case type
        case diffIDs = "diff_ids"
      }
    }
    var architecture: String
    var os: String
    var config: Configuration?
    var rootfs: RootFileSystem
  }

  static let manifestType = "application/vnd.oci.image.manifest.v1+json"
  static let configurationType = "application/vnd.oci.image.config.v1+json"
  static let layerType = "application/vnd.oci.image.layer.v1.tar"

  /// The architecture of this program, in OCI's (Go's) words.
  static var hostArchitecture: String {
    #if arch(x86_64)
      "amd64"
    #elseif arch(arm64)
      "arm64"
    #else
      #error("name this architecture as OCI does")
    #endif
  }
}
