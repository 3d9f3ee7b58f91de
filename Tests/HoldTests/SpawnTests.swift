import Glibc
import HoldProtocol
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2)), .needs(.root))
struct SpawnTests {
  @Test func anExitStatusIsToldAndKeptUntilAcknowledged() throws {
    try withHold { fixture, client in
      let result = try client.spawn(.shell("a", "echo oops >&2; exit 7"))
      #expect(result.exit == .exited(code: 7))
      #expect(result.errorTail == "oops\n")
      #expect(try client.nextEvent() == .exited(key: "a", .exited(code: 7)))
      #expect(
        try client.list() == [
          Holding(key: "a", state: .exited(result.process, .exited(code: 7)))
        ])
      #expect(try client.request(.acknowledge(key: "a")).0 == .done)
      #expect(try client.list().isEmpty)
    }
  }

  @Test func aProgramThatIsNotThereIsToldWithItsStep() throws {
    try withHold { _, client in
      let refusal = try client.refusal(
        .spawn(SpawnRequest(key: "a", executable: "/nowhere", arguments: ["x"])))
      #expect(refusal.code == .launch)
      #expect(refusal.errno == ENOENT)
      #expect(refusal.message.hasPrefix("exec: execve /nowhere"))
      #expect(try client.list().isEmpty)
    }
  }

  @Test func aFailingMountIsToldWithItsNumber() throws {
    try withHold { _, client in
      var request = SpawnRequest.shell("a", "true")
      request.mounts = [
        .tmpfs(target: "/mnt", size: 4096, mode: 0o755, owner: nil),
        .bind(source: "/nowhere", target: "/mnt", attributes: [], recursive: false),
      ]
      let refusal = try client.refusal(.spawn(request))
      #expect(refusal.code == .launch)
      #expect(refusal.errno == ENOENT)
      #expect(refusal.message.hasPrefix("mounts[1] bind: open_tree /nowhere"))
    }
  }

  @Test func mountsAreSeenByTheProgramAlone() throws {
    try withHold { fixture, client in
      var request = SpawnRequest.shell(
        "a",
        """
        set -e
        test "$(stat -c %a:%u /mnt)" = 750:7
        mkdir /mnt/low /mnt/up /mnt/work /mnt/all 2>/dev/null || true
        touch /mnt/all/new
        test -e /mnt/up/up/new
        ! touch /mnt/etc/x 2>/dev/null
        test -e /mnt/etc/passwd
        """)
      request.mounts = [
        .tmpfs(target: "/mnt", size: 1 << 20, mode: 0o750, owner: .init(user: 7, group: 7)),
        .makeDirectory(path: "/mnt/up", mode: 0o755, owner: nil),
        .makeDirectory(path: "/mnt/up/up", mode: 0o755, owner: nil),
        .makeDirectory(path: "/mnt/up/work", mode: 0o755, owner: nil),
        .makeDirectory(path: "/mnt/all", mode: 0o755, owner: nil),
        .makeDirectory(path: "/mnt/etc", mode: 0o755, owner: nil),
        .overlay(lower: ["/etc"], upper: "/mnt/up/up", work: "/mnt/up/work", target: "/mnt/all"),
        .bind(source: "/etc", target: "/mnt/etc", attributes: .readOnly, recursive: false),
      ]
      let result = try client.spawn(request)
      #expect(result.exit == .exited(code: 0), "\(result.errorTail)")
      #expect(access("/mnt/up", F_OK) == -1)
    }
  }

  @Test func namespacesOfAHoldingAreJoinedAndMapped() throws {
    try withHold { _, client in
      let (reply, descriptors) = try client.request(
        .makeNamespaces(
          key: "n", users: UserRange(hostStart: 500_000, count: 65_536), network: true))
      #expect(reply == .descriptors([.user, .network]))
      #expect(descriptors.count == 2)
      for descriptor in descriptors { try descriptor.close() }
      var request = SpawnRequest.shell(
        "a",
        """
        set -e
        test "$(cat /proc/self/uid_map | tr -s ' ')" = " 0 500000 65536"
        test "$(ls /sys/class/net | wc -l)" -gt 0
        test "$(tail -n +3 /proc/net/dev | wc -l)" = 1
        test "$(stat -c %u /mnt/passwd)" = 0
        """)
      request.mounts = [
        .idmappedBind(
          source: "/etc", target: "/mnt", userNamespace: "n", attributes: .readOnly,
          recursive: false)
      ]
      request.join = [.held(key: "n", .user), .held(key: "n", .network)]
      request.user = UserIdentity(uid: 0, gid: 0)
      let result = try client.spawn(request)
      #expect(result.exit == .exited(code: 0), "\(result.errorTail)")
    }
  }

  @Test func namespacesAreEachMappedToTheirOwnIDs() throws {
    try withHold { hold, client in
      func openFiles() throws -> Int { try listFolder("/proc/\(hold.pid)/fd").count }
      func make(_ number: Int) throws -> UInt64 {
        let (reply, descriptors) = try client.request(
          .makeNamespaces(
            key: "n\(number)",
            users: UserRange(hostStart: UInt32(500_000 + number * 65_536), count: 65_536),
            network: true))
        #expect(reply == .descriptors([.user, .network]))
        var status = stat()
        #expect(fstat(descriptors[1].rawValue, &status) == 0)
        for descriptor in descriptors { try descriptor.close() }
        return UInt64(status.st_ino)
      }
      let before = try openFiles()
      var networks = [try make(0)]
      // What they were made with is closed.
      #expect(try openFiles() == before + 2)
      for number in 1...6 { networks.append(try make(number)) }
      #expect(Set(networks).count == networks.count)
      for number in 0...6 {
        var request = SpawnRequest.shell(
          "a\(number)",
          """
          test "$(cat /proc/self/uid_map /proc/self/gid_map | tr -s ' ' | uniq)" = \
            " 0 \(500_000 + number * 65_536) 65536"
          """)
        request.join = [.held(key: "n\(number)", .user), .held(key: "n\(number)", .network)]
        let result = try client.spawn(request)
        #expect(result.exit == .exited(code: 0), "\(number): \(result.errorTail)")
      }
    }
  }

  @Test func onlyNamedDescriptorsArrive() throws {
    try withHold { _, client in
      let (read, write) = try makePipe()
      defer {
        try? read.close()
        try? write.close()
      }
      var request = SpawnRequest.shell("a", "ls /proc/self/fd | tr '\\n' ' ' >&5")
      request.descriptors = [DescriptorMapping(source: .passed(0), target: 5)]
      #expect(try client.spawn(request, [write]).exit == .exited(code: 0))
      let text = String(decoding: try readSome(of: read, limit: 100), as: UTF8.self)
      // 3 is the folder that ls reads.
      #expect(text == "0 1 2 3 5 ")
    }
  }

  @Test func attributesReachTheProgram() throws {
    try withHold { _, client in
      var request = SpawnRequest.shell(
        "a",
        """
        set -e
        test "$(id -u):$(id -g):$(id -G)" = "12:34:34 56"
        test "$(cat /proc/self/oom_score_adj)" = 321
        test "$(ulimit -n)" = 99
        grep -q 'NoNewPrivs:.1' /proc/self/status
        grep -q 'SigBlk:.0000000000000000' /proc/self/status
        grep -q 'SigIgn:.0000000000000000' /proc/self/status
        test "$PWD" = /usr
        """)
      request.workingDirectory = "/usr"
      request.user = UserIdentity(uid: 12, gid: 34, groups: [56])
      request.oomScoreAdjustment = 321
      request.limits = [ResourceLimit(resource: 7, soft: 99, hard: 99)]
      request.noNewPrivileges = true
      let result = try client.spawn(request)
      #expect(result.exit == .exited(code: 0), "\(result.errorTail)")
    }
  }

  @Test func aProgramThatTakesTooLongIsKilled() throws {
    try withHold { _, client in
      var request = SpawnRequest.shell("a", "sleep 100")
      request.timeoutMilliseconds = 100
      let refusal = try client.refusal(.spawn(request))
      #expect(refusal.code == .timedOut)
      #expect(refusal.exit == .killed(signal: SIGKILL))
      #expect(try client.list().isEmpty)
    }
  }

  @Test func aSignalReachesItsProcess() throws {
    try withHold { _, client in
      _ = try client.spawn(.shell("a", "exec sleep 100", wait: false))
      #expect(try client.refusal(.acknowledge(key: "a")).code == .wrongState)
      let waiting = try client.send(.wait(key: "a"))
      #expect(try client.request(.signal(key: "a", number: SIGTERM)).0 == .done)
      #expect(try client.answer(to: waiting).0 == .exited(.killed(signal: SIGTERM)))
      #expect(try client.refusal(.signal(key: "a", number: SIGTERM)).code == .wrongState)
    }
  }

  @Test func aKeyIsTakenOnce() throws {
    try withHold { _, client in
      _ = try client.spawn(.shell("a", "exec sleep 100", wait: false))
      #expect(try client.refusal(.spawn(.shell("a", "true"))).code == .exists)
      #expect(try client.refusal(.shutdown).code == .wrongState)
    }
  }

  /// As `crun run --detach --pid-file` does: a child that stays, a parent that ends.
  @Test func whatARuntimeLeavesBehindIsAdopted() throws {
    try withHold { fixture, client in
      let file = fixture.folder + "/pid"
      var request = SpawnRequest.shell(
        "a", "sh -c 'read x; exit 9' <&7 >/dev/null 2>&1 & echo $! >\(file)")
      let (read, write) = try makePipe()
      request.descriptors = [DescriptorMapping(source: .passed(0), target: 7)]
      request.adoptPidFile = file
      let result = try client.spawn(request, [read])
      try read.close()
      #expect(result.exit == nil)
      #expect(result.process.startTicks > 0)
      #expect(try client.list() == [Holding(key: "a", state: .running(result.process))])
      try write.close()
      #expect(try client.nextEvent() == .exited(key: "a", .exited(code: 9)))
    }
  }

  @Test func aWorkloadThatEndedBeforeItsRuntimeIsNotMissed() throws {
    try withHold { fixture, client in
      let file = fixture.folder + "/pid"
      // The intermediate shell ends, so that the inner one is the hold's orphan and is reaped at once.
      var request = SpawnRequest.shell(
        "a", "sh -c 'sh -c \"exit 5\" & echo $! >\(file)'; sleep 0.2")
      request.adoptPidFile = file
      let result = try client.spawn(request)
      #expect(result.exit == .exited(code: 5))
      #expect(try client.request(.wait(key: "a")).0 == .exited(.exited(code: 5)))
    }
  }

  @Test func aRuntimeThatFailsIsToldWithItsLastWords() throws {
    try withHold { fixture, client in
      var request = SpawnRequest.shell("a", "echo no cgroup for you >&2; exit 1")
      request.adoptPidFile = fixture.folder + "/pid"
      let refusal = try client.refusal(.spawn(request))
      #expect(refusal.code == .runtime)
      #expect(refusal.exit == .exited(code: 1))
      #expect(refusal.message == "no cgroup for you\n")
      #expect(try client.list().isEmpty)
    }
  }
}
