/// Decides everything and does nothing: a state, and one step per event.
///
/// Synchronous, without I/O, clock or randomness of its own, so that a simulator replays it to the
/// byte. A step applies its changes to the state in memory; the caller commits them, in the order
/// of the steps, before it answers anyone or performs an action. Where a commit fails, the core is
/// thrown away and loaded anew.
public struct Core: Sendable {
  public internal(set) var state: State
  let identifiers: IdentifierSource
  public var policy: RestartPolicy

  /// What the host's drivers can give; nil: all that a descriptor can ask for. What they cannot is
  /// refused by the request for it.
  public let capabilities: [Technology: DriverCapabilities]?

  /// Whether what bears our name and is in no state of ours is removed; not after a backup of the
  /// store was restored, which does not know what was made since.
  public let sweepsStrays: Bool

  /// Until the host was observed nothing is converged.
  var isHostKnown = false
  /// Instances to converge again at a moment: for a restart's back-off or an action's next try.
  var waiting: [VnfInstanceID: Timestamp] = [:]
  /// What a self-heal did so far, for its occurrence.
  var healing: [VnfcID: [OperationPhase]] = [:]
  /// Workloads of no Vnfc of ours whose next try is due later.
  var straysDue: Timestamp?

  /// How a workload that ends by itself is started again.
  public struct RestartPolicy: Sendable, Hashable {
    /// Failures in a row after which only an operation starts it again.
    public var limit = 10
    /// The wait before the second restart; the first is immediate. Doubled each time.
    public var base: Duration = .milliseconds(100)
    public var maximum: Duration = .seconds(30)
    /// A workload that served this long has no failures behind it.
    public var forgetAfter: Duration = .seconds(60)

    public init() {}

    func delay(afterFailures failures: Int) -> Duration {
      guard failures > 1 else { return .zero }
      let factor = 1 << min(failures - 2, 20)
      return min(base * factor, maximum)
    }
  }

  public init(
    _ stored: StoredState, identifiers: IdentifierSource, policy: RestartPolicy = .init(),
    capabilities: [Technology: DriverCapabilities]? = nil, sweepsStrays: Bool = true
  ) {
    self.capabilities = capabilities
    self.sweepsStrays = sweepsStrays
    state = State(stored)
    self.identifiers = identifiers
    self.policy = policy
  }

  /// The next moment at which a `tick` would do something.
  public var wakeAt: Timestamp? { [waiting.values.min(), straysDue].compactMap(\.self).min() }

  /// Takes one event at the moment `now`.
  public mutating func step(_ event: Event, at now: Timestamp) -> Outcome {
    var outcome = Outcome()
    switch event {
    case .request(let request, let tenant, let actor, let token):
      do throws(NFVError) {
        let response = try perform(request, tenant: tenant, actor: actor, at: now, &outcome)
        outcome.answers.append((token, .success(response)))
      } catch {
        outcome.answers.append((token, .failure(error)))
      }
    case .actionEnded(let result): end(result, at: now, &outcome)
    case .workloadExited(let exit): note(exit, at: now, &outcome)
    case .observed(let observation): adopt(observation, at: now, &outcome)
    case .tick:
      for id in waiting.filter({ $0.value <= now }).keys.sorted() {
        converge(id, at: now, &outcome)
      }
      if let due = straysDue, due <= now { sweepStrays(at: now, &outcome) }
    }
    return outcome
  }

  /// Applies a change in memory and puts it into the commit.
  mutating func commit(_ change: Change, _ outcome: inout Outcome) {
    state.apply(change)
    outcome.changes.append(change)
  }

  // MARK: What the host says

  /// Rebuilds what is known of the host from what was found there.
  private mutating func adopt(
    _ observation: HostObservation, at now: Timestamp, _ outcome: inout Outcome
  ) {
    isHostKnown = true
    raiseIncarnations(to: observation, &outcome)
    let active = Set(observation.networks.links.filter(\.isActive).map(\.workload))
    for found in observation.workloads.sorted(by: { $0.id < $1.id }) {
      guard found.id.store == state.store else { continue }
      var workload = State.Workload(
        phase: .started, isActive: active.contains(found.id), exit: nil, since: now)
      if let vnfc = state.vnfcs[found.id.vnfc] {
        // A Vnfc that served when the daemon went is taken back as it is: a probe that fails once
        // must not restart what serves.
        let isSettled =
          state.instances[vnfc.instance].map { $0.target == nil } ?? false
          && vnfc.restart?.outageSince == nil && workload.isActive
        workload.phase = isSettled ? .serving : .started
      } else {
        workload.exit = .unknown
      }
      // What no driver has kept is what was settled.
      let instance = state.vnfcs[found.id.vnfc].flatMap { state.instances[$0.instance] }
      workload.generation = found.generation ?? instance?.settled.generation ?? 0
      switch found.phase {
      case .prepared: workload.exit = .unknown
      case .running: break
      case .exited:
        // Noted below as the exit that it is.
        break
      }
      if workload.exit != nil { workload.phase = .prepared }
      state.set(found.id, workload)
    }
    // A link without its workload is swept, or, where nothing is, may have one that nobody sees.
    for link in observation.networks.links
    where state.workloads[link.workload] != nil || !sweepsStrays {
      state.reserve(addressesOf: link)
    }
    for (network, tenant) in observation.networks.networks where state.networks[network] == nil {
      state.strayNetworks[network] = tenant
    }
    for vnfc in observation.volumes { state.volumePhases[vnfc] = .present }
    // Functions that run on use these networks; what became of an uplink meanwhile is mended.
    for network in state.networks.values.sorted(by: { $0.id < $1.id })
    where network.uplink != .none && observation.networks.networks[network.id] != nil {
      state.networkPhases[network.id] = .ensuring
      outcome.actions.append(.ensureNetwork(network))
    }
    for found in observation.workloads.sorted(by: { $0.id < $1.id }) {
      if case .exited(let status) = found.phase {
        note(WorkloadExit(id: found.id, status: status), at: now, &outcome)
      }
    }
    let instances = Set(state.instances.keys).union(state.vnfcsOfInstance.keys)
    for id in instances.sorted() { converge(id, at: now, &outcome) }
    sweepStrays(at: now, &outcome)
  }

  /// A run that is on the host and later than the store knows of: a backup of the store was restored.
  /// It is the Vnfc's all the same, with its ports and addresses; and no name is given twice.
  private mutating func raiseIncarnations(
    to observation: HostObservation, _ outcome: inout Outcome
  ) {
    let seen = observation.workloads.map(\.id) + observation.networks.links.map(\.workload)
    for id in seen.sorted() where id.store == state.store {
      guard var vnfc = state.vnfcs[id.vnfc], vnfc.incarnation < id.incarnation else { continue }
      vnfc.incarnation = id.incarnation
      commit(.putVnfc(vnfc), &outcome)
    }
  }

  /// A workload's main process ended by itself.
  private mutating func note(
    _ exit: WorkloadExit, at now: Timestamp, _ outcome: inout Outcome
  ) {
    guard var workload = state.workloads[exit.id], workload.isAlive else { return }
    workload.exit = exit.status
    state.set(exit.id, workload)
    let error = NFVError(
      .failed, "the workload \(exit.status)",
      cause: "look at its output: martlet logs")
    fail(exit.id, workload, exit.status, error, at: now, &outcome)
  }

  /// An action came to its end.
  private mutating func end(
    _ result: ActionResult, at now: Timestamp, _ outcome: inout Outcome
  ) {
    switch result.action {
    case .ensureNetwork(let network):
      if state.networks[network.id] == nil {
        state.networkPhases[network.id] = nil
        sweepStrays(at: now, &outcome)
        return
      }
      state.networkPhases[network.id] = result.error == nil ? .present : nil
      resume(instances(waitingFor: network.id), result, at: now, &outcome)
    case .removeNetwork(let network, let tenant):
      state.networkPhases[network] = nil
      state.strayNetworks[network] = result.error == nil ? nil : tenant
      if result.error != nil {
        let due = now + .seconds(1)
        straysDue = min(straysDue ?? due, due)
      }
    case .removeVolumes(let vnfc):
      state.volumePhases[vnfc] = result.error == nil ? nil : .present
      if result.error != nil {
        let due = now + .seconds(1)
        straysDue = min(straysDue ?? due, due)
      }
    case .ensureImage(let digest):
      state.imagePhases[digest] = result.error == nil ? .present : nil
      resume(
        state.instances.keys.sorted().filter { uses($0, digest) }, result, at: now, &outcome)
    case .prepareAttachment(let id, let isActive):
      endWorkload(id, result, at: now, &outcome) { workload in
        workload.phase = .prepared
        workload.isActive = isActive
      }
    case .startWorkload(let id):
      endWorkload(id, result, at: now, &outcome) { $0.phase = .started }
    case .awaitReady(let id):
      // It was not waited for to the end.
      guard state.workloads[id]?.phase == .awaitingReady else { return }
      endWorkload(id, result, at: now, &outcome) { $0.phase = $0.isActive ? .serving : .ready }
    case .activateAttachment(let id):
      endWorkload(id, result, at: now, &outcome) { workload in
        workload.phase = .serving
        workload.isActive = true
      }
    case .configureWorkload(let id, let generation):
      endTelling(id, generation, result, at: now, &outcome)
    case .retireWorkload(let id, _):
      guard var workload = state.workloads[id] else { return }
      if let error = result.error {
        // It stays as it is, dead or alive, and the next try comes later.
        workload.phase = .prepared
        workload.exit = workload.exit ?? .unknown
        workload.notBefore = now + .seconds(1)
        state.set(id, workload)
        if let vnfc = state.vnfcs[id.vnfc] {
          failOperation(of: vnfc.instance, error, at: now, &outcome)
        }
      } else {
        workload.phase = .retired
        workload.isActive = false
        workload.notBefore = nil
        state.set(id, workload)
      }
      recordAndConverge(id, result, at: now, &outcome)
    case .releaseAttachment(let id):
      guard var workload = state.workloads[id] else { return }
      if result.error != nil {
        workload.phase = .retired
        workload.notBefore = now + .seconds(1)
        state.set(id, workload)
      } else {
        state.set(id, nil)
      }
      recordAndConverge(id, result, at: now, &outcome)
    }
  }

  /// What instances waited for is there, or could not be had.
  private mutating func resume(
    _ instances: [VnfInstanceID], _ result: ActionResult, at now: Timestamp,
    _ outcome: inout Outcome
  ) {
    for id in instances {
      record(result, for: id)
      if let error = result.error {
        failOperation(of: id, error, at: now, &outcome)
        // A self-heal goes on trying, but not in a hot loop.
        wait(id, until: now + .seconds(1))
      } else {
        converge(id, at: now, &outcome)
      }
    }
  }

  /// An action of a workload's way into service ended.
  private mutating func endWorkload(
    _ id: WorkloadID, _ result: ActionResult, at now: Timestamp, _ outcome: inout Outcome,
    _ succeed: (inout State.Workload) -> Void
  ) {
    guard var workload = state.workloads[id], workload.isBusy else { return }
    let hadEnded = workload.exit != nil
    if let error = result.error {
      workload.phase = .prepared
      workload.exit = workload.exit ?? .unknown
      state.set(id, workload)
      if !hadEnded { fail(id, workload, nil, error, at: now, &outcome) }
    } else {
      succeed(&workload)
      if hadEnded { workload.phase = .prepared }
      workload.since = now
      state.set(id, workload)
    }
    recordAndConverge(id, result, at: now, &outcome)
  }

  mutating func recordAndConverge(
    _ id: WorkloadID, _ result: ActionResult, at now: Timestamp, _ outcome: inout Outcome
  ) {
    guard let vnfc = state.vnfcs[id.vnfc] else {
      sweepStrays(at: now, &outcome)
      return
    }
    record(result, for: vnfc.instance, vnfc: vnfc.id)
    converge(vnfc.instance, at: now, &outcome)
  }

  /// Adds how long an action took to the operation or self-heal that it belongs to.
  private mutating func record(
    _ result: ActionResult, for instance: VnfInstanceID, vnfc: VnfcID? = nil
  ) {
    let subject =
      switch result.action.subject {
      case .network(let id): "network \(state.networks[id]?.name ?? id.rawValue)"
      case .image(let digest): "image \(digest.rawValue.prefix(19))"
      case .workload(let id): "vnfc \(id.vnfc.rawValue.prefix(8))#\(id.incarnation)"
      case .volumes(let vnfc): "vnfc \(vnfc.rawValue.prefix(8))"
      }
    func phase(since start: Timestamp) -> OperationPhase {
      OperationPhase(
        name: result.action.name, subject: subject,
        startMicroseconds: (result.started - start).microseconds,
        durationMicroseconds: (result.ended - result.started).microseconds)
    }
    if let id = state.instances[instance]?.openOperation,
      var operation = state.openOperations[id]
    {
      operation.phases.append(phase(since: operation.startTime))
      state.openOperations[id] = operation
    } else if let vnfc, let since = state.vnfcs[vnfc]?.restart?.outageSince {
      healing[vnfc, default: []].append(phase(since: since))
    }
  }

  // MARK: Failure

  /// A workload failed: either the open operation fails for now, or the Vnfc is healed.
  private mutating func fail(
    _ id: WorkloadID, _ workload: State.Workload, _ status: ExitStatus?, _ error: NFVError,
    at now: Timestamp, _ outcome: inout Outcome
  ) {
    guard var vnfc = state.vnfcs[id.vnfc], let instance = state.instances[vnfc.instance] else {
      converge(state.vnfcs[id.vnfc]?.instance, at: now, &outcome)
      return
    }
    if isForOperation(id, instance) {
      failOperation(of: instance.id, error, at: now, &outcome)
    } else if goal(of: instance).running[vnfc.id] != nil {
      let hadServed =
        (workload.phase == .serving || workload.phase == .configuring)
        && now - workload.since >= policy.forgetAfter
      let failures = (hadServed ? 0 : vnfc.restart?.failures ?? 0) + 1
      let since = vnfc.restart?.outageSince ?? now
      vnfc.restart = Vnfc.Restart(
        failures: failures, notBefore: now + policy.delay(afterFailures: failures),
        lastExit: status, outageSince: since, isExhausted: failures > policy.limit)
      commit(.putVnfc(vnfc), &outcome)
      var notification = Notification(kind: .workload, tenant: vnfc.tenant, time: now)
      notification.instance = instance.id
      notification.vnfc = vnfc.id
      notification.message = error.description
      commit(.notify(notification), &outcome)
      if failures > policy.limit {
        writeHeal(of: vnfc, error: error, at: now, &outcome)
        // An operation that waits for it would wait for ever.
        failOperation(of: instance.id, error, at: now, &outcome)
      }
    }
    converge(vnfc.instance, at: now, &outcome)
  }

  /// Whether this workload runs because of the open operation, so that its failure is the
  /// operation's.
  private func isForOperation(_ id: WorkloadID, _ instance: VnfInstance) -> Bool {
    guard let operationID = instance.openOperation,
      let operation = state.openOperations[operationID], let target = instance.target
    else { return false }
    switch operation.state {
    case .starting, .processing, .rollingBack: break
    case .completed, .failedTemp, .failed, .rolledBack: return false
    }
    guard let wanted = goal(of: instance).running[id.vnfc], id.incarnation >= wanted else {
      return false
    }
    let isSettled =
      instance.settled.operational == .started
      && instance.settled.vnfcs[id.vnfc].map { id.incarnation >= $0 } ?? false
    if operation.state == .rollingBack { return false }
    return !isSettled || target.vnfcs[id.vnfc] != instance.settled.vnfcs[id.vnfc]
  }

  /// Writes the one ended occurrence of a self-heal.
  mutating func writeHeal(
    of vnfc: Vnfc, error: NFVError?, at now: Timestamp, _ outcome: inout Outcome
  ) {
    var operation = VnfLcmOpOcc(
      id: identifiers.identifier(), tenant: vnfc.tenant, instance: vnfc.instance,
      operation: .heal, state: error == nil ? .completed : .failed,
      startTime: vnfc.restart?.outageSince ?? now, isAutomatic: true, actor: "martlet",
      parameters: .object(["vnfcInstanceId": .array([.string(vnfc.id.rawValue)])]))
    operation.stateEnteredTime = now
    operation.error = error
    operation.phases = healing.removeValue(forKey: vnfc.id) ?? []
    operation.affected = [.init(vnfc: vnfc.id, vdu: vnfc.vdu, change: .modified)]
    commit(.putOperation(operation), &outcome)
    notify(operation, at: now, &outcome)
  }

  mutating func notify(
    _ operation: VnfLcmOpOcc, at now: Timestamp, _ outcome: inout Outcome
  ) {
    var notification = Notification(
      kind: .operationOccurrence, tenant: operation.tenant, time: now)
    notification.instance = operation.instance
    notification.operation = operation.id
    notification.operationType = operation.operation
    notification.operationState = operation.state
    notification.isAutomatic = operation.isAutomatic
    notification.message = operation.error?.description
    commit(.notify(notification), &outcome)
  }

  /// The open operation, where it is under way, fails for now: what to do next is the client's.
  mutating func failOperation(
    of instance: VnfInstanceID, _ error: NFVError, at now: Timestamp, _ outcome: inout Outcome
  ) {
    guard let id = state.instances[instance]?.openOperation,
      var operation = state.openOperations[id], operation.state != .failedTemp
    else { return }
    operation.error = error
    enter(.failedTemp, &operation, at: now, &outcome)
  }

  mutating func enter(
    _ newState: LcmOperationState, _ operation: inout VnfLcmOpOcc, at now: Timestamp,
    _ outcome: inout Outcome
  ) {
    operation.state = newState
    operation.stateEnteredTime = now
    commit(.putOperation(operation), &outcome)
    notify(operation, at: now, &outcome)
  }
}
