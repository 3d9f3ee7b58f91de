internal import Glibc
internal import NIOCore
internal import NIOPosix

/// One open connection: its channel, and its handler on the channel's event loop.
struct Connection: Sendable {
  let channel: any Channel
  let handler: NIOLoopBound<ConnectionHandler>
  var idleSince = ContinuousClock.now

  /// Runs `body` with the handler on its event loop.
  func run(_ body: @escaping @Sendable (ConnectionHandler) -> Void) {
    handler.eventLoop.execute { body(handler.value) }
  }

  /// Writes a piece of a streamed request; false where the connection is gone.
  func write(_ piece: [UInt8]) async -> Bool {
    let promise = handler.eventLoop.makePromise(of: Void.self)
    let buffer = ByteBuffer(bytes: piece)
    run { $0.send(buffer, promise) }
    do {
      try await promise.futureResult.get()
      return true
    } catch {
      return false
    }
  }
}

extension ClientError {
  /// What a failed connect(2) means.
  init(connecting error: any Error, to endpoint: Endpoint) {
    var code = (error as? IOError)?.errnoCode
    if let failed = error as? NIOConnectionError {
      code = failed.connectionErrors.lazy.compactMap { ($0.error as? IOError)?.errnoCode }.first
    }
    switch (code, error) {
    case (EACCES?, _), (EPERM?, _): self = .permissionDenied(endpoint)
    case (_, ChannelError.connectTimeout):
      self = .unreachable(endpoint, reason: "it does not answer")
    case (let code?, _):
      self = .unreachable(endpoint, reason: String(cString: strerror(code)))
    default: self = .unreachable(endpoint, reason: String(describing: error))
    }
  }

  init(_ error: any Error) {
    switch error {
    case let error as ClientError: self = error
    case is CancellationError: self = .cancelled
    default: self = .invalid(what: "the answer", reason: String(describing: error))
    }
  }
}

extension TimeAmount {
  init(_ duration: Duration) {
    let (seconds, attoseconds) = duration.components
    self = .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
  }
}
