import Glibc
import HoldProtocol
import LinuxSystem
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
      #expect(try listFolder("/proc/\(pid)/root/root").isEmpty)
      let usage = try await fixture.driver.usage(of: specification.id)
      #expect(usage.memoryBytes > 1 << 20 && usage.memoryBytes < 128 << 20 && usage.processes > 1)
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
      while (try? await fixture.hold.status()) == nil {
        try await Task.sleep(for: .milliseconds(10))
      }
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
      try await Task.sleep(for: .seconds(2))
      let log = try openFile("\(fixture.folder)/log/\(id.name).log", .read)
      #expect(try fileSize(log).allocated <= 2 * fixture.configuration.logBytes)
      try log.close()
      try await fixture.hold.signal(key: "machine:\(id)", SIGKILL)
      for await exit in fixture.driver.exits {
        #expect(exit == WorkloadExit(id: id, status: .killed(signal: 9)))
        break
      }
    }
  }

  /// Prints what a machine's start and end take, for the record; a time is no assertion.
  @Test("A guest's first instruction comes soon", arguments: ["microvm", "pc"])
  func firstInstruction(board: String) async throws {
    try await withMachines { fixture in
      let image = try fixture.image(TinyKernel.saysHi, board: board)
      var starts: [Duration] = []
      var ends: [Duration] = []
      for incarnation in 1...9 {
        let specification = fixture.specification("vm", image, incarnation: incarnation)
        let id = specification.id
        let begin = ContinuousClock.now
        _ = try await fixture.driver.prepare(specification)
        let starting = Task { try await fixture.driver.start(specification) }
        while try await fixture.output(of: id).isEmpty, begin.duration(to: .now) < .seconds(20) {
          try await Task.sleep(for: .microseconds(200))
        }
        starts.append(begin.duration(to: .now))
        try await starting.value
        #expect(try await fixture.output(of: id).hasPrefix("h"))
        let end = ContinuousClock.now
        try await fixture.driver.stop(id, grace: .zero)
        ends.append(end.duration(to: .now))
        try await fixture.driver.delete(id)
      }
      print("\(board): first instruction \(starts.sorted()[4]), stop \(ends.sorted()[4])")
    }
  }

  private func failure(
    _ fixture: MachineFixture, _ specification: WorkloadSpecification
  ) async throws -> NFVError {
    _ = try await fixture.driver.prepare(specification)
    do throws(NFVError) {
      try await fixture.driver.start(specification)
    } catch {
      try await fixture.driver.delete(specification.id)
      #expect(try await fixture.leftovers() == [])
      return error
    }
    throw NFVError(.failed, "the start did not fail")
  }

  @Test("What QEMU refuses is told in its own words")
  func refusedOption() async throws {
    try await withMachines(
      program: "#!/bin/sh\necho 'qemu: -foo: invalid option' >&2\nexit 1\n"
    ) { fixture in
      let error = try await failure(
        fixture, fixture.specification("vm", try fixture.image(TinyKernel.saysHi)))
      #expect(error.code == .failed && error.cause == "qemu: -foo: invalid option", "\(error)")
    }
  }

  @Test("A QEMU that does not answer by QMP is told as such")
  func hungQEMU() async throws {
    try await withMachines(
      program: "#!/bin/sh\n[ \"$1\" = --version ] || exec sleep 100\n",
      answerLimit: .milliseconds(500)
    ) { fixture in
      let error = try await failure(
        fixture, fixture.specification("vm", try fixture.image(TinyKernel.saysHi)))
      #expect(error.code == .timeout && error.message.contains("QMP"), "\(error)")
    }
  }

  @Test(
    "A guest that never starts its function, one that ends before, and no kernel are told apart")
  func guestFails() async throws {
    try await withMachines(startLimit: .milliseconds(500)) { fixture in
      let silent = try await failure(
        fixture,
        fixture.specification("vm", try fixture.image(TinyKernel.saysHi, isControlled: true)))
      #expect(silent.code == .timeout && silent.message.contains("function"), "\(silent)")
      #expect(silent.cause == "hi")
      let ending = try await failure(
        fixture,
        fixture.specification("vm", try fixture.image(TinyKernel.exitsWith3, isControlled: true)))
      #expect(ending.code == .failed && ending.message.contains("ended before"), "\(ending)")
      let broken = try fixture.image(TinyKernel.saysHi, board: "pc")
      try replaceFile(
        broken.root + "/kernel", [UInt8](repeating: 0x41, count: 5000), mode: 0o644)
      let error = try await failure(fixture, fixture.specification("vm", broken))
      #expect(error.code == .failed && error.cause?.contains("kernel") == true, "\(error)")
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
      let small = try await failure(
        fixture, fixture.specification("vm", image, memory: 8 << 20))
      #expect(small.code == .unprocessable && small.message.contains("16"), "\(small)")
      let huge = try await failure(
        fixture, fixture.specification("vm", image, memory: 1 << 50))
      #expect(huge.code == .exhausted, "\(huge)")
      for (from, to, word) in [
        ("martlet-tinyx", "else", "format"), (#""machine":"microvm","#, "", "machine is missing"),
        ("microvm", "cray", "cray"), ("x86_64", "vax", "vax"), ("16", #""16""#, "minimumMemoryMiB"),
        (#""control":false,"#, "", "initramfs"), ("{", "[", "JSON"),
      ] {
        let image = try fixture.image(TinyKernel.saysHi) {
          $0 = $0.replacing(from, with: to, maxReplacements: 1)
        }
        let error = try await failure(fixture, fixture.specification("vm", image))
        #expect(error.code == .unprocessable && error.message.contains(word), "\(error)")
      }
      let empty = PreparedImage(
        digest: "sha256:none", root: fixture.folder + "/none",
        configuration: ImageConfiguration(), size: 0)
      let none = try await failure(fixture, fixture.specification("vm", empty))
      #expect(none.code == .unprocessable && none.message.contains("tinyx.json"))
    }
  }

  @Test("The accelerator's guest ends as it should where it is run well, and not where it is not")
  func probeGuest() {
    #expect(AcceleratorProbe.run(Facility.qemuPath, .seconds(20), under: .tcg))
    #expect(!AcceleratorProbe.run(Facility.qemuPath, .milliseconds(1), under: .tcg))
    #expect(!AcceleratorProbe.run("/bin/true", .seconds(20), under: .tcg))
    #expect(!AcceleratorProbe.run("/nowhere", .seconds(20), under: .tcg))
  }
}
