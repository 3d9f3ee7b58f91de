import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A daemon that says what a test wants, on a unix socket or on loopback.
final class StubServer: Sendable {
  struct Received: Sendable, Hashable {
    var method: String
    var target: String
    var headers: [String: String]
    var body: [UInt8]

    var text: String { String(decoding: body, as: UTF8.self) }
    /// `GET /path`, and the body where there is one.
    var line: String { "\(method) \(target)" + (body.isEmpty ? "" : " \(text)") }
  }

  enum Ending: Sendable {
    case end
    /// The connection breaks off within the body.
    case dropped
    /// Nothing more comes, the connection stays.
    case silence
  }

  struct Reply: Sendable {
    var status = 200
    var headers: [(String, String)] = []
    var pieces: [[UInt8]] = []
    var ending = Ending.end
    var isStream = false

    static func json(
      _ text: String, status: Int = 200, headers: [(String, String)] = []
    ) -> Reply {
      Reply(
        status: status, headers: [("Content-Type", "application/json")] + headers,
        pieces: [Array(text.utf8)])
    }
    static func empty(_ status: Int, headers: [(String, String)] = []) -> Reply {
      Reply(status: status, headers: headers)
    }
    static func problem(_ status: Int, _ detail: String) -> Reply {
      Reply(
        status: status, headers: [("Content-Type", "application/problem+json; charset=utf-8")],
        pieces: [Array(#"{"title":"T","status":\#(status),"detail":"\#(detail)"}"#.utf8)])
    }
    static func stream(
      _ pieces: [String], _ ending: Ending = .end, headers: [(String, String)] = []
    ) -> Reply {
      Reply(
        headers: headers, pieces: pieces.map { Array($0.utf8) }, ending: ending, isStream: true)
    }
    /// No answer at all.
    static var silence: Reply { Reply(status: 0) }
  }

  typealias Answer = @Sendable (_ request: Received, _ number: Int) -> Reply

  private struct State {
    var received: [Received] = []
    var connections = 0
  }

  private let state = Mutex(State())
  private let answer: Answer
  private let channel = Mutex<(any Channel)?>(nil)
  /// The unix socket that `onSocket` listens on.
  let path = "/tmp/martlet-stub-\(UInt64.random(in: 0 ... .max)).sock"

  var received: [Received] { state.withLock { $0.received } }
  var lines: [String] { received.map(\.line) }
  var connections: Int { state.withLock { $0.connections } }
  var port: Int { channel.withLock { $0?.localAddress?.port ?? 0 } }

  init(_ answer: @escaping Answer) { self.answer = answer }

  /// Runs `body` while the server listens on a unix socket of its own.
  func onSocket<Value>(_ body: (StubServer) async throws -> Value) async throws -> Value {
    try await serve(body) { [path] in
      try await $0.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true).get()
    }
  }

  /// Runs `body` while the server listens on a free port of loopback.
  func onLoopback<Value>(_ body: (StubServer) async throws -> Value) async throws -> Value {
    try await serve(body) { try await $0.bind(host: "127.0.0.1", port: 0).get() }
  }

  private func serve<Value>(
    _ body: (StubServer) async throws -> Value,
    bind: (ServerBootstrap) async throws -> any Channel
  ) async throws -> Value {
    let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        self.state.withLock { $0.connections += 1 }
        return channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.configureHTTPServerPipeline()
          try channel.pipeline.syncOperations.addHandler(Handler(self))
        }
      }
    let channel = try await bind(bootstrap)
    self.channel.withLock { $0 = channel }
    let result: Result<Value, any Error>
    do { result = .success(try await body(self)) } catch { result = .failure(error) }
    try await channel.close()
    return try result.get()
  }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    let server: StubServer
    var request: Received?
    var answered = false

    init(_ server: StubServer) { self.server = server }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head):
        answered = false
        request = Received(
          method: head.method.rawValue, target: head.uri,
          headers: Dictionary(
            head.headers.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { $1 }),
          body: [])
      case .body(let buffer):
        request?.body += Array(buffer.readableBytesView)
        // A conversation is answered before its request ends.
        if !answered, request?.headers["transfer-encoding"] == "chunked" { reply(context) }
      case .end:
        if !answered { reply(context) } else { record() }
      }
    }

    private func record() {
      guard let request else { return }
      server.state.withLock { state in
        // A conversation that ended replaces what was known of it when it was answered.
        if answered { state.received.removeLast() }
        state.received.append(request)
      }
    }

    private func reply(_ context: ChannelHandlerContext) {
      guard let request else { return }
      record()
      answered = true
      let reply = server.answer(request, server.received.count)
      guard reply.status > 0 else { return }
      var headers = HTTPHeaders(reply.headers)
      if !reply.isStream {
        headers.add(name: "Content-Length", value: String(reply.pieces.map(\.count).reduce(0, +)))
      }
      let head = HTTPResponseHead(
        version: .http1_1, status: HTTPResponseStatus(statusCode: reply.status), headers: headers)
      context.write(wrapOutboundOut(.head(head)), promise: nil)
      for piece in reply.pieces {
        context.writeAndFlush(
          wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: piece)))), promise: nil)
      }
      switch reply.ending {
      case .end: context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
      case .dropped:
        context.flush()
        context.close(promise: nil)
      case .silence: context.flush()
      }
    }
  }
}
