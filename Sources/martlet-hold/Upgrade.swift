import HoldProtocol
import LinuxSystem
import SystemPackage
import Wire

extension Hold {
  /// Becomes the program at `path`. The pid stays, so children stay children; descriptors stay
  /// open, so connections and holdings stay. Returns only by throwing, with everything as it was.
  func upgrade(_ path: String, _ waiter: Waiter) throws(HoldRefusal) {
    try system { () throws(SystemError) in try checkAcceptance(path) }
    // Unsent packets don't travel: who does not take its answers has to connect again.
    for (id, connection) in connections where !connection.queue.isEmpty { close(id) }
    let state = KeptState(of: self, asker: waiter)
    let bytes: [UInt8]
    do throws(WireError) {
      bytes = try state.encoded()
    } catch {
      throw HoldRefusal(code: .system, message: "the state can't be written: \(error)")
    }
    try system { () throws(SystemError) in
      let file = try makeMemoryFile("martlet-hold-state")
      defer { try? file.close() }
      try writeAll(bytes, to: file)
      let all = state.descriptors + [file]
      defer { for descriptor in all { try? setCloseOnExec(true, descriptor) } }
      for descriptor in all { try setCloseOnExec(false, descriptor) }
      try execute(
        path, arguments: ["martlet-hold", "--resume", "\(file.rawValue)"], environment: [])
    }
  }

  /// Asks the program whether it can take this state on, before there is no way back.
  private func checkAcceptance(_ path: String) throws(SystemError) {
    let arguments = ["martlet-hold", "--accepts-state", "\(KeptState.version)"]
    guard case .parent(let pid, let pidfd) = try cloneProcess() else {
      try? execute(path, arguments: arguments, environment: [])
      exitNow(127)
    }
    defer { try? pidfd.close() }
    if try !waitReadable(pidfd, milliseconds: 2000) { try sendSignal(9, to: pidfd) }
    let status = try waitForChild(pid)
    guard status == .exited(code: 0) else {
      throw SystemError(
        call: "upgrade", errno: .invalidArgument,
        subject: "\(path) does not take on state \(KeptState.version) (\(status))")
    }
  }

  /// Goes on with what the program before this one has left in `file`.
  convenience init(resuming file: FileDescriptor) throws(SystemError) {
    try closeOnExec(from: 3)
    let length = Int(clamping: try fileSize(file).length)
    let bytes = try readRange(of: file, from: 0, limit: length)
    try? file.close()
    let state: KeptState
    do throws(WireError) {
      state = try KeptState(decoding: bytes)
    } catch {
      throw SystemError(call: "resume", errno: .badMessage, subject: "\(error)")
    }
    try self.init(listener: state.listener, descriptorLimit: state.descriptorLimit)
    upgrades = state.upgrades
    lastConnection = state.lastConnection
    kept = state.kept
    files = state.files
    connections = state.connections
    waiters = state.waiters
    deadlines = state.deadlines
    orphans = state.orphans
    for (id, connection) in connections { try watch(connection.socket, .connection(id)) }
    for (key, holding) in kept {
      guard case .process(let record) = holding else { continue }
      if record.phase == .runtime { runtimes += 1 }
      if let pipe = record.launchPipe { try watch(pipe, .launch(key: key)) }
      guard record.exit == nil else { continue }
      if record.isChild {
        children[record.pid] = key
      } else {
        try watch(record.pidfd, .stranger(key: key))
      }
    }
    // What ended meanwhile has sent its signal to the program before.
    try reap()
    reply(state.asker, .status(status))
  }
}
