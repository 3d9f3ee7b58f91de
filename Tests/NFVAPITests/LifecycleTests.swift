import LinuxSystem
import Logging
import NFVLifecycle
import NFVModel
import Synchronization
import TestSupport
import Testing

/// The shell around the core, where its store or its host does not do what it should.
@Suite(.timeLimit(.minutes(1))) struct LifecycleTests {
  /// A store in memory whose disk can be full or slow.
  final class StubbornStore: Store {
    private let inner = MemoryStore(id: "test")
    let isFull = Mutex(false)
    /// Commits do not end as long as this is set.
    let isHeld = Mutex(false)
    let commits = Mutex(0)
    /// Those that are done do not return as long as this is set.
    let isReturnHeld = Mutex(false)
    /// Nothing comes onto the disk as long as this is set.
    let isSyncHeld = Mutex(false)
    let isBroken = Mutex(false)
    /// How often it was to come onto the disk and did not.
    let failedSyncs = Mutex(0)
    /// For a test to note.
    let isAnswered = Mutex(false)

    func load() throws(NFVError) -> StoredState { try inner.load() }

    func commit(_ changes: [Change]) throws(NFVError) -> [OutboxEntry] {
      commits.withLock { $0 += 1 }
      while isHeld.withLock(\.self) { sleepThread(milliseconds: 1) }
      if isFull.withLock(\.self) { throw NFVError(.exhausted, "the disk is full") }
      let entries = try inner.commit(changes)
      while isReturnHeld.withLock(\.self) { sleepThread(milliseconds: 1) }
      return entries
    }

    func sync() throws(NFVError) {
      while isSyncHeld.withLock(\.self) { sleepThread(milliseconds: 1) }
      guard isBroken.withLock(\.self) else { return }
      failedSyncs.withLock { $0 += 1 }
      throw NFVError(.failed, "the disk is broken")
    }

    func operation(_ id: VnfLcmOpOccID) throws(NFVError) -> VnfLcmOpOcc? {
      try inner.operation(id)
    }

    func operations(
      of instance: VnfInstanceID?, before: VnfLcmOpOccID?, limit: Int
    ) throws(NFVError) -> [VnfLcmOpOcc] {
      try inner.operations(of: instance, before: before, limit: limit)
    }

    func outbox(after sequence: Int64, limit: Int) throws(NFVError) -> [OutboxEntry] {
      try inner.outbox(after: sequence, limit: limit)
    }
  }

  /// Counts what is critical.
  struct Criticals: LogHandler {
    final class Count: Sendable {
      let value = Mutex(0)
    }

    let count = Count()
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.critical

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { count.value.withLock { $0 += 1 } }
  }

  /// Runs an instance of one Vnfc, which is ready when it answers.
  private func run(
    store: StubbornStore = StubbornStore(), fake: FakeHost = FakeHost(),
    storages: [VirtualBlockStorage] = [],
    logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
    _ body: @Sendable @escaping (Fixture, VnfInstanceID) async throws -> Void
  ) async throws {
    try await Fixture.run(fake: fake, store: store, logger: logger) { fixture in
      func submit(_ request: Request) async throws -> Response {
        try await fixture.lifecycle.submit(request, actor: "test")
      }
      var descriptor = Fixture.descriptor("vnfd-1", links: [])
      descriptor.flavours[0].vdus[0].readiness = Readiness(check: .network(.tcp(1)))
      descriptor.flavours[0].vdus[0].storages = storages
      guard case .package(let package) = try await submit(.createPackage(userDefinedData: [:]))
      else { throw Fixture.Unexpected() }
      let content = VnfPackage.Content(
        descriptor: descriptor, digest: "sha256:00", size: 1,
        images: ["images/fw.tar": "sha256:cd"], templates: [:])
      _ = try await submit(.onboardPackage(package.id, content))
      _ = try await submit(.createNetwork(NetworkRequest(name: "left")))
      guard
        case .instance(let instance) = try await submit(
          .createInstance(CreateVnfRequest(vnfd: "vnfd-1", name: "one")))
      else { throw Fixture.Unexpected() }
      let connected = InstantiateVnfRequest(connections: ["left": .init(network: "left")])
      _ = try await submit(.instantiate(instance.id, connected))
      try await eventually("it runs") { try settled(instance.id, fixture)?.isInstantiated == true }
      try await body(fixture, instance.id)
    }
  }

  private func settled(_ id: VnfInstanceID, _ fixture: Fixture) throws -> VnfState? {
    try fixture.lifecycle.read { state in state.instances[id]?.settled }
  }

  private func serving(_ id: VnfInstanceID, _ fixture: Fixture) throws -> WorkloadID? {
    try fixture.lifecycle.read { state in
      state.vnfcs(of: id).first.flatMap { state.serving($0.id) }
    }
  }

  @Test func aFullDiskIsTriedOnceASecondAndToldOnce() async throws {
    let store = StubbornStore()
    let criticals = Criticals()
    let logger = Logger(label: "test") { _ in criticals }
    try await run(store: store, logger: logger) { fixture, instance in
      let first = try #require(try serving(instance, fixture))
      store.isFull.withLock { $0 = true }
      store.commits.withLock { $0 = 0 }
      fixture.fake.end(first, .exited(code: 1))
      try await eventually("it was tried again", within: .seconds(5)) {
        store.commits.withLock { $0 > 1 }
      }
      await #expect(throws: NFVError.self) {
        _ = try await fixture.lifecycle.submit(
          .createInstance(CreateVnfRequest(vnfd: "vnfd-1")), actor: "test")
      }
      #expect(store.commits.withLock { $0 } < 6)
      #expect(criticals.count.value.withLock { $0 } == 1)
      store.isFull.withLock { $0 = false }
      try await eventually("a successor serves", within: .seconds(5)) {
        try serving(instance, fixture).map { $0 != first } == true
      }
    }
  }

  @Test func whatIsNotCommittedIsNotRead() async throws {
    let store = StubbornStore()
    try await run(store: store) { fixture, _ in
      func names() throws -> Set<String> {
        try fixture.lifecycle.read { state in Set(state.instances.values.map(\.name)) }
      }
      store.commits.withLock { $0 = 0 }
      store.isHeld.withLock { $0 = true }
      async let created = fixture.lifecycle.submit(
        .createInstance(CreateVnfRequest(vnfd: "vnfd-1", name: "two")), actor: "test")
      try await eventually("it is being committed") { store.commits.withLock { $0 > 0 } }
      let before = try names()
      store.isHeld.withLock { $0 = false }
      #expect(before == ["one"])
      _ = try await created
      #expect(try names() == ["one", "two"])
    }
  }

  /// Who is told and looks would see what was before, and wait for good.
  @Test func whatCannotBeReadYetIsNotTold() async throws {
    let store = StubbornStore()
    try await run(store: store) { fixture, _ in
      let lifecycle = fixture.lifecycle
      let before = lifecycle.lastSequence
      #expect(before > 0)
      store.isReturnHeld.withLock { $0 = true }
      async let created = lifecycle.submit(
        .createInstance(CreateVnfRequest(vnfd: "vnfd-1", name: "two")), actor: "test")
      try await eventually("it is in the store") { try store.load().lastSequence == before + 1 }
      async let told = {
        var entries = lifecycle.notifications(after: before).makeAsyncIterator()
        let entry = try await entries.next()
        return try (
          entry?.sequence,
          lifecycle.read { state in state.instances.values.contains { $0.name == "two" } }
        )
      }()
      #expect(lifecycle.lastSequence == before)
      #expect(try lifecycle.outbox(after: before, limit: 10) == [])
      // For a reader of the store it were enough.
      try await Task.sleep(for: .milliseconds(100))
      store.isReturnHeld.withLock { $0 = false }
      let (sequence, isThere) = try await told
      #expect(sequence == before + 1 && isThere)
      _ = try await created
      #expect(lifecycle.lastSequence == before + 1)
      #expect(try lifecycle.outbox(after: before, limit: 10).count == 1)
    }
  }

  /// What is made on the host goes with its power, as what is not on disk does; what callers were told
  /// does not.
  @Test func callersWaitForTheDiskAndTheHostDoesNot() async throws {
    let store = StubbornStore()
    try await run(store: store) { fixture, _ in
      guard
        case .instance(let second) = try await fixture.lifecycle.submit(
          .createInstance(CreateVnfRequest(vnfd: "vnfd-1", name: "two")), actor: "test")
      else { throw Fixture.Unexpected() }
      let before = fixture.fake.preparations.withLock(\.self)
      store.isSyncHeld.withLock { $0 = true }
      async let begun: Void = {
        let connected = InstantiateVnfRequest(connections: ["left": .init(network: "left")])
        _ = try await fixture.lifecycle.submit(.instantiate(second.id, connected), actor: "test")
        store.isAnswered.withLock { $0 = true }
      }()
      try await eventually("it is being prepared") {
        fixture.fake.preparations.withLock(\.self) > before
      }
      #expect(store.isAnswered.withLock { $0 } == false)
      store.isSyncHeld.withLock { $0 = false }
      try await begun
    }
  }

  @Test func whatIsNotOnDiskIsNotPromised() async throws {
    let store = StubbornStore()
    let criticals = Criticals()
    try await run(store: store, logger: Logger(label: "test") { _ in criticals }) { fixture, _ in
      store.isBroken.withLock { $0 = true }
      let error = await #expect(throws: NFVError.self) {
        _ = try await fixture.lifecycle.submit(
          .createInstance(CreateVnfRequest(vnfd: "vnfd-1")), actor: "test")
      }
      #expect(error?.message == "the disk is broken")
      #expect(criticals.count.value.withLock { $0 } == 1)
      store.isBroken.withLock { $0 = false }
      _ = try await fixture.lifecycle.submit(
        .createInstance(CreateVnfRequest(vnfd: "vnfd-1")), actor: "test")
    }
  }

  /// What the commit says that asks for their removal might be gone with the host's power; they would
  /// not come back.
  @Test func volumesStayUntilTheirEndIsOnDisk() async throws {
    let (store, fake) = (StubbornStore(), FakeHost())
    fake.volumes.withLock { $0 = [] }
    let storages = [VirtualBlockStorage(id: "data", sizeBytes: 1 << 20)]
    try await run(store: store, fake: fake, storages: storages) { fixture, instance in
      let vnfc = try #require(try serving(instance, fixture)?.vnfc)
      #expect(fake.volumes.withLock(\.self) == [vnfc])
      store.isBroken.withLock { $0 = true }
      await #expect(throws: NFVError.self) {
        _ = try await fixture.lifecycle.submit(
          .terminate(instance, TerminateVnfRequest()), actor: "test")
      }
      // What can be made again goes on.
      try await eventually("it is terminated") {
        try settled(instance, fixture)?.isInstantiated == false
      }
      let failed = store.failedSyncs.withLock(\.self)
      try await eventually("the removal was tried again, and again", within: .seconds(10)) {
        store.failedSyncs.withLock(\.self) > failed + 1
      }
      #expect(fake.volumes.withLock(\.self) == [vnfc])
      store.isBroken.withLock { $0 = false }
      try await eventually("they are removed", within: .seconds(10)) {
        fake.volumes.withLock(\.self) == []
      }
    }
  }

  @Test func nobodyWaitsForAReadinessThatIsNotWanted() async throws {
    try await run { fixture, instance in
      let first = try #require(try serving(instance, fixture))
      fixture.fake.answersProbes.withLock { $0 = false }
      fixture.fake.end(first, .exited(code: 1))
      try await eventually("a successor is to become ready") {
        try fixture.lifecycle.read { state in
          state.awaitsReadiness(
            WorkloadID(
              store: first.store, tenant: first.tenant, vnfc: first.vnfc, incarnation: 2))
        }
      }
      let start = ContinuousClock.now
      _ = try await fixture.lifecycle.submit(
        .terminate(instance, TerminateVnfRequest()), actor: "test")
      try await eventually("it is terminated", within: .seconds(20)) {
        try settled(instance, fixture)?.isInstantiated == false
      }
      #expect(ContinuousClock.now - start < .seconds(5))
    }
  }
}
