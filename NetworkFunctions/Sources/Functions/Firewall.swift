public import Packets

/// Forwards what its rules allow, and what belongs to flows that they allowed.
///
/// A rule decides on the first packet of a flow; the flow's other packets, its answers and ICMP
/// errors about them then pass. A TCP flow begins by a SYN. Later fragments are dropped: what
/// cannot be judged does not pass.
public struct Firewall: NetworkFunction, ~Copyable {
  public struct Counters: Sendable {
    public var accepted: UInt64 = 0
    public var dropped: UInt64 = 0
    public var rejected: UInt64 = 0
    /// Neither of a flow nor the beginning of one.
    public var invalid: UInt64 = 0
    public var fragments: UInt64 = 0
    /// Allowed, but there was no place for the flow.
    public var full: UInt64 = 0
  }

  /// In seconds, as nftables' connection tracking has them by default.
  private static var idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32) {
    (120, 432_000, 120)
  }

  /// How many flows there are place for.
  public static var capacity: Int { 4096 }

  public var rules = FirewallRules()
  public private(set) var counters = Counters()
  private var stack = LocalStack()
  private var forwarding = Forwarding()
  private let capacity: Int
  private var flows: FlowTable<FlowLife>

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
    stack.ports = configuration.ports
    forwarding.configure(configuration.ports)
    if flows.capacity < capacity {
      flows = FlowTable(
        capacity: capacity, secret: Secret(from: &surroundings), idleLimits: Self.idleLimits)
    }
  }

  @_lifetime(frame: copy frame)
  public mutating func process<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout S
  ) -> Verdict {
    forwarding.learn(from: frame, on: port, in: &surroundings)
    let ethernet: EthernetHeader
    let datagram: Datagram
    switch stack.receive(&frame, from: port) {
    case .done(let verdict): return verdict
    case .local:
      counters.dropped &+= 1
      return .drop
    case .transit(let header, let found):
      ethernet = header
      datagram = found
    }
    switch FlowPacket(in: frame, datagram) {
    case .flow(let key, let segment):
      if let (index, isAnswer) = flows.find(key) {
        flows.use(
          index, flows[index].after(segment, isAnswer: isAnswer), at: surroundings.seconds)
        return pass(&frame, ethernet, datagram, from: port, in: &surroundings)
      }
      return begin(&frame, ethernet, datagram, key, segment, from: port, in: &surroundings)
    case .error(let key):
      // It goes against the direction of what it is about.
      guard flows.find(key) != nil else { break }
      return pass(&frame, ethernet, datagram, from: port, in: &surroundings)
    case .fragment:
      counters.fragments &+= 1
      return .drop
    case .other: break
    }
    counters.invalid &+= 1
    return .drop
  }

  /// Decides on the first packet of a flow.
  @_lifetime(frame: copy frame)
  private mutating func begin<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, _ key: FlowKey,
    _ segment: TCPHeader?, from port: Int, in surroundings: inout S
  ) -> Verdict {
    guard Self.mayBegin(frame, datagram, segment) else {
      counters.invalid &+= 1
      return .drop
    }
    switch rules.decide(key, from: UInt8(truncatingIfNeeded: port)).action {
    case .accept:
      let added = flows.add(
        key, answers: key.reversed, FlowLife(), segment == nil ? .datagrams : .transitory,
        at: surroundings.seconds
      ) { _, _, _ in }
      guard added != nil else {
        counters.full &+= 1
        return .drop
      }
      return pass(&frame, ethernet, datagram, from: port, in: &surroundings)
    case .drop:
      counters.dropped &+= 1
      return .drop
    case .reject:
      counters.rejected &+= 1
      if let segment {
        let mac = stack.ports[port].mac
        return frame.becomeReset(of: segment, in: datagram, ethernet, mac: mac)
          ? .send(port: port) : .drop
      }
      return forwarding.tell(
        .prohibited, &frame, ethernet, datagram, on: port, in: &surroundings)
    }
  }

  /// TCP begins by a SYN alone, an echo by its request.
  private static func mayBegin(
    _ frame: borrowing Frame, _ datagram: Datagram, _ segment: TCPHeader?
  ) -> Bool {
    if let segment {
      return segment.flags.intersection([.syn, .ack, .rst, .fin]) == .syn
    }
    switch datagram.protocol {
    case .icmp: return frame.u8(at: datagram.transport) == ICMPHeader.V4.echoRequest
    case .icmpv6: return frame.u8(at: datagram.transport) == ICMPHeader.V6.echoRequest
    default: return true
    }
  }

  @_lifetime(frame: copy frame)
  private mutating func pass<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, from port: Int,
    in surroundings: inout S
  ) -> Verdict {
    counters.accepted &+= 1
    return forwarding.forward(&frame, ethernet, datagram, from: port, in: &surroundings)
  }

  public mutating func advance<S: Surroundings & ~Copyable>(
    in surroundings: inout S
  ) -> Instant {
    flows.expire(at: surroundings.seconds) { _, _, _ in }
    return min(forwarding.advance(at: surroundings.now), surroundings.now + 1_000_000_000)
  }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("received", stack.counters.received)
    body("accepted", counters.accepted)
    body("dropped", counters.dropped)
    body("rejected", counters.rejected)
    body("invalid", counters.invalid)
    body("fragments", counters.fragments)
    body("full", counters.full)
    body("flows", UInt64(flows.count))
    forwarding.readCounters(body)
  }
}

extension Surroundings where Self: ~Copyable {
  /// The clock's seconds.
  var seconds: UInt32 { UInt32(truncatingIfNeeded: now / 1_000_000_000) }
}
