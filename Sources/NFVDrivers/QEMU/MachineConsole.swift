import LinuxSystem
public import NFVModel
import Synchronization

/// A machine's serial console, for any number of readers.
///
/// What it shows is read from the machine's log, which QEMU writes whoever reads. QEMU's socket is
/// connected only as long as QEMU takes what somebody typed: while it is, QEMU stops the guest at a
/// reader that does not read, which a daemon that stands still would be.
final class MachineConsole: Sendable {
  private struct State {
    var isSending = false
    var waiting: [CheckedContinuation<Void, Never>] = []
  }

  private let path: String
  private let state = Mutex(State())

  init(_ path: String) { self.path = path }

  /// Gives the guest what was typed; returns when QEMU has taken it. One after another: QEMU has one
  /// client at a time.
  func send(_ bytes: [UInt8]) async throws(MachineError) {
    await takeTurn()
    defer { endTurn() }
    // Its end tells that QEMU has read all, as it reads no more than the guest's port has room for.
    let (end, continuation) = AsyncStream.makeStream(of: Void.self)
    let connection = try await MachineConnection.open(.path(path), framing: .none, limit: 0) { _ in
    } onEnd: { _ in
      continuation.finish()
    }
    defer { connection.close() }
    connection.send(bytes) { _ in continuation.finish() }
    connection.finishSending()
    let isTaken = await withTaskGroup(of: Bool.self) { group in
      group.addTask {
        for await _ in end {}
        return !Task.isCancelled
      }
      group.addTask {
        try? await Task.sleep(for: Self.patience)
        return false
      }
      defer { group.cancelAll() }
      return await group.next() ?? false
    }
    guard isTaken else { throw .timedOut("what was typed") }
  }

  private static let patience: Duration = .seconds(5)

  private func takeTurn() async {
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state in
        if state.isSending {
          state.waiting.append(continuation)
          return false
        }
        state.isSending = true
        return true
      }
      if isFree { continuation.resume() }
    }
  }

  private func endTurn() {
    let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard state.waiting.isEmpty else { return state.waiting.removeFirst() }
      state.isSending = false
      return nil
    }
    next?.resume()
  }
}

/// Somebody at a machine's console.
final class ConsoleSession: ExecSession {
  /// What a reader may lag behind, in octets.
  static let limit = 64 << 10

  let output: AsyncStream<ExecOutput>
  private let console: MachineConsole
  private let tail: ConsoleTail

  /// - Parameters:
  ///   - process: QEMU's pidfd.
  ///   - read: gives the log's octets from an offset on, at most so many.
  init(
    _ console: MachineConsole, of process: OwnedDescriptor,
    read: @escaping @Sendable (UInt64, Int) throws(NFVError) -> LogChunk
  ) throws(NFVError) {
    self.console = console
    let tail = try ConsoleTail(process, read)
    self.tail = tail
    output = AsyncStream { await tail.next() }
  }

  func write(_ bytes: [UInt8]) async throws(NFVError) {
    do throws(MachineError) {
      if tail.isLeft || tail.hasEnded { throw .closed("the machine has ended") }
      try await console.send(bytes)
    } catch {
      throw NFVError(
        .conflict, "the guest does not read its console, or has ended", cause: error)
    }
  }

  /// A console has no end of input.
  func closeInput() async {}

  /// A serial line has no size.
  func resize(_ size: ExecRequest.TerminalSize) async {}

  func cancel() async { tail.leave() }
}

/// Reads a machine's log from its end on, as it grows.
private final class ConsoleTail: Sendable {
  /// How long what the guest writes may take to be seen.
  private static let interval: Duration = .milliseconds(20)

  private let process: OwnedDescriptor
  private let read: @Sendable (UInt64, Int) throws(NFVError) -> LogChunk
  private let offset: Mutex<UInt64>
  private let left = Atomic(false)
  private let isOver = Atomic(false)

  init(
    _ process: OwnedDescriptor,
    _ read: @escaping @Sendable (UInt64, Int) throws(NFVError) -> LogChunk
  ) throws(NFVError) {
    self.process = process
    self.read = read
    offset = Mutex(try read(.max, 0).offset)
  }

  func leave() { left.store(true, ordering: .releasing) }

  var isLeft: Bool { left.load(ordering: .acquiring) }

  var hasEnded: Bool { (try? waitReadable(process.descriptor, milliseconds: 0)) ?? true }

  func next() async -> ExecOutput? {
    while !isOver.load(ordering: .acquiring), !Task.isCancelled {
      // Asked before the log is read: what was written before the end is there by then.
      let hasEnded = hasEnded
      if !isLeft, let piece = try? piece() { return .standardOutput(piece) }
      if isLeft || hasEnded {
        isOver.store(true, ordering: .releasing)
        return .exited(.exited(code: 0))
      }
      try? await Task.sleep(for: Self.interval)
    }
    return nil
  }

  /// What was written since; nil where that is nothing.
  private func piece() throws(NFVError) -> [UInt8]? {
    try offset.withLock { offset throws(NFVError) in
      let start = offset
      let end = try read(.max, 0).offset
      if end > offset + UInt64(ConsoleSession.limit) {
        // Half of it is room again before anything more is left out: notes are few.
        offset = end - UInt64(ConsoleSession.limit) / 2
      }
      let chunk = try read(offset, ConsoleSession.limit)
      guard !chunk.bytes.isEmpty else { return nil }
      offset = chunk.offset + UInt64(chunk.bytes.count)
      guard chunk.offset > start else { return chunk.bytes }
      return Array("\r\n[martlet: \(chunk.offset - start) octets are left out here]\r\n".utf8)
        + chunk.bytes
    }
  }
}

extension QEMUDriver: ConsoleServing {
  public func console(of workload: WorkloadID) async throws(NFVError) -> any ExecSession {
    guard let process = workloads.folder(workload).process else {
      throw NFVError(.notFound, "there is no running machine \(workload) on this host")
    }
    let descriptor = try HeldWorkloads.onHost("the console of \(workload) cannot be reached") {
      () throws(SystemError) in OwnedDescriptor(try process.open())
    }
    return try ConsoleSession(machines[workload].console, of: descriptor) {
      [workloads] (offset, limit) throws(NFVError) in
      try workloads.log(of: workload, from: offset, limit: limit)
    }
  }
}
