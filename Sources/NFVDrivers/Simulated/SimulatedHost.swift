public import NFVModel
internal import Synchronization

/// A host that exists in memory only: everything works at once, and what a driver of a real host
/// would find is found. For looking around without root (`martletd --host simulated`) and for tests.
///
/// It holds what it is told to hold like a host does: starting what was not prepared, or reusing
/// a name, is refused, so that a wrong order of actions shows.
public final class SimulatedHost: Sendable {
  struct Workload {
    var specification: WorkloadSpecification
    var phase: ObservedWorkload.Phase
    var log: [UInt8]
    /// How often its figures were read.
    var readings: UInt64 = 0

    /// 1 to 40, by the workload's name.
    var load: UInt64 {
      1 + specification.id.name.utf8.reduce(0) { ($0 &* 31 &+ UInt64($1)) % 40 }
    }
  }

  struct State {
    var workloads: [WorkloadID: Workload] = [:]
    var vnfcsWithVolumes: Set<VnfcID> = []
    var networks: [NetworkID: Network] = [:]
    var links: [WorkloadID: [PortID: Bool]] = [:]
    var failures: [Fault: NFVError] = [:]
  }

  /// What can be made to fail.
  public enum Fault: Sendable, Hashable {
    case prepare, start, configure, attach, image
  }

  public let exits: AsyncStream<WorkloadExit>
  private let exitSink: AsyncStream<WorkloadExit>.Continuation
  let state = Mutex(State())

  public init() {
    (exits, exitSink) = AsyncStream.makeStream(of: WorkloadExit.self)
  }

  /// Makes calls of one kind fail, or with nil work again.
  public func fail(_ fault: Fault, with error: NFVError?) {
    state.withLock { $0.failures[fault] = error }
  }

  /// Ends a workload's main process, as if by itself.
  public func end(_ workload: WorkloadID, _ status: ExitStatus) {
    let wasRunning = state.withLock { state in
      guard state.workloads[workload]?.phase == .running else { return false }
      state.workloads[workload]?.phase = .exited(status)
      return true
    }
    if wasRunning { exitSink.yield(WorkloadExit(id: workload, status: status)) }
  }

  /// Adds to a workload's output.
  public func write(_ text: String, by workload: WorkloadID) {
    state.withLock { $0.workloads[workload]?.log += Array(text.utf8) }
  }

  func check(_ fault: Fault) throws(NFVError) {
    if let error = state.withLock({ $0.failures[fault] }) { throw error }
  }
}

// MARK: Workloads

extension SimulatedHost: VolumeKeeping, Configuring {
  public func configure(_ specification: WorkloadSpecification) async throws(NFVError) {
    try check(.configure)
    _ = try running(specification.id)
    state.withLock { state in
      state.workloads[specification.id]?.specification = specification
      state.workloads[specification.id]?.log += Array(
        "\(specification.hostName): takes over its configuration \(specification.generation)\n".utf8
      )
    }
  }

  /// One counter: how many configurations it was given.
  public func counters(of workload: WorkloadID) async throws(NFVError) -> [FunctionCounter] {
    [.init(name: "configuration", value: UInt64(try running(workload).specification.generation))]
  }

  public func vnfcsWithVolumes() async throws(NFVError) -> Set<VnfcID> {
    state.withLock(\.vnfcsWithVolumes)
  }

  public func removeVolumes(of vnfc: VnfcID) async throws(NFVError) {
    _ = state.withLock { $0.vnfcsWithVolumes.remove(vnfc) }
  }

  public var capabilities: [Technology: DriverCapabilities] {
    let all = DriverCapabilities(
      attachmentKinds: [.networkNamespace], reportsExitStatus: true, reportsOutOfMemory: true,
      executesCommands: true, hasConsole: false, pauses: false, keepsVolumes: false,
      configures: true)
    return Dictionary(uniqueKeysWithValues: Technology.allCases.map { ($0, all) })
  }

  public var accelerator: String? { nil }

  public func prepare(
    _ specification: WorkloadSpecification,
    plug: @Sendable (AttachmentPoint) async throws(NFVError) -> Void
  ) async throws(NFVError) {
    try check(.prepare)
    state.withLock { state in
      if !specification.volumes.isEmpty {
        state.vnfcsWithVolumes.insert(specification.id.vnfc)
      }
      if state.workloads[specification.id] == nil {
        state.workloads[specification.id] = Workload(
          specification: specification, phase: .prepared, log: [])
      }
    }
    try await plug(.simulated)
  }

  public func start(_ specification: WorkloadSpecification) async throws(NFVError) {
    try check(.start)
    let id = specification.id
    try state.withLock { state throws(NFVError) in
      guard var workload = state.workloads[id] else {
        throw NFVError(.failed, "the workload \(id) was not prepared")
      }
      switch workload.phase {
      case .running: return
      case .exited: throw NFVError(.failed, "the workload \(id) has run already")
      case .prepared:
        workload.phase = .running
        workload.log += Array("\(specification.hostName): run \(id.incarnation) begins\n".utf8)
        state.workloads[id] = workload
      }
    }
  }

  public func stop(_ workload: WorkloadID, grace: Duration) async throws(NFVError) {
    state.withLock { state in
      guard state.workloads[workload]?.phase == .running else { return }
      state.workloads[workload]?.phase = .exited(.killed(signal: 9))
    }
  }

  public func delete(_ workload: WorkloadID) async throws(NFVError) {
    try state.withLock { state throws(NFVError) in
      if state.workloads[workload]?.phase == .running {
        throw NFVError(.conflict, "the workload \(workload) still runs")
      }
      state.workloads[workload] = nil
      state.links[workload] = nil
    }
  }

  public func observe() async throws(NFVError) -> [ObservedWorkload] {
    state.withLock { state in
      state.workloads.map {
        ObservedWorkload(
          id: $0.key, phase: $0.value.phase, generation: $0.value.specification.generation)
      }
      .sorted { $0.id < $1.id }
    }
  }

  public func attachmentPoint(of workload: WorkloadID) async throws(NFVError) -> AttachmentPoint {
    _ = try running(workload)
    return .simulated
  }

  /// Figures of no host, but the same in each run: a workload works for its load in hundredths of a
  /// second between any two readings.
  public func usage(of workload: WorkloadID) async throws(NFVError) -> WorkloadUsage {
    _ = try running(workload)
    return state.withLock { state in
      guard let found = state.workloads[workload] else {
        return WorkloadUsage(cpuNanoseconds: 0, memoryBytes: 0, processes: 0)
      }
      let readings = found.readings + 1
      state.workloads[workload]?.readings = readings
      return WorkloadUsage(
        cpuNanoseconds: readings * found.load * 10_000_000,
        memoryBytes: found.specification.memoryBytes / 100 * found.load, processes: 1)
    }
  }

  public func execute(
    _ request: ExecRequest, in workload: WorkloadID
  ) async throws(NFVError) -> any ExecSession {
    let found = try running(workload)
    return SimulatedCommand(request, hostName: found.specification.hostName) { [weak self] in
      self?.end(workload, .killed(signal: 9))
    }
  }

  public func log(
    of workload: WorkloadID, from offset: UInt64, limit: Int
  ) async throws(NFVError) -> LogChunk {
    let log = state.withLock { $0.workloads[workload]?.log ?? [] }
    let start = Int(min(offset, UInt64(log.count)))
    return LogChunk(offset: UInt64(start), bytes: Array(log[start...].prefix(limit)))
  }

  private func running(_ id: WorkloadID) throws(NFVError) -> Workload {
    guard let workload = state.withLock({ $0.workloads[id] }), workload.phase == .running else {
      throw NFVError(.notFound, "the workload \(id) does not run")
    }
    return workload
  }
}

/// A command in a simulated workload: `cat` gives back its input, `false` fails, `kill 1` ends the
/// workload, and all else says what it would have been.
final class SimulatedCommand: ExecSession, Sendable {
  let output: AsyncStream<ExecOutput>
  private let sink: AsyncStream<ExecOutput>.Continuation
  private let echoes: Bool

  init(_ request: ExecRequest, hostName: String, onKill: () -> Void) {
    (output, sink) = AsyncStream.makeStream(of: ExecOutput.self)
    echoes = request.arguments.first == "cat"
    if echoes { return }
    let line = request.arguments.joined(separator: " ")
    switch request.arguments.first {
    case "false": finish(.exited(code: 1))
    case "kill" where request.arguments.last == "1":
      onKill()
      finish(.exited(code: 0))
    default:
      sink.yield(.standardOutput(Array("\(hostName) would run: \(line)\n".utf8)))
      finish(.exited(code: 0))
    }
  }

  func write(_ bytes: [UInt8]) async throws(NFVError) {
    guard echoes else { throw NFVError(.conflict, "the command has ended") }
    sink.yield(.standardOutput(bytes))
  }

  func closeInput() async { finish(.exited(code: 0)) }
  func resize(_ size: ExecRequest.TerminalSize) async {}
  func cancel() async { finish(.killed(signal: 9)) }

  /// What comes after the first end is dropped by the stream.
  private func finish(_ status: ExitStatus) {
    sink.yield(.exited(status))
    sink.finish()
  }
}
