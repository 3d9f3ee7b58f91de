internal import HTTPTypes
internal import Hummingbird
internal import LinuxSystem
internal import NFVLifecycle
internal import NFVModel

/// SOL003 5.4.12 to 5.4.17: occurrences of lifecycle operations.
struct VnfLcmOpOccs: Sendable {
  let lifecycle: Lifecycle
  /// Where the store is read: its calls block.
  let threads: BlockingExecutor

  private static let complex: Set<String> = [
    "operationParams", "error", "resourceChanges", "changedInfo",
  ]
  private static let attributes: Set<String> = [
    "id", "operationState", "vnfInstanceId", "operation", "isAutomaticInvocation",
  ]

  func register(on routes: inout Routes) {
    let one = "\(Path.occurrences)/{vnfLcmOpOccId}"
    routes.on(
      .get, RouterPath(Path.occurrences),
      .list("VnfLcmOpOcc", "Lists the occurrences of operations, the newest first."), list)
    routes.on(
      .get, RouterPath(one), .get("VnfLcmOpOcc", "Shows an occurrence of an operation.")
    ) { call, context in
      let operation = try await find(context.identifier("vnfLcmOpOccId"), context.tenant)
      return call.resource { $0.operation(operation, workloads(of: operation)) }
    }
    routes.on(
      .post, RouterPath("\(one)/retry"),
      .followUp(202, "Tries an operation in FAILED_TEMP again.")
    ) { _, context in
      _ = try await submit(VnfLcmOpOccID.retry, context)
      return .empty(.accepted)
    }
    routes.on(
      .post, RouterPath("\(one)/rollback"),
      .followUp(202, "Undoes an operation in FAILED_TEMP.")
    ) { _, context in
      _ = try await submit(VnfLcmOpOccID.rollback, context)
      return .empty(.accepted)
    }
    routes.on(
      .post, RouterPath("\(one)/fail"),
      .followUp(200, "Ends an operation in FAILED_TEMP for good.")
    ) { _, context in
      let operation = try await submit(VnfLcmOpOccID.fail, context)
      return .json(capacity: 4096) { $0.operation(operation, workloads(of: operation)) }
    }
    routes.on(.post, RouterPath("\(one)/cancel"), .missing("cancel")) { _, context in
      _ = try await find(context.identifier("vnfLcmOpOccId"), context.tenant)
      throw Problem(
        .notImplemented,
        "operations cannot be cancelled yet; one in FAILED_TEMP can be retried, rolled back or failed"
      )
    }
  }

  private func submit(
    _ request: (VnfLcmOpOccID) -> NFVModel.Request, _ context: CallContext
  ) async throws -> VnfLcmOpOcc {
    let id: VnfLcmOpOccID = context.identifier("vnfLcmOpOccId")
    _ = try await find(id, context.tenant)
    let response = try await lifecycle.submit(
      request(id), tenant: context.tenant, actor: context.actor)
    guard case .operation(let operation) = response else { throw Problem(unexpected: response) }
    return operation
  }

  /// The open one is in memory; an ended one is in the store only.
  private func find(_ id: VnfLcmOpOccID, _ tenant: TenantID) async throws -> VnfLcmOpOcc {
    let open = try lifecycle.read { (state: borrowing State) throws(NFVError) -> VnfLcmOpOcc? in
      state.openOperations[id]
    }
    var operation = open
    if open == nil {
      operation = try await withTaskExecutorPreference(threads) {
        try lifecycle.store.operation(id)
      }
    }
    guard let operation, operation.tenant == tenant else {
      throw NFVError(.notFound, "there is no operation occurrence \(id)")
    }
    return operation
  }

  private func list(_ call: Call, _ context: CallContext) async throws -> Reply {
    let listing = try Listing(call, attributes: Self.attributes, complex: Self.complex)
    let (page, next) = try await withTaskExecutorPreference(threads) {
      try read(listing, context.tenant)
    }
    return listing.reply(page, next: next) {
      $0.operation($1, workloads(of: $1), listing.selection)
    }
  }

  /// How many occurrences are read for one page; where few of them are wanted, it has few, and a next one.
  private static let scanned = 2_000

  /// One page from the store, the newest first.
  private func read(
    _ listing: Listing, _ tenant: TenantID
  ) throws(NFVError) -> ([VnfLcmOpOcc], String?) {
    let instance = listing.filter.required("vnfInstanceId").map { VnfInstanceID($0) }
    var before = listing.marker.map { VnfLcmOpOccID($0) }
    if let before, try lifecycle.store.operation(before) == nil {
      throw NFVError(.malformed, "nextpage_opaque_marker=\(before) is none of ours")
    }
    var page: [VnfLcmOpOcc] = []
    var scanned = 0
    while true {
      let limit = Listing.pageSize + 1
      let batch = try lifecycle.store.operations(of: instance, before: before, limit: limit)
      for operation in batch {
        before = operation.id
        guard operation.tenant == tenant, listing.filter.matches(operation.attribute) else {
          continue
        }
        if page.count == Listing.pageSize { return (page, page.last?.id.rawValue) }
        page.append(operation)
      }
      if batch.count < limit { return (page, nil) }
      scanned += batch.count
      if scanned >= Self.scanned { return (page, before?.rawValue) }
    }
  }

  /// The names on the host of the workloads that run for the occurrence's Vnfcs.
  private func workloads(of operation: VnfLcmOpOcc) -> [VnfcID: String] {
    let names = try? lifecycle.read {
      (state: borrowing State) throws(NFVError) -> [VnfcID: String] in
      var names: [VnfcID: String] = [:]
      for affected in operation.affected {
        guard let vnfc = state.vnfcs[affected.vnfc] else { continue }
        let workload =
          state.serving(vnfc.id) ?? state.workload(vnfc, incarnation: vnfc.incarnation)
        names[vnfc.id] = workload.name
      }
      return names
    }
    return names ?? [:]
  }
}

extension Endpoint {
  /// What may follow a failure.
  fileprivate static func followUp(_ status: Int, _ summary: String) -> Endpoint {
    let answer =
      status == 200
      ? Answer(
        status: status, description: "The occurrence.", types: ["application/json"],
        schema: "VnfLcmOpOcc") : Answer(status: status, description: "Accepted.")
    return Endpoint(summary: summary, answers: [answer])
  }
}

extension VnfLcmOpOccID {
  fileprivate static func retry(_ id: Self) -> NFVModel.Request { .retry(id) }
  fileprivate static func rollback(_ id: Self) -> NFVModel.Request { .rollback(id) }
  fileprivate static func fail(_ id: Self) -> NFVModel.Request { .fail(id) }
}

extension VnfLcmOpOcc {
  fileprivate func attribute(_ name: String) -> String? {
    switch name {
    case "id": id.rawValue
    case "operationState": state.rawValue
    case "vnfInstanceId": instance.rawValue
    case "operation": operation.rawValue
    case "isAutomaticInvocation": String(isAutomatic)
    default: nil
    }
  }
}

extension JSONWriter {
  /// SOL003 5.5.2.13.
  fileprivate mutating func operation(
    _ operation: VnfLcmOpOcc, _ workloads: [VnfcID: String], _ selection: Selection = .all
  ) {
    let path = Path.occurrence(operation.id)
    object {
      $0.field("id", operation.id)
      $0.field("operationState", operation.state.rawValue)
      $0.field("stateEnteredTime", operation.stateEnteredTime)
      $0.field("startTime", operation.startTime)
      $0.field("vnfInstanceId", operation.instance)
      $0.field("operation", operation.operation.rawValue)
      $0.field("isAutomaticInvocation", operation.isAutomatic)
      if selection.includes("operationParams") {
        $0.field("operationParams", operation.parameters)
      }
      $0.field("isCancelPending", false)
      if selection.includes("error"), let error = operation.error {
        $0.key("error")
        Problem(error).write(to: &$0, instance: path)
      }
      if selection.includes("resourceChanges"), !operation.affected.isEmpty {
        $0.object("resourceChanges") {
          $0.objects("affectedVnfcs", operation.affected) {
            $0.field("id", $1.vnfc)
            $0.field("vduId", $1.vdu)
            $0.field("changeType", $1.change.rawValue)
            $0.object("computeResource") { [vnfc = $1.vnfc] in
              $0.field("resourceId", workloads[vnfc] ?? vnfc.rawValue)
            }
          }
        }
      }
      if selection.includes("changedInfo"), let changed = operation.changedInfo {
        $0.field("changedInfo", .object(changed))
      }
      $0.object("org.martlet") {
        $0.field("actor", operation.actor)
        $0.objects("phases", operation.phases) {
          $0.field("name", $1.name)
          $0.field("subject", $1.subject)
          $0.field("startMicroseconds", $1.startMicroseconds)
          $0.field("durationMicroseconds", $1.durationMicroseconds)
        }
      }
      $0.object("_links") {
        $0.object("self") { $0.field("href", path) }
        $0.object("vnfInstance") { $0.field("href", Path.instance(operation.instance)) }
        guard operation.state == .failedTemp else { return }
        let canRollBack = operation.operation.canRollBack
        for name in canRollBack ? ["retry", "rollback", "fail"] : ["retry", "fail"] {
          $0.object(name) { $0.field("href", "\(path)/\(name)") }
        }
      }
    }
  }
}
