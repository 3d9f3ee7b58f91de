internal import ControlProtocol
internal import LinuxSystem
internal import SystemPackage
internal import Wire

/// Serves the control channel, reaps processes, and sees the function's end.
///
/// One thread waits for all; nothing that a function, a command or the host does or leaves undone
/// holds up the rest: what is to be sent is bounded by the sessions' windows.
final class Supervisor {
  private static let maximumSessions = 32

  /// A descriptor's number means another one in another session.
  private struct Watch: Hashable {
    var session: UInt64
    var descriptor: FileDescriptor
  }

  private let epoll: Epoll
  private let childSignals: FileDescriptor
  private let port: FileDescriptor?
  private let function: Child?
  private let environment: [String]
  private let document: String
  private var state: GuestState

  private var reader = FrameReader(findsGreetings: true)
  private var outgoing: [UInt8] = []
  private var sent = 0
  private var wasGreeted = false
  private var ends = ConnectionEnds()
  /// Whether somebody has the other end open, as far as it was read.
  private var isConnected = false
  private var sessions: [UInt64: Session] = [:]
  /// What the function was asked, by the host's requests.
  private var questions: [UInt64: FunctionQuestion] = [:]
  private var watched: [Watch: Epoll.Events] = [:]
  /// When to give up waiting for somebody to tell of the end.
  private var deadline: UInt64?

  /// - Parameters:
  ///   - port: of the control channel; reading nothing from it means that nobody is connected.
  ///   - environment: of commands.
  ///   - document: the path of the function's document.
  init(
    port: FileDescriptor?, function: Child?, state: GuestState, environment: [String],
    document: String
  ) throws(SystemError) {
    self.port = port
    self.function = function
    self.state = state
    self.environment = environment
    self.document = document
    ignoreBrokenPipes()
    epoll = try Epoll()
    childSignals = try ProcessAttributes.childSignals()
    try epoll.add(childSignals, .readable)
    if let port {
      try setWaiting(false, port)
      try epoll.add(port, [.readable, .writable, .onChange])
    }
  }

  /// Returns when the function has ended, or did not run at all, and the host knows it.
  /// - Parameter lastWords: how many milliseconds the host has to ask.
  /// - Returns: what became of the function.
  func run(lastWords: UInt64) throws(SystemError) -> GuestState {
    // A child may have ended before its signals were caught.
    try reap()
    if let port { try read(port) }
    while true {
      if case .running = state {} else if isKnown(lastWords) { return state }
      try watch()
      let isHurried = deadline != nil || !questions.isEmpty || ends.isInDoubt
      for ready in try epoll.wait(milliseconds: isHurried ? 50 : -1) {
        if ready.descriptor == childSignals {
          _ = try? readSome(of: childSignals, limit: 1024)
          try reap()
        } else if ready.descriptor == port {
          try read(ready.descriptor)
          flush()
        } else {
          serveSessions()
        }
      }
      serveQuestions()
      if ends.isInDoubt, let port {
        try read(port)
        flush()
      }
    }
  }

  /// Whether the host knows of the end, or has had its time. An exit status that nobody is there to
  /// hear is told by the machine's end.
  private func isKnown(_ lastWords: UInt64) -> Bool {
    if case .ended = state, !isConnected { return true }
    let now = monotonicMilliseconds()
    let deadline = self.deadline ?? now + lastWords
    self.deadline = deadline
    guard port != nil, now < deadline else { return true }
    flush()
    return wasGreeted && sent == outgoing.count
  }

  // MARK: The channel

  private func read(_ port: FileDescriptor) throws(SystemError) {
    while true {
      do throws(SystemError) {
        let bytes = try readSome(of: port, limit: 64 << 10)
        isConnected = !bytes.isEmpty
        guard isConnected else {
          if ends.isEnd(at: monotonicMilliseconds()) { disconnect() }
          return
        }
        ends.goesOn()
        reader.append(bytes)
        take()
      } catch {
        isConnected = error.errno == .wouldBlock
        if isConnected { return ends.goesOn() }
        if error.errno == .connectionReset { return disconnect() }
        throw error
      }
    }
  }

  private func take() {
    do throws(WireError) {
      while let body = try reader.next() {
        let (id, request) = try ControlRequest.read(body)
        switch request {
        case .success(.acknowledge(let session, let octets)):
          sessions[session]?.window += Int(octets)
          serveSessions()
        case .success(let request):
          if let reply = answer(request, id) { send(.reply(id: id, reply)) }
        case .failure(let error):
          send(.reply(id: id, .refused("the request makes no sense: \(error)")))
        }
      }
    } catch {
      disconnect()
    }
  }

  private func disconnect() {
    wasGreeted = false
    outgoing = []
    sent = 0
    reader.reset()
    for id in sessions.keys.sorted() { endSession(id) }
    for question in questions.values { question.end() }
    questions = [:]
  }

  private func send(_ message: ControlMessage) {
    guard wasGreeted, let frame = try? message.frame() else { return }
    if sent == outgoing.count {
      outgoing = []
      sent = 0
    }
    outgoing += frame
    flush()
  }

  private func flush() {
    guard let port else { return }
    while sent < outgoing.count {
      guard let count = try? writeSome(outgoing, from: sent, to: port), count > 0 else { return }
      sent += count
    }
  }

  // MARK: Requests

  /// - Returns: nil where the answer comes later.
  private func answer(_ request: ControlRequest, _ id: UInt64) -> ControlReply? {
    switch request {
    case .hello(let version):
      // What was for an earlier connection is not for this one; its rest is in the reader.
      let unread = reader
      ends.greeted(at: monotonicMilliseconds())
      disconnect()
      reader = unread
      wasGreeted = true
      return version == ControlProtocol.version
        ? .status(version: version, state)
        : .refused("this image speaks version \(ControlProtocol.version), not \(version)")
    case .stop: return signalFunction(15)
    case .configure(let document): return configure(document, id)
    case .execute(let command): return execute(command, id)
    case .input(let session, let bytes, let isLast):
      return input(session, Session.PendingInput(request: id, bytes: bytes, isLast: isLast))
    case .resize(let session, let size):
      guard let input = sessions[session]?.input, sessions[session]?.isTerminal == true else {
        return Self.noSession
      }
      do throws(SystemError) {
        try resizeTerminal(input, rows: Int(size.rows), columns: Int(size.columns))
        return .done
      } catch {
        return .refused("\(error)")
      }
    case .signal(let session, let number):
      guard let session = sessions[session], session.exit == nil else { return Self.noSession }
      signalProcessGroup(session.child.pid, Int32(number))
      return .done
    case .acknowledge: return nil
    case .counters: return Counters.read()
    case .functionCounters: return ask(request, id, otherwise: .functionCounters([]))
    case .file(let path, let content): return write(content, over: path)
    }
  }

  private static let noSession = ControlReply.refused("there is no such session")

  private func signalFunction(_ number: Int32) -> ControlReply {
    guard let function, case .running = state else { return .refused("the function does not run") }
    do throws(SystemError) {
      try sendSignal(number, to: function.pidfd)
      return .done
    } catch {
      return .refused("\(error)")
    }
  }

  private func configure(_ bytes: [UInt8], _ id: UInt64) -> ControlReply? {
    guard bytes.count <= ControlProtocol.maximumDocument else {
      return .refused("the document has more than \(ControlProtocol.maximumDocument) octets")
    }
    guard let reply = ask(.configure(document: bytes), id, otherwise: .done) else { return nil }
    guard reply == .done else { return reply }
    let written = write(bytes)
    return written == .done && handlesHangUp ? signalFunction(1) : written
  }

  private func write(_ bytes: [UInt8]) -> ControlReply {
    do throws(SystemError) {
      try replaceFile(document, bytes, mode: 0o644)
      return .done
    } catch {
      return .refused("\(error)")
    }
  }

  private func write(_ bytes: [UInt8], over path: String) -> ControlReply {
    do throws(SystemError) {
      try overwriteFile(path, bytes)
      return .done
    } catch {
      return .refused("\(error)")
    }
  }

  /// Hands a request to the function.
  /// - Returns: nil where its answer comes later; `otherwise` where it has no control channel.
  private func ask(
    _ request: ControlRequest, _ id: UInt64, otherwise: ControlReply
  ) -> ControlReply? {
    guard questions[id] == nil else { return .refused("the request's id is in use") }
    do throws(SystemError) {
      guard let question = try FunctionQuestion(request, id) else { return otherwise }
      questions[id] = question
      return nil
    } catch {
      return .refused("the function's control channel: \(error)")
    }
  }

  /// Answers what the function has answered.
  private func serveQuestions() {
    for id in questions.keys.sorted() {
      guard var reply = questions[id]?.proceed(), let question = questions.removeValue(forKey: id)
      else { continue }
      question.end()
      if case .configure(let document) = question.request, reply == .done {
        reply = write(document)
      }
      send(.reply(id: id, reply))
    }
  }

  private var handlesHangUp: Bool { function.map { catchesHangUp($0.pid) } ?? false }

  /// - Returns: nil where it is answered already.
  private func execute(_ command: GuestCommand, _ id: UInt64) -> ControlReply? {
    guard sessions[id] == nil else { return .refused("the session is in use") }
    guard sessions.count < Self.maximumSessions else {
      return .refused("\(Self.maximumSessions) commands run already")
    }
    do throws(GuestFailure) {
      sessions[id] = try Session(command, environment: environment)
      return .done
    } catch {
      guard let code = error.code else { return .refused(error.message) }
      // As from a shell that was to run it, and as in a container.
      let isTerminal = command.terminal != nil
      let line = Array("\(error.message)\(isTerminal ? "\r\n" : "\n")".utf8)
      send(.reply(id: id, .done))
      send(.event(.output(session: id, isTerminal ? .output : .error, line)))
      send(.event(.exited(session: id, .exited(code: code))))
      return nil
    }
  }

  private func input(_ id: UInt64, _ input: Session.PendingInput) -> ControlReply? {
    guard let session = sessions[id] else { return Self.noSession }
    guard session.pending == nil, input.bytes.count <= ControlProtocol.maximumInput else {
      return .refused(
        "input comes in pieces of at most \(ControlProtocol.maximumInput) octets, one at a time")
    }
    sessions[id]?.pending = input
    return sessions[id]?.write()?.1
  }

  // MARK: Processes

  private func endSession(_ id: UInt64) {
    sessions[id]?.end()
    sessions[id] = nil
  }

  private func serveSessions() {
    for id in sessions.keys.sorted() {
      sessions[id]?.read { send(.event(.output(session: id, $0, $1))) }
      if let (request, reply) = sessions[id]?.write() { send(.reply(id: request, reply)) }
      guard let session = sessions[id], session.isOver, let exit = session.exit else { continue }
      if let pending = session.pending {
        send(.reply(id: pending.request, .refused("the command has ended")))
      }
      endSession(id)
      send(.event(.exited(session: id, exit)))
    }
  }

  private func reap() throws(SystemError) {
    while let (pid, status) = try reapChild() {
      let exit: GuestExit =
        switch status {
        case .exited(let code): .exited(code: UInt8(truncatingIfNeeded: code))
        case .killed(let signal): .killed(signal: UInt8(truncatingIfNeeded: signal))
        case .unknown: .exited(code: 255)
        }
      if pid == function?.pid {
        state = .ended(exit)
        send(.event(.state(state)))
      } else if let id = sessions.first(where: { $0.value.child.pid == pid })?.key {
        sessions[id]?.exit = exit
      }
    }
    serveSessions()
  }

  /// Has epoll watch what the sessions wait for now.
  private func watch() throws(SystemError) {
    var wanted: [Watch: Epoll.Events] = [:]
    for (id, session) in sessions {
      for (descriptor, events) in session.interest {
        wanted[Watch(session: id, descriptor: descriptor)] = events
      }
    }
    for (id, question) in questions {
      wanted[Watch(session: id, descriptor: question.descriptor)] = question.interest
    }
    for (watch, _) in watched where wanted[watch] == nil {
      // Closed ones are gone by themselves.
      try? epoll.remove(watch.descriptor)
    }
    for (watch, events) in wanted {
      if watched[watch] == nil {
        try epoll.add(watch.descriptor, events)
      } else if watched[watch] != events {
        try epoll.modify(watch.descriptor, events)
      }
    }
    watched = wanted
  }
}
