internal import Glibc
internal import SystemPackage

/// What a group may use.
public struct CgroupLimits: Sendable, Hashable {
  /// Thousandths of a processor, as a quota and as a weight; nil is unlimited.
  public var cpuMillicores: Int?
  /// What the quota has beyond it, which counts nothing in the weight: for an emulator's own threads
  /// beside its guest's processors.
  public var overheadMillicores: Int
  public var memoryBytes: UInt64
  public var maximumProcesses: Int
  /// Devices beside the harmless ones, in the form of version 1's `devices.allow`.
  public var devices: [String]

  public init(
    cpuMillicores: Int?, overheadMillicores: Int = 0, memoryBytes: UInt64, maximumProcesses: Int,
    devices: [String] = []
  ) {
    self.cpuMillicores = cpuMillicores
    self.overheadMillicores = overheadMillicores
    self.memoryBytes = memoryBytes
    self.maximumProcesses = maximumProcesses
    self.devices = devices
  }
}

/// What a group uses now.
public struct CgroupUsage: Sendable, Hashable {
  /// Processor time since the group was made.
  public var cpuNanoseconds: UInt64
  /// Without page cache that the kernel would drop first.
  public var memoryBytes: UInt64
  public var processes: Int
}

/// One group of processes in every hierarchy that limits or counts it (cgroups(7)).
///
/// A value of paths: the group is there whether this is or not.
public struct Cgroup: Sendable, Hashable {
  /// Below each hierarchy's root.
  public let path: String
  private let hierarchies: CgroupHierarchies

  init(path: String, hierarchies: CgroupHierarchies) {
    self.path = path
    self.hierarchies = hierarchies
  }

  /// Its folders, one per hierarchy.
  public var folders: [String] { hierarchies.folders(of: path) }

  /// Makes the group and sets its limits; one that is there gets them.
  public func create(_ limits: CgroupLimits) throws(SystemError) {
    for folder in folders {
      do throws(SystemError) {
        try makeFolders(folder)
      } catch  where error.errno == .noSuchFileOrDirectory {
        // Another workload's end has just taken the empty parents away.
        try makeFolders(folder)
      }
    }
    try setMemory(limits.memoryBytes)
    try setProcessor(limits.cpuMillicores, overhead: limits.overheadMillicores)
    try set(.pids, v1: "pids.max", v2: "pids.max", "\(limits.maximumProcesses)")
    try denyDevices(but: limits.devices)
  }

  /// Moves a process into the group.
  public func attach(_ pid: Int32) throws(SystemError) {
    for folder in folders { try writeFile(folder + "/cgroup.procs", "\(pid)") }
  }

  public func usage() throws(SystemError) -> CgroupUsage {
    let cpu: UInt64
    if let unified = hierarchies.unified {
      cpu = try counter("usage_usec", in: "\(unified)/\(path)/cpu.stat") * 1000
    } else if let root = hierarchies.controllers[.cpuacct] {
      cpu = try number(in: "\(root)/\(path)/cpuacct.usage")
    } else {
      cpu = 0
    }
    var processes: UInt64 = 0
    if let pids = folder(.pids) { processes = try number(in: pids.path + "/pids.current") }
    guard let memory = folder(.memory) else {
      return CgroupUsage(cpuNanoseconds: cpu, memoryBytes: 0, processes: Int(processes))
    }
    let all = try number(
      in: memory.path + (memory.isUnified ? "/memory.current" : "/memory.usage_in_bytes"))
    let droppable = try counter(
      memory.isUnified ? "inactive_file" : "total_inactive_file", in: memory.path + "/memory.stat")
    return CgroupUsage(
      cpuNanoseconds: cpu, memoryBytes: all > droppable ? all - droppable : 0,
      processes: Int(processes))
  }

  /// How many of its processes were killed because the group had reached its memory limit; 0 where
  /// the group is gone.
  public var outOfMemoryKills: UInt64 {
    guard let memory = folder(.memory) else { return 0 }
    let file = memory.isUnified ? "/memory.events" : "/memory.oom_control"
    return (try? counter("oom_kill", in: memory.path + file)) ?? 0
  }

  /// The pids in the group, as the caller's pid namespace has them.
  public func processes() throws(SystemError) -> [Int32] {
    guard let folder = folders.last else { return [] }
    do throws(SystemError) {
      let text = String(
        decoding: try readFile(folder + "/cgroup.procs", limit: 1 << 20), as: UTF8.self)
      return text.split(separator: "\n").compactMap { Int32($0) }
    } catch  where error.errno == .noSuchFileOrDirectory || error.errno.rawValue == ENODEV {
      return []
    }
  }

  /// Sends SIGKILL to every process in the group: at once on version 2 (Linux 5.14); else one after
  /// another, after new processes were forbidden, until none is left. Does not wait for their ends.
  public func kill() throws(SystemError) {
    if let unified = hierarchies.unified {
      do throws(SystemError) {
        return try writeFile("\(unified)/\(path)/cgroup.kill", "1")
      } catch  where error.errno == .noSuchFileOrDirectory {}
    }
    // A frozen process of version 1 does not die.
    if isFrozen { try setFrozen(false) }
    if let pids = folder(.pids) { try? writeFile(pids.path + "/pids.max", "0") }
    for pid in try processes() {
      // A pid may be another's by now: the pidfd is taken first, membership is read again.
      guard let pidfd = try? openPidfd(pid) else { continue }
      defer { try? pidfd.close() }
      if try processes().contains(pid) { try? sendSignal(SIGKILL, to: pidfd) }
    }
  }

  // MARK: Freezing

  /// Stops every process of the group where it is, until ``thaw()``; returns when all stand still.
  /// - Throws: `ETIMEDOUT` where one is in an uninterruptible wait; `ENOTSUP` where neither version 2
  ///   nor version 1's freezer is there.
  public func freeze() throws(SystemError) { try setFrozen(true) }

  /// Lets the group's processes go on.
  public func thaw() throws(SystemError) { try setFrozen(false) }

  /// Whether the group was frozen; false where it is gone.
  public var isFrozen: Bool {
    guard let (file, isUnified) = freezer,
      let text = try? readFile(isUnified ? file + "freeze" : file + "state", limit: 64)
    else { return false }
    return String(decoding: text, as: UTF8.self).hasPrefix(isUnified ? "1" : "FR")
  }

  /// What its files' names begin with.
  private var freezer: (file: String, isUnified: Bool)? {
    if let unified = hierarchies.unified, fileExists("\(unified)/\(path)/cgroup.freeze") {
      return ("\(unified)/\(path)/cgroup.", true)
    }
    return hierarchies.controllers[.freezer].map { ("\($0)/\(path)/freezer.", false) }
  }

  private func setFrozen(_ wanted: Bool) throws(SystemError) {
    guard let (file, isUnified) = freezer else {
      throw SystemError(call: "freeze", errno: .notSupported, subject: path)
    }
    if isUnified {
      try writeFile(file + "freeze", wanted ? "1" : "0")
    } else {
      try writeFile(file + "state", wanted ? "FROZEN" : "THAWED")
    }
    for pause in [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] {
      sleepThread(milliseconds: UInt32(pause))
      let isReached =
        isUnified
        ? try counter("frozen", in: file + "events") == (wanted ? 1 : 0)
        : String(decoding: try readFile(file + "state", limit: 64), as: UTF8.self)
          .hasPrefix(wanted ? "FROZEN" : "THAWED")
      if isReached { return }
    }
    throw SystemError(call: "freeze", errno: .timedOut, subject: path)
  }

  /// Removes the group's folders; those that are gone already are no error.
  /// - Throws: `EBUSY` where a process is still in it.
  public func remove() throws(SystemError) { try Self.remove(folders) }

  /// Removes groups' folders, such as those that a runtime made.
  public static func remove(_ folders: [String]) throws(SystemError) {
    for folder in folders {
      do throws(SystemError) {
        try systemCall("rmdir", folder) { rmdir(folder) }
      } catch  where error.errno == .noSuchFileOrDirectory {}
    }
  }

  // MARK: Parts

  /// The folder that a controller's files are in.
  private func folder(
    _ controller: CgroupHierarchies.Controller
  ) -> (path: String, isUnified: Bool)? {
    if let root = hierarchies.controllers[controller] { return ("\(root)/\(path)", false) }
    if let unified = hierarchies.unified,
      hierarchies.unifiedControllers.contains(controller.rawValue)
    {
      return ("\(unified)/\(path)", true)
    }
    return nil
  }

  private func set(
    _ controller: CgroupHierarchies.Controller, v1: String, v2: String, _ value: String
  ) throws(SystemError) {
    guard let folder = folder(controller) else { return }
    try writeFile("\(folder.path)/\(folder.isUnified ? v2 : v1)", value)
  }

  private func setMemory(_ bytes: UInt64) throws(SystemError) {
    try set(.memory, v1: "memory.limit_in_bytes", v2: "memory.max", "\(bytes)")
    // Swap would let the group grow beyond; the files are missing where the kernel has no swap.
    do throws(SystemError) {
      let isUnified = folder(.memory)?.isUnified ?? false
      try set(
        .memory, v1: "memory.memsw.limit_in_bytes", v2: "memory.swap.max",
        isUnified ? "0" : "\(bytes)")
    } catch  where error.errno == .noSuchFileOrDirectory || error.errno == .permissionDenied {}
  }

  private func setProcessor(_ millicores: Int?, overhead: Int) throws(SystemError) {
    guard let millicores else { return }
    let period = 100_000
    // The kernel takes no quota below 1 ms.
    let quota = max(1000, (millicores + overhead) * period / 1000)
    let shares = min(262_144, max(2, millicores * 1024 / 1000))
    guard let cpu = folder(.cpu) else { return }
    if cpu.isUnified {
      try writeFile(cpu.path + "/cpu.max", "\(quota) \(period)")
      // The range of version 1's shares, 2 to 262,144, upon version 2's weights, 1 to 10,000.
      try writeFile(cpu.path + "/cpu.weight", "\(1 + (shares - 2) * 9999 / 262_142)")
    } else {
      try writeFile(cpu.path + "/cpu.cfs_period_us", "\(period)")
      try writeFile(cpu.path + "/cpu.cfs_quota_us", "\(quota)")
      try writeFile(cpu.path + "/cpu.shares", "\(shares)")
    }
  }

  /// Version 1: no device but the harmless ones. Version 2 has no such files; there (and here too)
  /// the user namespace makes no device node and mounts are nodev.
  private func denyDevices(but others: [String]) throws(SystemError) {
    guard let root = hierarchies.controllers[.devices] else { return }
    let folder = "\(root)/\(path)"
    try writeFile(folder + "/devices.deny", "a")
    let allow = try openFile(folder + "/devices.allow", .write)
    defer { try? allow.close() }
    // null, zero, full, random, urandom, tty, ptmx and the pseudoterminals.
    let harmless = [
      "c 1:3 rw", "c 1:5 rw", "c 1:7 rw", "c 1:8 rw", "c 1:9 rw", "c 5:0 rw", "c 5:2 rw",
      "c 136:* rw",
    ]
    for device in harmless + others {
      try writeAll(Array(device.utf8), to: allow, folder)
    }
  }

  /// Makes a folder and those above it; on version 2 each passes its controllers on.
  private func makeFolders(_ folder: String) throws(SystemError) {
    if (try? makeFolder(folder)) != nil { return }
    guard let root = folder.hasSuffix(path) ? String(folder.dropLast(path.count)) : nil else {
      return
    }
    let isUnified = hierarchies.unified.map { root == $0 + "/" } ?? false
    let passed = ["cpu", "memory", "pids"].filter(hierarchies.unifiedControllers.contains)
      .map { "+\($0)" }.joined(separator: " ")
    var current = String(root.dropLast())
    for part in path.split(separator: "/") {
      if isUnified, !passed.isEmpty {
        try writeFile(current + "/cgroup.subtree_control", passed)
      }
      current += "/" + part
      try makeFolder(current)
    }
  }

  private func makeFolder(_ folder: String) throws(SystemError) {
    do throws(SystemError) {
      try systemCall("mkdir", folder) { mkdir(folder, 0o755) }
    } catch  where error.errno == .fileExists {}
  }

  private func number(in file: String) throws(SystemError) -> UInt64 {
    let text = String(decoding: try readFile(file, limit: 64), as: UTF8.self)
    guard let line = text.split(separator: "\n").first, let value = UInt64(line) else {
      throw SystemError(call: "read", errno: .ioError, subject: file)
    }
    return value
  }

  /// The value beside `name` in a file of one name and number a line.
  private func counter(_ name: String, in file: String) throws(SystemError) -> UInt64 {
    // As octets: hundreds of groups are read at once, and a string of each would take longest.
    var rest = try readFile(file, limit: 16384)[...]
    let wanted = Array(name.utf8)
    while !rest.isEmpty {
      let line = rest.prefix { $0 != 10 }
      rest = rest.dropFirst(line.count + 1)
      guard line.starts(with: wanted), line.dropFirst(wanted.count).first == 32 else { continue }
      if let value = UInt64(String(decoding: line.dropFirst(wanted.count + 1), as: UTF8.self)) {
        return value
      }
    }
    throw SystemError(call: "read", errno: .ioError, subject: "\(name) in \(file)")
  }
}
