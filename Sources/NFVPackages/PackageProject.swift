internal import Archive
internal import Crypto
internal import FoundationEssentials
public import NFVModel

/// A package's source folder: what becomes a CSAR.
///
/// An image artifact `NAME.tar` that is not there is built from the recipe `NAME.yaml` beside it, in
/// the form of its VDU's technology. So that one recipe makes several, `NAME.tinyx.tar` and
/// `NAME.unikernel.tar` are built from `NAME.yaml` too, where they have none of their own.
public struct PackageProject: Sendable {
  public let folder: String

  public init(folder: String) { self.folder = folder }

  /// Checks the folder as a package.
  /// - Returns: all that was found; without an error among it the package can be built.
  public func lint() -> [PackageDiagnostic] {
    do throws(PackageError) {
      return try PackageReader.read(try PackageFiles(folder: folder)).diagnostics
    } catch {
      return error.diagnostics
    }
  }

  /// Writes the package with its manifest; the same sources give the same bytes.
  /// - Parameters:
  ///   - output: the CSAR; replaced where it is there.
  ///   - buildImage: builds the image of a recipe for a technology; both are paths of this host.
  /// - Throws: `unprocessable` with the first diagnostic where the folder is no package.
  public func build(
    to output: String,
    buildImage: (_ recipe: String, Technology, _ image: String) throws(NFVError) -> Void
  ) throws(NFVError) {
    let package: ReadPackage
    do throws(PackageError) {
      package = try PackageReader.read(try PackageFiles(folder: folder))
    } catch {
      throw error.problem
    }
    let work = "\(output).work"
    defer { try? FileManager.default.removeItem(atPath: work) }
    do {
      try? FileManager.default.removeItem(atPath: work)
      try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
      var sources = Dictionary(
        uniqueKeysWithValues: package.files.names.map { ($0, "\(folder)/\($0)") })
      var images: [String: Technology] = [:]
      for vdu in package.descriptor.flavours.flatMap(\.vdus) {
        if let path = vdu.imagePath { images[path] = vdu.technology }
      }
      for (index, image) in images.keys.sorted().enumerated() where sources[image] == nil {
        guard let recipe = package.files.recipe(of: image) else { continue }
        let target = "\(work)/image-\(index).tar"
        try buildImage("\(folder)/\(recipe)", images[image] ?? .container, target)
        sources[image] = target
      }
      try write(sources, to: "\(work)/package.csar")
      try? FileManager.default.removeItem(atPath: output)
      try FileManager.default.moveItem(atPath: "\(work)/package.csar", toPath: output)
    } catch let error as NFVError {
      throw error
    } catch {
      throw NFVError(.failed, "the package cannot be written to \(output)", cause: error)
    }
  }

  private func write(_ sources: [String: String], to path: String) throws {
    let manifestName = Self.manifestName(sources.keys.sorted())
    var manifest = "metadata:\n"
    for name in sources.keys.sorted() where name != manifestName {
      let content = try FileContent(path: sources[name]!)
      var hash = SHA256()
      while true {
        let piece = try content.next()
        if piece.isEmpty { break }
        hash.update(data: piece)
      }
      manifest +=
        "\nSource: \(name)\nAlgorithm: SHA-256\nHash: \(hexadecimal(hash.finalize()))\n"
    }
    let writer = try ArchiveWriter(path: path, format: .zip)
    // TOSCA.meta first, as the first thing that a reader wants.
    let first = "TOSCA-Metadata/TOSCA.meta"
    let names = sources.keys.filter { $0 != manifestName }.sorted {
      ($0 == first ? "" : $0) < ($1 == first ? "" : $1)
    }
    for name in names {
      let content = try FileContent(path: sources[name]!)
      try writer.add(file: name, size: content.size) { () throws(ArchiveError) in
        try content.next()
      }
    }
    try writer.add(file: manifestName, content: Array(manifest.utf8))
    try writer.finish()
  }

  /// The manifest that TOSCA.meta names; `package.mf` where there is none.
  private static func manifestName(_ names: [String]) -> String {
    names.first { !$0.contains("/") && $0.hasSuffix(".mf") } ?? "package.mf"
  }

  /// Makes a new package that lints and builds: one container with one connection point, or a network
  /// function in Swift in its three forms.
  /// - Parameters:
  ///   - name: of the package; letters, digits and hyphens.
  ///   - function: the network function in Swift that it is to be of.
  /// - Throws: `conflict` where the folder is there already.
  public func create(name: String, function: String? = nil) throws(NFVError) {
    guard !name.isEmpty, name.utf8.count <= 40,
      name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") })
    else {
      throw NFVError(.malformed, "a package's name has letters, digits and hyphens only")
    }
    guard !FileManager.default.fileExists(atPath: folder) else {
      throw NFVError(.conflict, "\(folder) exists already; name another folder")
    }
    do {
      let files =
        function.map { FunctionTemplate(name: name, function: $0).files }
        ?? ProjectTemplate.files(name: name)
      for (path, text) in files {
        let target = "\(folder)/\(path)"
        let parent = target.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        try FileManager.default.createDirectory(
          atPath: parent.joined(separator: "/"), withIntermediateDirectories: true)
        try text.write(toFile: target, atomically: false, encoding: .utf8)
      }
    } catch {
      throw NFVError(.failed, "\(folder) cannot be written", cause: error)
    }
  }
}

extension PackageFiles {
  /// The recipe that an image which is not there is built from.
  func recipe(of image: String) -> String? {
    guard image.hasSuffix(".tar") else { return nil }
    let name = image.dropLast(4)
    let common = [".tinyx", ".unikernel"].first(where: name.hasSuffix).map {
      name.dropLast($0.count)
    }
    let names = [name] + (common.map { [$0] } ?? [])
    return names.map { "\($0).yaml" }.first { files[$0] != nil }
  }
}
