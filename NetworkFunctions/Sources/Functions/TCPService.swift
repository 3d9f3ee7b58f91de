/// What a TCP port does.
public enum TCPService: Sendable, Hashable {
  /// RFC 862.
  case echo
  /// RFC 863.
  case discard
  /// RFC 864, without its lines: letters in their order.
  case generate
  /// The server of iperf 2: `discard` or `generate`, as the client's first segment asks.
  case measure

  init?(port: UInt16) {
    switch port {
    case 7: self = .echo
    case 9: self = .discard
    case 19: self = .generate
    case IperfServer.port: self = .measure
    default: return nil
    }
  }
}
