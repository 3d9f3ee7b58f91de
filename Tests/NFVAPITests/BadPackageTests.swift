import Archive
import Glibc
import HTTPTypes
import Hummingbird
import LinuxSystem
import NFVImages
import NFVModel
import NFVPackages
import NIOCore
import TestSupport
import Testing

@testable import NFVAPI

/// Archives that are refused, through the reader and the image store that the daemon has: the
/// package says what is wrong and where, and nothing else is left of them.
@Suite struct BadPackageTests {
  private static let image = "Files/hello.tar"
  private static let descriptor = "Definitions/hello.yaml"

  let folder: TemporaryFolder
  let images: ContentStore
  /// The files of a good package; its image is a root file system.
  private var files: [String: [UInt8]] = [:]

  init() throws {
    folder = try TemporaryFolder()
    images = try ContentStore(
      folder: folder.path + "/images", maximumBytes: 8 << 20, unpacker: .inProcess)
    let project = PackageProject(folder: folder.path + "/hello")
    try project.create(name: "hello")
    let source = try Self.rootArchive(at: folder.path + "/root.tar", architecture: nil)
    try project.build(to: folder.path + "/hello.csar") { _, _, image throws(NFVError) in
      _ = try? folder.write(String(image.dropFirst(folder.path.utf8.count + 1)), source)
    }
    let reader = try ArchiveReader(path: folder.path + "/hello.csar")
    while let entry = try reader.next() {
      files[entry.path] = try reader.readAll(limit: 1 << 20)
    }
  }

  /// A plain root file system, or an OCI layout whose index names an architecture only.
  private static func rootArchive(at path: String, architecture: String?) throws -> [UInt8] {
    let writer = try ArchiveWriter(path: path, format: .tar)
    if let architecture {
      let digest = "sha256:" + String(repeating: "0", count: 64)
      let index =
        #"{"schemaVersion":2,"manifests":[{"mediaType":"#
        + #""application/vnd.oci.image.manifest.v1+json","digest":"\#(digest)","size":1,"#
        + #""platform":{"architecture":"\#(architecture)","os":"linux"}}]}"#
      try writer.add(file: "oci-layout", content: Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8))
      try writer.add(file: "index.json", content: Array(index.utf8))
    } else {
      try writer.add(file: "bin/sh", mode: 0o755, content: [1])
    }
    try writer.finish()
    return try readFile(path, limit: 1 << 20)
  }

  /// A virtual machine's image of these parts beside its description.
  private func machineArchive(_ parts: [String]) throws -> [UInt8] {
    let path = folder.path + "/machine.tar"
    let writer = try ArchiveWriter(path: path, format: .tar)
    let description = """
      {"format":"martlet-machine","version":1,"technology":"tinyx","architecture":"x86_64",
      "machine":"pc","commandLine":"","minimumMemoryMiB":16,"entrypoint":["/f"],"environment":[],
      "workingDirectory":"/"}
      """
    try writer.add(file: "machine.json", content: Array(description.utf8))
    // What a kernel is told by (arch/x86/boot.rst).
    var kernel = [UInt8](repeating: 0, count: 1024)
    kernel.replaceSubrange(0x1FE..<0x200, with: [0x55, 0xAA])
    kernel.replaceSubrange(0x202..<0x206, with: "HdrS".utf8)
    let initramfs = try ArchiveWriter(path: folder.path + "/initramfs", format: .cpio)
    try initramfs.add(file: "init", mode: 0o755, content: [1])
    try initramfs.finish()
    for part in parts {
      try writer.add(
        file: part,
        content: part == "kernel"
          ? kernel : try readFile(folder.path + "/initramfs", limit: 1 << 20))
    }
    try writer.finish()
    return try readFile(path, limit: 1 << 20)
  }

  /// The archive with changed files.
  /// - Parameter isHashed: whether the manifest vouches for the changes too.
  private func archive(_ changes: [String: [UInt8]], isHashed: Bool = true) throws -> [UInt8] {
    let path = folder.path + "/changed.csar"
    var changed = files.merging(changes) { $1 }
    if isHashed { changed["hello.mf"] = Array("metadata:\n".utf8) }
    let writer = try ArchiveWriter(path: path, format: .zip)
    for (name, content) in changed.sorted(by: { $0.key < $1.key }) {
      try writer.add(file: name, content: content)
    }
    try writer.finish()
    return try readFile(path, limit: 64 << 20)
  }

  /// The descriptor with one text in the place of another.
  private func descriptor(_ old: String, _ new: String) throws -> [UInt8] {
    let text = String(decoding: files[Self.descriptor] ?? [], as: UTF8.self)
    try #require(text.contains(old))
    return try archive([Self.descriptor: Array(text.replacing(old, with: new).utf8)])
  }

  private func upload(_ fixture: Fixture, _ bytes: [UInt8]) async throws -> (String, TestReply) {
    let created = try await fixture.call(.post, VnfPackagesTests.packages)
    let path = try #require(created.headers[.location])
    let request = Hummingbird.Request(
      head: HTTPRequest(
        method: .put, scheme: "http", authority: "localhost", path: "\(path)/package_content",
        headerFields: [.contentType: "application/zip"]),
      body: RequestBody(buffer: ByteBuffer(bytes: bytes)))
    return (path, try await TestReply(fixture.send(request)))
  }

  private func ended(_ fixture: Fixture, _ path: String) async throws -> JSONValue {
    var package = JSONValue.null
    try await eventually("\(path) was read: \(package)") {
      package = try await fixture.call(.get, path).json
      return ["ONBOARDED", "ERROR"].contains(try package.member("onboardingState").text)
    }
    return package
  }

  private func expectNoImages() throws {
    for sub in ["blobs/sha256", "roots", "tmp"] {
      #expect(try folder.names("images/" + sub) == [], "\(sub)")
    }
  }

  @Test(.timeLimit(.minutes(1)))
  func refusedArchivesSayWhyAndLeaveNothing() async throws {
    var bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1...9 {
      let aliases = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
      bomb += "a\(level): &a\(level) [\(aliases)]\n"
    }
    let whole = try archive([:])
    var other = try Self.rootArchive(at: folder.path + "/s390x.tar", architecture: "s390x")
    other += [UInt8](repeating: 0, count: 1024)
    let cases: [(String, [UInt8], [String])] = [
      ("damaged", Array(whole.prefix(whole.count / 2)), ["Truncated"]),
      ("no archive", Array("rubbish".utf8), ["archive"]),
      (
        "wrong hash", try archive(["Files/greeting.txt": Array("other\n".utf8)], isHashed: false),
        ["Files/greeting.txt", "hash"]
      ),
      (
        "unknown node type",
        try descriptor("type: tosca.nodes.nfv.VduCp", "type: tosca.nodes.nfv.Nonsense"),
        [Self.descriptor, "tosca.nodes.nfv.Nonsense"]
      ),
      ("missing flavour", try descriptor("flavour_id:", "flavour_name:"), ["flavour_id"]),
      ("climbing path", try archive(["../evil": [1]]), ["../evil", "climbs out"]),
      (
        "zip bomb", try archive(["Files/zeros": [UInt8](repeating: 0, count: 32 << 20)]),
        ["Files/zeros", "times its size"]
      ),
      ("aliases", try archive([Self.descriptor: Array(bomb.utf8)]), [Self.descriptor, "aliases"]),
      ("architecture", try archive([Self.image: other]), [Self.image, "s390x"]),
      (
        "machine without initramfs", try archive([Self.image: try machineArchive(["kernel"])]),
        [Self.image, "lacks initramfs"]
      ),
      (
        "machine's image for a container",
        try archive([Self.image: try machineArchive(["kernel", "initramfs"])]),
        [Self.image, "is a container", "for a tinyx"]
      ),
    ]
    try await Fixture.run(packageBound: 64 << 20, images: images) { fixture in
      for (name, bytes, parts) in cases {
        let (path, reply) = try await upload(fixture, bytes)
        #expect(reply.status == 202, "\(name): \(reply.text)")
        let package = try await ended(fixture, path)
        #expect(try package.member("onboardingState").text == "ERROR", "\(name)")
        guard case .object(let problem)? = try? package.member("onboardingFailureDetails") else {
          Issue.record("\(name) is no problem: \(package)")
          continue
        }
        #expect(problem["status"]?.integer == 422, "\(name): \(problem)")
        let detail = problem["detail"]?.text ?? ""
        for part in parts { #expect(detail.contains(part), "\(name): \(detail)") }
        #expect(fixture.archives == [], "\(name)")
        // One that was imported before it was refused goes with the unused ones of the daemon's host.
        if name.hasPrefix("machine's") { try await images.removeUnused(keeping: []) }
        try expectNoImages()
        #expect(try await fixture.call(.delete, path).status == 204)
      }
      #expect(try await fixture.call(.get, VnfPackagesTests.packages).json == .array([]))
      // The same reader takes the package that these were made from.
      let (path, _) = try await upload(fixture, whole)
      let package = try await ended(fixture, path)
      #expect(try package.member("onboardingState").text == "ONBOARDED", "\(package)")
    }
  }

  /// A small file system of the test's own below the packages' folder.
  @Test(.needs(.root))
  func aFullDiskRefusesTheUpload() async throws {
    let whole = try archive([:])
    try await Fixture.run(packageBound: 64 << 20, images: images) { fixture in
      let disk = fixture.folder + "/packages"
      try Mount.tmpfs(at: disk, size: 1 << 20, mode: 0o700)
      defer { try? Mount.unmount(disk) }
      let (path, reply) = try await upload(fixture, [UInt8](repeating: 1, count: 2 << 20))
      #expect(reply.status == 507, "\(reply.text)")
      #expect(reply.detail.contains("disk"), "\(reply.text)")
      #expect(fixture.archives == [])
      let package = try await fixture.call(.get, path).json
      #expect(try package.member("onboardingState").text == "CREATED")
      let again = try await fixture.call(.get, VnfPackagesTests.packages).json.items
      #expect(again.count == 1)
      let (other, taken) = try await upload(fixture, whole)
      #expect(taken.status == 202)
      let onboarded = try await ended(fixture, other)
      #expect(try onboarded.member("onboardingState").text == "ONBOARDED")
      #expect(try onboarded.at("softwareImages/0/size").integer > 0)
    }
  }
}
