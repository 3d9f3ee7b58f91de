public import Packets

/// Which flow a packet belongs to, in the packet's direction.
public struct FlowKey: Sendable, Hashable {
  public var source: IPv6Address
  public var destination: IPv6Address
  /// For ICMP echoes the identifier.
  public var sourcePort: UInt16
  /// For ICMP echoes 0.
  public var destinationPort: UInt16
  public var `protocol`: IPProtocol

  @inlinable
  public init(
    source: IPv6Address, destination: IPv6Address, sourcePort: UInt16, destinationPort: UInt16,
    protocol: IPProtocol
  ) {
    self.source = source
    self.destination = destination
    self.sourcePort = sourcePort
    self.destinationPort = destinationPort
    self.protocol = `protocol`
  }

  /// The key of the answers.
  @inlinable
  public var reversed: FlowKey {
    // An echo's answer bears its request's identifier.
    let isEcho = `protocol` == .icmp || `protocol` == .icmpv6
    return FlowKey(
      source: destination, destination: source,
      sourcePort: isEcho ? sourcePort : destinationPort,
      destinationPort: isEcho ? destinationPort : sourcePort, protocol: `protocol`)
  }

  /// Spreads keys; who does not know `secret` cannot make keys that meet in one place.
  @inlinable
  public func hash(_ secret: UInt64) -> UInt64 {
    func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
      let product = a.multipliedFullWidth(by: b)
      return product.high ^ product.low
    }
    let ports =
      UInt64(sourcePort) << 32 | UInt64(destinationPort) << 16 | UInt64(`protocol`.rawValue)
    var hash = mix(source.high ^ secret, source.low ^ 0x9e37_79b9_7f4a_7c15)
    hash = mix(hash ^ destination.high, destination.low ^ 0xd1b5_4a32_d192_ed03)
    return mix(hash ^ ports, secret ^ 0x8cb9_2ba7_2f3d_8dd7)
  }
}
