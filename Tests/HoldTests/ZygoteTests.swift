import Glibc
import HoldProtocol
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// Programs that are forked from one that was loaded before, as those that are executed.
@Suite(.timeLimit(.minutes(2)), .needs(.root))
struct ZygoteTests {
  /// Where the C library is, which differs with each execution; by the shell itself.
  private static let place =
    "while read -r line; do case $line in *libc.so*) echo \"${line%%-*}\"; break;; esac; done "
    + "< /proc/self/maps"

  private func shell(
    _ key: String, _ script: String, program: String = "/bin/sh"
  ) -> SpawnRequest {
    var request = SpawnRequest.shell(key, script)
    request.executable = program
    request.sharedMounts = 1
    request.mounts = [
      .tmpfs(target: "/mnt", size: 4096, mode: 0o755, owner: nil), .processes(target: "/proc"),
    ]
    request.unshare = [.network, .ipc, .uts, .pid]
    return request
  }

  private func said(_ client: HoldConnection, _ request: SpawnRequest) throws -> String {
    let result = try client.spawn(request)
    #expect(result.exit == .exited(code: 0), "\(result.errorTail)")
    return result.errorTail
  }

  /// Asks until two in a row have the same places in memory, which those that are executed never have.
  private func untilForked(
    _ client: HoldConnection, _ tag: String, program: String = "/bin/sh"
  ) throws -> String {
    var last = ""
    for number in 0..<200 {
      let place = try said(
        client, shell("\(tag)\(number)", Self.place + " >&2", program: program))
      if place == last, !place.isEmpty { return place }
      last = place
      usleep(20_000)
    }
    Issue.record("nothing was forked")
    return ""
  }

  @Test func aSecondProgramIsForked() throws {
    try withHold { _, client in
      let place = try untilForked(client, "a")
      #expect(try said(client, shell("b", Self.place + " >&2")) == place)
      // Who wants none gets none.
      var request = shell("c", Self.place + " >&2")
      request.sharedMounts = nil
      #expect(try said(client, request) != place)
    }
  }

  @Test func everythingAskedForReachesIt() throws {
    try withHold { fixture, client in
      _ = try untilForked(client, "a")
      let (read, write) = try makePipe()
      defer { try? read.close() }
      let group = "/sys/fs/cgroup/memory/martlet-test-\(getpid())"
      let hasGroup = mkdir(group, 0o755) == 0
      defer { rmdir(group) }
      var request = shell(
        "b",
        """
        set -e
        test "$#" = 3; test "$1" = "one two"; test -z "$2"; test "$3" = end
        test "$$" = 1
        test "$(id -u):$(id -g):$(id -G)" = "12:34:34 56"
        test "$PWD" = /
        test "$(env | grep -c -e LD_PRELOAD -e MARTLET)" = 0
        test "$PATH" = /usr/sbin:/usr/bin:/sbin:/bin
        grep -q 'NoNewPrivs:.1' /proc/self/status
        grep -q 'CapEff:.0000000000000000' /proc/self/status
        grep -q 'SigBlk:.0000000000000000' /proc/self/status
        test "$(ls -d /proc/[0-9]* | wc -l)" -lt 5
        test -z "$(ls /mnt)"
        test "$(wc -l < /proc/self/net/dev)" = 3
        \(hasGroup ? "grep -q \(group.split(separator: "/").last!) /proc/self/cgroup" : "true")
        test "$(tr '\\0' '|' < /proc/$$/cmdline | head -c 6)" = "sh|-c|"
        ls /proc/self/fd | tr '\\n' ' ' >&5
        """)
      request.arguments += ["zero", "one two", "", "end"]
      request.user = UserIdentity(uid: 12, gid: 34, groups: [56])
      request.noNewPrivileges = true
      request.descriptors = [DescriptorMapping(source: .passed(0), target: 5)]
      request.cgroups = hasGroup ? [group] : []
      let result = try client.spawn(request, [write])
      try write.close()
      #expect(result.exit == .exited(code: 0), "\(result.errorTail)")
      let text = String(decoding: try readSome(of: read, limit: 100), as: UTF8.self)
      #expect(text == "0 1 2 3 5 ")
    }
  }

  @Test func itsEndIsTold() throws {
    try withHold { fixture, client in
      _ = try untilForked(client, "a")
      #expect(try client.spawn(shell("b", "echo oops >&2; exit 7")).exit == .exited(code: 7))
      var request = shell("c", "exec sleep 100")
      request.waitForExit = false
      let process = try client.spawn(request).process
      // A child of the hold's, though another process has forked it.
      let deadline = ContinuousClock.now + .seconds(5)
      while try parent(process.pid) != fixture.pid, ContinuousClock.now < deadline { usleep(1000) }
      #expect(try parent(process.pid) == fixture.pid)
      _ = try client.request(.signal(key: "c", number: SIGKILL))
      #expect(try client.request(.wait(key: "c")).0 == .exited(.killed(signal: SIGKILL)))
    }
  }

  @Test func whatCannotBeDoneIsToldAsOfOneThatIsExecuted() throws {
    try withHold { _, client in
      let place = try untilForked(client, "a")
      var request = shell("b", "true")
      request.cgroups = ["/tmp"]
      let refusal = try client.refusal(.spawn(request))
      #expect(refusal.code == .launch)
      #expect(refusal.message.hasPrefix("cgroup: "))
      // In the copy itself: /proc has no such folder.
      request = shell("c", "true")
      request.mounts = [
        .tmpfs(target: "/mnt", size: 4096, mode: 0o755, owner: nil), .processes(target: "/nowhere"),
      ]
      let second = try client.refusal(.spawn(request))
      #expect(second.errno == ENOENT)
      #expect(second.message.contains("processes"))
      // It may have been the zygote's fault: another takes its place.
      #expect(try untilForked(client, "d") != place)
    }
  }

  @Test func oneThatIsGoneIsReplaced() throws {
    try withHold { fixture, client in
      let place = try untilForked(client, "a")
      #expect(try signal(SIGKILL, childrenOf: fixture.pid) == 1)
      let next = try untilForked(client, "b")
      #expect(next != place)
    }
  }

  @Test func oneThatHangsIsGivenUpAndNothingStartsTwice() throws {
    try withHold { fixture, client in
      _ = try untilForked(client, "a")
      #expect(try signal(SIGSTOP, childrenOf: fixture.pid) == 1)
      let path = fixture.folder + "/started"
      let request = shell("b", "echo once >> \(path)")
      #expect(try client.spawn(request).exit == .exited(code: 0))
      _ = try signal(SIGCONT, childrenOf: fixture.pid)
      usleep(300_000)
      #expect(String(decoding: try readFile(path, limit: 100), as: UTF8.self) == "once\n")
      _ = try untilForked(client, "c")
    }
  }

  @Test func aProgramThatWasReplacedIsLoadedAgain() throws {
    try withHold { fixture, client in
      let program = "/usr/local/bin/martlet-test-\(getpid())"
      func install() throws {
        let octets = try readFile("/bin/sh", limit: 1 << 24)
        try removeFile(program)
        let target = try openFile(program, .append)
        try writeAll(octets, to: target)
        chmod(program, 0o755)
        try target.close()
      }
      defer { unlink(program) }
      try install()
      let place = try untilForked(client, "a", program: program)
      try install()
      #expect(try untilForked(client, "b", program: program) != place)
      let inode = try said(
        client,
        shell("c", "read -r _ < /proc/self/maps; ls -L -i /proc/$$/exe >&2", program: program))
      var status = stat()
      stat(program, &status)
      #expect(inode.split(separator: " ").first.map(String.init) == "\(status.st_ino)")
    }
  }

  private func parent(_ pid: Int32) throws -> Int32? {
    let status = String(decoding: try readFile("/proc/\(pid)/status", limit: 4096), as: UTF8.self)
    return status.split(separator: "\n").first { $0.hasPrefix("PPid:") }
      .flatMap { Int32($0.dropFirst(6)) }
  }

  /// - Returns: how many there are.
  private func signal(_ number: Int32, childrenOf process: Int32) throws -> Int {
    let children = try folder("/proc").compactMap { Int32($0) }.filter {
      (try? parent($0)) == process
    }
    for child in children { kill(child, number) }
    return children.count
  }

  private func folder(_ path: String) throws -> [String] {
    var names: [String] = []
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    while let entry = Glibc.readdir(folder) {
      names.append(
        withUnsafeBytes(of: entry.pointee.d_name) {
          String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        })
    }
    return names
  }
}
