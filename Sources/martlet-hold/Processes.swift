import HoldProtocol
import LinuxSystem
import SystemPackage

extension Hold {
  // MARK: Birth

  func spawn(
    _ request: SpawnRequest, _ passed: [FileDescriptor], _ waiter: Waiter
  ) throws(HoldRefusal) {
    try check(newKey: request.key)
    try check(request)
    let pipe = try system { () throws(SystemError) in try makePipe() }
    var opened: [FileDescriptor] = [pipe.write]
    defer { for descriptor in opened { try? descriptor.close() } }
    do throws(HoldRefusal) {
      try start(request, passed, waiter, pipe: pipe, &opened)
    } catch {
      try? pipe.read.close()
      forget(request.key)
      throw error
    }
  }

  private func check(_ request: SpawnRequest) throws(HoldRefusal) {
    var problem: String?
    if request.executable.isEmpty || request.arguments.isEmpty {
      problem = "a program and its own name as first argument are needed"
    }
    let targets = request.descriptors.map(\.target)
    if targets.contains(where: { $0 < 3 || $0 > 1023 }) || Set(targets).count != targets.count {
      problem = "descriptors' targets are from 3 to 1023, each once"
    }
    if request.unshare.rawValue > 31 { problem = "an unknown kind of namespace" }
    if let shared = request.sharedMounts {
      let mounts = request.mounts ?? []
      let isOfAll = mounts.prefix(Int(shared)).allSatisfy {
        if case .idmappedBind = $0 { false } else { true }
      }
      if shared > mounts.count || !isOfAll { problem = "mounts that cannot be shared" }
    }
    if let problem { throw HoldRefusal(code: .malformed, message: problem) }
  }

  private func start(
    _ request: SpawnRequest, _ passed: [FileDescriptor], _ waiter: Waiter,
    pipe: (read: FileDescriptor, write: FileDescriptor), _ opened: inout [FileDescriptor]
  ) throws(HoldRefusal) {
    var errorFile: (path: String, start: UInt64)?
    var streams: [FileDescriptor] = []
    for (number, stream) in [request.input, request.output, request.error].enumerated() {
      switch stream {
      case .null: streams.append(nullDevice)
      case .descriptor(let source): streams.append(try find(source, passed))
      case .log(let path, let limit):
        let file = try system { () throws(SystemError) in
          try keepFile(path, limit: limit, owner: request.key)
          return try openFile(path, .appendOnly)
        }
        opened.append(file)
        streams.append(file)
        if number == 2 { errorFile = (path, try length(of: path)) }
      case .capture:
        // A path that no file has: it begins with no slash.
        let path = "captured:\(request.key)"
        if files[path] == nil {
          let file = try system { () throws(SystemError) in try makeMemoryFile("capture") }
          files[path] = BoundedFile(descriptor: file, limit: 64 * 1024, owners: [request.key])
        }
        streams.append(files[path]!.descriptor)
        if number == 2 { errorFile = (path, try length(of: path)) }
      }
    }
    var sources = ChildPlan.Sources(streams: streams)
    for mapping in request.descriptors {
      sources.descriptors.append((try find(mapping.source, passed), mapping.target))
    }
    for source in request.join { sources.join.append(try find(source, passed)) }
    for case .idmappedBind(_, _, let key, _, _) in request.mounts ?? [] {
      sources.userNamespaces[key] = try find(.held(key: key, .user), passed)
    }
    let cgroup = try openCgroups(request.cgroups, &sources, &opened)

    let plan = { (kind: ChildPlan.Kind) in
      ChildPlan(
        request, sources, as: kind, descriptorLimit: self.descriptorLimit, errorPipe: pipe.write)
    }
    let side: CloneSide
    var isCopy = false
    if let copy = fork(request, plan, cgroup: cgroup) {
      isCopy = true
      side = .parent(pid: copy.pid, pidfd: copy.pidfd)
    } else {
      let executed = plan(.executed)
      side = try system { () throws(SystemError) in
        try cloneProcess(request.unshare.contains(.pid) ? .newPID : [], cgroup: cgroup)
      }
      if case .child = side {
        executed.execute(
          request.executable, arguments: request.arguments, environment: request.environment)
      }
    }
    guard case .parent(let pid, let pidfd) = side else { exitNow(127) }
    var record = ProcessRecord(phase: .launching, pid: pid, pidfd: pidfd)
    record.launchPipe = pipe.read
    record.zygote = isCopy ? Zygote.Kind(request) : nil
    record.waitForExit = request.waitForExit
    record.adoptPidFile = request.adoptPidFile
    record.requester = waiter
    record.errorFile = errorFile
    kept[request.key] = .process(record)
    children[pid] = request.key
    if request.timeoutMilliseconds > 0 {
      deadlines[request.key] = monotonicMilliseconds() + UInt64(request.timeoutMilliseconds)
    }
    try system { () throws(SystemError) in try watch(pipe.read, .launch(key: request.key)) }
  }

  /// Opens the cgroup of version 2, into which the child is born (without the grace period that moving
  /// a process costs), and those that it enters itself.
  private func openCgroups(
    _ paths: [String], _ sources: inout ChildPlan.Sources, _ opened: inout [FileDescriptor]
  ) throws(HoldRefusal) -> FileDescriptor? {
    var birth: FileDescriptor?
    do throws(SystemError) {
      for path in paths {
        if birth == nil, try isCgroup2(path) {
          let folder = try openFile(path, .path)
          opened.append(folder)
          birth = folder
        } else {
          let file = try openFile(path + "/cgroup.procs", .write)
          opened.append(file)
          sources.cgroups.append(file)
        }
      }
    } catch {
      throw HoldRefusal(code: .launch, errno: error.errno.rawValue, message: "cgroup: \(error)")
    }
    return birth
  }

  private func find(
    _ source: DescriptorSource, _ passed: [FileDescriptor]
  ) throws(HoldRefusal) -> FileDescriptor {
    switch source {
    case .passed(let index):
      guard index < passed.count else {
        throw HoldRefusal(
          code: .malformed, message: "descriptor \(index) of \(passed.count) passed ones")
      }
      return passed[Int(index)]
    case .held(let key, let role):
      guard let holding = kept[key] else { throw notFound(key) }
      guard let found = holding.descriptors.first(where: { $0.role == role }) else {
        throw HoldRefusal(code: .wrongState, message: "\(key) has no descriptor of kind \(role)")
      }
      return found.descriptor
    }
  }

  private func length(of path: String) throws(HoldRefusal) -> UInt64 {
    guard let file = files[path] else { return 0 }
    return try system { () throws(SystemError) in try fileSize(file.descriptor).length }
  }

  /// The launching child's pipe speaks (a step failed) or has closed (it is the program now).
  func launched(_ key: String) {
    guard case .process(var record)? = kept[key], let pipe = record.launchPipe else { return }
    let report = (try? readRange(of: pipe, from: nil, limit: 2048)) ?? []
    unwatch(pipe)
    try? pipe.close()
    record.launchPipe = nil
    let requester = record.requester
    if report.count >= 4 {
      kept[key] = .process(record)
      forget(key)
      if let zygote = record.zygote { giveUp(zygote) }
      let code = report[..<4].reversed().reduce(Int32(0)) { $0 << 8 | Int32($1) }
      let message = String(decoding: report[4...], as: UTF8.self)
      return reply(
        requester, .refused(HoldRefusal(code: .launch, errno: code, message: message)))
    }
    if record.adoptPidFile != nil {
      record.phase = .runtime
      runtimes += 1
    } else {
      record.phase = .running
      record.identity = identity(record.pid, record.pidfd)
      if !record.waitForExit, !record.timedOut {
        deadlines[key] = nil
        record.requester = nil
        reply(
          requester,
          .spawned(SpawnResult(process: record.identity!, exit: nil, errorTail: "")))
      }
    }
    kept[key] = .process(record)
  }

  private func identity(_ pid: Int32, _ pidfd: FileDescriptor) -> ProcessIdentity {
    (try? ProcessIdentity(pid: pid, pidfd: pidfd))
      ?? ProcessIdentity(pid: pid, startTicks: 0, handle: [])
  }

  /// Takes on a process that is no child of ours.
  func adopt(
    _ key: String, _ identity: ProcessIdentity, _ waiter: Waiter
  ) throws(HoldRefusal) {
    try check(newKey: key)
    let pidfd = try system { () throws(SystemError) in try identity.open() }
    do throws(HoldRefusal) {
      try keep(key, identity, pidfd)
    } catch {
      forget(key)
      throw error
    }
    reply(waiter, .spawned(SpawnResult(process: identity, exit: nil, errorTail: "")))
  }

  private func keep(
    _ key: String, _ identity: ProcessIdentity, _ pidfd: FileDescriptor
  ) throws(HoldRefusal) {
    var record = ProcessRecord(phase: .running, pid: identity.pid, pidfd: pidfd)
    record.identity = identity
    record.isChild = isChild(identity.pid)
    kept[key] = .process(record)
    if record.isChild {
      children[identity.pid] = key
    } else {
      try system { () throws(SystemError) in try watch(pidfd, .stranger(key: key)) }
    }
  }

  // MARK: Death

  /// Reaps every child that has ended.
  func reap() throws(SystemError) {
    _ = try readSignals()
    while let (pid, status) = try reapChild() {
      if let key = children.removeValue(forKey: pid) {
        ended(key, status)
      } else if runtimes > 0 {
        orphans[pid] = status
      }
    }
  }

  private func readSignals() throws(SystemError) -> Bool {
    do throws(SystemError) {
      return try !readSome(of: childSignals, limit: 4096).isEmpty
    } catch  where error.errno == .wouldBlock {
      return false
    }
  }

  /// A stranger is a zombie: its parent will reap it, only then the kernel tells its exit status.
  func strangerDying(_ key: String) {
    guard case .process(let record)? = kept[key] else { return }
    guard tellsExitOfStrangers(record.pidfd) else { return strangerEnded(key) }
    // POLLIN stays until POLLHUP comes: waiting for the latter alone keeps the loop asleep.
    try? epoll.modify(record.pidfd, [])
  }

  func strangerEnded(_ key: String) {
    guard case .process(let record)? = kept[key] else { return }
    unwatch(record.pidfd)
    ended(key, exitStatus(ofReaped: record.pidfd))
  }

  private func ended(_ key: String, _ status: ExitStatus) {
    // The pipe may not have been looked at yet.
    launched(key)
    guard case .process(var record)? = kept[key] else { return }
    deadlines[key] = nil
    let requester = record.requester
    let tail = record.errorFile.flatMap { files[$0.path]?.tail(from: $0.start) } ?? ""
    if record.timedOut, requester != nil {
      forget(key)
      return reply(
        requester,
        .refused(
          HoldRefusal(
            code: .timedOut, message: "killed after the time set. \(tail)", exit: status)))
    }
    if record.phase == .runtime {
      return runtimeEnded(key, status, tail)
    }
    record.phase = .exited
    record.exit = status
    record.requester = nil
    kept[key] = .process(record)
    reply(
      requester,
      .spawned(SpawnResult(process: record.identity!, exit: status, errorTail: tail)))
    tellExit(key, status)
  }

  private func tellExit(_ key: String, _ status: ExitStatus) {
    for waiter in waiters.removeValue(forKey: key) ?? [] { reply(waiter, .exited(status)) }
    broadcast(.exited(key: key, status))
  }

  /// One runtime less may leave an ended process behind.
  func runtimeEnded() {
    runtimes -= 1
    if runtimes == 0 { orphans = [:] }
  }

  private func runtimeEnded(_ key: String, _ status: ExitStatus, _ tail: String) {
    guard case .process(var record)? = kept[key] else { return }
    let requester = record.requester
    func refuse(_ message: String) {
      forget(key)
      reply(
        requester,
        .refused(HoldRefusal(code: .runtime, message: message, exit: status)))
    }
    guard status == .exited(code: 0) else { return refuse(tail) }
    let path = record.adoptPidFile ?? ""
    let text = (try? readFile(path, limit: 32)) ?? []
    let digits = String(decoding: text.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    guard let pid = Int32(digits), pid > 0 else {
      return refuse("the runtime left no pid in \(path). \(tail)")
    }
    // Either it lives (or waits to be reaped), or it has been reaped before its pid was known.
    let lives = isChild(pid) || orphans[pid] == nil
    guard lives else {
      let end = orphans.removeValue(forKey: pid) ?? .unknown
      record.identity = ProcessIdentity(pid: pid, startTicks: 0, handle: [])
      record.phase = .exited
      record.exit = end
      record.requester = nil
      runtimeEnded()
      kept[key] = .process(record)
      reply(
        requester,
        .spawned(SpawnResult(process: record.identity!, exit: end, errorTail: tail)))
      return tellExit(key, end)
    }
    let pidfd: FileDescriptor
    do throws(SystemError) {
      pidfd = try openPidfd(pid)
    } catch {
      return refuse("the process that the runtime left is gone: \(error). \(tail)")
    }
    try? record.pidfd.close()
    record.pidfd = pidfd
    record.pid = pid
    record.identity = identity(pid, pidfd)
    record.isChild = isChild(pid)
    record.phase = .running
    record.requester = nil
    runtimeEnded()
    kept[key] = .process(record)
    if record.isChild {
      children[pid] = key
    } else {
      do throws(SystemError) {
        try watch(pidfd, .stranger(key: key))
      } catch {
        complain("the end of \(key) can't be watched: \(error)")
      }
    }
    reply(
      requester, .spawned(SpawnResult(process: record.identity!, exit: nil, errorTail: "")))
  }
}
