import ControlProtocol
import HoldProtocol
import LinuxSystem
public import NFVModel
import Synchronization
import SystemPackage

/// Virtual machines under QEMU, born in the hold: tiny Linux guests whose init is ours, and unikernels,
/// which may wait in pools until they are claimed. QEMU runs as a user of its own in namespaces of its
/// own, and everything that it uses of the host is a descriptor.
///
/// What is on the host can be found again by `observe` after any crash: the hold's holdings and one
/// folder per workload say it. Connections to QEMU and to the guest are made anew then.
public final class QEMUDriver: WorkloadDriver {
  public struct Configuration: Sendable {
    public var store: StoreID
    /// For what goes with the host's boot; in a file system of memory.
    public var runFolder: String
    public var logFolder: String
    /// For block devices; what is in it outlives the host's boot.
    public var volumeFolder: String
    public var program: String
    /// How long QEMU may take until it answers by QMP; one that runs and twice does not is killed.
    public var answerLimit: Duration
    /// Between two looks whether each QEMU still answers.
    public var watchInterval: Duration
    /// How long a guest may take until it says that its function runs.
    public var startLimit: Duration
    /// How long a unikernel may take until it has booted and taken its document.
    public var unikernelLimit: Duration
    /// How many unikernels wait, booted, for each tenant, image, number of ports and size that was
    /// used once; 0: none.
    public var poolSize: Int
    /// What is kept of one workload's output, in bytes.
    public var logBytes: UInt64
    /// What all machines together may come to take, in bytes; nil: nobody knows.
    public var hostMemory: UInt64?

    public init(
      store: StoreID, runFolder: String, logFolder: String, volumeFolder: String,
      program: String = "/usr/bin/qemu-system-x86_64", answerLimit: Duration = .seconds(15),
      watchInterval: Duration = .seconds(15), startLimit: Duration = .seconds(90),
      unikernelLimit: Duration = .seconds(15), poolSize: Int = 0, logBytes: UInt64 = 4 << 20,
      hostMemory: UInt64? = nil
    ) {
      self.store = store
      self.runFolder = runFolder
      self.logFolder = logFolder
      self.volumeFolder = volumeFolder
      self.program = program
      self.answerLimit = answerLimit
      self.watchInterval = watchInterval
      self.startLimit = startLimit
      self.unikernelLimit = unikernelLimit
      self.poolSize = poolSize
      self.logBytes = logBytes
      self.hostMemory = hostMemory ?? MachineMemory.host
    }
  }

  public let capabilities: [Technology: DriverCapabilities] = [
    .tinyx: DriverCapabilities(
      attachmentKinds: [.tapDescriptor], reportsExitStatus: true, reportsOutOfMemory: true,
      executesCommands: true, hasConsole: true, pauses: true, keepsVolumes: true,
      configures: true),
    .unikernel: DriverCapabilities(
      attachmentKinds: [.tapDescriptor], reportsExitStatus: true, reportsOutOfMemory: true,
      executesCommands: false, hasConsole: true, pauses: true, keepsVolumes: false,
      configures: true),
  ]
  public let exits: AsyncStream<WorkloadExit>

  public var accelerator: String? { probe.known?.rawValue }

  let configuration: Configuration
  let workloads: HeldWorkloads
  let probe: AcceleratorProbe
  let machines: Machines
  let volumes: Volumes
  let waitingRoom: MachinePools
  let promises: Mutex<MachinePromises>

  var hold: HoldClient { workloads.hold }

  /// - Parameter hold: a connection of its own: its events have one consumer.
  /// - Throws: `unavailable` where QEMU or a cgroup controller is missing.
  public init(_ configuration: Configuration, hold: HoldClient) throws(NFVError) {
    self.configuration = configuration
    guard fileExists(configuration.program) else {
      throw NFVError(
        .unavailable,
        "\(configuration.program) is not there; virtual machines need it: "
          + "apt-get install qemu-system-x86")
    }
    let workloads = try HeldWorkloads(
      store: configuration.store, runFolder: configuration.runFolder,
      logFolder: configuration.logFolder, logBytes: configuration.logBytes, hold: hold,
      processPrefix: "machine:")
    self.workloads = workloads
    volumes = Volumes(folder: configuration.volumeFolder)
    let waitingRoom = MachinePools(size: configuration.poolSize)
    self.waitingRoom = waitingRoom
    promises = Mutex(try MachinePromises(store: configuration.store, workloads: workloads))
    probe = AcceleratorProbe(
      program: configuration.program, cache: configuration.runFolder + "/accelerator")
    let machines = Machines(workloads: workloads)
    self.machines = machines
    exits = ExitSource.exits(of: workloads) { id, status in
      waitingRoom.noteEnd(id)
      // A start that fails tells why itself, and better.
      return await machines.isStarted(id) ? await machines.status(of: id, status) : nil
    }
  }

  // MARK: Prepare

  public func prepare(
    _ specification: WorkloadSpecification,
    plug: @Sendable (AttachmentPoint) async throws(NFVError) -> Void
  ) async throws(NFVError) {
    while true {
      let image = try MachineImage(specification.image)
      let taps = try await place(of: specification, image)
      // A machine that has waited takes its document while its ports are plugged in: each takes 1 to 2 ms.
      // Its start waits for that, and tells what went wrong.
      if taps.haveWaited, image.isControlled {
        machines[specification.id].tell(
          document: specification.document, timeout: configuration.unikernelLimit)
      }
      do throws(NFVError) {
        return try await plug(.taps(taps))
      } catch {
        // One that has waited may end at this very moment, and its links go first.
        guard taps.haveWaited else { throw error }
        try await giveUp(specification.id)
      }
    }
  }

  /// Makes what a machine has before its QEMU, or claims one that waits.
  private func place(
    of specification: WorkloadSpecification, _ image: MachineImage
  ) async throws(NFVError) -> HeldTaps {
    let id = specification.id
    try check(specification, image)
    let folder = workloads.folder(id)
    if folder.record?.id != id {
      if let taps = claim(specification) { return taps }
      try await makeFolder(of: specification, image)
    }
    try HeldWorkloads.onHost("cannot make the volumes of \(id)") { () throws(SystemError) in
      try volumes.make(specification.volumes, of: id.vnfc)
    }
    return taps(of: specification)
  }

  /// Makes the folder by which a machine is there, with a user and memory of its own.
  private func makeFolder(
    of specification: WorkloadSpecification, _ image: MachineImage
  ) async throws(NFVError) {
    let id = specification.id
    let folder = workloads.folder(id)
    let memory = MachineMemory(of: specification, image, under: probe.known)
    let user = try await promise(memory, to: id)
    do throws(NFVError) {
      try HeldWorkloads.onHost("cannot prepare \(id)") { () throws(SystemError) in
        // By its identity it is there: that comes last.
        try folder.write(memory: memory)
        try folder.write(RunFolder.Record(id: id, users: user))
      }
    } catch {
      promises.withLock { $0.giveBack(id, user) }
      throw error
    }
  }

  /// Promises a machine its memory and a user. Machines that wait in pools give way to it one by one, the
  /// largest first, and none where that would not do.
  private func promise(
    _ memory: MachineMemory, to id: WorkloadID
  ) async throws(NFVError) -> UserRange {
    while true {
      do throws(NFVError) {
        return try promises.withLock { (promises) throws(NFVError) in
          try promises.take(memory, for: id, of: configuration.hostMemory)
          guard let user = promises.users.take() else {
            promises.giveBack(id, nil)
            throw NFVError(.exhausted, "no user id is left for \(id); remove workloads")
          }
          return user
        }
      } catch {
        let members = waitingRoom.members
        let helps = promises.withLock {
          $0.fits(memory, for: id, of: configuration.hostMemory, without: members)
        }
        guard helps, !members.isEmpty, !waitingRoom.isMaking(id), !Task.isCancelled else {
          throw error
        }
        if let member = waitingRoom.giveWay() {
          defer { waitingRoom.hasGone(member) }
          do throws(NFVError) {
            try await delete(member)
          } catch {
            waitingRoom.discard(member)
          }
        } else {
          // One that boots yet is not ended in the middle of it; one that another start ends is gone soon.
          try? await Task.sleep(for: .milliseconds(10))
        }
      }
    }
  }

  /// Where a workload's taps go; those of one that has waited are made already.
  func taps(of specification: WorkloadSpecification) -> HeldTaps {
    let id = specification.id
    let origin = workloads.origin(of: id)
    var waiting: [PortID: String] = [:]
    if origin != id {
      for (index, port) in specification.ports.enumerated() {
        waiting[port.id] = origin.interfaceName(of: MachinePools.place(index))
      }
    }
    return HeldTaps(id, folder: workloads.folder(id), hold: hold, waiting: waiting)
  }

  public func attachmentPoint(
    of workload: WorkloadID
  ) async throws(NFVError) -> AttachmentPoint {
    let folder = workloads.folder(workload)
    guard folder.record?.id == workload else {
      throw NFVError(.notFound, "there is no machine \(workload) on this host")
    }
    return .taps(HeldTaps(workload, folder: folder, hold: hold))
  }

  // MARK: Stop and delete

  public func stop(_ workload: WorkloadID, grace: Duration) async throws(NFVError) {
    try await workloads.end(workload) { (process) throws(SystemError) in
      guard grace > .zero else { return }
      try await endPolitely(workload, process, grace)
    }
  }

  /// Asks the guest's init to end its function, then the guest to power off.
  private func endPolitely(
    _ workload: WorkloadID, _ process: FileDescriptor, _ grace: Duration
  ) async throws(SystemError) {
    let deadline = ContinuousClock.now + grace
    let machine = machines[workload]
    // A paused one would not hear it.
    _ = try? await machine.execute("cont", timeout: min(grace, .seconds(1)))
    let reply = try? await machine.request(.stop, timeout: min(grace, .seconds(2)))
    if reply != nil {
      let half = deadline - grace / 2
      if try await HeldWorkloads.ends(process, within: half - .now) { return }
    }
    _ = try? await machine.execute(
      "system_powerdown", timeout: min(max(deadline - .now, .milliseconds(1)), .seconds(2)))
    _ = try await HeldWorkloads.ends(process, within: deadline - .now)
  }

  public func delete(_ workload: WorkloadID) async throws(NFVError) {
    waitingRoom.forget(workload)
    try await stop(workload, grace: .zero)
    machines.forget(workload)
    try await workloads.release(workloads.key(workload), of: workload)
    let folder = workloads.folder(workload)
    try await HeldTaps(workload, folder: folder, hold: hold).release()
    let user = folder.record?.users
    try HeldWorkloads.onHost("cannot remove what is left of \(workload)") {
      () throws(SystemError) in
      try workloads.removeGroup(workloads.group(workload).folders, of: workload)
      try workloads.removeFiles(of: workload)
    }
    promises.withLock { $0.giveBack(workload, user) }
  }

  // MARK: Observe

  public func observe() async throws(NFVError) -> [ObservedWorkload] {
    let observed = try await workloads.observe(
      isWaiting: { workloads.folder($0).isWaiting },
      status: { id, status in await machines.status(of: id, status) })
    // What the guests say is heard from now on.
    for workload in observed where workload.phase == .running {
      _ = try? await machines[workload.id].control()
    }
    return observed
  }

  /// Takes away the control groups that workloads' own were in, where none is left.
  public func leaveHost() { workloads.removeParentGroups() }

  public func usage(of workload: WorkloadID) async throws(NFVError) -> WorkloadUsage {
    let process = workloads.folder(workload).process
    var guest: UInt64?
    if let process, let threads = await machines[workload].processors(of: process.pid) {
      guest = try? threads.processorNanoseconds()
    }
    // Read last, as it is the larger one.
    var usage = try workloads.usage(of: workload)
    usage.guestCPUNanoseconds = guest
    return usage
  }

  public func log(
    of workload: WorkloadID, from offset: UInt64, limit: Int
  ) async throws(NFVError) -> LogChunk {
    try workloads.log(of: workload, from: offset, limit: limit)
  }

  // MARK: Execute

  public func execute(
    _ request: ExecRequest, in workload: WorkloadID
  ) async throws(NFVError) -> any ExecSession {
    guard !request.arguments.isEmpty else {
      throw NFVError(.unprocessable, "there is no command to run in \(workload)")
    }
    guard workloads.folder(workload).process != nil else {
      throw NFVError(.notFound, "there is no running machine \(workload) on this host")
    }
    do throws(MachineError) {
      return try await machines[workload].execute(request)
    } catch {
      switch error {
      case .timedOut:
        // One that waits for the other is told as the other.
        _ = try await ask("query-status", workload, "cannot run a command in \(workload)")
        throw NFVError(
          .timeout, "the guest of \(workload) does not answer; is its function's init running?",
          cause: error)
      case .refused(let words):
        throw NFVError(
          .failed, "cannot run \(request.arguments[0]) in \(workload)", cause: words)
      case .closed, .malformed:
        throw NFVError(.failed, "the guest of \(workload) cannot be asked", cause: error)
      }
    }
  }
}

/// The connections to all running machines, and which of them are being started.
final class Machines: Sendable {
  private struct State {
    var machines: [WorkloadID: Machine] = [:]
    var starting: [WorkloadID: [CheckedContinuation<Void, Never>]] = [:]
    /// Whose start has failed, or was not begun: their ends are told by it.
    var unstarted: Set<WorkloadID> = []
  }

  private let workloads: HeldWorkloads
  private let state = Mutex(State())

  init(workloads: HeldWorkloads) { self.workloads = workloads }

  subscript(id: WorkloadID) -> Machine {
    state.withLock { state in
      if let machine = state.machines[id] { return machine }
      let machine = Machine(id, folder: workloads.folder(id))
      state.machines[id] = machine
      return machine
    }
  }

  func forget(_ id: WorkloadID) {
    let machine = state.withLock { state in
      state.unstarted.remove(id)
      return state.machines.removeValue(forKey: id)
    }
    machine?.close()
  }

  /// Those that are neither being started nor to be told by their starts.
  var started: [WorkloadID: Machine] {
    state.withLock { state in
      state.machines.filter { id, _ in
        state.starting[id] == nil && !state.unstarted.contains(id)
      }
    }
  }

  /// The connections to a machine are another workload's from now on.
  func rename(_ old: WorkloadID, to id: WorkloadID) {
    state.withLock { state in
      state.machines[id] = state.machines.removeValue(forKey: old)
      state.unstarted.insert(id)
    }
  }

  func beginStart(of id: WorkloadID) {
    state.withLock { state in
      state.starting[id] = []
      state.unstarted.remove(id)
    }
  }

  func endStart(of id: WorkloadID, isFailed: Bool) {
    let waiters = state.withLock { state in
      if isFailed { state.unstarted.insert(id) }
      return state.starting.removeValue(forKey: id) ?? []
    }
    for waiter in waiters { waiter.resume() }
  }

  /// False where its start has failed, or where it was claimed and its start was not begun; while one
  /// is under way this waits for its end.
  func isStarted(_ id: WorkloadID) async -> Bool {
    await withCheckedContinuation { continuation in
      let isStarting = state.withLock { state in
        state.starting[id]?.append(continuation)
        return state.starting[id] != nil
      }
      if !isStarting { continuation.resume() }
    }
    return state.withLock { !$0.unstarted.contains(id) }
  }

  /// How a workload ended, from how its QEMU did: a guest that ends by itself leaves 0 or, by the
  /// debug exit, a status of its own.
  func status(
    of id: WorkloadID, _ status: LinuxSystem.ExitStatus
  ) async -> NFVModel.ExitStatus {
    if case .exited(code: let code) = status {
      switch DebugExit(status: code) {
      case .ended(let exit): return workloads.folder(id).ended ?? .init(exit)
      case .otherwise:
        let told = await self[id].functionStatus()
        guard told == .unknown else { return told }
        return DebugExit.exit(in: workloads.lastWords(of: id)).map { .init($0) } ?? .unknown
      case nil: if code == 0 { return await self[id].functionStatus() }
      }
    }
    if status == .killed(signal: 9), workloads.folder(id).ended == .hung { return .hung }
    return ExitSource.status(status, of: workloads.group(id))
  }
}

/// Keeps a machine's taps in the hold until QEMU has them.
final class HeldTaps: TapReceiver {
  private let id: WorkloadID
  private let folder: RunFolder
  private let hold: HoldClient
  /// The names of taps that QEMU has had since it began to wait.
  private let waiting: [PortID: String]

  init(_ id: WorkloadID, folder: RunFolder, hold: HoldClient, waiting: [PortID: String] = [:]) {
    self.id = id
    self.folder = folder
    self.hold = hold
    self.waiting = waiting
  }

  var haveWaited: Bool { !waiting.isEmpty }

  func waitingTap(of port: PortID) -> String? { waiting[port] }

  static func key(_ id: WorkloadID, _ port: PortID) -> String { "tap:\(id)/\(port)" }

  func hasTap(of port: PortID) async throws(NFVError) -> Bool {
    if waiting[port] != nil { return true }
    do throws(HoldError) {
      for descriptor in try await hold.open(key: Self.key(id, port)).values {
        try? descriptor.close()
      }
      return true
    } catch {
      guard case .refused(let refusal) = error, refusal.code == .notFound else {
        throw HeldWorkloads.problem("cannot ask for the taps of \(id)", error)
      }
      return false
    }
  }

  func takeTap(_ descriptor: Int32, of port: PortID) async throws(NFVError) {
    // Noted first: what is noted is released, whether it was kept or not.
    try HeldWorkloads.onHost("cannot note a tap of \(id)") { () throws(SystemError) in
      let taps = folder.taps
      if !taps.contains(port) { try folder.write(taps: taps + [port]) }
    }
    do throws(HoldError) {
      try await hold.store(
        key: Self.key(id, port), FileDescriptor(rawValue: descriptor))
    } catch {
      throw HeldWorkloads.problem("cannot keep a tap of \(id)", error)
    }
  }

  func release() async throws(NFVError) {
    for port in folder.taps {
      do throws(HoldError) {
        try await hold.release(key: Self.key(id, port))
      } catch {
        guard case .refused(let refusal) = error, refusal.code == .notFound else {
          throw HeldWorkloads.problem("cannot release the taps of \(id)", error)
        }
      }
    }
  }
}
