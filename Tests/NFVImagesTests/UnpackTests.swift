import Archive
import FoundationEssentials
import Glibc
import LinuxSystem
import NFVModel
import TestSupport
import Testing

@testable import NFVImages

/// What hostile and unusual layers become, unpacked by this process and by the child.
@Suite struct UnpackTests {
  static let unpackers = ContentStore.Unpacker.all

  /// Imports an image of these layers and gives its root.
  func root(
    _ layers: [[UInt8]], in folder: TemporaryFolder, _ unpacker: ContentStore.Unpacker
  ) async throws -> String {
    let store = try folder.store(unpacker: unpacker)
    let archive = try Layout(layers: layers).archive(folder.path + "/image.tar")
    return try await store.ensure(try await store.importArchive(at: archive)).root
  }

  func status(_ path: String) throws -> stat {
    var status = stat()
    try #require(lstat(path, &status) == 0, "\(path)")
    return status
  }

  /// Links of a layer lead nowhere but into the image, however they are used.
  @Test(arguments: unpackers)
  func nothingIsWrittenThroughALink(unpacker: ContentStore.Unpacker) async throws {
    let folder = try TemporaryFolder()
    try Mount.makeDirectory(folder.path + "/victim", mode: 0o777)
    _ = try folder.write("victim/file", "kept")
    let victim = folder.path + "/victim"
    let root = try await root(
      [
        Tar.of {
          $0.add(String(victim.dropFirst()), .directory, mode: 0o755)
          $0.add("absolute", .symbolicLink, link: victim)
          $0.add("absolute/file", .file, "changed")
          $0.add("absolute/new", .file, "new")
          $0.add("relative", .symbolicLink, link: "../../../../../../../../..\(victim)")
          $0.add("relative/more", .file, "more")
          $0.add("last", .symbolicLink, link: victim + "/file")
          $0.add("last", .file, "replaced")
          $0.add("folder", .symbolicLink, link: victim)
          $0.add("folder", .directory, mode: 0o700)
          $0.add("/rooted", .file, "inside")
        }
      ], in: folder, unpacker)
    #expect(try folder.names("victim") == ["file"])
    #expect(try text(victim + "/file") == "kept")
    #expect(try status(victim).st_mode & 0o777 == 0o777)
    #expect(try text(root + victim + "/file") == "changed")
    #expect(try listFolder(root + victim) == ["file", "more", "new"])
    #expect(try text(root + "/last") == "replaced")
    #expect(try status(root + "/folder").st_mode == S_IFDIR | 0o700)
    #expect(try text(root + "/rooted") == "inside")
  }

  struct ForbiddenLayer: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let bytes: [UInt8]

    init(_ description: String, _ entries: (inout Tar) -> Void) {
      testDescription = description
      bytes = Tar.of(entries)
    }
  }

  static let forbidden = [
    ForbiddenLayer("a path that climbs out") { $0.add("../x", .file, "x") },
    ForbiddenLayer("a path that climbs out later") { $0.add("a/../../x", .file, "x") },
    ForbiddenLayer("a hard link that climbs out") {
      $0.add("x", .hardLink, link: "../../etc/passwd")
    },
    // The host's file of that name is not the image's.
    ForbiddenLayer("an absolute hard link") { $0.add("x", .hardLink, link: "/etc/passwd") },
    ForbiddenLayer("a hard link through a symbolic link") {
      $0.add("a", .symbolicLink, link: "/etc")
      $0.add("x", .hardLink, link: "a/passwd")
    },
    ForbiddenLayer("a loop") {
      $0.add("loop", .symbolicLink, link: "loop")
      $0.add("loop/x", .file, "x")
    },
    ForbiddenLayer("a file as a folder") {
      $0.add("x", .file, "x")
      $0.add("x/y", .file, "y")
    },
  ]

  @Test(arguments: unpackers, forbidden)
  func aForbiddenLayerMakesNoImage(
    unpacker: ContentStore.Unpacker, layer: ForbiddenLayer
  ) async throws {
    let folder = try TemporaryFolder()
    let error = await #expect(throws: NFVError.self) {
      try await root([layer.bytes], in: folder, unpacker)
    }
    #expect(error?.code == .unprocessable, "\(error?.description ?? "")")
    #expect(error?.cause?.contains("layer 1 of 1") == true, "\(error?.description ?? "")")
    try folder.expectEmptyStore()
  }

  /// A whiteout whose name is the folder above would empty what it must not.
  @Test(arguments: unpackers, [".wh.", ".wh..", ".wh...", "a/.wh..."])
  func aWhiteoutOfNoNameIsRefused(unpacker: ContentStore.Unpacker, name: String) async throws {
    let folder = try TemporaryFolder()
    let error = await #expect(throws: NFVError.self) {
      try await root(
        [Tar.of { $0.add("a/b", .file, "b") }, Tar.of { $0.add(name) }], in: folder, unpacker)
    }
    #expect(error?.code == .unprocessable)
    try folder.expectEmptyStore()
  }

  @Test(arguments: unpackers)
  func whiteoutsHideLowerLayersOnly(unpacker: ContentStore.Unpacker) async throws {
    let folder = try TemporaryFolder()
    let root = try await root(
      [
        Tar.of {
          $0.add("file", .file, "1")
          $0.add("tree/deep/x", .file, "1")
          $0.add("opaque/old", .file, "1")
          $0.add("opaque/folder/old", .file, "1")
          $0.add("again", .file, "1")
          $0.add("link", .symbolicLink, link: "kept")
          $0.add("kept/x", .file, "1")
        },
        Tar.of {
          $0.add(".wh.file")
          $0.add(".wh.tree")
          $0.add("opaque/new", .file, "2")
          $0.add("opaque/folder/new", .file, "2")
          // Later than what it must not hide.
          $0.add("opaque/.wh..wh..opq")
          $0.add("again", .file, "2")
          $0.add(".wh.again")
          // The link goes, not what it refers to.
          $0.add(".wh.link")
          $0.add(".wh.never-there")
          $0.add("nowhere/.wh.x")
          $0.add("file/.wh..wh..opq")
        },
      ], in: folder, unpacker)
    #expect(try listFolder(root) == ["again", "kept", "opaque"])
    #expect(try listFolder(root + "/opaque") == ["folder", "new"])
    #expect(try listFolder(root + "/opaque/folder") == ["new"])
    #expect(try text(root + "/again") == "2")
    #expect(try text(root + "/kept/x") == "1")
  }

  @Test(arguments: unpackers)
  func upperLayersReplaceOtherKinds(unpacker: ContentStore.Unpacker) async throws {
    let folder = try TemporaryFolder()
    let root = try await root(
      [
        Tar.of {
          $0.add("a/inner", .file, "1")
          $0.add("b", .file, "1")
          $0.add("c", .symbolicLink, link: "b")
          $0.add("d", .file, "1", mode: 0o400)
          $0.add("e/inner", .file, "1")
        },
        Tar.of {
          $0.add("a", .file, "2")
          $0.add("b", .directory, mode: 0o750)
          $0.add("b/inner", .file, "2")
          $0.add("c", .directory, mode: 0o755)
          $0.add("d", .hardLink, link: "a")
          $0.add("e", .directory, mode: 0o555)
          $0.add("e/more", .file, "2")
        },
      ], in: folder, unpacker)
    #expect(try text(root + "/a") == "2")
    #expect(try status(root + "/b").st_mode == S_IFDIR | 0o750)
    #expect(try status(root + "/c").st_mode & S_IFMT == S_IFDIR)
    #expect(try status(root + "/d").st_ino == status(root + "/a").st_ino)
    #expect(try listFolder(root + "/e") == ["inner", "more"])
  }

  @Test(arguments: unpackers)
  func devicesAndSetUserIDBitsAreLeftOut(unpacker: ContentStore.Unpacker) async throws {
    let folder = try TemporaryFolder()
    let root = try await root(
      [
        Tar.of {
          $0.add("device", .characterDevice)
          $0.add("pipe", .pipe)
          $0.add("program", .file, "#!", mode: 0o6755)
          $0.add("tmp", .directory, mode: 0o1777)
        }
      ], in: folder, unpacker)
    #expect(try listFolder(root) == ["program", "tmp"])
    #expect(try status(root + "/program").st_mode == S_IFREG | 0o755)
    #expect(try status(root + "/tmp").st_mode == S_IFDIR | 0o1777)
  }

  /// On disk the owners are the image's own; the mount of an instance shifts them.
  @Test(.needs(.root))
  func ownersAreKept() async throws {
    let folder = try TemporaryFolder()
    let root = try await root(
      [
        Tar.of {
          $0.add("root", .file, "1")
          $0.add("user", .file, "1", mode: 0o000, uid: 1000, gid: 33)
          $0.add("link", .symbolicLink, link: "user", uid: 1000, gid: 1000)
          $0.add("beyond", .file, "1", uid: 65536, gid: 100_000)
          $0.add("closed", .directory, mode: 0o000, uid: 5, gid: 5)
          $0.add("closed/file", .file, "1", uid: 65535, gid: 65535)
        }
      ], in: folder, .child)
    func owner(_ name: String) throws -> [UInt32] {
      let status = try status("\(root)/\(name)")
      return [status.st_uid, status.st_gid]
    }
    #expect(try owner("") == [0, 0])
    #expect(try owner("root") == [0, 0])
    #expect(try owner("user") == [1000, 33])
    #expect(try owner("link") == [1000, 1000])
    #expect(try owner("beyond") == [65534, 65534])
    #expect(try owner("closed") == [5, 5])
    #expect(try owner("closed/file") == [65535, 65535])
    #expect(try !text("/proc/self/mountinfo").contains(folder.path))
  }

  /// While it unpacks, the child is nobody on the host, sees nothing of it and can do little.
  @Test(.needs(.root))
  func theChildHasNoPrivileges() async throws {
    let folder = try TemporaryFolder()
    let root = folder.path + "/root"
    try Mount.makeDirectory(root, mode: 0o755)
    // A file of 7 GiB, all hole, keeps it busy until it is killed.
    var tar = Tar()
    tar.add("big", size: 7 << 30)
    let layer = try folder.write("layer.tar", tar.bytes)
    try #require(truncate(layer, 7 << 30) == 0)
    guard case .child(let program) = ContentStore.Unpacker.child else { return }
    let request = UnpackRequest(
      root: root, layers: [layer], limits: ArchiveLimits(bytes: 8 << 30))
    let pid = try spawnDetached(
      program, arguments: ["martlet-unpack"] + request.arguments, environment: [])
    defer {
      kill(pid, SIGKILL)
      _ = try? waitForChild(pid)
    }
    // Without a suspension: while other tests keep all threads busy, it would end.
    while !fileExists(root + "/big") {
      try #require(try !text("/proc/\(pid)/status").contains("Z (zombie)"), "it ended early")
      usleep(2000)
    }
    let status = try text("/proc/\(pid)/status")
    for line in [
      "Uid:\t983040\t983040\t983040\t983040", "Gid:\t983040\t983040\t983040\t983040",
      "CapPrm:\t000000000000000b", "CapEff:\t000000000000000b", "NoNewPrivs:\t1",
    ] {
      #expect(status.contains(line + "\n"), "\(line)")
    }
    #expect(try listFolder("/proc/\(pid)/root") == ["big"])
    let mounts = try text("/proc/\(pid)/mountinfo").split(separator: "\n")
    #expect(mounts.count == 1)
    #expect(mounts.first?.contains("/root / rw,nosuid,nodev,noexec,") == true)
    let namespaces = try ["net", "mnt", "user", "ipc"].map { kind in
      try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/\(kind)")
        != FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/\(kind)")
    }
    #expect(namespaces == [true, true, true, true])
  }

  @Test(arguments: unpackers)
  func allLayersTogetherAreBounded(unpacker: ContentStore.Unpacker) async throws {
    let folder = try TemporaryFolder()
    let store = try folder.store(maximumBytes: 12000, unpacker: unpacker)
    let big = String(repeating: "x", count: 7000)
    let layers = try ["a", "b"].map { name in
      let path = "\(folder.path)/\(name).tar.gz"
      let writer = try ArchiveWriter(path: path, format: .tarGzip)
      try writer.add(file: name, content: Array(big.utf8))
      try writer.finish()
      return try readFile(path, limit: 1 << 20)
    }
    let one = try Layout(layers: [layers[0]]).archive(folder.path + "/one.tar")
    let two = try Layout(layers: layers).archive(folder.path + "/two.tar")
    let error = await #expect(throws: NFVError.self) { try await store.importArchive(at: two) }
    #expect(error?.cause?.contains("12000 octets") == true, "\(error?.description ?? "")")
    try folder.expectEmptyStore()
    let image = try await store.ensure(try await store.importArchive(at: one))
    #expect(try text(image.root + "/a") == big)
  }

  @Test func aMissingProgramIsSaid() async throws {
    let folder = try TemporaryFolder()
    let error = await #expect(throws: NFVError.self) {
      try await root([Tar.of { $0.add("a") }], in: folder, .child("/nowhere/martlet-unpack"))
    }
    #expect(error?.code == .unavailable)
    #expect(error?.message.contains("/nowhere/martlet-unpack") == true)
    try folder.expectEmptyStore()
  }
}
