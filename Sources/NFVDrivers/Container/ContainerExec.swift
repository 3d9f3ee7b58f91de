import FoundationEssentials
import Glibc
import HoldProtocol
import LinuxSystem
public import NFVModel
import Synchronization
import SystemPackage

extension ContainerDriver {
  public func execute(
    _ request: ExecRequest, in workload: WorkloadID
  ) async throws(NFVError) -> any ExecSession {
    guard !request.arguments.isEmpty else {
      throw NFVError(.unprocessable, "there is no command to run in \(workload)")
    }
    guard folder(workload).process != nil else {
      throw NFVError(.notFound, "there is no running container \(workload) on this host")
    }
    guard !group(workload).isFrozen else {
      throw NFVError(.conflict, "\(workload) is paused; continue it first: martlet vnf continue")
    }
    let name = IdentifierSource.system.uuid()
    let key = commandPrefix + name
    let process = try processDocument(request, workload)
    var (streams, document, console) = try HeldWorkloads.onHost(
      "cannot run a command in \(workload)"
    ) {
      () throws(SystemError) in
      let document = OwnedDescriptor(try makeMemoryFile("process.json"))
      try writeAll(process, to: document.descriptor)
      let console =
        request.terminal == nil
        ? nil : try ConsoleSocket("\(configuration.runFolder)/console/\(name)")
      return (try ExecStreams(), document, console)
    }
    // Where the runtime starts nothing it says why to the standard error and, unlike a command, here.
    let complaint = RuntimeComplaint(path: "\(folder(workload).path)/exec-\(name)")
    var arguments = runtimeArguments
    if configuration.runtime == .crun { arguments.append("--log=\(complaint.path)") }
    arguments += ["exec", "--process=/proc/self/fd/\(Self.processDescriptor)"]
    if let console { arguments.append("--console-socket=\(console.path)") }
    let spawn = SpawnRequest(
      key: key, executable: configuration.runtimePath, arguments: arguments + [workload.name],
      environment: Self.runtimeEnvironment, input: .descriptor(.passed(0)),
      output: .descriptor(.passed(1)), error: .descriptor(.passed(2)),
      descriptors: [DescriptorMapping(source: .passed(3), target: Self.processDescriptor)],
      cgroups: configuration.runtime == .crun ? group(workload).folders : [],
      mounts: runtimeMounts, sharedMounts: sharedMounts)
    do throws(HoldError) {
      let runtime = try await hold.spawn(
        spawn, descriptors: (streams.inside + [document]).map(\.descriptor)
      ).value().process
      // Only the command has them now: its end is the streams' end.
      streams.inside = []
      guard let descriptor = try await hold.open(key: key)[.process] else {
        throw .malformed("no process came")
      }
      let process = OwnedDescriptor(descriptor)
      guard let console else {
        return ContainerExecSession(
          hold: hold, key: key, pid: runtime.pid, process: process, streams: streams,
          complaint: complaint)
      }
      let master: FileDescriptor?
      do throws(SystemError) {
        master = try await console.receive(
          unlessEnded: process.descriptor, milliseconds: configuration.startLimit.milliseconds)
      } catch {
        throw HoldError.system(error)
      }
      if let master {
        streams.becomeTerminal(OwnedDescriptor(master))
        return ContainerExecSession(
          hold: hold, key: key, pid: runtime.pid, process: process, streams: streams,
          complaint: complaint)
      }
    } catch {
      await forgetCommand(key)
      throw HeldWorkloads.problem("cannot run \(request.arguments[0]) in \(workload)", error)
    }
    await forgetCommand(key)
    // Its end closes the pipe, so that this does not wait.
    let said = (try? readSome(of: streams.outputs[1].descriptor, limit: 2048)) ?? []
    throw NFVError(
      .failed,
      "\(configuration.runtimePath) made no terminal for \(request.arguments[0]) in \(workload)",
      cause: complaint.take()?.text ?? String(decoding: said, as: UTF8.self))
  }

  private func forgetCommand(_ key: String) async {
    try? await hold.signal(key: key, SIGKILL)
    try? await hold.release(key: key)
  }

  private static var anyCommandPrefix: String { "exec:" }

  /// What the keys of this driver's commands in the hold begin with.
  private var commandPrefix: String { Self.anyCommandPrefix + commandsID + ":" }

  /// Ends the commands of an earlier daemon, whose output nobody reads any more.
  func endStrayCommands() async {
    for holding in (try? await hold.list()) ?? []
    where holding.key.hasPrefix(Self.anyCommandPrefix) && !holding.key.hasPrefix(commandPrefix) {
      if case .running(let runtime) = holding.state, let process = try? runtime.open() {
        try? killWithChildren(runtime.pid, process)
        try? process.close()
      }
      try? await hold.release(key: holding.key)
    }
  }

  private static var processDescriptor: Int32 { 12 }

  /// The workload's own process (its user, capabilities, environment) with another command.
  private func processDocument(
    _ request: ExecRequest, _ workload: WorkloadID
  ) throws(NFVError) -> [UInt8] {
    let what = "cannot read the configuration of \(workload)"
    let bytes = try HeldWorkloads.onHost(what) { () throws(SystemError) in
      try readFile(folder(workload).bundle + "/config.json", limit: 4 << 20)
    }
    do {
      let configuration = try JSONDecoder().decode(JSONValue.self, from: Data(bytes))
      guard case .object(let members) = configuration,
        case .object(var process)? = members["process"],
        case .array(let environment)? = process["env"]
      else { throw NFVError(.failed, what) }
      process["args"] = .array(request.arguments.map(JSONValue.string))
      process["env"] = .array(environment + request.environment.map(JSONValue.string))
      process["terminal"] = .bool(request.terminal != nil)
      if let size = request.terminal {
        process["consoleSize"] = .object([
          "height": .integer(Int64(size.rows)), "width": .integer(Int64(size.columns)),
        ])
      }
      return Array(try JSONEncoder().encode(JSONValue.object(process)))
    } catch {
      throw NFVError(.failed, what, cause: error)
    }
  }
}

/// A descriptor that is closed with its last user, so that its number is nobody else's before.
final class OwnedDescriptor: Sendable {
  let descriptor: FileDescriptor

  init(_ descriptor: FileDescriptor) { self.descriptor = descriptor }
  deinit { try? descriptor.close() }
}

/// Both ends of a command's standard streams.
private struct ExecStreams: Sendable {
  /// What is written here the command reads; the terminal's master where there is one.
  var input: OwnedDescriptor
  /// Standard output (a terminal's master where there is one) and standard error.
  var outputs: [OwnedDescriptor]
  /// The command's 0, 1 and 2.
  var inside: [OwnedDescriptor]
  private(set) var isTerminal = false

  init() throws(SystemError) {
    func pipe() throws(SystemError) -> (read: OwnedDescriptor, write: OwnedDescriptor) {
      let (read, write) = try makePipe()
      return (OwnedDescriptor(read), OwnedDescriptor(write))
    }
    let (inputPipe, outputPipe, errorPipe) = (try pipe(), try pipe(), try pipe())
    input = inputPipe.write
    outputs = [outputPipe.read, errorPipe.read]
    inside = [inputPipe.read, outputPipe.write, errorPipe.write]
  }

  /// The command has a terminal instead; what the runtime says still comes apart.
  mutating func becomeTerminal(_ master: OwnedDescriptor) {
    isTerminal = true
    input = master
    outputs[0] = master
  }
}

/// Why a runtime did not start a command, as its log says it.
private struct RuntimeComplaint: Sendable {
  let path: String

  /// The complaint, and the exit code that a shell has for it; nil where the command was started.
  /// The log goes.
  func take() -> (text: String, code: Int32)? {
    let said = (try? readFile(path, limit: 2048)) ?? []
    discard()
    guard !said.isEmpty else { return nil }
    let text = String(decoding: said, as: UTF8.self)
    return (text, text.contains("not found") || text.contains("No such file") ? 127 : 126)
  }

  func discard() { try? removeFile(path) }
}

/// A command in a container: one thread of its own reads its output as it is asked for, another
/// writes its input, as both may block.
private final class ContainerExecSession: ExecSession {
  private enum Input: Sendable {
    /// The first: the thread alone keeps it, so that it can close it.
    case target(OwnedDescriptor)
    case bytes([UInt8], CheckedContinuation<Bool, Never>)
    case end
  }

  let output: AsyncStream<ExecOutput>
  private let hold: HoldClient
  private let key: String
  /// The runtime's, which waits for the command.
  private let pid: Int32
  private let process: OwnedDescriptor
  private let complaint: RuntimeComplaint
  private let isCancelled: Cancellation
  private let terminal: OwnedDescriptor?
  private let input = BlockingQueue<Input>()
  private let inputIsClosed = Mutex(false)

  init(
    hold: HoldClient, key: String, pid: Int32, process: OwnedDescriptor, streams: ExecStreams,
    complaint: RuntimeComplaint
  ) {
    self.hold = hold
    self.key = key
    self.pid = pid
    self.process = process
    self.complaint = complaint
    let isCancelled = Cancellation()
    self.isCancelled = isCancelled
    terminal = streams.isTerminal ? streams.input : nil
    let reader = ExecReader(streams: streams, process: process)
    output = AsyncStream {
      if let chunk = await reader.next() { return chunk }
      return await reader.finish {
        if isCancelled.value.withLock({ $0 }) { return .killed(signal: 9) }
        let status = try? await hold.wait(key: key).value()
        try? await hold.acknowledge(key: key)
        if let code = complaint.take()?.code { return .exited(code: code) }
        return switch status {
        case .exited(let code): .exited(code: code)
        case .killed(let signal): .killed(signal: signal)
        case .unknown, nil: .unknown
        }
      }
    }
    input.append(.target(streams.input))
    startThread(name: "martlet-exec-in") { [input, isTerminal = streams.isTerminal] in
      var target: OwnedDescriptor?
      while let items = input.next(limit: 1) {
        switch items[0] {
        case .target(let descriptor): target = descriptor
        case .bytes(let bytes, let continuation):
          let written = target.map { (try? writeAll(bytes, to: $0.descriptor)) != nil }
          continuation.resume(returning: written ?? false)
        case .end:
          // End of transmission, as a terminal's user would type it; a pipe is closed.
          if isTerminal, let target { try? writeAll([4], to: target.descriptor) }
          target = nil
        }
      }
    }
  }

  deinit { input.close() }

  func write(_ bytes: [UInt8]) async throws(NFVError) {
    let isClosed = inputIsClosed.withLock { $0 }
    let taken =
      isClosed
      ? false
      : await withCheckedContinuation { input.append(.bytes(bytes, $0)) }
    guard taken else {
      throw NFVError(.conflict, "the command takes no more input: it has ended or closed it")
    }
  }

  func closeInput() async {
    let wasClosed = inputIsClosed.withLock { isClosed in
      defer { isClosed = true }
      return isClosed
    }
    if !wasClosed { input.append(.end) }
  }

  func resize(_ size: ExecRequest.TerminalSize) async {
    guard let terminal else { return }
    try? resizeTerminal(terminal.descriptor, rows: size.rows, columns: size.columns)
  }

  func cancel() async {
    await closeInput()
    let isFirst = isCancelled.value.withLock { isCancelled in
      defer { isCancelled = true }
      return !isCancelled
    }
    guard isFirst else { return }
    try? killWithChildren(pid, process.descriptor)
    // Whoever cancels may not read on to the end.
    complaint.discard()
    try? await hold.release(key: key)
  }

  private final class Cancellation: Sendable {
    let value = Mutex(false)
  }
}

/// Reads a command's output on a thread of its own, one piece for each that is asked for.
private final class ExecReader: Sendable {
  private let requests = BlockingQueue<CheckedContinuation<ExecOutput?, Never>>()
  private let hasEnded = Mutex(false)

  init(streams: ExecStreams, process: OwnedDescriptor) {
    let outputs = streams.outputs
    startThread(name: "martlet-exec-out") { [requests] in
      var open = outputs
      while let asked = requests.next(limit: 1) {
        for continuation in asked {
          continuation.resume(
            returning: Self.piece(of: &open, outputs, process))
        }
      }
    }
  }

  deinit { requests.close() }

  /// nil after the command and its output have ended.
  func next() async -> ExecOutput? {
    if hasEnded.withLock({ $0 }) { return nil }
    return await withCheckedContinuation { requests.append($0) }
  }

  /// `exited` once, then nil.
  func finish(_ status: () async -> NFVModel.ExitStatus) async -> ExecOutput? {
    let isFirst = hasEnded.withLock { hasEnded in
      defer { hasEnded = true }
      return !hasEnded
    }
    return isFirst ? .exited(await status()) : nil
  }

  /// Waits for a piece of output. When the command has ended, what is there already is still read;
  /// what a process that it left behind might write later is not waited for.
  private static func piece(
    of open: inout [OwnedDescriptor], _ outputs: [OwnedDescriptor], _ process: OwnedDescriptor
  ) -> ExecOutput? {
    while !open.isEmpty {
      guard
        let ready = try? waitReadable(
          anyOf: (open + [process]).map(\.descriptor), milliseconds: -1)
      else { return nil }
      guard let index = ready.dropLast().firstIndex(of: true) else { return nil }
      // A terminal whose other end is closed fails with EIO: its end.
      let bytes = (try? readSome(of: open[index].descriptor, limit: 16384)) ?? []
      if bytes.isEmpty {
        open.remove(at: index)
      } else {
        return open[index] === outputs[0] ? .standardOutput(bytes) : .standardError(bytes)
      }
    }
    return nil
  }
}
