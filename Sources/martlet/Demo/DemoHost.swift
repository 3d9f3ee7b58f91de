internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import NFVClient
internal import NFVModel
internal import SystemPackage

/// The demo's own daemon with its folders, and what it may leave on the host.
struct DemoHost {
  /// In memory, as /run is on hosts that are no containers themselves.
  let run: String
  let state: String
  /// The process that it is, or was, a part of.
  private let process: String
  /// On the folder of its state, for the process' life: one that nobody has locked was left.
  private let lock: FileDescriptor
  private let programs: String
  private(set) var daemonPID: Int32 = 0
  private let linksBefore: Set<String>
  /// The daemons' stores, which their control groups are called by; for who comes after a demo that
  /// was killed they are in a file, a line each.
  private var stores: Set<String> = []
  /// Those that its processes were in, as namespaces(7) names them: `net:[4026532008]`.
  private var namespaces: Set<String> = []
  /// What the paths of the control groups of the daemon that runs have in common.
  private(set) var group = ""

  /// What peers' things are called by.
  var peerLabel: String { "martlet-bench-\(process)" }
  var socket: String { "\(run)/martletd.sock" }
  var fabric: String { "\(run)/fabric/default" }
  /// What functions wrote, a file each, of the daemon with the usual folder of state.
  var logs: String { "\(state)/state/logs" }

  private static let prefix = "martlet-demo-"
  private static let stateParent = "/tmp"
  private static let runParents = ["/run", "/dev/shm"]

  private static var memoryFolder: String {
    runParents.first { (try? isInMemory($0)) == true } ?? "/run"
  }

  private var storesFile: String { "\(state)/stores" }

  /// Makes the folders, and removes what demos left that were killed.
  init() throws {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    programs = own.split(separator: "/", omittingEmptySubsequences: false).dropLast()
      .joined(separator: "/")
    Self.removeAbandoned()
    process = "\(getpid())"
    run = "\(Self.memoryFolder)/\(Self.prefix)\(process)"
    state = "\(Self.stateParent)/\(Self.prefix)\(process)"
    linksBefore = Set(try NetlinkSocket(.route).links().map(\.name))
    // Must be new: in /tmp anybody can have made them.
    for folder in [state, run] {
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: false,
        attributes: [.posixPermissions: 0o711])
    }
    lock = try openFile(state, .read)
    _ = try tryLock(lock)
  }

  /// What a demo left.
  /// - Parameters:
  ///   - name: of its folders.
  ///   - lock: on that of its state.
  private init(abandoned name: String, _ lock: FileDescriptor) {
    process = String(name.dropFirst(Self.prefix.count))
    state = "\(Self.stateParent)/\(name)"
    // After a boot there is none in memory.
    run = Self.runParents.map { "\($0)/\(name)" }.first(where: Self.isOwn) ?? "\(state)/run"
    self.lock = lock
    programs = ""
    linksBefore = []
    let text = String(decoding: (try? readFile(storesFile, limit: 1 << 16)) ?? [], as: UTF8.self)
    stores = Set(text.split(separator: "\n").map(String.init))
  }

  /// A demo that is killed leaves its daemon, its hold and its functions, which outlive those by design.
  private static func removeAbandoned() {
    for name in (try? listFolder(stateParent)) ?? [] where name.hasPrefix(prefix) {
      // Others' could name any control group.
      guard isOwn("\(stateParent)/\(name)"),
        let lock = try? openFile("\(stateParent)/\(name)", .read)
      else { continue }
      defer { try? lock.close() }
      guard (try? tryLock(lock)) == true else { continue }
      var left = DemoHost(abandoned: name, lock)
      left.cleanUp()
      Console.current.note("removed what \(name) had left, which was killed")
    }
  }

  /// Whether a folder is this user's, and no link.
  private static func isOwn(_ folder: String) -> Bool {
    var status = stat()
    return lstat(folder, &status) == 0 && status.st_uid == geteuid()
      && status.st_mode & S_IFMT == S_IFDIR
  }

  /// Starts the daemon and waits until it is ready.
  /// - Parameter state: the folder of its state, below the demo's.
  mutating func startDaemon(_ options: [String] = [], state name: String = "state") async throws {
    daemonPID = try spawnDetached(
      "\(programs)/martletd",
      arguments: [
        "martletd", "--state", "\(state)/\(name)", "--run", run, "--log-level", "error",
      ] + options,
      environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    let client = Client(.unixSocket(socket))
    defer { client.close() }
    let deadline = ContinuousClock.now + .seconds(10)
    while ContinuousClock.now < deadline {
      if let answer = try? await client.send(HTTPRequest(.get, "/readyz")), answer.status == 200 {
        let info = try await client.send(HTTPRequest(.get, "/martlet/v1/info"))
        let store = try JSONValue(parsing: info.body)["storeId"].text
        if stores.insert(store).inserted { try note(store) }
        group = "/martlet/\(store)/"
        return
      }
      try await Task.sleep(for: .milliseconds(5))
    }
    throw Failure(.unreachable, "the demo's martletd was not ready within 10 s")
  }

  private func note(_ store: String) throws {
    let file = try openFile(storesFile, .appendOnly)
    defer { try? file.close() }
    try writeAll(Array("\(store)\n".utf8), to: file, storesFile)
  }

  /// Ends the daemon by a signal and waits until it is gone.
  mutating func endDaemon(_ signal: Int32) {
    guard daemonPID > 0 else { return }
    noteNamespaces()
    kill(daemonPID, signal)
    var status: Int32 = 0
    waitpid(daemonPID, &status, 0)
    daemonPID = 0
  }

  /// The processes whose control group has a workload's name, the first one first.
  func processes(of workload: String) -> [Int32] {
    processes { pid in
      let groups = (try? readFile("/proc/\(pid)/cgroup", limit: 1 << 16)) ?? []
      return String(decoding: groups, as: UTF8.self).contains(workload)
    }
  }

  private func processes(where condition: (Int32) -> Bool) -> [Int32] {
    ((try? listFolder("/proc")) ?? []).compactMap { Int32($0) }.filter(condition).sorted()
  }

  /// The process that outlives daemons; 0 before it was started.
  var holdPID: Int32 {
    ownProcesses().first { pid in
      let line = (try? readFile("/proc/\(pid)/cmdline", limit: 4096)) ?? []
      return String(decoding: line, as: UTF8.self).contains("martlet-hold")
    } ?? 0
  }

  /// A process's resident memory (VmRSS, proc(5)).
  func residentBytes(_ pid: Int32) -> Int64 {
    let status = (try? readFile("/proc/\(pid)/status", limit: 1 << 16)) ?? []
    let line = String(decoding: status, as: UTF8.self).split(separator: "\n")
      .first { $0.hasPrefix("VmRSS:") }
    return (line?.split(separator: " ").compactMap { Int64($0) }.first ?? 0) * 1024
  }

  /// The rings of a process's packet sockets (packet(7)), which the kernel has for it and charges no
  /// control group.
  func ringBytes(_ pid: Int32) -> Int64 {
    let text = (try? readFile("/proc/\(pid)/smaps", limit: 1 << 20)) ?? []
    var isRing = false
    var kilobytes: Int64 = 0
    for line in text.split(separator: UInt8(ascii: "\n")) {
      let words = String(decoding: line, as: UTF8.self).split(separator: " ")
      if words.first?.contains("-") == true {
        isRing = words.last?.hasPrefix("socket:") == true
      } else if isRing, words.first == "Rss:", words.count > 1 {
        kilobytes += Int64(words[1]) ?? 0
      }
    }
    return kilobytes << 10
  }

  /// The memory that a process shares with nobody (Private_* of smaps_rollup, proc(5)).
  func privateBytes(_ pid: Int32) -> Int64 {
    let text = (try? readFile("/proc/\(pid)/smaps_rollup", limit: 1 << 16)) ?? []
    return String(decoding: text, as: UTF8.self).split(separator: "\n")
      .filter { $0.hasPrefix("Private_") }
      .reduce(0) { $0 + ($1.split(separator: " ").compactMap { Int64($0) }.first ?? 0) * 1024 }
  }

  /// The machine, for reports.
  var description: JSONValue {
    let kernel = (try? readFile("/proc/sys/kernel/osrelease", limit: 256)) ?? []
    return [
      "kernel": .string(String(decoding: kernel.dropLast(), as: UTF8.self)),
      "processors": .integer(Int64(sysconf(Int32(_SC_NPROCESSORS_ONLN)))),
    ]
  }

  private func ownProcesses() -> [Int32] {
    processes { pid in
      guard pid != getpid(), let line = try? readFile("/proc/\(pid)/cmdline", limit: 1 << 16)
      else { return false }
      // The folder or what is in it, not another's whose number begins with this one's.
      let text = String(decoding: line, as: UTF8.self)
      return text.contains("\(run)/") || text.contains("\(run)\0")
    }
  }

  /// Notes the namespaces of what runs, which are to be gone in the end.
  mutating func noteNamespaces() {
    let pids = ownProcesses() + controlGroups().flatMap(Self.members)
    let found = Set(pids).reduce(into: Set<String>()) { $0.formUnion(Self.namespaces(of: $1)) }
    namespaces.formUnion(found.subtracting(Self.namespaces(of: getpid())))
  }

  private static func namespaces(of pid: Int32) -> [String] {
    let folder = "/proc/\(pid)/ns"
    return ((try? listFolder(folder)) ?? []).compactMap {
      try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\($0)")
    }
  }

  /// Ends everything that the demo started and removes its folders.
  mutating func cleanUp() {
    endDaemon(SIGTERM)
    // The hold, which outlives daemons by design.
    for pid in ownProcesses() { kill(pid, SIGTERM) }
    for _ in 0..<200 where !ownProcesses().isEmpty { usleep(5000) }
    for pid in ownProcesses() { kill(pid, SIGKILL) }
    // What was being started when it was interrupted, and nobody keeps now.
    for _ in 0..<200 {
      let rest = controlGroups().flatMap(Self.members)
      if rest.isEmpty { break }
      for pid in rest { kill(pid, SIGKILL) }
      usleep(5000)
    }
    for line in mounts() {
      try? Mount.unmount(line)
    }
    for group in controlGroups().reversed() { rmdir(group) }
    // The common parent stays where another daemon has groups in it.
    for hierarchy in hierarchies() { rmdir("\(hierarchy)/martlet") }
    for folder in [run, state] { try? FileManager.default.removeItem(atPath: folder) }
  }

  private func mounts() -> [String] {
    let text = (try? readFile("/proc/self/mountinfo", limit: 1 << 22)) ?? []
    return String(decoding: text, as: UTF8.self).split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ")
      return fields.count > 4 && fields[4].hasPrefix("\(run)/") ? String(fields[4]) : nil
    }
  }

  /// The control groups of this demo's stores, parents first; other daemons' are theirs.
  private func controlGroups() -> [String] {
    var found: [String] = []
    func search(_ path: String) {
      guard FileManager.default.fileExists(atPath: path + "/cgroup.procs") else { return }
      found.append(path)
      for name in (try? listFolder(path)) ?? [] { search("\(path)/\(name)") }
    }
    for hierarchy in hierarchies() {
      for store in stores.sorted() { search("\(hierarchy)/martlet/\(store)") }
      // LXC's stand below the group that it is started from.
      for path in ownGroups() { search("\(hierarchy)\(path == "/" ? "" : path)/\(peerLabel)") }
    }
    return found
  }

  /// The paths of this process's control groups, and the root's.
  private func ownGroups() -> Set<String> {
    let text = (try? readFile("/proc/self/cgroup", limit: 1 << 16)) ?? []
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
    return Set(
      lines.compactMap { $0.split(separator: ":", maxSplits: 2).last.map(String.init) } + ["/"])
  }

  private static func members(_ group: String) -> [Int32] {
    let text = (try? readFile("\(group)/cgroup.procs", limit: 1 << 16)) ?? []
    return String(decoding: text, as: UTF8.self).split(separator: "\n").compactMap { Int32($0) }
  }

  private func hierarchies() -> [String] {
    ["/sys/fs/cgroup"]
      + ((try? listFolder("/sys/fs/cgroup")) ?? []).map { "/sys/fs/cgroup/\($0)" }
  }

  /// What is on the host that was not there before.
  func leftovers() -> [String] {
    var found = ownProcesses().map { "process \($0)" }
    found += mounts().map { "mount \($0)" }
    let links = Set((try? NetlinkSocket(.route).links().map(\.name)) ?? [])
    found += links.subtracting(linksBefore).sorted().map { "interface \($0)" }
    found += controlGroups().map { "cgroup \($0)" }
    for folder in [run, state] where FileManager.default.fileExists(atPath: folder) {
      found.append("folder \(folder)")
    }
    // One without a process is held by its pin, which is a mount, or by the hold.
    for pid in processes(where: { _ in true }) {
      found += namespaces.intersection(Self.namespaces(of: pid)).sorted()
        .map { "namespace \($0) of the process \(pid)" }
    }
    return found
  }
}
