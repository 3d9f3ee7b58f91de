@preconcurrency internal import Dispatch
internal import Glibc
internal import Synchronization

/// Something that changes the host while it runs and can undo it.
protocol Undoable: Sendable {
  /// Leaves the host as it was, however far it came.
  mutating func cleanUp() async
}

extension Undoable {
  /// Runs `body` and cleans up, also where it fails or the user ends it by Ctrl-C, SIGTERM or SIGHUP.
  mutating func runAndCleanUp<Result: Sendable>(
    _ body: @escaping @Sendable (inout Self) async throws -> Result
  ) async throws -> Result {
    let signals = SignalWatch([SIGINT, SIGTERM, SIGHUP])
    defer { signals.end() }
    let begun = self
    let (state, result) = await withTaskGroup(
      of: (Self, Swift.Result<Result, any Error>)?.self
    ) { group in
      group.addTask {
        var state = begun
        do {
          let value = try await body(&state)
          return (state, .success(value))
        } catch {
          return (state, .failure(error))
        }
      }
      group.addTask {
        for await _ in signals.stream { break }
        return nil
      }
      var outcome: (Self, Swift.Result<Result, any Error>)?
      while outcome == nil, let next = await group.next() {
        outcome = next
        if next == nil {
          Console.current.note("\nInterrupted; cleaning up")
          group.cancelAll()
        }
      }
      group.cancelAll()
      guard let outcome else { fatalError("a task ended without its result") }
      return outcome
    }
    self = state
    await cleanUp()
    if let number = signals.received {
      throw Failure(.failed, "interrupted by signal \(number); nothing was left behind")
    }
    return try result.get()
  }
}

/// Signals that are told instead of ending the process.
private final class SignalWatch: Sendable {
  let stream: AsyncStream<Int32>
  private let continuation: AsyncStream<Int32>.Continuation
  private let sources: [any DispatchSourceSignal]
  private let first = FirstSignal()

  init(_ numbers: [Int32]) {
    (stream, continuation) = AsyncStream.makeStream()
    var sources: [any DispatchSourceSignal] = []
    for number in numbers {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { [continuation, first] in
        first.note(number)
        continuation.yield(number)
      }
      source.resume()
      sources.append(source)
    }
    self.sources = sources
  }

  /// The first that came.
  var received: Int32? { first.number }

  func end() {
    for source in sources { source.cancel() }
    continuation.finish()
  }
}

private final class FirstSignal: Sendable {
  private let value = Mutex<Int32?>(nil)
  var number: Int32? { value.withLock { $0 } }
  func note(_ number: Int32) { value.withLock { $0 = $0 ?? number } }
}
