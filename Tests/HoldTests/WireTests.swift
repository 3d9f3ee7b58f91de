import HoldProtocol
import LinuxSystem
import Testing
import Wire

/// Bytes of messages, field by field: a change here is a change of the protocol's version.
@Suite struct WireTests {
  /// 2: a spawn's mounts may be `processes`, of which a hold of version 1 makes nothing.
  @Test func version() throws {
    #expect(HoldProtocol.version == 3)
    let request = HoldRequest.spawn(
      SpawnRequest(
        key: "k", executable: "/x", arguments: [], environment: [],
        mounts: [.processes(target: "/p")]))
    let mount: [UInt8] = [1, 0, 9, 2, 0, 0x2f, 0x70]
    #expect(try request.encoded(id: 1).firstRange(of: mount) != nil)
  }

  @Test func helloIsTenBytesAndAVersion() throws {
    let bytes: [UInt8] = [
      0x2a, 0, 0, 0, 0, 0, 0, 0,  // id 42
      1, 0,  // kind: hello
      1, 0,  // version 1
    ]
    #expect(try HoldRequest.hello(version: 1).encoded(id: 42) == bytes)
    #expect(try HoldRequest(packet: bytes) == .hello(version: 1))
  }

  @Test func makeNamespaces() throws {
    let bytes: [UInt8] = [
      1, 0, 0, 0, 0, 0, 0, 0,  // id 1
      3, 0,  // kind: makeNamespaces
      2, 0, 0x76, 0x31,  // key "v1"
      1,  // a uid range follows
      0xa0, 0x86, 1, 0,  // from 100,000
      0, 0, 1, 0,  // 65,536 of them
      1,  // a network namespace too
    ]
    let request = HoldRequest.makeNamespaces(
      key: "v1", users: UserRange(hostStart: 100_000, count: 65_536), network: true)
    #expect(try request.encoded(id: 1) == bytes)
    #expect(try HoldRequest(packet: bytes) == request)
  }

  @Test func spawn() throws {
    var spawn = SpawnRequest(key: "k", executable: "/a", arguments: ["a"])
    spawn.environment = ["X=1"]
    spawn.output = .log(path: "/l", limit: 0x1_0000)
    spawn.error = .capture
    spawn.input = .descriptor(.passed(2))
    spawn.descriptors = [.init(source: .held(key: "n", .network), target: 7)]
    spawn.cgroups = ["/c"]
    spawn.mounts = [.unmount(target: "/m")]
    spawn.unshare = [.ipc, .uts]
    spawn.join = [.passed(0)]
    spawn.user = UserIdentity(uid: 1, gid: 2, groups: [3])
    spawn.oomScoreAdjustment = -5
    spawn.limits = [ResourceLimit(resource: 7, soft: 8, hard: 9)]
    spawn.noNewPrivileges = true
    spawn.waitForExit = true
    spawn.adoptPidFile = "/p"
    spawn.timeoutMilliseconds = 1000
    spawn.sharedMounts = 3
    let bytes: [UInt8] = [
      9, 0, 0, 0, 0, 0, 0, 0,  // id 9
      4, 0,  // kind: spawn
      1, 0, 0x6b,  // key "k"
      2, 0, 0x2f, 0x61,  // executable "/a"
      1, 0, 1, 0, 0x61,  // one argument: "a"
      1, 0, 3, 0, 0x58, 0x3d, 0x31,  // one variable: "X=1"
      1, 0, 0x2f,  // working directory "/"
      3, 1, 2, 0,  // input: a descriptor, passed, number 2
      2, 2, 0, 0x2f, 0x6c, 0, 0, 1, 0, 0, 0, 0, 0,  // output: a log "/l" of 65,536 bytes
      4,  // error: captured
      1, 0, 2, 1, 0, 0x6e, 2, 7, 0, 0, 0,  // one descriptor: of "n", its network, as 7
      1, 0, 2, 0, 0x2f, 0x63,  // one cgroup: "/c"
      1, 1, 0, 8, 2, 0, 0x2f, 0x6d,  // mounts: one, unmount "/m"
      6,  // unshare: ipc 2, uts 4
      1, 0, 1, 0, 0,  // join one: passed, number 0
      1, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 3, 0, 0, 0,  // user: uid 1, gid 2, one group: 3
      1, 0xfb, 0xff, 0xff, 0xff,  // oom score -5
      1, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,  // limit 7: 8, 9
      1,  // no new privileges
      0,  // no terminal
      1,  // wait for the exit
      1, 2, 0, 0x2f, 0x70,  // pid file "/p"
      0xe8, 3, 0, 0,  // 1,000 ms
      1, 3, 0, 0, 0,  // by a zygote, which has done three mounts
    ]
    #expect(try HoldRequest.spawn(spawn).encoded(id: 9) == bytes)
    #expect(try HoldRequest(packet: bytes) == .spawn(spawn))
  }

  @Test func replies() throws {
    let process = ProcessIdentity(pid: 258, startTicks: 5, handle: [1, 2])
    let spawned = HoldMessage.reply(
      id: 3, .spawned(SpawnResult(process: process, exit: .killed(signal: 9), errorTail: "x")))
    let bytes: [UInt8] = [
      3, 0, 0, 0, 0, 0, 0, 0,  // id 3
      4, 0,  // kind: spawned
      2, 1, 0, 0,  // pid 258
      5, 0, 0, 0, 0, 0, 0, 0,  // start 5
      2, 0, 1, 2,  // handle
      1, 2, 9, 0, 0, 0,  // ended: killed by 9
      1, 0, 0x78,  // stderr "x"
    ]
    #expect(try spawned.encoded() == bytes)
    #expect(try HoldMessage(packet: bytes) == spawned)
    let event = HoldMessage.event(.exited(key: "k", .exited(code: 2)))
    let eventBytes: [UInt8] = [
      0, 0, 0, 0, 0, 0, 0, 0,  // no request's id
      1, 0,  // kind: exited
      1, 0, 0x6b,  // key "k"
      1, 2, 0, 0, 0,  // exited with 2
    ]
    #expect(try event.encoded() == eventBytes)
    #expect(try HoldMessage(packet: eventBytes) == event)
  }

  @Test(arguments: [
    HoldRequest.status, .wait(key: "ключ"), .signal(key: "k", number: 15), .release(key: "k"),
    .acknowledge(key: "k"), .rename(key: "k", to: "l"), .list(after: ""), .open(key: "k"),
    .store(key: "k"),
    .adopt(key: "k", ProcessIdentity(pid: 1, startTicks: 2, handle: [])),
    .keepLog(key: "k", path: "/l", limit: .max), .upgrade(path: "/u"), .shutdown,
    .spawn(
      SpawnRequest(
        key: "k", executable: "/a", arguments: ["a"],
        mounts: [
          .makePrivate(path: "/"), .makeDirectory(path: "/d", mode: 0o700, owner: nil),
          .tmpfs(target: "/t", size: 1, mode: 2, owner: .init(user: 3, group: 4)),
          .bind(source: "/s", target: "/t", attributes: [.readOnly, .noDevices], recursive: true),
          .move(source: "/s", target: "/t"), .processes(target: "/p"),
          .overlay(lower: ["/1", "/2"], upper: "", work: "", target: "/t"),
          .idmappedBind(
            source: "/s", target: "/t", userNamespace: "n", attributes: [], recursive: false),
        ])),
  ])
  func everyRequestComesBack(_ request: HoldRequest) throws {
    let bytes = try request.encoded(id: 7)
    #expect(try HoldRequest(packet: bytes) == request)
    // No shorter form of it is a message, and none that is longer.
    for count in 0..<bytes.count {
      #expect(throws: WireError.self) { try HoldRequest(packet: Array(bytes[..<count])) }
    }
    #expect(throws: WireError.trailing(1)) { try HoldRequest(packet: bytes + [0]) }
  }

  @Test func whatIsNotKnownIsNamed() {
    #expect(throws: WireError.unknownTag(what: "request", tag: 999)) {
      try HoldRequest(packet: [1, 0, 0, 0, 0, 0, 0, 0, 0xe7, 3])
    }
    // A key of 3 bytes with a NUL within.
    #expect(throws: WireError.badString) {
      try HoldRequest(packet: [1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 3, 0, 0x61, 0, 0x62])
    }
    #expect(throws: WireError.tooLong) {
      try HoldRequest.list(after: String(repeating: "x", count: 65_536)).encoded(id: 1)
    }
  }

  /// Random changes of a message never trap and never read beyond it.
  @Test func noBytesMakeTheReaderTrap() throws {
    var random = SystemRandomNumberGenerator()
    let original = try HoldRequest.spawn(
      SpawnRequest(
        key: "k", executable: "/a", arguments: ["a", "b"], cgroups: ["/c"],
        mounts: [.overlay(lower: ["/1"], upper: "/u", work: "/w", target: "/t")])
    ).encoded(id: 1)
    for _ in 0..<20_000 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 8..<bytes.count, using: &random)] = .random(
          in: 0...255, using: &random)
      }
      if let request = try? HoldRequest(packet: bytes) {
        #expect(try request.encoded(id: 1).count == bytes.count)
      }
    }
  }
}
