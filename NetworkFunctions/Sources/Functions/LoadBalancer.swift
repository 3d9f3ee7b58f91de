public import Packets

/// Spreads flows to its address over backends, layer 4, IPv4.
///
/// Clients are before port 0, whose first address is the one that they know; backends are behind
/// the others, and their way back to clients leads through here. A flow stays with its backend; a
/// new one goes where Maglev hashing says, so that two balancers with the same backends agree. A
/// backend that drains gets no new flows and keeps its old ones.
public struct LoadBalancer: NetworkFunction, ~Copyable {
  public struct Backend: Sendable, Hashable {
    public var address: IPv4Address
    public var isDraining: Bool

    public init(_ address: IPv4Address, isDraining: Bool = false) {
      self.address = address
      self.isDraining = isDraining
    }
  }

  public struct Counters: Sendable {
    public var inbound: UInt64 = 0
    public var outbound: UInt64 = 0
    /// Neither of a flow nor the beginning of one.
    public var invalid: UInt64 = 0
    /// No backend serves, or no place for the flow was left.
    public var refused: UInt64 = 0
    public var fragments: UInt64 = 0
  }

  private struct Flow {
    var backend: IPv4Address
    var life = FlowLife()
  }

  /// How many flows there are place for.
  public static var capacity: Int { 4096 }
  /// In seconds.
  private static var idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32) {
    (120, 7440, 120)
  }

  public private(set) var counters = Counters()
  private var stack = LocalStack()
  private var forwarding = Forwarding()
  private var service: IPv6Address = .unspecified
  private var backends: [Backend] = []
  private var table = MaglevTable(names: [], isServing: [])
  private let capacity: Int
  private var flows: FlowTable<Flow>

  public init() { self.init(capacity: Self.capacity) }

  /// - Parameters:
  ///   - capacity: how many flows there are place for.
  public init(capacity: Int) {
    self.capacity = capacity
    flows = FlowTable(capacity: 0, secret: Secret(0, 0), idleLimits: Self.idleLimits)
  }

  public var flowCount: Int { flows.count }

  public mutating func configure<S: Surroundings & ~Copyable>(
    _ configuration: borrowing Configuration, in surroundings: inout S
  ) throws(ConfigurationError) {
    guard configuration.ports.count > 1 else {
      throw ConfigurationError("a load balancer needs a port to clients and one to backends")
    }
    var address: IPv4Address?
    for own in configuration.ports[0].addresses where address == nil {
      address = own.address.ipv4
    }
    guard let address else {
      throw ConfigurationError("the first port of a load balancer needs an IPv4 address")
    }
    service = IPv6Address(address)
    stack.ports = configuration.ports
    forwarding.configure(configuration.ports)
    if flows.capacity < capacity {
      flows = FlowTable(
        capacity: capacity, secret: Secret(from: &surroundings), idleLimits: Self.idleLimits)
    }
  }

  /// Takes over who serves; flows of a backend that is gone end with their next packet.
  /// - Parameter backends: 255 at most.
  public mutating func setBackends(_ backends: [Backend]) throws(ConfigurationError) {
    guard backends.count <= 255 else {
      throw ConfigurationError("a load balancer has 255 backends at most")
    }
    self.backends = backends
    table = MaglevTable(
      names: backends.map { UInt64($0.address.bits) },
      isServing: backends.map { !$0.isDraining })
  }

  @_lifetime(frame: copy frame)
  public mutating func process<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout S
  ) -> Verdict {
    forwarding.learn(from: frame, on: port, in: &surroundings)
    switch stack.receive(&frame, from: port) {
    case .done(let verdict): return verdict
    case .local(let ethernet, let datagram):
      guard port == 0, datagram.destination == service else {
        return forwarding.tell(
          .portUnreachable, &frame, ethernet, datagram, on: port, in: &surroundings)
      }
      return takeIn(&frame, ethernet, datagram, from: port, in: &surroundings)
    case .transit(let ethernet, let datagram):
      guard port != 0 else {
        counters.invalid &+= 1
        return .drop
      }
      return letOut(&frame, ethernet, datagram, from: port, in: &surroundings)
    }
  }

  /// From a client to a backend.
  @_lifetime(frame: copy frame)
  private mutating func takeIn<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, from port: Int,
    in surroundings: inout S
  ) -> Verdict {
    guard case .flow(let key, let segment) = FlowPacket(in: frame, datagram),
      key.protocol != .icmp
    else {
      if datagram.isLaterFragment { counters.fragments &+= 1 } else { counters.invalid &+= 1 }
      return .drop
    }
    let now = surroundings.seconds
    var known = flows.find(key)?.index
    if let index = known, !isKnown(flows[index].backend) {
      flows.remove(index)
      known = nil
    }
    let backend: IPv4Address
    if let known {
      backend = flows[known].backend
    } else {
      if let segment, segment.flags.intersection([.syn, .ack, .rst, .fin]) != .syn {
        // Its flow is not known any more: who sent it is to begin anew.
        counters.invalid &+= 1
        let mac = stack.ports[port].mac
        return frame.becomeReset(of: segment, in: datagram, ethernet, mac: mac)
          ? .send(port: port) : .drop
      }
      // Not by the table's secret: two balancers are to agree.
      guard let chosen = table.backend(for: key.hash(Secret(0, 0))) else {
        counters.refused &+= 1
        return forwarding.tell(
          .portUnreachable, &frame, ethernet, datagram, on: port, in: &surroundings)
      }
      backend = backends[chosen].address
    }
    let destination = IPv6Address(backend)
    switch forwarding.admit(
      &frame, ethernet, datagram, to: destination, from: port, in: &surroundings)
    {
    case .refused(let verdict): return verdict
    case .pass(let hop):
      if let known {
        note(known, isAnswer: false, segment, at: now)
      } else if !add(key, backend, segment, at: now) {
        counters.refused &+= 1
        return .drop
      }
      frame.rewrite(
        .destination, to: .init(destination, key.destinationPort), protocol: key.protocol,
        at: datagram.offset, transport: datagram.transport, present: datagram.present(in: frame))
      counters.inbound &+= 1
      return forwarding.send(&frame, datagram, to: destination, by: hop, in: &surroundings)
    }
  }

  /// From a backend to a client; what belongs to no flow goes on as it is.
  @_lifetime(frame: copy frame)
  private mutating func letOut<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, from port: Int,
    in surroundings: inout S
  ) -> Verdict {
    guard case .flow(let key, let segment) = FlowPacket(in: frame, datagram),
      let (index, isAnswer) = flows.find(key), isAnswer
    else { return forwarding.forward(&frame, ethernet, datagram, from: port, in: &surroundings) }
    switch forwarding.admit(
      &frame, ethernet, datagram, to: datagram.destination, from: port, in: &surroundings)
    {
    case .refused(let verdict): return verdict
    case .pass(let hop):
      note(index, isAnswer: true, segment, at: surroundings.seconds)
      frame.rewrite(
        .source, to: .init(service, key.sourcePort), protocol: key.protocol, at: datagram.offset,
        transport: datagram.transport, present: datagram.present(in: frame))
      counters.outbound &+= 1
      return forwarding.send(
        &frame, datagram, to: datagram.destination, by: hop, in: &surroundings)
    }
  }

  private func isKnown(_ backend: IPv4Address) -> Bool {
    for known in backends where known.address == backend { return true }
    return false
  }

  private mutating func add(
    _ key: FlowKey, _ backend: IPv4Address, _ segment: TCPHeader?, at now: UInt32
  ) -> Bool {
    let answers = FlowKey(
      source: IPv6Address(backend), destination: key.source, sourcePort: key.destinationPort,
      destinationPort: key.sourcePort, protocol: key.protocol)
    return flows.add(
      key, answers: answers, Flow(backend: backend), segment == nil ? .datagrams : .transitory,
      at: now
    ) { _, _, _ in } != nil
  }

  private mutating func note(_ index: Int, isAnswer: Bool, _ segment: TCPHeader?, at now: UInt32) {
    flows.use(index, flows[index].life.after(segment, isAnswer: isAnswer), at: now)
  }

  public mutating func advance<S: Surroundings & ~Copyable>(
    in surroundings: inout S
  ) -> Instant {
    flows.expire(at: surroundings.seconds) { _, _, _ in }
    return min(forwarding.advance(at: surroundings.now), surroundings.now + 1_000_000_000)
  }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("received", stack.counters.received)
    body("inbound", counters.inbound)
    body("outbound", counters.outbound)
    body("invalid", counters.invalid)
    body("refused", counters.refused)
    body("fragments", counters.fragments)
    body("flows", UInt64(flows.count))
    forwarding.readCounters(body)
  }
}
