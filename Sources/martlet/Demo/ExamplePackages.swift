internal import FoundationEssentials
internal import NFVBenchmark
internal import NFVImages
internal import NFVModel
internal import NFVPackages

/// The example packages, built for the demo and the benchmark.
struct ExamplePackages: Sendable {
  /// Where they are built.
  private let folder: String
  /// Octets of each package's image in each flavour.
  private(set) var imageBytes: [String: [String: Int64]] = [:]
  /// Why there are no images of virtual machines; nil where there are.
  let withoutMachines: String?

  /// - Parameters:
  ///   - examples: the folder with the sources.
  ///   - folder: where the packages are written.
  ///   - begin: is told each one before it is built.
  init(
    _ names: [String], from examples: String, to folder: String,
    begin: (String) -> Void = { _ in }
  ) throws {
    self.folder = folder
    let kernel: KernelPackage?
    do throws(NFVError) {
      kernel = try KernelPackage.kept()
    } catch {
      throw Failure(error)
    }
    withoutMachines =
      kernel == nil ? "no kernel is in \(KernelPackage.standardCache); `make setup` gets one" : nil
    for name in names {
      begin(name)
      var source = "\(examples)/\(name)"
      if kernel == nil {
        source = "\(folder)/\(name)"
        try Self.copyWithoutMachines("\(examples)/\(name)", to: source)
      }
      var sizes: [String: Int64] = [:]
      try Project().build(source, to: path(of: name)) { technology, image in
        sizes[technology.rawValue] = Int64(image.size)
      }
      imageBytes[name] = sizes
    }
  }

  func path(of name: String) -> String { "\(folder)/\(name).csar" }

  /// The forms in which a package's functions can run.
  func forms(of name: String) -> [Form] {
    Form.all.filter { imageBytes[name]?[$0.flavour] != nil }
  }

  /// A package's source without its flavour of virtual machines, which stands in a file of its own.
  private static func copyWithoutMachines(_ source: String, to target: String) throws {
    let files = FileManager.default
    try files.copyItem(atPath: source, toPath: target)
    let definitions = "\(target)/Definitions"
    for name in try files.contentsOfDirectory(atPath: definitions) {
      let path = "\(definitions)/\(name)"
      if name.hasSuffix(".tinyx.yaml") {
        try files.removeItem(atPath: path)
      } else {
        let lines = try String(contentsOfFile: path, encoding: .utf8)
          .split(separator: "\n", omittingEmptySubsequences: false)
          .filter { !$0.hasSuffix(".tinyx.yaml") }
        try lines.joined(separator: "\n").write(toFile: path, atomically: false, encoding: .utf8)
      }
    }
  }
}
