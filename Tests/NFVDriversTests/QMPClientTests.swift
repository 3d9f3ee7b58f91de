import Glibc
import LinuxSystem
import NFVModel
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import NFVDrivers

/// A server that speaks as QEMU does, or as it should not.
final class StubMachine: Sendable {
  let path: String
  /// Shared with the thread: a number that was closed under it may be another test's socket.
  private let listener: OwnedDescriptor

  /// - Parameter serve: what it does with a connection, which is closed afterwards. Its function
  ///   `next` gives the next line, nil at the end.
  init(
    _ serve: @escaping @Sendable (_ say: (String) -> Void, _ next: () -> String?) -> Void
  ) throws {
    var template = Array("/tmp/qmp-test-XXXXXX".utf8CString)
    path = String(cString: try #require(mkdtemp(&template))) + "/qmp"
    listener = OwnedDescriptor(try StreamSocket.listen(path))
    startThread(name: "stub-qmp") { [listener] in
      let raw = accept(listener.descriptor.rawValue, nil, nil)
      guard raw >= 0 else { return }
      let connection = FileDescriptor(rawValue: raw)
      var unread: [UInt8] = []
      serve { line in
        // A text without an end is one that goes on.
        let end = line.count > 10_000 ? "" : "\r\n"
        try? writeAll(Array((line + end).utf8), to: connection)
      } _: {
        while true {
          if let end = unread.firstIndex(of: 10) {
            defer { unread.removeFirst(end + 1) }
            return String(decoding: unread[..<end], as: UTF8.self)
          }
          guard let more = try? readSome(of: connection, limit: 4096), !more.isEmpty else {
            return nil
          }
          unread += more
        }
      }
      try? connection.close()
    }
  }

  static let greeting =
    #"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}"#

  deinit {
    shutdown(listener.descriptor.rawValue, Int32(SHUT_RDWR))
    unlink(path)
    rmdir(String(path.dropLast(4)))
  }
}

@Suite(.timeLimit(.minutes(1))) struct QMPClientTests {
  @Test("Commands are answered by their ids, whatever the order; events come between them")
  func answersByID() async throws {
    let asked = Mutex<[String]>([])
    let stub = try StubMachine { say, next in
      say(StubMachine.greeting)
      for _ in 0..<2 {
        guard let line = next() else { return }
        asked.withLock { $0.append(line) }
        if line.contains("qmp_capabilities") { say(#"{"return": {}, "id": 1}"#) }
      }
      _ = next().map { line in asked.withLock { $0.append(line) } }
      say(#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"#)
      say(#"{"return": "third", "id": 3}"#)
      say(#"{"error": {"class": "GenericError", "desc": "no such thing"}, "id": 2}"#)
      _ = next()
    }
    let events = Mutex<[String]>([])
    let client = try await QMPClient.connect(stub.path, timeout: .seconds(5)) { event in
      events.withLock { $0.append(event.name) }
    }
    let second = Task { try await client.execute("device_del", ["id": "x"]) }
    try await eventually("it is asked") { asked.withLock { $0.count } == 2 }
    #expect(try await client.execute("query-name") == .string("third"))
    await #expect(throws: MachineError.refused("no such thing")) { try await second.value }
    #expect(events.withLock { $0 } == ["STOP"])
    #expect(
      asked.withLock { $0 } == [
        #"{"execute":"qmp_capabilities","id":1}"#,
        #"{"arguments":{"id":"x"},"execute":"device_del","id":2}"#,
        #"{"execute":"query-name","id":3}"#,
      ])
  }

  @Test("A QEMU that is silent, that hangs later, or that goes away is told apart")
  func tellsFailuresApart() async throws {
    let silent = try StubMachine { _, next in while next() != nil {} }
    await #expect(throws: MachineError.timedOut("the QMP command qmp_capabilities")) {
      _ = try await QMPClient.connect(silent.path, timeout: .milliseconds(50)) { _ in }
    }
    let hung = try StubMachine { say, next in
      say(StubMachine.greeting)
      _ = next()
      say(#"{"return": {}, "id": 1}"#)
      while next() != nil {}
    }
    let client = try await QMPClient.connect(hung.path, timeout: .seconds(5)) { _ in }
    await #expect(throws: MachineError.timedOut("the QMP command stop")) {
      _ = try await client.execute("stop", timeout: .milliseconds(50))
    }
    let leaving = try StubMachine { say, next in
      say(StubMachine.greeting)
      _ = next()
    }
    await #expect(throws: MachineError.closed("the other side ended it")) {
      _ = try await QMPClient.connect(leaving.path, timeout: .seconds(5)) { _ in }
    }
    await #expect {
      _ = try await QMPClient.connect("/tmp/no-such-machine", timeout: .seconds(5)) { _ in }
    } throws: { error in
      if case MachineError.closed? = error as? MachineError { true } else { false }
    }
  }

  @Test(
    "What is no QMP ends the connection",
    arguments: [
      "HTTP/1.1 400 Bad Request", "[1]", "{}", #"{"return": {}}"#, #"{"error": "x", "id": 1}"#,
      #"{"error": {"desc": "no id"}}"#, "{\"return\": \"\u{1}", #"{"return": {}, "id": 1}"#,
    ])
  func refusesNonsense(_ line: String) async throws {
    let stub = try StubMachine { say, next in
      _ = next()
      say(line)
      while next() != nil {}
    }
    await #expect {
      _ = try await QMPClient.connect(stub.path, timeout: .seconds(5)) { _ in }
    } throws: { error in
      if case MachineError.malformed? = error as? MachineError { true } else { false }
    }
  }

  @Test("A limit that is over before anybody waits is a limit all the same")
  func limitsOfNoTime() async {
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<2000 {
        group.addTask {
          await #expect(throws: MachineError.timedOut("x")) {
            _ = try await PendingReplies<Int>().ask("x", timeout: .zero) { _ in }
          }
        }
      }
    }
  }

  @Test("A line without end is not collected for ever")
  func boundsLines() async throws {
    let piece = String(repeating: "x", count: 65536)
    let stub = try StubMachine { say, next in
      for _ in 0..<64 { say(piece) }
      while next() != nil {}
    }
    await #expect {
      _ = try await QMPClient.connect(stub.path, timeout: .seconds(5)) { _ in }
    } throws: { error in
      if case MachineError.malformed? = error as? MachineError { true } else { false }
    }
  }
}
