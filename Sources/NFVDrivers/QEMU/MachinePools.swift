import LinuxSystem
public import NFVModel
import Synchronization

/// Machines that have booted and wait for ports and a document, by what was fixed at their birth.
final class MachinePools: Sendable {
  /// What a machine that is claimed cannot change any more.
  private struct Kind: Hashable {
    var tenant: TenantID
    var image: ImageDigest
    var ports: Int
    var memoryBytes: UInt64
    var cpuMillicores: Int?

    init(_ specification: WorkloadSpecification) {
      tenant = specification.id.tenant
      image = specification.image.digest
      ports = specification.ports.count
      memoryBytes = specification.memoryBytes
      cpuMillicores = specification.cpuMillicores
    }
  }

  private struct Pool {
    /// That has booted longest first.
    var waiting: [WorkloadID] = []
    /// Asked for, and not yet waiting.
    var making: Set<WorkloadID> = []
  }

  private struct State {
    var pools: [Kind: Pool] = [:]
    /// Those that give way and are not gone yet.
    var leaving: Set<WorkloadID> = []
    var isClosed = false
  }

  let work: AsyncStream<PoolWork>
  private let asked: AsyncStream<PoolWork>.Continuation
  private let size: Int
  private let state = Mutex(State())

  /// - Parameter size: of each pool; 0: there are none.
  init(size: Int) {
    self.size = size
    (work, asked) = AsyncStream.makeStream()
  }

  /// The place of a port that a waiting machine will have.
  static func place(_ index: Int) -> PortID { PortID("\(index)") }

  /// Takes a machine that fits out of its pool.
  func claim(for specification: WorkloadSpecification) -> WorkloadID? {
    let kind = Kind(specification)
    return state.withLock { state in
      guard state.pools[kind]?.waiting.isEmpty == false else { return nil }
      return state.pools[kind]?.waiting.removeFirst()
    }
  }

  /// All that wait, are made to, or give way.
  var members: Set<WorkloadID> {
    state.withLock { state in
      state.pools.values.reduce(into: state.leaving) { $0.formUnion($1.making.union($1.waiting)) }
    }
  }

  /// Takes out one of the largest machines that wait, for another to have its memory; whoever deletes it
  /// says ``hasGone(_:)``.
  func giveWay() -> WorkloadID? {
    state.withLock { state in
      let largest = state.pools.filter { !$0.value.waiting.isEmpty }
        .max { $0.key.memoryBytes < $1.key.memoryBytes }
      guard let kind = largest?.key, let member = state.pools[kind]?.waiting.removeLast() else {
        return nil
      }
      state.leaving.insert(member)
      return member
    }
  }

  func hasGone(_ id: WorkloadID) { state.withLock { _ = $0.leaving.remove(id) } }

  /// A machine like this was started: the next one shall find one that waits.
  func fill(after specification: WorkloadSpecification) {
    guard size > 0 else { return }
    let kind = Kind(specification)
    let members = state.withLock { state -> [WorkloadSpecification] in
      guard !state.isClosed else { return [] }
      var pool = state.pools[kind] ?? Pool()
      let missing = max(0, size - pool.waiting.count - pool.making.count)
      let members = (0..<missing).map { _ in Self.member(like: specification) }
      pool.making.formUnion(members.map(\.id))
      state.pools[kind] = pool
      return members
    }
    for member in members { asked.yield(.make(member)) }
  }

  /// A machine with a name that is nobody's, on links that lead nowhere.
  private static func member(like specification: WorkloadSpecification) -> WorkloadSpecification {
    var member = specification
    member.id.vnfc = VnfcID("waiting-\(IdentifierSource.system.uuid())")
    member.id.incarnation = 1
    for index in member.ports.indices {
      member.ports[index].id = place(index)
      member.ports[index].network = ""
    }
    return member
  }

  /// Whether a workload is being made to wait.
  func isMaking(_ id: WorkloadID) -> Bool {
    state.withLock { state in state.pools.values.contains { $0.making.contains(id) } }
  }

  /// A machine waits from now on; where it is not wanted any more it is to be ended.
  func noteReady(_ specification: WorkloadSpecification) {
    let (id, kind) = (specification.id, Kind(specification))
    let isWanted = state.withLock { state in
      guard state.pools[kind]?.making.remove(id) != nil else { return false }
      state.pools[kind]?.waiting.append(id)
      return true
    }
    if !isWanted { discard(id) }
  }

  /// A machine has ended by itself, or is about to be deleted.
  /// - Returns: whether it waited.
  @discardableResult
  func forget(_ id: WorkloadID) -> Bool {
    state.withLock { state in
      for (kind, pool) in state.pools {
        if pool.making.contains(id) { state.pools[kind]?.making.remove(id) }
        guard let place = pool.waiting.firstIndex(of: id) else { continue }
        state.pools[kind]?.waiting.remove(at: place)
        return true
      }
      return false
    }
  }

  /// A machine that waited has ended by itself; the next use of its kind asks for another.
  func noteEnd(_ id: WorkloadID) {
    if forget(id) { discard(id) }
  }

  /// Has a machine deleted that nobody can claim.
  func discard(_ id: WorkloadID) { asked.yield(.discard(id)) }

  func drain(where isUnneeded: (TenantID, ImageDigest) -> Bool) {
    let members = state.withLock { state -> [WorkloadID] in
      let kinds = state.pools.keys.filter { isUnneeded($0.tenant, $0.image) }
      return kinds.flatMap { state.pools.removeValue(forKey: $0)?.waiting ?? [] }
    }
    for id in members { discard(id) }
  }

  func close() -> [WorkloadID] {
    asked.finish()
    return state.withLock { state in
      state.isClosed = true
      defer { state.pools = [:] }
      return state.pools.values.flatMap(\.waiting)
    }
  }

  /// The pools, with what those that wait use.
  func listed(memoryBytes: (WorkloadID) -> UInt64) -> [WorkloadPool] {
    state.withLock(\.pools).map { kind, pool in
      WorkloadPool(
        tenant: kind.tenant, technology: .unikernel, image: kind.image, ports: kind.ports,
        memoryLimit: kind.memoryBytes, waiting: pool.waiting.count, size: size,
        memoryBytes: pool.waiting.reduce(0) { $0 + memoryBytes($1) })
    }.sorted {
      ($0.tenant, $0.image, $0.ports, $0.memoryLimit)
        < ($1.tenant, $1.image, $1.ports, $1.memoryLimit)
    }
  }
}

extension QEMUDriver: Pooling {
  public var poolWork: AsyncStream<PoolWork> { waitingRoom.work }

  public var pools: [WorkloadPool] {
    waitingRoom.listed { id in (try? workloads.usage(of: id))?.memoryBytes ?? 0 }
  }

  public var pooledTechnologies: Set<Technology> {
    configuration.poolSize > 0 ? [.unikernel] : []
  }

  public func noteUse(_ specification: WorkloadSpecification) {
    waitingRoom.fill(after: specification)
  }

  public func noteWaiting(_ specification: WorkloadSpecification) {
    waitingRoom.noteReady(specification)
  }

  public func drainPools(where isUnneeded: (TenantID, ImageDigest) -> Bool) {
    waitingRoom.drain(where: isUnneeded)
  }

  public func closePools() -> [WorkloadID] { waitingRoom.close() }

  /// Gives a prepared workload a machine that waits; nil where none does.
  func claim(_ specification: WorkloadSpecification) -> HeldTaps? {
    if waitingRoom.isMaking(specification.id) { return nil }
    while let member = waitingRoom.claim(for: specification) {
      // From here on its end is not told as its own, and by its start only.
      machines.rename(member, to: specification.id)
      do throws(SystemError) {
        try workloads.claim(member, for: specification.id)
      } catch {
        machines.forget(specification.id)
        waitingRoom.discard(member)
        continue
      }
      promises.withLock { $0.rename(member, to: specification.id) }
      return taps(of: specification)
    }
    return nil
  }

  /// Deletes the machine that was claimed for a workload, which has nothing on the host again.
  func giveUp(_ id: WorkloadID) async throws(NFVError) {
    let member = workloads.origin(of: id)
    try HeldWorkloads.onHost("cannot give up \(member)") { () throws(SystemError) in
      try workloads.unclaim(id)
    }
    machines.forget(id)
    promises.withLock { $0.rename(id, to: member) }
    do throws(NFVError) {
      try await delete(member)
    } catch {
      waitingRoom.discard(member)
      throw error
    }
  }
}
