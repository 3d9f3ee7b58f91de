import Synchronization

/// A connection that all callers share. One at a time makes it, others wait for what comes of that:
/// QEMU serves one client of a socket, and a second one would wait for an answer that never comes.
final class SharedConnection<Connection: Sendable>: Sendable {
  private struct State {
    var connection: Connection?
    var isBeingMade = false
    var waiters: [CheckedContinuation<Void, Never>] = []
  }

  private let state = Mutex(State())

  /// The connection there is now.
  var current: Connection? { state.withLock(\.connection) }

  /// Has the next caller make another one.
  func forget() { state.withLock { $0.connection = nil } }

  /// The connection; made where there is none. Where that fails, the next who waits tries it.
  func get(
    _ make: () async throws(MachineError) -> Connection
  ) async throws(MachineError) -> Connection {
    while true {
      let (connection, isOurs) = state.withLock { state -> (Connection?, Bool) in
        if let connection = state.connection { return (connection, false) }
        defer { state.isBeingMade = true }
        return (nil, !state.isBeingMade)
      }
      if let connection { return connection }
      if isOurs { break }
      await withCheckedContinuation { continuation in
        let isOver = state.withLock { state in
          if state.isBeingMade { state.waiters.append(continuation) }
          return !state.isBeingMade
        }
        if isOver { continuation.resume() }
      }
    }
    do throws(MachineError) {
      let made = try await make()
      end(made)
      return made
    } catch {
      end(nil)
      throw error
    }
  }

  private func end(_ made: Connection?) {
    let waiters = state.withLock { state in
      state.connection = made
      state.isBeingMade = false
      defer { state.waiters = [] }
      return state.waiters
    }
    for waiter in waiters { waiter.resume() }
  }
}
