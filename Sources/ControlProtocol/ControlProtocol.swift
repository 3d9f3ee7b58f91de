/// What the platform and the init of a virtual machine say to one another.
///
/// The machine's image brings kernel and programs; each instance is given, in an archive that Linux
/// unpacks over the image's initramfs, the files named by ``Place``: the function's document, a
/// ``GuestStart`` and the contents of its files.
///
/// Afterwards both talk over a virtio-serial port. Everything on it, both ways, is a frame: a 32-bit
/// little-endian length of at most ``maximumFrameSize``, then a 64-bit id, a 16-bit kind and the
/// kind's values (`Wire`). The host chooses the ids of its requests (never 0) and may have several in
/// flight; a reply bears its request's id, an event 0. The id of `execute` is the session's.
///
/// A connection begins with the host's `hello`, and the init sends nothing before it. A `hello`
/// begins with octets that are in no other frame, by which an init finds the beginning again when
/// an earlier connection ended within one; frames that come before its reply are of an earlier
/// connection, and the host drops them. With a connection end its sessions: they are killed.
public enum ControlProtocol {
  /// Raised when a message changes its form; kinds may be added without.
  public static let version: UInt16 = 1
  /// Of a frame without its length, in octets.
  public static let maximumFrameSize = 1 << 20
  /// The virtio-serial port's name.
  public static let portName = "org.martlet.control"
  /// How many octets of output of one session are sent before the host has acknowledged some.
  public static let outputWindow = 256 << 10
  /// Of one `input`; more is refused. The next is sent after the reply to the last.
  public static let maximumInput = 64 << 10
  /// Of a function's document, whatever way it takes.
  public static let maximumDocument = 512 << 10

  /// Paths in the archive of an instance, relative to the root.
  public enum Place {
    public static let folder = "martlet"
    /// The function's document.
    public static let document = "martlet/config.json"
    /// A ``GuestStart``.
    public static let start = "martlet/start"
    /// Holds the contents of the start's files, named by their index.
    public static let files = "martlet/files"
    /// Where a function listens that has a control channel of its own, a unix socket in the root that
    /// it sees. It takes `hello`, `configure`, `functionCounters` and `stop`.
    public static let control = "run/martlet/control"
  }

  /// What every `hello` begins with after its id and kind.
  static let greeting: [UInt8] = [
    0x4d, 0x61, 0x72, 0x74, 0x6c, 0x65, 0x74, 0xf5, 0x1b, 0x8e, 0xd0, 0xff, 0x93, 0xa6, 0xc1, 0xfe,
  ]
}

/// What the init starts, and in what surroundings.
public struct GuestStart: Sendable, Hashable {
  /// An address or network in the octets' order on the wire: 4 of them or 16.
  public struct Prefix: Sendable, Hashable {
    public var octets: [UInt8]
    public var length: UInt8

    public init(octets: [UInt8], length: UInt8) {
      self.octets = octets
      self.length = length
    }
  }

  public struct Route: Sendable, Hashable {
    public var destination: Prefix
    /// The gateway's address.
    public var via: [UInt8]

    public init(destination: Prefix, via: [UInt8]) {
      self.destination = destination
      self.via = via
    }
  }

  public struct Port: Sendable, Hashable {
    /// What the interface is named.
    public var name: String
    /// By which the interface is found: 6 octets.
    public var mac: [UInt8]
    public var mtu: UInt32
    public var addresses: [Prefix]
    public var routes: [Route]

    public init(
      name: String, mac: [UInt8], mtu: UInt32, addresses: [Prefix] = [], routes: [Route] = []
    ) {
      self.name = name
      self.mac = mac
      self.mtu = mtu
      self.addresses = addresses
      self.routes = routes
    }
  }

  public struct File: Sendable, Hashable {
    /// Absolute.
    public var path: String
    /// Permission bits.
    public var mode: UInt32

    public init(path: String, mode: UInt32) {
      self.path = path
      self.mode = mode
    }
  }

  public var command: [String]
  /// `NAME=value`; where a name stands twice the last one counts.
  public var environment: [String]
  public var workingDirectory: String
  public var hostName: String
  /// Whether packets are forwarded between the ports.
  public var forwards: Bool
  public var files: [File]
  public var ports: [Port]

  public init(
    command: [String], environment: [String] = [], workingDirectory: String = "/",
    hostName: String = "", forwards: Bool = false, files: [File] = [], ports: [Port] = []
  ) {
    self.command = command
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.hostName = hostName
    self.forwards = forwards
    self.files = files
    self.ports = ports
  }
}

/// How a process of the guest ended.
public enum GuestExit: Sendable, Hashable {
  case exited(code: UInt8)
  case killed(signal: UInt8)
}

/// A command to run beside the function.
public struct GuestCommand: Sendable, Hashable {
  public struct TerminalSize: Sendable, Hashable {
    public var rows: UInt16
    public var columns: UInt16

    public init(rows: UInt16, columns: UInt16) {
      self.rows = rows
      self.columns = columns
    }
  }

  /// The first is a path, or a name that is looked up in the function's PATH.
  public var arguments: [String]
  /// Added to the function's.
  public var environment: [String]
  /// nil: without a terminal, standard output and error apart.
  public var terminal: TerminalSize?

  public init(
    arguments: [String], environment: [String] = [], terminal: TerminalSize? = nil
  ) {
    self.arguments = arguments
    self.environment = environment
    self.terminal = terminal
  }
}

/// What the guest itself can count.
public struct GuestCounters: Sendable, Hashable {
  public var uptimeMilliseconds: UInt64
  /// Of all processors since the start.
  public var processorMilliseconds: UInt64
  /// What the guest's kernel has for all, and what it could still give, in octets.
  public var memoryTotal: UInt64
  public var memoryAvailable: UInt64
  public var processes: UInt32

  public init(
    uptimeMilliseconds: UInt64, processorMilliseconds: UInt64, memoryTotal: UInt64,
    memoryAvailable: UInt64, processes: UInt32
  ) {
    self.uptimeMilliseconds = uptimeMilliseconds
    self.processorMilliseconds = processorMilliseconds
    self.memoryTotal = memoryTotal
    self.memoryAvailable = memoryAvailable
    self.processes = processes
  }
}

/// Something that a function counts.
public struct FunctionCount: Sendable, Hashable {
  public var name: String
  public var value: UInt64

  public init(name: String, value: UInt64) {
    self.name = name
    self.value = value
  }
}

/// How far the function of a guest is.
public enum GuestState: Sendable, Hashable {
  /// Its process exists.
  case running(pid: UInt32)
  /// The machine is about to go off.
  case ended(GuestExit)
  /// It could not be started, and why; the machine is about to go off.
  case failed(String)
}

/// What the host asks.
public enum ControlRequest: Sendable, Hashable {
  /// The first of a connection; answered by `status`. Refused where the version is not known.
  case hello(version: UInt16)
  /// SIGTERM to the function; with its end comes the event `state`, and the machine goes off.
  case stop
  /// Gives the function another document: by its control channel, and where that is taken, or there is
  /// none, as its file, which is replaced at once. One that handles SIGHUP and has no channel is sent it.
  case configure(document: [UInt8])
  /// Answered by `done` when the command runs; then come `output`, and `exited` at last.
  case execute(GuestCommand)
  /// Answered when the command has taken it.
  case input(session: UInt64, [UInt8], isLast: Bool)
  case resize(session: UInt64, GuestCommand.TerminalSize)
  /// To the command's process group.
  case signal(session: UInt64, number: UInt8)
  /// So many more octets of the session's output were taken; has no reply.
  case acknowledge(session: UInt64, octets: UInt32)
  /// Answered by `counters`.
  case counters
  /// What the function itself counts; answered by `functionCounters`.
  case functionCounters
  /// Another content of a file that the function was given; `configure` then tells it.
  case file(path: String, content: [UInt8])
}

/// What the init answers.
public enum ControlReply: Sendable, Hashable {
  case done
  case status(version: UInt16, GuestState)
  case counters(GuestCounters)
  /// By the function's names and in its order; empty where it has no control channel.
  case functionCounters([FunctionCount])
  /// It was not done, and why.
  case refused(String)
}

/// What the init says unasked.
public enum ControlEvent: Sendable, Hashable {
  public enum Stream: UInt8, Sendable, Hashable {
    /// With a terminal the only one.
    case output = 1
    case error = 2
  }

  case state(GuestState)
  case output(session: UInt64, Stream, [UInt8])
  /// The last of a session.
  case exited(session: UInt64, GuestExit)
}

/// A frame of the init.
public enum ControlMessage: Sendable, Hashable {
  case reply(id: UInt64, ControlReply)
  case event(ControlEvent)
}
