import HoldProtocol
import LinuxSystem
public import NFVModel
import Synchronization
import SystemPackage

/// Containers under an OCI runtime, born in the hold: user and network namespace made together, an
/// idmapped image below a sized layer in memory, cgroups placed before the runtime runs.
///
/// What is on the host can be found again by `observe` after any crash: the hold's holdings and one
/// folder per workload say it. On a host with AppArmor they run under a profile of their store's; for
/// SELinux they get no label.
public final class ContainerDriver: Confining {
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

  public let capabilities: [Technology: DriverCapabilities] = [
    .container: DriverCapabilities(
      attachmentKinds: [.networkNamespace], reportsExitStatus: true, reportsOutOfMemory: true,
      executesCommands: true, hasConsole: false, pauses: true, keepsVolumes: false,
      configures: true)
  ]
  public var accelerator: String? { nil }
  public let exits: AsyncStream<WorkloadExit>
  /// Of what is started from now on.
  public let securityProfile: SecurityProfile

  let configuration: Configuration
  let workloads: HeldWorkloads
  let stock: NamespaceStock
  /// Tells this driver's commands from those of an earlier daemon.
  let commandsID = IdentifierSource.system.uuid()
  /// Containers that were asked for and not yet started.
  let creations = Mutex<[WorkloadID: Creation]>([:])

  var hold: HoldClient { workloads.hold }
  var hierarchies: CgroupHierarchies { workloads.hierarchies }

  /// - Throws: `unavailable` where the runtime or a cgroup controller is missing.
  public init(_ configuration: Configuration, hold: HoldClient) throws(NFVError) {
    self.configuration = configuration
    // A command may end before it has read its input.
    ignoreBrokenPipes()
    let workloads = try HeldWorkloads(
      store: configuration.store, runFolder: configuration.runFolder,
      logFolder: configuration.logFolder, logBytes: configuration.logBytes, hold: hold,
      processPrefix: "workload:")
    try HeldWorkloads.onHost("cannot set up containers") { () throws(SystemError) in
      for name in ["runtime", "stage"] {
        try Mount.makeDirectory("\(configuration.runFolder)/\(name)", mode: 0o711)
      }
      try Mount.makeDirectory(configuration.runFolder + "/console", mode: 0o700)
      try openFile(configuration.runtimePath, .path).closeQuietly()
    }
    self.workloads = workloads
    securityProfile = ContainerProfile(store: configuration.store).load()
    stock = NamespaceStock(
      store: configuration.store,
      users: .containers(store: configuration.store, used: try workloads.records()), hold: hold)
    exits = ExitSource.exits(of: workloads) { id, status in
      ExitSource.status(status, of: workloads.group(id))
    }
  }

  // MARK: Names

  static func placeKey(_ id: WorkloadID) -> String { "place:\(id)" }

  func folder(_ id: WorkloadID) -> RunFolder { workloads.folder(id) }
  func group(_ id: WorkloadID) -> Cgroup { workloads.group(id) }

  // MARK: Prepare

  public func prepare(
    _ specification: WorkloadSpecification,
    plug: @Sendable (AttachmentPoint) async throws(NFVError) -> Void
  ) async throws(NFVError) {
    let id = specification.id
    let folder = folder(id)
    let known = folder.record.flatMap { $0.id == id ? $0 : nil }
    let pair = known == nil ? stock.take() : nil
    guard let users = known?.users ?? pair?.users ?? stock.takeUsers() else {
      throw NFVError(.exhausted, "no range of user ids is left for \(id); remove workloads")
    }
    let record = known ?? RunFolder.Record(id: id, users: users)
    let point: @Sendable () async throws(NFVError) -> AttachmentPoint
    if let pair {
      point = { () throws(NFVError) in .networkNamespace(pair.network) }
    } else {
      if known == nil {
        do throws(NFVError) { try note(record) } catch {
          stock.giveBack(users)
          throw error
        }
      }
      let namespaces = hold.makeNamespaces(
        key: Self.placeKey(id), users: users, network: true)
      point = { () async throws(NFVError) in try await self.point(of: id, namespaces) }
    }
    // On two threads: the ports are plugged in while the container is created, which takes longer. Links
    // are found by their names, too, should the folder not come to be.
    async let created = Self.result { () async throws(NFVError) in
      if let pair { try await claim(pair, record) }
      try await create(specification, record)
    }
    let plugged = await Self.result { () async throws(NFVError) in try await plug(point()) }
    let creation = await created
    // Without namespaces neither goes well, and only this one says why.
    try plugged.get()
    try creation.get()
  }

  private func note(_ record: RunFolder.Record) throws(NFVError) {
    try HeldWorkloads.onHost("cannot prepare \(record.id)") { () throws(SystemError) in
      try folder(record.id).write(record)
    }
  }

  /// Makes namespaces from the stock a container's own.
  private func claim(
    _ pair: NamespaceStock.Pair, _ record: RunFolder.Record
  ) async throws(NFVError) {
    do throws(NFVError) { try note(record) } catch {
      await stock.giveBack(pair)
      throw error
    }
    // Done before what is asked next, which names the new key; where this fails, that does.
    _ = hold.rename(key: pair.key, to: Self.placeKey(record.id))
  }

  private static func result(
    _ body: () async throws(NFVError) -> Void
  ) async -> Result<Void, NFVError> {
    do throws(NFVError) {
      return .success(try await body())
    } catch {
      return .failure(error)
    }
  }

  private func point(
    of id: WorkloadID, _ namespaces: HoldClient.Call<[DescriptorRole: FileDescriptor]>
  ) async throws(NFVError) -> AttachmentPoint {
    do throws(HoldError) {
      return try Self.point(await namespaces.value())
    } catch {
      guard case .refused(let refusal) = error, refusal.code == .exists else {
        throw HeldWorkloads.problem("cannot make the namespaces of \(id)", error)
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
        throw HeldWorkloads.problem("cannot open the namespaces of \(workload)", error)
      }
    }
    // Started: its own process holds them.
    guard let process = folder(workload).process else {
      throw NFVError(.notFound, "there is no container \(workload) on this host")
    }
    return try HeldWorkloads.onHost("cannot open the network namespace of \(workload)") {
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
    let isWaiting = await endCreation(of: workload)
    try await workloads.end(workload) { (pidfd) throws(SystemError) in
      guard grace > .zero, !isWaiting else { return }
      try HeldWorkloads.send(.terminate, to: pidfd)
      _ = try await HeldWorkloads.ends(pidfd, within: grace)
    }
  }

  public func delete(_ workload: WorkloadID) async throws(NFVError) {
    try await stop(workload, grace: .zero)
    for key in [workloads.key(workload), Self.placeKey(workload)] {
      try await workloads.release(key, of: workload)
    }
    let users = folder(workload).record?.users
    try HeldWorkloads.onHost("cannot remove what is left of \(workload)") {
      () throws(SystemError) in
      let groups =
        configuration.runtime == .crun
        ? group(workload).folders : hierarchies.allFolders(of: workloads.groupPath(workload))
      try workloads.removeGroup(groups, of: workload)
      try RunFolder.remove(workload.name, in: configuration.runFolder + "/runtime")
      try workloads.removeFiles(of: workload)
    }
    if let users { stock.giveBack(users) }
  }

  public func securityProfile(of workload: WorkloadID) -> SecurityProfile {
    // Without AppArmor nothing of it holds anything.
    guard AppArmor.isEnabled, let process = folder(workload).process,
      let pidfd = try? process.open()
    else { return securityProfile }
    defer { try? pidfd.close() }
    do throws(SystemError) {
      guard let name = try AppArmor.profile(ofProcess: process.pid) else {
        return .none("it was started without a profile")
      }
      return .appArmor(name)
    } catch {
      return .none("what holds it cannot be read: \(error)")
    }
  }

  /// Gives up the stock of namespaces, and where no workload is left what they share: their control
  /// groups' parents, and the profile that `init` gave to the kernel. Nothing starts afterwards.
  public func leaveHost() async throws(NFVError) {
    await stock.close()
    guard try workloads.records().isEmpty else { return }
    workloads.removeParentGroups()
    try HeldWorkloads.onHost("cannot remove the AppArmor profile") { () throws(SystemError) in
      try ContainerProfile.removeAll(of: configuration.store)
    }
  }

  // MARK: Observe

  public func observe() async throws(NFVError) -> [ObservedWorkload] {
    await stock.adjust()
    stock.fill()
    await endStrayCommands()
    return try await workloads.observe(
      isWaiting: isCreated, status: { id, status in ExitSource.status(status, of: group(id)) })
  }

  public func usage(of workload: WorkloadID) async throws(NFVError) -> WorkloadUsage {
    try workloads.usage(of: workload)
  }

  public func log(
    of workload: WorkloadID, from offset: UInt64, limit: Int
  ) async throws(NFVError) -> LogChunk {
    try workloads.log(of: workload, from: offset, limit: limit)
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
