public import Packets

/// Translates what goes from its inside ports to the outside one behind that one's address
/// (RFC 3022; RFC 4787, RFC 5382, RFC 5508 as ``PortTranslation`` says).
///
/// Hairpinning works (RFC 4787, REQ-9), errors about translated packets find their way (RFC 5508,
/// REQ-4 and REQ-5). Later fragments are dropped; RFC 4787, REQ-14 asks for more.
public struct NAT44: NetworkFunction, ~Copyable {
  public struct Counters: Sendable {
    public var outbound: UInt64 = 0
    public var inbound: UInt64 = 0
    public var hairpinned: UInt64 = 0
    /// From outside, to nothing that is mapped.
    public var unmapped: UInt64 = 0
    /// No port, or no place for the flow, was left.
    public var full: UInt64 = 0
    public var fragments: UInt64 = 0
  }

  /// How many flows there are place for.
  public static var capacity: Int { 4096 }

  /// The place of the outside port.
  public static var outside: Int { 1 }

  public private(set) var counters = Counters()
  private var stack = LocalStack()
  private var forwarding = Forwarding()
  private var external: IPv6Address = .unspecified
  private var translation: PortTranslation
  private let capacity: Int

  public init() { self.init(capacity: Self.capacity) }

  /// - Parameters:
  ///   - capacity: how many flows there are place for.
  public init(capacity: Int) {
    self.capacity = capacity
    translation = PortTranslation(external: .unspecified, capacity: 0, secret: Secret(0, 0))
  }

  public var flowCount: Int { translation.flowCount }

  public mutating func configure<S: Surroundings & ~Copyable>(
    _ configuration: borrowing Configuration, in surroundings: inout S
  ) throws(ConfigurationError) {
    guard configuration.ports.count > Self.outside else {
      throw ConfigurationError("a NAT needs an inside and an outside port")
    }
    var address: IPv4Address?
    for own in configuration.ports[Self.outside].addresses where address == nil {
      address = own.address.ipv4
    }
    guard let address else {
      throw ConfigurationError("the outside port of a NAT needs an IPv4 address")
    }
    stack.ports = configuration.ports
    forwarding.configure(configuration.ports)
    // Flows live on unless the address that they are known by is gone.
    guard IPv6Address(address) != external else { return }
    external = IPv6Address(address)
    translation = PortTranslation(
      external: address, capacity: capacity, secret: Secret(from: &surroundings))
  }

  @_lifetime(frame: copy frame)
  public mutating func process<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout S
  ) -> Verdict {
    forwarding.learn(from: frame, on: port, in: &surroundings)
    switch stack.receive(&frame, from: port) {
    case .done(let verdict): return verdict
    case .local(let ethernet, let datagram):
      guard port == Self.outside, datagram.destination == external else {
        return forwarding.tell(
          .portUnreachable, &frame, ethernet, datagram, on: port, in: &surroundings)
      }
      return takeIn(&frame, ethernet, datagram, from: port, in: &surroundings)
    case .transit(let ethernet, let datagram):
      guard port != Self.outside, datagram.version == .ipv4 else {
        counters.unmapped &+= 1
        return .drop
      }
      let isHairpin = datagram.destination == external
      guard isHairpin || forwarding.port(to: datagram.destination) == Self.outside else {
        return forwarding.forward(&frame, ethernet, datagram, from: port, in: &surroundings)
      }
      return letOut(
        &frame, ethernet, datagram, isHairpin: isHairpin, from: port, in: &surroundings)
    }
  }

  /// From inside to outside, or back inside by the external address.
  @_lifetime(frame: copy frame)
  private mutating func letOut<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, isHairpin: Bool,
    from port: Int, in surroundings: inout S
  ) -> Verdict {
    let present = datagram.present(in: frame)
    switch FlowPacket(in: frame, datagram) {
    case .flow(let key, let segment):
      var inner: PortTranslation.Endpoint?
      if isHairpin {
        // Whom it reaches is known before anything is made for it.
        guard
          let found = translation.inside(
            of: key.protocol == .icmp ? key.sourcePort : key.destinationPort, key.protocol)
        else {
          counters.unmapped &+= 1
          return .drop
        }
        inner = found
      }
      let destination = inner?.address ?? datagram.destination
      let hop: Forwarding.Hop
      switch forwarding.admit(
        &frame, ethernet, datagram, to: destination, from: port, in: &surroundings)
      {
      case .refused(let verdict): return verdict
      case .pass(let found): hop = found
      }
      guard let outer = translation.outbound(key, segment, at: surroundings.seconds) else {
        counters.full &+= 1
        return .drop
      }
      frame.rewrite(
        .source, to: outer, protocol: key.protocol, at: datagram.offset,
        transport: datagram.transport, present: present)
      if let inner {
        frame.rewrite(
          .destination, to: inner, protocol: key.protocol, at: datagram.offset,
          transport: datagram.transport, present: present)
        counters.hairpinned &+= 1
      } else {
        counters.outbound &+= 1
      }
      return forwarding.send(&frame, datagram, to: destination, by: hop, in: &surroundings)
    case .error(let key):
      // About what came in: its destination is known outside by another endpoint.
      guard !isHairpin, let outer = translation.outside(of: key) else { break }
      return translateError(
        &frame, ethernet, datagram, key, .destination, outer, outerSide: .source,
        to: datagram.destination, from: port, in: &surroundings)
    case .fragment:
      counters.fragments &+= 1
      return .drop
    case .other: break
    }
    counters.unmapped &+= 1
    return .drop
  }

  /// From outside to the external address.
  @_lifetime(frame: copy frame)
  private mutating func takeIn<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, from port: Int,
    in surroundings: inout S
  ) -> Verdict {
    switch FlowPacket(in: frame, datagram) {
    case .flow(let key, let segment):
      let number = key.protocol == .icmp ? key.sourcePort : key.destinationPort
      guard let inner = translation.inside(of: number, key.protocol) else { break }
      switch forwarding.admit(
        &frame, ethernet, datagram, to: inner.address, from: port, in: &surroundings)
      {
      case .refused(let verdict): return verdict
      case .pass(let hop):
        guard
          translation.inbound(key, segment, at: surroundings.seconds)
            != nil
        else {
          counters.full &+= 1
          return .drop
        }
        frame.rewrite(
          .destination, to: inner, protocol: key.protocol, at: datagram.offset,
          transport: datagram.transport, present: datagram.present(in: frame))
        counters.inbound &+= 1
        return forwarding.send(&frame, datagram, to: inner.address, by: hop, in: &surroundings)
      }
    case .error(let key):
      guard key.source == external, let inner = translation.inside(of: key.sourcePort, key.protocol)
      else { break }
      return translateError(
        &frame, ethernet, datagram, key, .source, inner, outerSide: .destination,
        to: inner.address, from: port, in: &surroundings)
    case .fragment:
      counters.fragments &+= 1
      return .drop
    case .other: break
    }
    counters.unmapped &+= 1
    // RFC 4787 does not ask for silence, and a scanner learns nothing by it.
    return .drop
  }

  /// An ICMP error: the packet that it quotes is translated back, and one address of its own.
  @_lifetime(frame: copy frame)
  private mutating func translateError<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, _ key: FlowKey,
    _ side: Frame.Side, _ endpoint: PortTranslation.Endpoint, outerSide: Frame.Side,
    to destination: IPv6Address, from port: Int, in surroundings: inout S
  ) -> Verdict {
    let hop: Forwarding.Hop
    switch forwarding.admit(
      &frame, ethernet, datagram, to: destination, from: port, in: &surroundings)
    {
    case .refused(let verdict): return verdict
    case .pass(let found): hop = found
    }
    let length = min(datagram.transportLength, frame.head - datagram.transport)
    // The whole message is summed anew: its quote changes in up to four places.
    let isWhole = length == datagram.transportLength
    guard isWhole, datagram.isTransportRight(in: frame) else {
      counters.unmapped &+= 1
      return .drop
    }
    let quoted = datagram.transport + ICMPHeader.length
    let transport = quoted + Int(frame.u8(at: quoted) & 15) * 4
    frame.rewrite(
      side, to: endpoint, protocol: key.protocol, at: quoted, transport: transport,
      present: datagram.transport + length - transport, isQuoted: true)
    frame.set(UInt16(0), at: datagram.transport + ICMPHeader.checksumOffset)
    frame.set(
      frame.sum(from: datagram.transport, count: length).value,
      at: datagram.transport + ICMPHeader.checksumOffset)
    frame.offload = Offload()
    // Its own other end: only the address, it has no port.
    let own = outerSide == .source ? external : endpoint.address
    frame.rewrite(
      outerSide, to: .init(own, 0), protocol: IPProtocol(0xff), at: datagram.offset,
      transport: datagram.transport, present: length)
    if outerSide == .source { counters.outbound &+= 1 } else { counters.inbound &+= 1 }
    return forwarding.send(&frame, datagram, to: destination, by: hop, in: &surroundings)
  }

  public mutating func advance<S: Surroundings & ~Copyable>(
    in surroundings: inout S
  ) -> Instant {
    translation.expire(at: surroundings.seconds)
    return min(forwarding.advance(at: surroundings.now), surroundings.now + 1_000_000_000)
  }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("received", stack.counters.received)
    body("outbound", counters.outbound)
    body("inbound", counters.inbound)
    body("hairpinned", counters.hairpinned)
    body("unmapped", counters.unmapped)
    body("full", counters.full)
    body("fragments", counters.fragments)
    body("flows", UInt64(translation.flowCount))
    forwarding.readCounters(body)
  }
}
