import Archive
import FoundationEssentials
import Glibc
import LinuxSystem
import NFVModel
import TestSupport
import Testing

@testable import NFVImages

extension TemporaryFolder {
  /// A store in this folder.
  func store(
    maximumBytes: UInt64 = 1 << 30, unpacker: ContentStore.Unpacker = .test
  ) throws -> ContentStore {
    try ContentStore(
      folder: path + "/store", maximumBytes: maximumBytes, unpacker: unpacker)
  }

  /// That a failed import left nothing.
  func expectEmptyStore(sourceLocation: SourceLocation = #_sourceLocation) throws {
    for sub in ["store/blobs/sha256", "store/roots", "store/tmp"] {
      #expect(try names(sub) == [], sourceLocation: sourceLocation)
    }
  }
}

extension ContentStore.Unpacker {
  static let child = ContentStore.Unpacker.child(Built.program("martlet-unpack"))

  static let test = geteuid() == 0 ? child : .inProcess
  static let all: [ContentStore.Unpacker] =
    Facility.root.isThere ? [.inProcess, child] : [.inProcess]
}

/// A tar archive by hand, for what no writer of ours writes (tar(5), ustar).
struct Tar {
  enum Kind: String {
    case file = "0"
    case hardLink = "1"
    case symbolicLink = "2"
    case characterDevice = "3"
    case directory = "5"
    case pipe = "6"
  }

  private var content: [UInt8] = []

  var bytes: [UInt8] { content + [UInt8](repeating: 0, count: 1024) }

  mutating func add(
    _ name: String, _ kind: Kind = .file, _ data: String = "", link: String = "",
    mode: UInt32 = 0o644, uid: UInt32 = 0, gid: UInt32 = 0, size: Int? = nil
  ) {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int) {
      header.replaceSubrange(offset..<(offset + text.utf8.count), with: Array(text.utf8))
    }
    func octal(_ value: Int, _ width: Int) -> String {
      let digits = String(value, radix: 8)
      return String(repeating: "0", count: width - digits.count) + digits
    }
    put(name, at: 0)
    put(octal(Int(mode), 7), at: 100)
    put(octal(Int(uid), 7), at: 108)
    put(octal(Int(gid), 7), at: 116)
    put(octal(size ?? data.utf8.count, 11), at: 124)
    put(octal(0, 11), at: 136)
    put("        ", at: 148)
    put(kind.rawValue, at: 156)
    put(link, at: 157)
    put("ustar", at: 257)
    put("00", at: 263)
    put(octal(header.reduce(0) { $0 + Int($1) }, 6), at: 148)
    header[154] = 0
    content += header + Array(data.utf8)
    content += [UInt8](repeating: 0, count: (512 - data.utf8.count % 512) % 512)
  }

  static func of(_ entries: (inout Tar) -> Void) -> [UInt8] {
    var tar = Tar()
    entries(&tar)
    return tar.bytes
  }
}

/// An OCI layout of one image, to be spoilt by a test.
struct Layout {
  var architecture = OCI.hostArchitecture
  var os = "linux"
  var layers: [[UInt8]]
  var layerType = OCI.layerType
  var configuration = OCI.Image.Configuration(
    user: "7:8", environment: ["A=1"], entrypoint: ["/a"], command: ["b"], workingDirectory: "/w")
  /// The index's manifests; nil is the one image, for its platform.
  var manifests: [OCI.Descriptor]?

  var image: [UInt8] {
    get throws {
      try canonicalJSON(
        OCI.Image(
          architecture: architecture, os: os, config: configuration,
          rootfs: .init(diffIDs: layers.map { "sha256:\(sha256($0))" })))
    }
  }

  var manifest: [UInt8] {
    get throws {
      try canonicalJSON(
        OCI.Manifest(
          config: Self.descriptor(try image, OCI.configurationType),
          layers: layers.map { Self.descriptor($0, layerType) }))
    }
  }

  var digest: String { get throws { "sha256:\(sha256(try manifest))" } }

  /// Its files by their names.
  var files: [(name: String, content: [UInt8])] {
    get throws {
      let own = Self.descriptor(
        try manifest, OCI.manifestType, platform: .init(architecture: architecture, os: os))
      let index = try canonicalJSON(OCI.Index(manifests: manifests ?? [own]))
      let blobs = Set(layers + [try image, try manifest]).map { content in
        (name: "blobs/sha256/\(sha256(content))", content: content)
      }
      return [
        ("oci-layout", Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8)), ("index.json", index),
      ]
        + blobs.sorted { $0.name < $1.name }
    }
  }

  func archive(
    _ path: String, format: ArchiveWriter.Format = .tar,
    files: [(name: String, content: [UInt8])]? = nil
  ) throws -> String {
    let writer = try ArchiveWriter(path: path, format: format)
    for file in try files ?? self.files { try writer.add(file: file.name, content: file.content) }
    try writer.finish()
    return path
  }

  static func descriptor(
    _ content: [UInt8], _ type: String, platform: OCI.Descriptor.Platform? = nil
  ) -> OCI.Descriptor {
    OCI.Descriptor(
      mediaType: type, digest: "sha256:\(sha256(content))", size: content.count,
      platform: platform)
  }
}

func text(_ path: String) throws -> String {
  String(decoding: try readFile(path, limit: 1 << 20), as: UTF8.self)
}
