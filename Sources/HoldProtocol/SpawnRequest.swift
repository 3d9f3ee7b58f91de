public import LinuxSystem

/// A program to run, and the world to run it in. What is not listed here is not inherited.
///
/// The order in the child: cgroups, out-of-memory score, mount namespace and its operations, new
/// namespaces, joined namespaces, session, working directory, descriptors, limits, user, exec.
public struct SpawnRequest: Sendable, Hashable {
  public var key: String
  /// The program's path on the host, as seen after the mount operations.
  public var executable: String
  public var arguments: [String]
  /// `NAME=value` each.
  public var environment: [String]
  public var workingDirectory: String
  public var input: StandardStream
  public var output: StandardStream
  public var error: StandardStream
  public var descriptors: [DescriptorMapping]
  /// cgroup folders to be in, one per hierarchy.
  public var cgroups: [String]
  /// What to mount in a mount namespace of its own; nil: the hold's mount namespace.
  public var mounts: [MountOperation]?
  public var unshare: NamespaceSet
  /// Namespaces to enter, in this order.
  public var join: [DescriptorSource]
  public var user: UserIdentity?
  public var oomScoreAdjustment: Int32?
  public var limits: [ResourceLimit]
  public var noNewPrivileges: Bool
  /// Standard input becomes the terminal of the program's new session.
  public var controllingTerminal: Bool
  /// Answer when the program has ended; otherwise as soon as it is executed.
  public var waitForExit: Bool
  /// The program is an OCI runtime that leaves a process behind and its pid in this file: that
  /// process is then the one kept under `key`. Implies waiting for the runtime's end.
  public var adoptPidFile: String?
  /// After this the program's process group is killed and the request refused; 0: never. It covers
  /// the launch, and the program's run where the request waits for its end.
  public var timeoutMilliseconds: UInt32
  /// Unless nil, the program is forked from one that was loaded once and waits, where there is one
  /// already: a program of many libraries begins sooner, and shares what its loader wrote. The first so
  /// many of ``mounts`` were done in that one, for all. All that are forked have the same places in
  /// memory.
  public var sharedMounts: UInt32?

  public init(
    key: String, executable: String, arguments: [String], environment: [String] = [],
    workingDirectory: String = "/", input: StandardStream = .null, output: StandardStream = .null,
    error: StandardStream = .null, descriptors: [DescriptorMapping] = [], cgroups: [String] = [],
    mounts: [MountOperation]? = nil, unshare: NamespaceSet = [], join: [DescriptorSource] = [],
    user: UserIdentity? = nil, oomScoreAdjustment: Int32? = nil, limits: [ResourceLimit] = [],
    noNewPrivileges: Bool = false, controllingTerminal: Bool = false, waitForExit: Bool = false,
    adoptPidFile: String? = nil, timeoutMilliseconds: UInt32 = 0, sharedMounts: UInt32? = nil
  ) {
    self.key = key
    self.executable = executable
    self.arguments = arguments
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.input = input
    self.output = output
    self.error = error
    self.descriptors = descriptors
    self.cgroups = cgroups
    self.mounts = mounts
    self.unshare = unshare
    self.join = join
    self.user = user
    self.oomScoreAdjustment = oomScoreAdjustment
    self.limits = limits
    self.noNewPrivileges = noNewPrivileges
    self.controllingTerminal = controllingTerminal
    self.waitForExit = waitForExit
    self.adoptPidFile = adoptPidFile
    self.timeoutMilliseconds = timeoutMilliseconds
    self.sharedMounts = sharedMounts
  }
}

/// Where a standard stream goes.
public enum StandardStream: Sendable, Hashable {
  case null
  /// An append-only file whose oldest bytes are freed beyond `limit` bytes; offsets into it stay
  /// what they were, so that they serve as cursors. The program holds the file itself: nothing
  /// that happens to the hold makes its writes fail.
  case log(path: String, limit: UInt64)
  case descriptor(DescriptorSource)
  /// Kept in memory, the last 4 KiB told with the exit: for programs that end soon.
  case capture
}

public struct DescriptorMapping: Sendable, Hashable {
  public var source: DescriptorSource
  /// The number it has in the program, 3 or more.
  public var target: Int32

  public init(source: DescriptorSource, target: Int32) {
    self.source = source
    self.target = target
  }
}

/// Kinds of namespaces to make anew for a program (`unshare(2)`); the mount namespace is not among
/// them, it comes with ``SpawnRequest/mounts``.
public struct NamespaceSet: OptionSet, Sendable, Hashable {
  public var rawValue: UInt8

  public init(rawValue: UInt8) { self.rawValue = rawValue }

  public static let network = NamespaceSet(rawValue: 1)
  public static let ipc = NamespaceSet(rawValue: 2)
  public static let uts = NamespaceSet(rawValue: 4)
  public static let cgroup = NamespaceSet(rawValue: 8)
  /// The program is its first process.
  public static let pid = NamespaceSet(rawValue: 16)
}

public struct UserIdentity: Sendable, Hashable {
  public var uid: UInt32
  public var gid: UInt32
  public var groups: [UInt32]

  public init(uid: UInt32, gid: UInt32, groups: [UInt32] = []) {
    self.uid = uid
    self.gid = gid
    self.groups = groups
  }
}

/// One of `setrlimit(2)`'s.
public struct ResourceLimit: Sendable, Hashable {
  /// The kernel's number, such as `RLIMIT_NOFILE`.
  public var resource: Int32
  public var soft: UInt64
  public var hard: UInt64

  public init(resource: Int32, soft: UInt64, hard: UInt64) {
    self.resource = resource
    self.soft = soft
    self.hard = hard
  }
}

/// One step in a program's private mount namespace. The namespace starts as a private copy of the
/// hold's: nothing done in it is seen outside, and it goes with its last process.
public enum MountOperation: Sendable, Hashable {
  /// Cuts the propagation of a mount and all below it.
  case makePrivate(path: String)
  case makeDirectory(path: String, mode: UInt32, owner: Mount.Owner?)
  /// nodev, nosuid; `size` in bytes.
  case tmpfs(target: String, size: UInt64, mode: UInt32, owner: Mount.Owner?)
  case bind(source: String, target: String, attributes: Mount.Attributes, recursive: Bool)
  case move(source: String, target: String)
  /// `lower` from the top to the bottom; without `upper` and `work` it is read-only.
  case overlay(lower: [String], upper: String, work: String, target: String)
  /// A bind mount whose owners are seen through the user namespace kept under `userNamespace`.
  case idmappedBind(
    source: String, target: String, userNamespace: String, attributes: Mount.Attributes,
    recursive: Bool)
  case unmount(target: String)
  /// The processes of the program's pid namespace, and nothing of the host (proc(5), `subset=pid`).
  case processes(target: String)
}

/// What became of a spawn.
public struct SpawnResult: Sendable, Hashable {
  /// The program, or the process that the runtime left behind.
  public var process: ProcessIdentity
  /// How it ended, where the request waited for that or it had ended already.
  public var exit: ExitStatus?
  /// The end of its captured stderr, at most 4 KiB.
  public var errorTail: String

  public init(process: ProcessIdentity, exit: ExitStatus?, errorTail: String) {
    self.process = process
    self.exit = exit
    self.errorTail = errorTail
  }
}
