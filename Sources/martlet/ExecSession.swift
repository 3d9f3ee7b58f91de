internal import Glibc
internal import NFVClient
internal import NFVModel
internal import Synchronization

/// One command inside a Vnfc, from its start to its exit code, or a visit to a Vnfc's console.
struct ExecSession: Sendable {
  var target: String
  /// Empty at a console, where nothing is started.
  var command: [String] = []
  var environment: [String] = []
  var sendsInput: Bool
  var wantsTerminal: Bool
  /// What ends it when it is typed.
  var leaveKey: UInt8?

  static let contentType = "application/vnd.martlet.exec"

  /// Whether the key to leave was typed.
  private final class Departure: Sendable {
    let isWanted = Mutex(false)
  }

  /// What the start frame says.
  func start(_ size: TerminalSize?) -> JSONValue {
    var start: [String: JSONValue] = ["arguments": .array(command.map { .string($0) })]
    if !environment.isEmpty { start["environment"] = .array(environment.map { .string($0) }) }
    if let size {
      start["terminal"] = [
        "rows": .integer(Int64(size.rows)), "columns": .integer(Int64(size.columns)),
      ]
    }
    return .object(start)
  }

  func run(_ daemon: Daemon) async throws(Failure) -> Int32 {
    if wantsTerminal, sendsInput, isatty(STDIN_FILENO) != 1 {
      throw Failure(
        .refused, "-t needs a terminal, and standard input is none",
        advice: "leave -t out to send it a file or a pipe")
    }
    let size =
      wantsTerminal
      ? TerminalSize.current(STDIN_FILENO) ?? TerminalSize(rows: 24, columns: 80) : nil
    let first =
      command.isEmpty ? ExecFrame.keepAlive : .start(Array(start(size).compact.utf8))
    let request = HTTPRequest(
      .post, target, headers: ["Content-Type": Self.contentType], body: first.encoded)
    let conversation: Conversation
    do throws(ClientError) {
      conversation = try await daemon.client.converse(request)
    } catch {
      throw Failure(error)
    }
    let raw = wantsTerminal && sendsInput ? RawTerminal(STDIN_FILENO) : nil
    defer { raw?.restore() }
    return try await converse(conversation)
  }

  private func converse(_ conversation: Conversation) async throws(Failure) -> Int32 {
    let input: StandardInput?
    do {
      input = sendsInput ? try StandardInput() : nil
    } catch {
      throw Failure(.failed, "standard input cannot be read: \(error)")
    }
    let sendsSize = wantsTerminal && !command.isEmpty
    let departure = Departure()
    let leaveKey = leaveKey
    let result = await withTaskGroup(of: Void.self) { group async -> Result<Int32, Failure> in
      group.addTask {
        guard await Self.send(input, to: conversation, until: leaveKey) else { return }
        departure.isWanted.withLock { $0 = true }
        conversation.close()
      }
      group.addTask {
        while (try? await Task.sleep(for: .seconds(15))) != nil {
          try? await conversation.write(ExecFrame.keepAlive.encoded)
        }
      }
      if sendsSize {
        group.addTask {
          for await _ in windowChanges() {
            guard let size = TerminalSize.current(STDIN_FILENO) else { continue }
            let frame = ExecFrame.resize(
              rows: UInt16(clamping: size.rows), columns: UInt16(clamping: size.columns))
            try? await conversation.write(frame.encoded)
          }
        }
      }
      let result: Result<Int32, Failure>
      do throws(Failure) {
        result = .success(try await Self.receive(conversation))
      } catch {
        result = departure.isWanted.withLock { $0 } ? .success(0) : .failure(error)
      }
      input?.stop()
      group.cancelAll()
      return result
    }
    conversation.end()
    conversation.close()
    return try result.get()
  }

  /// - Returns: whether the key was typed.
  private static func send(
    _ input: StandardInput?, to conversation: Conversation, until leaveKey: UInt8?
  ) async -> Bool {
    do throws(ClientError) {
      if let input {
        while let piece = await input.next() {
          let leaves = leaveKey.flatMap { piece.firstIndex(of: $0) }
          let octets = leaves.map { Array(piece[..<$0]) } ?? piece
          if !octets.isEmpty { try await conversation.write(ExecFrame.input(octets).encoded) }
          if leaves != nil { return true }
        }
      }
      guard !Task.isCancelled else { return false }
      try await conversation.write(ExecFrame.endOfInput.encoded)
    } catch {
      // The command has ended, and its exit says how; what it did not read is lost.
    }
    return false
  }

  private static func receive(_ conversation: Conversation) async throws(Failure) -> Int32 {
    var parser = ExecFrameParser()
    let console = Console.current
    var pieces = conversation.response.body.makeAsyncIterator()
    while true {
      let piece: [UInt8]?
      do throws(ClientError) {
        piece = try await pieces.next()
      } catch {
        throw Failure(error)
      }
      guard let piece else {
        throw Failure(.failed, "the daemon ended the connection without the command's exit")
      }
      for frame in try parser.parse(piece) {
        switch frame {
        case .output(let octets): console.output(octets)
        case .errorOutput(let octets): console.error(octets)
        case .exit(let payload): return try exitCode(payload)
        case .failed(let payload):
          let problem = try? JSONValue(parsing: payload)
          throw Failure(
            ProblemDetails(
              status: Int(problem?["status"].integer ?? 500),
              detail: problem?["detail"].string ?? "the command could not be started",
              cause: problem?["cause"].string))
        default: break
        }
      }
    }
  }

  /// The exit code that a shell would give for the exit frame's payload.
  static func exitCode(_ payload: [UInt8]) throws(Failure) -> Int32 {
    let exit = (try? JSONValue(parsing: payload)) ?? .null
    if let code = exit["code"].integer { return Int32(truncatingIfNeeded: code) }
    if let signal = exit["signal"].integer { return 128 + Int32(truncatingIfNeeded: signal) }
    if exit["outOfMemory"] == .bool(true) {
      Console.current.note("martlet: the command ran out of the Vnfc's memory")
      return 128 + SIGKILL
    }
    throw Failure(.failed, "the command has ended, and nobody knows how")
  }
}
