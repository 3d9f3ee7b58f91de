internal import Archive
internal import FoundationEssentials
internal import LinuxSystem
public import NFVModel

/// What a small image is made of: programs of this host with the shared libraries that they need,
/// files, and what to start.
public struct ImageRecipe: Sendable, Hashable, Codable {
  public struct File: Sendable, Hashable, Codable {
    /// Absolute, in the image.
    public var path: String
    /// The text that it holds; or
    public var content: String?
    /// the file that it is copied from, relative to the recipe where it is not absolute.
    public var source: String?
    /// Permission bits in octal, such as `0755`.
    public var mode: String?
  }

  public var name: String
  /// As OCI writes it (`amd64`); this host's where it is not named.
  public var architecture: String?
  /// Paths, or names that are looked up in the usual folders.
  public var programs: [String]?
  public var files: [File]?
  public var directories: [String]?
  public var entrypoint: [String]?
  public var command: [String]?
  public var env: [String]?
  public var user: String?
  public var workdir: String?
  /// The network function in Swift that the image is made of: its static program, which is started
  /// where nothing else is named, or in a unikernel itself.
  public var function: String?
  /// Kernel modules that a virtual machine loads beside those of its devices; containers have the
  /// host's.
  public var modules: [String]?

  enum CodingKeys: String, CodingKey, CaseIterable {
    case name, architecture, programs, files, directories, entrypoint, command, env, user, workdir
    case function, modules
  }

  /// What a recipe may name.
  public static let keys = CodingKeys.allCases.map(\.rawValue)

  public init(name: String) { self.name = name }

  /// Takes in the static program of its function.
  /// - Parameter path: on this host.
  public mutating func add(functionProgram path: String) {
    let place = "/\(function ?? name)"
    files = (files ?? []) + [File(path: place, source: path, mode: "0755")]
    entrypoint = entrypoint ?? [place]
  }
}

/// What a recipe is made into.
public enum ImageForm: Sendable, Hashable {
  /// An OCI image.
  case container
  /// A virtual machine's: a kernel, and an initramfs that begins with a program.
  /// - Parameter initProgram: the path of `martlet-init`.
  case tinyx(kernel: KernelPackage, initProgram: String)
}

/// An image that was built.
public struct BuiltImage: Sendable, Hashable {
  public var digest: ImageDigest
  /// The sum of its configuration and layers, in octets.
  public var size: UInt64
  /// What was put in, in order.
  public var files: [String]
}

/// Builds images from recipes: the same inputs give the same bytes.
public struct ImageBuilder: Sendable {
  enum Content {
    case directory
    case link(String)
    case file([UInt8], mode: UInt32)
  }

  private static let programFolders = [
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
  ]
  /// Where the loader looks without being told (ld.so(8)); the first is the architecture's own.
  private static let libraryFolders: [String] = {
    #if arch(x86_64)
      let triplet = "x86_64-linux-gnu"
    #else
      let triplet = "aarch64-linux-gnu"
    #endif
    return [
      "/lib/\(triplet)", "/usr/lib/\(triplet)", "/lib64", "/usr/lib64", "/lib", "/usr/lib",
    ]
  }()
  /// So that a name can be resolved and a program finds the places it expects.
  private static let basics: [String: Content] = [
    "etc/passwd": .file(
      Array("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".utf8),
      mode: 0o644),
    "etc/group": .file(Array("root:x:0:\nnogroup:x:65534:\n".utf8), mode: 0o644),
    "etc/nsswitch.conf": .file(Array("hosts: files dns\n".utf8), mode: 0o644),
    "etc/protocols": .file(
      Array("icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n".utf8), mode: 0o644),
    "dev": .directory, "proc": .directory, "sys": .directory, "run": .directory,
    "tmp": .directory, "var/tmp": .directory,
  ]

  var entries: [String: Content] = Self.basics
  private let folder: String
  private let configuredFolders = Self.loaderFolders()

  /// Builds the image of a recipe.
  /// - Parameters:
  ///   - folder: what the recipe's `source` paths are relative to.
  ///   - output: the archive (tar) that is written; replaced where it is there.
  public static func build(
    _ recipe: ImageRecipe, as form: ImageForm = .container, in folder: String, to output: String
  ) throws(NFVError) -> BuiltImage {
    switch form {
    case .container: try ImageBuilder(recipe, in: folder).write(recipe, to: output)
    case .tinyx(let kernel, let initProgram):
      try buildTinyx(recipe, in: folder, kernel: kernel, initProgram: initProgram, to: output)
    }
  }

  /// Collects what the recipe names.
  init(_ recipe: ImageRecipe, in folder: String) throws(NFVError) {
    if let architecture = recipe.architecture, architecture != OCI.hostArchitecture {
      throw NFVError(
        .unprocessable,
        "the recipe \(recipe.name) is for \(architecture); programs are taken from this host, "
          + "which is \(OCI.hostArchitecture)")
    }
    self.folder = folder
    for directory in recipe.directories ?? [] { try add(.directory, at: directory) }
    for program in recipe.programs ?? [] { try add(program: program) }
    for file in recipe.files ?? [] { try add(file) }
    for program in recipe.programs ?? [] where split(program).name == "busybox" {
      try addApplets(of: try Self.find(program))
    }
  }

  private mutating func add(_ content: Content, at path: String) throws(NFVError) {
    guard path.hasPrefix("/"), let name = safePath(String(path.dropFirst())), !name.isEmpty else {
      throw NFVError(.malformed, "\(path) is no absolute path in an image")
    }
    entries[name] = content
  }

  private mutating func add(_ file: ImageRecipe.File) throws(NFVError) {
    guard let mode = UInt32(file.mode ?? "0644", radix: 8), mode <= 0o777 else {
      throw NFVError(
        .malformed, "the mode \(file.mode ?? "") of \(file.path) is not octal, such as 0755")
    }
    switch (file.content, file.source) {
    case (let content?, nil): try add(.file(Array(content.utf8), mode: mode), at: file.path)
    case (nil, let source?):
      let source = source.hasPrefix("/") ? source : "\(folder)/\(source)"
      try add(.file(try Self.read(source), mode: mode), at: file.path)
    default:
      throw NFVError(.malformed, "the file \(file.path) needs either content or source")
    }
  }

  private static func find(_ program: String) throws(NFVError) -> String {
    let candidates = program.hasPrefix("/") ? [program] : programFolders.map { "\($0)/\(program)" }
    guard let path = candidates.first(where: FileManager.default.isExecutableFile(atPath:)) else {
      throw NFVError(
        .unprocessable,
        "the program \(program) is not on this host; install the package that has it")
    }
    return path
  }

  /// Links the names that a busybox goes by to it, where the image has no other program of that name.
  private mutating func addApplets(of path: String) throws(NFVError) {
    let run: ProgramResult
    do {
      run = try runProgram(path, arguments: ["busybox", "--list-full"], timeout: .seconds(10))
    } catch {
      throw NFVError(.unprocessable, "\(path) cannot be run", cause: error)
    }
    guard run.status == 0 else {
      throw NFVError(
        .unprocessable,
        "\(path) does not tell its names by --list-full; take Debian's, or name it by another name")
    }
    // As the image's PATH has them: whatever folder it is in, another program is found first.
    let folders = ["usr/sbin", "usr/bin", "sbin", "bin"]
    let others = Set(
      entries.keys.filter { folders.contains(split($0).folder) }.map { split($0).name })
    for line in String(decoding: run.output, as: UTF8.self).split(whereSeparator: \.isNewline) {
      let (folder, name) = split(String(line))
      guard folders.contains(folder), !name.isEmpty, !name.contains(" "), !others.contains(name)
      else { continue }
      entries["\(folder)/\(name)"] = .link(path)
    }
  }

  private mutating func add(program: String) throws(NFVError) {
    let path = try Self.find(program)
    try addELF(path)
    // A program is found by the short path as well, as /bin is /usr/bin on this host.
    for (short, long) in [("/bin/", "/usr/bin/"), ("/sbin/", "/usr/sbin/")] {
      if path.hasPrefix(long) {
        let name = path.dropFirst(long.count)
        entries[String((short + name).dropFirst())] = .link(path)
      } else if path.hasPrefix(short) {
        let name = path.dropFirst(short.count)
        entries[String((long + name).dropFirst())] = .link(path)
      }
    }
  }

  /// Adds a program or library and, in turn, the libraries that it needs.
  private mutating func addELF(_ path: String) throws(NFVError) {
    guard entries[String(path.dropFirst())] == nil else { return }
    let bytes = try Self.read(path)
    try add(.file(bytes, mode: 0o755), at: path)
    guard let elf = ELF(bytes) else {
      // A script is taken as it is; its interpreter is a program of its own.
      if bytes.starts(with: Array("#!".utf8)) { return }
      throw NFVError(.unprocessable, "\(path) is no program of this host's architecture")
    }
    if let interpreter = elf.interpreter { try addELF(interpreter) }
    let origin = split(path).folder
    let own = elf.searchPath.map {
      $0.replacing("${ORIGIN}", with: origin).replacing("$ORIGIN", with: origin)
    }
    for library in elf.needed {
      let folders = library.hasPrefix("/") ? [""] : own + Self.libraryFolders + configuredFolders
      guard
        let folder = folders.first(where: { folder in
          let path = library.hasPrefix("/") ? library : "\(folder)/\(library)"
          return Self.machine(of: path) == elf.machine
        })
      else {
        throw NFVError(
          .unprocessable,
          "the library \(library), which \(path) needs, is not on this host; install its package")
      }
      let found = library.hasPrefix("/") ? library : "\(folder)/\(library)"
      try addELF(found)
      if !library.hasPrefix("/"), !own.contains(folder), !Self.libraryFolders.contains(folder) {
        // The image has no loader cache, which is what made the loader look there on the host.
        try add(.link(found), at: "\(Self.libraryFolders[0])/\(library)")
      }
    }
  }

  /// The e_machine of an ELF file; nil where it is none.
  private static func machine(of path: String) -> UInt64? {
    (try? readFile(path, limit: 20)).flatMap(ELF.machine(ofHead:))
  }

  /// The folders that /etc/ld.so.conf and the files it includes name (ldconfig(8)).
  private static func loaderFolders() -> [String] {
    let parts = "/etc/ld.so.conf.d"
    let files =
      ["/etc/ld.so.conf"]
      + ((try? listFolder(parts)) ?? []).filter { $0.hasSuffix(".conf") }.map { "\(parts)/\($0)" }
    return files.flatMap { file -> [String] in
      let text = String(decoding: (try? readFile(file, limit: 1 << 16)) ?? [], as: UTF8.self)
      return text.split(whereSeparator: \.isNewline).filter { $0.hasPrefix("/") }.map(String.init)
    }
  }

  static func read(_ path: String) throws(NFVError) -> [UInt8] {
    do {
      return Array(try Data(contentsOf: URL(filePath: path)))
    } catch {
      throw NFVError(.unprocessable, "\(path) cannot be read", cause: error)
    }
  }

  // MARK: Writing

  static let environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]

  /// Has `body` write an archive in a folder of its own, and moves that to its place.
  static func inWorkFolder(
    of name: String, _ output: String,
    _ body: (_ work: String) throws -> (archive: String, image: BuiltImage)
  ) throws(NFVError) -> BuiltImage {
    let work = "\(output).work"
    defer { try? FileManager.default.removeItem(atPath: work) }
    do {
      try? FileManager.default.removeItem(atPath: work)
      try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
      let (archive, image) = try body(work)
      try? FileManager.default.removeItem(atPath: output)
      try FileManager.default.moveItem(atPath: archive, toPath: output)
      return image
    } catch {
      throw imageError(error, "the image \(name) cannot be written to \(output)")
    }
  }

  private func write(_ recipe: ImageRecipe, to output: String) throws(NFVError) -> BuiltImage {
    try Self.inWorkFolder(of: recipe.name, output) { work in
      let layerPath = "\(work)/layer.tar"
      let names = try writeRoot(to: layerPath, .tar)
      let layer = try Self.read(layerPath)
      let layerDigest = sha256(layer)
      let image = OCI.Image(
        architecture: OCI.hostArchitecture, os: "linux",
        config: .init(
          user: recipe.user, environment: recipe.env ?? Self.environment,
          entrypoint: recipe.entrypoint, command: recipe.command,
          workingDirectory: recipe.workdir ?? "/"),
        rootfs: .init(diffIDs: ["sha256:\(layerDigest)"]))
      let config = try canonicalJSON(image)
      let manifest = try canonicalJSON(
        OCI.Manifest(
          config: .init(
            mediaType: OCI.configurationType,
            digest: "sha256:\(sha256(config))", size: config.count),
          layers: [
            .init(
              mediaType: OCI.layerType, digest: "sha256:\(layerDigest)", size: layer.count)
          ]))
      let digest = sha256(manifest)
      let index = try canonicalJSON(
        OCI.Index(manifests: [
          .init(
            mediaType: OCI.manifestType, digest: "sha256:\(digest)",
            size: manifest.count,
            platform: .init(architecture: OCI.hostArchitecture, os: "linux"),
            annotations: ["org.opencontainers.image.ref.name": recipe.name])
        ]))
      let archive = "\(work)/image.tar"
      let writer = try ArchiveWriter(path: archive, format: .tar)
      try writer.add(
        file: "oci-layout", content: Array("{\"imageLayoutVersion\":\"1.0.0\"}".utf8))
      try writer.add(file: "index.json", content: index)
      for (name, content) in [
        (sha256(config), config), (digest, manifest), (layerDigest, layer),
      ].sorted(by: { $0.0 < $1.0 }) {
        try writer.add(file: "blobs/sha256/\(name)", content: content)
      }
      try writer.finish()
      return (
        archive,
        BuiltImage(
          digest: ImageDigest("sha256:\(digest)"),
          size: UInt64(config.count + layer.count), files: names)
      )
    }
  }

  /// Writes the root file system.
  /// - Returns: the paths in it.
  func writeRoot(to path: String, _ format: ArchiveWriter.Format) throws -> [String] {
    var all = entries
    for name in entries.keys {
      // Every folder on the way is an entry of its own.
      var folder = split(name).folder
      while !folder.isEmpty, all[folder] == nil {
        all[folder] = .directory
        folder = split(folder).folder
      }
    }
    let writer = try ArchiveWriter(path: path, format: format)
    for name in all.keys.sorted() {
      switch all[name]! {
      case .directory:
        try writer.add(directory: name, mode: name.hasSuffix("tmp") ? 0o1777 : 0o755)
      case .link(let target): try writer.add(symbolicLink: name, target: target)
      case .file(let content, let mode): try writer.add(file: name, mode: mode, content: content)
      }
    }
    try writer.finish()
    return all.keys.sorted()
  }
}
