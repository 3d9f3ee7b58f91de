import Archive
import FoundationEssentials
import NFVImages
import NFVModel
import Testing

@Suite struct ImageTests {
  /// A folder that goes with the test.
  final class Folder {
    let path = "/tmp/martlet-images-\(UInt64.random(in: 0 ..< .max))"
    init() throws {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  func recipe(_ json: String) throws -> ImageRecipe {
    try JSONDecoder().decode(ImageRecipe.self, from: Data(json.utf8))
  }

  func tar(_ path: String, _ body: (ArchiveWriter) throws -> Void) throws {
    let writer = try ArchiveWriter(path: path, format: .tar)
    try body(writer)
    try writer.finish()
  }

  @Test func aRecipeGivesTheSameDigestTwice() async throws {
    let folder = try Folder()
    let recipe = try recipe(
      #"""
      {"name": "sh", "programs": ["sh"], "entrypoint": ["/bin/sh"], "env": ["A=1"],
       "files": [{"path": "/etc/motd", "content": "hello", "mode": "0600"}]}
      """#)
    let first = try ImageBuilder.build(recipe, in: ".", to: folder.path + "/a.tar")
    let second = try ImageBuilder.build(recipe, in: ".", to: folder.path + "/b.tar")
    #expect(first == second)
    #expect(
      try Data(contentsOf: URL(filePath: folder.path + "/a.tar"))
        == Data(contentsOf: URL(filePath: folder.path + "/b.tar")))
    #expect(first.files.contains { $0.contains("libc.so.6") })

    let store = try ContentStore(folder: folder.path + "/store")
    let digest = try await store.importArchive(at: folder.path + "/a.tar")
    #expect(digest == first.digest)
    let image = try await store.ensure(digest)
    #expect(image.configuration.entrypoint == ["/bin/sh"])
    #expect(image.configuration.environment == ["A=1"])
    #expect(image.size == first.size)
    let motd = try String(contentsOfFile: image.root + "/etc/motd", encoding: .utf8)
    #expect(motd == "hello")
    #expect(FileManager.default.isExecutableFile(atPath: image.root + "/usr/bin/sh"))

    try await store.removeUnused(keeping: [digest])
    #expect(FileManager.default.fileExists(atPath: image.root))
    try await store.removeUnused(keeping: [])
    #expect(!FileManager.default.fileExists(atPath: image.root))
    await #expect(throws: NFVError.self) { try await store.ensure(digest) }
  }

  @Test(arguments: [
    #"{"name": "x", "programs": ["no-such-program"]}"#,
    #"{"name": "x", "files": [{"path": "relative", "content": ""}]}"#,
    #"{"name": "x", "files": [{"path": "/../x", "content": ""}]}"#,
    #"{"name": "x", "files": [{"path": "/x"}]}"#,
    #"{"name": "x", "files": [{"path": "/x", "content": "", "mode": "9"}]}"#,
    #"{"name": "x", "architecture": "s390x"}"#,
  ])
  func aBadRecipeIsRefused(json: String) throws {
    let folder = try Folder()
    #expect(throws: NFVError.self) {
      try ImageBuilder.build(try recipe(json), in: ".", to: folder.path + "/x.tar")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  @Test func aPlainRootFileSystemBecomesAnImage() async throws {
    let folder = try Folder()
    try tar(folder.path + "/root.tar") {
      try $0.add(directory: "etc")
      try $0.add(file: "etc/a", content: [65])
      try $0.add(symbolicLink: "etc/b", target: "a")
    }
    let store = try ContentStore(folder: folder.path + "/store")
    let image = try await store.ensure(try await store.importArchive(at: folder.path + "/root.tar"))
    #expect(try String(contentsOfFile: image.root + "/etc/b", encoding: .utf8) == "A")
  }

  /// A link of the layer that leads outside is followed inside the image's root only.
  @Test func nothingIsWrittenOutsideTheRoot() async throws {
    let folder = try Folder()
    try tar(folder.path + "/root.tar") {
      try $0.add(symbolicLink: "out", target: folder.path + "/victim")
      try $0.add(symbolicLink: "up", target: "../../../../../..")
      try $0.add(file: "out/x", content: [66])
      try $0.add(file: "up/y", content: [67])
    }
    try FileManager.default.createDirectory(
      atPath: folder.path + "/victim", withIntermediateDirectories: true)
    let store = try ContentStore(folder: folder.path + "/store")
    let digest = try await store.importArchive(at: folder.path + "/root.tar")
    // Either the entry is refused or it lands inside: never outside.
    let image = try? await store.ensure(digest)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/victim").isEmpty)
    #expect(!FileManager.default.fileExists(atPath: "/y"))
    if let image { #expect(FileManager.default.fileExists(atPath: image.root + "/y")) }
  }

  @Test func aPathThatClimbsOutIsRefused() async throws {
    let folder = try Folder()
    try tar(folder.path + "/root.tar") { try $0.add(file: "../x", content: [66]) }
    let store = try ContentStore(folder: folder.path + "/store")
    let digest = try await store.importArchive(at: folder.path + "/root.tar")
    await #expect(throws: NFVError.self) { try await store.ensure(digest) }
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path + "/store/roots").isEmpty)
  }

  @Test func damagedAndForeignImagesAreRefused() async throws {
    let folder = try Folder()
    let store = try ContentStore(folder: folder.path + "/store")
    try tar(folder.path + "/wrong.tar") {
      try $0.add(file: "oci-layout", content: Array("{}".utf8))
      try $0.add(file: "index.json", content: Array(#"{"schemaVersion":2,"manifests":[]}"#.utf8))
      try $0.add(
        file: "blobs/sha256/" + String(repeating: "a", count: 64), content: Array("b".utf8))
    }
    let wrong = await #expect(throws: NFVError.self) {
      try await store.importArchive(at: folder.path + "/wrong.tar")
    }
    #expect(wrong?.message.contains("damaged") == true)
    try tar(folder.path + "/foreign.tar") {
      try $0.add(file: "oci-layout", content: Array("{}".utf8))
      try $0.add(
        file: "index.json",
        content: Array(
          #"""
          {"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
          "digest":"sha256:00","size":1,"platform":{"architecture":"s390x","os":"linux"}}]}
          """#.utf8))
    }
    let foreign = await #expect(throws: NFVError.self) {
      try await store.importArchive(at: folder.path + "/foreign.tar")
    }
    #expect(foreign?.message.contains("s390x") == true)
    try Data("no archive at all".utf8).write(to: URL(filePath: folder.path + "/text"))
    await #expect(throws: NFVError.self) {
      try await store.importArchive(at: folder.path + "/text")
    }
    await #expect(throws: NFVError.self) {
      try await store.importArchive(at: folder.path + "/missing")
    }
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path + "/store/blobs/sha256")
        .isEmpty)
  }
}
