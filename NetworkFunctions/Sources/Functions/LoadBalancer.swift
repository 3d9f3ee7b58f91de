public import Packets

/// Spreads flows to its services over backends, layer 4, IPv4.
public typealias LoadBalancer = Forwarder<Balancer>

/// Clients are before the first port; backends are behind the others, and their way back to clients
/// leads through here. A flow stays with its backend; a new one goes where Maglev hashing says, so
/// that two balancers with the same backends agree. A backend that drains gets no new flows and
/// keeps its old ones.
public struct Balancer: Stage, ~Copyable {
  public struct Service: Sendable, Hashable {
    public var address: IPv6Address
    /// nil is any.
    public var port: UInt16?
    /// nil is TCP and UDP.
    public var `protocol`: IPProtocol?

    func fits(_ key: FlowKey) -> Bool {
      guard address == key.destination, port == nil || port == key.destinationPort else {
        return false
      }
      return `protocol` == nil
        ? key.protocol == .tcp || key.protocol == .udp : `protocol` == key.protocol
    }
  }

  public struct Backend: Sendable, Hashable {
    public var address: IPv6Address
    public var isDraining = false
  }

  public struct Settings: Sendable {
    var services: [Service]
    var backends: [Backend]
    var capacity: Int
  }

  public struct Counters: Sendable {
    public var inbound: UInt64 = 0
    public var outbound: UInt64 = 0
    /// Neither of a flow nor the beginning of one.
    public var invalid: UInt64 = 0
    /// No backend serves, or no place for the flow was left.
    public var refused: UInt64 = 0
  }

  /// In seconds.
  private static var idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32) {
    (120, 7440, 120)
  }
  private static var maximumServices: Int { 64 }
  private static var maximumBackends: Int { 255 }

  public private(set) var counters = Counters()
  private var services: [Service] = []
  private var backends: [Backend] = []
  private var table = MaglevTable(names: [], isServing: [])
  private var flows = FlowTable<FlowLife>(
    capacity: 0, secret: Secret(0, 0), idleLimits: Self.idleLimits)

  public init() {}

  public var flowCount: Int { flows.count }

  public var addresses: [(port: Int, address: IPv6Address)] { services.map { (0, $0.address) } }

  public static func read(
    _ configuration: borrowing Configuration, outside: Int
  ) throws(ConfigurationError) -> Settings {
    guard configuration.ports.count > 1 else {
      throw ConfigurationError("a load balancer needs a port to clients and one to backends")
    }
    var services: [Service] = []
    var backends: [Backend] = []
    var capacity = Self.defaultFlows
    var reader = try configuration.parameterReader()
    while let name = try reader.nextMember() {
      if name.equals("services") {
        try reader.enterArray()
        while try reader.nextElement() {
          guard services.count < Self.maximumServices else {
            throw reader.error("there are more than 64 services")
          }
          try reader.spend(4 * MemoryLayout<Service>.stride)
          services.append(try Service(from: &reader, configuration))
        }
      } else if name.equals("backends") {
        try reader.enterArray()
        while try reader.nextElement() {
          guard backends.count < Self.maximumBackends else {
            throw reader.error("there are more than 255 backends")
          }
          try reader.spend(8 * MemoryLayout<Backend>.stride)
          backends.append(try Backend(from: &reader))
        }
      } else if name.equals("flows") {
        capacity = try reader.flows()
      } else {
        try reader.skip()
      }
    }
    return Settings(services: services, backends: backends, capacity: capacity)
  }

  public borrowing func memory(for settings: Settings) -> Int {
    flows.memory(for: settings.capacity)
  }

  public mutating func take<S: Surroundings & ~Copyable>(
    _ settings: Settings, in surroundings: inout S
  ) {
    services = settings.services
    backends = settings.backends
    table = MaglevTable(
      names: backends.map { $0.address.low }, isServing: backends.map { !$0.isDraining })
    if flows.capacity == 0 {
      flows = FlowTable(
        capacity: settings.capacity, secret: Secret(from: &surroundings),
        idleLimits: Self.idleLimits)
    }
    flows.grow(to: settings.capacity)
    // Those of a service or a backend that is gone.
    flows.removeAll { key, answers, _ in
      !settings.services.contains { $0.fits(key) }
        || !settings.backends.contains { $0.address == answers.source }
    }
  }

  public func takes(_ destination: IPv6Address, from port: Int) -> Bool {
    for service in services where service.address == destination { return true }
    return false
  }

  public mutating func pass(_ packet: inout Passage) -> Passing {
    if let (index, isAnswer) = flows.find(packet.key) {
      if packet.kind != .error {
        let lifetime = flows[index].after(packet.segment, isAnswer: isAnswer)
        flows.use(index, lifetime, at: packet.now)
      }
      if isAnswer {
        packet.key.source = flows.key(of: index).destination
        counters.outbound &+= 1
      } else {
        packet.key.destination = flows.answersKey(of: index).source
        counters.inbound &+= 1
      }
      return .pass
    }
    // From a backend, and of no flow: it goes on as it is.
    guard packet.port == 0 else { return .pass }
    return begin(&packet)
  }

  /// A client's packet that belongs to no flow.
  private mutating func begin(_ packet: inout Passage) -> Passing {
    let key = packet.key
    guard packet.kind == .opening || packet.segment != nil else {
      counters.invalid &+= 1
      return .drop
    }
    guard services.contains(where: { $0.fits(key) }) else {
      counters.invalid &+= 1
      return key.protocol != .icmp && takes(key.destination, from: packet.port)
        ? .refuse(.portUnreachable) : .drop
    }
    guard packet.kind == .opening else {
      // Its flow is not known any more: who sent it is to begin anew.
      counters.invalid &+= 1
      return .reset
    }
    // Not by a secret: two balancers are to agree.
    guard var chosen = table.backend(for: key.hash(Secret(0, 0))) else {
      counters.refused &+= 1
      return .refuse(.portUnreachable)
    }
    var answers = answers(to: key, from: chosen)
    // By another service the client has that port at this backend already: whose an answer is could
    // not be told.
    var left = backends.count
    while flows.find(answers) != nil {
      repeat {
        chosen = (chosen + 1) % backends.count
        left -= 1
      } while backends[chosen].isDraining && left > 0
      guard left > 0 else {
        counters.refused &+= 1
        return .refuse(.portUnreachable)
      }
      answers = self.answers(to: key, from: chosen)
    }
    var life = FlowLife()
    let lifetime = life.after(packet.segment, isAnswer: false)
    let added = flows.add(key, answers: answers, life, lifetime, at: packet.now) { _, _, _ in }
    guard added != nil else {
      counters.refused &+= 1
      return .drop
    }
    packet.key.destination = answers.source
    counters.inbound &+= 1
    return .pass
  }

  private func answers(to key: FlowKey, from backend: Int) -> FlowKey {
    FlowKey(
      source: backends[backend].address, destination: key.source, sourcePort: key.destinationPort,
      destinationPort: key.sourcePort, protocol: key.protocol)
  }

  public mutating func expire(at now: UInt32) { flows.expire(at: now) { _, _, _ in } }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("loadbalancer.inbound", counters.inbound)
    body("loadbalancer.outbound", counters.outbound)
    body("loadbalancer.invalid", counters.invalid)
    body("loadbalancer.refused", counters.refused)
    body("loadbalancer.flows", UInt64(flowCount))
  }
}

extension Balancer.Service {
  /// Without an address it is at the first one of the first port.
  init(
    from reader: inout JSONReader, _ configuration: borrowing Configuration
  ) throws(ConfigurationError) {
    var service = Balancer.Service(address: .unspecified)
    for own in configuration.ports[0].addresses.reversed() where own.address.ipv4 != nil {
      service.address = own.address
    }
    try reader.enterObject()
    while let name = try reader.nextMember() {
      if name.equals("address") {
        service.address = try reader.ipv4()
      } else if name.equals("port") {
        let range = try reader.ports()
        guard range.first == range.last else { throw reader.error("one port is expected") }
        service.port = range.first
      } else if name.equals("protocol") {
        service.protocol = try reader.transport()
        guard service.protocol != .icmp else { throw reader.error("a service is of tcp or udp") }
      } else {
        throw reader.unknownMember
      }
    }
    guard service.address.ipv4 != nil else { throw reader.error("a service needs an address") }
    self = service
  }
}

extension Balancer.Backend {
  init(from reader: inout JSONReader) throws(ConfigurationError) {
    var backend = Balancer.Backend(address: .unspecified)
    try reader.enterObject()
    while let name = try reader.nextMember() {
      if name.equals("address") {
        backend.address = try reader.ipv4()
      } else if name.equals("state") {
        let word = try reader.string()
        backend.isDraining = word.equals("drain")
        guard backend.isDraining || word.equals("active") else {
          throw reader.error("a state is active or drain")
        }
      } else {
        throw reader.unknownMember
      }
    }
    guard backend.address.ipv4 != nil else { throw reader.error("a backend needs an address") }
    self = backend
  }
}

extension JSONReader {
  mutating func ipv4() throws(ConfigurationError) -> IPv6Address {
    let address = try address()
    guard address.ipv4 != nil else { throw error("an IPv4 address is expected") }
    return address
  }
}
