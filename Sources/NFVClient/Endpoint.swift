/// Where the daemon listens.
public enum Endpoint: Sendable, Hashable, CustomStringConvertible {
  /// A unix socket, by its path.
  case unixSocket(String)
  /// TCP without TLS; the daemon accepts it on loopback only.
  case tcp(host: String, port: Int)

  /// Where martletd listens unless it is told otherwise.
  public static var standard: Self { .unixSocket("/run/martlet/martletd.sock") }

  /// `http://HOST:PORT` (a trailing slash is allowed, a path is not); nil where it is not that.
  public init?(url: String) {
    guard url.hasPrefix("http://") else { return nil }
    var authority = url.dropFirst(7)
    if authority.hasSuffix("/") { authority.removeLast() }
    guard let colon = authority.lastIndex(of: ":"),
      let port = Int(authority[authority.index(after: colon)...]), (1...65535).contains(port)
    else { return nil }
    var host = authority[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil
    }
    guard !host.isEmpty, !host.contains("/"), !host.contains("@") else { return nil }
    self = .tcp(host: String(host), port: port)
  }

  /// What the `Host` header says (RFC 9110 7.2).
  var authority: String {
    switch self {
    case .unixSocket: "localhost"
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
  }

  public var description: String {
    switch self {
    case .unixSocket(let path): path
    case .tcp: "http://\(authority)"
    }
  }
}
