internal import ControlProtocol
internal import LinuxSystem
internal import SystemPackage
internal import Wire

/// A virtual machine from its first process's view.
public enum Guest {
  /// How long a host that is connected may take to ask for the function's end, and any host for why
  /// it did not start, before the machine goes off without having told it.
  private static let lastWords: UInt64 = 10_000
  /// How long the kernel may take to show the control channel's port.
  private static let portLimit: UInt64 = 10_000

  /// Prepares the machine, runs the function, serves the control channel, and ends the machine
  /// when the function has ended.
  public static func boot() -> Never {
    guard currentProcessID() == 1 else {
      complain("it is the first process of a virtual machine and does nothing elsewhere")
      exitNow(64)
    }
    var state: GuestState
    var function: Child?
    var environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    do throws(GuestFailure) {
      let start = try prepare()
      environment = start.environment
      let child = try startFunction(start)
      function = child
      state = .running(pid: UInt32(child.pid))
    } catch {
      complain(error.message)
      state = .failed(error.message)
    }
    do throws(SystemError) {
      let port = try openPort()
      if port == nil { complain("there is no port \(ControlProtocol.portName)") }
      let supervisor = try Supervisor(
        port: port, function: function, state: state, environment: environment,
        document: "/" + Preparation.document)
      state = try supervisor.run(lastWords: lastWords)
    } catch {
      complain("\(error)")
    }
    if case .ended(let exit) = state { end(exit) }
    Machine.powerOff()
  }

  /// Ends the machine in a way from which the host knows how the function did, whoever listens there;
  /// returns where the machine has no such way.
  private static func end(_ exit: GuestExit) {
    let end = DebugExit(exit)
    if end == .otherwise {
      try? writeAll(Array("\n\(DebugExit.words(of: exit))\n".utf8), to: .standardError)
    }
    Machine.end(by: end.octet, to: DebugExit.port)
  }

  static func complain(_ message: String) {
    try? writeAll(Array("martlet-init: \(message)\n".utf8), to: .standardError)
  }

  private static func prepare() throws(GuestFailure) -> GuestStart {
    try naming("the machine cannot be prepared") { () throws(SystemError) in
      try Preparation.mountFileSystems()
      try Preparation.loadModules(listedIn: "/etc/martlet/modules")
    }
    let place = "/" + ControlProtocol.Place.start
    let bytes = try naming("it was given no function") { () throws(SystemError) in
      try readFile(place, limit: ControlProtocol.maximumFrameSize)
    }
    let start: GuestStart
    do throws(WireError) {
      start = try GuestStart(bytes)
    } catch {
      throw GuestFailure(message: "\(place) makes no sense: \(error)")
    }
    try naming("the function's surroundings cannot be made") { () throws(SystemError) in
      try Preparation.setHostName(start.hostName)
      try Preparation.place(start.files)
    }
    try Preparation.setPorts(start.ports, forwards: start.forwards)
    return start
  }

  private static func startFunction(_ start: GuestStart) throws(GuestFailure) -> Child {
    let null = try naming("the function cannot be started") { () throws(SystemError) in
      try openFile("/dev/null", .read)
    }
    defer { try? null.close() }
    return try Child(
      arguments: start.command, environment: start.environment,
      workingDirectory: start.workingDirectory,
      streams: [null, .standardOutput, .standardError], isTerminal: false)
  }

  /// The control channel, found by the name that the host gave it.
  private static func openPort() throws(SystemError) -> FileDescriptor? {
    let folder = "/sys/class/virtio-ports"
    let limit = monotonicMilliseconds() + portLimit
    while monotonicMilliseconds() < limit {
      for name in try listFolder(folder) {
        guard let bytes = try? readFile("\(folder)/\(name)/name", limit: 256),
          String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self) == ControlProtocol.portName,
          fileExists("/dev/\(name)")
        else { continue }
        return try openFile("/dev/\(name)", .readWrite)
      }
      sleepThread(milliseconds: 1)
    }
    return nil
  }
}

/// Why the function does not run.
struct GuestFailure: Error {
  var message: String
  /// What a shell ends with for a program that it cannot run: 127 where there is none, else 126; nil
  /// where something else has failed.
  var code: UInt8?
}

func naming<Value>(
  _ message: String, _ body: () throws(SystemError) -> Value
) throws(GuestFailure) -> Value {
  do throws(SystemError) {
    return try body()
  } catch {
    throw GuestFailure(message: "\(message): \(error)")
  }
}
