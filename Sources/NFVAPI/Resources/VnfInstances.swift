internal import HTTPTypes
internal import Hummingbird
internal import NFVLifecycle
internal import NFVModel

/// SOL003 5.4.2 to 5.4.10: VNF instances and the operations on them.
struct VnfInstances: Sendable {
  let lifecycle: Lifecycle
  let pauses: Pauses

  func register(on routes: inout Routes) {
    let all = RouterPath(Path.instances)
    let one = RouterPath("\(Path.instances)/{vnfInstanceId}")
    routes.on(
      .post, all, .create("VnfInstance", by: "CreateVnfRequest", "Creates a VNF instance."), create)
    routes.on(.get, all, .list("VnfInstance", "Lists the VNF instances."), list)
    routes.on(.get, one, .get("VnfInstance", "Shows a VNF instance."), get)
    routes.on(
      .delete, one, .delete("Deletes a VNF instance that is not instantiated."), delete)
    routes.on(
      .patch, one,
      .modify(
        by: "VnfInfoModificationRequest",
        "Modifies a VNF instance's name, description, metadata, extensions and configurable "
          + "properties."), modify)
    task("instantiate", by: "InstantiateVnfRequest", on: &routes) {
      .instantiate($0, try InstantiateVnfRequest($1))
    }
    task("scale", by: "ScaleVnfRequest", on: &routes) { .scale($0, try ScaleVnfRequest($1)) }
    task("scale_to_level", by: "ScaleVnfToLevelRequest", on: &routes) {
      .scaleToLevel($0, try ScaleVnfToLevelRequest($1))
    }
    task("operate", by: "OperateVnfRequest", on: &routes) {
      .operate($0, try OperateVnfRequest($1))
    }
    task("heal", by: "HealVnfRequest", on: &routes) { .heal($0, try HealVnfRequest($1)) }
    task("terminate", by: "TerminateVnfRequest", on: &routes) {
      .terminate($0, try TerminateVnfRequest($1))
    }
    for name in ["change_flavour", "change_ext_conn", "change_vnfpkg"] {
      routes.on(
        .post, RouterPath("\(Path.instances)/{vnfInstanceId}/\(name)"), .missing(name),
        notYet(name))
    }
  }

  /// A task resource: its body is a request that opens an operation.
  private func task(
    _ name: String, by schema: String, on routes: inout Routes,
    _ read: @escaping @Sendable (VnfInstanceID, JSONBody) throws -> NFVModel.Request
  ) {
    routes.on(
      .post, RouterPath("\(Path.instances)/{vnfInstanceId}/\(name)"),
      .task(by: schema, "Opens the operation \(name) of a VNF instance.")
    ) { call, context in
      let request = try read(context.identifier("vnfInstanceId"), try await call.json())
      return try await submit(request, context)
    }
  }

  /// Asks for an operation; the answer names its occurrence.
  private func submit(
    _ request: NFVModel.Request, _ context: CallContext
  ) async throws -> Reply {
    let response = try await lifecycle.submit(
      request, tenant: context.tenant, actor: context.actor)
    guard case .operation(let operation) = response else { throw Problem(unexpected: response) }
    return .empty(.accepted, location: Path.occurrence(operation.id))
  }

  /// An operation of SOL003 that Martlet does not have yet.
  private func notYet(_ name: String) -> @Sendable (Call, CallContext) async throws -> Reply {
    { _, context in
      _ = try await view(context.identifier("vnfInstanceId"), context.tenant)
      throw Problem(.notImplemented, "\(name) of a VNF instance does not exist in Martlet yet")
    }
  }

  // MARK: Resources

  private func create(_ call: Call, _ context: CallContext) async throws -> Reply {
    let request = try CreateVnfRequest(try await call.json())
    let response = try await lifecycle.submit(
      .createInstance(request), tenant: context.tenant, actor: context.actor)
    guard case .instance(let instance) = response else { throw Problem(unexpected: response) }
    let view = try lifecycle.read {
      (state: borrowing State) throws(NFVError) in
      VnfInstanceView(instance, in: state, on: lifecycle.host, withInfo: false)
    }
    return .json(
      status: .created, headers: [.location: Path.instance(instance.id)], capacity: 1024
    ) { view.write(to: &$0) }
  }

  private func list(_ call: Call, _ context: CallContext) async throws -> Reply {
    let listing = try Listing(
      call, attributes: VnfInstanceView.attributes, complex: VnfInstanceView.complex)
    let withInfo = listing.selection.includes("instantiatedVnfInfo")
    let (found, next) = try lifecycle.read {
      (state: borrowing State) throws(NFVError) -> ([VnfInstanceView], String?) in
      var items: [Listing.Item<VnfInstance>] = []
      items.reserveCapacity(state.instances.count)
      for (id, instance) in state.instances where instance.tenant == context.tenant {
        items.append(.init(created: instance.createdAt, id: id))
      }
      var views: [VnfInstanceView] = []
      let next = try listing.page(of: items) { id in
        guard let instance = state.instances[id] else { return false }
        let isWanted = listing.filter.matches {
          VnfInstanceView.attribute($0, of: instance, in: state)
        }
        if isWanted {
          views.append(
            VnfInstanceView(instance, in: state, on: lifecycle.host, withInfo: withInfo))
        }
        return isWanted
      }
      return (views, next)
    }
    let views = await withPauses(found)
    return listing.reply(views, next: next) { $1.write(to: &$0, listing.selection) }
  }

  private func get(_ call: Call, _ context: CallContext) async throws -> Reply {
    let view = try await view(context.identifier("vnfInstanceId"), context.tenant)
    return call.resource { view.write(to: &$0) }
  }

  private func modify(_ call: Call, _ context: CallContext) async throws -> Reply {
    let id: VnfInstanceID = context.identifier("vnfInstanceId")
    let patch = try await call.json().members()
    if patch["vnfConfigurableProperties"] != nil {
      let view = try await view(id, context.tenant)
      guard !view.vnfcs.contains(where: \.isPaused) else {
        throw Problem(
          .conflict,
          "\(view.instance.name) is paused and takes no new configuration; let it go on first: martlet "
            + "vnf continue \(view.instance.name)")
      }
    }
    var request = ModifyVnfInfoRequest(patch: patch)
    if call.isConditional {
      let view = try await view(id, context.tenant)
      try call.checkMatch { view.write(to: &$0) }
      request.expected = view.instance
    }
    return try await submit(.modifyInfo(id, request), context)
  }

  private func delete(_ call: Call, _ context: CallContext) async throws -> Reply {
    let id: VnfInstanceID = context.identifier("vnfInstanceId")
    if call.isConditional {
      let view = try await view(id, context.tenant)
      try call.checkMatch { view.write(to: &$0) }
    }
    _ = try await lifecycle.submit(
      .deleteInstance(id), tenant: context.tenant, actor: context.actor)
    return .empty(.noContent)
  }

  private func view(
    _ id: VnfInstanceID, _ tenant: TenantID
  ) async throws(NFVError) -> VnfInstanceView {
    let view = try lifecycle.read {
      (state: borrowing State) throws(NFVError) -> VnfInstanceView in
      VnfInstanceView(
        try state.instance(id, of: tenant), in: state, on: lifecycle.host, withInfo: true)
    }
    return await withPauses([view])[0]
  }

  /// The views with what of them is paused, which the state does not say.
  private func withPauses(_ views: [VnfInstanceView]) async -> [VnfInstanceView] {
    let paused = await pauses.paused(
      among: views.flatMap(\.vnfcs).compactMap { view in
        view.isServing ? view.pausing.map { (view.workload, $0) } : nil
      })
    return paused.isEmpty ? views : views.map { $0.showing(paused: paused) }
  }
}

extension State {
  /// - Throws: `notFound` where the tenant has none of that identifier.
  borrowing func instance(_ id: VnfInstanceID, of tenant: TenantID) throws(NFVError) -> VnfInstance
  {
    guard let instance = instances[id], instance.tenant == tenant else {
      throw NFVError(.notFound, "there is no VNF instance \(id)")
    }
    return instance
  }
}

extension Problem {
  /// The core answered with something that its request does not have.
  init(unexpected response: NFVModel.Response) {
    self.init(.internalServerError, "the core answered with another thing than was asked for")
  }
}
