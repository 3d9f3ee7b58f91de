import Glibc
import HoldProtocol
import LinuxSystem
import NFVModel
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import NFVDrivers

@Suite(.serialized, .timeLimit(.minutes(2)), .needs(.root, .qemu, .unikernel))
struct UnikernelTests {
  private static let document = Array(
    #"""
    {"generation":1,"parameters":{},"ports":[{"name":"network","interface":"eth0","mtu":1500,
    "mac":"02:00:00:00:00:02","routes":[],"owner":"function","addresses":["10.9.0.2/24"]}]}
    """#.utf8)

  private static let port = Port(
    id: "p", cpd: "network", externalCpd: nil, network: "n",
    mac: MACAddress(value: 0x02_00_00_00_00_02), addresses: [], mode: .host, mtu: 1500,
    interface: "eth0")

  private func specification(
    _ fixture: MachineFixture, _ name: String, incarnation: Int = 1,
    image: PreparedImage? = nil, memory: UInt64 = 4 << 20
  ) throws -> WorkloadSpecification {
    var specification = fixture.specification(
      name, try image ?? fixture.unikernel(), technology: .unikernel, incarnation: incarnation,
      memory: memory, ports: [Self.port])
    specification.document = Self.document
    return specification
  }

  /// Plugs taps of a namespace that nobody else has into what was prepared.
  private func plug(_ specification: WorkloadSpecification, _ point: AttachmentPoint) async throws {
    guard case .taps(let receiver) = point else { throw Failed("taps are asked for") }
    let namespace = try NetworkNamespace.create()
    for port in specification.ports {
      if try await receiver.hasTap(of: port.id) { continue }
      let name = specification.id.interfaceName(of: port.id)
      let tap = try namespace.run { () throws(SystemError) in try openTap(named: name) }
      try await receiver.takeTap(tap.rawValue, of: port.id)
      try tap.close()
    }
  }

  private func start(_ driver: QEMUDriver, _ specification: WorkloadSpecification) async throws {
    try await plug(specification, try await driver.prepare(specification))
    try await driver.start(specification)
  }

  @Test("It keeps what every driver keeps")
  func contract() async throws {
    try await withMachines { fixture in
      let ending = fixture.specification(
        "ending", try fixture.unikernel(TinyKernel.exitsWith3, isControlled: false),
        technology: .unikernel)
      try await DriverContract(
        driver: fixture.driver, endless: try specification(fixture, "endless"), ending: ending,
        plug: plug
      ).check()
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("It runs when it has taken its document, is found by the next daemon, and ends when asked")
  func life() async throws {
    try await withMachines { fixture in
      let specification = try specification(fixture, "vm")
      let id = specification.id
      try await start(fixture.driver, specification)
      #expect(try await fixture.output(of: id) == "martlet: ready\n")
      #expect(
        try await fixture.driver.observe() == [
          ObservedWorkload(id: id, phase: .running, generation: 1)
        ])
      let process = try #require(fixture.driver.workloads.folder(id).process)
      let text = String(
        decoding: try readFile("/proc/\(process.pid)/smaps_rollup", limit: 8192), as: UTF8.self)
      // What is clean is shared by all machines, and this may be the only one.
      let lines = text.split(separator: "\n").filter { $0.hasPrefix("Private_Dirty") }
      let kibibytes = lines.compactMap { Int($0.split(separator: " ")[1]) }.reduce(0, +)
      print("QEMU's private memory: \(kibibytes / 1024) MiB")
      #expect(kibibytes > 1024 && kibibytes <= 16 << 10)
      let console = try await fixture.driver.console(of: id)
      await console.cancel()
      fixture.driver.machines.forget(id)

      let (next, hold) = try await fixture.successor()
      #expect(
        try await next.observe() == [ObservedWorkload(id: id, phase: .running, generation: 1)])
      try await next.stop(id, grace: .seconds(5))
      #expect(
        try await next.observe() == [
          ObservedWorkload(id: id, phase: .exited(.exited(code: 0)), generation: 1)
        ])
      #expect(try await fixture.output(of: id).hasSuffix("stopped as asked\n"))
      hold.close()
      try await fixture.driver.delete(id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("A refused document, a guest that hangs and one that traps are told by their own words")
  func guestFails() async throws {
    try await withMachines(unikernelLimit: .seconds(2)) { fixture in
      var refused = try specification(fixture, "vm")
      refused.ports = []
      refused.document = Array(#"{"generation":1,"ports":[{"mac":1}]}"#.utf8)
      let refusal = try await fixture.failure(of: refused)
      #expect(refusal.code == .failed && refusal.message.contains("refuses its document"))
      #expect(refusal.cause?.contains("port") == true, "\(refusal)")

      let hung = fixture.specification(
        "hung", try fixture.unikernel(TinyKernel.saysHiAndHangs), technology: .unikernel)
      let timeout = try await fixture.failure(of: hung)
      #expect(timeout.code == .timeout && timeout.message.contains("document"), "\(timeout)")
      #expect(timeout.cause == "hi")

      let trapped = fixture.specification(
        "trapped", try fixture.unikernel(TinyKernel.saysNoAndTraps), technology: .unikernel)
      let end = try await fixture.failure(of: trapped)
      #expect(end.code == .failed && end.message.contains("ended"), "\(end)")
      #expect(end.cause == "no")
    }
  }

  @Test("What a unikernel does not have is refused before anything starts")
  func refusals() async throws {
    try await withMachines { fixture in
      let capabilities = fixture.driver.capabilities
      #expect(capabilities[.unikernel]?.executesCommands == false)
      #expect(capabilities[.unikernel]?.keepsVolumes == false)
      #expect(capabilities[.tinyx]?.executesCommands == true)
      let good = try specification(fixture, "vm")
      for (change, word): (@Sendable (inout WorkloadSpecification) -> Void, String) in [
        ({ $0.volumes = [.init(id: "v", sizeBytes: 512)] }, "block devices"),
        ({ $0.command = ["sh"] }, "commands"),
        ({ $0.files = [.init(path: "/f", content: [], mode: 0o644)] }, "files"),
        ({ $0.memoryBytes = 2 << 20 }, "memory"),
      ] {
        var specification = good
        change(&specification)
        let error = try await fixture.failure(of: specification)
        #expect(error.code == .unprocessable && error.message.contains(word), "\(error)")
      }
      var large = good
      large.document = [UInt8](repeating: 32, count: 1 << 20)
      #expect(try await fixture.failure(of: large).code == .tooLarge)
    }
  }

  // MARK: Pools

  /// Does what a driver's pools ask for until `count` wait.
  private func fill(_ driver: QEMUDriver, to count: Int) async throws {
    for await work in driver.poolWork {
      switch work {
      case .make(let member):
        try await start(driver, member)
        driver.noteWaiting(member)
      case .discard(let id): try await driver.delete(id)
      }
      if driver.pools.map(\.waiting).reduce(0, +) == count { return }
    }
  }

  @Test("Machines wait after the first use, are claimed under their new identity, and found by it")
  func pool() async throws {
    try await withMachines(poolSize: 2) { fixture in
      let driver = fixture.driver
      let cold = try specification(fixture, "cold")
      try await start(driver, cold)
      #expect(driver.pools.map(\.waiting) == [0])
      try await fill(driver, to: 2)
      let pool = try #require(driver.pools.first)
      #expect(pool.image == "sha256:unikernel" && pool.ports == 1 && pool.size == 2)
      #expect(pool.memoryBytes > 4 << 20 && pool.memoryBytes < 64 << 20)

      let waiting = try await driver.observe().filter { $0.id != cold.id }
      #expect(waiting.count == 2 && waiting.allSatisfy { $0.phase == .prepared })
      let claimed = try specification(fixture, "claimed")
      let begin = ContinuousClock.now
      let point = try await driver.prepare(claimed)
      #expect(driver.pools.map(\.waiting) == [1])
      guard case .taps(let taps) = point else { return }
      let tap = try #require(taps.waitingTap(of: "p"))
      #expect(waiting.contains { $0.id.interfaceName(of: "0") == tap })
      // A daemon that died here finds a start that was not finished.
      let (early, first) = try await fixture.successor()
      #expect(
        try await early.observe().contains(
          ObservedWorkload(id: claimed.id, phase: .prepared, generation: 1)))
      first.close()
      for _ in 0..<2 { _ = try await driver.prepare(claimed) }
      // It has taken its document while it was plugged in: of its start it need not know any more.
      try await Task.sleep(for: .milliseconds(500))
      let key = "machine:\(driver.workloads.origin(of: claimed.id))"
      try await fixture.hold.signal(key: key, SIGSTOP)
      try await driver.start(claimed)
      try await fixture.hold.signal(key: key, SIGCONT)
      print("claim and start: \(begin.duration(to: .now))")
      driver.machines.forget(claimed.id)

      let (next, hold) = try await fixture.successor()
      let observed = try await next.observe()
      #expect(observed.count == 3)
      #expect(observed.contains(ObservedWorkload(id: claimed.id, phase: .running, generation: 1)))
      #expect(try next.workloads.usage(of: claimed.id).memoryBytes > 1 << 20)
      #expect(next.workloads.folder(claimed.id).record?.id == claimed.id)
      let log = try await next.log(of: claimed.id, from: 0, limit: 4096)
      #expect(String(decoding: log.bytes, as: UTF8.self).contains("ready"))
      // What this one has made waiting is nobody's after its death; what was claimed is not.
      for workload in observed where workload.phase == .prepared {
        #expect(workload.id.vnfc.rawValue.hasPrefix("waiting-"))
        try await next.delete(workload.id)
      }
      try await next.stop(claimed.id, grace: .seconds(5))
      let phase = try await next.observe().first { $0.id == claimed.id }?.phase
      #expect(phase == .exited(.exited(code: 0)))
      try await next.delete(claimed.id)
      next.machines.forget(cold.id)
      hold.close()
      try await driver.delete(cold.id)
      #expect(try await fixture.leftovers() == [])
    }
  }

  @Test("What waits gives its memory to a start that lacks it, and to none that it does not help")
  func poolGivesWay() async throws {
    // Two of 4 MiB with 16 MiB of QEMU's, and not a third.
    try await withMachines(poolSize: 1, hostMemory: 41 << 20) { fixture in
      let driver = fixture.driver
      try await start(driver, try specification(fixture, "cold"))
      try await fill(driver, to: 1)
      let large = try specification(fixture, "large", memory: 40 << 20)
      let refusal = await #expect(throws: NFVError.self) { _ = try await driver.prepare(large) }
      #expect(refusal?.code == .exhausted)
      #expect(driver.pools.map(\.waiting) == [1])

      var other = try specification(fixture, "other")
      other.image.digest = "sha256:other"
      try await start(driver, other)
      #expect(driver.pools.filter { $0.waiting > 0 } == [])
      let there = try await driver.observe().map(\.id.vnfc.rawValue)
      #expect(there.sorted() == ["cold", "other"])

      // One that is to wait ends nobody's wait.
      try await driver.delete(try specification(fixture, "cold").id)
      driver.waitingRoom.fill(after: try specification(fixture, "cold"))
      try await fill(driver, to: 1)
      driver.waitingRoom.fill(after: other)
      let error = await #expect(throws: NFVError.self) { try await fill(driver, to: 2) }
      #expect(error?.code == .exhausted)
      #expect(driver.pools.map(\.waiting).reduce(0, +) == 1)
    }
  }

  @Test("A pool is for its kind only; what has died, is not needed or left at the end is deleted")
  func poolOfKind() async throws {
    try await withMachines(poolSize: 1) { fixture in
      let driver = fixture.driver
      let cold = try specification(fixture, "cold")
      try await start(driver, cold)
      try await fill(driver, to: 1)
      var larger = try specification(fixture, "larger", memory: 5 << 20)
      larger.image.digest = "sha256:other"
      let point = try await driver.prepare(larger)
      guard case .taps(let taps) = point else { return }
      #expect(taps.waitingTap(of: "p") == nil && driver.pools.map(\.waiting) == [1])
      try await driver.delete(larger.id)

      // One that has died is not claimed.
      let member = try #require(
        try await driver.observe().first { $0.id.vnfc.rawValue.hasPrefix("waiting-") })
      let ended = Mutex<Set<WorkloadID>>([])
      let exits = Task {
        for await exit in driver.exits { ended.withLock { _ = $0.insert(exit.id) } }
      }
      try await fixture.hold.signal(key: "machine:\(member.id)", SIGKILL)
      try await eventually("its end is noted") { driver.pools.map(\.waiting) == [0] }
      var claimed = try specification(fixture, "claimed")
      try await start(driver, claimed)
      #expect(driver.workloads.origin(of: claimed.id) == claimed.id)
      try await fill(driver, to: 1)

      // One that dies as it is claimed, so that it cannot be plugged, is given up.
      let dying = try specification(fixture, "dying")
      let told = Mutex<[String?]>([])
      try await driver.prepare(dying) { (point) async throws(NFVError) in
        guard case .taps(let receiver) = point else { return }
        let waiting = receiver.waitingTap(of: "p")
        told.withLock { $0.append(waiting) }
        if waiting != nil {
          let key = "machine:\(driver.workloads.origin(of: dying.id))"
          try? await fixture.hold.signal(key: key, SIGKILL)
          _ = try? await fixture.hold.wait(key: key).value()
          try? await Task.sleep(for: .milliseconds(50))
          throw NFVError(.failed, "its link is gone")
        }
        do { try await plug(dying, point) } catch { throw NFVError(.failed, "no tap") }
      }
      #expect(told.withLock { $0.count == 2 && $0[0] != nil && $0[1] == nil })
      #expect(driver.workloads.origin(of: dying.id) == dying.id)
      try await driver.start(dying)
      let after = try await driver.observe()
      #expect(after.contains(ObservedWorkload(id: dying.id, phase: .running, generation: 1)))
      #expect(!after.contains { $0.phase == .prepared })
      #expect(!ended.withLock { $0.contains(dying.id) })
      try await driver.delete(dying.id)
      try await fill(driver, to: 1)
      claimed.id.incarnation = 2
      try await start(driver, claimed)
      #expect(driver.workloads.origin(of: claimed.id) != claimed.id)
      try await fill(driver, to: 1)

      driver.drainPools { tenant, image in tenant == "other" }
      #expect(driver.pools.map(\.waiting) == [1])
      driver.drainPools { tenant, image in image == "sha256:unikernel" }
      #expect(driver.pools.isEmpty)
      for await work in driver.poolWork {
        guard case .discard(let id) = work else { break }
        try await driver.delete(id)
        if try await !driver.observe().contains(where: { $0.phase == .prepared }) { break }
      }
      claimed.id.incarnation = 3
      try await start(driver, claimed)
      try await fill(driver, to: 1)
      for id in driver.closePools() { try await driver.delete(id) }
      for workload in try await driver.observe() {
        #expect(workload.phase != .prepared)
        try await driver.delete(workload.id)
      }
      exits.cancel()
      #expect(try await fixture.leftovers() == [])
    }
  }
}
