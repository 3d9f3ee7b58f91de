import FoundationEssentials
import NFVModel
import Synchronization

/// The platform's end of a guest's control channel: requests answered by their ids, what the guest
/// tells of its function, and the output of commands in it.
///
/// The guest is not trusted: what it says is bounded, and what makes no sense ends the connection.
final class ControlClient: Sendable {
  /// A longer message is refused (both ways).
  static let messageLimit = 1 << 20

  private struct State {
    var hasStarted = false
    var startWaiters: [Int64] = []
    var sessions: [Int64: ControlSession] = [:]
  }

  private final class Shared: Sendable {
    let state = Mutex(State())
    let replies = PendingReplies()
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

  /// - Parameter onEnded: the function's end, as the guest tells it; must not block for long.
  static func connect(
    _ path: String, onEnded: @escaping @Sendable (ExitStatus) -> Void
  ) async throws(MachineError) -> ControlClient {
    let shared = Shared(onEnded: onEnded)
    let connection = try await MachineConnection.open(
      path, framing: .lengthPrefixed, limit: messageLimit
    ) { (message) throws(MachineError) in
      try receive(message, shared)
    } onEnd: { error in
      let sessions = shared.state.withLock { state in
        defer { state.sessions = [:] }
        return Array(state.sessions.values)
      }
      for session in sessions { session.end(.unknown) }
      shared.replies.end(error)
    }
    return ControlClient(shared, connection)
  }

  func close() { connection.close() }

  // MARK: Asking

  /// Returns when the guest has said that its function runs, at once where it has already.
  func waitForStart(timeout: Duration) async throws(MachineError) {
    _ = try await shared.replies.ask("the start of its function", timeout: timeout) { [shared] id in
      let hasStarted = shared.state.withLock { state in
        if !state.hasStarted { state.startWaiters.append(id) }
        return state.hasStarted
      }
      if hasStarted { shared.replies.resolve(id, .success(.null)) }
    }
  }

  /// Returns when the connection has ended, so that all is known that the guest has said, or after
  /// `timeout`.
  func waitForEnd(timeout: Duration) async {
    _ = try? await shared.replies.ask("the end", timeout: timeout) { _ in }
  }

  /// Sends a request and waits for its reply.
  func request(
    _ name: String, _ arguments: [String: JSONText] = [:], timeout: Duration
  ) async throws(MachineError) -> JSONValue {
    try await shared.replies.ask("the request \(name)", timeout: timeout) { id in
      self.send(id, name, arguments)
    }
  }

  /// Starts a command in the guest.
  func execute(_ request: ExecRequest, timeout: Duration) async throws(MachineError)
    -> ControlSession
  {
    var arguments: [String: JSONText] = [
      "command": .array(request.arguments.map(JSONText.string)),
      "environment": .array(request.environment.map(JSONText.string)),
      "terminal": .bool(request.terminal != nil), "uid": 0,
    ]
    if let size = request.terminal {
      arguments["rows"] = .integer(Int64(size.rows))
      arguments["columns"] = .integer(Int64(size.columns))
    }
    let made = Mutex<ControlSession?>(nil)
    let given = arguments
    _ = try await shared.replies.ask("the request exec", timeout: timeout) { [shared] id in
      // Before it is asked for: its output may come before the reply is looked at.
      let session = ControlSession(id: id, client: self)
      shared.state.withLock { $0.sessions[id] = session }
      made.withLock { $0 = session }
      self.send(id, "exec", given)
    }
    guard let session = made.withLock({ $0 }) else { throw .closed("no session") }
    return session
  }

  private func send(_ id: Int64, _ name: String, _ arguments: [String: JSONText]) {
    var message = arguments
    message["id"] = .integer(id)
    message["request"] = .string(name)
    let octets = Array(JSONText.object(message).text.utf8)
    guard octets.count <= Self.messageLimit else {
      return shared.replies.resolve(
        id, .failure(.refused("the request \(name) is longer than \(Self.messageLimit) octets")))
    }
    connection.send(octets) { [shared] error in shared.replies.resolve(id, .failure(error)) }
  }

  /// What waits in all sessions; the guest is held up while it is too much.
  fileprivate func setReading(_ reads: Bool) { connection.setReading(reads) }

  fileprivate func forget(_ session: Int64) {
    shared.state.withLock { $0.sessions[session] = nil }
  }

  // MARK: Being told

  private static func receive(_ octets: [UInt8], _ shared: Shared) throws(MachineError) {
    guard
      case .object(let message)? = try? JSONDecoder().decode(JSONValue.self, from: Data(octets))
    else {
      throw .malformed("the guest says \(String(decoding: octets.prefix(80), as: UTF8.self))")
    }
    if case .integer(let id)? = message["reply"] {
      if case .string(let words)? = message["error"] {
        shared.replies.resolve(id, .failure(.refused(words)))
      } else {
        shared.replies.resolve(id, .success(.object(message)))
      }
    } else if case .integer(let id)? = message["session"] {
      let session = shared.state.withLock { $0.sessions[id] }
      if case .string(let text)? = message["output"], let data = Data(base64Encoded: text) {
        let isError = message["stream"] == .integer(2)
        session?.take(isError ? .standardError(Array(data)) : .standardOutput(Array(data)))
      } else if case .integer(let code)? = message["exited"] {
        shared.state.withLock { $0.sessions[id] = nil }
        session?.end(.exited(code: Int32(truncatingIfNeeded: code)))
      } else if case .integer(let signal)? = message["signal"] {
        shared.state.withLock { $0.sessions[id] = nil }
        session?.end(.killed(signal: Int32(truncatingIfNeeded: signal)))
      } else {
        throw .malformed("the guest says nothing of its session \(id)")
      }
    } else if case .string(let event)? = message["event"] {
      receive(event, message, shared)
    } else {
      throw .malformed("the guest's message is neither reply, session nor event")
    }
  }

  /// An event that this version does not know is of a newer guest.
  private static func receive(_ event: String, _ message: [String: JSONValue], _ shared: Shared) {
    switch event {
    case "started":
      let waiters = shared.state.withLock { state in
        state.hasStarted = true
        defer { state.startWaiters = [] }
        return state.startWaiters
      }
      for id in waiters { shared.replies.resolve(id, .success(.null)) }
    case "ended":
      if case .integer(let code)? = message["code"] {
        shared.onEnded(.exited(code: Int32(truncatingIfNeeded: code)))
      } else if case .integer(let signal)? = message["signal"] {
        shared.onEnded(.killed(signal: Int32(truncatingIfNeeded: signal)))
      } else {
        shared.onEnded(.unknown)
      }
    default: break
    }
  }
}

/// A command in a guest.
final class ControlSession: ExecSession {
  private struct State {
    var waiting: [ExecOutput] = []
    var octets = 0
    var reader: CheckedContinuation<ExecOutput?, Never>?
    var hasEnded = false
    var isHeldUp = false
  }

  /// So much may wait for its reader before the guest is held up, in octets.
  private static let bound = 1 << 20

  let output: AsyncStream<ExecOutput>
  private let id: Int64
  private let client: ControlClient
  private let state: Shared

  private final class Shared: Sendable {
    let mutex = Mutex(State())
  }

  init(id: Int64, client: ControlClient) {
    self.id = id
    self.client = client
    let shared = Shared()
    state = shared
    output = AsyncStream {
      await withCheckedContinuation { continuation in
        let (next, goesOn) = shared.mutex.withLock { state -> (ExecOutput??, Bool) in
          guard !state.waiting.isEmpty else {
            if state.hasEnded { return (.some(nil), false) }
            state.reader = continuation
            return (nil, false)
          }
          let next = state.waiting.removeFirst()
          state.octets -= next.octets
          let goesOn = state.isHeldUp && state.octets < Self.bound / 2
          if goesOn { state.isHeldUp = false }
          return (next, goesOn)
        }
        if goesOn { client.setReading(true) }
        if let next { continuation.resume(returning: next) }
      }
    }
  }

  func take(_ output: ExecOutput) {
    let (reader, isTooMuch) = state.mutex.withLock { state in
      defer { state.reader = nil }
      if state.hasEnded || state.reader != nil { return (state.reader, false) }
      state.waiting.append(output)
      state.octets += output.octets
      let isTooMuch = state.octets > Self.bound && !state.isHeldUp
      if isTooMuch { state.isHeldUp = true }
      return (nil, isTooMuch)
    }
    if isTooMuch { client.setReading(false) }
    reader?.resume(returning: output)
  }

  func end(_ status: ExitStatus) {
    let isFirst = state.mutex.withLock { !$0.hasEnded }
    guard isFirst else { return }
    take(.exited(status))
    let reader = state.mutex.withLock { state in
      state.hasEnded = true
      defer { state.reader = nil }
      return state.reader
    }
    reader?.resume(returning: nil)
  }

  func write(_ bytes: [UInt8]) async throws(NFVError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = rest.prefix(65536)
      rest = rest.dropFirst(65536)
      try await ask(
        "input",
        ["data": .string(Data(piece).base64EncodedString()), "end": false])
    }
  }

  func closeInput() async { try? await ask("input", ["data": "", "end": true]) }

  func resize(_ size: ExecRequest.TerminalSize) async {
    try? await ask(
      "resize", ["rows": .integer(Int64(size.rows)), "columns": .integer(Int64(size.columns))])
  }

  func cancel() async {
    if state.mutex.withLock({ $0.hasEnded }) { return }
    try? await ask("signal", ["number": 9])
    client.forget(id)
    // What was held up for it goes on for the others.
    let wasHeldUp = state.mutex.withLock { state in
      defer { state.isHeldUp = false }
      return state.isHeldUp
    }
    if wasHeldUp { client.setReading(true) }
    end(.killed(signal: 9))
  }

  private func ask(_ name: String, _ arguments: [String: JSONText]) async throws(NFVError) {
    var arguments = arguments
    arguments["session"] = .integer(id)
    do throws(MachineError) {
      _ = try await client.request(name, arguments, timeout: .seconds(10))
    } catch {
      throw NFVError(
        .conflict, "the command takes no more input: it has ended, or its guest does not answer",
        cause: error)
    }
  }
}

extension ExecOutput {
  /// What it takes in memory.
  fileprivate var octets: Int {
    switch self {
    case .standardOutput(let bytes), .standardError(let bytes): bytes.count
    case .exited: 0
    }
  }
}
