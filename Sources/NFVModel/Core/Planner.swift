/// What a VNF's instance shall come to now, given its open operation's state.
struct Goal: Sendable, Hashable {
  /// The Vnfcs that shall run, each with the lowest incarnation that will do.
  var running: [VnfcID: Int]
  /// The Vnfcs that keep their ports and addresses.
  var kept: Set<VnfcID>
  /// Whether what is not wanted is ended; not while the client decides (FAILED_TEMP).
  var sweeps: Bool
  /// Of the document that those that run shall have been told; nil: whatever they have.
  var generation: Int?
}

extension Core {
  func goal(of instance: VnfInstance?) -> Goal {
    guard let instance else { return Goal(running: [:], kept: [], sweeps: true) }
    func goal(_ wanted: VnfState) -> Goal {
      Goal(
        running: wanted.isInstantiated && wanted.operational == .started ? wanted.vnfcs : [:],
        kept: Set(instance.settled.vnfcs.keys).union(instance.target?.vnfcs.keys ?? [:].keys),
        sweeps: true, generation: wanted.generation)
    }
    guard let target = instance.target, let id = instance.openOperation,
      let operation = state.openOperations[id]
    else { return goal(instance.settled) }
    switch operation.state {
    case .starting, .processing, .completed: return goal(target)
    case .rollingBack, .failed, .rolledBack: return goal(instance.settled)
    case .failedTemp:
      let settled = goal(instance.settled)
      let common = settled.running.filter { goal(target).running[$0.key] != nil }
      return Goal(running: common, kept: settled.kept, sweeps: false)
    }
  }

  mutating func converge(_ id: VnfInstanceID?, at now: Timestamp, _ outcome: inout Outcome) {
    guard let id else { return }
    converge(id, at: now, &outcome)
  }

  /// Compares what an instance shall be with what is there, and asks for the difference.
  mutating func converge(_ id: VnfInstanceID, at now: Timestamp, _ outcome: inout Outcome) {
    guard isHostKnown else { return }
    waiting[id] = nil
    let instance = state.instances[id]
    let goal = goal(of: instance)
    var isReached = true
    for vnfc in state.vnfcs(of: id) {
      if let floor = goal.running[vnfc.id] {
        if !run(vnfc, floor: floor, goal, at: now, &outcome) { isReached = false }
      } else if goal.sweeps {
        if !end(vnfc, of: instance, at: now, &outcome) { isReached = false }
        if !goal.kept.contains(vnfc.id), (state.incarnations[vnfc.id] ?? []).isEmpty {
          commit(.removeVnfc(vnfc.id), &outcome)
        }
      }
    }
    if let instance, isReached { settle(instance, at: now, &outcome) }
    removeUnusedLinks(of: id, &outcome)
    removeUnusedVolumes(&outcome)
  }

  /// Brings a wanted Vnfc one step nearer to serving.
  /// - Returns: whether it serves, and nothing else of it is left alive.
  private mutating func run(
    _ vnfc: Vnfc, floor: Int, _ goal: Goal, at now: Timestamp, _ outcome: inout Outcome
  ) -> Bool {
    let sweeps = goal.sweeps
    let all = (state.incarnations[vnfc.id] ?? []).sorted()
    let best = all.last { $0.incarnation >= floor && state.workloads[$0]!.isAlive }
    var isReached = false
    if let best, let workload = state.workloads[best] {
      switch workload.phase {
      case .prepared: act(.startWorkload(best), .starting, &outcome)
      case .started: act(.awaitReady(best), .awaitingReady, &outcome)
      case .ready: act(.activateAttachment(best), .activating, &outcome)
      case .serving:
        isReached = true
        if vnfc.restart?.outageSince != nil {
          writeHeal(of: vnfc, error: nil, at: now, &outcome)
          var healed = vnfc
          healed.restart?.outageSince = nil
          commit(.putVnfc(healed), &outcome)
        }
        if let generation = goal.generation, workload.generation < generation {
          isReached = !tell(best, workload, generation, vnfc, at: now, &outcome)
        }
      default: break
      }
    } else if !hasVolumes(vnfc) || all.allSatisfy(isEnded) {
      start(vnfc, at: now, &outcome)
    }
    // Volumes have one user at a time: the successor comes when the predecessor has gone.
    let endsFirst = best == nil && hasVolumes(vnfc)
    for id in all where id != best {
      guard let workload = state.workloads[id] else { continue }
      // The predecessor serves until its successor does.
      if workload.isAlive, !endsFirst, !isReached || !sweeps {
        if workload.phase != .serving, sweeps {
          windDown(id, grace: .zero, vnfc, at: now, &outcome)
        }
        continue
      }
      windDown(id, grace: .zero, vnfc, at: now, &outcome)
      if state.workloads[id]?.isAlive == true { isReached = false }
    }
    return isReached
  }

  /// Has a function that serves told its document as it is wanted now.
  /// - Returns: whether something waits for that; not for another try after a failure, which is
  ///   nobody's operation.
  private mutating func tell(
    _ id: WorkloadID, _ workload: State.Workload, _ generation: Int, _ vnfc: Vnfc,
    at now: Timestamp, _ outcome: inout Outcome
  ) -> Bool {
    if let notBefore = workload.tellNotBefore, notBefore > now,
      modification(of: vnfc.instance) == nil
    {
      wait(vnfc.instance, until: notBefore)
      return false
    }
    act(.configureWorkload(id, generation: generation), .configuring, &outcome)
    return true
  }

  /// Asks for a new incarnation, where its network and image are there and its time has come.
  private mutating func start(_ vnfc: Vnfc, at now: Timestamp, _ outcome: inout Outcome) {
    if let restart = vnfc.restart {
      if restart.isExhausted { return }
      if restart.notBefore > now {
        wait(vnfc.instance, until: restart.notBefore)
        return
      }
    }
    var isWaiting = false
    for id in Set(vnfc.ports.map(\.network)).sorted() where state.networkPhases[id] != .present {
      isWaiting = true
      guard state.networkPhases[id] == nil, let network = state.networks[id] else { continue }
      state.networkPhases[id] = .ensuring
      outcome.actions.append(.ensureNetwork(network))
    }
    if let digest = image(of: vnfc), state.imagePhases[digest] != .present {
      isWaiting = true
      if state.imagePhases[digest] == nil {
        state.imagePhases[digest] = .ensuring
        outcome.actions.append(.ensureImage(digest))
      }
    }
    if isWaiting { return }
    var started = vnfc
    started.incarnation += 1
    commit(.putVnfc(started), &outcome)
    if hasVolumes(vnfc) { state.volumePhases[vnfc.id] = .present }
    let id = state.workload(started, incarnation: started.incarnation)
    // What replaces a serving workload waits aside. So does that for which the kernel forwards, until
    // it says that it is ready: a firewall without its rules would let everything pass. All else takes
    // traffic from the beginning; a function with addresses of its own lets nothing pass before it
    // runs, and has its document then.
    let vdu = self.vdu(of: vnfc)
    let isActive =
      serving(vnfc.id) == nil && (vdu?.forwards != true || vdu?.addressOwner == .function)
    var workload = State.Workload(phase: .preparing, isActive: isActive, exit: nil, since: now)
    // Asked for with the document that is wanted now, or a later one.
    let instance = state.instances[vnfc.instance]
    workload.generation = (instance?.target ?? instance?.settled)?.generation ?? 0
    state.set(id, workload)
    outcome.actions.append(.prepareAttachment(id, isActive: isActive))
  }

  private func serving(_ vnfc: VnfcID) -> WorkloadID? { state.serving(vnfc) }

  private func isEnded(_ id: WorkloadID) -> Bool {
    switch state.workloads[id]?.phase {
    case .retired, .releasing, nil: true
    default: false
    }
  }

  private mutating func act(
    _ action: Action, _ phase: State.Workload.Phase, _ outcome: inout Outcome
  ) {
    guard case .workload(let id) = action.subject, var workload = state.workloads[id] else {
      return
    }
    workload.phase = phase
    state.set(id, workload)
    outcome.actions.append(action)
  }

  /// Ends every workload of a Vnfc that shall not run.
  /// - Returns: whether no process of it is left.
  private mutating func end(
    _ vnfc: Vnfc, of instance: VnfInstance?, at now: Timestamp, _ outcome: inout Outcome
  ) -> Bool {
    var isReached = true
    let grace = instance?.openOperation.flatMap { state.openOperations[$0] }.flatMap(\.grace)
    for id in (state.incarnations[vnfc.id] ?? []).sorted() {
      windDown(id, grace: grace ?? .zero, vnfc, at: now, &outcome)
      switch state.workloads[id]?.phase {
      case .retired, .releasing, nil: break
      default: isReached = false
      }
    }
    return isReached
  }

  /// Takes a workload that is not wanted one step nearer to its end.
  private mutating func windDown(
    _ id: WorkloadID, grace: Duration, _ vnfc: Vnfc?, at now: Timestamp,
    _ outcome: inout Outcome
  ) {
    guard let workload = state.workloads[id] else { return }
    if let notBefore = workload.notBefore, notBefore > now {
      if let vnfc {
        wait(vnfc.instance, until: notBefore)
      } else {
        straysDue = min(straysDue ?? notBefore, notBefore)
      }
      return
    }
    switch workload.phase {
    // What is under way ends first: a driver's calls for one workload never overlap. But nobody waits
    // for a readiness that is not wanted any more: who looks for it sees that, and ends.
    case .preparing, .starting, .activating, .configuring, .retiring, .releasing:
      break
    case .prepared, .started, .awaitingReady, .ready, .serving:
      act(.retireWorkload(id, grace: workload.exit == nil ? grace : .zero), .retiring, &outcome)
    case .retired: act(.releaseAttachment(id), .releasing, &outcome)
    }
  }

  /// Ends what bears our name and belongs to no Vnfc and no network of ours.
  mutating func sweepStrays(at now: Timestamp, _ outcome: inout Outcome) {
    straysDue = nil
    guard sweepsStrays else { return }
    for id in state.workloads.keys.sorted() where state.vnfcs[id.vnfc] == nil {
      windDown(id, grace: .zero, nil, at: now, &outcome)
    }
    for (network, tenant) in state.strayNetworks.sorted(by: { $0.key < $1.key })
    where state.networkPhases[network] == nil {
      state.networkPhases[network] = .removing
      outcome.actions.append(.removeNetwork(network, tenant))
    }
    removeUnusedVolumes(&outcome)
  }

  /// Removes block devices of Vnfcs that are no more, once nothing of them is left that has them open.
  private mutating func removeUnusedVolumes(_ outcome: inout Outcome) {
    guard sweepsStrays else { return }
    for vnfc in state.volumePhases.keys.sorted()
    where state.vnfcs[vnfc] == nil && state.volumePhases[vnfc] == .present
      && state.incarnations[vnfc] == nil
    {
      state.volumePhases[vnfc] = .removing
      outcome.actions.append(.removeVolumes(vnfc))
    }
  }

  mutating func wait(_ id: VnfInstanceID, until moment: Timestamp) {
    waiting[id] = min(waiting[id] ?? moment, moment)
  }

  /// The goal is reached: an operation under way ends.
  private mutating func settle(
    _ instance: VnfInstance, at now: Timestamp, _ outcome: inout Outcome
  ) {
    guard let target = instance.target, let id = instance.openOperation,
      var operation = state.openOperations[id]
    else { return }
    var settled = instance
    switch operation.state {
    case .processing: settled.settled = target
    case .rollingBack: break
    default: return
    }
    settled.target = nil
    settled.openOperation = nil
    let gone = settled
    operation.error = operation.state == .processing ? nil : operation.error
    enter(operation.state == .processing ? .completed : .rolledBack, &operation, at: now, &outcome)
    commit(.putInstance(gone), &outcome)
    for vnfc in state.vnfcs(of: instance.id)
    where gone.settled.vnfcs[vnfc.id] == nil && (state.incarnations[vnfc.id] ?? []).isEmpty {
      commit(.removeVnfc(vnfc.id), &outcome)
    }
    // What is retired is released now, off the caller's way.
    for vnfc in state.vnfcs(of: instance.id) where gone.settled.vnfcs[vnfc.id] == nil {
      _ = end(vnfc, of: gone, at: now, &outcome)
    }
  }

  /// Removes the networks of internal virtual links that nothing refers to any more.
  private mutating func removeUnusedLinks(of id: VnfInstanceID, _ outcome: inout Outcome) {
    let instance = state.instances[id]
    let wanted = Set(instance?.settled.virtualLinks.values ?? [:].values)
      .union(instance?.target?.virtualLinks.values ?? [:].values)
    let owned = state.networksOfInstance[id] ?? []
    guard !owned.isSubset(of: wanted) else { return }
    let used = Set(state.vnfcs(of: id).flatMap { $0.ports.map(\.network) })
    for network in owned.subtracting(wanted).subtracting(used).sorted() {
      remove(network, &outcome)
    }
  }

  /// Removes a network that nothing uses.
  mutating func remove(_ id: NetworkID, _ outcome: inout Outcome) {
    guard let network = state.networks[id] else { return }
    commit(.removeNetwork(id), &outcome)
    if state.networkPhases[id] == .ensuring {
      // It is swept when that has ended.
      state.strayNetworks[id] = network.tenant
      return
    }
    state.networkPhases[id] = .removing
    outcome.actions.append(.removeNetwork(id, network.tenant))
  }

  // MARK: What is needed

  private func hasVolumes(_ vnfc: Vnfc) -> Bool { vdu(of: vnfc)?.storages.isEmpty == false }

  private func vdu(of vnfc: Vnfc) -> Vdu? {
    let package = (state.instances[vnfc.instance]?.package).flatMap { state.packages[$0] }
    return package?.content?.descriptor.flavour(vnfc.flavour)?.vdu(vnfc.vdu)
  }

  func image(of vnfc: Vnfc) -> ImageDigest? {
    guard let instance = state.instances[vnfc.instance],
      let content = state.packages[instance.package]?.content,
      let path = content.descriptor.flavour(vnfc.flavour)?.vdu(vnfc.vdu)?.imagePath
    else { return nil }
    return content.images[path]
  }

  func uses(_ id: VnfInstanceID, _ digest: ImageDigest) -> Bool {
    state.vnfcs(of: id).contains { image(of: $0) == digest }
  }

  func instances(waitingFor network: NetworkID) -> [VnfInstanceID] {
    (state.instancesOfNetwork[network] ?? []).sorted()
  }
}

extension VnfLcmOpOcc {
  /// How long processes may take to end by themselves, where the operation said so.
  var grace: Duration? {
    guard case .object(let fields) = parameters,
      case .string("GRACEFUL")? = fields["terminationType"] ?? fields["stopType"]
    else { return nil }
    let key = operation == .terminate ? "gracefulTerminationTimeout" : "gracefulStopTimeout"
    guard case .integer(let seconds)? = fields[key] else { return .seconds(10) }
    return .seconds(max(0, min(seconds, 3600)))
  }
}
