import Packets

/// How far a flow is, as its packets tell.
struct FlowLife: Sendable {
  /// Who has sent anything, who has sent a FIN: who began, who answers.
  private var hasSent = (false, false)
  private var hasEnded = (false, false)

  /// Takes note of a packet.
  /// - Parameter segment: nil where the protocol has no connections.
  /// - Returns: how long the flow may be idle from now on.
  mutating func after(_ segment: TCPHeader?, isAnswer: Bool) -> FlowLifetime {
    let flags = segment?.flags
    if flags?.contains(.rst) == true { return .transitory }
    if isAnswer { hasSent.1 = true } else { hasSent.0 = true }
    // One side alone can say anything.
    let isTwoSided = hasSent.0 && hasSent.1
    guard let flags else { return isTwoSided ? .datagrams : .unanswered }
    // A new connection over the endpoints of an old one.
    if flags.contains(.syn) && !flags.contains(.ack) { hasEnded = (false, false) }
    if flags.contains(.fin) {
      if isAnswer { hasEnded.1 = true } else { hasEnded.0 = true }
    }
    let isOpen = isTwoSided && !(hasEnded.0 && hasEnded.1) && !flags.contains(.syn)
    return isOpen ? .established : .transitory
  }
}
