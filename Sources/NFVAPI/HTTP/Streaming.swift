internal import Hummingbird
internal import ServiceLifecycle

extension CallContext {
  /// Runs a stream's body. `onEnd` is called when the client goes away or the daemon ends, and shall
  /// end the body: a stream that nobody reads, or that never ends, would keep the daemon from
  /// ending.
  /// - Parameter body: gets the request's body.
  func stream(
    _ call: Call, onEnd: @escaping @Sendable () -> Void,
    body: (RequestBody) async throws -> Void
  ) async throws {
    try await withGracefulShutdownHandler {
      if channel == nil {
        try await body(call.body)
      } else {
        try await call.body.consumeWithInboundCloseHandler(body, onInboundClosed: onEnd)
      }
    } onGracefulShutdown: {
      onEnd()
    }
  }
}
