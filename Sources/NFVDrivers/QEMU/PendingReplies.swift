import NIOCore
import NIOPosix
import Synchronization

/// Requests over a connection that wait for their replies, each for its own time.
final class PendingReplies<Reply: Sendable>: Sendable {
  private typealias Answer = Result<Reply, MachineError>

  private struct State {
    var lastID: Int64
    var waiting: [Int64: CheckedContinuation<Answer, Never>] = [:]
    var end: MachineError?
  }

  private let state: Mutex<State>

  /// - Parameter lastID: the ids of requests begin after it.
  init(after lastID: Int64 = 0) { state = Mutex(State(lastID: lastID)) }

  /// An id for a request that has no reply.
  func nextID() -> Int64 {
    state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
  }

  /// Sends a request under an id of its own and waits for its reply.
  /// - Parameter what: names the request in errors.
  func ask(
    _ what: String, timeout: Duration, send: @escaping @Sendable (Int64) -> Void
  ) async throws(MachineError) -> Reply {
    let id = nextID()
    var limit: Scheduled<Void>?
    let answer = await withCheckedContinuation { (continuation: CheckedContinuation<Answer, _>) in
      let end = state.withLock { state in
        if state.end == nil { state.waiting[id] = continuation }
        return state.end
      }
      if let end { return continuation.resume(returning: .failure(end)) }
      // Only now: a limit that is over before anybody waits would end nothing.
      limit = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .init(timeout)) {
        self.resolve(id, .failure(.timedOut(what)))
      }
      send(id)
    }
    limit?.cancel()
    return try answer.get()
  }

  /// A reply that nobody waits for (any more) is dropped.
  func resolve(_ id: Int64, _ answer: Result<Reply, MachineError>) {
    state.withLock { $0.waiting.removeValue(forKey: id) }?.resume(returning: answer)
  }

  /// Fails what waits and all that is asked later.
  func end(_ error: MachineError) {
    let waiting = state.withLock { state in
      state.end = state.end ?? error
      defer { state.waiting = [:] }
      return state.waiting.values
    }
    for continuation in waiting { continuation.resume(returning: .failure(error)) }
  }
}
