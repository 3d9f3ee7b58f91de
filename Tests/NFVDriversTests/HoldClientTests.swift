import Glibc
import HoldProtocol
import LinuxSystem
import NFVDrivers
import SystemPackage
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1)), .needs(.root))
struct HoldClientTests {
  /// Runs a test with a client of a hold that the client starts; both end with it.
  func withClient(_ body: (HoldClient, String) async throws -> Void) async throws {
    let folder = try TemporaryFolder()
    let socket = folder.path + "/socket"
    let client = try await HoldClient.connect(
      socket: socket, program: Built.program("martlet-hold"))
    let result: Result<Void, any Error>
    do {
      // What waits for an answer at the time limit gets its end.
      result = .success(
        try await withTaskCancellationHandler {
          try await body(client, socket)
        } onCancel: {
          client.close()
        })
    } catch {
      result = .failure(error)
    }
    client.close()
    let last = try await HoldClient.connect(socket: socket, program: Built.program("martlet-hold"))
    for holding in try await last.list() {
      if case .running = holding.state {
        try await last.signal(key: holding.key, SIGKILL)
        _ = try await last.wait(key: holding.key).value()
      }
      try await last.release(key: holding.key)
    }
    try await last.shutdown()
    last.close()
    folder.remove()
    try result.get()
  }

  func shell(_ key: String, _ script: String, wait: Bool) -> SpawnRequest {
    SpawnRequest(
      key: key, executable: "/bin/sh", arguments: ["sh", "-c", script],
      environment: ["PATH=/usr/bin:/bin"], waitForExit: wait)
  }

  @Test func manyRequestsAreInFlight() async throws {
    try await withClient { client, _ in
      // The first ends last: were answers taken in order, the others would wait for it.
      let slow = shell("slow", "sleep 0.5", wait: true)
      let first = client.spawn(slow)
      try await withThrowingTaskGroup(of: (Int, LinuxSystem.ExitStatus?).self) { group in
        for number in 0..<50 {
          let request = shell("s\(number)", "exit \(number)", wait: true)
          group.addTask { (number, try await client.spawn(request).value().exit) }
        }
        for try await (number, status) in group {
          #expect(status == .exited(code: Int32(number)))
        }
      }
      #expect(try await first.value().exit == .exited(code: 0))
      #expect(try await client.list().count == 51)
    }
  }

  @Test func refusalsAreErrors() async throws {
    try await withClient { client, _ in
      let error = await #expect(throws: HoldError.self) { try await client.open(key: "x") }
      guard case .refused(let refusal)? = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(refusal.code == .notFound)
    }
  }

  @Test func descriptorsComeBackByRole() async throws {
    try await withClient { client, _ in
      let made = try await client.makeNamespaces(
        key: "n", users: UserRange(hostStart: 500_000, count: 10), network: true
      ).value()
      #expect(Set(made.keys) == [.user, .network])
      let opened = try await client.open(key: "n")
      #expect(try inode(made[.network]) == inode(opened[.network]))
      #expect(try inode(made[.user]) != inode(opened[.network]))
      for descriptor in Array(made.values) + Array(opened.values) { try descriptor.close() }
    }
  }

  @Test func aDeadHoldIsReplacedAndSaidSo() async throws {
    try await withClient { client, _ in
      var events = client.events.makeAsyncIterator()
      let process = try await client.spawn(shell("a", "exec sleep 100", wait: false)).value()
        .process
      let old = try await client.status().pid
      let waiting = client.wait(key: "a")
      // Requests are taken in order: once this is answered, the hold has the wait.
      _ = try await client.status()
      kill(old, SIGKILL)
      do {
        Issue.record("\(try await waiting.value())")
      } catch {
        #expect(error as? HoldError == .lost)
      }
      #expect(await events.next() == .lost)
      guard case .connected(let status)? = await events.next() else {
        Issue.record("not connected again")
        return
      }
      #expect(status.pid != old)
      _ = try await client.adopt(key: "a", process)
      try await client.signal(key: "a", SIGTERM)
      #expect(await events.next() == .exited(key: "a", .killed(signal: SIGTERM)))
      try await client.acknowledge(key: "a")
    }
  }

  @Test func anUpgradeIsNotNoticed() async throws {
    try await withClient { client, _ in
      _ = try await client.spawn(shell("a", "sleep 0.3; exit 2", wait: false)).value()
      let end = client.wait(key: "a")
      #expect(try await client.upgrade(path: Built.program("martlet-hold")).upgrades == 1)
      #expect(try await end.value() == .exited(code: 2))
    }
  }

  @Test func aClosedClientEndsItsEventsAndRefuses() async throws {
    try await withClient { _, socket in
      let other = try await HoldClient.connect(
        socket: socket, program: Built.program("martlet-hold"))
      other.close()
      for await event in other.events { #expect(event == .lost) }
      await #expect(throws: HoldError.lost) { try await other.status() }
    }
  }

  private func inode(_ descriptor: FileDescriptor?) throws -> UInt64 {
    var status = stat()
    try #require(fstat(try #require(descriptor).rawValue, &status) == 0)
    return UInt64(status.st_ino)
  }
}
