internal import NFVClient
internal import NFVModel
internal import Synchronization

extension Daemon {
  /// Looks at the start and after every event of an instance until `look` has an answer.
  ///
  /// The event stream is opened before the first look, so that nothing falls between.
  func wait<Answer: Sendable>(
    vnfInstanceID: String? = nil, until look: () async throws(Failure) -> Answer?
  ) async throws(Failure) -> Answer {
    subscription: while true {
      var events = client.events(vnfInstanceID: vnfInstanceID).makeAsyncIterator()
      while true {
        do throws(ClientError) {
          _ = try await events.next()
        } catch {
          // The kept events do not reach back to where the stream broke off: start anew.
          if case .problem(let problem) = error, problem.status == 410 { continue subscription }
          throw Failure(error)
        }
        if let answer = try await look() { return answer }
      }
    }
  }

  /// The occurrence as it ended; one that did not end as wanted is thrown as a failure.
  func awaitEnd(
    ofOperation id: String, as wanted: String = "COMPLETED", _ progress: Progress
  ) async throws(Failure) -> JSONValue {
    let ended = try await wait { () throws(Failure) -> JSONValue? in
      let occurrence = try await get(.op, id)
      let state = occurrence["operationState"].text
      progress.update { $0.detail = state }
      return ["STARTING", "PROCESSING", "ROLLING_BACK"].contains(state) ? nil : occurrence
    }
    try check(ended, endedAs: wanted)
    return ended
  }
}

/// What went wrong with an operation, and why; empty where nothing did.
func failureReason(_ occurrence: JSONValue) -> String {
  [occurrence["error", "detail"].text, occurrence["error", "cause"].text]
    .filter { !$0.isEmpty }.joined(separator: ": ")
}

/// Throws what an operation that did not end as wanted says.
func check(_ occurrence: JSONValue, endedAs wanted: String) throws(Failure) {
  let state = occurrence["operationState"].text
  guard state != wanted else { return }
  let id = occurrence["id"].text
  let words = failureReason(occurrence)
  let reason = words.isEmpty ? "" : ": \(words)"
  let isReversible =
    LcmOperationType(rawValue: occurrence["operation"].text)?.canRollBack == true
  let back = isReversible ? "`martlet op rollback \(shortened(id))` goes back, " : ""
  let advice =
    state == "FAILED_TEMP"
    ? """
    `martlet op retry \(shortened(id))` tries again, \(back)`martlet op fail \(shortened(id))` gives \
    up; `martlet describe op \(shortened(id))` shows how far it came
    """ : "`martlet describe op \(shortened(id))` shows how far it came"
  throw Failure(
    .failed, "\(occurrence["operation"].text) ended as \(state)\(reason)".printable,
    advice: advice)
}

/// Runs `body`, and ends it when the time is over.
func within<Answer: Sendable>(
  _ limit: Duration, _ what: String, advice: String? = nil,
  _ body: @escaping @Sendable () async throws(Failure) -> Answer
) async throws(Failure) -> Answer {
  let result = await withTaskGroup(of: Result<Answer, Failure>?.self) { group in
    group.addTask { await Result { () async throws(Failure) in try await body() } }
    group.addTask {
      try? await Task.sleep(for: limit)
      return nil
    }
    let first = await group.next() ?? nil
    group.cancelAll()
    return first
  }
  guard let result else {
    throw Failure(.timeout, "\(what) has not ended within \(span(limit))", advice: advice)
  }
  return try result.get()
}

extension Result {
  fileprivate init(_ body: () async throws(Failure) -> Success) async {
    do {
      self = .success(try await body())
    } catch {
      self = .failure(error)
    }
  }
}

/// A progress line on a terminal's standard error; nothing at all elsewhere.
final class Progress: Sendable {
  private let bar: Mutex<ProgressBar>
  private let start = ContinuousClock.now

  private init(_ label: String) { bar = Mutex(ProgressBar(label: label)) }

  func update(_ change: (inout ProgressBar) -> Void) { bar.withLock { change(&$0) } }

  private func draw(_ console: Console) {
    let line = bar.withLock { bar in
      bar.elapsed = ContinuousClock.now - start
      return bar.rendered(width: max(10, console.width() - 1))
    }
    console.error(Array("\r\u{1B}[K\(line)".utf8))
  }

  /// Shows progress while `body` runs; the line is gone when it returns.
  static func show<Answer: Sendable>(
    _ label: String, _ body: @escaping @Sendable (Progress) async throws(Failure) -> Answer
  ) async throws(Failure) -> Answer {
    let progress = Progress(label)
    let console = Console.current
    guard console.drawsProgress else { return try await body(progress) }
    let result = await withTaskGroup(of: Result<Answer, Failure>?.self) { group in
      group.addTask { await Result { () async throws(Failure) in try await body(progress) } }
      group.addTask {
        // What is done at once needs no bar.
        try? await Task.sleep(for: .milliseconds(150))
        while !Task.isCancelled {
          progress.draw(console)
          try? await Task.sleep(for: .milliseconds(100))
        }
        return nil
      }
      var answer: Result<Answer, Failure>?
      while answer == nil, let next = await group.next() { answer = next }
      group.cancelAll()
      return answer
    }
    console.error(Array("\r\u{1B}[K".utf8))
    guard let result else { throw Failure(.failed, "interrupted") }
    return try result.get()
  }
}
