internal import HTTPTypes
internal import Hummingbird
internal import LinuxSystem
internal import NFVLifecycle
internal import NFVModel
internal import NIOCore

/// The outbox as a stream of server-sent events (WHATWG HTML, 9.2). An event's id is its sequence
/// number, over restarts of the daemon as well.
struct Events: Sendable {
  let lifecycle: Lifecycle
  let streams: Streams
  /// Where the store is read: its calls block.
  let threads: BlockingExecutor

  private enum Step: Sendable {
    case entry(OutboxEntry)
    case keepAlive
    case end
  }

  func register(on routes: inout Routes) {
    let number = #"{"type":"integer","minimum":0}"#
    routes.on(
      .get, "/martlet/v1/events",
      .content(
        ["text/event-stream"], "Streams what happens, as server-sent events.",
        parameters: [
          .init(
            name: "since", description: "After this event; after the newest by default.",
            schema: number),
          .init(
            name: "Last-Event-ID", place: .header, description: "As since, which it overrides.",
            schema: number),
          .init(name: "vnfInstanceId", description: "Only of this VNF instance."),
          .init(
            name: "follow", description: "Goes on with what comes; true by default.",
            schema: #"{"type":"boolean"}"#),
        ]), open)
  }

  private func open(_ call: Call, _ context: CallContext) async throws -> Reply {
    let since = try await start(call)
    let instance = call.query("vnfInstanceId").map { VnfInstanceID($0) }
    let follows = try call.flag("follow", default: true)
    let place = follows ? try streams.take() : nil
    @Sendable func isWanted(_ notification: NFVModel.Notification) -> Bool {
      notification.tenant == context.tenant
        && (instance == nil || notification.instance == instance)
    }
    let body = ResponseBody { writer in
      try await writer.write(ByteBuffer(string: "id: \(since)\n\n"))
      if let place {
        try await follow(since, call, context, place) { entry in
          guard let entry else {
            return try await writer.write(ByteBuffer(string: ": keep-alive\n\n"))
          }
          if isWanted(entry.notification) { try await writer.write(Self.event(entry)) }
        }
      } else {
        var last = since
        while true {
          let entries = try await entries(after: last, limit: 256)
          for entry in entries where isWanted(entry.notification) {
            try await writer.write(Self.event(entry))
          }
          guard let newest = entries.last else { break }
          last = newest.sequence
        }
      }
      try await writer.finish(nil)
    }
    return Reply(
      status: .ok,
      headers: [.contentType: "text/event-stream", .cacheControl: "no-store"], body: body)
  }

  /// The sequence number after which the stream starts.
  private func start(_ call: Call) async throws -> Int64 {
    let newest = lifecycle.lastSequence
    let name = call.headers[.lastEventID] == nil ? "since" : "Last-Event-ID"
    guard let text = call.headers[.lastEventID] ?? call.query("since") else { return newest }
    guard let since = Int64(text), since >= 0 else {
      throw Problem(.badRequest, "\(name) is \(text); it is the number of an event, or 0")
    }
    do {
      _ = try await entries(after: since, limit: 1)
    } catch let error as NFVError where error.code == .notFound {
      throw Problem(
        .gone,
        "the events right after \(since) are not kept any more; read the resources anew "
          + "(GET \(Path.instances)) and go on from \(newest)")
    }
    return since
  }

  private func entries(after sequence: Int64, limit: Int) async throws -> [OutboxEntry] {
    try await withTaskExecutorPreference(threads) {
      try lifecycle.outbox(after: sequence, limit: limit)
    }
  }

  /// Calls `tell` with each entry, which is read when the one before was told, so that a reader has its
  /// own pace; and with nil now and then.
  private func follow(
    _ since: Int64, _ call: Call, _ context: CallContext, _ place: Streams.Place,
    _ tell: (OutboxEntry?) async throws -> Void
  ) async throws {
    let (end, continuation) = AsyncStream.makeStream(of: Void.self)
    let entries = lifecycle.notifications(after: since)
    @Sendable func nextEntry() async throws -> Step {
      var iterator = entries.makeAsyncIterator()
      return try await iterator.next().map(Step.entry) ?? .end
    }
    @Sendable func nextKeepAlive() async throws -> Step {
      try await Task.sleep(for: streams.keepAlive)
      return .keepAlive
    }
    try await context.stream(call, at: place) {
      continuation.finish()
    } body: { _ in
      try await withThrowingTaskGroup(of: Step.self) { group in
        defer { group.cancelAll() }
        group.addTask {
          for await _ in end {}
          return .end
        }
        group.addTask(operation: nextEntry)
        group.addTask(operation: nextKeepAlive)
        while let step = try await group.next() {
          switch step {
          case .entry(let entry):
            try await tell(entry)
            group.addTask(operation: nextEntry)
          case .keepAlive:
            try await tell(nil)
            group.addTask(operation: nextKeepAlive)
          case .end: return
          }
        }
      }
    }
  }

  private static func event(_ entry: OutboxEntry) -> ByteBuffer {
    var json = JSONWriter(capacity: 512)
    json.notification(entry)
    var buffer = ByteBuffer()
    buffer.writeString(
      "id: \(entry.sequence)\nevent: \(entry.notification.kind.rawValue)\ndata: ")
    buffer.writeBytes(json.bytes)
    buffer.writeString("\n\n")
    return buffer
  }
}

extension JSONWriter {
  fileprivate mutating func notification(_ entry: OutboxEntry) {
    let notification = entry.notification
    object {
      $0.field("sequence", entry.sequence)
      $0.field("notificationType", notification.kind.rawValue)
      $0.field("timeStamp", notification.time)
      $0.field("vnfInstanceId", notification.instance)
      $0.field("vnfPkgId", notification.package)
      $0.field("vnfLcmOpOccId", notification.operation)
      $0.field("operation", notification.operationType?.rawValue)
      $0.field("operationState", notification.operationState?.rawValue)
      $0.field("isAutomaticInvocation", notification.isAutomatic)
      $0.field("vnfcId", notification.vnfc)
      $0.field("message", notification.message)
    }
  }
}
