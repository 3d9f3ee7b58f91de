public import Packets

/// Which external port stands for which internal endpoint (RFC 4787): mapping and filtering are
/// independent of the other end (REQ-1, REQ-8), no port is used for two endpoints at a time
/// (REQ-3). Addresses are mapped IPv4; for ICMP echoes the identifier is the port.
///
/// A mapping lives as long as it has flows. Who needs more filtering than that puts a firewall
/// before it.
public struct PortTranslation: ~Copyable {
  public struct Endpoint: Sendable, Hashable {
    public var address: IPv6Address
    public var port: UInt16

    @inlinable
    public init(_ address: IPv6Address, _ port: UInt16) {
      self.address = address
      self.port = port
    }
  }

  /// In seconds. The defaults are what the RFCs ask for.
  public struct Times: Sendable {
    /// Of a TCP connection that is being made or ended (RFC 5382, REQ-5).
    public var transitory: UInt32 = 240
    /// RFC 5382, REQ-5: 2 hours 4 minutes.
    public var established: UInt32 = 7440
    /// UDP, RFC 4787, REQ-5; ICMP echoes have the same (RFC 5508, REQ-2: 60 s or more).
    public var datagrams: UInt32 = 300

    public init() {}
  }

  private struct Mapping {
    var flows: Int32
  }

  private struct Flow {
    var mapping: Int
    var life = FlowLife()
  }

  /// Internal endpoint to nowhere; answers from nowhere to the external endpoint.
  private var mappings: FlowTable<Mapping>
  /// Internal endpoint to remote one; answers from that to the external endpoint.
  private var flows: FlowTable<Flow>
  private let external: IPv6Address
  private let secret: Secret
  /// How many ports were chosen.
  private var chosen: UInt64 = 0

  /// - Parameters:
  ///   - external: the address that stands for all internal ones.
  ///   - capacity: how many flows there can be.
  ///   - secret: ports are chosen by it.
  public init(external: IPv4Address, capacity: Int, secret: Secret, times: Times = Times()) {
    self.external = IPv6Address(external)
    self.secret = secret
    let limits = (
      transitory: times.transitory, established: times.established, datagrams: times.datagrams
    )
    mappings = FlowTable(capacity: capacity, secret: secret, idleLimits: limits)
    flows = FlowTable(capacity: capacity, secret: secret, idleLimits: limits)
  }

  public var flowCount: Int { flows.count }
  public var mappingCount: Int { mappings.count }

  /// The external endpoint of a packet from inside; a new flow gets one.
  /// - Returns: nil where no port or no place for a flow is left.
  public mutating func outbound(
    _ key: FlowKey, _ segment: TCPHeader?, at now: UInt32
  ) -> Endpoint? {
    if let (index, isAnswer) = flows.find(key) {
      // A key that is answered is one from outside: the same addresses cannot be on both sides.
      guard !isAnswer else { return nil }
      let endpoint = Self.externalEndpoint(flows.answersKey(of: index))
      note(index, segment, isAnswer: false, at: now)
      return endpoint
    }
    guard let mapping = mapping(of: key, at: now) else { return nil }
    let endpoint = Self.externalEndpoint(mappings.answersKey(of: mapping))
    guard add(key, endpoint, mapping, at: now) else { return nil }
    return endpoint
  }

  /// The internal endpoint of a packet from outside to the external address.
  /// - Returns: nil where nothing inside has that port.
  public mutating func inbound(
    _ key: FlowKey, _ segment: TCPHeader?, at now: UInt32
  ) -> Endpoint? {
    if let (index, isAnswer) = flows.find(key), isAnswer {
      let inside = flows.key(of: index)
      note(index, segment, isAnswer: true, at: now)
      return Endpoint(inside.source, inside.sourcePort)
    }
    guard key.destination == external,
      let (mapping, isAnswer) = mappings.find(Self.externalKey(key)), isAnswer
    else { return nil }
    let inside = mappings.key(of: mapping)
    let flow = FlowKey(
      source: inside.source, destination: key.source, sourcePort: inside.sourcePort,
      destinationPort: key.protocol == .icmp ? 0 : key.sourcePort, protocol: key.protocol)
    let port = key.protocol == .icmp ? key.sourcePort : key.destinationPort
    guard add(flow, Endpoint(external, port), mapping, at: now) else { return nil }
    return Endpoint(inside.source, inside.sourcePort)
  }

  /// The internal endpoint that an external port stands for, without a new flow: for ICMP errors
  /// about what was sent from there (RFC 5508, REQ-4).
  public func inside(of port: UInt16, _ protocol: IPProtocol) -> Endpoint? {
    let key = Self.mappingKey(`protocol`, external, port)
    guard let (mapping, isAnswer) = mappings.find(key), isAnswer else { return nil }
    let inside = mappings.key(of: mapping)
    return Endpoint(inside.source, inside.sourcePort)
  }

  /// The external endpoint of an internal one, to which a packet with this key was sent; without a
  /// new flow or mapping.
  public func outside(of key: FlowKey) -> Endpoint? {
    let isEcho = key.protocol == .icmp
    let inside = FlowKey(
      source: key.destination, destination: .unspecified,
      sourcePort: isEcho ? key.sourcePort : key.destinationPort, destinationPort: 0,
      protocol: key.protocol)
    guard let (mapping, isAnswer) = mappings.find(inside), !isAnswer else { return nil }
    return Self.externalEndpoint(mappings.answersKey(of: mapping))
  }

  /// Forgets flows that were idle for too long, and mappings without flows.
  public mutating func expire(at now: UInt32, limit: Int = 64) {
    // Collected first: a table may not be changed by what it tells.
    var mappingsLeft: [Int] = []
    flows.expire(at: now, limit: limit) { mappingsLeft.append($2.mapping) }
    for mapping in mappingsLeft { release(mapping) }
  }

  // MARK: Mappings

  private mutating func release(_ mapping: Int) {
    mappings[mapping].flows -= 1
    if mappings[mapping].flows == 0 { mappings.remove(mapping) }
  }

  private mutating func add(
    _ key: FlowKey, _ endpoint: Endpoint, _ mapping: Int, at now: UInt32
  ) -> Bool {
    let answers = FlowKey(
      source: key.destination, destination: endpoint.address,
      sourcePort: key.protocol == .icmp ? endpoint.port : key.destinationPort,
      destinationPort: key.protocol == .icmp ? 0 : endpoint.port, protocol: key.protocol)
    var madeRoom: Int?
    let flow = Flow(mapping: mapping)
    mappings[mapping].flows += 1
    let added = flows.add(
      key, answers: answers, flow, key.protocol == .tcp ? .transitory : .datagrams, at: now
    ) { madeRoom = $2.mapping }
    if let madeRoom { release(madeRoom) }
    if added == nil { release(mapping) }
    return added != nil
  }

  /// The mapping of a packet's source; a new one has no flow yet.
  private mutating func mapping(of key: FlowKey, at now: UInt32) -> Int? {
    let inside = FlowKey(
      source: key.source, destination: .unspecified, sourcePort: key.sourcePort,
      destinationPort: 0, protocol: key.protocol)
    if let (index, isAnswer) = mappings.find(inside), !isAnswer { return index }
    guard let port = freePort(like: key.sourcePort, key.protocol) else { return nil }
    // Mappings go with their flows, never by themselves.
    return mappings.add(
      inside, answers: Self.mappingKey(key.protocol, external, port), Mapping(flows: 0),
      .established, at: now
    ) { _, _, _ in }
  }

  /// The port itself where it is free, else one of its range and parity (RFC 4787, REQ-3, REQ-4).
  private mutating func freePort(like port: UInt16, _ protocol: IPProtocol) -> UInt16? {
    func isFree(_ port: UInt16) -> Bool {
      mappings.find(Self.mappingKey(`protocol`, external, port)) == nil
    }
    if port != 0, isFree(port) { return port }
    let range: (first: UInt32, pairs: UInt32) = port < 1024 ? (0, 512) : (1024, 32256)
    chosen &+= 1
    let start = UInt32(truncatingIfNeeded: secret.hash(chosen, 0) >> 32) % range.pairs
    for step in 0..<min(range.pairs, Self.portTries) {
      let pair = (start + step) % range.pairs
      let candidate = UInt16(range.first + pair * 2 + UInt32(port & 1))
      if candidate != 0, isFree(candidate) { return candidate }
    }
    return nil
  }

  /// How many ports are looked at before a flow is refused, so that one packet's cost is bounded.
  private static var portTries: UInt32 { 1024 }

  private static func mappingKey(
    _ protocol: IPProtocol, _ external: IPv6Address, _ port: UInt16
  ) -> FlowKey {
    FlowKey(
      source: .unspecified, destination: external, sourcePort: 0, destinationPort: port,
      protocol: `protocol`)
  }

  private static func externalKey(_ key: FlowKey) -> FlowKey {
    mappingKey(
      key.protocol, key.destination,
      key.protocol == .icmp ? key.sourcePort : key.destinationPort)
  }

  private static func externalEndpoint(_ answers: FlowKey) -> Endpoint {
    let isFlowOfEchoes = answers.protocol == .icmp && answers.sourcePort != 0
    return Endpoint(
      answers.destination, isFlowOfEchoes ? answers.sourcePort : answers.destinationPort)
  }

  // MARK: Flows

  private mutating func note(
    _ index: Int, _ segment: TCPHeader?, isAnswer: Bool, at now: UInt32
  ) {
    flows.use(index, flows[index].life.after(segment, isAnswer: isAnswer), at: now)
  }
}
