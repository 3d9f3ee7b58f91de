internal import HTTPTypes
internal import Hummingbird
internal import NFVLifecycle
internal import NFVModel

/// SOL005 9.4 and SOL003 10.4: VNF packages.
struct VnfPackages: Sendable {
  let lifecycle: Lifecycle
  let catalogue: Catalogue

  private static let onboarded = "/vnfpkgm/v2/onboarded_vnf_packages"
  private static let complex: Set<String> = [
    "softwareImages", "additionalArtifacts", "userDefinedData", "checksum",
    "onboardingFailureDetails",
  ]
  private static let attributes: Set<String> = [
    "id", "vnfdId", "vnfProvider", "vnfProductName", "vnfSoftwareVersion", "vnfdVersion",
    "onboardingState", "operationalState", "usageState",
  ]

  /// A package, and whether an instance uses it.
  struct View: Sendable {
    var package: VnfPackage
    var isUsed: Bool
    var progress: Catalogue.Progress?

    var onboarding: VnfPackage.OnboardingState {
      switch progress {
      case .uploading: .uploading
      case .waiting: .processing
      case nil: package.onboarding
      }
    }
  }

  func register(on routes: inout Routes) {
    let all = RouterPath(Path.packages)
    let one = "\(Path.packages)/{vnfPkgId}"
    routes.on(.get, all, .list("VnfPkgInfo", "Lists the VNF packages."), list)
    routes.on(
      .post, all,
      .create("VnfPkgInfo", by: "CreateVnfPkgInfoRequest", "Makes a VNF package without content.")
    ) { call, context in
      let data = try await call.json().object("userDefinedData")
      let response = try await lifecycle.submit(
        .createPackage(userDefinedData: data), tenant: context.tenant, actor: context.actor)
      guard case .package(let package) = response else { throw Problem(unexpected: response) }
      return .json(status: .created, headers: [.location: Path.package(package.id)]) {
        $0.package(View(package: package, isUsed: false))
      }
    }
    routes.on(
      .patch, RouterPath(one),
      .modify(
        by: "VnfPkgInfoModifications",
        "Modifies a VNF package's operational state and user's data.",
        answer: "VnfPkgInfoModifications"), patch)
    routes.on(
      .delete, RouterPath(one), .delete("Deletes a VNF package that no instance uses.")
    ) { call, context in
      let id: VnfPackageID = context.identifier("vnfPkgId")
      if call.isConditional {
        let view = try find(id, context.tenant)
        try call.checkMatch { $0.package(view) }
      }
      if catalogue.progress(of: id) != nil {
        throw NFVError(.conflict, "the package \(id) is being read; delete it afterwards")
      }
      _ = try await lifecycle.submit(
        .deletePackage(id), tenant: context.tenant, actor: context.actor)
      catalogue.remove(id)
      return .empty(.noContent)
    }
    routes.on(
      .put, RouterPath("\(one)/package_content"), .upload("Uploads a VNF package's archive.")
    ) { call, context in
      let view = try find(context.identifier("vnfPkgId"), context.tenant)
      try await catalogue.receive(call.body, for: view.package)
      return .empty(.accepted)
    }
    // SOL003 10.4.3 to 10.4.7: by the descriptor's identifier as well.
    routes.on(
      .get, RouterPath(Self.onboarded), .list("VnfPkgInfo", "Lists the onboarded VNF packages."),
      list)
    for base in [one, "\(Self.onboarded)/{vnfdId}"] {
      routes.on(
        .get, RouterPath(base), .get("VnfPkgInfo", "Shows a VNF package.")
      ) { call, context in
        let view = try named(context)
        return call.resource(capacity: 2048) { $0.package(view) }
      }
      registerContents(below: base, on: &routes)
    }
  }

  /// The package that the path names, by its own identifier or by its descriptor's.
  func named(_ context: CallContext) throws(NFVError) -> View {
    let id: VnfPackageID = context.identifier("vnfPkgId")
    guard id.rawValue.isEmpty else { return try find(id, context.tenant) }
    let vnfd = context.parameter("vnfdId")
    let found = try lifecycle.read {
      (state: borrowing State) throws(NFVError) -> VnfPackageID? in
      state.packages.values.first {
        $0.content?.descriptor.id == vnfd && $0.tenant == context.tenant
      }?.id
    }
    guard let found else {
      throw NFVError(.notFound, "no package with the descriptor \(vnfd) is onboarded")
    }
    return try find(found, context.tenant)
  }

  private func find(_ id: VnfPackageID, _ tenant: TenantID) throws(NFVError) -> View {
    var view = try lifecycle.read { (state: borrowing State) throws(NFVError) -> View in
      guard let package = state.packages[id], package.tenant == tenant else {
        throw NFVError(.notFound, "there is no VNF package \(id)")
      }
      return View(
        package: package, isUsed: state.instances.values.contains { $0.package == id })
    }
    view.progress = catalogue.progress(of: id)
    return view
  }

  private func list(_ call: Call, _ context: CallContext) async throws -> Reply {
    let listing = try Listing(call, attributes: Self.attributes, complex: Self.complex)
    let onlyOnboarded = call.uri.path.hasPrefix(Self.onboarded)
    let (views, next) = try lifecycle.read {
      (state: borrowing State) throws(NFVError) -> ([View], String?) in
      let used = Set(state.instances.values.map(\.package))
      var items: [Listing.Item<VnfPackage>] = []
      for (id, package) in state.packages
      where package.tenant == context.tenant && (package.content != nil || !onlyOnboarded) {
        items.append(.init(created: package.createdAt, id: id))
      }
      var views: [View] = []
      let next = try listing.page(of: items) { id in
        guard let package = state.packages[id] else { return false }
        let view = View(
          package: package, isUsed: used.contains(id), progress: catalogue.progress(of: id))
        guard listing.filter.matches(view.attribute) else { return false }
        views.append(view)
        return true
      }
      return (views, next)
    }
    return listing.reply(views, next: next) { $0.package($1, listing.selection) }
  }

  /// SOL005 9.5.2.2: VnfPkgInfoModifications.
  private func patch(_ call: Call, _ context: CallContext) async throws -> Reply {
    let id: VnfPackageID = context.identifier("vnfPkgId")
    let body = try await call.json()
    let view = try find(id, context.tenant)
    try call.checkMatch { $0.package(view) }
    let known: Set<String> = ["operationalState", "userDefinedData"]
    let names = Set(try body.members().keys)
    if let other = names.subtracting(known).min() {
      throw Problem(
        .unprocessableContent,
        "\(other) cannot be changed of a VNF package; operationalState and userDefinedData can")
    }
    let state: VnfPackage.OperationalState? = try body.member("operationalState")?.oneOf()
    let data = try body.object("userDefinedData")
    guard state != nil || !data.isEmpty else {
      throw Problem(
        .unprocessableContent, "give operationalState, userDefinedData or both to be changed")
    }
    _ = try await lifecycle.submit(
      .modifyPackage(
        id, operational: state, userDefinedData: data,
        expected: call.isConditional ? view.package : nil),
      tenant: context.tenant, actor: context.actor)
    return .json {
      $0.object {
        $0.field("operationalState", state?.rawValue)
        if !data.isEmpty { $0.field("userDefinedData", .object(data)) }
      }
    }
  }
}

extension Endpoint {
  fileprivate static func upload(_ summary: String) -> Endpoint {
    Endpoint(
      summary: summary,
      body: Body(types: ["application/zip", "application/octet-stream"], schema: nil),
      answers: [Answer(status: 202, description: "Accepted; the package tells what becomes of it.")]
    )
  }
}

extension VnfPackage.OperationalState: CaseIterable {
  static var allCases: [Self] { [.enabled, .disabled] }
}

extension VnfPackages.View {
  fileprivate func attribute(_ name: String) -> String? {
    let descriptor = package.content?.descriptor
    return switch name {
    case "id": package.id.rawValue
    case "vnfdId": descriptor?.id
    case "vnfProvider": descriptor?.provider
    case "vnfProductName": descriptor?.productName
    case "vnfSoftwareVersion": descriptor?.softwareVersion
    case "vnfdVersion": descriptor?.descriptorVersion
    case "onboardingState": onboarding.rawValue
    case "operationalState": package.operational.rawValue
    case "usageState": usage
    default: nil
    }
  }

  fileprivate var usage: String { isUsed ? "IN_USE" : "NOT_IN_USE" }
}

extension JSONWriter {
  /// SOL003 10.5.2.2.
  fileprivate mutating func package(_ view: VnfPackages.View, _ selection: Selection = .all) {
    let package = view.package
    let path = Path.package(package.id)
    object {
      $0.field("id", package.id)
      if let content = package.content {
        let descriptor = content.descriptor
        $0.field("vnfdId", descriptor.id)
        $0.field("vnfProvider", descriptor.provider)
        $0.field("vnfProductName", descriptor.productName)
        $0.field("vnfSoftwareVersion", descriptor.softwareVersion)
        $0.field("vnfdVersion", descriptor.descriptorVersion)
        if selection.includes("checksum") { $0.checksum(content.digest) }
        if selection.includes("softwareImages") { $0.softwareImages(content, package.createdAt) }
      }
      $0.field("packageSecurityOption", "OPTION_1")
      $0.field("onboardingState", view.onboarding.rawValue)
      $0.field("operationalState", package.operational.rawValue)
      $0.field("usageState", view.usage)
      $0.array("vnfmInfo") { $0.value("martlet") }
      if selection.includes("userDefinedData"), !package.userDefinedData.isEmpty {
        $0.field("userDefinedData", .object(package.userDefinedData))
      }
      if selection.includes("onboardingFailureDetails"), view.progress == nil,
        let error = package.error
      {
        $0.key("onboardingFailureDetails")
        Problem(error).write(to: &$0, instance: path)
      }
      $0.object("org.martlet") {
        $0.field("createdAt", package.createdAt)
        $0.field("size", package.content?.size)
        $0.array("flavours") {
          for flavour in package.content?.descriptor.flavours ?? [] { $0.value(flavour.id) }
        }
      }
      $0.object("_links") {
        $0.object("self") { $0.field("href", path) }
        if package.content != nil { $0.object("vnfd") { $0.field("href", "\(path)/vnfd") } }
        $0.object("packageContent") { $0.field("href", "\(path)/package_content") }
      }
    }
  }

  /// A Checksum (SOL003 4.4.1.5) from `sha256:` and hexadecimal digits.
  private mutating func checksum(_ digest: String) {
    object("checksum") {
      $0.field("algorithm", "SHA-256")
      $0.field("hash", digest.hasPrefix("sha256:") ? String(digest.dropFirst(7)) : digest)
    }
  }

  /// One of each artifact, with the VDU that uses it first (SOL003 10.5.3.2).
  private mutating func softwareImages(_ content: VnfPackage.Content, _ moment: Timestamp) {
    var seen: Set<String> = []
    let vdus = content.descriptor.flavours.flatMap(\.vdus).filter {
      $0.imagePath.map { seen.insert($0).inserted } ?? false
    }
    objects("softwareImages", vdus) {
      let path = $1.imagePath ?? ""
      $0.field("id", $1.id)
      $0.field("name", $1.name)
      $0.field("provider", content.descriptor.provider)
      $0.field("version", content.descriptor.softwareVersion)
      $0.checksum(content.images[path]?.rawValue ?? "")
      $0.field("isEncrypted", false)
      $0.field("containerFormat", $1.technology == .container ? "DOCKER" : "BARE")
      $0.field("diskFormat", "RAW")
      $0.field("createdAt", moment)
      $0.field("minDisk", $1.writableLayerBytes)
      $0.field("minRam", $1.memoryBytes)
      $0.field("size", content.imageSizes[path] ?? 0)
      $0.field("imagePath", path)
    }
  }
}
