import HoldProtocol
import LinuxSystem
import NFVModel
import Synchronization
import SystemPackage

/// What workloads that are born in the hold have in common, whatever runs in them: a process under a
/// key, a run folder, a cgroup and a log, each named by the workload's identity.
struct HeldWorkloads: Sendable {
  let store: StoreID
  /// For what goes with the host's boot; in a file system of memory.
  let runFolder: String
  let logFolder: String
  /// What is kept of one workload's output, in bytes.
  let logBytes: UInt64
  let hold: HoldClient
  let hierarchies: CgroupHierarchies
  /// What the keys of the workloads' processes begin with; other drivers' begin otherwise.
  let processPrefix: String
  private let claims = Claims()

  /// Makes the folders.
  /// - Throws: `unavailable` where a cgroup controller is missing.
  init(
    store: StoreID, runFolder: String, logFolder: String, logBytes: UInt64, hold: HoldClient,
    processPrefix: String
  ) throws(NFVError) {
    self.store = store
    self.runFolder = runFolder
    self.logFolder = logFolder
    self.logBytes = logBytes
    self.hold = hold
    self.processPrefix = processPrefix
    hierarchies = try Self.onHost("cannot set up workloads in \(runFolder)") {
      () throws(SystemError) in
      try Mount.makeDirectory(runFolder, mode: 0o711)
      try Mount.makeDirectory(runFolder + "/workloads", mode: 0o711)
      try Mount.makeDirectory(logFolder, mode: 0o700)
      return try CgroupHierarchies.detect()
    }
    for record in try records() {
      if let origin = record.origin { claims.add(record.id, origin) }
    }
    guard hierarchies.missing.isEmpty else {
      throw NFVError(
        .unavailable,
        "workloads need the cgroup controllers cpu, memory and pids; missing are "
          + hierarchies.missing.map(\.rawValue).joined(separator: ", ")
          + ": enable them on the kernel's command line or in the parent of this group")
    }
  }

  // MARK: Names

  /// The identity by which what a workload has on the host is named: its own, or the one with which
  /// it waited.
  func origin(of id: WorkloadID) -> WorkloadID { claims.origin(of: id) ?? id }

  func key(_ id: WorkloadID) -> String { processPrefix + origin(of: id).description }

  func workload(ofKey key: String) -> WorkloadID? {
    guard key.hasPrefix(processPrefix),
      let id = WorkloadID(String(key.dropFirst(processPrefix.count))), id.store == store
    else { return nil }
    return claims.claimant(of: id) ?? id
  }

  func folder(_ id: WorkloadID) -> RunFolder { RunFolder(origin(of: id), in: runFolder) }
  func logPath(_ id: WorkloadID) -> String { "\(logFolder)/\(origin(of: id).name).log" }
  func group(_ id: WorkloadID) -> Cgroup { hierarchies.group(groupPath(id)) }

  func groupPath(_ id: WorkloadID) -> String {
    let id = origin(of: id)
    return "martlet/\(id.store)/\(id.name)"
  }

  /// Gives a waiting workload to `id`, which has nothing on the host. It happens by one file, at once
  /// or not at all; all that is on the host keeps its names.
  func claim(_ origin: WorkloadID, for id: WorkloadID) throws(SystemError) {
    let folder = folder(origin)
    guard var record = folder.record else {
      throw SystemError(call: "claim", errno: .noSuchFileOrDirectory, subject: folder.path)
    }
    record.id = id
    record.origin = origin
    try folder.write(record)
    claims.add(id, origin)
  }

  /// Makes a workload that was claimed a waiting one again, which can be deleted by that name.
  func unclaim(_ id: WorkloadID) throws(SystemError) {
    let folder = folder(id)
    if var record = folder.record, let origin = record.origin {
      record.id = origin
      record.origin = nil
      try folder.write(record)
    }
    claims.remove(id)
  }

  func records() throws(NFVError) -> [RunFolder.Record] {
    try Self.onHost("cannot list workloads") { () throws(SystemError) in
      try RunFolder.records(in: runFolder)
    }
  }

  // MARK: Life

  /// Ends the workload's processes: `politely` first, which may take its time, then for good.
  /// - Parameter politely: gets the process, which has not ended.
  func end(
    _ workload: WorkloadID, politely: (FileDescriptor) async throws(SystemError) -> Void
  ) async throws(NFVError) {
    let group = group(workload)
    do throws(HoldError) {
      let process = try await hold.open(key: key(workload))
      defer { for descriptor in process.values { try? descriptor.close() } }
      if let pidfd = process[.process] {
        do throws(SystemError) {
          if try !waitReadable(pidfd, milliseconds: 0) {
            if group.isFrozen { try group.thaw() }
            try await politely(pidfd)
            try Self.send(.kill, to: pidfd)
          }
          try group.kill()
          guard try await Self.ends(pidfd, within: .seconds(10), isKilled: true) else {
            throw SystemError(call: "kill", errno: .timedOut, subject: "\(workload)")
          }
        } catch {
          throw .system(error)
        }
        return
      }
    } catch {
      guard case .refused(let refusal) = error,
        refusal.code == .notFound || refusal.code == .wrongState
      else { throw Self.problem("cannot stop \(workload)", error) }
    }
    // The hold does not know it: never started, being started, or of a hold that died.
    do throws(SystemError) {
      if let pidfd = try? folder(workload).process?.open() {
        defer { try? pidfd.close() }
        try Self.send(.kill, to: pidfd)
        _ = try await Self.ends(pidfd, within: .seconds(10), isKilled: true)
      }
      try group.kill()
    } catch {
      throw NFVError(.failed, "cannot stop \(workload)", cause: error)
    }
  }

  /// Whether the process of `pidfd` ends within `limit`. One that ends at once is noticed at once, later
  /// ends a twentieth of the time too late; only the first milliseconds block the thread.
  ///
  /// - Parameter isKilled: it is ending already, and is waited for by a task that is cancelled as well,
  ///   such as that which empties a pool as the daemon ends.
  /// - Throws: ECANCELED where the task is cancelled otherwise: nothing is known then.
  static func ends(
    _ pidfd: FileDescriptor, within limit: Duration, isKilled: Bool = false
  ) async throws(SystemError) -> Bool {
    let start = ContinuousClock.now
    let first = min(limit, .milliseconds(5))
    if try waitReadable(pidfd, milliseconds: first.milliseconds) { return true }
    while true {
      let waited = ContinuousClock.now - start
      if waited >= limit { return false }
      do {
        try await Task.sleep(
          for: min(max(waited / 20, .milliseconds(1)), .milliseconds(50), limit - waited))
      } catch {
        guard isKilled else { throw SystemError(call: "wait", errno: .canceled, subject: "") }
        return try waitReadable(pidfd, milliseconds: (limit - waited).milliseconds)
      }
      if try waitReadable(pidfd, milliseconds: 0) { return true }
    }
  }

  /// Which waiting workload has become which.
  private final class Claims: Sendable {
    private struct State {
      var origins: [WorkloadID: WorkloadID] = [:]
      var claimants: [WorkloadID: WorkloadID] = [:]
    }

    private let state = Mutex(State())

    func origin(of id: WorkloadID) -> WorkloadID? { state.withLock { $0.origins[id] } }

    func claimant(of origin: WorkloadID) -> WorkloadID? {
      state.withLock { $0.claimants[origin] }
    }

    func add(_ id: WorkloadID, _ origin: WorkloadID) {
      state.withLock { state in
        state.origins[id] = origin
        state.claimants[origin] = id
      }
    }

    func remove(_ id: WorkloadID) {
      state.withLock { state in
        guard let origin = state.origins.removeValue(forKey: id) else { return }
        state.claimants[origin] = nil
      }
    }
  }

  enum Signal: Int32 {
    case kill = 9
    case terminate = 15
  }

  /// A process that has ended in the meantime is no error.
  static func send(_ signal: Signal, to pidfd: FileDescriptor) throws(SystemError) {
    do throws(SystemError) {
      try sendSignal(signal.rawValue, to: pidfd)
    } catch  where error.errno == .noSuchProcess {}
  }

  /// Has the hold forget what it keeps under a key, if anything.
  func release(_ key: String, of workload: WorkloadID) async throws(NFVError) {
    do throws(HoldError) {
      try await hold.release(key: key)
    } catch {
      guard case .refused(let refusal) = error, refusal.code == .notFound else {
        throw Self.problem("cannot release \(workload)", error)
      }
    }
  }

  /// Removes an ended workload's cgroup folders, waiting for its last process to leave them.
  func removeGroup(_ folders: [String], of workload: WorkloadID) throws(SystemError) {
    var pause: UInt32 = 1
    while true {
      do throws(SystemError) {
        return try Cgroup.remove(folders)
      } catch  where error.errno == .resourceBusy && pause < 1000 {
        try group(workload).kill()
        sleepThread(milliseconds: pause)
        pause *= 2
      }
    }
  }

  /// Removes the groups above the workloads', where none is left. Not with each last workload: the next
  /// one's start would make them anew, a tenth of a millisecond in each hierarchy.
  func removeParentGroups() { hierarchies.removeEmptyParents(of: "martlet/\(store)/any") }

  /// Removes the workload's log and its folder, by which it would be found again.
  func removeFiles(of workload: WorkloadID) throws(SystemError) {
    try removeFile(logPath(workload))
    try RunFolder.remove(origin(of: workload).name, in: runFolder + "/workloads")
    claims.remove(workload)
  }

  // MARK: Observe

  /// Every workload that has a folder or a process here. What an earlier hold started is adopted.
  ///
  /// - Parameter isWaiting: whether the process of a workload was made but not let run.
  func observe(
    isWaiting: (WorkloadID) -> Bool = { _ in false },
    status: (WorkloadID, LinuxSystem.ExitStatus) async -> NFVModel.ExitStatus
  ) async throws(NFVError) -> [ObservedWorkload] {
    var phases: [WorkloadID: ObservedWorkload.Phase] = [:]
    for record in try records() { phases[record.id] = .prepared }
    for (id, exit) in try await kept() {
      if let exit {
        phases[id] = .exited(await status(id, exit))
      } else {
        phases[id] = isWaiting(id) ? .prepared : .running
      }
    }
    return phases.map {
      ObservedWorkload(id: $0.key, phase: $0.value, generation: folder($0.key).generation)
    }
    .sorted { $0.id < $1.id }
  }

  /// The workloads that have, or had, a process, with how it ended; nil where it has not. What an
  /// earlier hold started is adopted, so that its end is told and its log kept.
  ///
  /// - Throws: where the hold does not say of all of them; `unavailable` where the connection is lost.
  func kept() async throws(NFVError) -> [WorkloadID: LinuxSystem.ExitStatus?] {
    let holdings: [Holding]
    do throws(HoldError) {
      holdings = try await hold.list()
    } catch {
      throw Self.problem("cannot ask what runs", error)
    }
    var kept: [WorkloadID: LinuxSystem.ExitStatus?] = [:]
    for holding in holdings {
      guard let id = workload(ofKey: holding.key) else { continue }
      switch holding.state {
      case .namespaces, .stored: continue
      case .starting, .running: kept.updateValue(nil, forKey: id)
      case .exited(_, let exit): kept.updateValue(exit, forKey: id)
      }
    }
    for record in try records() where kept[record.id] == nil {
      guard let process = folder(record.id).process else { continue }
      do throws(HoldError) {
        kept.updateValue(try await adopt(record.id, process), forKey: record.id)
      } catch {
        throw Self.problem("cannot adopt \(record.id)", error)
      }
    }
    return kept
  }

  /// - Returns: how it has ended; nil where it runs.
  /// - Throws: where that is not known.
  private func adopt(
    _ id: WorkloadID, _ process: ProcessIdentity
  ) async throws(HoldError) -> LinuxSystem.ExitStatus? {
    let key = key(id)
    do throws(HoldError) {
      if let exit = try await hold.adopt(key: key, process).exit { return exit }
    } catch {
      guard case .refused(let refusal) = error else { throw error }
      switch refusal.code {
      case .system where refusal.errno == Errno.noSuchProcess.rawValue: return .unknown
      // Somebody else who asked for it was quicker.
      case .exists: return nil
      default: throw error
      }
    }
    do throws(HoldError) {
      try await hold.keepLog(key: key, path: logPath(id), limit: logBytes)
    } catch {
      // A log without a bound is no reason not to look after its workload.
      guard case .refused = error else { throw error }
    }
    return nil
  }

  // MARK: Usage and log

  func usage(of workload: WorkloadID) throws(NFVError) -> WorkloadUsage {
    let usage = try Self.onHost("cannot read what \(workload) uses") { () throws(SystemError) in
      try group(workload).usage()
    }
    return WorkloadUsage(
      cpuNanoseconds: usage.cpuNanoseconds, memoryBytes: usage.memoryBytes,
      processes: usage.processes)
  }

  func log(
    of workload: WorkloadID, from offset: UInt64, limit: Int
  ) throws(NFVError) -> LogChunk {
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

  /// The end of what a workload wrote.
  func lastWords(of id: WorkloadID) -> String {
    guard let log = try? openFile(logPath(id), .read) else { return "" }
    defer { try? log.close() }
    guard let length = try? fileSize(log).length else { return "" }
    let start = length > 2048 ? length - 2048 : 0
    let bytes = (try? readRange(of: log, from: start, limit: 2048)) ?? []
    var text = String(decoding: bytes.filter { $0 >= 32 || $0 == 10 }, as: UTF8.self)
    while text.last?.isWhitespace == true { text.removeLast() }
    return text
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
}

extension Duration {
  /// Whole milliseconds, at least 0.
  var milliseconds: Int32 {
    let (seconds, attoseconds) = components
    return Int32(clamping: max(0, seconds) * 1000 + max(0, attoseconds) / 1_000_000_000_000_000)
  }
}
