internal import FoundationEssentials

/// Why a request has no good answer.
public enum ClientError: Error, Sendable, Hashable {
  /// Nobody listens there; `reason` is the system's error.
  case unreachable(Endpoint, reason: String)
  /// The socket exists, the caller may not open it (EACCES).
  case permissionDenied(Endpoint)
  /// The daemon answered with an error status.
  case problem(ProblemDetails)
  /// No answer within the time; `what` names the request.
  case timeout(what: String)
  /// The connection ended before the answer was whole.
  case disconnected(what: String)
  /// The answer's body is larger than the caller's bound, in octets.
  case tooLarge(what: String, limit: Int)
  /// What came is not HTTP/1.1.
  case invalid(what: String, reason: String)
  /// The task was cancelled.
  case cancelled
  /// What the caller wanted to send could not be read.
  case source(String)
}

/// An error as the daemon describes it (RFC 9457; SOL013 6.3).
public struct ProblemDetails: Error, Sendable, Hashable, Codable {
  public var title: String?
  public var status: Int
  public var detail: String
  public var instance: String?
  /// The system's error that lies behind it.
  public var cause: String?

  public init(
    title: String? = nil, status: Int, detail: String, instance: String? = nil,
    cause: String? = nil
  ) {
    self.title = title
    self.status = status
    self.detail = detail
    self.instance = instance
    self.cause = cause
  }

  /// What an answer with an error status says; a body that is no ProblemDetails is quoted.
  public init(response: HTTPResponse) {
    let isProblem =
      response.headers["Content-Type"]?.hasPrefix("application/problem+json") ?? false
    if isProblem,
      let problem = try? JSONDecoder().decode(Self.self, from: Data(response.body))
    {
      self = problem
      return
    }
    let text = String(decoding: response.body.prefix(512), as: UTF8.self)
    self.init(
      status: response.status,
      detail: text.isEmpty ? "the answer was \(response.status) without an explanation" : text)
  }
}
