public import Packets

/// Which flow a packet belongs to, in the packet's direction.
public struct FlowKey: Sendable, Hashable {
  public var source: IPv6Address
  public var destination: IPv6Address
  /// Both ports and the protocol: keys are copied, compared and hashed by words.
  private var word: UInt64

  public init(
    source: IPv6Address, destination: IPv6Address, sourcePort: UInt16, destinationPort: UInt16,
    protocol: IPProtocol
  ) {
    self.source = source
    self.destination = destination
    word =
      UInt64(sourcePort) << 32 | UInt64(destinationPort) << 16 | UInt64(`protocol`.rawValue)
  }

  /// For ICMP echoes the identifier.
  public var sourcePort: UInt16 {
    get { UInt16(truncatingIfNeeded: word >> 32) }
    set { word = word & ~(0xffff << 32) | UInt64(newValue) << 32 }
  }

  /// For ICMP echoes 0.
  public var destinationPort: UInt16 {
    get { UInt16(truncatingIfNeeded: word >> 16) }
    set { word = word & ~(0xffff << 16) | UInt64(newValue) << 16 }
  }

  public var `protocol`: IPProtocol { IPProtocol(UInt8(truncatingIfNeeded: word)) }

  /// Changes who sends.
  mutating func setSource(_ endpoint: Endpoint) {
    source = endpoint.address
    sourcePort = endpoint.port
  }

  /// Changes who receives; an echo's identifier is the same for both.
  mutating func setDestination(_ endpoint: Endpoint) {
    destination = endpoint.address
    if `protocol` == .icmp || `protocol` == .icmpv6 {
      sourcePort = endpoint.port
    } else {
      destinationPort = endpoint.port
    }
  }

  /// The key of the answers.
  public var reversed: FlowKey {
    // An echo's answer bears its request's identifier.
    let isEcho = `protocol` == .icmp || `protocol` == .icmpv6
    return FlowKey(
      source: destination, destination: source,
      sourcePort: isEcho ? sourcePort : destinationPort,
      destinationPort: isEcho ? destinationPort : sourcePort, protocol: `protocol`)
  }

  /// Where a key stands among others; nobody can choose keys that meet.
  @inline(never)
  public func hash(_ secret: Secret) -> UInt64 {
    var hash = SipHash(secret)
    if let source = source.ipv4, let destination = destination.ipv4 {
      hash.add(UInt64(source.bits) << 32 | UInt64(destination.bits))
      hash.add(word)
      return hash.finish(length: 16)
    }
    hash.add(source.high)
    hash.add(source.low)
    hash.add(destination.high)
    hash.add(destination.low)
    hash.add(word)
    return hash.finish(length: 40)
  }
}

/// An address and a port of it; for ICMP echoes the port is the identifier.
public struct Endpoint: Sendable, Hashable {
  public var address: IPv6Address
  public var port: UInt16

  @inlinable
  public init(_ address: IPv6Address, _ port: UInt16) {
    self.address = address
    self.port = port
  }
}
