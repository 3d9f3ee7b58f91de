public import Packets

/// Which external port stands for which internal endpoint (RFC 4787): mapping and filtering are
/// independent of the other end (REQ-1, REQ-8), no port is used for two endpoints at a time
/// (REQ-3). Addresses are mapped IPv4; for ICMP echoes the identifier is the port.
///
/// A mapping lives as long as it has flows. Who needs more filtering than that puts a firewall
/// before it.
public struct PortTranslation: ~Copyable {
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
    var mapping: Int32
    var life = FlowLife()
  }

  /// Internal endpoint to nowhere; answers from nowhere to the external endpoint.
  private var mappings: FlowTable<Mapping>
  /// Internal endpoint to remote one; answers from that to the external endpoint.
  private var flows: FlowTable<Flow>
  /// From which external ports are taken; nil is all of them.
  public var ports: PortRange?
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
    flows = FlowTable(capacity: capacity, secret: secret, idleLimits: limits, countsHosts: true)
  }

  /// How many flows a host may have begun, inside or outside (RFC 6888, REQ-4 and REQ-5: a flow has
  /// one port at most).
  public var hostLimit: Int {
    get { flows.hostLimit }
    set { flows.hostLimit = newValue }
  }

  /// Whether a host may begin another flow.
  public func mayBegin(_ host: IPv6Address) -> Bool { flows.mayBegin(host) }

  /// How much memory ``grow(to:)`` takes, or a new value of this capacity, in octets.
  public func memory(for capacity: Int, isNew: Bool) -> Int {
    guard isNew else { return mappings.memory(for: capacity) + flows.memory(for: capacity) }
    return FlowTable<Mapping>.memory(of: capacity)
      + FlowTable<Flow>.memory(of: capacity, countsHosts: true)
  }

  /// Makes place for more flows; those that are there stay.
  public mutating func grow(to capacity: Int) {
    mappings.grow(to: capacity)
    flows.grow(to: capacity)
  }

  public var flowCount: Int { flows.count }
  public var mappingCount: Int { mappings.count }

  /// The external endpoint of a packet from inside; a new flow gets one.
  /// - Returns: nil where no port or no place for a flow is left, or its host has enough.
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
    // First, as the flow that makes room may be the last of a mapping, of which there are as many.
    guard mayBegin(key.source), makeRoom(), let mapping = mapping(of: key, at: now) else {
      return nil
    }
    let endpoint = Self.externalEndpoint(mappings.answersKey(of: mapping))
    guard add(key, endpoint, mapping, segment, isAnswer: false, at: now) else { return nil }
    return endpoint
  }

  /// The internal endpoint of a packet from outside to the external address.
  /// - Returns: nil where nothing inside has that port, or as ``outbound(_:_:at:)``.
  public mutating func inbound(
    _ key: FlowKey, _ segment: TCPHeader?, at now: UInt32
  ) -> Endpoint? {
    if let (index, isAnswer) = flows.find(key), isAnswer {
      let inside = flows.key(of: index)
      note(index, segment, isAnswer: true, at: now)
      return Endpoint(inside.source, inside.sourcePort)
    }
    guard key.destination == external, mayBegin(key.source),
      let (mapping, isAnswer) = mappings.find(Self.externalKey(key)), isAnswer
    else { return nil }
    let inside = mappings.key(of: mapping)
    let flow = FlowKey(
      source: inside.source, destination: key.source, sourcePort: inside.sourcePort,
      destinationPort: key.protocol == .icmp ? 0 : key.sourcePort, protocol: key.protocol)
    let port = key.protocol == .icmp ? key.sourcePort : key.destinationPort
    guard add(flow, Endpoint(external, port), mapping, segment, isAnswer: true, at: now) else {
      return nil
    }
    return Endpoint(inside.source, inside.sourcePort)
  }

  /// The internal endpoint that a packet to the external address is for, without a new flow.
  public func inside(of key: FlowKey) -> Endpoint? {
    guard let (mapping, isAnswer) = mappings.find(Self.externalKey(key)), isAnswer else {
      return nil
    }
    let inside = mappings.key(of: mapping)
    return Endpoint(inside.source, inside.sourcePort)
  }

  /// The external endpoint of an internal one that sends, without a new flow or mapping.
  public func outside(of key: FlowKey) -> Endpoint? {
    guard let (mapping, isAnswer) = mappings.find(Self.internalKey(key)), !isAnswer else {
      return nil
    }
    return Self.externalEndpoint(mappings.answersKey(of: mapping))
  }

  /// Forgets flows that were idle for too long, and mappings without flows.
  public mutating func expire(at now: UInt32, limit: Int = 64) {
    // Collected first: a table may not be changed by what it tells.
    var mappingsLeft: [Int] = []
    flows.expire(at: now, limit: limit) { mappingsLeft.append(Int($2.mapping)) }
    for mapping in mappingsLeft { release(mapping) }
  }

  // MARK: Mappings

  private mutating func release(_ mapping: Int) {
    mappings[mapping].flows -= 1
    if mappings[mapping].flows == 0 { mappings.remove(mapping) }
  }

  private mutating func makeRoom() -> Bool {
    var madeRoom: Int?
    let hasRoom = flows.makeRoom { madeRoom = Int($2.mapping) }
    if let madeRoom { release(madeRoom) }
    return hasRoom
  }

  /// - Parameter isAnswer: the first packet came from outside.
  private mutating func add(
    _ key: FlowKey, _ endpoint: Endpoint, _ mapping: Int, _ segment: TCPHeader?, isAnswer: Bool,
    at now: UInt32
  ) -> Bool {
    let answers = FlowKey(
      source: key.destination, destination: endpoint.address,
      sourcePort: key.protocol == .icmp ? endpoint.port : key.destinationPort,
      destinationPort: key.protocol == .icmp ? 0 : endpoint.port, protocol: key.protocol)
    var madeRoom: Int?
    var flow = Flow(mapping: Int32(mapping))
    let lifetime = flow.life.after(segment, isAnswer: isAnswer)
    mappings[mapping].flows += 1
    let added = flows.add(
      key, answers: answers, flow, lifetime, at: now, isBegunByAnswers: isAnswer
    ) {
      madeRoom = Int($2.mapping)
    }
    if let madeRoom { release(madeRoom) }
    if added == nil { release(mapping) }
    return added != nil
  }

  /// The mapping of a packet's source; a new one has no flow yet.
  private mutating func mapping(of key: FlowKey, at now: UInt32) -> Int? {
    let inside = Self.internalKey(key)
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
    let range = ports ?? (port < 1024 ? PortRange(1, 1023) : PortRange(1024, 65_535))
    if range.contains(port), port != 0, isFree(port) { return port }
    let first = UInt32(range.first) + UInt32((range.first ^ port) & 1)
    guard first <= range.last else { return nil }
    let pairs = (UInt32(range.last) - first) / 2 + 1
    for _ in 0..<Self.portTries {
      // Each anew: ports that hosts have chosen stand side by side.
      chosen &+= 1
      let place = UInt32(truncatingIfNeeded: secret.hash(chosen, 0) >> 32) % pairs
      let candidate = UInt16(first + place * 2)
      if isFree(candidate) { return candidate }
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

  private static func internalKey(_ key: FlowKey) -> FlowKey {
    FlowKey(
      source: key.source, destination: .unspecified, sourcePort: key.sourcePort,
      destinationPort: 0, protocol: key.protocol)
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
