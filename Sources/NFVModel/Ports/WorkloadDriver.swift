/// What a driver can give to workloads of one technology; what it cannot is refused before anything
/// starts.
public struct DriverCapabilities: Sendable, Hashable {
  public enum AttachmentKind: String, Sendable, Hashable {
    case networkNamespace, tapDescriptor, hostBridge, driverManaged
  }

  public var attachmentKinds: Set<AttachmentKind>
  public var reportsExitStatus: Bool
  public var reportsOutOfMemory: Bool
  public var executesCommands: Bool
  public var hasConsole: Bool
  public var pauses: Bool
  /// Gives block devices that outlive workloads.
  public var keepsVolumes: Bool
  /// Hands a new document to a function that runs, where that has a control channel.
  public var configures: Bool

  public init(
    attachmentKinds: Set<AttachmentKind>, reportsExitStatus: Bool, reportsOutOfMemory: Bool,
    executesCommands: Bool, hasConsole: Bool, pauses: Bool, keepsVolumes: Bool,
    configures: Bool = false
  ) {
    self.attachmentKinds = attachmentKinds
    self.reportsExitStatus = reportsExitStatus
    self.reportsOutOfMemory = reportsOutOfMemory
    self.executesCommands = executesCommands
    self.hasConsole = hasConsole
    self.pauses = pauses
    self.keepsVolumes = keepsVolumes
    self.configures = configures
  }
}

extension NFVError {
  /// The host has no driver for what a VDU is.
  public static func cannotRun(_ vdu: Vdu) -> NFVError {
    NFVError(
      .unprocessable,
      "this host cannot run \(vdu.technology.rawValue), which the VDU \(vdu.id) is; martlet describe "
        + "host tells what it runs, and martletd, started anew, finds what was installed since")
  }
}

extension Vdu {
  /// Refuses what its technology's driver cannot give, before anything starts.
  public func check(on capabilities: DriverCapabilities) throws(NFVError) {
    guard storages.isEmpty || capabilities.keepsVolumes else {
      throw NFVError(
        .unprocessable,
        "the VDU \(id) has a VirtualBlockStorage, and a \(technology.rawValue) has no block devices "
          + "on this host; a virtual machine with Linux has")
    }
    if case .command = readiness.check, !capabilities.executesCommands {
      throw NFVError(
        .unprocessable,
        "the VDU \(id) is ready when a command says so, and in a \(technology.rawValue) no command "
          + "can be run on this host; let it be asked by icmp or tcp")
    }
  }
}

/// Everything a driver needs to run a workload; technology-neutral.
public struct WorkloadSpecification: Sendable, Hashable {
  /// A file given to the workload below its root, such as one rendered from the package's templates.
  public struct File: Sendable, Hashable {
    /// Absolute, as the workload sees it.
    public var path: String
    public var content: [UInt8]
    /// Permission bits.
    public var mode: UInt32

    public init(path: String, content: [UInt8], mode: UInt32) {
      self.path = path
      self.content = content
      self.mode = mode
    }
  }

  /// A block device that outlives its workloads (VirtualBlockStorage), kept by Vnfc and id.
  public struct Volume: Sendable, Hashable {
    public var id: String
    public var sizeBytes: UInt64

    public init(id: String, sizeBytes: UInt64) {
      self.id = id
      self.sizeBytes = sizeBytes
    }
  }

  public var id: WorkloadID
  public var technology: Technology
  /// For people: the host name inside.
  public var hostName: String
  public var image: PreparedImage
  /// What replaces the image's entry point and command; nil leaves them.
  public var command: [String]?
  /// Added to the image's environment, `NAME=value`.
  public var environment: [String]
  /// Thousandths of a processor; nil is unlimited.
  public var cpuMillicores: Int?
  /// In bytes, the writable layer included.
  public var memoryBytes: UInt64
  /// The size of the writable layer in bytes.
  public var writableLayerBytes: UInt64
  public var maximumProcesses: Int
  /// Linux capabilities from the allow list, without `CAP_`.
  public var linuxCapabilities: [String]
  /// The document of the contract between platform and function: `/run/martlet/config.json`.
  public var document: [UInt8]
  /// The document's own: a later document has a higher one.
  public var generation: Int
  public var files: [File]
  /// In the order of the devices.
  public var volumes: [Volume]
  /// In the order of the interfaces; their links are the network driver's.
  public var ports: [Port]
  /// Whether it forwards packets between its ports.
  public var forwards: Bool
  public var addressOwner: AddressOwner

  public init(
    id: WorkloadID, technology: Technology, hostName: String, image: PreparedImage,
    command: [String]? = nil, environment: [String] = [], cpuMillicores: Int? = nil,
    memoryBytes: UInt64, writableLayerBytes: UInt64, maximumProcesses: Int = 512,
    linuxCapabilities: [String] = [], document: [UInt8], generation: Int = 1, files: [File] = [],
    volumes: [Volume] = [], ports: [Port] = [], forwards: Bool = false,
    addressOwner: AddressOwner = .kernel
  ) {
    self.id = id
    self.technology = technology
    self.hostName = hostName
    self.image = image
    self.command = command
    self.environment = environment
    self.cpuMillicores = cpuMillicores
    self.memoryBytes = memoryBytes
    self.writableLayerBytes = writableLayerBytes
    self.maximumProcesses = maximumProcesses
    self.linuxCapabilities = linuxCapabilities
    self.document = document
    self.generation = generation
    self.files = files
    self.volumes = volumes
    self.ports = ports
    self.forwards = forwards
    self.addressOwner = addressOwner
  }
}

/// How a workload's main process ended.
public enum ExitStatus: Sendable, Hashable, Codable, CustomStringConvertible {
  case exited(code: Int32)
  case killed(signal: Int32)
  case outOfMemory
  /// It did not answer any more, and its driver killed it.
  case hung
  case unknown

  public var description: String {
    switch self {
    case .exited(let code): "exited with status \(code)"
    case .killed(let signal): "was killed by signal \(signal)"
    case .outOfMemory: "was killed: it used more memory than its limit"
    case .hung: "was killed: it did not answer any more"
    case .unknown: "ended, exit code unknown"
    }
  }
}

/// What a driver finds of a workload on the host.
public struct ObservedWorkload: Sendable, Hashable {
  public enum Phase: Sendable, Hashable {
    /// Namespaces and links may be there, no process was started.
    case prepared
    case running
    case exited(ExitStatus)
  }

  public var id: WorkloadID
  public var phase: Phase
  /// Of the document that it was told last, where the driver keeps that.
  public var generation: Int?

  public init(id: WorkloadID, phase: Phase, generation: Int? = nil) {
    self.id = id
    self.phase = phase
    self.generation = generation
  }
}

/// A workload's main process ended by itself.
public struct WorkloadExit: Sendable, Hashable {
  public var id: WorkloadID
  public var status: ExitStatus

  public init(id: WorkloadID, status: ExitStatus) {
    self.id = id
    self.status = status
  }
}

/// What a workload uses now.
public struct WorkloadUsage: Sendable, Hashable, Codable {
  /// Processor time since its start.
  public var cpuNanoseconds: UInt64
  /// Of a virtual machine, what its guest's processors took of that; the rest is its monitor's own. nil
  /// where nobody tells.
  public var guestCPUNanoseconds: UInt64?
  /// Resident, without page cache that can be dropped.
  public var memoryBytes: UInt64
  public var processes: Int

  public init(
    cpuNanoseconds: UInt64, guestCPUNanoseconds: UInt64? = nil, memoryBytes: UInt64, processes: Int
  ) {
    self.cpuNanoseconds = cpuNanoseconds
    self.guestCPUNanoseconds = guestCPUNanoseconds
    self.memoryBytes = memoryBytes
    self.processes = processes
  }
}

/// A command inside a workload.
public struct ExecRequest: Sendable, Hashable {
  public struct TerminalSize: Sendable, Hashable {
    public var rows, columns: Int
    public init(rows: Int, columns: Int) {
      self.rows = rows
      self.columns = columns
    }
  }

  public var arguments: [String]
  public var environment: [String]
  /// nil: without a terminal, standard output and error apart.
  public var terminal: TerminalSize?

  public init(arguments: [String], environment: [String] = [], terminal: TerminalSize? = nil) {
    self.arguments = arguments
    self.environment = environment
    self.terminal = terminal
  }
}

/// What a command inside a workload gives back, in order; `exited` comes last.
public enum ExecOutput: Sendable, Hashable {
  case standardOutput([UInt8])
  case standardError([UInt8])
  case exited(ExitStatus)
}

/// A command that runs inside a workload.
public protocol ExecSession: Sendable {
  /// Ends after `exited`. To be iterated once; the reader's pace bounds what is read.
  var output: AsyncStream<ExecOutput> { get }
  /// Writes to its standard input; returns when it was taken.
  func write(_ bytes: [UInt8]) async throws(NFVError)
  /// Ends its standard input.
  func closeInput() async
  func resize(_ size: ExecRequest.TerminalSize) async
  /// Kills it, where it still runs, and frees what it holds.
  func cancel() async
}

/// Runs workloads of some technologies on one host.
///
/// Methods may block their thread and are called from threads that may block. They are idempotent.
/// For one workload they are never called concurrently, except `stop` during `start`; for different
/// ones they are.
public protocol WorkloadDriver: Sendable {
  /// Of each technology that it runs.
  var capabilities: [Technology: DriverCapabilities] { get }

  /// What runs its workloads' instructions where that is not the host's processor itself, such as
  /// `kvm` or `tcg`; nil where there is no such thing, or while it is not known yet.
  var accelerator: String? { get }

  /// Makes the place where the workload's ports are plugged in, and has them plugged in by `plug`;
  /// beside that it may do what of the start does not depend on them.
  func prepare(
    _ specification: WorkloadSpecification,
    plug: @Sendable (AttachmentPoint) async throws(NFVError) -> Void
  ) async throws(NFVError)

  /// Starts the prepared workload; returns when its main process was started.
  func start(_ specification: WorkloadSpecification) async throws(NFVError)

  /// Ends the workload's processes: politely for `grace`, then for good. Returns when they are gone.
  func stop(_ workload: WorkloadID, grace: Duration) async throws(NFVError)

  /// Removes all that is left of a stopped workload.
  func delete(_ workload: WorkloadID) async throws(NFVError)

  /// Everything on this host that bears our store's identity.
  func observe() async throws(NFVError) -> [ObservedWorkload]

  /// Where a running workload's ports are plugged in, for probes and after a restart of the daemon.
  func attachmentPoint(of workload: WorkloadID) async throws(NFVError) -> AttachmentPoint

  /// Ends of main processes; each is reported at least once, also those from before this process.
  var exits: AsyncStream<WorkloadExit> { get }

  func usage(of workload: WorkloadID) async throws(NFVError) -> WorkloadUsage

  /// Runs a command beside the workload's main process, not in a paused workload.
  func execute(_ request: ExecRequest, in workload: WorkloadID) async throws(NFVError)
    -> any ExecSession

  /// Output of the workload from `offset` on, at most `limit` octets.
  func log(of workload: WorkloadID, from offset: UInt64, limit: Int) async throws(NFVError)
    -> LogChunk
}

/// Workloads that can be stopped in the middle of whatever they do, and go on later as if no time had
/// passed. A paused workload runs, as far as its phase goes; it may be stopped and deleted.
public protocol Pausing: WorkloadDriver {
  /// - Throws: `notFound` where it does not run, `timeout` where it cannot be reached.
  func pause(_ workload: WorkloadID) async throws(NFVError)

  /// Lets it go on.
  func resume(_ workload: WorkloadID) async throws(NFVError)

  func isPaused(_ workload: WorkloadID) async throws(NFVError) -> Bool
}

/// Workloads whose functions may have a control channel, by which they take new documents over and
/// tell what they count.
public protocol Configuring: WorkloadDriver {
  /// Hands the specification's document to the running function, which takes it over without losing
  /// what it keeps, such as flows. One without control channel gets the document as it gets its first:
  /// it reads it when it likes, at the latest when it starts again.
  ///
  /// - Throws: `unprocessable` with the function's own words where it refuses the document; then it
  ///   goes on with the last one. Else it could not be asked.
  func configure(_ specification: WorkloadSpecification) async throws(NFVError)

  /// What the function has counted since its start, by its own names and in its order; empty where it
  /// has no control channel.
  func counters(of workload: WorkloadID) async throws(NFVError) -> [FunctionCounter]
}

/// Something that a function counts.
public struct FunctionCounter: Sendable, Hashable {
  public var name: String
  public var value: UInt64

  public init(name: String, value: UInt64) {
    self.name = name
    self.value = value
  }
}

/// What a host's mandatory access control does to a workload.
public enum SecurityProfile: Sendable, Hashable, CustomStringConvertible {
  /// It runs under AppArmor's profile of this name.
  case appArmor(String)
  /// Nothing, and why.
  case none(String)

  public var description: String {
    switch self {
    case .appArmor(let name): "AppArmor: \(name)"
    case .none(let reason): "none: \(reason)"
    }
  }
}

/// Workloads that are confined by the host's mandatory access control, where it has one.
public protocol Confining: WorkloadDriver {
  /// What holds a workload that runs, as the kernel says it; of any other, what its next start gets.
  func securityProfile(of workload: WorkloadID) -> SecurityProfile
}

/// Workloads with a console of their own, as a machine has one, beside commands.
public protocol ConsoleServing: WorkloadDriver {
  /// Joins the console; several may. What the workload writes from now on is the session's output,
  /// what its reader was too slow for is left out and said so. The session ends with the workload,
  /// or by `cancel`, which leaves the workload alone.
  func console(of workload: WorkloadID) async throws(NFVError) -> any ExecSession
}

/// Drivers that give workloads block devices which outlive them. `prepare` makes what is missing, and
/// never more than one workload that runs has a Vnfc's volumes.
public protocol VolumeKeeping: WorkloadDriver {
  /// The Vnfcs of our store that have volumes on this host.
  func vnfcsWithVolumes() async throws(NFVError) -> Set<VnfcID>

  /// Removes all volumes of a Vnfc, none of whose workloads is there any more.
  func removeVolumes(of vnfc: VnfcID) async throws(NFVError)
}

/// Drivers whose workloads can hang without ending: a virtual machine's monitor.
public protocol Watching: WorkloadDriver {
  /// Looks after running workloads and kills those that hang, whose ends are told as all others'; until
  /// the task is cancelled.
  func watch() async
}

/// Drivers that keep workloads waiting: started, without ports and without a function's document, so
/// that a start is a claim (`prepare` finds one, `start` tells it its document). An empty pool means a
/// start as any other.
///
/// A waiting workload has an identity of its own, of no Vnfc: after a crash it is a stray that is
/// swept as all others.
public protocol Pooling: WorkloadDriver {
  /// What is to be done for the pools, off the way of any request. For one consumer.
  var poolWork: AsyncStream<PoolWork> { get }

  /// Of which workloads wait; none where pools have no size.
  var pooledTechnologies: Set<Technology> { get }

  /// A workload of such a technology was left running by an earlier daemon: the next one like it
  /// shall find one that waits, as after a start.
  func noteUse(_ specification: WorkloadSpecification)

  /// A workload that the pools asked for is started: it can be claimed.
  func noteWaiting(_ specification: WorkloadSpecification)

  /// The pools that there are now.
  var pools: [WorkloadPool] { get }

  /// Ends what waits where `isUnneeded` says so, by the pools' work.
  func drainPools(where isUnneeded: (TenantID, ImageDigest) -> Bool)

  /// Ends the pools' work; starts go on without them.
  /// - Returns: what waits still, to be deleted.
  func closePools() -> [WorkloadID]
}

/// What a pool asks for.
public enum PoolWork: Sendable, Hashable {
  /// To prepare and start this workload, with links that have no network.
  case make(WorkloadSpecification)
  /// To delete this one.
  case discard(WorkloadID)
}

/// Workloads of one kind that wait.
public struct WorkloadPool: Sendable, Hashable {
  public var tenant: TenantID
  public var technology: Technology
  public var image: ImageDigest
  public var ports: Int
  /// What each may use at most, in octets.
  public var memoryLimit: UInt64
  /// Those that can be claimed.
  public var waiting: Int
  /// How many there shall be.
  public var size: Int
  /// What those that wait use now, in octets.
  public var memoryBytes: UInt64

  public init(
    tenant: TenantID, technology: Technology, image: ImageDigest, ports: Int, memoryLimit: UInt64,
    waiting: Int, size: Int, memoryBytes: UInt64
  ) {
    self.tenant = tenant
    self.technology = technology
    self.image = image
    self.ports = ports
    self.memoryLimit = memoryLimit
    self.waiting = waiting
    self.size = size
    self.memoryBytes = memoryBytes
  }
}

/// A piece of a workload's output. Offsets count from its start and stay cursors after the oldest
/// output was dropped.
public struct LogChunk: Sendable, Hashable {
  /// Of the first octet of `bytes`; greater than asked for where older output was dropped.
  public var offset: UInt64
  public var bytes: [UInt8]

  public init(offset: UInt64, bytes: [UInt8]) {
    self.offset = offset
    self.bytes = bytes
  }
}
