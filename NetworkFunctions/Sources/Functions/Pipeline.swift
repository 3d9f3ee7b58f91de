public import Packets

/// All functions in one: the parameter `pipeline` says which, such as `firewall | nat44`; each reads
/// the parameters that it has alone. `router` is a pipeline without stages, and `responder` stands
/// alone.
public struct Pipeline: NetworkFunction, ~Copyable {
  private var forwarder = Forwarder<Composition>()
  private var responder = Responder()
  private var isResponder = false

  public init() {}

  public var isRouter: Bool { !isResponder }

  public mutating func configure<S: Surroundings & ~Copyable>(
    _ configuration: borrowing Configuration, in surroundings: inout S
  ) throws(ConfigurationError) {
    let isResponder = try Composition.order(of: configuration).isResponder
    if isResponder {
      try responder.configure(configuration, in: &surroundings)
    } else {
      try forwarder.configure(configuration, in: &surroundings)
    }
    self.isResponder = isResponder
  }

  @_lifetime(frame: copy frame)
  public mutating func process<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout S
  ) -> Verdict {
    isResponder
      ? responder.process(&frame, from: port, in: &surroundings)
      : forwarder.process(&frame, from: port, in: &surroundings)
  }

  public mutating func advance<S: Surroundings & ~Copyable>(
    in surroundings: inout S
  ) -> Instant {
    isResponder ? responder.advance(in: &surroundings) : forwarder.advance(in: &surroundings)
  }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    if isResponder { responder.readCounters(body) } else { forwarder.readCounters(body) }
  }
}

/// Stages in the order of a text. What comes from the outside port passes them from the last to the
/// first, so that each sees the endpoints that it would see as a function of its own between the
/// others.
public struct Composition: Stage, ~Copyable {
  enum Kind: Sendable { case firewall, nat44, loadBalancer }

  public struct Settings: Sendable {
    var order: [Kind]
    var filter: PacketFilter.Settings?
    var translator: Translator.Settings?
    var balancer: Balancer.Settings?
  }

  private var order: [Kind] = []
  private var filter = PacketFilter()
  private var translator = Translator()
  private var balancer = Balancer()

  public init() {}

  /// The stages of the parameter `pipeline`, or that the responder is asked for.
  static func order(
    of configuration: borrowing Configuration
  ) throws(ConfigurationError) -> (order: [Kind], isResponder: Bool) {
    var order: [Kind] = []
    var isResponder = false
    var names = 0
    var reader = try configuration.parameterReader()
    while let name = try reader.nextMember() {
      guard name.equals("pipeline") else {
        try reader.skip()
        continue
      }
      let text = try reader.string() + [0x7c]
      order = []
      names = 0
      isResponder = false
      var word: [UInt8] = []
      for octet in text where octet != 0x20 {
        guard octet == 0x7c else {
          word.append(octet)
          continue
        }
        names += 1
        let stage: Kind?
        if word.equals("firewall") {
          stage = .firewall
        } else if word.equals("nat44") {
          stage = .nat44
        } else if word.equals("loadbalancer") {
          stage = .loadBalancer
        } else if word.equals("responder") {
          stage = nil
          isResponder = true
        } else if word.equals("router") {
          stage = nil
        } else {
          throw reader.error("firewall, nat44, loadbalancer, router or responder is expected")
        }
        if let stage {
          for other in order where other == stage {
            throw reader.error("a stage stands once in a pipeline")
          }
          order.append(stage)
        }
        word = []
      }
      guard !isResponder || names == 1 else { throw reader.error("the responder stands alone") }
    }
    guard names > 0 else { throw ConfigurationError("parameters.pipeline is missing") }
    return (order, isResponder)
  }

  public static func read(
    _ configuration: borrowing Configuration, outside: Int
  ) throws(ConfigurationError) -> Settings {
    var settings = Settings(order: try order(of: configuration).order)
    for stage in settings.order {
      switch stage {
      case .firewall:
        settings.filter = try PacketFilter.read(configuration, outside: outside)
      case .nat44:
        settings.translator = try Translator.read(configuration, outside: outside)
      case .loadBalancer:
        settings.balancer = try Balancer.read(configuration, outside: outside)
      }
    }
    return settings
  }

  public borrowing func memory(for settings: Settings) -> Int {
    var octets = 0
    if let filter = settings.filter { octets += self.filter.memory(for: filter) }
    if let translator = settings.translator {
      octets += self.translator.memory(for: translator)
    }
    if let balancer = settings.balancer { octets += self.balancer.memory(for: balancer) }
    return octets
  }

  public mutating func take<S: Surroundings & ~Copyable>(
    _ settings: Settings, in surroundings: inout S
  ) {
    order = settings.order
    if let filter = settings.filter { self.filter.take(filter, in: &surroundings) }
    if let translator = settings.translator {
      self.translator.take(translator, in: &surroundings)
    }
    if let balancer = settings.balancer { self.balancer.take(balancer, in: &surroundings) }
  }

  private func has(_ kind: Kind) -> Bool {
    for stage in order where stage == kind { return true }
    return false
  }

  public var isTransparent: Bool { order.isEmpty }
  public var isSilent: Bool { has(.firewall) }
  public var addresses: [(port: Int, address: IPv6Address)] {
    has(.loadBalancer) ? balancer.addresses : []
  }

  public func takes(_ destination: IPv6Address, from port: Int) -> Bool {
    has(.nat44) && translator.takes(destination, from: port)
      || has(.loadBalancer) && balancer.takes(destination, from: port)
  }

  public func expects(_ key: FlowKey) -> Bool {
    !has(.nat44) || translator.expects(key)
  }

  public mutating func pass(_ packet: inout Passage) -> Passing {
    var index = packet.isInward ? order.count - 1 : 0
    while order.indices.contains(index) {
      let passing: Passing
      switch order[index] {
      case .firewall: passing = filter.pass(&packet)
      case .nat44: passing = translator.pass(&packet)
      case .loadBalancer: passing = balancer.pass(&packet)
      }
      guard case .pass = passing else { return passing }
      // A hairpin turns around.
      index += packet.isInward ? -1 : 1
    }
    return .pass
  }

  public mutating func expire(at now: UInt32) {
    filter.expire(at: now)
    translator.expire(at: now)
    balancer.expire(at: now)
  }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    for stage in order {
      switch stage {
      case .firewall: filter.readCounters(body)
      case .nat44: translator.readCounters(body)
      case .loadBalancer: balancer.readCounters(body)
      }
    }
  }
}
