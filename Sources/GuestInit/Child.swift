internal import LinuxSystem
internal import SystemPackage

/// A process that the init has started, in a session of its own.
struct Child {
  let pid: Int32
  let pidfd: FileDescriptor

  /// Starts a program and returns when it runs.
  /// - Parameters:
  ///   - arguments: the first is a path, or a name that is looked up in the environment's PATH.
  ///   - streams: its standard input, output and error; they stay the caller's.
  ///   - isTerminal: the standard input becomes its session's terminal.
  init(
    arguments: [String], environment: [String], workingDirectory: String,
    streams: [FileDescriptor], isTerminal: Bool
  ) throws(GuestFailure) {
    guard let name = arguments.first, !name.isEmpty else {
      throw GuestFailure(message: "there is no command to run")
    }
    let environment = Self.merged(environment)
    guard let path = Self.path(of: name, environment) else {
      throw GuestFailure(message: "there is no program \(name)", code: 127)
    }
    let what = "\(name) cannot be started"
    let pipe = try naming(what) { () throws(SystemError) in try makePipe() }
    defer { try? pipe.read.close() }
    let side: CloneSide
    do throws(GuestFailure) {
      side = try naming(what) { () throws(SystemError) in try cloneProcess() }
    } catch {
      try? pipe.write.close()
      throw error
    }
    switch side {
    case .child:
      do throws(SystemError) {
        ProcessAttributes.resetSignals()
        try ProcessAttributes.startSession()
        // Above all targets, so that none is overwritten before it was used.
        var lifted: [FileDescriptor] = []
        for stream in streams { lifted.append(try duplicate(stream, atLeast: 3)) }
        for (number, stream) in lifted.enumerated() { try duplicate(stream, to: Int32(number)) }
        if isTerminal { try ProcessAttributes.takeTerminal(.standardInput) }
        try ProcessAttributes.changeDirectory(workingDirectory)
        try execute(path, arguments: arguments, environment: environment)
      } catch {
        let code: UInt8 =
          if error.call != "execve" { 0 } else { error.errno == .noSuchFileOrDirectory ? 127 : 126 }
        try? writeAll([code] + Array("\(error)".utf8), to: pipe.write)
        exitNow(127)
      }
    case .parent(let pid, let pidfd):
      try? pipe.write.close()
      // Closed by the exec; until then nothing is sure.
      let problem = (try? readSome(of: pipe.read, limit: 1000)) ?? []
      if let code = problem.first {
        try? pidfd.close()
        throw GuestFailure(
          message: "\(what): \(String(decoding: problem.dropFirst(), as: UTF8.self))",
          code: code == 0 ? nil : code)
      }
      self.pid = pid
      self.pidfd = pidfd
    }
  }

  /// Where a name stands twice the last value counts.
  static func merged(_ environment: [String]) -> [String] {
    var places: [Substring: Int] = [:]
    var result: [String] = []
    for entry in environment {
      let name = entry.prefix { $0 != "=" }
      if let place = places[name] {
        result[place] = entry
      } else {
        places[name] = result.count
        result.append(entry)
      }
    }
    return result
  }

  static func path(of name: String, _ environment: [String]) -> String? {
    if name.contains("/") { return name }
    let folders = environment.first { $0.hasPrefix("PATH=") }?.dropFirst(5) ?? "/usr/bin:/bin"
    return folders.split(separator: ":").map { "\($0)/\(name)" }.first(where: fileExists)
  }
}
