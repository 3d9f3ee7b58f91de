import FoundationEssentials
import Logging
import NFVModel
import Synchronization

extension Lifecycle {
  /// Performs one action through the drivers and says how it went and how long it took.
  func perform(_ action: Action) async -> ActionResult {
    let started = Clock.now
    var failure: NFVError?
    do throws(NFVError) {
      try await carryOut(action)
    } catch {
      failure = error
      logger.warning(
        "an action failed",
        metadata: ["action": "\(action.name)", "subject": "\(action.subject)", "error": "\(error)"])
    }
    return ActionResult(action: action, error: failure, started: started, ended: Clock.now)
  }

  private func carryOut(_ action: Action) async throws(NFVError) {
    switch action {
    case .ensureNetwork(let network): try await host.network.ensure(network)
    case .removeNetwork(let network, let tenant):
      try await host.network.remove(network, of: tenant)
      if committed.withLock({ state in !state.networks.values.contains { $0.tenant == tenant } }) {
        // The tenant's fabric has gone, and with it the links of what waits for the tenant.
        drainPools { (owner, _) in owner == tenant }
      }
    case .ensureImage(let digest):
      _ = try await ensureImage(digest)
    case .prepareAttachment(let id, let isActive):
      let run = try await run(id)
      drivers.withLock { $0[id] = host.index(for: run.vdu.technology) }
      try await run.driver.prepare(run.specification) { (point) async throws(NFVError) in
        try await host.network.attach(
          run.attachments, to: point, forwards: run.vdu.forwards, isActive: isActive)
      }
    case .startWorkload(let id):
      let run = try await run(id)
      try await run.driver.start(run.specification)
    case .awaitReady(let id): try await awaitReady(id)
    case .activateAttachment(let id):
      try await host.network.activate(try await run(id).attachments)
    case .configureWorkload(let id, _):
      let run = try await run(id)
      guard run.driver.capabilities[run.vdu.technology]?.configures == true else { return }
      try await (run.driver as? any Configuring)?.configure(run.specification)
    case .retireWorkload(let id, let grace):
      try await driver(of: id)?.stop(id, grace: grace)
      try await host.network.release(attachments(of: id))
    case .releaseAttachment(let id):
      try await driver(of: id)?.delete(id)
      drivers.withLock { $0[id] = nil }
    case .removeVolumes(let vnfc):
      for driver in host.workloads {
        try await (driver as? any VolumeKeeping)?.removeVolumes(of: vnfc)
      }
    }
  }

  private func ensureImage(_ digest: ImageDigest) async throws(NFVError) -> PreparedImage {
    let image = try await host.images.ensure(digest)
    preparedImages.withLock { $0[digest] = image }
    return image
  }

  // MARK: Readiness

  private func awaitReady(_ id: WorkloadID) async throws(NFVError) {
    let run = try await run(id)
    let readiness = run.vdu.readiness
    if case .running = readiness.check { return }
    let deadline = Clock.now + .milliseconds(readiness.timeoutMilliseconds)
    let interval = Duration.milliseconds(max(1, readiness.intervalMilliseconds))
    let point = try await run.driver.attachmentPoint(of: id)
    while true {
      let isReady =
        switch readiness.check {
        case .running: true
        case .network(let check):
          try await host.network.probe(
            check, of: run.attachments, at: point, timeout: Self.probeLimit)
        case .command(let arguments):
          try await succeeds(arguments, in: id, of: run.driver, until: deadline)
        }
      if isReady { return }
      if Clock.now >= deadline {
        throw NFVError(
          .timeout,
          "the VDU \(run.vdu.id) was not ready within \(readiness.timeoutMilliseconds) ms; look at "
            + "its output: martlet logs")
      }
      let next = Clock.now + interval
      repeat {
        // It has ended, or shall end: then its readiness is nobody's question any more.
        guard committed.withLock({ $0.awaitsReadiness(id) }) else { return }
        try? await Task.sleep(for: min(max(next - Clock.now, .zero), Self.probeLimit))
        if Task.isCancelled { throw NFVError(.unavailable, "the daemon ends") }
      } while Clock.now < next
    }
  }

  /// How long one probe may block its thread, of which there are few.
  private static let probeLimit = Duration.milliseconds(100)

  /// A command that has not ended at `deadline`, or when the daemon does, is killed.
  private func succeeds(
    _ arguments: [String], in id: WorkloadID, of driver: any WorkloadDriver,
    until deadline: Timestamp
  ) async throws(NFVError) -> Bool {
    let session = try await driver.execute(ExecRequest(arguments: arguments), in: id)
    return await withTaskGroup(of: ExitStatus.self) { group in
      group.addTask {
        var status = ExitStatus.unknown
        for await output in session.output {
          if case .exited(let exit) = output { status = exit }
        }
        return status
      }
      group.addTask {
        try? await Task.sleep(for: max(.zero, deadline - Clock.now))
        return .unknown
      }
      let status = await group.next()
      await session.cancel()
      group.cancelAll()
      return status == .exited(code: 0)
    }
  }

  // MARK: What an action is about

  /// A run of a Vnfc with all that the drivers need of it.
  struct Run {
    var driver: any WorkloadDriver
    var vdu: Vdu
    var attachments: [Attachment]
    var specification: WorkloadSpecification
  }

  /// What the store has of a workload; nil where that is nobody's.
  func subject(
    of id: WorkloadID
  ) -> (vnfc: Vnfc, instance: VnfInstance, content: VnfPackage.Content, vdu: Vdu)? {
    committed.withLock { state in
      guard let vnfc = state.vnfcs[id.vnfc],
        let instance = state.instances[vnfc.instance],
        let content = state.packages[instance.package]?.content,
        let vdu = content.descriptor.flavour(vnfc.flavour)?.vdu(vnfc.vdu)
      else { return nil }
      return (vnfc, instance, content, vdu)
    }
  }

  func run(_ id: WorkloadID) async throws(NFVError) -> Run {
    guard let (vnfc, instance, content, vdu) = subject(of: id) else {
      throw NFVError(.notFound, "the Vnfc \(id.vnfc) is gone")
    }
    // Requests are checked before; this daemon may have found less on the host than an earlier one.
    guard let driver = host.driver(for: vdu.technology),
      let capabilities = driver.capabilities[vdu.technology]
    else { throw .cannotRun(vdu) }
    try vdu.check(on: capabilities)
    guard let digest = vdu.imagePath.flatMap({ content.images[$0] }) else {
      throw NFVError(.failed, "the image of the VDU \(vdu.id) is not in the package")
    }
    // A workload that an earlier daemon began goes on without its image being asked for again.
    let known = preparedImages.withLock { $0[digest] }
    let image: PreparedImage
    if let known { image = known } else { image = try await ensureImage(digest) }
    let wanted = instance.target ?? instance.settled
    let document = FunctionDocument(
      identity: .init(
        tenant: id.tenant, vnfInstance: instance.id, vnfInstanceName: instance.name,
        vnfc: vnfc.id, vdu: vnfc.vdu, ordinal: vnfc.ordinal, incarnation: id.incarnation),
      ports: vnfc.ports.map { .init($0, owner: vdu.addressOwner ?? .kernel) },
      parameters: wanted.parameters,
      generation: wanted.generation)
    var templates: [String] = []
    for file in vdu.files {
      guard let template = content.templates[file.source] else {
        throw NFVError(.failed, "the template \(file.source) is not in the package")
      }
      templates.append(template)
    }
    let files = zip(vdu.files, try render(templates, document)).map { file, text in
      WorkloadSpecification.File(path: file.path, content: Array(text.utf8), mode: file.mode)
    }
    let encoded: [UInt8]
    do {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      encoded = Array(try encoder.encode(document))
    } catch {
      throw NFVError(.failed, "the document of \(vnfc.id) cannot be written", cause: error)
    }
    let specification = WorkloadSpecification(
      id: id, technology: vdu.technology,
      hostName: Self.hostName(instance.name, vnfc), image: image, command: vdu.command,
      environment: vdu.environment, cpuMillicores: vdu.cpuMillicores,
      memoryBytes: vdu.memoryBytes, writableLayerBytes: vdu.writableLayerBytes,
      linuxCapabilities: vdu.linuxCapabilities, document: encoded, generation: document.generation,
      files: files, volumes: vdu.storages.map { .init(id: $0.id, sizeBytes: $0.sizeBytes) },
      ports: vnfc.ports,
      forwards: vdu.forwards, addressOwner: vdu.addressOwner ?? .kernel)
    return Run(
      driver: driver, vdu: vdu, attachments: attachments(of: id), specification: specification)
  }

  private func attachments(of id: WorkloadID) -> [Attachment] {
    committed.withLock { state in
      guard let vnfc = state.vnfcs[id.vnfc] else { return [] }
      let package = state.instances[vnfc.instance].flatMap { state.packages[$0.package] }
      let vdu = package?.content?.descriptor.flavour(vnfc.flavour)?.vdu(vnfc.vdu)
      let owner = vdu?.addressOwner ?? .kernel
      return vnfc.ports.map { Attachment(port: $0, workload: id, addressOwner: owner) }
    }
  }

  /// The driver that has this workload on the host; nil where none was asked for it.
  func driver(of id: WorkloadID) -> (any WorkloadDriver)? {
    drivers.withLock { $0[id] }.map { host.workloads[$0] }
  }

  /// A host name (RFC 1123) from the instance's name and the Vnfc's place in it.
  private static func hostName(_ name: String, _ vnfc: Vnfc) -> String {
    let text = "\(name)-\(vnfc.vdu)-\(vnfc.ordinal)".lowercased()
    let allowed = text.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-" }
    return String(String(allowed).prefix(63))
  }
}
