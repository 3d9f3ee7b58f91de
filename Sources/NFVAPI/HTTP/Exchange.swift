internal import HTTPTypes
internal import Hummingbird
import NFVModel
import NIOCore

// `Request` and `Response` are the core's words in this module.
typealias Call = Hummingbird.Request
typealias Reply = Hummingbird.Response

extension Reply {
  /// An answer in JSON, written by `body`.
  static func json(
    status: HTTPResponse.Status = .ok, contentType: String = "application/json",
    headers: HTTPFields = [:], capacity: Int = 512, _ body: (inout JSONWriter) -> Void
  ) -> Reply {
    var json = JSONWriter(capacity: capacity)
    body(&json)
    var headers = headers
    headers[.contentType] = contentType
    return Reply(
      status: status, headers: headers,
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: json.bytes)))
  }

  /// Ends the connection after this answer: the rest of a body that is too large is not read to its
  /// end, which may never come.
  mutating func closeAfterwards(_ channel: any Channel) {
    headers[.connection] = "close"
    let body = body
    self.body = ResponseBody(contentLength: body.contentLength) { writer in
      try await body.write(writer)
      // Not at once, or what was not read yet makes the kernel throw the answer away.
      _ = channel.eventLoop.scheduleTask(in: .milliseconds(500)) {
        channel.close(mode: .all, promise: nil)
      }
    }
  }

  static func text(_ text: String, contentType: String = "text/plain; charset=utf-8") -> Reply {
    Reply(
      status: .ok, headers: [.contentType: contentType],
      body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }

  static func empty(_ status: HTTPResponse.Status, location: String? = nil) -> Reply {
    var headers = HTTPFields()
    headers[.location] = location
    return Reply(status: status, headers: headers)
  }
}

extension Call {
  /// The query's value of that name, decoded; nil where it is not given.
  func query(_ name: String) -> String? {
    uri.queryParameters[Substring(name)].map(String.init)
  }

  /// A whole number of the query.
  func number<Value: FixedWidthInteger>(
    _ name: String, default value: Value, in range: ClosedRange<Value>
  ) throws(Problem) -> Value {
    guard let text = query(name) else { return value }
    guard let number = Value(text), range.contains(number) else {
      throw Problem(
        .badRequest,
        "\(name)=\(text) is not a number of \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// A yes or no of the query: `follow`, `follow=true` and `follow=false`.
  func flag(_ name: String, default value: Bool) throws(Problem) -> Bool {
    switch query(name) {
    case nil: return value
    case "", "true", "1": return true
    case "false", "0": return false
    case .some(let text): throw Problem(.badRequest, "\(name)=\(text) is neither true nor false")
    }
  }

  /// The body as JSON; an empty body is an empty object.
  func json() async throws -> JSONBody {
    if let text = headers[.contentLength], let length = Int(text), length > RequestBound.json {
      throw Problem(
        .contentTooLarge, "the body has \(length) octets; at most \(RequestBound.json) are read")
    }
    let buffer = try await body.collect(upTo: RequestBound.json)
    return try JSONBody(Array(buffer.readableBytesView))
  }
}
