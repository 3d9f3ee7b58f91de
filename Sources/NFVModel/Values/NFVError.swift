/// What went wrong in the domain, in words for the person who asked: what, where, and what to do.
///
/// One function of the API turns it into a ProblemDetails (SOL013 6.3).
public struct NFVError: Error, Sendable, Hashable, Codable, CustomStringConvertible {
  /// What kind of failure it is; decides the HTTP status and the command line's exit code.
  public enum Code: String, Sendable, Hashable, Codable {
    /// The request is not well formed (400).
    case malformed
    /// Nothing of that name or identifier (404).
    case notFound
    /// The thing's state forbids it (409).
    case conflict
    /// It is not, or not any more, what the caller took it for (412).
    case preconditionFailed
    /// Well formed, but it cannot be done as asked (422).
    case unprocessable
    /// Too large for a bound of ours (413).
    case tooLarge
    /// The host has no more of something: disk, addresses, memory (507).
    case exhausted
    /// The caller may not (401 without, 403 with a credential).
    case unauthorized
    case forbidden
    /// A part that this needs is missing or does not answer (503).
    case unavailable
    /// More waits than a bound of ours lets; a moment later it may be taken (503).
    case overloaded
    /// It took longer than its limit (504).
    case timeout
    /// Something failed that the caller could not have caused (500).
    case failed
  }

  public var code: Code
  public var message: String
  /// What lies behind it, such as a system call's error or a program's last words; never empty.
  public var cause: String?

  public init(_ code: Code, _ message: String, cause: String? = nil) {
    self.code = code
    self.message = message
    // A program may have said nothing.
    self.cause = cause?.isEmpty == true ? nil : cause
  }

  public init(_ code: Code, _ message: String, cause: any Error) {
    self.init(code, message, cause: String(describing: cause))
  }

  public var description: String { cause.map { "\(message): \($0)" } ?? message }
}
