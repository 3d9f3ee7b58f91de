public import Packets

/// A function that forwards between its ports what its stage lets pass, with the endpoints that the
/// stage gives it.
public struct Forwarder<S: Stage & ~Copyable>: NetworkFunction, ~Copyable {
  public var stage = S()
  private var stack = LocalStack()
  private var forwarding = Forwarding()
  private var fragments = FragmentTable()
  private var outside = 0
  /// How often the addresses of services are still to be announced, and when they are next; the
  /// platform announces a port's own.
  private var announcements: (left: Int, next: Instant) = (0, 0)
  /// Of the next IPv4 datagram that is translated and may be in parts.
  private var identification: UInt16 = 0

  /// Of memory, for all but flows and routes, in octets.
  private static var reserve: Int { 16 << 10 }

  public init() {}

  public var isRouter: Bool { true }

  /// The outside port is that which the parameter `outside` names, else the last one.
  public mutating func configure<Around: Surroundings & ~Copyable>(
    _ configuration: borrowing Configuration, in surroundings: inout Around
  ) throws(ConfigurationError) {
    var outside = max(0, configuration.ports.count - 1)
    var reader = try configuration.parameterReader()
    while let name = try reader.nextMember() {
      if name.equals("outside") {
        outside = try configuration.port(from: &reader)
      } else {
        try reader.skip()
      }
    }
    let settings = try S.read(configuration, outside: outside)
    // In a machine of its own spent memory would be the end. There are to be as many addresses and
    // routes in the next document.
    var routes = 0
    for port in configuration.ports {
      routes += (port.addresses.count + port.routes.count) * Configuration.routeMemory
    }
    let growth = stage.memory(for: settings)
    guard
      growth == 0 || growth <= surroundings.freeMemory - Self.reserve - 2 * routes
    else {
      throw ConfigurationError(
        "there is no memory for so many flows", at: [UInt8]("parameters.flows" as StaticString))
    }
    stage.take(settings, in: &surroundings)
    self.outside = outside
    stack.isRouter = true
    stack.ports = configuration.ports
    for own in stage.addresses where own.port < stack.ports.count {
      stack.ports[own.port].addresses.append(Prefix(own.address, length: 128))
    }
    forwarding.configure(configuration.ports, own: stage.addresses)
    announcements = (stage.addresses.isEmpty ? 0 : 4, surroundings.now)
  }

  /// Four times, after a tenth of a second and then two seconds apart (RFC 5227, section 2.3, has two):
  /// nobody hears a port that is not plugged in or in service yet, and a host beside it would believe the
  /// MAC of a predecessor until that grew old.
  private mutating func announce<Around: Surroundings & ~Copyable>(in surroundings: inout Around) {
    guard announcements.left > 0, surroundings.now >= announcements.next else { return }
    let wait: Instant = announcements.left == 4 ? 100_000_000 : 2_000_000_000
    announcements = (announcements.left - 1, surroundings.now + wait)
    surroundings.announce(stack.ports, isRouter: true)
  }

  @_lifetime(frame: copy frame)
  public mutating func process<Around: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout Around
  ) -> Verdict {
    // Most frames tell of no neighbour.
    if frame.head < 14 || frame.u16(at: 12) != EtherType.ipv4.rawValue {
      forwarding.learn(from: frame, on: port, in: &surroundings)
    }
    var headers = Headers()
    var isLocal: Bool
    switch stack.receive(&frame, from: port, into: &headers) {
    case .done(let verdict): return verdict
    case .local: isLocal = true
    case .transit: isLocal = false
    case .malformed:
      // RFC 1812, section 4.3.3.5. Who filters or translates does not say what he has not let through.
      guard stage.isTransparent, !headers.ethernet.isTagged else { return .drop }
      return forwarding.tell(
        .parameterProblem(at: headers.datagram.malformedOption), &frame, &headers, on: port,
        in: &surroundings)
    }
    // Ports are of no VLAN, and a tag that came from one leads nowhere.
    guard !headers.ethernet.isTagged else {
      stack.counters.ignored &+= 1
      return .drop
    }
    var hop = isLocal ? nil : forwarding.hop(to: headers.datagram.destination)
    // Of another port.
    if let found = hop, forwarding.isOwn(headers.datagram.destination, by: found) {
      isLocal = true
      hop = nil
      if let verdict = stack.answerEcho(&frame, from: port, headers.ethernet, headers.datagram) {
        return verdict
      }
    }
    guard !isLocal || stage.takes(headers.datagram.destination, from: port) else {
      return refuseLocal(&frame, &headers, from: port, in: &surroundings)
    }
    if let verdict = forwarding.refuse(&frame, &headers, from: port, in: &surroundings) {
      return verdict
    }
    if stage.isTransparent {
      return forwarding.forward(
        &frame, &headers, to: headers.datagram.destination, by: hop, from: port,
        in: &surroundings)
    }
    if headers.datagram.isLaterFragment {
      return passFragment(&frame, &headers, by: hop, from: port, in: &surroundings)
    }
    var packet = Passage(
      frame, headers.datagram, from: port, to: hop?.port, isInward: port == outside,
      at: surroundings.seconds)
    let key = packet.key
    switch stage.pass(&packet) {
    case .pass: break
    case .drop: return .drop
    case .refuse(let error):
      return forwarding.tell(error, &frame, &headers, on: port, in: &surroundings)
    case .reset:
      guard let segment = packet.segment else { return .drop }
      return frame.becomeReset(
        of: segment, in: headers.datagram, headers.ethernet, mac: stack.ports[port].mac)
        ? .send(port: port) : .drop
    case .refuseLater:
      forwarding.refuseLater(frame, key, from: port, at: surroundings.now)
      return .drop
    }
    let destination = packet.key.destination
    let isMoved = destination != key.destination
    // For an own address, and nobody gave it another destination.
    guard !isLocal || isMoved else {
      return refuseLocal(&frame, &headers, from: port, in: &surroundings)
    }
    let next = isMoved ? forwarding.hop(to: destination) : hop
    if let verdict = forwarding.admit(
      &frame, &headers, by: next, from: port, in: &surroundings)
    {
      return verdict
    }
    guard let next else { return .drop }
    if packet.key != key {
      guard
        frame.translate(headers.datagram, isError: packet.kind == .error, from: key, to: packet.key)
      else { return .drop }
      if frame.mayBeInParts(at: headers.datagram.offset) {
        identification &+= 1
        frame.identify(as: identification, at: headers.datagram.offset)
      }
    }
    let verdict = forwarding.send(
      &frame, &headers, to: destination, by: next, from: port, isTranslated: packet.key != key,
      in: &surroundings)
    if headers.datagram.isFragment {
      fragments.know(
        headers.datagram, from: port, packet.key,
        identification: packet.key == key ? nil : identification, at: surroundings.now)
      sendHeld(headers.datagram, from: port, in: &surroundings)
    }
    return verdict
  }

  @_lifetime(frame: copy frame)
  private mutating func refuseLocal<Around: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ headers: inout Headers, from port: Int,
    in surroundings: inout Around
  ) -> Verdict {
    stack.counters.refused &+= 1
    let datagram = headers.datagram
    // What is in parts is for nobody here, and is not put together to be told of.
    guard !stage.isSilent, !datagram.isFragment else { return .drop }
    let error: ICMPError
    switch datagram.protocol {
    case .tcp, .udp: error = .portUnreachable
    // Queries that are not answered, answers that nobody asked for, errors (RFC 1122, section 3.2.2;
    // RFC 4443, section 2.4 (b) and (e)).
    case .icmp where datagram.version == .ipv4, .icmpv6 where datagram.version == .ipv6,
      .none where datagram.version == .ipv6:
      return .drop
    default: error = .unknownProtocol(at: frame.placeOfProtocol(datagram))
    }
    return forwarding.tell(error, &frame, &headers, on: port, in: &surroundings)
  }

  // MARK: Fragments

  /// A later fragment goes as its first one went; until that has come, it waits (RFC 4787, REQ-14).
  @_lifetime(frame: copy frame)
  private mutating func passFragment<Around: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ headers: inout Headers,
    by hop: Forwarding.Hop?, from port: Int, in surroundings: inout Around
  ) -> Verdict {
    guard let way = fragments.way(of: headers.datagram, from: port, at: surroundings.now) else {
      fragments.hold(frame, headers.datagram, from: port, at: surroundings.now)
      return .drop
    }
    guard headers.datagram.fragmentOffset >= way.judged else { return .drop }
    let next =
      way.destination == headers.datagram.destination && hop != nil
      ? hop : forwarding.hop(to: way.destination)
    if let verdict = forwarding.admit(
      &frame, &headers, by: next, from: port, in: &surroundings)
    {
      return verdict
    }
    guard let next else { return .drop }
    frame.readdress(headers.datagram, from: way.source, to: way.destination)
    if let identification = way.identification {
      frame.identify(as: identification, at: headers.datagram.offset)
    }
    return forwarding.send(
      &frame, &headers, to: way.destination, by: next, from: port, isTranslated: true,
      in: &surroundings)
  }

  /// Sends fragments on that came before their first.
  private mutating func sendHeld<Around: Surroundings & ~Copyable>(
    _ datagram: Datagram, from port: Int, in surroundings: inout Around
  ) {
    while let held = fragments.takeHeld(datagram, from: port) {
      resume(held.octets, held.offload, from: port, in: &surroundings)
    }
  }

  /// Processes a frame that is not its driver's any more, or never was, as if it came now.
  @inline(never)
  private mutating func resume<Around: Surroundings & ~Copyable>(
    _ octets: consuming [UInt8], _ offload: Offload, from port: Int,
    in surroundings: inout Around
  ) {
    var octets = octets
    var target: Int?
    var (length, offload) = (0, offload)
    octets.withUnsafeMutableBytes { bytes in
      var frame = Frame(bytes.mutableBytes, length: bytes.count, offload: offload)
      if case .send(let out) = process(&frame, from: port, in: &surroundings) { target = out }
      (length, offload) = (frame.length, frame.offload)
    }
    guard let target else { return }
    forwarding.emit(octets, length, offload, on: target, in: &surroundings)
  }

  // MARK: Time

  @inline(never)
  public mutating func advance<Around: Surroundings & ~Copyable>(
    in surroundings: inout Around
  ) -> Instant {
    announce(in: &surroundings)
    stage.expire(at: surroundings.seconds)
    fragments.expire(at: surroundings.now)
    while let refused = forwarding.takeRefused(at: surroundings.now) {
      guard !stage.expects(refused.key) else { continue }
      forwarding.tellLate(
        .portUnreachable, about: refused.octets, on: refused.port, in: &surroundings)
    }
    while let error = forwarding.takeUnanswered(in: &surroundings) {
      // About what was translated: as if it came from outside, it is translated back.
      resume(error.octets, Offload(), from: error.port, in: &surroundings)
    }
    let next = min(forwarding.advance(in: &surroundings), surroundings.now + 1_000_000_000)
    return announcements.left > 0 ? min(next, announcements.next) : next
  }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("received", stack.counters.received)
    body("malformed", stack.counters.malformed)
    body("answered", stack.counters.answered)
    body("refused", stack.counters.refused)
    stage.readCounters(body)
    body("fragmentsLost", fragments.lost)
    body("forwarded", forwarding.counters.forwarded)
    body("withoutRoute", forwarding.counters.withoutRoute)
    body("expired", forwarding.counters.expired)
    body("tooBig", forwarding.counters.tooBig)
    body("fragmented", forwarding.counters.fragmented)
    body("unresolved", forwarding.counters.unresolved)
  }
}
