import ControlProtocol
import FoundationEssentials
import Glibc
import LinuxSystem
import NFVModel
import Synchronization
import SystemPackage
import TestSupport
import Testing
import Wire

@testable import NFVDrivers

/// A guest's end of the control channel, as it should be or not.
final class StubGuest: Sendable {
  /// What a guest's script has of a connection.
  final class Connection: Sendable {
    private let socket: FileDescriptor
    private let reader = Mutex(FrameReader(findsGreetings: true))

    init(_ socket: FileDescriptor) { self.socket = socket }

    func send(_ message: ControlMessage) { try? send(octets: message.frame()) }
    func send(octets: [UInt8]) { try? writeAll(octets, to: socket) }

    /// The next request; nil at the end.
    func next() -> (id: UInt64, request: ControlRequest)? {
      while true {
        if let body = reader.withLock({ try? $0.next() }) {
          guard let (id, result) = try? ControlRequest.read(body),
            let request = try? result.get()
          else { return nil }
          return (id, request)
        }
        guard let more = try? readSome(of: socket, limit: 65536), !more.isEmpty else { return nil }
        reader.withLock { $0.append(more) }
      }
    }

    /// Answers the greeting.
    func greet(_ state: GuestState = .running(pid: 2)) {
      guard let (id, _) = next() else { return }
      send(.reply(id: id, .status(version: ControlProtocol.version, state)))
    }
  }

  let path: String
  /// Shared with the thread: a number that was closed under it may be another test's socket.
  private let listener: OwnedDescriptor

  init(_ serve: @escaping @Sendable (Connection) -> Void) throws {
    var template = Array("/tmp/guest-test-XXXXXX".utf8CString)
    path = String(cString: try #require(mkdtemp(&template))) + "/control"
    listener = OwnedDescriptor(try StreamSocket.listen(path))
    startThread(name: "stub-guest") { [listener] in
      let raw = accept(listener.descriptor.rawValue, nil, nil)
      guard raw >= 0 else { return }
      let socket = FileDescriptor(rawValue: raw)
      serve(Connection(socket))
      try? socket.close()
    }
  }

  deinit {
    shutdown(listener.descriptor.rawValue, Int32(SHUT_RDWR))
    unlink(path)
    rmdir(String(path.dropLast(8)))
  }
}

@Suite(.timeLimit(.minutes(1))) struct ControlClientTests {
  private func connect(
    _ guest: StubGuest, onEnded: @escaping @Sendable (NFVModel.ExitStatus) -> Void = { _ in }
  ) async throws -> ControlClient {
    try await ControlClient.connect(.path(guest.path), onEnded: onEnded)
  }

  @Test("The function's start and end are heard, whether before or after the greeting")
  func hearsStartAndEnd() async throws {
    let ended = Mutex<[NFVModel.ExitStatus]>([])
    let guest = try StubGuest { connection in
      // The rest of an earlier connection is dropped.
      connection.send(octets: [3, 0, 0, 0, 1, 2, 3])
      connection.send(.reply(id: 7, .done))
      connection.send(.event(.state(.ended(.killed(signal: 1)))))
      connection.greet()
      connection.send(.event(.state(.ended(.exited(code: 3)))))
    }
    let client = try await connect(guest) { status in ended.withLock { $0.append(status) } }
    try await client.waitForStart(timeout: .seconds(5))
    await client.waitForEnd(timeout: .seconds(5))
    #expect(ended.withLock { $0 } == [.exited(code: 3)])
    await #expect(throws: MachineError.closed("the other side ended it")) {
      _ = try await client.request(.stop, timeout: .seconds(5))
    }
  }

  @Test("A function that cannot be started says why; a silent guest is told apart")
  func startFails() async throws {
    let failing = try StubGuest { $0.greet(.failed("no such program")) }
    await #expect(throws: MachineError.refused("no such program")) {
      try await connect(failing).waitForStart(timeout: .seconds(5))
    }
    let silent = try StubGuest { while $0.next() != nil {} }
    let client = try await connect(silent)
    await #expect(throws: MachineError.timedOut("the start of its function")) {
      try await client.waitForStart(timeout: .milliseconds(50))
    }
  }

  @Test("A document that a guest was told before its start is not told again, another one is")
  func documents() async throws {
    let told = Mutex<[String]>([])
    let guest = try StubGuest { connection in
      connection.greet()
      while let (id, request) = connection.next() {
        guard case .configure(let document) = request else { continue }
        let text = String(decoding: document, as: UTF8.self)
        told.withLock { $0.append(text) }
        connection.send(.reply(id: id, text == "bad" ? .refused("no") : .done))
      }
    }
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let id = WorkloadID(store: "store", tenant: "green", vnfc: "vnfc", incarnation: 1)
    let place = RunFolder(id, in: folder.path)
    try FileManager.default.createDirectory(
      atPath: place.path, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      atPath: place.controlSocket, withDestinationPath: guest.path)
    let machine = Machine(id, folder: place)
    defer { machine.close() }
    let limit = Duration.seconds(5)
    for _ in 0..<2 { machine.tell(document: Array("a".utf8), timeout: limit) }
    try await machine.configure(document: Array("a".utf8), timeout: limit)
    #expect(told.withLock { $0 } == ["a"])
    // What was waited for once is known no more.
    try await machine.configure(document: Array("a".utf8), timeout: limit)
    machine.tell(document: Array("b".utf8), timeout: limit)
    try await machine.configure(document: Array("c".utf8), timeout: limit)
    #expect(told.withLock { $0 } == ["a", "a", "b", "c"])
    machine.tell(document: Array("bad".utf8), timeout: limit)
    await #expect(throws: MachineError.refused("no")) {
      try await machine.configure(document: Array("bad".utf8), timeout: limit)
    }
  }

  @Test(
    "A guest that answers nonsense loses its connection, nothing else",
    arguments: [
      [0xFF, 0xFF, 0xFF, 0xFF], [2, 0, 0, 0, 1, 2],
      [10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
    ])
  func nonsense(_ octets: [UInt8]) async throws {
    let guest = try StubGuest { connection in
      connection.greet()
      connection.send(octets: octets)
      while connection.next() != nil {}
    }
    let client = try await connect(guest)
    try await client.waitForStart(timeout: .seconds(5))
    await #expect {
      _ = try await client.request(.counters, timeout: .seconds(5))
    } throws: { error in
      if case MachineError.malformed? = error as? MachineError { true } else { false }
    }
  }

  @Test(
    "A command's output comes in order and is acknowledged as it is taken; input goes in pieces")
  func commands() async throws {
    let acknowledged = Mutex(0)
    let input = Mutex<[UInt8]>([])
    let guest = try StubGuest { connection in
      connection.greet()
      while let (id, request) = connection.next() {
        switch request {
        case .execute(let command):
          guard command.arguments == ["cat"] else {
            connection.send(.reply(id: id, .refused("no such program")))
            continue
          }
          connection.send(.reply(id: id, .done))
          connection.send(.event(.output(session: id, .output, Array("one".utf8))))
          connection.send(.event(.output(session: id, .error, Array("two".utf8))))
        case .input(let session, let octets, let isLast):
          input.withLock { $0 += octets }
          connection.send(.reply(id: id, .done))
          if isLast { connection.send(.event(.exited(session: session, .killed(signal: 15)))) }
        case .acknowledge(_, let octets): acknowledged.withLock { $0 += Int(octets) }
        default: connection.send(.reply(id: id, .refused("unknown")))
        }
      }
    }
    let client = try await connect(guest)
    await #expect(throws: MachineError.refused("no such program")) {
      _ = try await client.execute(ExecRequest(arguments: ["dog"]), timeout: .seconds(5))
    }
    let session = try await client.execute(ExecRequest(arguments: ["cat"]), timeout: .seconds(5))
    let long = [UInt8](repeating: 7, count: 100_000)
    try await session.write(long)
    await session.closeInput()
    var outputs: [ExecOutput] = []
    for await output in session.output { outputs.append(output) }
    #expect(
      outputs == [
        .standardOutput(Array("one".utf8)), .standardError(Array("two".utf8)),
        .exited(.killed(signal: 15)),
      ])
    #expect(input.withLock { $0 } == long)
    try await eventually("all is acknowledged") { acknowledged.withLock { $0 } == 6 }
  }

  /// It would count for nothing, and there could be any number of it.
  @Test("Output without an octet makes no sense")
  func emptyOutput() async throws {
    let guest = try StubGuest { connection in
      connection.greet()
      connection.send(.event(.output(session: 1, .output, [])))
      while connection.next() != nil {}
    }
    let client = try await connect(guest)
    await #expect {
      _ = try await client.request(.counters, timeout: .seconds(5))
    } throws: { error in
      if case MachineError.malformed? = error as? MachineError { true } else { false }
    }
  }

  @Test("Octets that come one by one are kept as few pieces, each stream's in order")
  func smallPieces() async throws {
    let queue = OutputQueue()
    let count = 100_000
    for index in 0..<count {
      let octet = [UInt8(truncatingIfNeeded: index / 2)]
      queue.append(index % 2 == 0 ? .standardOutput(octet) : .standardError(octet))
    }
    #expect(queue.octets == count)
    queue.end(.exited(code: 0))
    var output: [UInt8] = []
    var error: [UInt8] = []
    var pieces = 0
    while let piece = await queue.next() {
      pieces += 1
      switch piece {
      case .standardOutput(let octets): output += octets
      case .standardError(let octets): error += octets
      case .exited(let status): #expect(status == .exited(code: 0))
      }
    }
    let all = (0..<count / 2).map { UInt8(truncatingIfNeeded: $0) }
    #expect(output == all && error == all)
    #expect(pieces <= OutputQueue.maximumPieces + 1 && queue.octets == 0)
  }

  @Test("Output that was not asked for ends the connection; its sessions end with it")
  func floods() async throws {
    let guest = try StubGuest { connection in
      connection.greet()
      guard let (id, _) = connection.next() else { return }
      connection.send(.reply(id: id, .done))
      let piece = [UInt8](repeating: 1, count: 65536)
      for _ in 0..<64 { connection.send(.event(.output(session: id, .output, piece))) }
      while connection.next() != nil {}
    }
    let client = try await connect(guest)
    let session = try await client.execute(ExecRequest(arguments: ["yes"]), timeout: .seconds(5))
    await client.waitForEnd(timeout: .seconds(5))
    var octets = 0
    var last: ExecOutput?
    for await output in session.output {
      if case .standardOutput(let bytes) = output { octets += bytes.count }
      last = output
    }
    #expect(octets <= 2 * ControlProtocol.outputWindow + 65536)
    #expect(last == .exited(.unknown))
  }
}
