public import Packets

/// A function that forwards between its ports what its stage lets pass, with the endpoints that the
/// stage gives it.
public struct Forwarder<S: Stage & ~Copyable>: NetworkFunction, ~Copyable {
  public var stage = S()
  private var stack = LocalStack()
  private var forwarding = Forwarding()
  private var fragments = FragmentTable()
  private var outside = 0

  public init() {}

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
    stage.take(try S.read(configuration, outside: outside), in: &surroundings)
    self.outside = outside
    forwarding.configure(configuration.ports)
    stack.ports = configuration.ports
    for own in stage.addresses where own.port < stack.ports.count {
      stack.ports[own.port].addresses.append(Prefix(own.address, length: 128))
    }
  }

  @_lifetime(frame: copy frame)
  public mutating func process<Around: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout Around
  ) -> Verdict {
    forwarding.learn(from: frame, on: port, in: &surroundings)
    let isLocal: Bool
    let ethernet: EthernetHeader
    let datagram: Datagram
    switch stack.receive(&frame, from: port) {
    case .done(let verdict): return verdict
    case .local(let header, let found): (isLocal, ethernet, datagram) = (true, header, found)
    case .transit(let header, let found): (isLocal, ethernet, datagram) = (false, header, found)
    }
    guard !isLocal || stage.takes(datagram.destination, from: port) else {
      return refuseLocal(&frame, ethernet, datagram, from: port, in: &surroundings)
    }
    if let verdict = forwarding.refuse(&frame, ethernet, datagram, from: port, in: &surroundings) {
      return verdict
    }
    let hop = isLocal ? nil : forwarding.hop(to: datagram.destination)
    if stage.isTransparent {
      return forwarding.forward(
        &frame, ethernet, datagram, to: datagram.destination, by: hop, from: port,
        in: &surroundings)
    }
    if datagram.isLaterFragment {
      return passFragment(&frame, ethernet, datagram, by: hop, from: port, in: &surroundings)
    }
    var packet = passage(of: frame, datagram, from: port, to: hop?.port, at: surroundings.seconds)
    let key = packet.key
    switch stage.pass(&packet) {
    case .pass: break
    case .drop: return .drop
    case .refuse(let error):
      return forwarding.tell(error, &frame, ethernet, datagram, on: port, in: &surroundings)
    case .reset:
      guard let segment = packet.segment else { return .drop }
      return frame.becomeReset(of: segment, in: datagram, ethernet, mac: stack.ports[port].mac)
        ? .send(port: port) : .drop
    }
    let destination = packet.key.destination
    let isMoved = destination != key.destination
    // For an own address, and nobody gave it another destination.
    guard !isLocal || isMoved else {
      return refuseLocal(&frame, ethernet, datagram, from: port, in: &surroundings)
    }
    let next = isMoved ? forwarding.hop(to: destination) : hop
    if let verdict = forwarding.admit(
      &frame, ethernet, datagram, by: next, from: port, in: &surroundings)
    {
      return verdict
    }
    guard let next else { return .drop }
    if packet.key != key {
      guard frame.translate(datagram, isError: packet.kind == .error, from: key, to: packet.key)
      else { return .drop }
    }
    let verdict = forwarding.send(
      &frame, datagram, to: destination, by: next, in: &surroundings)
    if datagram.isFragment {
      fragments.know(datagram, from: port, packet.key, at: surroundings.now)
      sendHeld(datagram, from: port, in: &surroundings)
    }
    return verdict
  }

  private func passage(
    of frame: borrowing Frame, _ datagram: Datagram, from port: Int, to exit: Int?, at now: UInt32
  ) -> Passage {
    func passage(
      _ key: FlowKey, _ kind: Passage.Kind, _ segment: TCPHeader? = nil
    ) -> Passage {
      Passage(key, kind, segment, from: port, to: exit, isInward: port == outside, at: now)
    }
    switch FlowPacket(in: frame, datagram) {
    case .flow(let key, let segment):
      let opens: Bool
      if let segment {
        opens = segment.flags.intersection([.syn, .ack, .rst, .fin]) == .syn
      } else {
        opens = datagram.isOpening(in: frame)
      }
      return passage(key, opens ? .opening : .following, segment)
    case .error(let quoted): return passage(quoted.reversed, .error)
    case .other:
      return passage(
        FlowKey(
          source: datagram.source, destination: datagram.destination, sourcePort: 0,
          destinationPort: 0, protocol: datagram.protocol), .other)
    }
  }

  @_lifetime(frame: copy frame)
  private mutating func refuseLocal<Around: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, from port: Int,
    in surroundings: inout Around
  ) -> Verdict {
    stack.counters.refused &+= 1
    guard !stage.isSilent else { return .drop }
    return forwarding.tell(
      .portUnreachable, &frame, ethernet, datagram, on: port, in: &surroundings)
  }

  // MARK: Fragments

  /// A later fragment goes as its first one went; until that has come, it waits (RFC 4787, REQ-14).
  @_lifetime(frame: copy frame)
  private mutating func passFragment<Around: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram,
    by hop: Forwarding.Hop?, from port: Int, in surroundings: inout Around
  ) -> Verdict {
    // What would overwrite the flags that were judged (RFC 3128).
    guard datagram.protocol != .tcp || datagram.fragmentOffset >= TCPHeader.minimumLength else {
      return .drop
    }
    guard let way = fragments.way(of: datagram, from: port, at: surroundings.now) else {
      fragments.hold(frame, datagram, from: port, at: surroundings.now)
      return .drop
    }
    let next =
      way.destination == datagram.destination && hop != nil
      ? hop : forwarding.hop(to: way.destination)
    if let verdict = forwarding.admit(
      &frame, ethernet, datagram, by: next, from: port, in: &surroundings)
    {
      return verdict
    }
    guard let next else { return .drop }
    frame.readdress(datagram, from: way.source, to: way.destination)
    return forwarding.send(
      &frame, datagram, to: way.destination, by: next, in: &surroundings)
  }

  /// Sends fragments on that came before their first.
  private mutating func sendHeld<Around: Surroundings & ~Copyable>(
    _ datagram: Datagram, from port: Int, in surroundings: inout Around
  ) {
    while let held = fragments.takeHeld(datagram, from: port) {
      var octets = held.octets
      var target: Int?
      var (length, offload) = (0, Offload())
      octets.withUnsafeMutableBytes { bytes in
        var frame = Frame(bytes.mutableBytes, length: bytes.count, offload: held.offload)
        if case .send(let out) = process(&frame, from: port, in: &surroundings) { target = out }
        (length, offload) = (frame.length, frame.offload)
      }
      guard let target else { continue }
      _ = surroundings.emit(on: target, payload: nil) { frame in
        octets.withUnsafeBytes {
          frame.fill(from: UnsafeRawBufferPointer(rebasing: $0[..<length]))
        }
        frame.offload = offload
      }
    }
  }

  // MARK: Time

  public mutating func advance<Around: Surroundings & ~Copyable>(
    in surroundings: inout Around
  ) -> Instant {
    stage.expire(at: surroundings.seconds)
    fragments.expire(at: surroundings.now)
    return min(forwarding.advance(at: surroundings.now), surroundings.now + 1_000_000_000)
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
    body("unresolved", forwarding.counters.unresolved)
  }
}
