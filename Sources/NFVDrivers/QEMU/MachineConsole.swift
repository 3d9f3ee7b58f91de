import LinuxSystem
public import NFVModel
import Synchronization

/// A machine's serial console: one connection, as QEMU serves one, from the first reader until the
/// last has left, and given to all of them.
///
/// What comes is taken at once, so that nobody's slowness stops the guest or the daemon. The log is
/// QEMU's own and does not depend on it.
final class MachineConsole: Sendable {
  private enum Phase {
    case closed
    case opening([CheckedContinuation<Void, Never>])
    case open(MachineConnection)
  }

  private struct State {
    var phase = Phase.closed
    /// Of the connection: the end of an earlier one is told late.
    var generation = 0
    var readers: [ObjectIdentifier: ConsoleSession] = [:]
  }

  private let path: String
  private let state = Mutex(State())

  init(_ path: String) { self.path = path }

  func join() async throws(MachineError) -> ConsoleSession {
    let session = ConsoleSession(self)
    state.withLock { $0.readers[ObjectIdentifier(session)] = session }
    do throws(MachineError) {
      try await open()
    } catch {
      leave(session)
      throw error
    }
    return session
  }

  private func open() async throws(MachineError) {
    while true {
      enum Turn { case mine, another, done }
      let turn = state.withLock { state -> Turn in
        switch state.phase {
        case .open: return .done
        case .opening: return .another
        case .closed:
          state.phase = .opening([])
          return .mine
        }
      }
      switch turn {
      case .done: return
      case .another: await waitForOpening()
      case .mine: return try await connect()
      }
    }
  }

  private func waitForOpening() async {
    await withCheckedContinuation { continuation in
      let waits = state.withLock { state in
        guard case .opening(let waiters) = state.phase else { return false }
        state.phase = .opening(waiters + [continuation])
        return true
      }
      if !waits { continuation.resume() }
    }
  }

  private func connect() async throws(MachineError) {
    let generation = state.withLock { state in
      state.generation += 1
      return state.generation
    }
    let result: Result<MachineConnection, MachineError>
    do throws(MachineError) {
      result = .success(
        try await MachineConnection.open(path, framing: .none, limit: 0) { [weak self] piece in
          self?.take(piece)
        } onEnd: { [weak self] _ in
          self?.end(generation)
        })
    } catch {
      result = .failure(error)
    }
    let (waiters, isUnused) = state.withLock { state in
      var waiters: [CheckedContinuation<Void, Never>] = []
      if case .opening(let waiting) = state.phase { waiters = waiting }
      // All have left meanwhile.
      let isUnused = state.readers.isEmpty
      if case .success(let connection) = result, !isUnused {
        state.phase = .open(connection)
      } else {
        state.phase = .closed
      }
      return (waiters, isUnused)
    }
    for waiter in waiters { waiter.resume() }
    let connection = try result.get()
    if isUnused { connection.close() }
  }

  private func take(_ piece: [UInt8]) {
    for reader in state.withLock({ Array($0.readers.values) }) { reader.take(piece) }
  }

  /// QEMU has gone.
  private func end(_ generation: Int? = nil) {
    let readers = state.withLock { state -> [ConsoleSession] in
      guard generation == nil || generation == state.generation else { return [] }
      if case .open = state.phase { state.phase = .closed }
      defer { state.readers = [:] }
      return Array(state.readers.values)
    }
    for reader in readers { reader.end() }
  }

  fileprivate func leave(_ session: ConsoleSession) {
    let connection = state.withLock { state -> MachineConnection? in
      state.readers[ObjectIdentifier(session)] = nil
      guard state.readers.isEmpty, case .open(let connection) = state.phase else { return nil }
      state.phase = .closed
      return connection
    }
    connection?.close()
  }

  fileprivate var connection: MachineConnection? {
    state.withLock { if case .open(let connection) = $0.phase { connection } else { nil } }
  }

  func close() {
    let connection = connection
    end()
    connection?.close()
  }
}

/// Somebody at a machine's console.
final class ConsoleSession: ExecSession {
  /// What waits for a reader at most, in octets.
  static let limit = 64 << 10

  let output: AsyncStream<ExecOutput>
  private let queue = OutputQueue()
  private let console: MachineConsole
  private let omitted = Mutex(0)

  fileprivate init(_ console: MachineConsole) {
    self.console = console
    output = AsyncStream { [queue] in await queue.next() }
  }

  fileprivate func take(_ piece: [UInt8]) {
    let note: String? = omitted.withLock { omitted in
      // Half of it is free again before anything is taken: notes are few.
      let limit = omitted > 0 ? Self.limit / 2 : Self.limit
      guard queue.octets + piece.count <= limit else {
        omitted += piece.count
        return nil
      }
      defer { omitted = 0 }
      return omitted > 0 ? "\r\n[martlet: \(omitted) octets are left out here]\r\n" : ""
    }
    guard let note else { return }
    queue.append(.standardOutput(Array(note.utf8) + piece))
  }

  /// The machine has gone.
  fileprivate func end() { queue.end(.exited(code: 0)) }

  func write(_ bytes: [UInt8]) async throws(NFVError) {
    for _ in 0..<500 {
      guard let connection = console.connection, !queue.hasEnded else { break }
      if connection.takesMore { return connection.send(bytes) { _ in } }
      try? await Task.sleep(for: .milliseconds(10))
    }
    throw NFVError(.conflict, "the guest does not read its console, or has ended")
  }

  /// A console has no end of input.
  func closeInput() async {}

  /// A serial line has no size.
  func resize(_ size: ExecRequest.TerminalSize) async {}

  func cancel() async {
    console.leave(self)
    queue.end(.exited(code: 0))
  }
}

extension QEMUDriver: ConsoleServing {
  public func console(of workload: WorkloadID) async throws(NFVError) -> any ExecSession {
    guard workloads.folder(workload).process != nil else {
      throw NFVError(.notFound, "there is no running machine \(workload) on this host")
    }
    do throws(MachineError) {
      return try await machines[workload].console.join()
    } catch {
      throw NFVError(.failed, "the console of \(workload) cannot be reached", cause: error)
    }
  }
}
