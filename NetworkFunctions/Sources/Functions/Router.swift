public import Packets

/// Forwards between its ports by the longest prefix; its routes are its ports' networks and those
/// that the platform gives them.
public struct Router: NetworkFunction, ~Copyable {
  private var stack = LocalStack()
  private var forwarding = Forwarding()

  public init() {}

  public mutating func configure<S: Surroundings & ~Copyable>(
    _ configuration: borrowing Configuration, in surroundings: inout S
  ) throws(ConfigurationError) {
    stack.ports = configuration.ports
    forwarding.configure(configuration.ports)
  }

  @_lifetime(frame: copy frame)
  public mutating func process<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout S
  ) -> Verdict {
    forwarding.learn(from: frame, on: port, in: &surroundings)
    switch stack.receive(&frame, from: port) {
    case .done(let verdict): return verdict
    case .local(let ethernet, let datagram):
      return forwarding.tell(
        .portUnreachable, &frame, ethernet, datagram, on: port, in: &surroundings)
    case .transit(let ethernet, let datagram):
      return forwarding.forward(&frame, ethernet, datagram, from: port, in: &surroundings)
    }
  }

  public mutating func advance<S: Surroundings & ~Copyable>(
    in surroundings: inout S
  ) -> Instant {
    forwarding.advance(at: surroundings.now)
  }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("received", stack.counters.received)
    body("malformed", stack.counters.malformed)
    forwarding.readCounters(body)
  }
}

extension Forwarding {
  func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("forwarded", counters.forwarded)
    body("withoutRoute", counters.withoutRoute)
    body("expired", counters.expired)
    body("tooBig", counters.tooBig)
    body("unresolved", counters.unresolved)
  }
}
