internal import FoundationEssentials
internal import LinuxSystem
public import NFVModel

/// A Linux kernel with its modules for the images of virtual machines, as Debian packages it;
/// unpacked, not installed.
public struct KernelPackage: Sendable, Hashable {
  /// What it is called: the package's name, version and architecture.
  public let name: String
  /// Where it is unpacked.
  private let folder: String

  private static let metapackage = "linux-image-cloud-amd64"
  private static let marker = "unpacked"

  /// Where kernels are kept between builds: `$XDG_CACHE_HOME/martlet/kernels`, by default below
  /// `~/.cache`.
  public static var standardCache: String {
    let environment = ProcessInfo.processInfo.environment
    let home = environment["HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? "/root"
    let cache = environment["XDG_CACHE_HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil }
    return (cache ?? "\(home)/.cache") + "/martlet/kernels"
  }

  /// The kernel of a Debian package; unpacked in the cache, where it is taken the next time.
  public init(package path: String, cache: String = standardCache) throws(NFVError) {
    guard fileExists(path) else { throw NFVError(.notFound, "there is no package \(path)") }
    let file = split(path).name
    name = file.hasSuffix(".deb") ? String(file.dropLast(4)) : file
    // Another content under the same name is another kernel.
    let digest = sha256(try Self.read(path))
    folder = "\(cache)/\(name)-\(digest.prefix(12))"
    guard !fileExists("\(folder)/\(Self.marker)") else { return }
    let work = "\(cache)/unpack-\(UInt64.random(in: 0 ..< .max))"
    defer { try? removeTree(work) }
    do {
      try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
      try Self.run("/usr/bin/dpkg-deb", ["-x", path, work], "\(path) cannot be unpacked")
      try Self.check(work, path)
      try Data(Array(name.utf8)).write(to: URL(filePath: "\(work)/\(Self.marker)"))
      try? removeTree(folder)
      try moveFile(work, to: folder)
    } catch {
      throw imageError(error, "the kernel \(path) cannot be unpacked in \(cache)")
    }
  }

  /// The newest kernel in the cache; where there is none, Debian's current cloud kernel, by
  /// `apt-get download`.
  /// - Parameter progress: is told what is under way.
  public static func standard(
    cache: String = standardCache, progress: (String) -> Void = { _ in }
  ) throws(NFVError) -> KernelPackage {
    if let known = try kept(in: cache) { return known }
    progress("Getting Debian's cloud kernel (27 MB, once; kept in \(cache))")
    let work = "\(cache)/download-\(UInt64.random(in: 0 ..< .max))"
    defer { try? removeTree(work) }
    let hint =
      "; get the package on a machine that can, by apt-get download of what \(metapackage) "
      + "depends on, and name it by --kernel"
    do {
      try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
      let answer = try run(
        "/usr/bin/apt-cache", ["depends", "--no-recommends", "--important", metapackage],
        "apt knows no \(metapackage)\(hint)")
      let dependency = answer.split(separator: "\n").lazy
        .map { $0.split(separator: " ") }
        .first { $0.count == 2 && $0[0] == "Depends:" && $0[1].hasPrefix("linux-image-") }
      guard let dependency else {
        throw NFVError(.unavailable, "apt knows no kernel of \(metapackage)\(hint)")
      }
      _ = try run(
        "/bin/sh",
        ["-c", "cd \"$0\" && exec apt-get -q download \"$1\"", work, String(dependency[1])],
        "the kernel \(dependency[1]) cannot be got\(hint)")
      guard let file = try listFolder(work).first(where: { $0.hasSuffix(".deb") }) else {
        throw NFVError(.unavailable, "apt-get brought no package\(hint)")
      }
      progress("Unpacking \(file)")
      return try KernelPackage(package: "\(work)/\(file)", cache: cache)
    } catch {
      throw imageError(error, "no kernel can be got\(hint)")
    }
  }

  private init(name: String, folder: String) {
    self.name = name
    self.folder = folder
  }

  /// The newest kernel in the cache, where a package of `make setup` is unpacked when it is wanted
  /// first; nil where there is none.
  public static func kept(in cache: String = standardCache) throws(NFVError) -> KernelPackage? {
    if let known = newest(in: cache) { return known }
    let files = ((try? listFolder(cache)) ?? []).filter { $0.hasSuffix(".deb") }
    guard let file = files.last else { return nil }
    return try KernelPackage(package: "\(cache)/\(file)", cache: cache)
  }

  private static func newest(in cache: String) -> KernelPackage? {
    let names = (try? listFolder(cache)) ?? []
    let known = names.compactMap { entry -> KernelPackage? in
      let folder = "\(cache)/\(entry)"
      guard let name = try? readFile("\(folder)/\(marker)", limit: 256) else { return nil }
      return KernelPackage(name: String(decoding: name, as: UTF8.self), folder: folder)
    }
    // 6.1.0-9 is older than 6.1.0-10.
    func numbers(_ name: String) -> [Int] {
      name.split { !$0.isNumber }.compactMap { Int($0) }
    }
    return known.max { numbers($0.name).lexicographicallyPrecedes(numbers($1.name)) }
  }

  private static func check(_ folder: String, _ path: String) throws(NFVError) {
    let kernels = ((try? listFolder("\(folder)/boot")) ?? []).filter { $0.hasPrefix("vmlinuz-") }
    guard kernels.count == 1, fileExists("\(folder)/lib/modules/\(kernels[0].dropFirst(8))") else {
      throw NFVError(
        .unprocessable,
        "\(path) is no kernel package: it has no boot/vmlinuz-VERSION with lib/modules/VERSION")
    }
  }

  @discardableResult
  private static func run(
    _ program: String, _ arguments: [String], _ failure: String
  ) throws -> String {
    guard fileExists(program) else {
      throw NFVError(.unavailable, "\(failure); \(program) is not on this host")
    }
    let result = try runProgram(program, arguments: [program] + arguments)
    let output = String(decoding: result.output, as: UTF8.self)
    guard result.status == 0 else {
      throw NFVError(.unavailable, failure, cause: String(output.suffix(500)))
    }
    return output
  }

  private static func read(_ path: String) throws(NFVError) -> [UInt8] {
    do {
      return Array(try Data(contentsOf: URL(filePath: path)))
    } catch {
      throw NFVError(.unprocessable, "\(path) cannot be read", cause: error)
    }
  }

  /// The kernel's release, such as `6.1.0-1-cloud-amd64`.
  func release() throws(NFVError) -> String {
    let names = (try? listFolder("\(folder)/boot")) ?? []
    guard let name = names.first(where: { $0.hasPrefix("vmlinuz-") }) else {
      throw NFVError(.unprocessable, "\(folder) holds no kernel any more; remove that folder")
    }
    return String(name.dropFirst(8))
  }

  func kernel() throws(NFVError) -> [UInt8] {
    try Self.read("\(folder)/boot/vmlinuz-\(try release())")
  }

  func modules() throws(NFVError) -> KernelModules {
    try KernelModules(folder: "\(folder)/lib/modules/\(try release())")
  }
}
