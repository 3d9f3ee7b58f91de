import Archive
import ControlProtocol
import FoundationEssentials
import Glibc
import HoldProtocol
import LinuxSystem
import NFVImages
import NFVModel
import SystemPackage
import TestSupport
import Testing

@testable import NFVDrivers

@Suite(
  .serialized, .timeLimit(.minutes(3)), .needs(.root, .qemu))
struct QEMUDriverTests {
  @Test("It keeps what every driver keeps, on each board", arguments: ["microvm", "pc", "q35"])
  func contract(board: String) async throws {
    try await withMachines { fixture in
      try await DriverContract(
        driver: fixture.driver,
        endless: fixture.specification(
          "endless", try fixture.image(TinyKernel.saysHi, board: board)),
        ending: fixture.specification(
          "ending", try fixture.image(TinyKernel.exitsWith3, board: board))
      ).check()
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("QEMU is confined: its own user and namespaces, no capabilities, filtered calls, a group")
  func isConfined() async throws {
    try await withMachines { fixture in
      let specification = fixture.specification("vm", try fixture.image(TinyKernel.saysHi))
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      let other = fixture.specification("other", try fixture.image(TinyKernel.saysHi))
      _ = try await fixture.driver.prepare(other)
      try await fixture.driver.start(other)
      func status(_ id: WorkloadID) throws -> [String: String] {
        let process = try #require(fixture.driver.workloads.folder(id).process)
        let text = try readFile("/proc/\(process.pid)/status", limit: 8192)
        var values: [String: String] = ["pid": "\(process.pid)"]
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
          let parts = line.split(separator: "\t", maxSplits: 1)
          if parts.count == 2 { values[String(parts[0])] = String(parts[1]) }
        }
        return values
      }
      let values = try status(specification.id)
      #expect(values["NoNewPrivs:"] == "1" && values["Seccomp:"] == "2")
      #expect(values["CapEff:"] == "0000000000000000" && values["CapBnd:"] != nil)
      #expect(values["Groups:"]?.allSatisfy(\.isWhitespace) ?? true)
      let user = try #require(values["Uid:"]?.split(separator: "\t").first.flatMap { UInt32($0) })
      #expect((0xF_0000..<0x10_0000).contains(user))
      #expect(try status(other.id)["Uid:"] != values["Uid:"])
      let pid = try #require(values["pid"])
      for kind in ["mnt", "net", "pid", "ipc", "uts"] {
        var (mine, its) = (stat(), stat())
        #expect(stat("/proc/self/ns/\(kind)", &mine) == 0)
        #expect(stat("/proc/\(pid)/ns/\(kind)", &its) == 0)
        #expect(mine.st_ino != its.st_ino, "\(kind)")
      }
      for folder in ["root", "sys", "var"] {
        #expect(try listFolder("/proc/\(pid)/root/\(folder)").isEmpty, "\(folder)")
      }
      // Of all processes it sees its own, and nothing else of the host in /proc.
      let seen = try listFolder("/proc/\(pid)/root/proc")
      #expect(Set(seen) == ["1", "self", "thread-self"], "\(seen)")
      let namespaces = values["NSpid:"]?.split(separator: "\t")
      #expect(namespaces?.last == "1" && (namespaces?.count ?? 0) > 1)
      let group = "martlet/\(fixture.store)/\(specification.id.name)"
      let groups = String(
        decoding: try readFile("/proc/\(pid)/cgroup", limit: 8192), as: UTF8.self)
      #expect(groups.split(separator: "\n").count { $0.hasSuffix("/\(group)") } >= 1, "\(groups)")
      for name in try listFolder("/proc/\(pid)/fd") {
        let target = try FileManager.default.destinationOfSymbolicLink(
          atPath: "/proc/\(pid)/fd/\(name)")
        let isOwn = ["/dev/null", "socket:", "pipe:", "anon_inode:", "/memfd:", fixture.folder]
          .contains(where: target.hasPrefix)
        #expect(isOwn, "descriptor \(name) is \(target)")
      }
      let usage = try await fixture.driver.usage(of: specification.id)
      #expect(usage.memoryBytes > 1 << 20 && usage.memoryBytes < 128 << 20 && usage.processes > 1)
      let guest = try #require(usage.guestCPUNanoseconds)
      #expect(guest > 0 && guest < usage.cpuNanoseconds)
      #expect(try await fixture.output(of: specification.id) == "hi\n")
    }
  }

  @Test("A machine is found again by the next daemon, and after the hold was killed too")
  func isAdopted() async throws {
    try await withMachines { fixture in
      let specification = fixture.specification("vm", try fixture.image(TinyKernel.saysHi))
      let id = specification.id
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      fixture.driver.machines.forget(id)
      let (next, hold) = try await fixture.successor()
      #expect(try await next.observe() == [ObservedWorkload(id: id, phase: .running)])
      let status = try await next.machines[id].execute("query-status", timeout: .seconds(5))
      guard case .object(let members) = status else {
        Issue.record("\(status)")
        return
      }
      #expect(members["status"] == .string("running"))
      // One client at a time: the next connects when this one has gone.
      next.machines.forget(id)

      let old = try openPidfd(try await fixture.hold.status().pid)
      try sendSignal(SIGKILL, to: old)
      _ = try waitReadable(old, milliseconds: 5000)
      try old.close()
      try await fixture.host.untilHoldAnswers()
      #expect(try await fixture.driver.observe() == [ObservedWorkload(id: id, phase: .running)])
      try await fixture.driver.stop(id, grace: .zero)
      // It is no child of the hold: it has ended when its parent has reaped it.
      var observed = try await fixture.driver.observe()
      for _ in 0..<500 where observed.first?.phase == .running {
        try await Task.sleep(for: .milliseconds(10))
        observed = try await fixture.driver.observe()
      }
      guard case .exited? = observed.first?.phase else {
        Issue.record("a stopped machine is observed as ended")
        return
      }
      try await fixture.driver.delete(id)
      hold.close()
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("A killed QEMU is told as such; one whose guest writes without end is bounded")
  func ends() async throws {
    try await withMachines { fixture in
      let specification = fixture.specification("vm", try fixture.image(TinyKernel.floods))
      let id = specification.id
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      // The daemon's own part of it: nothing.
      let (processor, memory) = (Self.processorSeconds(), ProcessAttributes.residentBytes())
      try await Task.sleep(for: .seconds(3))
      #expect(Self.processorSeconds() - processor < 0.5)
      #expect(ProcessAttributes.residentBytes() < memory + 16 << 20)
      let log = try openFile("\(fixture.folder)/log/\(id.name).log", .read)
      #expect(try fileSize(log).length > fixture.configuration.logBytes)
      #expect(try fileSize(log).allocated <= 2 * fixture.configuration.logBytes)
      try log.close()
      try await fixture.hold.signal(key: "machine:\(id)", SIGKILL)
      for await exit in fixture.driver.exits {
        #expect(exit == WorkloadExit(id: id, status: .killed(signal: 9)))
        break
      }
    }
  }

  @Test("A paused guest stands still, also for the next daemon, until it is let go on")
  func pauses() async throws {
    try await withMachines { fixture in
      let specification = fixture.specification("vm", try fixture.image(TinyKernel.floods))
      let id = specification.id
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      func length() throws -> UInt64 {
        let log = try openFile("\(fixture.folder)/log/\(id.name).log", .read)
        defer { try? log.close() }
        return try fileSize(log).length
      }
      try await fixture.driver.pause(id)
      let paused = try length()
      fixture.driver.machines.forget(id)
      let (next, hold) = try await fixture.successor()
      #expect(try await next.observe() == [ObservedWorkload(id: id, phase: .running)])
      #expect(try await next.isPaused(id))
      #expect(try length() == paused)
      try await next.resume(id)
      try await eventually("the guest goes on") { try length() > paused }
      next.machines.forget(id)
      hold.close()
      try await fixture.driver.delete(id)
    }
  }

  @Test("Volumes outlive their machines, are one machine's at a time, and go when they are told to")
  func volumes() async throws {
    try await withMachines { fixture in
      let image = try fixture.image(TinyKernel.saysHi, board: "pc")
      func specification(_ incarnation: Int, _ size: UInt64) -> WorkloadSpecification {
        fixture.specification(
          "vm", image, incarnation: incarnation,
          volumes: [.init(id: "data", sizeBytes: size), .init(id: "a/../b", sizeBytes: 1)])
      }
      let driver = fixture.driver
      let first = specification(1, 1 << 30)
      #expect(try await driver.vnfcsWithVolumes() == [])
      _ = try await driver.prepare(first)
      #expect(try await driver.vnfcsWithVolumes() == ["vm"])
      try await driver.start(first)
      guard
        case .array(let devices) = try await driver.machines[first.id].execute(
          "query-named-block-nodes", timeout: .seconds(5))
      else { return }
      let sizes = devices.compactMap { device -> Int64? in
        guard case .object(let members) = device, members["drv"] == .string("raw"),
          case .object(let image)? = members["image"],
          case .integer(let size)? = image["virtual-size"]
        else { return nil }
        return size
      }
      #expect(Set(sizes) == [1 << 30, 512])
      let files = try listFolder(fixture.folder + "/volumes/vm")
      try #require(files.count == 2)
      for name in files {
        let file = try openFile("\(fixture.folder)/volumes/vm/\(name)", .readWrite)
        #expect(try fileSize(file).allocated <= 1 << 20)
        try writeAll([7], to: file)
        try file.close()
      }
      let second = specification(2, 2 << 30)
      _ = try await driver.prepare(second)
      let error = await #expect(throws: NFVError.self) { try await driver.start(second) }
      #expect(error?.cause?.contains("lock") == true, "\(String(describing: error))")
      for id in [first.id, second.id] { try await driver.delete(id) }

      let third = specification(3, 1 << 20)
      _ = try await driver.prepare(third)
      try await driver.start(third)
      try await driver.delete(third.id)
      var lengths: Set<UInt64> = []
      for name in files {
        let path = "\(fixture.folder)/volumes/vm/\(name)"
        #expect(try readFile(path, limit: 1) == [7])
        let file = try openFile(path, .read)
        lengths.insert(try fileSize(file).length)
        try file.close()
      }
      #expect(lengths == [2 << 30, 512])
      for _ in 0..<2 { try await driver.removeVolumes(of: "vm") }
      #expect(try await driver.vnfcsWithVolumes() == [])
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("The console is shared; who is slow there stops nobody, and the log goes on")
  func console() async throws {
    try await withMachines { fixture in
      let specification = fixture.specification("vm", try fixture.image(TinyKernel.echoes))
      let id = specification.id
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      let first = try await fixture.driver.console(of: id)
      let second = try await fixture.driver.console(of: id)
      try await first.write(Array("one".utf8))
      for session in [first, second] {
        var text = ""
        for await case .standardOutput(let bytes) in session.output {
          text += String(decoding: bytes, as: UTF8.self)
          if text.count >= 3 { break }
        }
        #expect(text == "one")
      }
      // Who leaves takes nobody along; after the last the next comes to a new connection.
      await first.cancel()
      try await second.write(Array("two".utf8))
      try await eventually("the log has all") {
        try await fixture.output(of: id).hasSuffix("onetwo")
      }
      await second.cancel()
      let third = try await fixture.driver.console(of: id)
      try await fixture.driver.stop(id, grace: .zero)
      var last: ExecOutput?
      for await output in third.output { last = output }
      #expect(last == .exited(.exited(code: 0)))
      await #expect(throws: NFVError.self) { try await third.write([1]) }
      try await fixture.driver.delete(id)

      let flood = fixture.specification("flood", try fixture.image(TinyKernel.floods))
      _ = try await fixture.driver.prepare(flood)
      try await fixture.driver.start(flood)
      let idle = try await fixture.driver.console(of: flood.id)
      let log = try openFile("\(fixture.folder)/log/\(flood.id.name).log", .read)
      let length = try fileSize(log).length
      try await eventually(
        "the guest goes on beside a reader that does not read", within: .seconds(30)
      ) {
        try fileSize(log).length > length + 4 * UInt64(ConsoleSession.limit)
      }
      try log.close()
      var octets = 0
      for await case .standardOutput(let bytes) in idle.output {
        octets += bytes.count
        if String(decoding: bytes, as: UTF8.self).contains("left out") { break }
      }
      #expect(octets <= 3 * ConsoleSession.limit)
      await idle.cancel()
      try await fixture.driver.delete(flood.id)
    }
  }

  private static func processorSeconds() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return [usage.ru_utime, usage.ru_stime].reduce(0) {
      $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6
    }
  }

  /// By the image of which `martlet bench instantiate` measures how soon.
  @Test(
    "A guest's first instruction is heard", arguments: ImageBuilder.firstInstructionMachines)
  func firstInstruction(machine: String) async throws {
    try await withMachines { fixture in
      let archive = "\(fixture.folder)/first.tar"
      _ = try ImageBuilder.buildFirstInstruction(machine: machine, to: archive)
      let root = "\(fixture.folder)/first"
      try Mount.makeDirectory(root, mode: 0o755)
      let reader = try ArchiveReader(path: archive)
      while let entry = try reader.next() {
        try replaceFile("\(root)/\(entry.path)", try reader.readAll(limit: 1 << 20), mode: 0o644)
      }
      let image = PreparedImage(
        digest: "sha256:first", root: root, configuration: ImageConfiguration(), size: 0)
      let specification = fixture.specification("vm", image)
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      try await eventually("the guest has written") {
        try await fixture.output(of: specification.id) == "1"
      }
      try await fixture.driver.delete(specification.id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("What QEMU refuses is told in its own words")
  func refusedOption() async throws {
    try await withMachines(
      program: "#!/bin/sh\necho 'qemu: -foo: invalid option' >&2\nexit 1\n"
    ) { fixture in
      let error = try await fixture.failure(
        of: fixture.specification("vm", try fixture.image(TinyKernel.saysHi)))
      #expect(error.code == .failed && error.cause == "qemu: -foo: invalid option", "\(error)")
    }
  }

  @Test("A QEMU that does not answer by QMP is told as such")
  func hungQEMU() async throws {
    try await withMachines(
      program: "#!/bin/sh\n[ \"$1\" = --version ] || exec sleep 100\n",
      answerLimit: .milliseconds(500)
    ) { fixture in
      let error = try await fixture.failure(
        of: fixture.specification("vm", try fixture.image(TinyKernel.saysHi)))
      #expect(error.code == .timeout && error.message.contains("QMP"), "\(error)")
    }
  }

  @Test("A guest whose init cannot be asked is powered off, and has time for it")
  func powerButton() async throws {
    try await withMachines(program: StubQEMU.powersDown) { fixture in
      let specification = fixture.specification("vm", try fixture.image(TinyKernel.saysHi))
      let id = specification.id
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      try await fixture.driver.stop(id, grace: .seconds(20))
      #expect(try await fixture.output(of: id) == "pressed\n")
      // By itself: one that was killed would be told so.
      #expect(
        try await fixture.driver.observe()
          == [ObservedWorkload(id: id, phase: .exited(.exited(code: 0)))])
      try await fixture.driver.delete(id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("Machines take no more memory than the host has; a successor takes its predecessor's")
  func memoryOfAll() async throws {
    // Two of 16 MiB with 76 MiB of QEMU's, and not a third.
    try await withMachines(hostMemory: 200 << 20) { fixture in
      let image = try fixture.image(TinyKernel.saysHi)
      for name in ["one", "two"] {
        let specification = fixture.specification(name, image)
        _ = try await fixture.driver.prepare(specification)
        try await fixture.driver.start(specification)
      }
      let third = fixture.specification("three", image)
      func refusal(by driver: QEMUDriver) async -> NFVError? {
        await #expect(throws: NFVError.self) { _ = try await driver.prepare(third) }
      }
      let error = await refusal(by: fixture.driver)
      #expect(error?.code == .exhausted)
      #expect(
        error?.message.contains(
          "wants 16 MiB of memory and its QEMU 76 MiB beside it; this host has 200 MiB, of which 2 "
            + "other machines may take 184 MiB") == true, "\(String(describing: error))")
      #expect(error?.message.contains("scale them in") == true)
      // The next daemon knows it of what is on the host.
      let (next, hold) = try await fixture.successor()
      #expect(await refusal(by: next)?.code == .exhausted)
      hold.close()
      // Both are there for as long as a heal takes.
      let healed = fixture.specification("two", image, incarnation: 2)
      _ = try await fixture.driver.prepare(healed)
      for id in [healed.id, fixture.specification("two", image).id] {
        try await fixture.driver.delete(id)
      }
      _ = try await fixture.driver.prepare(third)
      for id in [third.id, fixture.specification("one", image).id] {
        try await fixture.driver.delete(id)
      }
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("A QEMU that hangs later is told as such where it is asked, and is ended all the same")
  func hangsLater() async throws {
    try await withMachines(program: StubQEMU.hangs) { fixture in
      let specification = fixture.specification("vm", try fixture.image(TinyKernel.saysHi))
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      let error = await #expect(throws: MachineError.self) {
        try await fixture.driver.machines[specification.id].execute(
          "query-status", timeout: .milliseconds(200))
      }
      guard case .timedOut? = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      let began = ContinuousClock.now
      try await fixture.driver.stop(specification.id, grace: .milliseconds(300))
      #expect(began.duration(to: .now) < .seconds(5))
      try await fixture.driver.delete(specification.id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("A QEMU that stands still is killed, which its end tells; one that answers goes on")
  func standsStill() async throws {
    try await withMachines(
      answerLimit: .milliseconds(300), watchInterval: .milliseconds(50)
    ) { fixture in
      var ids: [WorkloadID] = []
      for name in ["still", "well"] {
        let specification = fixture.specification(name, try fixture.image(TinyKernel.saysHi))
        _ = try await fixture.driver.prepare(specification)
        try await fixture.driver.start(specification)
        ids.append(specification.id)
      }
      let process = try #require(fixture.driver.workloads.folder(ids[0]).process)
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { await fixture.driver.watch() }
        try await Task.sleep(for: .milliseconds(300))
        #expect(try await fixture.driver.observe().allSatisfy { $0.phase == .running })
        #expect(kill(process.pid, SIGSTOP) == 0)
        for await exit in fixture.driver.exits {
          #expect(exit == WorkloadExit(id: ids[0], status: .hung))
          break
        }
        group.cancelAll()
      }
      let phases = try await fixture.driver.observe()
      #expect(phases.first { $0.id == ids[0] }?.phase == .exited(.hung))
      #expect(phases.first { $0.id == ids[1] }?.phase == .running)
      for id in ids { try await fixture.driver.delete(id) }
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("A guest that answers nonsense on the control channel is told as such")
  func nonsense() async throws {
    try await withMachines(program: StubQEMU.talksNonsense) { fixture in
      let error = try await fixture.failure(
        of: fixture.specification("vm", try fixture.image(TinyKernel.saysHi, isControlled: true)))
      #expect(error.code == .failed && error.message.contains("makes no sense"), "\(error)")
    }
  }

  @Test("An initramfs without init is told by the kernel's last words", .needs(.kernel))
  func initramfsWithoutInit() async throws {
    try await withMachines { fixture in
      let image = try fixture.image(TinyKernel.saysHi, board: "pc", isControlled: true) {
        $0 = $0.replacing(
          #""commandLine":"""#, with: #""commandLine":"console=ttyS0 quiet panic=-1""#)
      }
      try replaceFile(image.root + "/kernel", try Facility.kernelOctets(), mode: 0o644)
      try replaceFile(image.root + "/initramfs", CpioArchive().finished(), mode: 0o644)
      let error = try await fixture.failure(
        of: fixture.specification("vm", image, memory: 128 << 20))
      #expect(error.code == .failed && error.message.contains("before its function ran"))
      #expect(error.cause?.contains("Kernel panic") == true, "\(error)")
    }
  }

  @Test(
    "A guest that never starts its function, one that ends before, and no kernel are told apart")
  func guestFails() async throws {
    try await withMachines(startLimit: .milliseconds(500)) { fixture in
      let silent = try await fixture.failure(
        of: fixture.specification("vm", try fixture.image(TinyKernel.saysHi, isControlled: true)))
      #expect(silent.code == .timeout && silent.message.contains("function"), "\(silent)")
      #expect(silent.cause == "hi")
      let ending = try await fixture.failure(
        of: fixture.specification("vm", try fixture.image(TinyKernel.traps, isControlled: true)))
      #expect(
        ending.code == .failed && ending.message.contains("before its function ran"), "\(ending)")
      let broken = try fixture.image(TinyKernel.saysHi, board: "pc")
      try replaceFile(
        broken.root + "/kernel", [UInt8](repeating: 0x41, count: 5000), mode: 0o644)
      let error = try await fixture.failure(of: fixture.specification("vm", broken))
      #expect(error.code == .failed && error.cause?.contains("kernel") == true, "\(error)")
    }
  }

  @Test("A function that is over before anybody heard of its start has run, with its exit status")
  func endsAtOnce() async throws {
    try await withMachines { fixture in
      let specification = fixture.specification(
        "vm", try fixture.image(TinyKernel.exitsWith3, isControlled: true))
      _ = try await fixture.driver.prepare(specification)
      try await fixture.driver.start(specification)
      for await exit in fixture.driver.exits where exit.id == specification.id {
        #expect(exit.status == .exited(code: 3))
        break
      }
      try await fixture.driver.delete(specification.id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("A QEMU that is not there is told before anything is started")
  func missingQEMU() async throws {
    try await withMachines { fixture in
      var configuration = fixture.configuration
      configuration.program = "/nowhere/qemu"
      let error = #expect(throws: NFVError.self) {
        try QEMUDriver(configuration, hold: fixture.hold)
      }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains("apt-get install qemu-system-x86") == true)
    }
  }

  @Test("What cannot run is refused, and says why")
  func refusals() async throws {
    try await withMachines { fixture in
      let image = try fixture.image(TinyKernel.saysHi)
      let small = try await fixture.failure(
        of: fixture.specification("vm", image, memory: 8 << 20))
      #expect(small.code == .unprocessable && small.message.contains("16"), "\(small)")
      let huge = try await fixture.failure(
        of: fixture.specification("vm", image, memory: 1 << 50))
      #expect(huge.code == .exhausted, "\(huge)")
      #expect(
        huge.message.contains("1073741824 MiB of memory")
          && huge.message.contains("altogether: give the VDU less memory"), "\(huge)")
      var long = fixture.specification("vm", image)
      long.document = [UInt8](repeating: 32, count: ControlProtocol.maximumDocument + 1)
      let document = try await fixture.failure(of: long)
      #expect(document.code == .tooLarge)
      #expect(
        document.message.contains("has \(ControlProtocol.maximumDocument + 1) octets")
          && document.message.contains("shorten what the VNF is given"), "\(document)")
      for (from, to, word) in [
        ("martlet-machine", "else", "format"), (#""machine":"microvm","#, "", "machine is missing"),
        ("microvm", "cray", "cray"),
        (#""tinyx""#, #""container""#, "neither tinyx nor unikernel"), ("x86_64", "vax", "vax"),
        ("16", #""16""#, "minimumMemoryMiB"),
        (#""control":false,"#, "", "initramfs"), ("{", "[", "JSON"),
      ] {
        let image = try fixture.image(TinyKernel.saysHi) {
          $0 = $0.replacing(from, with: to, maxReplacements: 1)
        }
        let error = try await fixture.failure(of: fixture.specification("vm", image))
        #expect(error.code == .unprocessable && error.message.contains(word), "\(error)")
      }
      let empty = PreparedImage(
        digest: "sha256:none", root: fixture.folder + "/none",
        configuration: ImageConfiguration(), size: 0)
      let none = try await fixture.failure(of: fixture.specification("vm", empty))
      #expect(none.code == .unprocessable && none.message.contains("machine.json"))
    }
  }

  @Test("The accelerator's guest ends as it should where it is run well, and not where it is not")
  func probeGuest() {
    #expect(AcceleratorProbe.run(Facility.qemuPath, .seconds(20), under: .tcg))
    #expect(!AcceleratorProbe.run(Facility.qemuPath, .milliseconds(1), under: .tcg))
    #expect(!AcceleratorProbe.run("/bin/true", .seconds(20), under: .tcg))
    #expect(!AcceleratorProbe.run("/nowhere", .seconds(20), under: .tcg))
  }

  @Test("KVM is taken where it is not slower, and asked for once per boot and version of QEMU")
  func accelerators() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let cache = folder.path + "/accelerator"
    var asked: [Accelerator] = []
    func choose(_ subject: String, tcg: Bool = true, kvm: Bool) -> Accelerator {
      AcceleratorProbe.choose(for: subject, cache: cache, .seconds(20)) { limit, accelerator in
        asked.append(accelerator)
        // KVM has as long as TCG took.
        #expect((limit < .seconds(20)) == (accelerator == .kvm))
        return accelerator == .kvm ? kvm : tcg
      }
    }
    #expect(choose("boot 1, QEMU 7", kvm: true) == .kvm)
    #expect(asked == [.tcg, .kvm])
    #expect(choose("boot 1, QEMU 7", kvm: false) == .kvm && asked.count == 2)
    #expect(choose("boot 2, QEMU 7", kvm: false) == .tcg && asked.count == 4)
    #expect(choose("boot 2, QEMU 7", kvm: true) == .tcg && asked.count == 4)
    #expect(choose("boot 2, QEMU 8", tcg: false, kvm: true) == .tcg && asked.count == 5)
  }

  @Test("A KVM device that QEMU's own user cannot open is none", .needs(.root))
  func kvmOfRootAlone() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let device = try folder.write("kvm", "".utf8)
    for (mode, group, groups) in [
      (0o600, 0, nil), (0o660, 0, nil), (0o640, 108, nil), (0o660, 108, [108]), (0o666, 0, []),
    ] as [(mode_t, gid_t, [UInt32]?)] {
      #expect(chown(device, 0, group) == 0 && chmod(device, mode) == 0)
      #expect(AcceleratorProbe.kvmGroups(device) == groups)
    }
    #expect(AcceleratorProbe.kvmGroups(folder.path + "/none") == nil)
  }
}
