import Packets

/// Forwards what its rules allow, and what belongs to flows that they allowed.
public typealias Firewall = Forwarder<PacketFilter>

/// Rules that decide on the first packet of a flow; the flow's other packets, its answers and ICMP
/// errors about them then pass. New rules end the flows that they do not allow.
public struct PacketFilter: Stage, ~Copyable {
  public struct Settings: Sendable {
    var rules: FirewallRules
    var capacity: Int
    var hostLimit: Int
  }

  public struct Counters: Sendable {
    public var accepted: UInt64 = 0
    public var dropped: UInt64 = 0
    public var rejected: UInt64 = 0
    /// Neither of a flow nor the beginning of one.
    public var invalid: UInt64 = 0
    /// Allowed, but there was no place for the flow.
    public var full: UInt64 = 0
    /// Allowed, but its host had begun as many flows as it may have.
    public var limited: UInt64 = 0
  }

  private struct Flow {
    var life = FlowLife()
    /// Through which its first packet came.
    var port: UInt8
  }

  /// In seconds, as nftables' connection tracking has them by default.
  private static var idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32) {
    (120, 432_000, 120)
  }

  public private(set) var rules = FirewallRules()
  public private(set) var counters = Counters()
  private var flows = FlowTable<Flow>(
    capacity: 0, secret: Secret(0, 0), idleLimits: Self.idleLimits, countsHosts: true)

  public init() {}

  public var flowCount: Int { flows.count }
  public var isSilent: Bool { true }

  public static func read(
    _ configuration: borrowing Configuration, outside: Int
  ) throws(ConfigurationError) -> Settings {
    var rules = FirewallRules()
    var capacity = Self.defaultFlows
    var hostLimit: Int?
    var reader = try configuration.parameterReader()
    while let name = try reader.nextMember() {
      if name.equals("rules") {
        rules = try FirewallRules(from: &reader, configuration)
      } else if name.equals("flows") {
        capacity = try reader.flows()
      } else if name.equals("flowsPerHost") {
        hostLimit = try reader.flows()
      } else {
        try reader.skip()
      }
    }
    return Settings(
      rules: rules, capacity: capacity, hostLimit: hostLimit ?? Self.share(of: capacity))
  }

  public borrowing func memory(for settings: Settings) -> Int {
    flows.memory(for: settings.capacity)
  }

  public mutating func take<S: Surroundings & ~Copyable>(
    _ settings: Settings, in surroundings: inout S
  ) {
    rules = settings.rules
    if flows.capacity == 0 {
      flows = FlowTable(
        capacity: settings.capacity, secret: Secret(from: &surroundings),
        idleLimits: Self.idleLimits, countsHosts: true)
    }
    flows.grow(to: settings.capacity)
    flows.hostLimit = settings.hostLimit
    flows.removeAll { key, _, flow in settings.rules.decide(key, from: flow.port) != .accept }
  }

  public mutating func pass(_ packet: inout Passage) -> Passing {
    guard packet.kind != .senseless else {
      counters.invalid &+= 1
      return .drop
    }
    guard let (index, isAnswer) = flows.find(packet.key) else { return begin(packet) }
    if packet.kind != .error {
      let lifetime = flows[index].life.after(packet.segment, isAnswer: isAnswer)
      flows.use(index, lifetime, at: packet.now)
    }
    counters.accepted &+= 1
    return .pass
  }

  /// Decides on the first packet of a flow.
  private mutating func begin(_ packet: Passage) -> Passing {
    guard packet.kind == .opening || packet.kind == .portless else {
      counters.invalid &+= 1
      return .drop
    }
    let port = UInt8(truncatingIfNeeded: packet.port)
    switch rules.decide(packet.key, from: port) {
    case .accept:
      guard flows.mayBegin(packet.key.source) else {
        counters.limited &+= 1
        return .drop
      }
      var flow = Flow(port: port)
      let lifetime = flow.life.after(packet.segment, isAnswer: false)
      let added = flows.add(
        packet.key, answers: packet.key.reversed, flow, lifetime, at: packet.now
      ) { _, _, _ in }
      guard added != nil else {
        counters.full &+= 1
        return .drop
      }
      counters.accepted &+= 1
      return .pass
    case .drop:
      counters.dropped &+= 1
      return .drop
    case .reject:
      counters.rejected &+= 1
      return packet.segment == nil ? .refuse(.prohibited) : .reset
    }
  }

  public mutating func expire(at now: UInt32) { flows.expire(at: now) { _, _, _ in } }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("firewall.accepted", counters.accepted)
    body("firewall.dropped", counters.dropped)
    body("firewall.rejected", counters.rejected)
    body("firewall.invalid", counters.invalid)
    body("firewall.full", counters.full)
    body("firewall.limited", counters.limited)
    body("firewall.flows", UInt64(flowCount))
  }
}

extension Stage where Self: ~Copyable {
  /// How many flows there is place for where the parameter `flows` says nothing.
  static var defaultFlows: Int { 4096 }

  /// How many of so many flows a host may begin where the parameter `flowsPerHost` says nothing.
  static func share(of flows: Int) -> Int { max(1, flows / 4) }
}
