internal import NFVClient

/// Why a command ends other than well.
struct Failure: Error, Sendable, Hashable {
  /// The exit codes, which are promised: scripts use them.
  enum Code: Int32, Sendable {
    /// An operation or the daemon failed.
    case failed = 1
    /// The request cannot be done as asked (400, 413, 415, 422, 501), or a package is wrong.
    case refused = 2
    case notFound = 3
    /// The thing's state forbids it, or a name means more than one thing.
    case conflict = 4
    /// The daemon is not there or does not answer.
    case unreachable = 5
    case timeout = 6
    /// The caller may not.
    case forbidden = 7
  }

  static let documentation = """
    Exit codes: 0 done; 1 an operation or the daemon failed; 2 the request was refused as it is; \
    3 not found; 4 conflict with the present state; 5 daemon not reachable; 6 time is over; \
    7 not allowed; 64 wrong usage. `exec` ends with the command's own code, 128 + N where \
    signal N ended it, 127 and 126 where there is no such command or it cannot be run, and 125 \
    where martlet itself failed.
    """

  var code: Code
  /// What and where.
  var message: String
  /// What to do next.
  var advice: String?

  init(_ code: Code, _ message: String, advice: String? = nil) {
    self.code = code
    self.message = message
    self.advice = advice
  }

  /// For standard error.
  var rendered: String {
    "martlet: \(message)\n" + (advice.map { "  → \($0)\n" } ?? "")
  }

  init(_ error: ClientError) {
    switch error {
    case .unreachable(let endpoint, let reason):
      self.init(
        .unreachable, "no daemon answers at \(endpoint): \(reason)",
        advice: """
          start it with `sudo martletd` (in the source tree: `make serve`), or say where it \
          listens with --socket or MARTLET_SOCKET
          """)
    case .permissionDenied(let endpoint):
      self.init(
        .forbidden, "you may not open \(endpoint)",
        advice: """
          use sudo, or join its group (`sudo usermod -aG martlet $USER`, then log in again); \
          who is in it is as good as root
          """)
    case .problem(let problem): self.init(problem)
    case .timeout(let what):
      self.init(
        .timeout, "the daemon has not answered \(what) in time",
        advice: "see whether it is busy: `martlet events`, and its own log")
    case .disconnected(let what):
      self.init(
        .unreachable, "the daemon closed the connection before it answered \(what)",
        advice: "it may have been restarted: look at the state with `martlet get` and try again")
    case .tooLarge(let what, let limit):
      self.init(.failed, "the answer to \(what) is larger than \(octets(Int64(limit)))")
    case .invalid(let what, let reason):
      self.init(
        .failed, "what answers \(what) does not speak HTTP/1.1: \(reason)",
        advice: "check --socket or --url: another program may listen there")
    case .cancelled: self.init(.failed, "interrupted")
    case .source(let reason): self.init(.failed, "the file could not be sent: \(reason)")
    }
  }

  init(_ problem: ProblemDetails) {
    let code: Code =
      switch problem.status {
      case 400, 406, 413, 415, 422, 501: .refused
      case 401, 403: .forbidden
      case 404: .notFound
      case 409, 412: .conflict
      case 503: .unreachable
      case 504: .timeout
      default: .failed
      }
    let advice: String? =
      switch problem.status {
      case 401: "give the daemon's token: --token-file or MARTLET_TOKEN_FILE"
      case 503: "the daemon may still be starting: try again in a moment"
      default: nil
      }
    let cause = problem.cause.map { " (\($0))" } ?? ""
    self.init(code, (problem.detail + cause).printable, advice: advice)
  }
}
