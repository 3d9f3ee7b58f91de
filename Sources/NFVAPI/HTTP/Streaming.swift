internal import Hummingbird
internal import NFVModel
internal import ServiceLifecycle
internal import Synchronization

/// How many answers may go on until their reader, or the daemon, ends: each has a connection and
/// buffers, and connections are bounded too.
final class Streams: Sendable {
  private let limit: Int
  private let open = Mutex(0)
  /// After so long without anything to tell a reader hears that the daemon is there; Martlet's own gives
  /// it up after 35 s.
  let keepAlive: Duration

  init(limit: Int = 256, keepAlive: Duration = .seconds(10)) {
    self.limit = limit
    self.keepAlive = keepAlive
  }

  /// A stream's place; it is free again when this is gone.
  final class Place: Sendable {
    private let streams: Streams

    fileprivate init(_ streams: Streams) { self.streams = streams }
    deinit { streams.open.withLock { $0 -= 1 } }
  }

  /// - Throws: `overloaded` where there is no place.
  func take() throws(NFVError) -> Place {
    try open.withLock { open throws(NFVError) in
      guard open < limit else {
        throw NFVError(
          .overloaded,
          "\(open) streams of events, output and commands are open, which is the daemon's bound; "
            + "end one, or ask again later")
      }
      open += 1
    }
    return Place(self)
  }
}

extension CallContext {
  /// Runs a stream's body. `onEnd` is called when the client goes away or the daemon ends, and shall
  /// end the body: a stream that nobody reads, or that never ends, would keep the daemon from
  /// ending.
  /// - Parameters:
  ///   - place: kept until the stream ends.
  ///   - body: gets the request's body.
  func stream(
    _ call: Call, at place: Streams.Place, onEnd: @escaping @Sendable () -> Void,
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
    withExtendedLifetime(place) {}
  }
}
