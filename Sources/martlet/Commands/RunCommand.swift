internal import ArgumentParser
internal import FoundationEssentials
internal import NFVClient
internal import NFVModel
internal import NFVPackages
internal import SystemPackage

extension VnfCommand {
  struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Create an instance of a package and start it, in one go.",
      discussion: """
        The package is one that is onboarded (its VNFD's id, product name or identifier), or a \
        CSAR file or a package's folder, which is built and onboarded first.

        Examples:
          martlet vnf run firewall --name fw --connect left=lan --connect right=wan
          martlet vnf run examples/firewall --param 'rules=[{"action":"accept"}]'
          martlet vnf run responder --connect eth0=lan,10.1.0.5 -o name
        """)

    @Argument(help: "The package.", completion: .file()) var package: String
    @Option(help: "What to call the instance (default: the product's name and a number).")
    var name: String?
    @OptionGroup var options: InstantiationOptions
    @OptionGroup var operation: OperationOptions

    func run() async throws {
      let daemon = try operation.connection.daemon()
      let package = try await daemon.package(package, operation.waiting.timeout.duration)
      let name: String
      if let given = self.name {
        name = given
      } else {
        name = try await daemon.freeName(package["vnfProductName"].text)
      }
      let created = try await daemon.create(
        vnfdID: package["vnfdId"].text, name: name, description: nil)
      let id = created["id"].text
      let begun: String
      do throws(Failure) {
        begun = try await daemon.begin(
          "\(Kind.vnf.collection)/\(id)/instantiate", options.request)
      } catch {
        // Nothing has begun: what was created for it goes again.
        _ = try? await daemon.send(.delete, "\(Kind.vnf.collection)/\(id)")
        throw error
      }
      guard operation.waiting.wait else { return try await operation.showBegun(begun, daemon) }
      try await operation.finish(begun, "start \(name)", daemon)
      let instance = try await daemon.get(.vnf, id)
      operation.output.write(instance, of: .vnf)
      if operation.output.output == .table || operation.output.output == .wide {
        let vnfcs = instance["instantiatedVnfInfo", "vnfcResourceInfo"].elements
        Console.current.note(nextSteps(name, vnfcs))
      }
    }
  }
}

/// What one does with a function that runs.
/// - Parameter vnfcs: its own; where there are several, what is asked of one names it.
func nextSteps(_ name: String, _ vnfcs: [JSONValue]) -> String {
  func option(_ vnfc: JSONValue?) -> String {
    guard vnfcs.count > 1, let vnfc else { return "" }
    return " --vnfc \(vnfcName(vnfc))"
  }
  // A unikernel has nothing that could be run.
  let withCommands = vnfcs.first { $0["metadata", "technology"].text != "unikernel" }
  var steps = [
    ("martlet describe vnf \(name)", "its addresses, Vnfcs and ports"),
    ("martlet logs -f \(name)\(option(vnfcs.first))", "what it writes"),
  ]
  if withCommands != nil {
    steps.append(
      ("martlet exec -it \(name)\(option(withCommands)) -- sh", "a shell inside, if it has one"))
  }
  let width = (steps.map(\.0.count).max() ?? 0) + 4
  let lines = steps.map { "  \($0.padded(to: width))\($1)" }
  let last = "  martlet vnf terminate \(name) && martlet vnf delete \(name)"
  return "\n" + (["\(name) runs. Next:"] + lines + [last]).joined(separator: "\n")
}

extension Daemon {
  /// An onboarded package, by whatever it is called; a file is onboarded first.
  ///
  /// What has a `/` or ends in `.csar` or `.zip` is a file.
  func package(_ reference: String, _ limit: Duration) async throws(Failure) -> JSONValue {
    let isFile =
      reference.contains("/") || reference.hasSuffix(".csar") || reference.hasSuffix(".zip")
    guard isFile || Project.isFolder(reference) else {
      return try await find(.package, reference)
    }
    try requirePackageFile(reference)
    let read: ReadPackage
    do throws(PackageError) {
      let files =
        Project.isFolder(reference)
        ? try PackageFiles(folder: reference) : try PackageFiles(archive: reference)
      read = try PackageReader.read(files)
    } catch {
      throw Failure(error.problem)
    }
    let descriptor = read.descriptor
    if let known = try await list(.package).first(where: { $0["vnfdId"].text == descriptor.id }) {
      Console.current.note(
        """
        The descriptor \(descriptor.id) is onboarded already; that package is taken as it is. For a \
        changed one: another descriptor_id, or `martlet package delete \(descriptor.id)` first.
        """)
      return known
    }
    Project.warn(read.diagnostics)
    guard Project.isFolder(reference) else {
      return try await onboarded(try await upload(reference), limit)
    }
    let archive = "/tmp/martlet-\(UInt64.random(in: 0 ..< .max)).csar"
    defer { try? FileManager.default.removeItem(atPath: archive) }
    try await Project.building(descriptor.productName) { project throws(Failure) in
      try project.build(reference, to: archive)
    }
    return try await onboarded(try await upload(archive), limit)
  }

  /// The product's name, with a number where that is taken.
  func freeName(_ product: String) async throws(Failure) -> String {
    let taken = Set(try await list(.vnf).map { $0["vnfInstanceName"].text })
    let base = product.isEmpty ? "vnf" : product
    if !taken.contains(base) { return base }
    var number = 2
    while taken.contains("\(base)-\(number)") { number += 1 }
    return "\(base)-\(number)"
  }
}
