public import LinuxSystem

/// The protocol between `martletd` and `martlet-hold`.
///
/// One message is one packet of a unix `SOCK_SEQPACKET` socket: a 64-bit id, a 16-bit kind and the
/// kind's values; descriptors travel beside it (SCM_RIGHTS). The client chooses the ids of its
/// requests (never 0) and may have several in flight; a reply bears its request's id, an event
/// bears 0. A kind that the hold does not know is answered by a refusal, never by silence, so that
/// a newer daemon can talk to an older hold and then ask it to replace itself.
public enum HoldProtocol {
  /// Raised when a message changes its form; kinds may be added without.
  public static let version: UInt16 = 3
  /// A longer message is refused and its connection closed.
  public static let maximumMessageSize = 64 * 1024
  /// More descriptors beside one message are refused.
  public static let maximumDescriptors = 64
  /// A key's longest form in UTF-8 bytes.
  public static let maximumKeyLength = 255
}

/// The uids (and gids) of the host that a user namespace sees as 0 and up.
public struct UserRange: Sendable, Hashable {
  public var hostStart: UInt32
  public var count: UInt32

  public init(hostStart: UInt32, count: UInt32) {
    self.hostStart = hostStart
    self.count = count
  }
}

/// Which descriptor of a holding is meant.
public enum DescriptorRole: UInt8, Sendable, Hashable {
  case user = 1
  case network = 2
  case process = 3
  case stored = 4
}

/// A descriptor that a request speaks of.
public enum DescriptorSource: Sendable, Hashable {
  /// The n-th of the descriptors sent with the request.
  case passed(UInt16)
  case held(key: String, DescriptorRole)
}

/// What the hold is and how much it keeps.
public struct HoldStatus: Sendable, Hashable {
  public var version: UInt16
  public var pid: Int32
  /// How often this process has replaced itself.
  public var upgrades: UInt32
  public var holdings: UInt32
  /// Resident memory in bytes.
  public var residentBytes: UInt64
  /// The host's boot (`/proc/sys/kernel/random/boot_id`), to which process identities belong.
  public var bootID: String

  public init(
    version: UInt16, pid: Int32, upgrades: UInt32, holdings: UInt32, residentBytes: UInt64,
    bootID: String
  ) {
    self.version = version
    self.pid = pid
    self.upgrades = upgrades
    self.holdings = holdings
    self.residentBytes = residentBytes
    self.bootID = bootID
  }
}

/// One thing that the hold keeps, and its state.
public struct Holding: Sendable, Hashable {
  public enum State: Sendable, Hashable {
    case namespaces(user: Bool, network: Bool)
    case stored
    /// The program has not been executed yet, or it is a runtime whose workload is not there yet.
    case starting
    case running(ProcessIdentity)
    /// Kept until acknowledged.
    case exited(ProcessIdentity, ExitStatus)
  }

  public var key: String
  public var state: State

  public init(key: String, state: State) {
    self.key = key
    self.state = state
  }
}

/// Why a request was not done.
public struct HoldRefusal: Error, Sendable, Hashable {
  public enum Code: UInt16, Sendable, Hashable {
    case unsupportedVersion = 1
    case unknownRequest = 2
    /// The request's bytes or values make no sense; nothing was done.
    case malformed = 3
    /// The key is in use.
    case exists = 4
    case notFound = 5
    /// The holding is not in a state (or of a kind) for this.
    case wrongState = 6
    /// The hold itself was refused something by the kernel.
    case system = 7
    /// The child failed before it became the program; `message` says at which step.
    case launch = 8
    /// The runtime ended without a workload; `exit` says how, `message` ends with its stderr.
    case runtime = 9
    case timedOut = 10
  }

  public var code: Code
  /// The error number of the failed call, 0 where there is none.
  public var errno: Int32
  public var message: String
  /// How the program ended, where it ran.
  public var exit: ExitStatus?

  public init(code: Code, errno: Int32 = 0, message: String, exit: ExitStatus? = nil) {
    self.code = code
    self.errno = errno
    self.message = message
    self.exit = exit
  }
}
