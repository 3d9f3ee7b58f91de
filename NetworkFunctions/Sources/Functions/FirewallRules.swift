public import Packets

/// Ordered rules over a flow's first packet; the first that fits decides, and what none fits is
/// dropped.
public struct FirewallRules: Sendable {
  public enum Action: UInt8, Sendable {
    case accept
    /// Without a word.
    case drop
    /// TCP gets a reset, all else an ICMP error (RFC 1812, section 5.2.7.1: administratively
    /// prohibited).
    case reject
  }

  /// What a packet must have; what is nil fits all.
  public struct Rule: Sendable, Hashable {
    /// The port through which it came, by its place.
    public var port: UInt8?
    /// ICMP means that of both versions of IP.
    public var `protocol`: IPProtocol?
    public var source: Prefix?
    public var destination: Prefix?
    /// Of the destination.
    public var ports: PortRange?
    public var sourcePorts: PortRange?
    public var action: Action

    public init(
      port: UInt8? = nil, protocol: IPProtocol? = nil, source: Prefix? = nil,
      destination: Prefix? = nil, ports: PortRange? = nil, sourcePorts: PortRange? = nil,
      action: Action
    ) {
      self.port = port
      self.protocol = `protocol`
      self.source = source
      self.destination = destination
      self.ports = ports
      self.sourcePorts = sourcePorts
      self.action = action
    }

    public func fits(_ key: FlowKey, from port: UInt8) -> Bool {
      if let wanted = self.port, wanted != port { return false }
      if let wanted = self.protocol, wanted != key.protocol,
        wanted != .icmp || key.protocol != .icmpv6
      {
        return false
      }
      if let ports, !ports.contains(key.destinationPort) { return false }
      if let sourcePorts, !sourcePorts.contains(key.sourcePort) { return false }
      if let source, !source.contains(key.source) { return false }
      if let destination, !destination.contains(key.destination) { return false }
      return true
    }
  }

  /// So many that a packet that none fits takes some microseconds.
  public static let maximum = 1024

  public var rules: [Rule]

  public init(_ rules: [Rule] = []) { self.rules = rules }

  public func decide(_ key: FlowKey, from port: UInt8) -> Action {
    for index in rules.indices where rules[index].fits(key, from: port) {
      return rules[index].action
    }
    return .drop
  }
}

extension FirewallRules {
  init(
    from reader: inout JSONReader, _ configuration: borrowing Configuration
  ) throws(ConfigurationError) {
    rules = []
    try reader.enterArray()
    while try reader.nextElement() {
      guard rules.count < Self.maximum else { throw reader.error("there are more than 1024 rules") }
      try reader.spend(4 * MemoryLayout<Rule>.stride)
      rules.append(try Rule(from: &reader, configuration))
    }
  }
}

extension FirewallRules.Rule {
  init(
    from reader: inout JSONReader, _ configuration: borrowing Configuration
  ) throws(ConfigurationError) {
    var rule = FirewallRules.Rule(action: .drop)
    var action: FirewallRules.Action?
    try reader.enterObject()
    while let name = try reader.nextMember() {
      if name.equals("from") {
        rule.port = UInt8(try configuration.port(from: &reader))
      } else if name.equals("protocol") {
        rule.protocol = try reader.transport()
      } else if name.equals("source") {
        rule.source = try reader.prefix()
      } else if name.equals("destination") {
        rule.destination = try reader.prefix()
      } else if name.equals("ports") {
        rule.ports = try reader.ports()
      } else if name.equals("sourcePorts") {
        rule.sourcePorts = try reader.ports()
      } else if name.equals("action") {
        let word = try reader.string()
        if word.equals("accept") {
          action = .accept
        } else if word.equals("drop") {
          action = .drop
        } else if word.equals("reject") {
          action = .reject
        } else {
          throw reader.error("an action is accept, drop or reject")
        }
      } else {
        // Without what it says the rule would be about more.
        throw reader.unknownMember
      }
    }
    guard let action else { throw reader.error("a rule needs an action") }
    guard
      rule.ports == nil && rule.sourcePorts == nil || rule.protocol == .tcp
        || rule.protocol == .udp
    else {
      throw reader.error("ports are tcp's or udp's")
    }
    rule.action = action
    self = rule
  }
}

extension JSONReader {
  /// nil is any.
  mutating func transport() throws(ConfigurationError) -> IPProtocol? {
    let word = try string()
    if word.equals("tcp") { return .tcp }
    if word.equals("udp") { return .udp }
    if word.equals("icmp") { return .icmp }
    if word.equals("any") { return nil }
    throw error("a protocol is tcp, udp, icmp or any")
  }
}
