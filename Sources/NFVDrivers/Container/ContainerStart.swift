import HoldProtocol
import LinuxSystem
public import NFVModel
import Synchronization
import SystemPackage

extension ContainerDriver {
  /// A container on its way: created by the runtime, it waits for its start.
  struct Creation: Sendable {
    var call: HoldClient.Call<SpawnResult>
    /// Namespaces that the runtime finds by our descriptors; open until it has run.
    var held: [OwnedDescriptor]
  }

  /// Has the runtime create the container, which then waits for its start, and does not wait for it.
  func create(
    _ specification: WorkloadSpecification, _ record: RunFolder.Record
  ) async throws(NFVError) {
    let id = specification.id
    guard creations.withLock({ $0[id] == nil }), isCreated(id) else { return }
    // For a runtime that cannot take the namespaces as its own descriptors.
    let held = configuration.runtime == .crun ? [:] : try await heldNamespaces(of: id)
    try layOut(specification, record, held)
    let input = try HeldWorkloads.onHost("cannot start \(id)", Self.emptyInput)
    defer { try? input.close() }
    let call = hold.spawn(spawnRequest(specification, record, group(id)), descriptors: [input])
    creations.withLock { $0[id] = Creation(call: call, held: Array(held.values)) }
  }

  /// Writes what the runtime reads, and makes the cgroups in which it is born.
  private func layOut(
    _ specification: WorkloadSpecification, _ record: RunFolder.Record,
    _ held: [DescriptorRole: OwnedDescriptor]
  ) throws(NFVError) {
    try writeBundle(specification, record, held)
    guard configuration.runtime == .crun else { return }
    try HeldWorkloads.onHost("cannot start \(specification.id)") { () throws(SystemError) in
      try group(specification.id).create(
        CgroupLimits(
          cpuMillicores: specification.cpuMillicores, memoryBytes: specification.memoryBytes,
          maximumProcesses: specification.maximumProcesses))
    }
  }

  /// Waits until a container that is being created can be removed.
  /// - Returns: whether it was never started, so that nothing in it can take note of a signal.
  func endCreation(of id: WorkloadID) async -> Bool {
    guard let creation = creations.withLock({ $0.removeValue(forKey: id) }) else {
      return isCreated(id)
    }
    _ = try? await creation.call.value()
    return true
  }

  /// Whether the container is created, or about to be, and waits for its start.
  func isCreated(_ id: WorkloadID) -> Bool {
    folder(id).process == nil || fileExists(startFifo(id))
  }

  public func start(_ specification: WorkloadSpecification) async throws(NFVError) {
    let id = specification.id
    let folder = folder(id)
    guard let creation = creations.withLock({ $0.removeValue(forKey: id) }) else {
      if !isCreated(id) { return }
      throw NFVError(.conflict, "\(id) is not prepared; start it anew")
    }
    let isOnItsWay = await letRunEarly(id, creation)
    let result: SpawnResult
    do throws(HoldError) {
      result = try await creation.call.value()
    } catch {
      try? group(id).kill()
      throw startProblem(specification, error)
    }
    try HeldWorkloads.onHost("cannot start the process of \(id)") { () throws(SystemError) in
      try folder.write(result.process)
      if !isOnItsWay { try letRun(id) }
    }
    // From here on the namespaces live as long as the process: a function that has died does not go
    // on answering ARP and echoes.
    try? await hold.release(key: Self.placeKey(id))
    stock.fill()
  }

  /// What the created container waits at: crun's reads one octet from it, runc's waits until
  /// somebody reads. The runtimes' own `start` does just this, in a process of its own (1 to 3 ms).
  private func startFifo(_ id: WorkloadID) -> String {
    "\(configuration.runFolder)/runtime/\(id.name)/exec.fifo"
  }

  /// crun makes its fifo long before the container waits at it, and what is written there lies ready:
  /// the container then never waits for crun's end and for all who hear of it.
  /// - Returns: whether it could be written while the container was being created.
  private func letRunEarly(_ id: WorkloadID, _ creation: Creation) async -> Bool {
    guard configuration.runtime == .crun else { return false }
    while !creation.call.isAnswered {
      if (try? letRun(id)) != nil { return true }
      // Some milliseconds in all; a task that sleeps wakes three threads each time, beside crun.
      sleepThread(microseconds: 250)
    }
    return false
  }

  private func letRun(_ id: WorkloadID) throws(SystemError) {
    let path = startFifo(id)
    switch configuration.runtime {
    case .crun:
      // Without its reader this fails at once (ENXIO), as it must where the container has died.
      let fifo = try openFile(path, .writeNonBlocking)
      defer { try? fifo.close() }
      try removeFile(path)
      try writeAll([0], to: fifo)
    case .runc:
      let fifo = try openFile(path, .readNonBlocking)
      defer { try? fifo.close() }
      guard try waitReadable(fifo, milliseconds: configuration.startLimit.milliseconds) else {
        throw SystemError(call: "open", errno: .timedOut, subject: path)
      }
      _ = try readSome(of: fifo, limit: 1)
      try removeFile(path)
    }
  }

  /// A standard input at its end. Never the host's /dev/null: runtimes change the owner of standard
  /// streams to the container's user, and it would be the host's own node.
  private static func emptyInput() throws(SystemError) -> FileDescriptor {
    let (read, write) = try makePipe()
    try? write.close()
    return read
  }

  /// Where the runtime finds the namespaces. crun gets them as descriptors of its own; runc's
  /// children have those no more, but may look at ours.
  private func namespacePaths(
    _ held: [DescriptorRole: OwnedDescriptor]
  ) -> (user: String, network: String) {
    guard configuration.runtime != .crun else {
      return ("/proc/self/fd/\(Self.userDescriptor)", "/proc/self/fd/\(Self.networkDescriptor)")
    }
    let folder = "/proc/\(currentProcessID())/fd"
    func path(_ role: DescriptorRole) -> String {
      "\(folder)/\(held[role]?.descriptor.rawValue ?? -1)"
    }
    return (path(.user), path(.network))
  }

  func heldNamespaces(
    of id: WorkloadID
  ) async throws(NFVError) -> [DescriptorRole: OwnedDescriptor] {
    do throws(HoldError) {
      return try await hold.open(key: Self.placeKey(id)).mapValues(OwnedDescriptor.init)
    } catch {
      throw HeldWorkloads.problem("cannot open the namespaces of \(id)", error)
    }
  }

  private func writeBundle(
    _ specification: WorkloadSpecification, _ record: RunFolder.Record,
    _ held: [DescriptorRole: OwnedDescriptor]
  ) throws(NFVError) {
    let id = specification.id
    let folder = folder(id)
    let user = try imageUser(specification.image)
    let owner = Mount.Owner(
      user: record.users.hostStart + user.uid, group: record.users.hostStart + user.gid)
    var files: [OCIConfiguration.Place.File] = []
    for (index, file) in specification.files.enumerated() {
      files.append(.init(source: "\(folder.path)/file-\(index)", path: file.path))
    }
    let namespaces = namespacePaths(held)
    let place = OCIConfiguration.Place(
      userNamespace: namespaces.user, networkNamespace: namespaces.network,
      root: stage + "/root", documents: folder.documents, files: files,
      cgroup: workloads.groupPath(id), users: record.users)
    let configuration = try OCIConfiguration(
      specification: specification, place: place, user: user, runtime: configuration.runtime,
      securityProfile: securityProfile
    ).document().text
    try HeldWorkloads.onHost("cannot write the configuration of \(id)") { () throws(SystemError) in
      try Mount.makeDirectory(folder.documents, mode: 0o500, owner: owner)
      try replaceFile(
        folder.documents + "/config.json", specification.document, mode: 0o400, owner: owner)
      try folder.write(generation: specification.generation)
      for (file, given) in zip(specification.files, files) {
        try replaceFile(given.source, file.content, mode: file.mode & 0o777, owner: owner)
      }
      try replaceFile(folder.bundle + "/config.json", Array(configuration.utf8), mode: 0o600)
    }
  }

  func imageUser(_ image: PreparedImage) throws(NFVError) -> ImageUser {
    func table(_ path: String) -> String {
      guard let root = try? openFile(image.root, .path) else { return "" }
      defer { try? root.close() }
      return (try? Confined.read(path, limit: 1 << 20, in: root))
        .map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
    return try ImageUser(
      image.configuration.user, passwd: { table("etc/passwd") }, group: { table("etc/group") })
  }

  // MARK: The runtime's call

  /// Descriptors of the namespaces in the runtime.
  private static var userDescriptor: Int32 { 10 }
  private static var networkDescriptor: Int32 { 11 }

  /// An empty folder, over which each runtime's own mount namespace has the workload's root.
  private var stage: String { configuration.runFolder + "/stage" }

  private func spawnRequest(
    _ specification: WorkloadSpecification, _ record: RunFolder.Record, _ group: Cgroup
  ) -> SpawnRequest {
    let id = specification.id
    let folder = folder(id)
    let log = StandardStream.log(path: workloads.logPath(id), limit: configuration.logBytes)
    let isCrun = configuration.runtime == .crun
    return SpawnRequest(
      key: workloads.key(id), executable: configuration.runtimePath,
      arguments: runtimeArguments + [
        "--log=\(folder.runtimeLog)", "create", "--pid-file=\(folder.pidFile)",
        "--bundle=\(folder.bundle)", id.name,
      ],
      environment: Self.runtimeEnvironment, input: .descriptor(.passed(0)), output: log,
      error: log,
      descriptors: [
        DescriptorMapping(
          source: .held(key: Self.placeKey(id), .user), target: Self.userDescriptor),
        DescriptorMapping(
          source: .held(key: Self.placeKey(id), .network), target: Self.networkDescriptor),
      ],
      cgroups: isCrun ? group.folders : [],
      mounts: runtimeMounts + mounts(specification, record), adoptPidFile: folder.pidFile,
      timeoutMilliseconds: UInt32(configuration.startLimit.milliseconds),
      sharedMounts: sharedMounts)
  }

  static let runtimeEnvironment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]

  /// What every call of the runtime begins with.
  var runtimeArguments: [String] {
    let name = configuration.runtime == .crun ? "crun" : "runc"
    var arguments = [name, "--root=\(configuration.runFolder)/runtime"]
    // It is born in its cgroups, and so is what it starts.
    if configuration.runtime == .crun { arguments.append("--cgroup-manager=disabled") }
    return arguments
  }

  /// What every call of the runtime sees of the host: itself read-only (crun would else copy itself
  /// first), and no hierarchies that it would refuse to work beside.
  var runtimeMounts: [MountOperation] {
    var mounts: [MountOperation] = []
    if configuration.runtime == .crun {
      if !hierarchies.isUnifiedOnly {
        mounts.append(
          .tmpfs(target: "/sys/fs/cgroup", size: 4096, mode: 0o555, owner: nil))
      }
      mounts.append(
        .bind(
          source: configuration.runtimePath, target: configuration.runtimePath,
          attributes: .readOnly, recursive: false))
    }
    return mounts
  }

  /// crun is loaded once: of its ten libraries' millisecond it needs nothing. runc's threads begin
  /// before anything could wait in it.
  var sharedMounts: UInt32? {
    configuration.runtime == .crun ? UInt32(runtimeMounts.count) : nil
  }

  private func mounts(
    _ specification: WorkloadSpecification, _ record: RunFolder.Record
  ) -> [MountOperation] {
    let user = Mount.Owner(user: record.users.hostStart, group: record.users.hostStart)
    let isReadOnly = specification.writableLayerBytes == 0
    let lower = isReadOnly ? stage + "/root" : stage + "/lower"
    var mounts: [MountOperation] = [
      // The folders and files of the layer take a little beside their content.
      .tmpfs(
        target: stage, size: specification.writableLayerBytes + 65536, mode: 0o755, owner: nil),
      .makeDirectory(path: stage + "/root", mode: 0o755, owner: nil),
    ]
    if !isReadOnly {
      mounts += [
        .makeDirectory(path: lower, mode: 0o755, owner: nil),
        .makeDirectory(path: stage + "/upper", mode: 0o755, owner: user),
        .makeDirectory(path: stage + "/work", mode: 0o755, owner: user),
      ]
    }
    mounts.append(
      .idmappedBind(
        source: specification.image.root, target: lower,
        userNamespace: Self.placeKey(specification.id),
        attributes: [.readOnly, .noSetUserID, .noDevices], recursive: false))
    if !isReadOnly {
      mounts.append(
        .overlay(
          lower: [lower], upper: stage + "/upper", work: stage + "/work", target: stage + "/root"))
    }
    return mounts
  }

  /// What the runtime said last.
  private func runtimeTail(_ id: WorkloadID) -> String {
    let said = (try? readFile(folder(id).runtimeLog, limit: 65536)) ?? []
    var tail = String(decoding: said.suffix(2048), as: UTF8.self)
    while tail.last?.isWhitespace == true { tail.removeLast() }
    return tail
  }

  private func startProblem(
    _ specification: WorkloadSpecification, _ error: HoldError
  ) -> NFVError {
    let id = specification.id
    let tail = runtimeTail(id)
    if case .refused(let refusal) = error, refusal.code == .timedOut {
      return NFVError(
        .timeout,
        "\(configuration.runtimePath) did not start \(id) within \(configuration.startLimit); "
          + "see whether the host is overloaded", cause: tail.isEmpty ? "\(error)" : tail)
    }
    if case .refused(let refusal) = error, refusal.code == .runtime {
      return NFVError(
        .failed,
        "\(configuration.runtimePath) could not start \(id) from the image "
          + "\(specification.image.digest); see whether its command is in the image",
        cause: tail.isEmpty ? refusal.message : tail)
    }
    return HeldWorkloads.problem("cannot start \(id)", error)
  }
}
