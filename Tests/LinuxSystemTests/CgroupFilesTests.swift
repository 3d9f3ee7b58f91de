import TestSupport
import Testing

@testable import LinuxSystem

/// What is written to a group's files and read of them, in folders that stand in for the kernel's:
/// cgroups(7), and Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of Linux.
@Suite struct CgroupFilesTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// A group of which each file is there with a content.
  private func group(
    _ files: [String: String], controllers: [CgroupHierarchies.Controller: String] = [:],
    unified: String? = nil
  ) throws -> Cgroup {
    for (name, text) in files { try folder.write(name, text) }
    return CgroupHierarchies(
      controllers: controllers.mapValues { "\(folder.path)/\($0)" },
      unified: unified.map { "\(folder.path)/\($0)" },
      unifiedControllers: controllers.isEmpty ? ["cpu", "memory", "pids"] : []
    ).group("martlet/s")
  }

  private func text(_ name: String) throws -> String {
    String(decoding: try folder.read(name), as: UTF8.self)
  }

  @Test func limitsOfVersion2() throws {
    let group = try group(
      [
        "two/martlet/s/memory.max": "", "two/martlet/s/memory.swap.max": "",
        "two/martlet/s/pids.max": "", "two/martlet/s/cpu.max": "", "two/martlet/s/cpu.weight": "",
      ], unified: "two")
    try group.create(
      CgroupLimits(cpuMillicores: 250, memoryBytes: 64 << 20, maximumProcesses: 99))
    #expect(try text("two/martlet/s/memory.max") == "67108864")
    #expect(try text("two/martlet/s/memory.swap.max") == "0")
    #expect(try text("two/martlet/s/pids.max") == "99")
    // A quarter of a processor: of 100 ms 25.
    #expect(try text("two/martlet/s/cpu.max") == "25000 100000")
    // 256 of 2 to 262,144 shares, upon 1 to 10,000.
    #expect(try text("two/martlet/s/cpu.weight") == "10")
  }

  /// An emulator's own threads have a processor beside the guest's, and the guest's weight.
  @Test func anEmulatorWorksBesideItsGuest() throws {
    let group = try group(
      [
        "two/martlet/s/memory.max": "", "two/martlet/s/pids.max": "", "two/martlet/s/cpu.max": "",
        "two/martlet/s/cpu.weight": "",
      ], unified: "two")
    try group.create(
      CgroupLimits(
        cpuMillicores: 250, overheadMillicores: 1000, memoryBytes: 64 << 20, maximumProcesses: 99))
    #expect(try text("two/martlet/s/cpu.max") == "125000 100000")
    #expect(try text("two/martlet/s/cpu.weight") == "10")
  }

  @Test func limitsOfVersion1() throws {
    let group = try group(
      [
        "memory/martlet/s/memory.limit_in_bytes": "",
        "memory/martlet/s/memory.memsw.limit_in_bytes": "", "pids/martlet/s/pids.max": "",
        "cpu/martlet/s/cpu.cfs_period_us": "", "cpu/martlet/s/cpu.cfs_quota_us": "",
        "cpu/martlet/s/cpu.shares": "", "devices/martlet/s/devices.deny": "",
        "devices/martlet/s/devices.allow": "",
      ], controllers: [.memory: "memory", .pids: "pids", .cpu: "cpu", .devices: "devices"])
    try group.create(
      CgroupLimits(
        cpuMillicores: 1, memoryBytes: 1 << 20, maximumProcesses: 5, devices: ["c 10:232 rw"]))
    #expect(try text("memory/martlet/s/memory.limit_in_bytes") == "1048576")
    #expect(try text("memory/martlet/s/memory.memsw.limit_in_bytes") == "1048576")
    #expect(try text("pids/martlet/s/pids.max") == "5")
    // Not below 1 ms.
    #expect(try text("cpu/martlet/s/cpu.cfs_quota_us") == "1000")
    #expect(try text("cpu/martlet/s/cpu.cfs_period_us") == "100000")
    #expect(try text("cpu/martlet/s/cpu.shares") == "2")
    #expect(try text("devices/martlet/s/devices.deny") == "a")
    let allowed = try text("devices/martlet/s/devices.allow")
    #expect(allowed.hasPrefix("c 1:3 rw") && allowed.hasSuffix("c 10:232 rw"))
  }

  @Test func usageOfVersion2() throws {
    let group = try group(
      [
        "two/martlet/s/cpu.stat": "usage_usec 1234\nuser_usec 1000\n",
        "two/martlet/s/memory.current": "5000\n",
        "two/martlet/s/memory.stat": "anon 1\ninactive_file 4000\nactive_file 7\n",
        "two/martlet/s/memory.events": "low 0\noom 3\noom_kill 2\n",
        "two/martlet/s/pids.current": "3\n", "two/martlet/s/cgroup.freeze": "1\n",
      ], unified: "two")
    #expect(
      try group.usage() == CgroupUsage(cpuNanoseconds: 1_234_000, memoryBytes: 1000, processes: 3))
    #expect(group.outOfMemoryKills == 2)
    #expect(group.isFrozen)
  }

  @Test func usageOfVersion1() throws {
    let group = try group(
      [
        "acct/martlet/s/cpuacct.usage": "99\n", "memory/martlet/s/memory.usage_in_bytes": "300\n",
        "memory/martlet/s/memory.stat": "inactive_file 1\ntotal_inactive_file 400\n",
        "memory/martlet/s/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "pids/martlet/s/pids.current": "4\n", "freezer/martlet/s/freezer.state": "THAWED\n",
      ],
      controllers: [
        .cpuacct: "acct", .memory: "memory", .pids: "pids", .freezer: "freezer",
      ])
    // What could be dropped is never more than all.
    #expect(
      try group.usage() == CgroupUsage(cpuNanoseconds: 99, memoryBytes: 0, processes: 4))
    #expect(group.outOfMemoryKills == 1)
    #expect(!group.isFrozen)
  }

  /// Version 2 alone has it; the kernel then ends all at once.
  @Test func killingAtOnce() throws {
    let group = try group(["two/martlet/s/cgroup.kill": ""], unified: "two")
    try group.kill()
    #expect(try text("two/martlet/s/cgroup.kill") == "1")
  }

  @Test func aGroupThatIsGoneKilledNobody() throws {
    let group = try group([:], unified: "two")
    #expect(group.outOfMemoryKills == 0 && !group.isFrozen)
    #expect(try group.processes() == [])
    try group.remove()
    #expect(throws: SystemError.self) { try group.usage() }
  }
}
