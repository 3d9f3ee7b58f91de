import ControlProtocol
import NFVModel
import Synchronization
import Wire

/// The platform's end of a guest's control channel (``ControlProtocol``): requests answered by their
/// ids, what the guest tells of its function, and commands in it.
///
/// The guest is not trusted: what it says is bounded, and what makes no sense ends the connection.
final class ControlClient: Sendable {
  private struct State {
    /// The reply to `hello` has come; what came before was meant for an earlier connection.
    var isGreeted = false
    var function: GuestState?
    var startWaiters: [Int64] = []
    var sessions: [UInt64: ControlSession] = [:]
  }

  private final class Shared: Sendable {
    let state = Mutex(State())
    /// The first id is the greeting's.
    let replies = PendingReplies<ControlReply>(after: 1)
    let onEnded: @Sendable (ExitStatus) -> Void

    init(onEnded: @escaping @Sendable (ExitStatus) -> Void) { self.onEnded = onEnded }
  }

  private let shared: Shared
  private let connection: MachineConnection

  private init(_ shared: Shared, _ connection: MachineConnection) {
    self.shared = shared
    self.connection = connection
  }

  deinit { connection.close() }

  /// Connects and greets; whether a guest is there already does not matter.
  /// - Parameter onEnded: the function's end, as the guest tells it; must not block for long.
  static func connect(
    _ peer: MachineConnection.Peer, onEnded: @escaping @Sendable (ExitStatus) -> Void
  ) async throws(MachineError) -> ControlClient {
    let shared = Shared(onEnded: onEnded)
    let connection = try await MachineConnection.open(
      peer, framing: .lengthPrefixed, limit: ControlProtocol.maximumFrameSize
    ) { (body) throws(MachineError) in
      let message: ControlMessage
      do throws(WireError) {
        message = try ControlMessage(body)
      } catch {
        // Of an earlier connection it may be the rest of anything.
        if !shared.state.withLock({ $0.isGreeted }) { return }
        throw .malformed("a message of the guest (\(error))")
      }
      try receive(message, shared)
    } onEnd: { error in
      let sessions = shared.state.withLock { state in
        defer { state.sessions = [:] }
        return Array(state.sessions.values)
      }
      for session in sessions { session.end(.unknown) }
      shared.replies.end(error)
    }
    let client = ControlClient(shared, connection)
    client.send(1, .hello(version: ControlProtocol.version))
    return client
  }

  func close() { connection.close() }

  // MARK: Asking

  /// Returns when the guest has said that its function runs, at once where it has already.
  /// - Throws: `refused` with the guest's words where it could not be started.
  func waitForStart(timeout: Duration) async throws(MachineError) {
    do throws(MachineError) {
      _ = try await shared.replies.ask("the start of its function", timeout: timeout) {
        [shared] id in
        let function = shared.state.withLock { state in
          if state.function == nil { state.startWaiters.append(id) }
          return state.function
        }
        if let function { shared.replies.resolve(id, Self.startAnswer(function)) }
      }
    } catch {
      // It may have said so and ended the connection since.
      guard let function = shared.state.withLock({ $0.function }) else { throw error }
      _ = try Self.startAnswer(function).get()
    }
  }

  private static func startAnswer(_ function: GuestState) -> Result<ControlReply, MachineError> {
    switch function {
    case .running, .ended: .success(.done)
    case .failed(let why): .failure(.refused(why))
    }
  }

  /// Returns when the connection has ended, so that all is known that the guest has said, or after
  /// `timeout`.
  func waitForEnd(timeout: Duration) async {
    _ = try? await shared.replies.ask("the end", timeout: timeout) { _ in }
  }

  /// Sends a request and waits for its reply.
  func request(
    _ request: ControlRequest, timeout: Duration
  ) async throws(MachineError) -> ControlReply {
    let reply = try await shared.replies.ask("a request to the guest", timeout: timeout) { id in
      self.send(id, request)
    }
    if case .refused(let why) = reply { throw .refused(why) }
    return reply
  }

  /// Starts a command in the guest.
  func execute(
    _ request: ExecRequest, timeout: Duration
  ) async throws(MachineError) -> ControlSession {
    let command = GuestCommand(
      arguments: request.arguments, environment: request.environment,
      terminal: request.terminal.map(GuestCommand.TerminalSize.init))
    let made = Mutex<ControlSession?>(nil)
    let reply = try await shared.replies.ask("the command", timeout: timeout) { [shared] id in
      // Before it is asked for: its output may come before the reply is looked at.
      let session = ControlSession(id: UInt64(id), client: self)
      shared.state.withLock { $0.sessions[session.id] = session }
      made.withLock { $0 = session }
      self.send(id, .execute(command))
    }
    guard let session = made.withLock({ $0 }) else { throw .closed("no session") }
    if case .refused(let why) = reply {
      forget(session.id)
      throw .refused(why)
    }
    return session
  }

  private func send(_ id: Int64, _ request: ControlRequest) {
    do throws(WireError) {
      connection.send(try request.frame(id: UInt64(id))) { [shared] error in
        shared.replies.resolve(id, .failure(error))
      }
    } catch {
      shared.replies.resolve(id, .failure(.refused("the request is too long (\(error))")))
    }
  }

  /// So many octets of a session were taken by whoever reads them; the guest may send more.
  fileprivate func acknowledge(_ session: UInt64, _ octets: Int) {
    send(
      shared.replies.nextID(), .acknowledge(session: session, octets: UInt32(clamping: octets)))
  }

  fileprivate func forget(_ session: UInt64) {
    shared.state.withLock { $0.sessions[session] = nil }
  }

  // MARK: Being told

  private static func receive(
    _ message: ControlMessage, _ shared: Shared
  ) throws(MachineError) {
    switch message {
    case .reply(1, let reply):
      guard case .status(_, let function) = reply else {
        throw .malformed("the guest's init answers the greeting by \(reply)")
      }
      shared.state.withLock { $0.isGreeted = true }
      note(function, shared)
    case .reply(let id, let reply):
      guard shared.state.withLock({ $0.isGreeted }) else { return }
      shared.replies.resolve(Int64(clamping: id), .success(reply))
    case .event(let event):
      guard shared.state.withLock({ $0.isGreeted }) else { return }
      switch event {
      case .state(let function): note(function, shared)
      case .output(let id, let stream, let octets):
        let session = shared.state.withLock { $0.sessions[id] }
        try session?.take(
          stream == .error ? .standardError(octets) : .standardOutput(octets))
      case .exited(let id, let exit):
        shared.state.withLock { $0.sessions.removeValue(forKey: id) }?.end(ExitStatus(exit))
      }
    }
  }

  private static func note(_ function: GuestState, _ shared: Shared) {
    let waiters = shared.state.withLock { state in
      state.function = function
      defer { state.startWaiters = [] }
      return state.startWaiters
    }
    for id in waiters { shared.replies.resolve(id, startAnswer(function)) }
    if case .ended(let exit) = function { shared.onEnded(ExitStatus(exit)) }
  }
}

extension ExitStatus {
  init(_ exit: GuestExit) {
    self =
      switch exit {
      case .exited(let code): .exited(code: Int32(code))
      case .killed(let signal): .killed(signal: Int32(signal))
      }
  }
}

extension GuestCommand.TerminalSize {
  init(_ size: ExecRequest.TerminalSize) {
    self.init(rows: UInt16(clamping: size.rows), columns: UInt16(clamping: size.columns))
  }
}

/// A command in a guest.
final class ControlSession: ExecSession {
  let id: UInt64
  let output: AsyncStream<ExecOutput>
  private let client: ControlClient
  private let queue = OutputQueue()

  init(id: UInt64, client: ControlClient) {
    self.id = id
    self.client = client
    output = AsyncStream { [queue] in
      let next = await queue.next()
      if let octets = next?.octets, octets > 0 { client.acknowledge(id, octets) }
      return next
    }
  }

  /// - Throws: `malformed` where the guest sends more than it was allowed.
  func take(_ output: ExecOutput) throws(MachineError) {
    queue.append(output)
    guard queue.octets <= 2 * ControlProtocol.outputWindow else {
      throw .malformed("the guest sends output that was not asked for")
    }
  }

  func end(_ status: ExitStatus) { queue.end(status) }

  func write(_ bytes: [UInt8]) async throws(NFVError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = Array(rest.prefix(ControlProtocol.maximumInput))
      rest = rest.dropFirst(piece.count)
      try await ask(.input(session: id, piece, isLast: false))
    }
  }

  func closeInput() async { try? await ask(.input(session: id, [], isLast: true)) }

  func resize(_ size: ExecRequest.TerminalSize) async {
    try? await ask(.resize(session: id, GuestCommand.TerminalSize(size)))
  }

  func cancel() async {
    if queue.hasEnded { return }
    try? await ask(.signal(session: id, number: 9))
    client.forget(id)
    end(.killed(signal: 9))
  }

  private func ask(_ request: ControlRequest) async throws(NFVError) {
    do throws(MachineError) {
      _ = try await client.request(request, timeout: .seconds(10))
    } catch {
      throw NFVError(
        .conflict, "the command takes no more input: it has ended, or its guest does not answer",
        cause: error)
    }
  }
}
