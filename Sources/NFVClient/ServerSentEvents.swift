/// One server-sent event (WHATWG HTML 9.2), or an id alone: where the stream stands.
public struct ServerSentEvent: Sendable, Hashable {
  public var id: String?
  public var name: String?
  /// Empty where the block had an id only.
  public var data: String
}

/// Takes a `text/event-stream` apart, in pieces as they come.
public struct ServerSentEventParser: Sendable {
  /// Octets of one block at most.
  static let limit = 1 << 20

  private var line: [UInt8] = []
  private var skipsLineFeed = false
  private var size = 0
  private var id: String?
  private var name: String?
  private var data: [String] = []

  public init() {}

  /// The events that the octets complete.
  /// - Throws: `tooLarge` where a block has no end.
  public mutating func parse(_ octets: [UInt8]) throws(ClientError) -> [ServerSentEvent] {
    var events: [ServerSentEvent] = []
    for octet in octets {
      if skipsLineFeed {
        skipsLineFeed = false
        if octet == 0x0A { continue }
      }
      switch octet {
      case 0x0A, 0x0D:
        skipsLineFeed = octet == 0x0D
        if let event = endLine() { events.append(event) }
      default:
        size += 1
        guard size <= Self.limit else { throw .tooLarge(what: "an event", limit: Self.limit) }
        line.append(octet)
      }
    }
    return events
  }

  private mutating func endLine() -> ServerSentEvent? {
    defer { line.removeAll(keepingCapacity: true) }
    guard !line.isEmpty else {
      defer { (id, name, data, size) = (nil, nil, [], 0) }
      guard id != nil || !data.isEmpty else { return nil }
      return ServerSentEvent(id: id, name: name, data: data.joined(separator: "\n"))
    }
    guard line[0] != UInt8(ascii: ":") else {
      size -= line.count
      return nil
    }
    let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
    var value = line[colon...].dropFirst()
    if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
    let text = String(decoding: value, as: UTF8.self)
    switch String(decoding: line[..<colon], as: UTF8.self) {
    case "id": id = text
    case "event": name = text
    case "data": data.append(text)
    default: break
    }
    return nil
  }
}

/// The daemon's events, over as many connections as it takes: a stream that breaks off is opened
/// again after the last event that came, so nothing is missed and nothing comes twice.
///
/// One reader. The first element may be an id alone: where the stream starts.
public struct EventSubscription: AsyncSequence, Sendable {
  public typealias Element = ServerSentEvent
  public typealias Failure = ClientError

  let client: Client
  let target: String
  let since: String?
  let follow: Bool
  let patience: Duration

  public func makeAsyncIterator() -> Iterator {
    Iterator(subscription: self, lastID: since)
  }

  public struct Iterator: AsyncIteratorProtocol {
    let subscription: EventSubscription
    /// The last event's id, which a new connection resumes after.
    public private(set) var lastID: String?
    private var waiting: [ServerSentEvent] = []
    private var body: ResponseBody.Iterator?
    private var parser = ServerSentEventParser()
    private var opened = false
    private var ended = false

    init(subscription: EventSubscription, lastID: String?) {
      self.subscription = subscription
      self.lastID = lastID
    }

    public mutating func next() async throws(ClientError) -> ServerSentEvent? {
      while waiting.isEmpty {
        guard !ended else { return nil }
        if body == nil { try await open() }
        do throws(ClientError) {
          if let piece = try await body!.next() {
            waiting = try parser.parse(piece).reversed()
            continue
          }
        } catch {
          switch error {
          case .disconnected, .timeout: break
          default: throw error
          }
        }
        body = nil
        ended = !subscription.follow
      }
      let event = waiting.removeLast()
      if let id = event.id { lastID = id }
      return event
    }

    /// Opens the stream, trying again for as long as the subscription's patience lasts.
    private mutating func open() async throws(ClientError) {
      parser = ServerSentEventParser()
      let start = ContinuousClock.now
      var pause = Duration.milliseconds(50)
      while true {
        do throws(ClientError) {
          var request = HTTPRequest(.get, subscription.target)
          request.headers["Accept"] = "text/event-stream"
          if let lastID { request.headers["Last-Event-ID"] = lastID }
          body = try await subscription.client.stream(request).body.makeAsyncIterator()
          opened = true
          return
        } catch {
          // The first connection of all fails at once: the daemon was never there.
          guard opened, error.mayPass, ContinuousClock.now - start < subscription.patience
          else { throw error }
        }
        do { try await Task.sleep(for: pause) } catch { throw .cancelled }
        pause = Swift.min(pause * 2, .seconds(2))
      }
    }
  }
}

extension ClientError {
  /// Whether a daemon that is being restarted looks like this.
  public var mayPass: Bool {
    switch self {
    case .unreachable, .disconnected, .timeout: true
    case .problem(let problem): problem.status == 503
    default: false
    }
  }
}

extension Client {
  /// The daemon's events (`/martlet/v1/events`).
  ///
  /// - Parameters:
  ///   - since: the sequence after which to start; nil: new ones only.
  ///   - vnfInstanceID: only this instance's.
  ///   - follow: whether to wait for more after those that are kept.
  ///   - patience: how long to try to reconnect to a daemon that went away.
  public func events(
    since: String? = nil, vnfInstanceID: String? = nil, follow: Bool = true,
    patience: Duration = .seconds(60)
  ) -> EventSubscription {
    var query: [String] = []
    if let vnfInstanceID { query.append("vnfInstanceId=\(percentEncoded(vnfInstanceID))") }
    if !follow { query.append("follow=false") }
    let target = "/martlet/v1/events" + (query.isEmpty ? "" : "?" + query.joined(separator: "&"))
    return EventSubscription(
      client: self, target: target, since: since, follow: follow, patience: patience)
  }
}
