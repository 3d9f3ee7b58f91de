internal import HTTPTypes
internal import Hummingbird

/// Who may call over a listener.
public enum Access: Sendable {
  /// A unix socket: its mode has decided already.
  case socket
  /// TCP on loopback: whoever has the token.
  case token(String)
  /// TCP on loopback: anyone. For tests.
  case open

  /// Admits a call or throws the reason why not.
  /// - Returns: who asks.
  func admit(_ call: Call, _ context: CallContext) async throws(Problem) -> String {
    switch self {
    case .socket:
      guard let channel = context.channel else { return "unknown" }
      return await PeerCredentials.user(of: channel) ?? "unknown"
    case .token(let token):
      try checkOrigin(call)
      if Self.openPaths.contains(call.uri.path) { return "anonymous" }
      try check(call, token)
      return "token"
    case .open:
      try checkOrigin(call)
      return "anonymous"
    }
  }

  /// Those that a watchdog asks.
  private static let openPaths: Set<String> = ["/livez", "/readyz"]

  /// Keeps a web page in the user's browser away, also one whose name was made to point here
  /// (DNS rebinding): such a request has the page's name as its host, or an origin.
  private func checkOrigin(_ call: Call) throws(Problem) {
    let host = call.head.authority ?? ""
    guard Self.isLoopback(host) else {
      throw Problem(
        .forbidden,
        "the request is for the host \(host); ask for 127.0.0.1, [::1] or localhost")
    }
    guard let origin = call.headers[.origin] else { return }
    let schemes = ["http://", "https://"]
    guard let scheme = schemes.first(where: origin.hasPrefix),
      Self.isLoopback(String(origin.dropFirst(scheme.count)))
    else {
      throw Problem(.forbidden, "a page of \(origin) may not ask here")
    }
  }

  private static func isLoopback(_ authority: String) -> Bool {
    ["127.0.0.1", "localhost", "[::1]"].contains { name in
      guard authority.lowercased().hasPrefix(name) else { return false }
      let rest = authority.dropFirst(name.count)
      return rest.isEmpty || rest.first == ":" && UInt16(rest.dropFirst()) != nil
    }
  }

  private func check(_ call: Call, _ token: String) throws(Problem) {
    let scheme = "bearer "
    guard let given = call.headers[.authorization], given.lowercased().hasPrefix(scheme) else {
      throw Problem(
        .unauthorized, "this needs the header Authorization: Bearer and the daemon's token",
        headers: [.wwwAuthenticate: "Bearer"])
    }
    guard Self.areEqual(given.dropFirst(scheme.count).utf8, token.utf8) else {
      throw Problem(
        .unauthorized, "the token is not the daemon's; it stands in the daemon's token file",
        headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""])
    }
  }

  /// Takes as long for any token of one length, so that the time tells nothing about it.
  static func areEqual(
    _ given: some Collection<UInt8>, _ expected: some Collection<UInt8>
  ) -> Bool {
    guard given.count == expected.count, !expected.isEmpty else { return false }
    return zip(given, expected).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
  }
}
