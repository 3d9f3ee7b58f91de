internal import NIOCore
internal import NIOHTTP1

typealias BodyProducer = NIOThrowingAsyncSequenceProducer<
  [UInt8], any Error, NIOAsyncSequenceProducerBackPressureStrategies.HighLowWatermark, BodyDemand
>

/// One exchange at a time on one connection. Lives on the connection's event loop.
///
/// A whole answer is collected here and handed over once, so that a request costs one wake-up of
/// the loop and one of the caller; a streamed answer goes to a bounded sequence whose reader's
/// pace decides when the socket is read.
final class ConnectionHandler: ChannelDuplexHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias InboundOut = Never
  typealias OutboundIn = HTTPClientRequestPart
  typealias OutboundOut = HTTPClientRequestPart

  /// Where an answer goes.
  enum Sink {
    case whole(limit: Int, @Sendable (Result<HTTPResponse, ClientError>) -> Void)
    case streamed(CheckedContinuation<Result<(ResponseHead, BodyProducer), ClientError>, Never>)
    case streaming(BodyProducer.Source)
  }

  private struct Exchange {
    var what: String
    var sink: Sink
    var head: ResponseHead?
    var body = ByteBuffer()
    var keepAlive = false
    var requestEnded: Bool
    var responseEnded = false
    /// Runs when the exchange took too long: as a whole, or since the last octet of a stream.
    var timer: Scheduled<Void>?
    var silence: TimeAmount?
  }

  private var exchange: Exchange?
  private var context: ChannelHandlerContext?
  private var paused = false
  private var readWaits = false
  /// Called on the loop when an exchange has ended and the connection can take another.
  var onIdle: (() -> Void)?

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func handlerRemoved(context: ChannelHandlerContext) {
    self.context = nil
    onIdle = nil
  }

  /// Sends a request's head and its body where that is at hand.
  ///
  /// - Parameters:
  ///   - limit: for a whole answer the time until it is complete, for a stream until its head.
  ///   - silence: how long a stream may bring nothing.
  func start(
    _ head: HTTPRequestHead, body: ByteBuffer?, ends: Bool, what: String, sink: Sink,
    limit: TimeAmount?, silence: TimeAmount?
  ) {
    guard let context, context.channel.isActive else {
      return Self.fail(sink, .disconnected(what: what))
    }
    exchange = Exchange(what: what, sink: sink, requestEnded: ends, silence: silence)
    schedule(limit)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if let body { context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
    if ends { context.write(wrapOutboundOut(.end(nil)), promise: nil) }
    context.flush()
  }

  /// Sends a piece of a streamed request's body; the promise is kept when the socket took it.
  func send(_ piece: ByteBuffer, _ promise: EventLoopPromise<Void>) {
    guard let context, let exchange, !exchange.requestEnded else {
      return promise.fail(ClientError.disconnected(what: "the request"))
    }
    context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(piece))), promise: promise)
  }

  /// The request's streamed body is complete.
  func endRequest(answerWithin limit: TimeAmount?) {
    guard let context, let exchange, !exchange.requestEnded else { return }
    self.exchange?.requestEnded = true
    if let limit { schedule(limit) }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }

  private func schedule(_ limit: TimeAmount?) {
    exchange?.timer?.cancel()
    guard let limit, let context else { return }
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    exchange?.timer = context.eventLoop.scheduleTask(in: limit) { bound.value.timedOut() }
  }

  private func timedOut() {
    guard let what = exchange?.what else { return }
    abort(.timeout(what: what))
  }

  /// Ends the exchange and the connection.
  func abort(_ error: ClientError) {
    if let exchange {
      self.exchange = nil
      exchange.timer?.cancel()
      if !exchange.responseEnded { Self.fail(exchange.sink, error) }
    }
    context?.close(promise: nil)
  }

  private static func fail(_ sink: Sink, _ error: ClientError) {
    switch sink {
    case .whole(_, let deliver): deliver(.failure(error))
    case .streamed(let continuation): continuation.resume(returning: .failure(error))
    case .streaming(let source): source.finish(error)
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard exchange != nil else {
      context.close(promise: nil)
      return
    }
    switch unwrapInboundIn(data) {
    case .head(let head): receive(head, context)
    case .body(let buffer): receive(buffer)
    case .end: receiveEnd()
    }
  }

  private func receive(_ head: HTTPResponseHead, _ context: ChannelHandlerContext) {
    var headers = Headers()
    headers.fields = head.headers.map { Headers.Field(name: $0.name, value: $0.value) }
    let received = ResponseHead(status: Int(head.status.code), headers: headers)
    exchange?.head = received
    exchange?.keepAlive = head.isKeepAlive
    guard case .streamed(let continuation) = exchange?.sink else { return }
    let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
    let producer = BodyProducer.makeSequence(
      backPressureStrategy: .init(lowWatermark: 4, highWatermark: 32), finishOnDeinit: false,
      delegate: BodyDemand(handler: handler))
    exchange?.sink = .streaming(producer.source)
    schedule(exchange?.silence)
    continuation.resume(returning: .success((received, producer.sequence)))
  }

  private func receive(_ buffer: ByteBuffer) {
    guard let what = exchange?.what, let sink = exchange?.sink else { return }
    switch sink {
    case .whole(let limit, _):
      guard exchange!.body.readableBytes + buffer.readableBytes <= limit else {
        return abort(.tooLarge(what: what, limit: limit))
      }
      exchange!.body.writeImmutableBuffer(buffer)
    case .streamed: break
    case .streaming(let source):
      switch source.yield(Array(buffer.readableBytesView)) {
      case .produceMore: schedule(exchange?.silence)
      case .stopProducing:
        paused = true
        // As long as the reader takes nothing, the daemon cannot be called silent.
        exchange?.timer?.cancel()
      case .dropped: abort(.cancelled)
      }
    }
  }

  private func receiveEnd() {
    guard let ended = exchange, let head = ended.head else { return }
    exchange?.responseEnded = true
    ended.timer?.cancel()
    finishIfDone()
    switch ended.sink {
    case .whole(_, let deliver):
      deliver(.success(HTTPResponse(head: head, body: Array(ended.body.readableBytesView))))
    case .streamed: break
    case .streaming(let source): source.finish()
    }
  }

  private func finishIfDone() {
    guard let exchange, exchange.responseEnded else { return }
    // An answer before the request's end means that the rest of it is not wanted.
    let reusable = exchange.keepAlive && exchange.requestEnded
    self.exchange = nil
    resumeReading()
    if reusable { onIdle?() } else { context?.close(promise: nil) }
  }

  func channelInactive(context: ChannelHandlerContext) {
    if let what = exchange?.what { abort(.disconnected(what: what)) }
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let what = exchange?.what else {
      context.close(promise: nil)
      return
    }
    switch error {
    case HTTPParserError.invalidEOFState: abort(.disconnected(what: what))
    case is HTTPParserError: abort(.invalid(what: what, reason: String(describing: error)))
    default: abort(.disconnected(what: what))
    }
  }

  func read(context: ChannelHandlerContext) {
    if paused { readWaits = true } else { context.read() }
  }

  func resumeReading() {
    if paused, case .streaming? = exchange?.sink { schedule(exchange?.silence) }
    paused = false
    guard readWaits else { return }
    readWaits = false
    context?.read()
  }

  /// The reader of a streamed answer went away before its end.
  func readerLeft() {
    guard let exchange, !exchange.responseEnded, case .streaming = exchange.sink else { return }
    abort(.cancelled)
  }
}

/// The reader of a streamed answer, as the event loop sees it.
struct BodyDemand: NIOAsyncSequenceProducerDelegate, Sendable {
  let handler: NIOLoopBound<ConnectionHandler>

  func produceMore() {
    handler.eventLoop.execute { handler.value.resumeReading() }
  }

  func didTerminate() {
    handler.eventLoop.execute { handler.value.readerLeft() }
  }
}
