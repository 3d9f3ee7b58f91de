import Packets

/// How far a flow is, as its packets tell.
struct FlowLife: Sendable {
  private var wasAnswered = false
  /// Who has sent a FIN: who began, who answers.
  private var hasEnded = (false, false)

  /// Takes note of a packet.
  /// - Parameter segment: nil where the protocol has no connections.
  /// - Returns: how long the flow may be idle from now on.
  mutating func after(_ segment: TCPHeader?, isAnswer: Bool) -> FlowLifetime {
    guard let flags = segment?.flags else { return .datagrams }
    if flags.contains(.rst) { return .transitory }
    if isAnswer { wasAnswered = true }
    // A new connection over the endpoints of an old one.
    if flags.contains(.syn) && !flags.contains(.ack) { hasEnded = (false, false) }
    if flags.contains(.fin) {
      if isAnswer { hasEnded.1 = true } else { hasEnded.0 = true }
    }
    let isOpen = wasAnswered && !(hasEnded.0 && hasEnded.1) && !flags.contains(.syn)
    return isOpen ? .established : .transitory
  }
}
