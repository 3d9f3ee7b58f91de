import Archive
import FoundationEssentials
import Glibc
import LinuxSystem
import NFVModel
import TestSupport
import Testing

@testable import NFVImages

@Suite struct ContentStoreTests {
  static let layers = [
    Tar.of {
      $0.add("etc/a", .file, "A")
      $0.add("etc/b", .symbolicLink, link: "a")
    },
    Tar.of { $0.add("etc/c", .file, "C") },
  ]

  func expectImported(
    _ path: String, in folder: TemporaryFolder, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> PreparedImage {
    let store = try folder.store()
    let image = try await store.ensure(try await store.importArchive(at: path))
    #expect(try text(image.root + "/etc/b") == "A", sourceLocation: sourceLocation)
    #expect(try text(image.root + "/etc/c") == "C", sourceLocation: sourceLocation)
    #expect(try folder.names("store/tmp") == [], sourceLocation: sourceLocation)
    return image
  }

  func expectRefused(
    _ path: String, _ parts: String..., in folder: TemporaryFolder,
    code: NFVError.Code = .unprocessable,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let store = try folder.store()
    let error = await #expect(throws: NFVError.self, sourceLocation: sourceLocation) {
      try await store.importArchive(at: path)
    }
    #expect(error?.code == code, "\(error?.description ?? "")", sourceLocation: sourceLocation)
    for part in parts {
      #expect(
        error?.description.contains(part) == true, "\(error?.description ?? "")",
        sourceLocation: sourceLocation)
    }
    try folder.expectEmptyStore(sourceLocation: sourceLocation)
  }

  // MARK: What is taken

  @Test(arguments: [ArchiveWriter.Format.tar, .tarGzip])
  func anOCILayoutArchiveIsImported(format: ArchiveWriter.Format) async throws {
    let folder = try TemporaryFolder()
    let layout = Layout(layers: Self.layers)
    let image = try await expectImported(
      try layout.archive(folder.path + "/image", format: format), in: folder)
    #expect(image.digest.rawValue == (try layout.digest))
    #expect(image.size == UInt64(Self.layers.reduce(try layout.image.count) { $0 + $1.count }))
    #expect(
      image.configuration
        == ImageConfiguration(
          entrypoint: ["/a"], command: ["b"], environment: ["A=1"], user: "7:8",
          workingDirectory: "/w"))
    // Another store on the same folder has it, without the import.
    let again = try await folder.store().ensure(image.digest)
    #expect(again == image)
  }

  @Test func anOCILayoutFolderIsImported() async throws {
    let folder = try TemporaryFolder()
    try FileManager.default.createDirectory(
      atPath: folder.path + "/layout/blobs/sha256", withIntermediateDirectories: true)
    for file in try Layout(layers: Self.layers).files {
      _ = try folder.write("layout/" + file.name, file.content)
    }
    _ = try await expectImported(folder.path + "/layout", in: folder)
  }

  @Test func aDockerArchiveIsImported() async throws {
    let folder = try TemporaryFolder()
    let layout = Layout(layers: Self.layers)
    let tar = Tar.of {
      $0.add("one/layer.tar", .file, String(decoding: Self.layers[0], as: UTF8.self))
      $0.add("two/layer.tar", .symbolicLink, link: "../shared/layer.tar")
      $0.add("shared/layer.tar", .file, String(decoding: Self.layers[1], as: UTF8.self))
      $0.add("c.json", .file, String(decoding: (try? layout.image) ?? [], as: UTF8.self))
      $0.add(
        "manifest.json", .file,
        #"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["one/layer.tar","two/layer.tar"]}]"#)
    }
    let image = try await expectImported(try folder.write("docker.tar", tar), in: folder)
    #expect(image.configuration.entrypoint == ["/a"])
  }

  /// The forms that skopeo makes of an image that a recipe made.
  @Test(
    .needs(.skopeo, .root),
    arguments: ["docker-archive:OUT:a:b", "oci-archive:OUT", "oci:OUT:a"])
  func whatSkopeoWritesIsImported(target: String) async throws {
    let folder = try TemporaryFolder()
    let recipe = try JSONDecoder().decode(
      ImageRecipe.self,
      from: Data(#"{"name": "x", "files": [{"path": "/etc/a", "content": "A"}]}"#.utf8))
    _ = try ImageBuilder.build(recipe, in: ".", to: folder.path + "/x.tar")
    let result = try runProgram(
      try #require(Facility.path(of: "skopeo")),
      arguments: [
        "skopeo", "copy", "--quiet", "oci-archive:\(folder.path)/x.tar",
        target.replacing("OUT", with: folder.path + "/out"),
      ])
    try #require(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
    let store = try folder.store()
    let image = try await store.ensure(try await store.importArchive(at: folder.path + "/out"))
    #expect(try text(image.root + "/etc/a") == "A")
  }

  @Test func aPlainRootFileSystemBecomesAnImage() async throws {
    let folder = try TemporaryFolder()
    let tar = Tar.of {
      $0.add("./", .directory, mode: 0o755)
      $0.add("./etc/a", .file, "A")
      $0.add("./etc/b", .symbolicLink, link: "a")
      $0.add("./etc/c", .file, "C")
    }
    let image = try await expectImported(try folder.write("root.tar", tar), in: folder)
    #expect(image.configuration == ImageConfiguration())
  }

  @Test func thisArchitectureIsPickedFromANestedIndex() async throws {
    let folder = try TemporaryFolder()
    let layout = Layout(layers: Self.layers)
    let foreign = Layout(architecture: "s390x", layers: [])
    func descriptor(_ layout: Layout) throws -> OCI.Descriptor {
      Layout.descriptor(
        try layout.manifest, OCI.manifestType,
        platform: .init(architecture: layout.architecture, os: "linux"))
    }
    var attestation = try descriptor(layout)
    attestation.digest = "sha256:" + String(repeating: "0", count: 64)
    attestation.platform = .init(architecture: "unknown", os: "unknown")
    let inner = try canonicalJSON(
      OCI.Index(manifests: [attestation, try descriptor(foreign), try descriptor(layout)]))
    var outer = layout
    outer.manifests = [Layout.descriptor(inner, "application/vnd.oci.image.index.v1+json")]
    let files = try outer.files + [(name: "blobs/sha256/\(sha256(inner))", content: inner)]
    let image = try await expectImported(
      try outer.archive(folder.path + "/image.tar", files: files), in: folder)
    #expect(image.digest.rawValue == (try layout.digest))
  }

  // MARK: What is refused

  @Test func anotherArchitectureIsRefusedAndBothAreNamed() async throws {
    let folder = try TemporaryFolder()
    var layout = Layout(architecture: "s390x", layers: Self.layers)
    try await expectRefused(
      try layout.archive(folder.path + "/a.tar"), "linux/s390x", "linux/\(OCI.hostArchitecture)",
      in: folder)
    // Only the configuration says it.
    layout.manifests = [Layout.descriptor(try layout.manifest, OCI.manifestType)]
    try await expectRefused(
      try layout.archive(folder.path + "/b.tar"), "linux/s390x", "linux/\(OCI.hostArchitecture)",
      in: folder)
    layout = Layout(os: "windows", layers: Self.layers)
    try await expectRefused(try layout.archive(folder.path + "/c.tar"), "windows/", in: folder)
  }

  @Test func aBlobOfOtherContentIsRefused() async throws {
    let folder = try TemporaryFolder()
    let layout = Layout(layers: Self.layers)
    let files = try layout.files.map { file in
      file.name.hasSuffix(sha256(Self.layers[1])) ? (file.name, Self.layers[0]) : file
    }
    try await expectRefused(
      try layout.archive(folder.path + "/a.tar", files: files), "damaged", in: folder)
    let blob = try #require(try layout.files.last)
    try await expectRefused(
      try layout.archive(folder.path + "/b.tar", files: try layout.files + [blob]), "twice",
      in: folder)
    try await expectRefused(
      try layout.archive(folder.path + "/c.tar", files: try layout.files.dropLast()),
      "is not there", in: folder, code: .notFound)
  }

  @Test func aManifestThatLiesIsRefused() async throws {
    let folder = try TemporaryFolder()
    let layout = Layout(layers: Self.layers)
    let image = try layout.image
    func archive(_ name: String, _ change: (inout OCI.Manifest) -> Void) throws -> String {
      var manifest = try JSONDecoder().decode(OCI.Manifest.self, from: Data(layout.manifest))
      change(&manifest)
      let bytes = try canonicalJSON(manifest)
      var changed = layout
      changed.manifests = [Layout.descriptor(bytes, OCI.manifestType)]
      let files = try changed.files + [(name: "blobs/sha256/\(sha256(bytes))", content: bytes)]
      return try changed.archive("\(folder.path)/\(name)", files: files)
    }
    try await expectRefused(
      try archive("size") { $0.layers[0].size += 1 }, "octets", "damaged", in: folder)
    try await expectRefused(
      try archive("negative") { $0.layers[0].size = -1 }, "octets", in: folder)
    try await expectRefused(
      try archive("path") { $0.layers[0].digest = "sha256:../../../etc/passwd" }, "is no digest",
      in: folder)
    try await expectRefused(
      try archive("kind") { $0.layers[0].digest = "sha512:" + String(repeating: "0", count: 128) },
      "is no digest", in: folder)
    try await expectRefused(
      try archive("type") { $0.layers[0].mediaType = OCI.layerType + "+encrypted" }, "encrypted",
      in: folder)
    try await expectRefused(
      try archive("many") { $0.layers = Array(repeating: $0.layers[0], count: 128) }, "128 layers",
      in: folder)
    try await expectRefused(
      try archive("swap") { $0.config = Layout.descriptor(Self.layers[0], OCI.layerType) },
      "configuration", in: folder)
    #expect(image.count > 0)
  }

  @Test func whatIsNoImageIsRefused() async throws {
    let folder = try TemporaryFolder()
    try await expectRefused(
      try folder.write("text", "no archive at all"), "tar", in: folder)
    try await expectRefused(try folder.write("empty", []), in: folder)
    try await expectRefused(folder.path + "/missing", "missing", in: folder, code: .notFound)
    try await expectRefused(
      try folder.write("bare", Tar.of { $0.add("oci-layout", .file, "{}") }), "index.json",
      in: folder)
    try await expectRefused(
      try folder.write(
        "docker", Tar.of { $0.add("manifest.json", .file, #"[{"Config":"c","Layers":["l"]}]"#) }),
      "lacks", in: folder)
    var none = Layout(layers: [])
    none.manifests = []
    try await expectRefused(try none.archive(folder.path + "/none"), "index is empty", in: folder)
  }

  @Test func aTruncatedArchiveLeavesNothing() async throws {
    let folder = try TemporaryFolder()
    let whole = try readFile(
      try Layout(layers: Self.layers).archive(folder.path + "/whole.tar"), limit: 1 << 20)
    let content = whole.lastIndex { $0 != 0 } ?? 0
    let store = try folder.store()
    for count in stride(from: 1, to: content, by: 509) {
      let part = try folder.write("part.tar", Array(whole.prefix(count)))
      await #expect(throws: NFVError.self, "\(count) of \(whole.count)") {
        try await store.importArchive(at: part)
      }
      try folder.expectEmptyStore()
    }
  }

  // MARK: What stays

  @Test func importsOfTheSameImageAtOnceMakeOne() async throws {
    let folder = try TemporaryFolder()
    let archive = try Layout(layers: Self.layers).archive(folder.path + "/image.tar")
    let store = try folder.store()
    let digests = try await withThrowingTaskGroup { group in
      for _ in 0..<8 { group.addTask { try await store.importArchive(at: archive) } }
      return try await group.reduce(into: Set<ImageDigest>()) { $0.insert($1) }
    }
    #expect(digests.count == 1)
    #expect(try folder.names("store/roots").count == 1)
    #expect(try folder.names("store/blobs/sha256").count == 4)
  }

  @Test func onlyUnusedImagesAreRemoved() async throws {
    let folder = try TemporaryFolder()
    let store = try folder.store()
    let both = try await store.importArchive(
      at: try Layout(layers: Self.layers).archive(folder.path + "/both.tar"))
    let one = try await store.importArchive(
      at: try Layout(layers: [Self.layers[0]]).archive(folder.path + "/one.tar"))
    let root = try await store.ensure(one).root
    #expect(try folder.names("store/blobs/sha256").count == 6)

    try await store.removeUnused(keeping: [one, both])
    #expect(try folder.names("store/blobs/sha256").count == 6)
    try await store.removeUnused(keeping: [one])
    // The layer that both had is still this image's.
    #expect(try folder.names("store/blobs/sha256").count == 3)
    #expect(try text(root + "/etc/b") == "A")
    let error = await #expect(throws: NFVError.self) { try await store.ensure(both) }
    #expect(error?.code == .notFound)
    // A root that was lost is made again from the blobs.
    try removeTree(root)
    let again = try await folder.store().ensure(one)
    #expect(try text(again.root + "/etc/b") == "A")
    try await store.removeUnused(keeping: [])
    try folder.expectEmptyStore()
  }

  @Test func leftoversOfACrashAreSwept() async throws {
    let folder = try TemporaryFolder()
    _ = try folder.store()
    try Mount.makeDirectory(folder.path + "/store/tmp/1", mode: 0o700)
    try Mount.makeDirectory(folder.path + "/store/tmp/1/root", mode: 0o500)
    _ = try folder.write("store/tmp/1/part", [1])
    _ = try folder.store()
    try folder.expectEmptyStore()
  }

  /// A small file system of the test's own for the store.
  @Test(.needs(.root))
  func aFullDiskLeavesTheStoreAsItWas() async throws {
    let folder = try TemporaryFolder()
    let disk = folder.path + "/store"
    try Mount.makeDirectory(disk, mode: 0o755)
    try Mount.tmpfs(at: disk, size: 4 << 20, mode: 0o755)
    defer { try? Mount.unmount(disk) }
    let store = try folder.store()
    let small = try await store.importArchive(
      at: try Layout(layers: Self.layers).archive(folder.path + "/small.tar"))
    let before = try folder.names("store/blobs/sha256")
    let free = try freeBytes(disk)

    // The blob is too large; and a blob that is small but unpacks to too much, found by the child.
    let zeros = [UInt8](repeating: 0, count: 6 << 20)
    let packed = folder.path + "/layer.tar.gz"
    let writer = try ArchiveWriter(path: packed, format: .tarGzip)
    try writer.add(file: "zeros", content: zeros)
    try writer.finish()
    for (name, layer) in [("blob", zeros), ("unpacked", try readFile(packed, limit: 1 << 20))] {
      let archive = try Layout(layers: [layer]).archive("\(folder.path)/\(name).tar")
      let error = await #expect(throws: NFVError.self) {
        try await store.importArchive(at: archive)
      }
      #expect(error?.code == .exhausted, "\(name): \(error?.description ?? "")")
      #expect(error?.message.contains("disk is full") == true)
      #expect(try folder.names("store/blobs/sha256") == before)
      #expect(try folder.names("store/roots").count == 1)
      #expect(try folder.names("store/tmp") == [])
      // A process that is being made elsewhere has a copy of our descriptors until it executes its
      // program; as long as that holds a removed file, the file holds its space.
      try await eventually("\(name): the space is free again") { try freeBytes(disk) == free }
    }
    let again = try await store.importArchive(
      at: try Layout(layers: [Self.layers[1]]).archive(folder.path + "/other.tar"))
    #expect(again != small)
  }

  private func freeBytes(_ path: String) throws -> UInt64 {
    var status = statvfs()
    try #require(statvfs(path, &status) == 0)
    return UInt64(status.f_bfree) * UInt64(status.f_frsize)
  }
}
