import Glibc
import HoldProtocol
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// A hold of the test's own, with its socket in a folder of its own; ends with all it started.
final class HoldFixture {
  private let temporary: TemporaryFolder
  private(set) var pid: Int32
  /// Killed at the end, with whatever a dead hold left running.
  var strays: [Int32] = []

  var folder: String { temporary.path }
  var socket: String { folder + "/hold.socket" }

  static let program = Built.program("martlet-hold")

  init() throws {
    temporary = try TemporaryFolder()
    pid = 0
    try start()
  }

  /// Starts a hold as the daemon does, and waits until its socket is there.
  func start() throws {
    let starter = try spawnDetached(
      Self.program, arguments: ["martlet-hold", "--socket", socket, "--detach"], environment: [])
    let status = try waitForChild(starter)
    guard status == .exited(code: 0) else {
      throw SystemError(call: "martlet-hold", errno: .ioError, subject: "\(status)")
    }
    pid = try connect().status().pid
  }

  func connect() throws -> HoldConnection { try HoldConnection(socket) }

  /// Kills the hold and waits until it is gone.
  func killHold() throws {
    let pidfd = try openPidfd(pid)
    defer { try? pidfd.close() }
    try sendSignal(SIGKILL, to: pidfd)
    #expect(try waitReadable(pidfd, milliseconds: 5000))
  }

  func end() {
    if let client = try? connect() {
      var keys: [String] = []
      for holding in (try? client.list()) ?? [] {
        if case .running = holding.state {
          _ = try? client.request(.signal(key: holding.key, number: SIGKILL))
          _ = try? client.request(.wait(key: holding.key))
        }
        keys.append(holding.key)
      }
      for key in keys { _ = try? client.request(.release(key: key)) }
      _ = try? client.request(.shutdown)
    }
    for stray in strays { kill(stray, SIGKILL) }
    temporary.remove()
  }
}

/// Runs a test with a hold of its own.
func withHold(_ body: (HoldFixture, HoldConnection) throws -> Void) throws {
  let fixture = try HoldFixture()
  defer { fixture.end() }
  try body(fixture, try fixture.connect())
}

/// A client that waits for each answer; events that come meanwhile are kept.
final class HoldConnection {
  let socket: FileDescriptor
  var events: [HoldEvent] = []
  private var lastID: UInt64 = 0
  private var answers: [UInt64: (HoldReply, [FileDescriptor])] = [:]

  struct Closed: Error {}
  struct Unexpected: Error { var reply: HoldReply }

  init(_ path: String) throws {
    socket = try PacketSocket.connect(path)
    _ = try request(.hello(version: HoldProtocol.version))
  }

  deinit { try? socket.close() }

  /// Sends, without waiting.
  func send(_ request: HoldRequest, _ descriptors: [FileDescriptor] = []) throws -> UInt64 {
    lastID += 1
    try send(raw: request.encoded(id: lastID), descriptors)
    return lastID
  }

  func send(raw bytes: [UInt8], _ descriptors: [FileDescriptor] = []) throws {
    #expect(try PacketSocket.send(bytes, descriptors, on: socket))
  }

  func answer(to id: UInt64) throws -> (HoldReply, [FileDescriptor]) {
    while answers[id] == nil { try receive() }
    return answers.removeValue(forKey: id)!
  }

  func receive() throws {
    guard try waitReadable(socket, milliseconds: 20_000) else { throw Closed() }
    switch try PacketSocket.receive(on: socket, limit: 65_536, descriptorLimit: 64) {
    case .packet(let bytes, let descriptors):
      switch try HoldMessage(packet: bytes) {
      case .event(let event): events.append(event)
      case .reply(let id, let reply): answers[id] = (reply, descriptors)
      }
    default: throw Closed()
    }
  }

  @discardableResult
  func request(
    _ request: HoldRequest, _ descriptors: [FileDescriptor] = []
  ) throws -> (HoldReply, [FileDescriptor]) {
    try answer(to: send(request, descriptors))
  }

  func status() throws -> HoldStatus {
    let (reply, _) = try request(.status)
    guard case .status(let status) = reply else { throw Unexpected(reply: reply) }
    return status
  }

  func list() throws -> [Holding] {
    var all: [Holding] = []
    while true {
      let (reply, _) = try request(.list(after: all.last?.key ?? ""))
      guard case .holdings(let page, let more) = reply else { throw Unexpected(reply: reply) }
      all += page
      if !more { return all }
    }
  }

  func spawn(
    _ spawn: SpawnRequest, _ descriptors: [FileDescriptor] = []
  ) throws -> SpawnResult {
    let (reply, _) = try request(.spawn(spawn), descriptors)
    guard case .spawned(let result) = reply else { throw Unexpected(reply: reply) }
    return result
  }

  func refusal(
    _ asked: HoldRequest, _ descriptors: [FileDescriptor] = []
  ) throws -> HoldRefusal {
    let (reply, _) = try request(asked, descriptors)
    guard case .refused(let refusal) = reply else { throw Unexpected(reply: reply) }
    return refusal
  }

  /// The next event, from those that came or by waiting.
  func nextEvent() throws -> HoldEvent {
    while events.isEmpty { try receive() }
    return events.removeFirst()
  }
}

extension SpawnRequest {
  /// A shell script.
  static func shell(_ key: String, _ script: String, wait: Bool = true) -> SpawnRequest {
    SpawnRequest(
      key: key, executable: "/bin/sh", arguments: ["sh", "-c", script],
      environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], output: .capture, error: .capture,
      waitForExit: wait)
  }
}

extension String {
  fileprivate func components(before marker: String) -> String {
    range(of: marker).map { String(self[..<$0.lowerBound]) } ?? self
  }

  fileprivate func range(of marker: String) -> Range<Index>? {
    firstRange(of: marker)
  }
}
