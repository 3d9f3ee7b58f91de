import ControlProtocol
import LinuxSystem
import NFVModel
import Synchronization

/// The daemon's connections to one running machine; made anew after a restart of the daemon.
final class Machine: Sendable {
  let id: WorkloadID
  let console: MachineConsole
  private let folder: RunFolder
  private let state = Mutex(State())

  private let qmpConnection = SharedConnection<QMPClient>()
  private let controlConnection = SharedConnection<ControlClient>()

  private struct State {
    /// Why QEMU said that its guest stopped (QMP's SHUTDOWN event, `reason`).
    var shutdownReason: String?
    /// The threads that run the guest's processors; they do not change.
    var processors: HostThreads?
    /// When QEMU may be asked for them again, where it did not tell.
    var asksProcessors = ContinuousClock.now
    /// The document that its guest is being told before its start, and what comes of it.
    var told: (document: [UInt8], outcome: Task<Result<Void, MachineError>, Never>)?
  }

  init(_ id: WorkloadID, folder: RunFolder) {
    self.id = id
    self.folder = folder
    console = MachineConsole(folder.consoleSocket)
  }

  /// The connection to QEMU itself; made where there is none.
  func qmp(timeout: Duration) async throws(MachineError) -> QMPClient {
    try await qmpConnection.get { () async throws(MachineError) in
      try await QMPClient.connect(folder.qmpSocket, timeout: timeout) { [weak self] event in
        guard event.name == "SHUTDOWN", case .object(let data) = event.data,
          case .string(let reason)? = data["reason"]
        else { return }
        self?.state.withLock { $0.shutdownReason = reason }
      }
    }
  }

  /// A command by QMP; a connection that fails is made anew with the next one.
  func execute(_ command: String, timeout: Duration) async throws(MachineError) -> JSONValue {
    do throws(MachineError) {
      return try await qmp(timeout: timeout).execute(command, timeout: timeout)
    } catch {
      if case .refused = error { throw error }
      qmpConnection.forget()
      throw error
    }
  }

  /// The threads of QEMU, whose pid is given, that run its guest's processors; nil where nobody is
  /// connected to it or it does not tell soon.
  func processors(of pid: Int32) async -> HostThreads? {
    let (known, asks) = state.withLock { ($0.processors, $0.asksProcessors) }
    if let known, known.pid == pid { return known }
    // Who only wants to know makes no connection, and ends none.
    guard let qmp = qmpConnection.current, asks <= .now else { return nil }
    state.withLock { $0.asksProcessors = .now + .seconds(10) }
    guard
      case .array(let processors)? = try? await qmp.execute(
        "query-cpus-fast", timeout: .milliseconds(200))
    else { return nil }
    let numbers = processors.compactMap { processor -> Int32? in
      guard case .object(let members) = processor,
        case .integer(let number)? = members["thread-id"]
      else { return nil }
      return Int32(exactly: number)
    }
    let found = try? HostThreads(of: pid, numbered: Set(numbers))
    guard let found, !found.threads.isEmpty else { return nil }
    state.withLock { $0.processors = found }
    return found
  }

  /// The connection to its guest; made where there is none.
  func control() async throws(MachineError) -> ControlClient {
    try await controlConnection.get { () async throws(MachineError) in
      try await ControlClient.connect(.path(folder.controlSocket)) { [folder] status in
        folder.note(ended: status)
      }
    }
  }

  /// A request to its guest; a connection that fails is made anew with the next one.
  func request(
    _ request: ControlRequest, timeout: Duration
  ) async throws(MachineError) -> ControlReply {
    do throws(MachineError) {
      return try await control().request(request, timeout: timeout)
    } catch {
      forgetControl(after: error)
      throw error
    }
  }

  /// Begins to tell its guest a document, which ``configure(document:timeout:)`` then waits for.
  func tell(document: [UInt8], timeout: Duration) {
    state.withLock { state in
      guard state.told?.document != document else { return }
      let outcome = Task { [self, before = state.told?.outcome] in
        _ = await before?.value
        return await configureOnce(document, timeout)
      }
      state.told = (document, outcome)
    }
  }

  /// Has its guest take a document, unless it has been told that one already.
  func configure(document: [UInt8], timeout: Duration) async throws(MachineError) {
    let told = state.withLock { state in
      defer { state.told = nil }
      return state.told
    }
    // The later one is to be the last.
    let outcome = await told?.outcome.value
    guard let outcome, told?.document == document else {
      return try await configureOnce(document, timeout).get()
    }
    try outcome.get()
  }

  private func configureOnce(
    _ document: [UInt8], _ timeout: Duration
  ) async -> Result<Void, MachineError> {
    do throws(MachineError) {
      _ = try await request(.configure(document: document), timeout: timeout)
      return .success(())
    } catch {
      return .failure(error)
    }
  }

  /// Starts a command in its guest.
  func execute(_ command: ExecRequest) async throws(MachineError) -> ControlSession {
    do throws(MachineError) {
      return try await control().execute(command, timeout: .seconds(10))
    } catch {
      if case .timedOut = error {
        // The init itself, unlike a function, answers at once: this connection leads nowhere.
        controlConnection.current?.close()
        controlConnection.forget()
      }
      forgetControl(after: error)
      throw error
    }
  }

  private func forgetControl(after error: MachineError) {
    switch error {
    case .closed, .malformed: controlConnection.forget()
    case .timedOut, .refused: break
    }
  }

  /// How its function ended, once QEMU has ended with status 0: what the guest said of it, else what
  /// QEMU did.
  func functionStatus() async -> NFVModel.ExitStatus {
    let (qmp, control) = (qmpConnection.current, controlConnection.current)
    // What was said last may still be on its way.
    await control?.waitForEnd(timeout: .seconds(1))
    if let told = folder.ended { return told }
    await qmp?.waitForEnd(timeout: .seconds(1))
    return state.withLock { $0.shutdownReason } == "guest-shutdown" ? .exited(code: 0) : .unknown
  }

  /// For errors.
  var shutdownReason: String? { state.withLock { $0.shutdownReason } }

  func close() {
    qmpConnection.current?.close()
    controlConnection.current?.close()
    qmpConnection.forget()
    controlConnection.forget()
  }
}

extension RunFolder {
  var qmpSocket: String { path + "/qmp" }
  var controlSocket: String { path + "/control" }
  var consoleSocket: String { path + "/console" }

  /// The ports whose taps the hold may keep.
  var taps: [PortID] {
    let text = (try? readFile(path + "/taps", limit: 65536)) ?? []
    return String(decoding: text, as: UTF8.self).split(separator: "\n").map { PortID(String($0)) }
  }

  func write(taps: [PortID]) throws(SystemError) {
    let text = taps.map { "\($0)\n" }.joined()
    try replaceFile(path + "/taps", Array(text.utf8), mode: 0o600)
  }

  /// Whether its machine runs, or is about to, and was not told its document: as a function it does
  /// not run yet.
  var isWaiting: Bool { fileExists(path + "/waiting") }

  func set(isWaiting: Bool) throws(SystemError) {
    if isWaiting {
      try replaceFile(path + "/waiting", [], mode: 0o600)
    } else {
      try removeFile(path + "/waiting")
    }
  }

  /// How the guest said that its function ended.
  var ended: NFVModel.ExitStatus? {
    guard let text = try? readFile(path + "/ended", limit: 64) else { return nil }
    let words = String(decoding: text, as: UTF8.self).split(separator: " ")
    if words == ["hung"] { return .hung }
    guard words.count == 2, let number = Int32(words[1]) else { return .unknown }
    return words[0] == "code" ? .exited(code: number) : .killed(signal: number)
  }

  /// Where that fails, the end is told as an unknown one.
  func note(ended status: NFVModel.ExitStatus) {
    let text =
      switch status {
      case .exited(let code): "code \(code)"
      case .killed(let signal): "signal \(signal)"
      case .hung: "hung"
      case .outOfMemory, .unknown: "unknown"
      }
    try? replaceFile(path + "/ended", Array(text.utf8), mode: 0o600)
  }
}
