import HoldProtocol
import LinuxSystem
public import NFVModel
import SystemPackage

extension ContainerDriver {
  public func start(_ specification: WorkloadSpecification) async throws(NFVError) {
    let id = specification.id
    let folder = folder(id)
    guard let record = folder.record, record.id == id else {
      throw NFVError(.conflict, "\(id) is not prepared; start it anew")
    }
    let group = group(id)
    let namespaces = try await namespaces(of: id)
    defer { for descriptor in namespaces.open { try? descriptor.close() } }
    try writeBundle(specification, record, namespaces)
    let input = try HeldWorkloads.onHost("cannot start \(id)") { () throws(SystemError) in
      if configuration.runtime == .crun {
        try group.create(
          CgroupLimits(
            cpuMillicores: specification.cpuMillicores, memoryBytes: specification.memoryBytes,
            maximumProcesses: specification.maximumProcesses))
      }
      return try Self.emptyInput()
    }
    defer { try? input.close() }
    let result: SpawnResult
    do throws(HoldError) {
      result = try await hold.spawn(
        spawnRequest(specification, record, group), descriptors: [input])
    } catch {
      if case .refused(let refusal) = error, refusal.code == .exists { return }
      try? group.kill()
      throw startProblem(specification, error)
    }
    try HeldWorkloads.onHost("cannot note the process of \(id)") { () throws(SystemError) in
      try folder.write(result.process)
    }
    // From here on the namespaces live as long as the process: a function that has died does not go
    // on answering ARP and echoes.
    try? await hold.release(key: Self.placeKey(id))
  }

  /// A standard input at its end. Never the host's /dev/null: runtimes change the owner of standard
  /// streams to the container's user, and it would be the host's own node.
  private static func emptyInput() throws(SystemError) -> FileDescriptor {
    let (read, write) = try makePipe()
    try? write.close()
    return read
  }

  /// Where the runtime finds the namespaces.
  private struct NamespacePaths {
    var user: String
    var network: String
    /// To be kept open until the runtime has run.
    var open: [FileDescriptor] = []
  }

  /// crun gets them as descriptors of its own; runc's children have those no more, but may look at
  /// ours.
  private func namespaces(of id: WorkloadID) async throws(NFVError) -> NamespacePaths {
    if configuration.runtime == .crun {
      return NamespacePaths(
        user: "/proc/self/fd/\(Self.userDescriptor)",
        network: "/proc/self/fd/\(Self.networkDescriptor)")
    }
    let held: [DescriptorRole: FileDescriptor]
    do throws(HoldError) {
      held = try await hold.open(key: Self.placeKey(id))
    } catch {
      throw HeldWorkloads.problem("cannot open the namespaces of \(id)", error)
    }
    let folder = "/proc/\(currentProcessID())/fd"
    return NamespacePaths(
      user: "\(folder)/\(held[.user]?.rawValue ?? -1)",
      network: "\(folder)/\(held[.network]?.rawValue ?? -1)", open: Array(held.values))
  }

  private func writeBundle(
    _ specification: WorkloadSpecification, _ record: RunFolder.Record,
    _ namespaces: NamespacePaths
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
    let place = OCIConfiguration.Place(
      userNamespace: namespaces.user, networkNamespace: namespaces.network,
      root: stage + "/root", documents: folder.documents, files: files,
      cgroup: HeldWorkloads.groupPath(id), users: record.users)
    let configuration = try OCIConfiguration(
      specification: specification, place: place, user: user, runtime: configuration.runtime
    ).document().text
    try HeldWorkloads.onHost("cannot write the configuration of \(id)") { () throws(SystemError) in
      try Mount.makeDirectory(folder.documents, mode: 0o500, owner: owner)
      try replaceFile(
        folder.documents + "/config.json", specification.document, mode: 0o400, owner: owner)
      for (file, given) in zip(specification.files, files) {
        try replaceFile(given.source, file.content, mode: file.mode & 0o777, owner: owner)
      }
      try replaceFile(folder.bundle + "/config.json", Array(configuration.utf8), mode: 0o600)
    }
  }

  private func imageUser(_ image: PreparedImage) throws(NFVError) -> ImageUser {
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
        "--log=\(folder.runtimeLog)", "run", "--detach", "--pid-file=\(folder.pidFile)",
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
      mounts: mounts(specification, record), adoptPidFile: folder.pidFile,
      timeoutMilliseconds: UInt32(configuration.startLimit.milliseconds))
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
    return mounts + runtimeMounts
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
