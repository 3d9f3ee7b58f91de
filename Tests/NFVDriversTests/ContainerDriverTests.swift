import Glibc
import HoldProtocol
import LinuxSystem
import NFVModel
import SystemPackage
import TestSupport
import Testing

@testable import NFVDrivers

@Suite(
  .serialized, .timeLimit(.minutes(3 * slowness)), .needs(.root, .crun))
struct ContainerDriverTests {
  @Test("A container runs to its end; its status and output are told, and nothing is left")
  func runsToItsEnd() async throws {
    try await withContainers { fixture in
      let (status, output) = try await fixture.output("echo out; echo err >&2; exit 3")
      #expect(status == .exited(code: 3))
      #expect(output == "out\nerr\n")
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("It keeps what every driver keeps")
  func contract() async throws {
    try await withContainers { fixture in
      try await DriverContract(
        driver: fixture.driver, endless: fixture.specification("endless", ["/bin/sleep", "1000"]),
        ending: fixture.specification("ending", ["/bin/sh", "-c", "exit 3"])
      ).check()
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("It sees its document, its files and environment, its own user 0 and its own host name")
  func seesWhatItIsGiven() async throws {
    try await withContainers { fixture in
      let (status, output) = try await fixture.output(
        """
        cat /run/martlet/config.json; echo
        cat /etc/given.conf; echo $GIVEN; id -u; cat /proc/sys/kernel/hostname
        echo written > /root/file && cat /root/file
        ls -ln /proc/self/fd/0 > /dev/null && cat && echo input ended
        """, files: [.init(path: "/etc/given.conf", content: Array("rule\n".utf8), mode: 0o644)])
      #expect(status == .exited(code: 0))
      #expect(
        output == """
          {"generation":1}
          rule
          yes
          0
          script
          written
          input ended

          """)
    }
  }

  @Test("A paused container stands still; commands are refused until it goes on")
  func pauses() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("loop", "while :; do echo x; done")
      func length() async throws -> UInt64 {
        let log = try openFile("\(fixture.folder)/log/\(id.name).log", .read)
        defer { try? log.close() }
        return try fileSize(log).length
      }
      try await eventually("it writes") { try await length() > 0 }
      try await fixture.driver.pause(id)
      let paused = try await length()
      let error = await #expect(throws: NFVError.self) {
        _ = try await fixture.driver.execute(ExecRequest(arguments: ["/bin/sh"]), in: id)
      }
      #expect(error?.code == .conflict && error?.message.contains("paused") == true)
      try await Task.sleep(for: .milliseconds(50))
      #expect(try await length() == paused)
      try await fixture.driver.resume(id)
      try await eventually("it goes on") { try await length() > paused }
      try await fixture.driver.pause(id)
      try await fixture.driver.delete(id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("What is dangerous is refused: system calls, capabilities, /sys, /proc")
  func isConfined() async throws {
    try await withContainers { fixture in
      let (_, output) = try await fixture.output(
        """
        mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED
        unshare -U true 2>/dev/null && echo UNSHARED
        (echo x > /sys/kernel/uevent_helper) 2>/dev/null && echo SYS
        touch /sys/x 2>/dev/null && echo SYS
        (echo w > /proc/sysrq-trigger) 2>/dev/null && echo SYSRQ
        (echo 1 > /proc/sys/kernel/panic) 2>/dev/null && echo SYSCTL
        head -c 1 /proc/kcore 2>/dev/null | cat
        touch /run/martlet/x 2>/dev/null && echo DOCUMENTS
        ls /sys/class/net
        while read name value rest; do
          case $name in CapBnd:|NoNewPrivs:|Seccomp:) echo $name $value;; esac
        done < /proc/self/status
        """)
      // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7.
      #expect(output == "lo\nCapBnd: 00000000000000fb\nNoNewPrivs: 1\nSeccomp: 2\n")
      // Runtimes give a standard stream's node to the container's user.
      var status = stat()
      #expect(stat("/dev/null", &status) == 0 && status.st_uid == 0)
    }
  }

  @Test(
    "It runs under its store's AppArmor profile, and so do commands in it; the profile goes at last",
    .needs(.apparmor, .apparmorParser))
  func hasSecurityProfile() async throws {
    try await withContainers { fixture in
      guard case .appArmor(let name) = fixture.driver.securityProfile else {
        Issue.record("\(fixture.driver.securityProfile)")
        return
      }
      #expect(name.hasPrefix("martlet-\(fixture.store)-"))
      #expect(try AppArmor.profiles().contains(name))
      // Which anybody may read who is not confined.
      #expect(try !readFile("/proc/kallsyms", limit: 64).isEmpty)
      let script = """
        cat /proc/self/attr/current; (read line < /proc/kallsyms) || echo denied
        nft list ruleset && echo permitted
        """
      let id = try await fixture.run(
        "confined", script + "; exec sleep 1000", capabilities: ["NET_ADMIN"])
      let said = "\(name) (enforce)\ndenied\npermitted\n"
      func log() async throws -> String {
        let chunk = try await fixture.driver.log(of: id, from: 0, limit: 4096)
        return String(decoding: chunk.bytes, as: UTF8.self)
      }
      try await eventually("it has said all") { try await log().contains("permitted") }
      let lines = try await log().split(separator: "\n")
      #expect(lines.first == "\(name) (enforce)")
      #expect(lines.contains { $0.contains("/proc/kallsyms: Permission denied") }, "\(lines)")
      #expect(lines.suffix(2) == ["denied", "permitted"])
      let session = try await fixture.driver.execute(
        ExecRequest(arguments: ["/bin/sh", "-c", "(\(script)) 2>/dev/null"]), in: id)
      var output = ""
      for await event in session.output {
        if case .standardOutput(let bytes) = event {
          output += String(decoding: bytes, as: UTF8.self)
        }
      }
      #expect(output == said)
      // A daemon with other rules finds it under those that it was started with.
      let other = try await fixture.host.connect()
      let next = try ContainerDriver(fixture.configuration, hold: other)
      #expect(next.securityProfile(of: id) == .appArmor(name))
      other.close()
      // Polite ends reach it: the hold is not confined.
      try await fixture.driver.leaveHost()
      #expect(try AppArmor.profiles().contains(name), "a container may run under it")
      try await fixture.driver.delete(id)
      try await fixture.driver.leaveHost()
      #expect(try !AppArmor.profiles().contains(name))
    }
  }

  @Test("Namespaces are taken from a stock, which goes with its daemon")
  func namespacesWaitInStock() async throws {
    try await withContainers { fixture in
      func spares() async throws -> Set<String> {
        Set(try await fixture.hold.list().map { $0.key }.filter { $0.hasPrefix("spare:") })
      }
      _ = try await fixture.driver.observe()
      try await eventually("it is full") { try await spares().count == 4 }
      let first = try await spares()
      let id = try await fixture.run("a", "exec sleep 100")
      #expect(first.subtracting(try await spares()).count == 1)
      try await eventually("it is full again") { try await spares().count == 4 }
      let second = try await spares()
      // The next daemon gives up what this one leaves.
      let other = try await fixture.host.connect()
      defer { other.close() }
      let next = try ContainerDriver(fixture.configuration, hold: other)
      _ = try await next.observe()
      try await eventually("its own is full") { try await spares().count == 4 }
      #expect(try await spares().isDisjoint(with: second))
      try await next.leaveHost()
      #expect(try await spares() == [])
      // What the hold has no more is not taken.
      _ = try await fixture.driver.observe()
      try await fixture.driver.delete(id)
      let another = try await fixture.run("b", "exec sleep 100")
      try await fixture.driver.delete(another)
    }
  }

  @Test("A host without AppArmor is said to have none")
  func saysWhatHolds() async throws {
    try await withContainers { fixture in
      guard case .none(let reason) = fixture.driver.securityProfile else {
        #expect(AppArmor.isEnabled)
        return
      }
      #expect(!AppArmor.isEnabled && !reason.isEmpty)
    }
  }

  @Test("nftables work under NET_ADMIN; another capability is refused")
  func capabilities() async throws {
    try await withContainers { fixture in
      let (status, output) = try await fixture.output(
        "nft add table inet t && nft list tables", capabilities: ["NET_ADMIN"])
      #expect(status == .exited(code: 0), "\(output)")
      #expect(output == "table inet t\n")
      let asked = fixture.specification("asks", ["/bin/sh"], capabilities: ["SYS_ADMIN"])
      let error = await #expect(throws: NFVError.self) { try await fixture.driver.prepare(asked) }
      #expect(error?.code == .unprocessable)
      #expect(error?.message.contains("SYS_ADMIN") == true)
      try await fixture.driver.delete(asked.id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("More memory than the limit is told as such; the writable layer counts")
  func outOfMemory() async throws {
    try await withContainers { fixture in
      let (status, _) = try await fixture.output(
        "cat /dev/zero | tail -c 200m", memory: 16 << 20)
      #expect(status == .outOfMemory)
      let (layered, _) = try await fixture.output(
        "exec head -c 48m /dev/zero > /big", memory: 16 << 20, writable: 64 << 20)
      #expect(layered == .outOfMemory)
      let (full, output) = try await fixture.output(
        "head -c 4m /dev/zero > /big && echo FITS", writable: 1 << 20)
      #expect(full != .exited(code: 0))
      #expect(!output.contains("FITS"))
    }
  }

  @Test("A root without a writable layer is read-only")
  func readOnlyRoot() async throws {
    try await withContainers { fixture in
      let (_, output) = try await fixture.output(
        "touch /x 2>/dev/null && echo WRITTEN; touch /run/x && echo run", writable: 0)
      #expect(output == "run\n")
    }
  }

  @Test("It is observed as prepared, running and exited; limits hold; stop ends it")
  func observed() async throws {
    try await withContainers { fixture in
      let driver = fixture.driver
      let specification = fixture.specification("life", ["/bin/sleep", "1000"])
      let id = specification.id
      _ = try await driver.prepare(specification)
      _ = try await driver.prepare(specification)
      #expect(
        try await driver.observe() == [ObservedWorkload(id: id, phase: .prepared, generation: 1)])
      try await driver.start(specification)
      try await driver.start(specification)
      #expect(
        try await driver.observe() == [ObservedWorkload(id: id, phase: .running, generation: 1)])
      guard case .networkNamespace(let namespace) = try await driver.attachmentPoint(of: id) else {
        throw NFVError(.failed, "no network namespace")
      }
      #expect(try isNamespace(FileDescriptor(rawValue: namespace.fileDescriptor)))
      let usage = try await driver.usage(of: id)
      #expect(usage.processes == 1)
      #expect((1...(16 << 20)).contains(usage.memoryBytes))
      #expect(usage.cpuNanoseconds > 0)
      // sleep is a first process without a handler: SIGTERM does not reach it.
      try await driver.stop(id, grace: .milliseconds(20))
      #expect(
        try await driver.observe()
          == [ObservedWorkload(id: id, phase: .exited(.killed(signal: 9)), generation: 1)])
      var exits = driver.exits.makeAsyncIterator()
      #expect(await exits.next() == WorkloadExit(id: id, status: .killed(signal: 9)))
      try await driver.delete(id)
      try await driver.delete(id)
      #expect(try await driver.observe() == [])
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("SIGTERM is given its time")
  func politeStop() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run(
        "polite", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done")
      try await eventually("it is up") {
        try await !fixture.driver.log(of: id, from: 0, limit: 10).bytes.isEmpty
      }
      try await fixture.driver.stop(id, grace: .seconds(5))
      let (status, output) = try await fixture.finish(id)
      #expect(status == .exited(code: 7))
      #expect(output == "up\nbye\n")
    }
  }

  @Test("Who takes time to end holds up no thread")
  func gracesPassTogether() async throws {
    let thread = BlockingExecutor(threads: 1, name: "martlet-test")
    try await withContainers { fixture in
      var ids: [WorkloadID] = []
      for name in ["a", "b", "c"] {
        ids.append(try await fixture.run(name, "trap '' TERM; exec sleep 1000"))
      }
      let start = ContinuousClock.now
      try await withThrowingTaskGroup(of: Void.self) { group in
        for id in ids {
          group.addTask(executorPreference: thread) {
            try await fixture.driver.stop(id, grace: .seconds(2))
          }
        }
        try await group.waitForAll()
      }
      let time = ContinuousClock.now - start
      #expect(time > .seconds(2) && time < .seconds(5))
    }
  }

  @Test("A new daemon finds what the last one started")
  func newDaemon() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("stays", "sleep 1000")
      let other = try await HoldClient.connect(
        socket: fixture.folder + "/hold.socket", program: "/nonexistent")
      defer { other.close() }
      let driver = try ContainerDriver(fixture.configuration, hold: other)
      #expect(
        try await driver.observe() == [ObservedWorkload(id: id, phase: .running, generation: 1)])
      // Its range of user ids is taken.
      let second = fixture.specification("second", ["/bin/sh", "-c", "cat /proc/self/uid_map"])
      _ = try await driver.prepare(second)
      try await driver.start(second)
      let map = try await fixture.finish(second.id).output
      #expect(map != String(decoding: try readFile("/proc/self/uid_map", limit: 99), as: UTF8.self))
      let session = try await driver.execute(
        ExecRequest(arguments: ["/bin/cat", "/proc/self/uid_map"]), in: id)
      #expect(try await collect(session).output != map)
    }
  }

  @Test("Containers whose hold was killed are the next one's, who tells their ends")
  func newHold() async throws {
    try await withContainers { fixture in
      let staying = try await fixture.run("stays", "sleep 1000")
      let going = try await fixture.run("goes", "sleep 1000")
      var exits = fixture.driver.exits.makeAsyncIterator()
      try await fixture.host.killHold()
      try fixture.driver.group(going).kill()
      let first = await exits.next()
      #expect(first?.id == going)
      let kept = try await fixture.hold.list().map(\.key)
      #expect(kept.contains("workload:\(staying)"))
      try fixture.driver.group(staying).kill()
      let second = await exits.next()
      #expect(second?.id == staying)
    }
  }

  @Test("A container that a hold could not adopt is not taken for dead")
  func cannotBeAdopted() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("stays", "sleep 1000")
      try await fixture.host.killHold()
      try await fixture.host.untilHoldAnswers()
      let hold = try await fixture.hold.status().pid
      try limitDescriptors(of: hold, to: 0)
      await #expect(throws: NFVError.self) { _ = try await fixture.driver.observe() }
      try limitDescriptors(of: hold, to: 1024)
      #expect(
        try await fixture.driver.observe() == [
          ObservedWorkload(id: id, phase: .running, generation: 1)
        ])
    }
  }

  // MARK: Commands inside

  /// Everything that a command writes, and how it ends.
  func collect(
    _ session: any ExecSession
  ) async throws -> (output: String, error: String, status: NFVModel.ExitStatus?) {
    var output: [UInt8] = []
    var error: [UInt8] = []
    var status: NFVModel.ExitStatus?
    for await piece in session.output {
      switch piece {
      case .standardOutput(let bytes): output += bytes
      case .standardError(let bytes): error += bytes
      case .exited(let ended): status = ended
      }
    }
    return (
      String(decoding: output, as: UTF8.self), String(decoding: error, as: UTF8.self), status
    )
  }

  @Test("A command inside: its streams apart, its input, its status, as confined as the workload")
  func executes() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("host", "sleep 1000")
      let session = try await fixture.driver.execute(
        ExecRequest(
          arguments: [
            "/bin/sh", "-c",
            """
            cat; echo $EXTRA; echo problem >&2
            mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED
            while read name value rest; do
              case $name in CapBnd:|NoNewPrivs:|Seccomp:) echo $name $value;; esac
            done < /proc/self/status
            exit 5
            """,
          ], environment: ["EXTRA=more"]), in: id)
      try await session.write(Array("typed\n".utf8))
      await session.closeInput()
      let (output, error, status) = try await collect(session)
      #expect(
        output == "typed\nmore\nCapBnd: 00000000000000fb\nNoNewPrivs: 1\nSeccomp: 2\n")
      #expect(error == "problem\n")
      #expect(status == .exited(code: 5))
      await #expect(throws: NFVError.self) { try await session.write([1]) }
    }
  }

  @Test("What cannot be run ends as in a shell, and says why")
  func tellsWhatCannotBeRun() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("host", "echo x > /tmp/text; exec sleep 1000")
      for (command, code, words) in [
        ("nosuch", 127, "executable file `nosuch` not found in $PATH"),
        ("/tmp/text", 126, "open executable: Permission denied"),
      ] as [(String, Int32, String)] {
        let session = try await fixture.driver.execute(ExecRequest(arguments: [command]), in: id)
        let (output, error, status) = try await collect(session)
        #expect(output == "" && error.hasPrefix(words), "\(error)")
        #expect(status == .exited(code: code))
      }
      let folder = "\(fixture.folder)/run/workloads/\(id.name)"
      #expect(try listFolder(folder).filter { $0.hasPrefix("exec-") } == [])
    }
  }

  @Test("A command at a terminal sees its size and its changes")
  func executesAtTerminal() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("host", "sleep 1000")
      let session = try await fixture.driver.execute(
        ExecRequest(
          // crun 1.8 may set the size when the command runs already.
          arguments: [
            "/bin/sh", "-c",
            """
            until [ "$(stty size)" != "0 0" ]; do :; done
            stty size; read line; stty size; exit 4
            """,
          ],
          terminal: .init(rows: 30, columns: 100)), in: id)
      var text = ""
      var status: NFVModel.ExitStatus?
      for await piece in session.output {
        switch piece {
        case .standardOutput(let bytes):
          text += String(decoding: bytes, as: UTF8.self)
          if text == "30 100\r\n" {
            await session.resize(.init(rows: 40, columns: 120))
            sleepThread(milliseconds: 100)
            try await session.write(Array("go\n".utf8))
          }
        case .standardError: Issue.record("a terminal has no standard error")
        case .exited(let ended): status = ended
        }
      }
      #expect(text == "30 100\r\ngo\r\n40 120\r\n")
      #expect(status == .exited(code: 4))
    }
  }

  @Test("A command that is not there is told, with and without a terminal")
  func executesMissing() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("host", "sleep 1000")
      for terminal in [nil, ExecRequest.TerminalSize(rows: 30, columns: 100)] {
        let session = try await fixture.driver.execute(
          ExecRequest(arguments: ["/no/such/program"], terminal: terminal), in: id)
        let (output, error, status) = try await collect(session)
        // The runtime may say it at the terminal that it has just made.
        #expect(
          (output + error).contains("/no/such/program"), "\(String(describing: terminal))")
        #expect(status != .exited(code: 0))
      }
    }
  }

  @Test("A cancelled command is gone, and a container with a running command can be removed")
  func cancelsCommand() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("host", "sleep 1000")
      let cancelled = try await fixture.driver.execute(
        ExecRequest(arguments: ["/bin/sleep", "1000"]), in: id)
      await cancelled.cancel()
      #expect(try await collect(cancelled).status == .killed(signal: 9))
      let running = try await fixture.driver.execute(
        ExecRequest(arguments: ["/bin/sleep", "1000"]), in: id)
      try await fixture.driver.delete(id)
      #expect(try await collect(running).status != .exited(code: 0))
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test(
    "What a command started goes with its session, also where nobody reads on, or its daemon died")
  func commandsLeaveNothing() async throws {
    try await withContainers { fixture in
      let id = try await fixture.run("host", "exec sleep 1000")
      let folder = "\(fixture.folder)/run/workloads/\(id.name)"
      // A number that nobody else sleeps for.
      let command = "sleep \(99_000_000 + Int.random(in: 1..<1_000_000))"
      func running() throws -> Int {
        try listFolder("/proc").filter { $0.allSatisfy(\.isNumber) }.count { pid in
          let line = (try? readFile("/proc/\(pid)/cmdline", limit: 4096)) ?? []
          // The shell's or its child's; a zombie has no line any more.
          return String(decoding: line.map { $0 == 0 ? 32 : $0 }, as: UTF8.self).contains(command)
        }
      }
      func expectNothing(_ what: String) async throws {
        try await eventually(what) { try running() == 0 }
        #expect(
          try await fixture.hold.list().filter { $0.key.hasPrefix("exec:") }.map(\.key) == [])
        #expect(try listFolder(folder).filter { $0.hasPrefix("exec-") } == [])
      }
      func execute() async throws -> any ExecSession {
        let session = try await fixture.driver.execute(
          ExecRequest(arguments: ["/bin/sh", "-c", "\(command) & while :; do :; done"]), in: id)
        try await eventually("it runs") { try running() == 2 }
        return session
      }
      try await execute().cancel()
      try await expectNothing("a cancelled command's processes are gone")

      let session = try await execute()
      let hold = try await fixture.host.connect()
      let next = try ContainerDriver(fixture.configuration, hold: hold)
      _ = try await fixture.driver.observe()
      #expect(try running() == 2)
      _ = try await next.observe()
      _ = try await collect(session)
      try await expectNothing("the next daemon ends what the last one's commands are")
      hold.close()
      try await fixture.driver.delete(id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  // MARK: Runtimes that fail

  @Test("A command that is not in the image is told with the runtime's own words")
  func commandMissing() async throws {
    try await withContainers { fixture in
      let specification = fixture.specification("missing", ["/no/such/program"])
      _ = try await fixture.driver.prepare(specification)
      let error = await #expect(throws: NFVError.self) {
        try await fixture.driver.start(specification)
      }
      #expect(error?.cause?.contains("/no/such/program") == true, "\(String(describing: error))")
      try await fixture.driver.delete(specification.id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("A runtime that hangs is killed at its time limit")
  func runtimeHangs() async throws {
    let folder = try TemporaryFolder(mode: 0o711)
    defer { folder.remove() }
    let path = try folder.write("hanging", "#!/bin/sh\nsleep 1000\n")
    chmod(path, 0o755)
    try await withContainers(runtimePath: path, startLimit: .milliseconds(300)) { fixture in
      let specification = fixture.specification("hangs", ["/bin/sh"])
      _ = try await fixture.driver.prepare(specification)
      let error = await #expect(throws: NFVError.self) {
        try await fixture.driver.start(specification)
      }
      #expect(error?.code == .timeout)
      try await fixture.driver.delete(specification.id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("runc runs it as well, as confined", .needs(.runc))
  func runc() async throws {
    let path = try #require(Facility.path(of: "runc"))
    try await withContainers(runtime: .runc, runtimePath: path) { fixture in
      let (status, output) = try await fixture.output(
        """
        mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED
        touch /sys/x 2>/dev/null && echo SYS
        ls /sys/class/net
        while read name value rest; do
          case $name in CapBnd:|NoNewPrivs:|Seccomp:) echo $name $value;; esac
        done < /proc/self/status
        exit 3
        """)
      #expect(status == .exited(code: 3))
      #expect(output == "lo\nCapBnd: 00000000000000fb\nNoNewPrivs: 1\nSeccomp: 2\n")
      #expect(try await fixture.leftovers() == [])
    }
  }
}
