public import Packets

/// Ordered rules over a flow's first packet; the first that fits decides, else ``policy``.
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
    public var `protocol`: IPProtocol?
    public var source: Prefix?
    public var destination: Prefix?
    /// First and last port of a range.
    public var sourcePorts: PortRange?
    public var destinationPorts: PortRange?
    public var action: Action

    public init(
      port: UInt8? = nil, protocol: IPProtocol? = nil, source: Prefix? = nil,
      destination: Prefix? = nil, sourcePorts: PortRange? = nil,
      destinationPorts: PortRange? = nil, action: Action
    ) {
      self.port = port
      self.protocol = `protocol`
      self.source = source
      self.destination = destination
      self.sourcePorts = sourcePorts
      self.destinationPorts = destinationPorts
      self.action = action
    }

    @inlinable
    public func fits(_ key: FlowKey, from port: UInt8) -> Bool {
      if let wanted = self.port, wanted != port { return false }
      if let wanted = self.protocol, wanted != key.protocol { return false }
      if let sourcePorts, !sourcePorts.contains(key.sourcePort) { return false }
      if let destinationPorts, !destinationPorts.contains(key.destinationPort) { return false }
      if let source, !source.contains(key.source) { return false }
      if let destination, !destination.contains(key.destination) { return false }
      return true
    }
  }

  /// Ports of a transport, both ends included.
  public struct PortRange: Sendable, Hashable {
    public let first: UInt16
    public let last: UInt16

    @inlinable
    public init(_ first: UInt16, _ last: UInt16) {
      self.first = first
      self.last = last
    }

    @inlinable
    public init(_ port: UInt16) { self.init(port, port) }

    @inlinable
    public func contains(_ port: UInt16) -> Bool { first <= port && port <= last }
  }

  public var rules: [Rule]
  public var policy: Action

  public init(_ rules: [Rule] = [], policy: Action = .drop) {
    self.rules = rules
    self.policy = policy
  }

  /// - Returns: what is to be done, and which rule says so; nil is the policy.
  public func decide(_ key: FlowKey, from port: UInt8) -> (action: Action, rule: Int?) {
    for index in rules.indices where rules[index].fits(key, from: port) {
      return (rules[index].action, index)
    }
    return (policy, nil)
  }
}
