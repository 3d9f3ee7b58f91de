import Glibc
import HoldProtocol
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// Deaths and replacements, in every order.
@Suite(.timeLimit(.minutes(2)), .needs(.root))
struct SurvivalTests {
  @Test func whatHappensWithoutAClientIsThereForTheNext() throws {
    try withHold { fixture, first in
      var client: HoldConnection? = first
      let result = try client!.spawn(
        .shell("a", "sleep 0.1; exit 3", wait: false))
      _ = try client!.request(.makeNamespaces(key: "n", users: nil, network: true))
      PacketSocket.shutDown(first.socket)
      client = nil
      usleep(300_000)
      let second = try fixture.connect()
      #expect(
        try second.list() == [
          Holding(key: "a", state: .exited(result.process, .exited(code: 3))),
          Holding(key: "n", state: .namespaces(user: false, network: true)),
        ])
      #expect(try second.request(.wait(key: "a")).0 == .exited(.exited(code: 3)))
      let (reply, descriptors) = try second.request(.open(key: "n"))
      #expect(reply == .descriptors([.network]))
      for descriptor in descriptors { try descriptor.close() }
    }
  }

  /// A client killed with its request in flight, as `kill -9` of the daemon does.
  @Test func aSpawnGoesOnWhenItsClientDies() throws {
    try withHold { fixture, client in
      let dying = try fixture.connect()
      _ = try dying.send(.spawn(.shell("a", "sleep 0.2; exit 4")))
      PacketSocket.shutDown(dying.socket)
      #expect(try client.nextEvent() == .exited(key: "a", .exited(code: 4)))
      #expect(try client.request(.acknowledge(key: "a")).0 == .done)
    }
  }

  @Test func aWorkloadOutlivesTheHoldAndIsAdoptedByTheNext() throws {
    try withHold { fixture, client in
      let log = fixture.folder + "/log"
      var request = SpawnRequest.shell(
        "a", "read x; echo written after death || exit 2; exit 6", wait: false)
      request.output = .log(path: log, limit: 4096)
      let (read, write) = try makePipe()
      request.input = .descriptor(.passed(0))
      let process = try client.spawn(request, [read]).process
      try read.close()
      fixture.strays = [process.pid]
      try fixture.killHold()
      try fixture.start()
      let next = try fixture.connect()
      #expect(try next.list().isEmpty)
      #expect(
        try next.request(.adopt(key: "a", process)).0
          == .spawned(SpawnResult(process: process, exit: nil, errorTail: "")))
      #expect(
        try next.request(.keepLog(key: "a", path: log, limit: 4096)).0 == .done)
      try write.close()
      // Linux 6.15 tells how a process ended that is no child.
      let status = try next.request(.wait(key: "a")).0
      #expect(status == .exited(.exited(code: 6)))
      #expect(try readFile(log, limit: 100) == Array("written after death\n".utf8))
      // Until the host's init has taken note of its end it is there to be adopted.
      for _ in 0..<500 where fileExists("/proc/\(process.pid)") { sleepThread(milliseconds: 10) }
      #expect(try next.refusal(.adopt(key: "b", process)).code == .system)
      fixture.strays = []
    }
  }

  @Test func anotherProcessWithTheSamePidIsNotAdopted() throws {
    try withHold { _, client in
      var process = try client.spawn(.shell("a", "exec sleep 100", wait: false)).process
      process.startTicks -= 1
      process.handle = []
      let refusal = try client.refusal(.adopt(key: "b", process))
      #expect(refusal.errno == ESRCH)
    }
  }

  @Test func aSecondHoldIsKeptAway() throws {
    try withHold { fixture, client in
      let starter = try spawnDetached(
        HoldFixture.program,
        arguments: ["martlet-hold", "--socket", fixture.socket, "--detach"], environment: [])
      #expect(try waitForChild(starter) == .exited(code: 3))
      #expect(try client.status().pid == fixture.pid)
    }
  }

  @Test func anUpgradeKeepsChildrenDescriptorsAndConnections() throws {
    try withHold { fixture, client in
      let process = try client.spawn(
        .shell("a", "sleep 0.5; exit 8", wait: false)
      ).process
      _ = try client.request(
        .makeNamespaces(
          key: "n", users: UserRange(hostStart: 500_000, count: 10), network: true))
      let (read, write) = try makePipe()
      _ = try client.request(.store(key: "p"), [write])
      try write.close()
      let before = try client.list()
      let waiting = try client.send(.wait(key: "a"))
      let spawning = try client.send(.spawn(.shell("b", "sleep 0.5; echo ok >&2")))
      let (reply, _) = try client.request(.upgrade(path: HoldFixture.program))
      guard case .status(let status) = reply else {
        Issue.record("\(reply)")
        return
      }
      #expect(status.pid == fixture.pid)
      #expect(status.upgrades == 1)
      #expect(try client.list().filter { $0.key != "b" } == before)
      #expect(before.contains(Holding(key: "a", state: .running(process))))
      #expect(try client.answer(to: waiting).0 == .exited(.exited(code: 8)))
      guard case .spawned(let spawned) = try client.answer(to: spawning).0 else {
        Issue.record("the spawn in flight was lost")
        return
      }
      #expect(spawned.exit == .exited(code: 0))
      #expect(spawned.errorTail == "ok\n")
      let (_, opened) = try client.request(.open(key: "p"))
      try writeAll([1], to: opened[0])
      #expect(try readSome(of: read, limit: 9) == [1])
      for descriptor in opened + [read] { try descriptor.close() }
      // Nothing but what is kept stays open over the exec.
      #expect(try client.request(.release(key: "n")).0 == .done)
      #expect(try client.request(.upgrade(path: HoldFixture.program)).0 != .done)
    }
  }

  @Test func aProgramThatIsNoHoldDoesNotReplaceIt() throws {
    try withHold { fixture, client in
      #expect(try client.refusal(.upgrade(path: "/bin/false")).code == .system)
      #expect(try client.refusal(.upgrade(path: "/nowhere")).code == .system)
      let status = try client.status()
      #expect(status.pid == fixture.pid)
      #expect(status.upgrades == 0)
    }
  }

  /// Who connects while there are no descriptors is served when there are, and nobody else notices.
  @Test func aHoldWithoutDescriptorsGoesOn() throws {
    try withHold { fixture, client in
      func ticks() throws -> Int {
        let stat = String(
          decoding: try readFile("/proc/\(fixture.pid)/stat", limit: 4096), as: UTF8.self)
        let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
        return (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0)
      }
      try limitDescriptors(of: fixture.pid, to: 0)
      let socket = try PacketSocket.connect(fixture.socket)
      defer { try? socket.close() }
      _ = try PacketSocket.send(
        HoldRequest.hello(version: HoldProtocol.version).encoded(id: 1), on: socket)
      let before = try ticks()
      #expect(try !waitReadable(socket, milliseconds: 500))
      #expect(try client.status().pid == fixture.pid)
      #expect(try ticks() - before < 20)
      try limitDescriptors(of: fixture.pid, to: 1024)
      #expect(try waitReadable(socket, milliseconds: 5000))
      guard
        case .packet = try PacketSocket.receive(on: socket, limit: 65_536, descriptorLimit: 8)
      else {
        Issue.record("the hold closed the connection")
        return
      }
    }
  }

  @Test func namespacesAreRenamedAndProcessesAreNot() throws {
    try withHold { fixture, client in
      for key in ["a", "b"] {
        let (_, copies) = try client.request(
          .makeNamespaces(
            key: key, users: UserRange(hostStart: 500_000, count: 10), network: true))
        for copy in copies { try copy.close() }
      }
      _ = try client.spawn(.shell("p", "true"))
      let (_, before) = try client.request(.open(key: "a"))
      #expect(try client.request(.rename(key: "a", to: "c")).0 == .done)
      let (_, after) = try client.request(.open(key: "c"))
      let (first, second) = (try before.map { try inode($0) }, try after.map { try inode($0) })
      #expect(first == second && Set(first).count == 2)
      for descriptor in before + after { try descriptor.close() }
      #expect(try client.refusal(.open(key: "a")).code == .notFound)
      #expect(try client.refusal(.rename(key: "a", to: "d")).code == .notFound)
      #expect(try client.refusal(.rename(key: "b", to: "c")).code == .exists)
      #expect(try client.refusal(.rename(key: "b", to: "")).code == .malformed)
      #expect(try client.refusal(.rename(key: "p", to: "q")).code == .wrongState)
      #expect(try client.list().map { $0.key } == ["b", "c", "p"])
    }
  }

  private func inode(_ descriptor: FileDescriptor) throws -> UInt64 {
    var status = stat()
    #expect(fstat(descriptor.rawValue, &status) == 0)
    return UInt64(status.st_ino)
  }

  @Test func orphansAreReaped() throws {
    try withHold { fixture, client in
      let result = try client.spawn(.shell("a", "(sleep 0.1 & echo $! >&2)"))
      let pid = try #require(
        Int32(result.errorTail.split(separator: "\n").first.map(String.init) ?? ""))
      usleep(300_000)
      #expect(kill(pid, 0) == -1)
    }
  }
}

@Suite(.timeLimit(.minutes(2)), .needs(.root))
struct LogTests {
  @Test func aLogStaysBoundedAndItsEndIsWhole() throws {
    try withHold { fixture, client in
      let log = fixture.folder + "/log"
      let limit: UInt64 = 1 << 20
      var request = SpawnRequest.shell(
        "a",
        "i=0; while [ $i -lt 120000 ]; do echo \"line $i of a hundred thousand\"; i=$((i+1)); done")
      request.output = .log(path: log, limit: limit)
      #expect(try client.spawn(request).exit == .exited(code: 0))
      // The hold looks at it once more after the last line.
      usleep(1_500_000)
      let file = try openFile(log, .read)
      defer { try? file.close() }
      let size = try fileSize(file)
      #expect(size.length > 3 * limit)
      #expect(size.allocated <= limit + 65_536)
      let end = try readRange(of: file, from: size.length - 1000, limit: 1000)
      #expect(String(decoding: end, as: UTF8.self).hasSuffix("line 119999 of a hundred thousand\n"))
      // The newest three quarters are there, byte for byte at their offsets.
      let kept = try readRange(of: file, from: size.length - limit / 2, limit: Int(limit / 2))
      #expect(!kept.contains(0))
      // Only its end is bounded: what is released is not.
      #expect(try client.request(.acknowledge(key: "a")).0 == .done)
    }
  }
}

@Suite(.timeLimit(.minutes(2)), .needs(.root))
struct RefusalTests {
  @Test func anUnknownRequestIsAnsweredByItsID() throws {
    try withHold { _, client in
      try client.send(raw: [77, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3])
      guard case .refused(let refusal) = try client.answer(to: 77).0 else {
        Issue.record("not refused")
        return
      }
      #expect(refusal.code == .unknownRequest)
      #expect(try client.status().holdings == 0)
    }
  }

  @Test func malformedRequestsAreRefusedAndChangeNothing() throws {
    try withHold { _, client in
      try client.send(raw: [78, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0xff, 0xff])
      guard case .refused(let refusal) = try client.answer(to: 78).0 else {
        Issue.record("not refused")
        return
      }
      #expect(refusal.code == .malformed)
      #expect(try client.refusal(.spawn(.shell("", "true"))).code == .malformed)
      #expect(
        try client.refusal(.spawn(.shell(String(repeating: "k", count: 256), "true"))).code
          == .malformed)
      var spawn = SpawnRequest.shell("a", "true")
      spawn.descriptors = [DescriptorMapping(source: .passed(0), target: 5)]
      #expect(try client.refusal(.spawn(spawn)).code == .malformed)
      spawn.descriptors = [DescriptorMapping(source: .held(key: "x", .network), target: 5)]
      #expect(try client.refusal(.spawn(spawn)).code == .notFound)
      #expect(try client.refusal(.store(key: "s")).code == .malformed)
      #expect(
        try client.refusal(
          .makeNamespaces(
            key: "n", users: UserRange(hostStart: .max, count: 2), network: true)
        ).code == .malformed)
      #expect(try client.refusal(.open(key: "x")).code == .notFound)
      #expect(try client.refusal(.hello(version: 999)).code == .unsupportedVersion)
      #expect(try client.list().isEmpty)
    }
  }

  @Test func anOversizedMessageClosesItsConnectionAlone() throws {
    try withHold { fixture, client in
      let other = try fixture.connect()
      try other.send(raw: [UInt8](repeating: 1, count: HoldProtocol.maximumMessageSize + 1))
      #expect(throws: HoldConnection.Closed.self) { try other.receive() }
      let third = try fixture.connect()
      let copies = [FileDescriptor](
        repeating: .standardError, count: HoldProtocol.maximumDescriptors + 1)
      try third.send(raw: try HoldRequest.status.encoded(id: 5), copies)
      #expect(throws: HoldConnection.Closed.self) { try third.receive() }
      #expect(try client.status().pid == fixture.pid)
    }
  }

  /// Descriptors that come with refused or other requests don't stay in the hold.
  @Test func descriptorsThatAreNotKeptAreClosed() throws {
    try withHold { fixture, client in
      let (read, write) = try makePipe()
      _ = try client.request(.status, [write])
      _ = try client.refusal(.store(key: ""), [write])
      try write.close()
      #expect(try readSome(of: read, limit: 1).isEmpty)
      try read.close()
    }
  }

  @Test func aThousandHoldingsAreListedInPages() throws {
    try withHold { _, client in
      let (read, write) = try makePipe()
      var names: [String] = []
      for number in 1000..<2000 {
        let name = String(repeating: "x", count: 200) + "\(number)"
        names.append(name)
        #expect(try client.request(.store(key: name), [read]).0 == .done)
      }
      try read.close()
      try write.close()
      #expect(try client.list().map(\.key) == names)
      #expect(try client.status().holdings == 1000)
    }
  }
}
