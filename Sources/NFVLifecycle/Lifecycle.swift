internal import LinuxSystem
public import Logging
public import NFVModel
public import ServiceLifecycle
internal import Synchronization

/// The drivers and stores that a lifecycle works with; wired by the composition root only.
public struct Host: Sendable {
  public var workloads: [any WorkloadDriver]
  public var network: any NetworkDriver
  public var images: any ImageStore

  public init(
    workloads: [any WorkloadDriver], network: any NetworkDriver, images: any ImageStore
  ) {
    self.workloads = workloads
    self.network = network
    self.images = images
  }

  /// The driver for a technology, where the host has one.
  public func driver(for technology: Technology) -> (any WorkloadDriver)? {
    index(for: technology).map { workloads[$0] }
  }

  /// What the first driver that runs a technology can give its workloads.
  var capabilities: [Technology: DriverCapabilities] {
    workloads.reduce(into: [:]) { $0.merge($1.capabilities) { first, _ in first } }
  }

  func index(for technology: Technology) -> Int? {
    workloads.firstIndex { $0.capabilities[technology] != nil }
  }
}

/// The asynchronous shell around the core: one serial loop takes the events that wait, steps them,
/// writes all their changes in one commit, and only then answers callers and hands the actions to
/// the executor.
public final class Lifecycle: Service, Sendable {
  public let store: any Store
  public let host: Host
  /// The serial loop's own; it holds what is not committed yet.
  private let core: Mutex<Core>
  /// The state as of the last commit, for everybody else. It is a copy that shares all that the
  /// commits since have not changed.
  let committed: Mutex<State>
  let logger: Logger
  private let inbox = BlockingQueue<Event>()
  private let pending: Mutex<Pending>
  /// Renders a function's templates with its document.
  let render:
    @Sendable (_ templates: [String], _ document: FunctionDocument) throws(NFVError) -> [String]
  let preparedImages = Mutex<[ImageDigest: PreparedImage]>([:])
  /// Which driver has which workload on the host, as an index into the host's: a Vnfc's technology
  /// may have changed since, and of a stray nothing else is known.
  let drivers = Mutex<[WorkloadID: Int]>([:])
  /// Commits and driver calls block; ten of each at once is more than a host's runtimes answer.
  private let loopThread = BlockingExecutor(threads: 1, name: "martlet-loop")
  private let actionThreads = BlockingExecutor(threads: 12, name: "martlet-action")

  /// How much may wait in the daemon at once. Whoever asks for more is told to ask again later; what
  /// is there already is looked after all the same, and is bounded by that: a workload, network or
  /// image has one action at a time.
  public struct Bounds: Sendable {
    /// Requests without an answer.
    public var requests = 10_000
    /// Actions that were asked for and have not ended.
    public var actions = 10_000

    public init() {}
  }

  private let bounds: Bounds
  private let sweepsStrays: Bool

  /// Who waits: callers by token, and readers of the outbox.
  private struct Pending {
    var nextToken: UInt64 = 1
    var callers: [UInt64: CheckedContinuation<Result<Response, NFVError>, Never>] = [:]
    var nextReader = 1
    var readers: [Int: AsyncStream<[OutboxEntry]>.Continuation] = [:]
    /// Of the newest outbox entry that may be told.
    var lastSequence: Int64
    /// Actions that were asked for and have not ended.
    var actions = 0
    var isClosed = false
    var isReady = false
  }

  /// - Parameters:
  ///   - stored: what the store holds.
  ///   - sweepsStrays: false leaves alone what is on the host and not in the store.
  public init(
    store: any Store, stored: StoredState, host: Host, identifiers: IdentifierSource = .system,
    policy: Core.RestartPolicy = .init(), sweepsStrays: Bool = true, bounds: Bounds = Bounds(),
    logger: Logger,
    render:
      @escaping @Sendable (_ templates: [String], _ document: FunctionDocument) throws(NFVError)
      -> [String]
  ) {
    self.store = store
    self.host = host
    self.logger = logger
    self.bounds = bounds
    self.render = render
    let core = Core(
      stored, identifiers: identifiers, policy: policy,
      capabilities: host.capabilities, sweepsStrays: sweepsStrays)
    self.sweepsStrays = sweepsStrays
    self.core = Mutex(core)
    committed = Mutex(core.state)
    pending = Mutex(Pending(lastSequence: stored.lastSequence))
  }

  // MARK: For callers

  /// Asks for something; returns when it is durable.
  /// - Throws: why it was refused; then nothing was changed. `overloaded`: too much waits already.
  public func submit(
    _ request: Request, tenant: TenantID = .default, actor: String
  ) async throws(NFVError) -> Response {
    if case .createNetwork(let wanted) = request, wanted.uplink != .none {
      try await withTaskExecutorPreference(actionThreads) { () async throws(NFVError) in
        try await host.network.check(wanted, of: tenant)
      }
    }
    let result = await withCheckedContinuation { continuation in
      do throws(NFVError) {
        let token = try pending.withLock { pending throws(NFVError) in
          try admit(to: pending)
          let token = pending.nextToken
          pending.nextToken += 1
          pending.callers[token] = continuation
          return token
        }
        inbox.append(.request(request, tenant: tenant, actor: actor, token: token))
      } catch {
        continuation.resume(returning: .failure(error))
      }
    }
    return try result.get()
  }

  private func admit(to pending: Pending) throws(NFVError) {
    if pending.isClosed { throw NFVError(.unavailable, "the daemon ends; ask again later") }
    guard pending.callers.count < bounds.requests else {
      throw NFVError(
        .overloaded, "\(pending.callers.count) requests wait for the daemon; ask again later")
    }
    guard pending.actions < bounds.actions else {
      throw NFVError(
        .overloaded,
        "the host has \(pending.actions) things to do that were asked for before; ask again later")
    }
  }

  /// Reads the state as of the last commit. `body` runs under a lock: short, and without waiting.
  public func read<Value: Sendable>(
    _ body: (borrowing State) throws(NFVError) -> Value
  ) throws(NFVError) -> Value {
    try committed.withLock { state throws(NFVError) in try body(state) }
  }

  /// Whether the host was observed and requests are carried out.
  public var isReady: Bool { pending.withLock(\.isReady) }

  /// Of the newest outbox entry that is told. The store may have newer ones, of which nothing can be
  /// read here yet: whoever was told one and looked would see what was before, and wait for good.
  public var lastSequence: Int64 { pending.withLock(\.lastSequence) }

  /// What was told after `sequence`, the oldest first; blocks, as the store does.
  /// - Throws: `notFound` where entries after `sequence` were already dropped.
  public func outbox(after sequence: Int64, limit: Int) throws(NFVError) -> [OutboxEntry] {
    let last = lastSequence
    return Array(try store.outbox(after: sequence, limit: limit).prefix { $0.sequence <= last })
  }

  /// What was and will be told to subscribers after `sequence`. Ends when the daemon does.
  public func notifications(
    after sequence: Int64
  ) -> AsyncThrowingStream<OutboxEntry, any Error> {
    let (news, continuation) = AsyncStream.makeStream(
      of: [OutboxEntry].self, bufferingPolicy: .bufferingNewest(64))
    let (reader, last) = pending.withLock { pending -> (Int, Int64) in
      defer { pending.nextReader += 1 }
      if pending.isClosed { continuation.finish() }
      pending.readers[pending.nextReader] = continuation
      return (pending.nextReader, pending.lastSequence)
    }
    continuation.onTermination = { [weak self] _ in
      self?.pending.withLock { $0.readers[reader] = nil }
    }
    let source = OutboxSource(store: store, after: sequence, upTo: last, news: news)
    return AsyncThrowingStream(unfolding: { try await source.next() })
  }

  // MARK: Running

  public func run() async throws {
    await withTaskCancellationOrGracefulShutdownHandler {
      await withTaskExecutorPreference(self.loopThread) {
        await withDiscardingTaskGroup { group in
          group.addTask(executorPreference: self.actionThreads) { await self.recover() }
          for driver in self.host.workloads {
            group.addTask(executorPreference: globalConcurrentExecutor) {
              for await exit in driver.exits { self.inbox.append(.workloadExited(exit)) }
            }
          }
          for case let driver as any Watching in self.host.workloads {
            group.addTask(executorPreference: globalConcurrentExecutor) { await driver.watch() }
          }
          for case let driver as any Pooling in self.host.workloads {
            group.addTask(executorPreference: self.actionThreads) {
              await self.keepPools(of: driver)
            }
          }
          self.loop(&group)
          group.cancelAll()
        }
      }
    } onCancelOrGracefulShutdown: {
      self.inbox.close()
    }
  }

  /// Asks the host what is there and hands it to the core.
  private func recover() async {
    var observation = HostObservation()
    while !Task.isCancelled {
      do throws(NFVError) {
        observation = try await observe()
        break
      } catch {
        // Without knowing the host nothing may be started: names would be used twice.
        logger.error(
          "the host cannot be observed; asking again in 1 s", metadata: ["error": "\(error)"])
        try? await Task.sleep(for: .seconds(1))
      }
    }
    if Task.isCancelled { return }
    inbox.append(.observed(observation))
    await refillPools(for: observation.workloads)
  }

  private func observe() async throws(NFVError) -> HostObservation {
    let store = committed.withLock(\.store)
    // The host before the store: what starts meanwhile is in the store already.
    var observation = HostObservation()
    for (index, driver) in host.workloads.enumerated() {
      let found = try await driver.observe()
      drivers.withLock { drivers in for workload in found { drivers[workload.id] = index } }
      observation.workloads += found
      if let keeping = driver as? any VolumeKeeping {
        observation.volumes.formUnion(try await keeping.vnfcsWithVolumes())
      }
    }
    observation.networks = try await host.network.observe()
    guard sweepsStrays else { return observation }
    let known = Set(observation.workloads.map(\.id))
    for link in observation.networks.links
    where !known.contains(link.workload) && link.workload.store == store {
      try await host.network.sweep(link)
    }
    return observation
  }

  /// The serial loop; blocks its thread until the inbox is closed. Actions become tasks of `group`.
  private func loop(_ group: inout DiscardingTaskGroup) {
    defer { stop() }
    var timeout: Duration?
    /// What the host told and the store did not take.
    var untaken: [Event] = []
    /// When it was said last that the store takes nothing; nil where it takes what it is given.
    var complained: Timestamp?
    while let new = inbox.next(limit: 512, timeout: untaken.isEmpty ? timeout : .zero) {
      let events = untaken + new
      untaken = []
      let now = Clock.now
      var changes: [Change] = []
      var answers: [(token: UInt64, Result<Response, NFVError>)] = []
      var actions: [Action] = []
      var wasObserved = false
      var news: [OutboxEntry] = []
      let backup = core.withLock { core -> Core in
        let backup = core
        func take(_ event: Event) {
          let outcome = core.step(event, at: now)
          changes += outcome.changes
          answers += outcome.answers
          actions += outcome.actions
        }
        for event in events {
          if case .observed = event { wasObserved = true }
          take(event)
        }
        if let due = core.wakeAt, due <= now { take(.tick) }
        return backup
      }
      do throws(NFVError) {
        if !changes.isEmpty { news = try store.commit(changes) }
      } catch {
        if complained.map({ now - $0 >= .seconds(60) }) ?? true {
          complained = now
          logger.critical(
            "the store does not take a commit; requests are refused until it does",
            metadata: ["error": "\(error)"])
        }
        // Nothing of this batch happened: requests are refused, what the host told is told again.
        core.withLock { $0 = backup }
        untaken = refuse(events, error)
        sleepThread(milliseconds: 1000)
        continue
      }
      if !changes.isEmpty, complained != nil {
        complained = nil
        logger.notice("the store takes commits again")
      }
      // Before anybody hears of it. What only the old state had goes outside of the lock.
      var state = core.withLock { $0.state }
      committed.withLock { swap(&$0, &state) }
      // What follows an action counts as soon as that no longer does.
      let ended = events.count { if case .actionEnded = $0 { true } else { false } }
      pending.withLock { $0.actions += actions.count - ended }
      // In the order of who waits for it. What is made goes with the host's power, as would a commit that
      // is not on disk yet: it need not wait for that, as callers must.
      start(actions.filter { !$0.isForGood }, &group)
      do throws(NFVError) {
        let forGood = actions.filter(\.isForGood)
        if !changes.isEmpty || !forGood.isEmpty { try store.sync() }
        start(forGood, &group)
      } catch {
        logger.critical(
          "what was committed is not on disk, and lost with the host's power; look at its disk",
          metadata: ["error": "\(error)"])
        for action in actions where action.isForGood {
          inbox.append(
            .actionEnded(ActionResult(action: action, error: error, started: now, ended: now)))
        }
        answers = answers.map { ($0.token, .failure(error)) }
      }
      // Before the answers: who has one finds what it caused among what was told.
      if let last = news.last { pending.withLock { $0.lastSequence = last.sequence } }
      answer(answers)
      if !news.isEmpty { tell(news) }
      if wasObserved { pending.withLock { $0.isReady = true } }
      timeout = core.withLock { $0.wakeAt }.map { max($0 - Clock.now, .zero) }
    }
  }

  private func start(_ actions: [Action], _ group: inout DiscardingTaskGroup) {
    for action in actions {
      group.addTask(executorPreference: actionThreads) {
        self.inbox.append(.actionEnded(await self.perform(action)))
      }
    }
  }

  /// Refuses the requests among the events; gives back the others.
  private func refuse(_ events: [Event], _ error: NFVError) -> [Event] {
    events.filter { event in
      guard case .request(_, _, _, let token) = event else { return true }
      answer([(token, .failure(error))])
      return false
    }
  }

  private func answer(_ answers: [(token: UInt64, Result<Response, NFVError>)]) {
    for (token, result) in answers {
      pending.withLock { $0.callers.removeValue(forKey: token) }?.resume(returning: result)
    }
  }

  private func tell(_ news: [OutboxEntry]) {
    for reader in pending.withLock({ Array($0.readers.values) }) { reader.yield(news) }
  }

  private func stop() {
    let (callers, readers) = pending.withLock { pending in
      pending.isClosed = true
      pending.isReady = false
      defer {
        pending.callers = [:]
        pending.readers = [:]
      }
      return (Array(pending.callers.values), Array(pending.readers.values))
    }
    for caller in callers {
      caller.resume(returning: .failure(NFVError(.unavailable, "the daemon ends")))
    }
    for reader in readers { reader.finish() }
  }
}

/// The outbox entry by entry: from the store up to what was told, then as it is told, and from the store
/// again for who has let too much of that go by. Reading each commit's entries back took a subscriber
/// 0.8 ms of a processor, beside the actions that follow the commit.
private actor OutboxSource {
  private let store: any Store
  private var sequence: Int64
  private var buffer: ArraySlice<OutboxEntry> = []
  /// What was told up to here is in the store.
  private var last: Int64
  private let news: AsyncStream<[OutboxEntry]>

  init(
    store: any Store, after sequence: Int64, upTo last: Int64, news: AsyncStream<[OutboxEntry]>
  ) {
    self.store = store
    self.sequence = sequence
    self.last = last
    self.news = news
  }

  func next() async throws -> OutboxEntry? {
    while true {
      if let entry = buffer.popFirst() {
        sequence = entry.sequence
        return entry
      }
      if sequence < last {
        buffer = try store.outbox(after: sequence, limit: 200).prefix { $0.sequence <= last }
        if buffer.isEmpty { sequence = last }
        continue
      }
      guard let told = await news.first(where: { _ in true }) else { return nil }
      let new = told.drop { $0.sequence <= sequence }
      guard let first = new.first, let newest = new.last else { continue }
      last = newest.sequence
      // Sequence numbers have no gaps but those of what was missed, which the store has.
      if first.sequence == sequence + 1 { buffer = new }
    }
  }
}
