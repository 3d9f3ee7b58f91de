import Archive
import FoundationEssentials
import Glibc
import LinuxSystem
import NFVModel
import TestSupport
import Testing

@testable import NFVImages

@Suite struct RecipeTests {
  func recipe(_ json: String) throws -> ImageRecipe {
    try JSONDecoder().decode(ImageRecipe.self, from: Data(json.utf8))
  }

  @Test func aRecipeGivesTheSameDigestTwice() async throws {
    let folder = try TemporaryFolder()
    _ = try folder.write("note", "from a file")
    let recipe = try recipe(
      #"""
      {"name": "sh", "programs": ["sh"], "entrypoint": ["/bin/sh"], "env": ["A=1"], "user": "5",
       "directories": ["/srv/x"],
       "files": [{"path": "/etc/motd", "content": "hello", "mode": "0600"},
                 {"path": "/etc/note", "source": "note"}]}
      """#)
    let first = try ImageBuilder.build(recipe, in: folder.path, to: folder.path + "/a.tar")
    let second = try ImageBuilder.build(recipe, in: folder.path, to: folder.path + "/b.tar")
    #expect(first == second)
    #expect(
      try Data(contentsOf: URL(filePath: folder.path + "/a.tar"))
        == Data(contentsOf: URL(filePath: folder.path + "/b.tar")))
    #expect(first.files.contains { $0.contains("libc.so.6") })

    let store = try folder.store()
    let digest = try await store.importArchive(at: folder.path + "/a.tar")
    #expect(digest == first.digest)
    let image = try await store.ensure(digest)
    #expect(image.configuration.entrypoint == ["/bin/sh"])
    #expect(image.configuration.environment == ["A=1"])
    #expect(image.configuration.user == "5")
    #expect(image.size == first.size)
    #expect(try text(image.root + "/etc/motd") == "hello")
    #expect(try text(image.root + "/etc/note") == "from a file")
    for name in ["srv/x", "tmp", "run", "proc", "sys", "dev", "etc/passwd", "etc/group"] {
      #expect(fileExists("\(image.root)/\(name)"), "\(name)")
    }
    #expect(FileManager.default.isExecutableFile(atPath: image.root + "/usr/bin/sh"))
  }

  /// What the examples' images and a shell are made of, as far as this host has it.
  static let programs = [
    ("/usr/sbin/nft", ["--version"], Int32(0)), ("/usr/bin/iperf3", ["--version"], 0),
    // iperf 2 says its version and exits with 1.
    ("/usr/bin/iperf", ["--version"], 1), ("/usr/bin/dash", ["-c", "exit 7"], 7),
  ].filter { access($0.0, X_OK) == 0 }

  /// The image's programs start with the libraries that were found for them.
  @Test(.needs(.root), arguments: programs)
  func programsRunFromTheImageAlone(
    path: String, arguments: [String], status: Int32
  ) async throws {
    let folder = try TemporaryFolder()
    let built = try ImageBuilder.build(
      try recipe(#"{"name": "x", "programs": ["\#(split(path).name)"]}"#), in: ".",
      to: folder.path + "/x.tar")
    let store = try folder.store()
    let image = try await store.ensure(
      try await store.importArchive(at: folder.path + "/x.tar"))
    #expect(image.digest == built.digest)
    let run = try runProgram(
      "/usr/sbin/chroot", arguments: ["chroot", image.root, path] + arguments)
    #expect(run.status == status, "\(String(decoding: run.output, as: UTF8.self))")
  }

  /// A busybox of the test's own, which tells names as Debian's does.
  @Test func aBusyboxGoesByItsNames() async throws {
    let folder = try TemporaryFolder()
    let busybox = try folder.write(
      "busybox",
      """
      #!/bin/sh
      [ "$1" = --list-full ] && printf 'bin/busybox\nbin/sh\nusr/bin/awk\nusr/bin/env\nusr/sbin/sh\n../out\n'
      """)
    chmod(busybox, 0o755)
    let built = try ImageBuilder.build(
      try recipe(
        #"""
        {"name": "x", "programs": ["\#(busybox)", "env"],
         "files": [{"path": "/bin/sh", "content": "own"}]}
        """#), in: ".", to: folder.path + "/x.tar")
    let store = try folder.store()
    let digest = try await store.importArchive(at: folder.path + "/x.tar")
    let root = try await store.ensure(digest).root
    let target = { (name: String) throws in
      try FileManager.default.destinationOfSymbolicLink(atPath: "\(root)/\(name)")
    }
    #expect(try target("usr/bin/awk") == busybox)
    #expect(try target("bin/busybox") == busybox)
    #expect(try text("\(root)/bin/sh") == "own")
    #expect(throws: (any Error).self) { try target("usr/bin/env") }
    // The image's PATH begins with this folder.
    #expect(throws: (any Error).self) { try target("usr/sbin/sh") }
    #expect(!built.files.contains { $0.contains("out") })

    _ = try folder.write("busybox", "#!/bin/sh\nexit 1\n")
    #expect(throws: NFVError.self) {
      try ImageBuilder.build(
        try recipe(#"{"name": "x", "programs": ["\#(busybox)"]}"#), in: ".",
        to: folder.path + "/y.tar")
    }
  }

  @Test(arguments: [
    #"{"name": "x", "programs": ["no-such-program"]}"#,
    #"{"name": "x", "programs": ["/etc/passwd"]}"#,
    #"{"name": "x", "files": [{"path": "relative", "content": ""}]}"#,
    #"{"name": "x", "files": [{"path": "/../x", "content": ""}]}"#,
    #"{"name": "x", "files": [{"path": "/x"}]}"#,
    #"{"name": "x", "files": [{"path": "/x", "source": "missing"}]}"#,
    #"{"name": "x", "files": [{"path": "/x", "content": "", "mode": "9"}]}"#,
    #"{"name": "x", "architecture": "s390x"}"#,
  ])
  func aBadRecipeIsRefused(json: String) throws {
    let folder = try TemporaryFolder()
    #expect(throws: NFVError.self) {
      try ImageBuilder.build(try recipe(json), in: folder.path, to: folder.path + "/x.tar")
    }
    #expect(try folder.names("").isEmpty)
  }

  @Test(arguments: [
    "docker-archive:/etc/passwd", "dir:/etc", "docker://", "--help", "docker://a b",
  ])
  func onlyRegistriesAreFetchedFrom(reference: String) throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: NFVError.self) {
      try Registry.fetch(reference, to: folder.path + "/x.tar", program: "/bin/false")
    }
    #expect(error?.code == .malformed)
  }

  @Test func aRegistryThatCannotBeReachedOrASkopeoThatIsMissingIsSaid() throws {
    let folder = try TemporaryFolder()
    let output = folder.path + "/x.tar"
    let missing = #expect(throws: NFVError.self) {
      try Registry.fetch("docker://127.0.0.1:1/a:b", to: output, program: folder.path + "/skopeo")
    }
    #expect(missing?.message.contains("install the package skopeo") == true)
    let failed = #expect(throws: NFVError.self) {
      try Registry.fetch("docker://127.0.0.1:1/a:b", to: output, program: "/bin/false")
    }
    #expect(failed?.code == .unavailable)
    #expect(!fileExists(output))
  }
}
