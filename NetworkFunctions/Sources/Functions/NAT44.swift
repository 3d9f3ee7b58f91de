public import Packets

/// Translates what goes from inside to the outside port behind that one's address.
public typealias NAT44 = Forwarder<Translator>

/// RFC 3022; RFC 4787, RFC 5382 and RFC 5508 as ``PortTranslation`` says. Hairpinning works (RFC
/// 4787, REQ-9; RFC 5508, REQ-7), and errors about translated packets find their way (RFC 5508,
/// REQ-4 and REQ-5).
public struct Translator: Stage, ~Copyable {
  public struct Settings: Sendable {
    var outside: Int
    /// A bit for each port whose packets are translated.
    var inside: UInt8
    var external: IPv4Address
    var ports: PortRange?
    var capacity: Int
    var hostLimit: Int
  }

  public struct Counters: Sendable {
    public var outbound: UInt64 = 0
    public var inbound: UInt64 = 0
    public var hairpinned: UInt64 = 0
    /// From outside, to nothing that is mapped.
    public var unmapped: UInt64 = 0
    /// No port, or no place for the flow, was left.
    public var full: UInt64 = 0
    /// The host had begun as many flows as it may have.
    public var limited: UInt64 = 0
  }

  public private(set) var counters = Counters()
  private var outside = 0
  /// A bit for each port whose packets are translated.
  private var inside: UInt8 = .max
  private var external: IPv6Address = .unspecified
  private var translation = PortTranslation(
    external: .unspecified, capacity: 0, secret: Secret(0, 0))

  public init() {}

  public var flowCount: Int { translation.flowCount }

  public static func read(
    _ configuration: borrowing Configuration, outside: Int
  ) throws(ConfigurationError) -> Settings {
    guard configuration.ports.count > 1 else {
      throw ConfigurationError("a NAT needs an inside and an outside port")
    }
    var inside: UInt8?
    var ports: PortRange?
    var capacity = Self.defaultFlows
    var hostLimit: Int?
    var reader = try configuration.parameterReader()
    while let name = try reader.nextMember() {
      if name.equals("inside") {
        var found: UInt8 = 0
        if try reader.peek() == 0x5b {
          try reader.enterArray()
          while try reader.nextElement() {
            found |= 1 << UInt8(try configuration.port(from: &reader))
          }
        } else {
          found = 1 << UInt8(try configuration.port(from: &reader))
        }
        guard found & 1 << UInt8(outside) == 0 else {
          throw reader.error("the outside port can't be inside")
        }
        inside = found
      } else if name.equals("ports") {
        let range = try reader.ports()
        guard range.first > 0, range.last > range.first else {
          throw reader.error("a range such as \"1024-65535\" is expected")
        }
        ports = range
      } else if name.equals("flows") {
        capacity = try reader.flows()
      } else if name.equals("flowsPerHost") {
        hostLimit = try reader.flows()
      } else {
        try reader.skip()
      }
    }
    var address: IPv4Address?
    for own in configuration.ports[outside].addresses where address == nil {
      address = own.address.ipv4
    }
    guard let address else {
      throw ConfigurationError("the outside port of a NAT needs an IPv4 address")
    }
    let hidden = inside ?? ~(1 << UInt8(outside))
    for own in configuration.ports[outside].addresses where own.address.ipv4 != nil {
      for index in configuration.ports.indices where hidden >> UInt8(index) & 1 == 1 {
        for other in configuration.ports[index].addresses
        where own.contains(other.address) || other.contains(own.address) {
          // RFC 4787, REQ-7: who is outside could not be told from who is inside.
          throw ConfigurationError("a network of a NAT's inside has addresses of its outside")
        }
      }
    }
    return Settings(
      outside: outside, inside: hidden, external: address, ports: ports,
      capacity: capacity, hostLimit: hostLimit ?? Self.share(of: capacity))
  }

  public borrowing func memory(for settings: Settings) -> Int {
    translation.memory(
      for: settings.capacity, isNew: IPv6Address(settings.external) != external)
  }

  public mutating func take<S: Surroundings & ~Copyable>(
    _ settings: Settings, in surroundings: inout S
  ) {
    outside = settings.outside
    inside = settings.inside
    // Flows live on unless the address that they are known by is gone.
    if IPv6Address(settings.external) != external {
      external = IPv6Address(settings.external)
      translation = PortTranslation(
        external: settings.external, capacity: settings.capacity,
        secret: Secret(from: &surroundings))
    }
    translation.ports = settings.ports
    translation.grow(to: settings.capacity)
    translation.hostLimit = settings.hostLimit
  }

  /// Also from inside, from where it turns around.
  public func takes(_ destination: IPv6Address, from port: Int) -> Bool { destination == external }

  public mutating func pass(_ packet: inout Passage) -> Passing {
    if packet.isInward { return takeIn(&packet) }
    let isHairpin = packet.key.destination == external
    guard isHairpin || packet.exit == outside else { return .pass }
    return letOut(&packet, isHairpin: isHairpin)
  }

  /// From inside to outside, or back inside by the external address.
  private mutating func letOut(_ packet: inout Passage, isHairpin: Bool) -> Passing {
    let key = packet.key
    guard inside >> UInt8(packet.port) & 1 == 1, packet.hasPorts, key.source.ipv4 != nil
    else { return unmapped() }
    var inner: Endpoint?
    if isHairpin {
      // Whom it reaches is known before anything is made for it.
      inner = translation.inside(of: key)
      guard inner != nil else { return unmapped() }
    }
    let outer: Endpoint
    if packet.kind == .error {
      // About what came in: who answers is known outside by another endpoint.
      guard let found = translation.outside(of: key) else { return unmapped() }
      outer = found
    } else {
      guard let found = translation.outbound(key, packet.segment, at: packet.now) else {
        noteRefusal(of: key)
        // RFC 5508, REQ-8.
        return .refuse(.prohibited)
      }
      outer = found
    }
    packet.key.setSource(outer)
    if let inner {
      packet.key.setDestination(inner)
      packet.isInward = true
      counters.hairpinned &+= 1
    } else {
      counters.outbound &+= 1
    }
    return .pass
  }

  /// From outside to the external address.
  private mutating func takeIn(_ packet: inout Passage) -> Passing {
    let key = packet.key
    guard key.destination == external, packet.hasPorts else { return unmapped() }
    guard let inner = translation.inside(of: key) else {
      let passing = unmapped()
      // Perhaps somebody inside is about to begin the same connection (RFC 5382, REQ-4).
      return packet.kind == .opening && packet.segment != nil ? .refuseLater : passing
    }
    if packet.kind != .error {
      guard translation.inbound(key, packet.segment, at: packet.now) != nil else {
        noteRefusal(of: key)
        return .drop
      }
    }
    packet.key.setDestination(inner)
    counters.inbound &+= 1
    return .pass
  }

  public func expects(_ key: FlowKey) -> Bool { translation.inside(of: key) != nil }

  private mutating func noteRefusal(of key: FlowKey) {
    if translation.mayBegin(key.source) { counters.full &+= 1 } else { counters.limited &+= 1 }
  }

  private mutating func unmapped() -> Passing {
    counters.unmapped &+= 1
    // RFC 4787 does not ask for silence, and a scanner learns nothing by it.
    return .drop
  }

  public mutating func expire(at now: UInt32) { translation.expire(at: now) }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("nat44.outbound", counters.outbound)
    body("nat44.inbound", counters.inbound)
    body("nat44.hairpinned", counters.hairpinned)
    body("nat44.unmapped", counters.unmapped)
    body("nat44.full", counters.full)
    body("nat44.limited", counters.limited)
    body("nat44.flows", UInt64(flowCount))
  }
}
