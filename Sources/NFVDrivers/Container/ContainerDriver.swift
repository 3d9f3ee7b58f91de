import Glibc
import HoldProtocol
import LinuxSystem
public import NFVModel
import Synchronization
import SystemPackage

/// Containers under an OCI runtime, born in the hold: user and network namespace made together, an
/// idmapped image below a sized layer in memory, cgroups placed before the runtime runs.
///
/// What is on the host can be found again by `observe` after any crash: the hold's holdings and one
/// folder per workload say it. AppArmor and SELinux profiles are not applied.
public final class ContainerDriver: WorkloadDriver {
  public struct Configuration: Sendable {
    public var store: StoreID
    /// For what goes with the host's boot; in a file system of memory.
    public var runFolder: String
    public var logFolder: String
    public var runtime: OCIRuntime
    /// The runtime's program.
    public var runtimePath: String
    /// A runtime that takes longer is killed and its start fails.
    public var startLimit: Duration
    /// What is kept of one workload's output, in bytes.
    public var logBytes: UInt64

    public init(
      store: StoreID, runFolder: String, logFolder: String, runtime: OCIRuntime = .crun,
      runtimePath: String = "/usr/bin/crun", startLimit: Duration = .seconds(10),
      logBytes: UInt64 = 4 << 20
    ) {
      self.store = store
      self.runFolder = runFolder
      self.logFolder = logFolder
      self.runtime = runtime
      self.runtimePath = runtimePath
      self.startLimit = startLimit
      self.logBytes = logBytes
    }
  }

  public let capabilities = DriverCapabilities(
    technologies: [.container], attachmentKinds: [.networkNamespace], reportsExitStatus: true,
    reportsOutOfMemory: true, executesCommands: true, hasConsole: false, pauses: false)
  public let exits: AsyncStream<WorkloadExit>

  let configuration: Configuration
  let hold: HoldClient
  let hierarchies: CgroupHierarchies
  private let ranges: Mutex<UserRanges>

  /// - Throws: `unavailable` where the runtime or a cgroup controller is missing.
  public init(_ configuration: Configuration, hold: HoldClient) throws(NFVError) {
    self.configuration = configuration
    self.hold = hold
    // A command may end before it has read its input.
    ignoreBrokenPipes()
    let (hierarchies, records) = try Self.onHost("cannot set up containers") {
      () throws(SystemError) in
      try Mount.makeDirectory(configuration.runFolder, mode: 0o711)
      for name in ["workloads", "runtime", "stage"] {
        try Mount.makeDirectory("\(configuration.runFolder)/\(name)", mode: 0o711)
      }
      try Mount.makeDirectory(configuration.runFolder + "/console", mode: 0o700)
      try Mount.makeDirectory(configuration.logFolder, mode: 0o700)
      try openFile(configuration.runtimePath, .path).closeQuietly()
      return (
        try CgroupHierarchies.detect(), try RunFolder.records(in: configuration.runFolder)
      )
    }
    guard hierarchies.missing.isEmpty else {
      throw NFVError(
        .unavailable,
        "containers need the cgroup controllers cpu, memory and pids; missing are "
          + hierarchies.missing.map(\.rawValue).joined(separator: ", ")
          + ": enable them on the kernel's command line or in the parent of this group")
    }
    self.hierarchies = hierarchies
    ranges = Mutex(UserRanges(store: configuration.store, used: records))
    exits = ExitSource.exits(
      hold: hold, hierarchies: hierarchies, store: configuration.store)
  }

  // MARK: Names

  static func workloadKey(_ id: WorkloadID) -> String { "workload:\(id)" }
  static func placeKey(_ id: WorkloadID) -> String { "place:\(id)" }

  func folder(_ id: WorkloadID) -> RunFolder { RunFolder(id, in: configuration.runFolder) }
  func logPath(_ id: WorkloadID) -> String { "\(configuration.logFolder)/\(id.name).log" }
  func group(_ id: WorkloadID) -> Cgroup { hierarchies.group(Self.groupPath(id)) }
  static func groupPath(_ id: WorkloadID) -> String { "martlet/\(id.store)/\(id.name)" }

  // MARK: Prepare

  public func prepare(
    _ specification: WorkloadSpecification
  ) async throws(NFVError) -> AttachmentPoint {
    let id = specification.id
    let folder = folder(id)
    let record: RunFolder.Record
    if let known = folder.record, known.id == id {
      record = known
    } else {
      guard let users = ranges.withLock({ $0.take() }) else {
        throw NFVError(.exhausted, "no range of user ids is left for \(id); remove workloads")
      }
      record = RunFolder.Record(id: id, users: users)
      do throws(NFVError) {
        try Self.onHost("cannot prepare \(id)") { () throws(SystemError) in
          try folder.write(record)
        }
      } catch {
        ranges.withLock { $0.giveBack(users) }
        throw error
      }
    }
    do throws(HoldError) {
      return try Self.point(
        await hold.makeNamespaces(key: Self.placeKey(id), users: record.users, network: true))
    } catch {
      guard case .refused(let refusal) = error, refusal.code == .exists else {
        throw Self.problem("cannot make the namespaces of \(id)", error)
      }
    }
    return try await attachmentPoint(of: id)
  }

  public func attachmentPoint(
    of workload: WorkloadID
  ) async throws(NFVError) -> AttachmentPoint {
    do throws(HoldError) {
      return try Self.point(await hold.open(key: Self.placeKey(workload)))
    } catch {
      guard case .refused(let refusal) = error, refusal.code == .notFound else {
        throw Self.problem("cannot open the namespaces of \(workload)", error)
      }
    }
    // Started: its own process holds them.
    guard let process = folder(workload).process else {
      throw NFVError(.notFound, "there is no container \(workload) on this host")
    }
    return try Self.onHost("cannot open the network namespace of \(workload)") {
      () throws(SystemError) in
      let pidfd = try process.open()
      defer { try? pidfd.close() }
      let namespace = try openFile("/proc/\(process.pid)/ns/net", .read)
      // The pid was the process's own as long as its pidfd tells no end.
      guard try !waitReadable(pidfd, milliseconds: 0) else {
        try? namespace.close()
        throw SystemError(call: "open", errno: .noSuchProcess, subject: "\(workload)")
      }
      return .networkNamespace(HeldNamespace(namespace))
    }
  }

  private static func point(
    _ descriptors: [DescriptorRole: FileDescriptor]
  ) throws(HoldError) -> AttachmentPoint {
    for (role, descriptor) in descriptors where role != .network { try? descriptor.close() }
    guard let network = descriptors[.network] else {
      throw .malformed("no network namespace came")
    }
    return .networkNamespace(HeldNamespace(network))
  }

  // MARK: Stop and delete

  public func stop(_ workload: WorkloadID, grace: Duration) async throws(NFVError) {
    let key = Self.workloadKey(workload)
    let group = group(workload)
    do throws(HoldError) {
      let process = try await hold.open(key: key)
      defer { for descriptor in process.values { try? descriptor.close() } }
      if let pidfd = process[.process] {
        try Self.onHold { () throws(SystemError) in
          if try !waitReadable(pidfd, milliseconds: 0) {
            if grace > .zero {
              try Self.send(SIGTERM, to: pidfd)
              _ = try waitReadable(pidfd, milliseconds: grace.milliseconds)
            }
            try Self.send(SIGKILL, to: pidfd)
          }
          try group.kill()
          guard try waitReadable(pidfd, milliseconds: 10_000) else {
            throw SystemError(call: "kill", errno: .timedOut, subject: "\(workload)")
          }
        }
        return
      }
    } catch {
      guard case .refused(let refusal) = error,
        refusal.code == .notFound || refusal.code == .wrongState
      else { throw Self.problem("cannot stop \(workload)", error) }
    }
    // The hold does not know it: never started, being started, or of a hold that died.
    try Self.onHost("cannot stop \(workload)") { () throws(SystemError) in
      if let pidfd = try? folder(workload).process?.open() {
        defer { try? pidfd.close() }
        try Self.send(SIGKILL, to: pidfd)
        _ = try waitReadable(pidfd, milliseconds: 10_000)
      }
      try group.kill()
    }
  }

  public func delete(_ workload: WorkloadID) async throws(NFVError) {
    try await stop(workload, grace: .zero)
    let folder = folder(workload)
    for key in [Self.workloadKey(workload), Self.placeKey(workload)] {
      do throws(HoldError) {
        try await hold.release(key: key)
      } catch {
        guard case .refused(let refusal) = error, refusal.code == .notFound else {
          throw Self.problem("cannot release \(workload)", error)
        }
      }
    }
    let users = folder.record?.users
    try Self.onHost("cannot remove what is left of \(workload)") { () throws(SystemError) in
      try removeGroup(workload)
      try RunFolder.remove(workload.name, in: configuration.runFolder + "/runtime")
      try removeFile(logPath(workload))
      try RunFolder.remove(workload.name, in: configuration.runFolder + "/workloads")
    }
    if let users { ranges.withLock { $0.giveBack(users) } }
  }

  /// A process that was killed leaves its groups a moment later.
  private func removeGroup(_ workload: WorkloadID) throws(SystemError) {
    let folders =
      configuration.runtime == .crun
      ? group(workload).folders : hierarchies.allFolders(of: Self.groupPath(workload))
    var pause: UInt32 = 1
    while true {
      do throws(SystemError) {
        try Cgroup.remove(folders)
        hierarchies.removeEmptyParents(of: Self.groupPath(workload))
        return
      } catch  where error.errno == .resourceBusy && pause < 1000 {
        try group(workload).kill()
        sleepThread(milliseconds: pause)
        pause *= 2
      }
    }
  }

  // MARK: Observe

  public func observe() async throws(NFVError) -> [ObservedWorkload] {
    let holdings: [Holding]
    do throws(HoldError) {
      holdings = try await hold.list()
    } catch {
      throw Self.problem("cannot ask what runs", error)
    }
    let records = try Self.onHost("cannot list workloads") { () throws(SystemError) in
      try RunFolder.records(in: configuration.runFolder)
    }
    var phases: [WorkloadID: ObservedWorkload.Phase] = [:]
    for record in records { phases[record.id] = .prepared }
    var known: Set<WorkloadID> = []
    for holding in holdings {
      guard let id = Self.workload(of: holding.key), id.store == configuration.store else {
        continue
      }
      switch holding.state {
      case .namespaces, .stored: phases[id] = phases[id] ?? .prepared
      case .starting, .running:
        phases[id] = .running
        known.insert(id)
      case .exited(_, let status):
        phases[id] = .exited(ExitSource.status(status, of: group(id)))
        known.insert(id)
      }
    }
    // Those that an earlier hold started.
    for record in records where !known.contains(record.id) {
      guard let process = folder(record.id).process else { continue }
      phases[record.id] = await adopt(record.id, process)
    }
    return phases.map { ObservedWorkload(id: $0.key, phase: $0.value) }.sorted { $0.id < $1.id }
  }

  private func adopt(
    _ id: WorkloadID, _ process: ProcessIdentity
  ) async -> ObservedWorkload.Phase {
    let key = Self.workloadKey(id)
    guard let result = try? await hold.adopt(key: key, process) else { return .exited(.unknown) }
    if let exit = result.exit { return .exited(ExitSource.status(exit, of: group(id))) }
    try? await hold.keepLog(key: key, path: logPath(id), limit: configuration.logBytes)
    return .running
  }

  static func workload(of key: String) -> WorkloadID? {
    for prefix in ["workload:", "place:"] where key.hasPrefix(prefix) {
      return WorkloadID(String(key.dropFirst(prefix.count)))
    }
    return nil
  }

  // MARK: Usage and log

  public func usage(of workload: WorkloadID) async throws(NFVError) -> WorkloadUsage {
    let usage = try Self.onHost("cannot read what \(workload) uses") { () throws(SystemError) in
      try group(workload).usage()
    }
    return WorkloadUsage(
      cpuNanoseconds: usage.cpuNanoseconds, memoryBytes: usage.memoryBytes,
      processes: usage.processes)
  }

  public func log(
    of workload: WorkloadID, from offset: UInt64, limit: Int
  ) async throws(NFVError) -> LogChunk {
    try Self.onHost("cannot read the output of \(workload)") { () throws(SystemError) in
      let file: FileDescriptor
      do throws(SystemError) {
        file = try openFile(logPath(workload), .read)
      } catch  where error.errno == .noSuchFileOrDirectory {
        return LogChunk(offset: 0, bytes: [])
      }
      defer { try? file.close() }
      let length = try fileSize(file).length
      guard offset < length, let start = try nextData(in: file, from: offset) else {
        return LogChunk(offset: min(offset, length), bytes: [])
      }
      return LogChunk(
        offset: start, bytes: try readRange(of: file, from: start, limit: max(0, limit)))
    }
  }

  // MARK: Errors

  static func onHost<Value>(
    _ what: String, _ body: () throws(SystemError) -> Value
  ) throws(NFVError) -> Value {
    do throws(SystemError) {
      return try body()
    } catch {
      throw NFVError(
        error.errno == .noSpace || error.errno == .noMemory ? .exhausted : .failed, what,
        cause: error)
    }
  }

  static func onHold<Value>(
    _ body: () throws(SystemError) -> Value
  ) throws(HoldError) -> Value {
    do throws(SystemError) {
      return try body()
    } catch {
      throw .system(error)
    }
  }

  static func problem(_ what: String, _ error: HoldError) -> NFVError {
    if case .refused(let refusal) = error, refusal.code == .timedOut {
      return NFVError(.timeout, what, cause: error)
    }
    if case .lost = error {
      return NFVError(
        .unavailable, what + ": the hold does not answer; see whether martlet-hold runs",
        cause: error)
    }
    return NFVError(.failed, what, cause: error)
  }

  /// A process that has ended in the meantime is no error.
  private static func send(_ signal: Int32, to pidfd: FileDescriptor) throws(SystemError) {
    do throws(SystemError) {
      try sendSignal(signal, to: pidfd)
    } catch  where error.errno == .noSuchProcess {}
  }
}

/// A network namespace that is open as long as this lives.
final class HeldNamespace: NetworkNamespaceReference {
  private let descriptor: FileDescriptor

  init(_ descriptor: FileDescriptor) { self.descriptor = descriptor }
  deinit { try? descriptor.close() }

  var fileDescriptor: Int32 { descriptor.rawValue }
}

extension FileDescriptor {
  fileprivate func closeQuietly() { try? close() }
}

extension Duration {
  /// Whole milliseconds, at least 0.
  var milliseconds: Int32 {
    let (seconds, attoseconds) = components
    return Int32(clamping: max(0, seconds) * 1000 + max(0, attoseconds) / 1_000_000_000_000_000)
  }
}
