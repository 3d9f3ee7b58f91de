import NFVModel
import Synchronization

/// Output between whoever brings it, who never waits, and one reader.
///
/// However small its pieces are, few are kept: beyond, what comes is joined to the last one of its
/// stream, which may bring it before something of the other.
final class OutputQueue: Sendable {
  private struct State {
    var waiting: [ExecOutput] = []
    var octets = 0
    var reader: CheckedContinuation<ExecOutput?, Never>?
    var hasEnded = false

    /// Adds output to the last piece of its stream.
    /// - Returns: false where none waits.
    mutating func join(_ output: ExecOutput) -> Bool {
      for index in waiting.indices.reversed() {
        switch (waiting[index], output) {
        case (.standardOutput(var bytes), .standardOutput(let more)):
          // Not copied: nobody else has it.
          waiting[index] = .standardOutput([])
          bytes += more
          waiting[index] = .standardOutput(bytes)
          return true
        case (.standardError(var bytes), .standardError(let more)):
          waiting[index] = .standardError([])
          bytes += more
          waiting[index] = .standardError(bytes)
          return true
        default: continue
        }
      }
      return false
    }
  }

  private let state = Mutex(State())
  static let maximumPieces = 1024

  /// Octets that wait for the reader.
  var octets: Int { state.withLock { $0.octets } }

  var hasEnded: Bool { state.withLock(\.hasEnded) }

  /// What comes after the end is dropped.
  func append(_ output: ExecOutput) {
    let reader = state.withLock { state in
      defer { state.reader = nil }
      if state.hasEnded || state.reader != nil { return state.hasEnded ? nil : state.reader }
      state.octets += output.octets
      if state.waiting.count < Self.maximumPieces || !state.join(output) {
        state.waiting.append(output)
      }
      return nil
    }
    reader?.resume(returning: output)
  }

  /// The last output, the first time.
  func end(_ status: ExitStatus) {
    let reader = state.withLock { state in
      defer { state.reader = nil }
      if state.hasEnded { return state.reader }
      state.hasEnded = true
      if state.reader == nil { state.waiting.append(.exited(status)) }
      return state.reader
    }
    reader?.resume(returning: .exited(status))
  }

  /// Waits for a piece; nil after the last one. For one reader at a time.
  func next() async -> ExecOutput? {
    await withCheckedContinuation { continuation in
      let next = state.withLock { state -> ExecOutput?? in
        guard !state.waiting.isEmpty else {
          if state.hasEnded { return .some(nil) }
          state.reader = continuation
          return nil
        }
        let next = state.waiting.removeFirst()
        state.octets -= next.octets
        return next
      }
      if let next { continuation.resume(returning: next) }
    }
  }
}

extension ExecOutput {
  var octets: Int {
    switch self {
    case .standardOutput(let bytes), .standardError(let bytes): bytes.count
    case .exited: 0
    }
  }
}
