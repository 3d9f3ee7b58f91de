public import HoldProtocol
public import LinuxSystem
internal import Synchronization
public import SystemPackage
internal import Wire

/// Why the hold did not do what it was asked.
public enum HoldError: Error, Sendable, Hashable, CustomStringConvertible {
  case refused(HoldRefusal)
  /// The connection went away before the answer came: what was asked may have been done. It is
  /// made again by itself; ``HoldClient/list()`` says what there is.
  case lost
  case system(SystemError)
  /// What came is not of this protocol, or no answer to what was asked.
  case malformed(String)

  public var description: String {
    switch self {
    case .refused(let refusal): "martlet-hold refuses (\(refusal.code)): \(refusal.message)"
    case .lost: "the connection to martlet-hold was lost"
    case .system(let error): "\(error)"
    case .malformed(let what): "martlet-hold's answer makes no sense: \(what)"
    }
  }
}

/// The daemon's end of the hold's protocol: many requests in flight, each answered by its own
/// reply; events in a stream; a hold that is not there is started, a lost connection is made again.
///
/// Safe from any task. A cancelled task does not take its request back. Only the client's own thread
/// blocks.
public final class HoldClient: Sendable {
  public enum Event: Sendable, Hashable {
    /// A process that is held has ended; its status is kept until acknowledged.
    case exited(key: String, ExitStatus)
    /// The connection is gone; requests fail until it is there again.
    case lost
    /// The connection is there again, to a hold that may be a new one: events may have been missed.
    case connected(HoldStatus)
  }

  fileprivate typealias Answer = Result<
    (reply: HoldReply, descriptors: [FileDescriptor]), HoldError
  >

  /// A request that was sent, whose answer can be waited for once, now or later.
  public struct Call<Value: Sendable>: Sendable {
    fileprivate let pending: Pending
    fileprivate let decode: @Sendable (HoldReply, [FileDescriptor]) throws(HoldError) -> Value

    /// Whether the answer is there.
    public var isAnswered: Bool { pending.isAnswered }

    /// Waits for the answer.
    public func value() async throws(HoldError) -> Value {
      let (reply, descriptors) = try await pending.answer().get()
      if case .refused(let refusal) = reply { throw .refused(refusal) }
      return try decode(reply, descriptors)
    }
  }

  /// Where an answer and whoever waits for it meet.
  fileprivate final class Pending: Sendable {
    private enum State {
      case sent
      case awaited(CheckedContinuation<Answer, Never>)
      case answered(Answer)
      case taken
    }

    private let state = Mutex(State.sent)

    /// An answer that nobody wanted takes its descriptors along.
    deinit {
      if case .answered(.success((_, let descriptors))) = state.withLock(\.self) {
        for descriptor in descriptors { try? descriptor.close() }
      }
    }

    var isAnswered: Bool {
      state.withLock { if case .answered = $0 { true } else { false } }
    }

    func resume(_ answer: Answer) {
      let waiting = state.withLock { state -> CheckedContinuation<Answer, Never>? in
        guard case .awaited(let continuation) = state else {
          state = .answered(answer)
          return nil
        }
        state = .taken
        return continuation
      }
      waiting?.resume(returning: answer)
    }

    func answer() async -> Answer {
      await withCheckedContinuation { continuation in
        let answered = state.withLock { state -> Answer? in
          guard case .answered(let answer) = state else {
            state = .awaited(continuation)
            return nil
          }
          state = .taken
          return answer
        }
        if let answered { continuation.resume(returning: answered) }
      }
    }
  }

  /// A connection; its descriptor is closed when nobody uses it any more.
  private final class Link: Sendable {
    let socket: FileDescriptor
    init(_ socket: FileDescriptor) { self.socket = socket }
    deinit { try? socket.close() }
  }

  private struct State {
    var link: Link?
    var lastID: UInt64 = 0
    var pending: [UInt64: Pending] = [:]
    var closed = false
  }

  /// Events from the connection on; for one consumer. Ends with ``close()``.
  public let events: AsyncStream<Event>
  private let eventSink: AsyncStream<Event>.Continuation
  private let socketPath: String
  private let program: String
  private let state = Mutex(State())

  private init(socket: String, program: String) {
    socketPath = socket
    self.program = program
    (events, eventSink) = AsyncStream.makeStream()
  }

  /// Connects to the hold at `socket`; where none listens, starts `program` as one, in a session of
  /// its own. A hold of another protocol version is asked to become `program`.
  ///
  /// - Throws: ``HoldError/system(_:)`` or ``HoldError/refused(_:)`` where that fails.
  public static func connect(
    socket: String, program: String
  ) async throws(HoldError) -> HoldClient {
    let client = HoldClient(socket: socket, program: program)
    let first = await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<Void, HoldError>, Never>) in
      startThread(name: "martlet-hold-in") {
        do throws(HoldError) {
          let link = try client.makeLink().link
          continuation.resume(returning: .success(()))
          client.serve(link)
        } catch {
          continuation.resume(returning: .failure(error))
        }
      }
    }
    try first.get()
    return client
  }

  /// Ends the connection; the hold and all it keeps go on.
  public func close() {
    let link = state.withLock { state in
      state.closed = true
      return state.link
    }
    if let link { PacketSocket.shutDown(link.socket) }
  }

  // MARK: Requests

  public func status() async throws(HoldError) -> HoldStatus {
    let reply = try await ask(.status)
    guard case .status(let status) = reply else { throw Self.unexpected(reply) }
    return status
  }

  /// A user namespace of `users` and a network namespace that belongs to it, kept under `key`.
  ///
  /// - Returns: duplicates of their descriptors, the caller's to close.
  public func makeNamespaces(
    key: String, users: UserRange?, network: Bool
  ) -> Call<[DescriptorRole: FileDescriptor]> {
    call(.makeNamespaces(key: key, users: users, network: network), decode: Self.byRole)
  }

  /// Runs a program; see ``SpawnRequest/waitForExit`` and ``SpawnRequest/adoptPidFile`` for what
  /// is waited for. Requests are done in the order in which they were sent: what one makes the next
  /// may name before it is answered.
  ///
  /// - Parameter descriptors: what ``DescriptorSource/passed(_:)`` counts; they stay the caller's,
  ///   who may close them when this returns.
  public func spawn(
    _ request: SpawnRequest, descriptors: [FileDescriptor] = []
  ) -> Call<SpawnResult> {
    call(.spawn(request), descriptors, decode: Self.spawned)
  }

  /// How the process kept under `key` ended, once it has.
  public func wait(key: String) -> Call<ExitStatus> {
    call(.wait(key: key)) { (reply, _) throws(HoldError) in
      guard case .exited(let status) = reply else { throw Self.unexpected(reply) }
      return status
    }
  }

  public func signal(key: String, _ number: Int32) async throws(HoldError) {
    try await act(.signal(key: key, number: number))
  }

  /// Closes the holding's descriptors and forgets it; a process runs on.
  public func release(key: String) async throws(HoldError) {
    try await act(.release(key: key))
  }

  /// Keeps namespaces or a stored descriptor under another key. Requests are done in their order: what
  /// is asked next may use the new one.
  public func rename(key: String, to newKey: String) -> Call<Void> {
    call(.rename(key: key, to: newKey)) { (reply, _) throws(HoldError) in
      guard reply == .done else { throw Self.unexpected(reply) }
    }
  }

  /// Forgets an ended process, whose status has been taken note of.
  public func acknowledge(key: String) async throws(HoldError) {
    try await act(.acknowledge(key: key))
  }

  /// Everything that is kept, by key.
  public func list() async throws(HoldError) -> [Holding] {
    var all: [Holding] = []
    while true {
      let reply = try await ask(.list(after: all.last?.key ?? ""))
      guard case .holdings(let page, let more) = reply else { throw Self.unexpected(reply) }
      all += page
      if !more || page.isEmpty { return all }
    }
  }

  /// Duplicates of the holding's descriptors, the caller's to close.
  public func open(key: String) async throws(HoldError) -> [DescriptorRole: FileDescriptor] {
    try await call(.open(key: key), decode: Self.byRole).value()
  }

  /// Keeps a duplicate of `descriptor` under `key`.
  public func store(key: String, _ descriptor: FileDescriptor) async throws(HoldError) {
    try await act(.store(key: key), [descriptor])
  }

  /// Has the hold take on a process that an earlier hold started.
  public func adopt(
    key: String, _ process: ProcessIdentity
  ) async throws(HoldError) -> SpawnResult {
    try await call(.adopt(key: key, process), decode: Self.spawned).value()
  }

  /// Bounds the log at `path` as long as `key` is held.
  public func keepLog(key: String, path: String, limit: UInt64) async throws(HoldError) {
    try await act(.keepLog(key: key, path: path, limit: limit))
  }

  /// Has the hold become the program at `path`; nothing that it keeps is lost.
  public func upgrade(path: String) async throws(HoldError) -> HoldStatus {
    let reply = try await ask(.upgrade(path: path))
    guard case .status(let status) = reply else { throw Self.unexpected(reply) }
    return status
  }

  /// Ends the hold, which keeps nothing any more, and the connection.
  public func shutdown() async throws(HoldError) {
    // Before the hold goes: its end must not have another one started.
    state.withLock { $0.closed = true }
    do throws(HoldError) {
      try await act(.shutdown)
    } catch {
      state.withLock { $0.closed = false }
      throw error
    }
  }

  private func act(
    _ request: HoldRequest, _ descriptors: [FileDescriptor] = []
  ) async throws(HoldError) {
    let reply = try await ask(request, descriptors)
    guard reply == .done else { throw Self.unexpected(reply) }
  }

  private func ask(
    _ request: HoldRequest, _ descriptors: [FileDescriptor] = []
  ) async throws(HoldError) -> HoldReply {
    try await call(request, descriptors) { reply, _ in reply }.value()
  }

  private func call<Value: Sendable>(
    _ request: HoldRequest, _ descriptors: [FileDescriptor] = [],
    decode: @escaping @Sendable (HoldReply, [FileDescriptor]) throws(HoldError) -> Value
  ) -> Call<Value> {
    let pending = Pending()
    send(request, descriptors, pending)
    return Call(pending: pending, decode: decode)
  }

  private func send(
    _ request: HoldRequest, _ descriptors: [FileDescriptor], _ pending: Pending
  ) {
    let registered = state.withLock { state -> (id: UInt64, link: Link)? in
      guard let link = state.link else { return nil }
      state.lastID += 1
      state.pending[state.lastID] = pending
      return (state.lastID, link)
    }
    guard let (id, link) = registered else { return pending.resume(.failure(.lost)) }
    do {
      // Outside of the lock: where the hold's queue is full this waits for the hold, and the hold
      // may wait for our thread to take its answers.
      _ = try PacketSocket.send(request.encoded(id: id), descriptors, on: link.socket)
    } catch {
      let taken = state.withLock { $0.pending.removeValue(forKey: id) }
      switch error {
      case let error as WireError: taken?.resume(.failure(.malformed("\(error)")))
      default: taken?.resume(.failure(.lost))
      }
    }
  }

  private static func byRole(
    _ reply: HoldReply, _ descriptors: [FileDescriptor]
  ) throws(HoldError) -> [DescriptorRole: FileDescriptor] {
    guard case .descriptors(let roles) = reply else { throw unexpected(reply) }
    return Dictionary(zip(roles, descriptors)) { first, _ in first }
  }

  private static func spawned(
    _ reply: HoldReply, _: [FileDescriptor]
  ) throws(HoldError) -> SpawnResult {
    guard case .spawned(let result) = reply else { throw unexpected(reply) }
    return result
  }

  private static func unexpected(_ reply: HoldReply) -> HoldError { .malformed("\(reply)") }

  // MARK: The client's thread

  /// Receives until the connection is lost, makes it again, and so on until closed.
  private func serve(_ first: Link) {
    var link = first
    while true {
      receive(on: link)
      let (lost, closed) = state.withLock { state in
        defer {
          state.pending = [:]
          state.link = nil
        }
        return (state.pending, state.closed)
      }
      for pending in lost.values { pending.resume(.failure(.lost)) }
      if closed { return eventSink.finish() }
      eventSink.yield(.lost)
      var pause: UInt32 = 10
      while true {
        if state.withLock({ $0.closed }) { return eventSink.finish() }
        if let again = try? makeLink() {
          link = again.link
          eventSink.yield(.connected(again.status))
          break
        }
        sleepThread(milliseconds: pause)
        pause = min(pause * 2, 1000)
      }
    }
  }

  private func receive(on link: Link) {
    while true {
      guard
        case .packet(let bytes, let descriptors)? = try? PacketSocket.receive(
          on: link.socket, limit: HoldProtocol.maximumMessageSize,
          descriptorLimit: HoldProtocol.maximumDescriptors)
      else { return }
      switch Result(catching: { () throws(WireError) in try HoldMessage(packet: bytes) }) {
      case .success(.event(.exited(let key, let status))):
        eventSink.yield(.exited(key: key, status))
      case .success(.reply(let id, let reply)):
        let pending = state.withLock { $0.pending.removeValue(forKey: id) }
        if let pending {
          pending.resume(.success((reply, descriptors)))
        } else {
          for descriptor in descriptors { try? descriptor.close() }
        }
      case .failure(.unknownTag("event", _)):
        // An event of a newer hold.
        continue
      case .failure:
        for descriptor in descriptors { try? descriptor.close() }
        return
      }
    }
  }

  /// Connects and greets. Blocks.
  private func makeLink() throws(HoldError) -> (link: Link, status: HoldStatus) {
    let link = Link(try system { () throws(SystemError) in try openSocket() })
    let status: HoldStatus
    do throws(HoldError) {
      status = try greet(link)
    } catch {
      guard case .refused(let refusal) = error, refusal.code == .unsupportedVersion else {
        throw error
      }
      _ = try exchange(.upgrade(path: program), on: link)
      status = try greet(link)
    }
    let closed = state.withLock { state in
      if !state.closed { state.link = link }
      return state.closed
    }
    if closed { throw .lost }
    return (link, status)
  }

  private func greet(_ link: Link) throws(HoldError) -> HoldStatus {
    let reply = try exchange(.hello(version: HoldProtocol.version), on: link)
    guard case .status(let status) = reply else { throw Self.unexpected(reply) }
    return status
  }

  /// One request and its answer before anything else uses the connection.
  private func exchange(_ request: HoldRequest, on link: Link) throws(HoldError) -> HoldReply {
    let id = state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
    do {
      _ = try PacketSocket.send(request.encoded(id: id), on: link.socket)
      while true {
        guard try waitReadable(link.socket, milliseconds: 10_000),
          case .packet(let bytes, _) = try PacketSocket.receive(
            on: link.socket, limit: HoldProtocol.maximumMessageSize,
            descriptorLimit: HoldProtocol.maximumDescriptors)
        else { throw HoldError.lost }
        switch try HoldMessage(packet: bytes) {
        case .reply(id, .refused(let refusal)): throw HoldError.refused(refusal)
        case .reply(id, let reply): return reply
        case .event(.exited(let key, let status)): eventSink.yield(.exited(key: key, status))
        case .reply: continue
        }
      }
    } catch let error as HoldError {
      throw error
    } catch let error as SystemError {
      throw .system(error)
    } catch {
      throw .malformed("\(error)")
    }
  }

  private func openSocket() throws(SystemError) -> FileDescriptor {
    do throws(SystemError) {
      return try PacketSocket.connect(socketPath)
    } catch  where error.errno == .connectionRefused || error.errno == .noSuchFileOrDirectory {
      // It ends when the socket is there (or another starter was quicker), and leaves the hold.
      let starter = try spawnDetached(
        program, arguments: ["martlet-hold", "--socket", socketPath, "--detach"],
        environment: [])
      _ = try waitForChild(starter)
      return try PacketSocket.connect(socketPath)
    }
  }

  private func system<Value>(
    _ body: () throws(SystemError) -> Value
  ) throws(HoldError) -> Value {
    do throws(SystemError) {
      return try body()
    } catch {
      throw .system(error)
    }
  }
}
