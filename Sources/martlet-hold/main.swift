import HoldProtocol
import LinuxSystem
import SystemPackage

/// What the command line asks for.
enum Mode {
  /// Serve on a new socket, in the foreground or as a daemon of its own.
  case serve(socket: String, detached: Bool)
  /// Go on with the state that the program before this one left in a descriptor.
  case resume(state: FileDescriptor)
  /// Say by the exit code whether a state of this version can be taken on.
  case checkState(version: UInt16)
}

func parse(_ arguments: [String]) -> Mode? {
  var rest = arguments.dropFirst()
  var socket: String?
  var detached = false
  while let argument = rest.popFirst() {
    switch argument {
    case "--socket": socket = rest.popFirst()
    case "--detach": detached = true
    case "--resume":
      guard let number = rest.popFirst().flatMap({ Int32($0) }) else { return nil }
      return .resume(state: FileDescriptor(rawValue: number))
    case "--accepts-state":
      guard let version = rest.popFirst().flatMap({ UInt16($0) }) else { return nil }
      return .checkState(version: version)
    default: return nil
    }
  }
  return socket.map { .serve(socket: $0, detached: detached) }
}

func fail(_ message: String, _ code: Int32) -> Never {
  complain(message)
  exitNow(code)
}

guard let mode = parse(CommandLine.arguments) else {
  fail("usage: martlet-hold --socket PATH [--detach]", 64)
}
do throws(SystemError) {
  switch mode {
  case .checkState(let version): exitNow(version == KeptState.version ? 0 : 1)
  case .resume(let state):
    let hold = try Hold(resuming: state)
    try hold.run()
  case .serve(let socket, let detached):
    // Nothing of whoever starts us lives on here or in our children.
    ProcessAttributes.resetSignals()
    ProcessAttributes.setFileModeMask(0o022)
    try closeDescriptors(from: 3)
    try ProcessAttributes.changeDirectory("/")
    guard let listener = try Listener(socket: socket) else {
      fail("another hold serves \(socket)", 3)
    }
    if detached {
      // The caller waits for this process: its end says that the socket is there.
      if case .parent = try cloneProcess() { exitNow(0) }
      try ProcessAttributes.startSession()
    }
    let hold = try Hold(listener: listener)
    try hold.run()
  }
} catch {
  fail("\(error)", 1)
}
