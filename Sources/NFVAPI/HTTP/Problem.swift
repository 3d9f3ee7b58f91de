import HTTPTypes
import Hummingbird
internal import NFVModel
import NIOCore

/// An answer that says what went wrong (SOL013 6.3, RFC 9457).
struct Problem: Error, Sendable {
  var status: HTTPResponse.Status
  var title: String
  /// What, where, and what to do.
  var detail: String
  /// What lies behind it, such as a system call's error.
  var cause: String?
  var headers = HTTPFields()

  init(
    _ status: HTTPResponse.Status, _ detail: String, title: String? = nil, cause: String? = nil,
    headers: HTTPFields = [:]
  ) {
    self.status = status
    self.title = title ?? status.reasonPhrase
    self.detail = detail
    self.cause = cause
    self.headers = headers
  }

  /// The one place where the domain's errors become HTTP's.
  init(_ error: NFVError) {
    let status: HTTPResponse.Status =
      switch error.code {
      case .malformed: .badRequest
      case .notFound: .notFound
      case .conflict: .conflict
      case .preconditionFailed: .preconditionFailed
      case .unprocessable: .unprocessableContent
      case .tooLarge: .contentTooLarge
      case .exhausted: HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage")
      case .unauthorized: .unauthorized
      case .forbidden: .forbidden
      case .unavailable, .overloaded: .serviceUnavailable
      case .timeout: .gatewayTimeout
      case .failed: .internalServerError
      }
    self.init(
      status, error.message, cause: error.cause,
      headers: error.code == .overloaded ? [.retryAfter: "1"] : [:])
  }

  /// What any error of a handler is to the caller. An error that is none of ours is not shown.
  init(_ error: any Error) {
    switch error {
    case let problem as Problem: self = problem
    case let error as NFVError: self.init(error)
    case is NIOTooManyBytesError:
      self.init(.contentTooLarge, "the body is larger than \(RequestBound.json) octets")
    case let error as HTTPError: self.init(error.status, error.body ?? error.status.reasonPhrase)
    default: self.init(.internalServerError, "the daemon failed at this; its log says more")
    }
  }

  /// - Parameter path: of the request, for `instance`.
  func response(to path: String?) -> Reply {
    var reply = Reply.json(status: status, contentType: "application/problem+json") {
      write(to: &$0, instance: path)
    }
    reply.headers.append(contentsOf: headers)
    return reply
  }

  func write(to json: inout JSONWriter, instance: String?) {
    json.object {
      $0.field("title", title)
      $0.field("status", status.code)
      $0.field("detail", detail)
      $0.field("cause", cause)
      $0.field("instance", instance)
    }
  }
}

/// What of a request is read at most.
enum RequestBound {
  /// A body of JSON, in octets.
  static let json = 1 << 20
}
