internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Synchronization

/// An HTTP/1.1 client of one daemon, over a unix socket or loopback TCP.
///
/// Connections are kept and used again: the warm path is one write and one read on an open socket.
/// Requests may run concurrently, each on a connection of its own. Answers with a status of 400
/// or above are thrown as `problem`.
public final class Client: Sendable {
  public let endpoint: Endpoint
  private let token: String?
  private let limits: Limits
  private let idle = Mutex<[Connection]>([])

  /// How long and how much at most.
  public struct Limits: Sendable {
    public var connect: Duration
    /// From a request's start to its whole answer, or to the head of a streamed one.
    public var answer: Duration
    /// How long a streamed answer may bring nothing; the daemon's keep-alive comes every 10 s.
    public var silence: Duration
    /// Octets of a whole answer.
    public var body: Int
    /// How long an unused connection is trusted; the daemon closes it after 60 s.
    public var idle: Duration

    public init(
      connect: Duration = .seconds(5), answer: Duration = .seconds(30),
      silence: Duration = .seconds(35), body: Int = 64 << 20, idle: Duration = .seconds(45)
    ) {
      self.connect = connect
      self.answer = answer
      self.silence = silence
      self.body = body
      self.idle = idle
    }
  }

  /// - Parameter token: sent as `Authorization: Bearer`; TCP needs one.
  public init(_ endpoint: Endpoint, token: String? = nil, limits: Limits = Limits()) {
    self.endpoint = endpoint
    self.token = token
    self.limits = limits
  }

  deinit { close() }

  /// Closes the connections that are not in use.
  public func close() {
    let connections = idle.withLock { idle in
      defer { idle = [] }
      return idle
    }
    for connection in connections { connection.channel.close(promise: nil) }
  }

  /// Sends a request and returns its whole answer.
  ///
  /// A GET that meets a connection which the daemon has just closed is sent once more.
  public func send(_ request: HTTPRequest) async throws(ClientError) -> HTTPResponse {
    let (connection, reused) = try await checkOut()
    do throws(ClientError) {
      return try await send(request, on: connection)
    } catch {
      guard reused, request.method == .get, case .disconnected = error else { throw error }
      return try await send(request, on: try await connect())
    }
  }

  private func send(
    _ request: HTTPRequest, on connection: Connection
  ) async throws(ClientError) -> HTTPResponse {
    let head = head(of: request, bodyLength: request.body?.count)
    let body = request.body.map { ByteBuffer(bytes: $0) }
    let what = describe(request)
    let limits = limits
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation {
        (continuation: CheckedContinuation<Result<HTTPResponse, ClientError>, Never>) in
        connection.run {
          $0.start(
            head, body: body, ends: true, what: what,
            sink: .whole(limit: limits.body) { continuation.resume(returning: $0) },
            limit: TimeAmount(limits.answer), silence: nil)
        }
      }
    } onCancel: {
      connection.run { $0.abort(.cancelled) }
    }
    return try checked(result.get())
  }

  private func checked(_ response: HTTPResponse) throws(ClientError) -> HTTPResponse {
    guard response.status < 400 else {
      throw .problem(ProblemDetails(response: response))
    }
    return response
  }

  /// Sends a request and returns as soon as the answer's head is there. The connection is a new one: it is
  /// not kept from the next request for as long as the stream lasts.
  public func stream(_ request: HTTPRequest) async throws(ClientError) -> ResponseStream {
    let body = request.body.map { ByteBuffer(bytes: $0) }
    return try await begin(
      head(of: request, bodyLength: body?.readableBytes), body: body, ends: true,
      what: describe(request), on: try await connect())
  }

  private func begin(
    _ head: HTTPRequestHead, body: ByteBuffer?, ends: Bool, what: String,
    on connection: Connection
  ) async throws(ClientError) -> ResponseStream {
    let limits = limits
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation {
        (
          continuation: CheckedContinuation<
            Result<(ResponseHead, BodyProducer), ClientError>, Never
          >
        ) in
        connection.run {
          $0.start(
            head, body: body, ends: ends, what: what, sink: .streamed(continuation),
            limit: TimeAmount(limits.answer), silence: TimeAmount(limits.silence))
        }
      }
    } onCancel: {
      connection.run { $0.abort(.cancelled) }
    }
    let (head, producer) = try result.get()
    let stream = ResponseStream(head: head, body: ResponseBody(producer: producer))
    guard head.status < 400 else {
      let body = try await stream.body.collected(limit: 1 << 20)
      throw .problem(ProblemDetails(response: HTTPResponse(head: head, body: body)))
    }
    return stream
  }

  /// Sends a request whose body is `length` octets that come from `next`, piece by piece.
  ///
  /// - Parameters:
  ///   - next: the next piece, nil at the end. Its errors are thrown as `source`.
  ///   - progress: called with the octets sent so far after every piece.
  /// - Returns: the whole answer. A daemon that answers before the end (413) stops the upload.
  public func upload(
    _ request: HTTPRequest, length: Int,
    next: () async throws -> [UInt8]?, progress: (Int) -> Void = { _ in }
  ) async throws(ClientError) -> HTTPResponse {
    let connection = try await connect()
    let head = head(of: request, bodyLength: length)
    let what = describe(request)
    let limits = limits
    // The answer may come before the body's end: a refusal.
    let (answers, answer) = AsyncStream<Result<HTTPResponse, ClientError>>.makeStream()
    connection.run {
      $0.start(
        head, body: nil, ends: false, what: what,
        sink: .whole(limit: limits.body) {
          answer.yield($0)
          answer.finish()
        }, limit: nil, silence: nil)
    }
    var taken = true
    var sent = 0
    do {
      while taken, !Task.isCancelled, let piece = try await next() {
        taken = await connection.write(piece)
        guard taken else { break }
        sent += piece.count
        progress(sent)
      }
      if sent == length {
        connection.run { $0.endRequest(answerWithin: TimeAmount(limits.answer)) }
      } else if taken {
        // The length has been announced; what is missing cannot be made good.
        connection.run { $0.abort(.source("it became shorter while it was sent")) }
      }
    } catch {
      connection.run { $0.abort(.source(String(describing: error))) }
    }
    let result = await withTaskCancellationHandler {
      await answers.first { _ in true }
    } onCancel: {
      connection.run { $0.abort(.cancelled) }
    }
    guard let result else { throw .cancelled }
    return try checked(result.get())
  }

  /// Opens an exchange whose request body is written while the answer is read.
  public func converse(_ request: HTTPRequest) async throws(ClientError) -> Conversation {
    let connection = try await connect()
    var head = head(of: request, bodyLength: nil)
    head.headers.remove(name: "Content-Length")
    head.headers.replaceOrAdd(name: "Transfer-Encoding", value: "chunked")
    head.headers.replaceOrAdd(name: "Connection", value: "close")
    let stream = try await begin(
      head, body: request.body.map { ByteBuffer(bytes: $0) }, ends: false,
      what: describe(request), on: connection)
    return Conversation(response: stream, connection: connection)
  }

  private func describe(_ request: HTTPRequest) -> String {
    "\(request.method.rawValue) \(request.target)"
  }

  private func head(of request: HTTPRequest, bodyLength: Int?) -> HTTPRequestHead {
    var headers = HTTPHeaders()
    headers.add(name: "Host", value: endpoint.authority)
    if let token { headers.add(name: "Authorization", value: "Bearer \(token)") }
    for field in request.headers.fields { headers.add(name: field.name, value: field.value) }
    if let bodyLength {
      headers.add(name: "Content-Length", value: String(bodyLength))
    } else if request.method != .get && request.method != .delete {
      headers.add(name: "Content-Length", value: "0")
    }
    return HTTPRequestHead(
      version: .http1_1, method: HTTPMethod(rawValue: request.method.rawValue),
      uri: request.target, headers: headers)
  }

  private func checkOut() async throws(ClientError) -> (Connection, reused: Bool) {
    let now = ContinuousClock.now
    let kept = idle.withLock { idle -> Connection? in
      while let connection = idle.popLast() {
        if connection.channel.isActive, now - connection.idleSince < limits.idle {
          return connection
        }
        connection.channel.close(promise: nil)
      }
      return nil
    }
    if let kept { return (kept, true) }
    return (try await connect(), false)
  }

  private func checkIn(_ connection: Connection) {
    var connection = connection
    connection.idleSince = .now
    idle.withLock { $0.append(connection) }
  }

  private func connect() async throws(ClientError) -> Connection {
    let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connectTimeout(TimeAmount(limits.connect))
      .channelOption(.allowRemoteHalfClosure, value: false)
    let initialize: @Sendable (any Channel) -> EventLoopFuture<Connection> = {
      [weak self] channel in
      channel.eventLoop.makeCompletedFuture {
        let handler = ConnectionHandler()
        try channel.pipeline.syncOperations.addHTTPClientHandlers()
        try channel.pipeline.syncOperations.addHandler(handler)
        let connection = Connection(
          channel: channel, handler: NIOLoopBound(handler, eventLoop: channel.eventLoop))
        handler.onIdle = { [weak self] in
          if let self { self.checkIn(connection) } else { channel.close(promise: nil) }
        }
        return connection
      }
    }
    do {
      let connection =
        switch endpoint {
        case .unixSocket(let path):
          try await bootstrap.connect(
            to: try SocketAddress(unixDomainSocketPath: path), channelInitializer: initialize)
        case .tcp(let host, let port):
          try await bootstrap.channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connect(host: host, port: port, channelInitializer: initialize)
        }
      return connection
    } catch {
      throw ClientError(connecting: error, to: endpoint)
    }
  }
}
