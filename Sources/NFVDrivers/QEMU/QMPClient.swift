import FoundationEssentials
import NFVModel
import NIOCore
import Synchronization

/// The daemon's end of the QEMU Machine Protocol (qemu's docs/interop/qmp-spec): commands in flight
/// at the same time, each answered by its own id and under its own time limit.
///
/// Safe from any task. One connection at a time: QEMU serves the next when this one is closed.
final class QMPClient: Sendable {
  struct Event: Sendable, Hashable {
    var name: String
    var data: JSONValue
  }

  /// A longer line is not QEMU's.
  private static let lineLimit = 1 << 20

  private let replies: PendingReplies<JSONValue>
  private let connection: MachineConnection

  private init(_ replies: PendingReplies<JSONValue>, _ connection: MachineConnection) {
    self.replies = replies
    self.connection = connection
  }

  deinit { connection.close() }

  /// Connects, takes QEMU's greeting and leaves its negotiation mode.
  /// - Parameters:
  ///   - timeout: of the greeting and the negotiation; a socket may listen before QEMU serves it.
  ///   - onEvent: called in the order of events; must not block.
  static func connect(
    _ path: String, timeout: Duration, onEvent: @escaping @Sendable (Event) -> Void
  ) async throws(MachineError) -> QMPClient {
    let replies = PendingReplies<JSONValue>()
    let greeting = Greeting()
    let connection = try await MachineConnection.open(
      .path(path), framing: .lines, limit: lineLimit
    ) { (line) throws(MachineError) in
      switch try Message(line) {
      case .greeting: greeting.come()
      case .reply(let id, let answer): replies.resolve(id, answer)
      case .event(let event): onEvent(event)
      }
    } onEnd: { error in
      replies.end(error)
    }
    let client = QMPClient(replies, connection)
    // The answer comes after the greeting, so that waiting for it alone is enough.
    _ = try await client.execute("qmp_capabilities", timeout: timeout)
    guard greeting.hasCome else {
      throw .malformed("an answer without the greeting before it")
    }
    return client
  }

  /// Runs a command.
  /// - Returns: what it returns, an empty object where that is nothing.
  func execute(
    _ command: String, _ arguments: [String: JSONText] = [:], timeout: Duration = .seconds(5)
  ) async throws(MachineError) -> JSONValue {
    try await replies.ask("the QMP command \(command)", timeout: timeout) {
      [connection, replies] id in
      var request: [String: JSONText] = ["execute": .string(command), "id": .integer(id)]
      if !arguments.isEmpty { request["arguments"] = .object(arguments) }
      connection.send(Array((JSONText.object(request).text + "\n").utf8)) { error in
        replies.resolve(id, .failure(error))
      }
    }
  }

  /// Returns when the connection has ended, so that every event has been told, or after `timeout`.
  func waitForEnd(timeout: Duration) async {
    _ = try? await replies.ask("the end", timeout: timeout) { _ in }
  }

  func close() { connection.close() }

  private final class Greeting: Sendable {
    private let state = Mutex(false)
    func come() { state.withLock { $0 = true } }
    var hasCome: Bool { state.withLock { $0 } }
  }

  /// What QEMU says in one line.
  private enum Message {
    case greeting
    case reply(Int64, Result<JSONValue, MachineError>)
    case event(Event)

    init(_ line: [UInt8]) throws(MachineError) {
      guard
        case .object(let members)? = try? JSONDecoder().decode(JSONValue.self, from: Data(line))
      else { throw .malformed("\(String(decoding: line.prefix(80), as: UTF8.self))") }
      if members["QMP"] != nil {
        self = .greeting
      } else if case .string(let name)? = members["event"] {
        self = .event(Event(name: name, data: members["data"] ?? .null))
      } else if let value = members["return"], case .integer(let id)? = members["id"] {
        self = .reply(id, .success(value))
      } else if case .object(let error)? = members["error"] {
        guard case .integer(let id)? = members["id"] else {
          // Of a line that QEMU could not read, so that it knows no id.
          throw .malformed("\(error["desc"] ?? .null)")
        }
        guard case .string(let words)? = error["desc"] else { throw .malformed("\(members)") }
        self = .reply(id, .failure(.refused(words)))
      } else {
        throw .malformed("\(String(decoding: line.prefix(80), as: UTF8.self))")
      }
    }
  }
}
