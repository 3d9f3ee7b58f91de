public import Packets

/// What was read of a frame. It is handed on in place: copies would take longer than most of what is
/// done with it.
public struct Headers: Sendable {
  public var ethernet = EthernetHeader(
    destination: .broadcast, source: .broadcast, type: EtherType(0))
  public var datagram = Datagram()

  public init() {}
}

/// What every function does for the addresses that it owns: answers ARP, neighbour solicitations
/// and pings, and refuses what nobody listens to.
public struct LocalStack: Sendable {
  public struct Counters: Sendable {
    public var received: UInt64 = 0
    public var malformed: UInt64 = 0
    public var answered: UInt64 = 0
    public var refused: UInt64 = 0
    public var ignored: UInt64 = 0
  }

  public var ports: [Configuration.Port] = []
  /// Neighbours are told that it forwards.
  var isRouter = false
  private var allowance = Allowance.errors
  public var counters = Counters()

  public init() {}

  /// What a frame is for the function.
  public enum Reception: Sendable {
    /// Nothing is left to decide.
    case done(Verdict)
    /// For an address of the port's, and neither a query nor a ping.
    case local
    /// For another address, sent to the port's MAC.
    case transit
    /// For whomever, sent to the port's MAC: options of its header make no sense.
    case malformed
  }

  @_lifetime(frame: copy frame)
  public mutating func receive(
    _ frame: inout Frame, from port: Int, into headers: inout Headers
  ) -> Reception {
    counters.received &+= 1
    guard port < ports.count else { return .done(.drop) }
    guard let ethernet = EthernetHeader(in: frame), !ethernet.source.isMulticast else {
      counters.malformed &+= 1
      return .done(.drop)
    }
    let mac = ports[port].mac
    guard ethernet.destination == mac || ethernet.destination.isMulticast else {
      counters.ignored &+= 1
      return .done(.drop)
    }
    if ethernet.type == .arp { return .done(answerARP(&frame, from: port, ethernet)) }
    guard ethernet.type == .ipv4 || ethernet.type == .ipv6 else {
      counters.ignored &+= 1
      return .done(.drop)
    }
    headers.ethernet = ethernet
    guard headers.datagram.read(frame, ethernet) else {
      counters.malformed &+= 1
      return headers.datagram.malformedOption > 0 && !headers.datagram.isSourceRouted
        && ethernet.destination == mac ? .malformed : .done(.drop)
    }
    // Who chooses the way goes around rules and filters (RFC 7126, sections 4.3.5 and 4.4.5; RFC
    // 5095, section 3).
    guard !headers.datagram.isSourceRouted else {
      counters.ignored &+= 1
      return .done(.drop)
    }
    if headers.datagram.protocol == .icmpv6, headers.datagram.version == .ipv6,
      let message = NeighbourMessage(in: frame, headers.datagram)
    {
      return .done(answerNeighbour(message, &frame, from: port, ethernet, headers.datagram))
    }
    // What comes by multicast or broadcast is nothing that a function serves or forwards.
    guard ethernet.destination == mac, headers.datagram.source.isHost else {
      counters.ignored &+= 1
      return .done(.drop)
    }
    guard ports[port].owns(headers.datagram.destination) else { return .transit }
    if let verdict = answerEcho(&frame, from: port, ethernet, headers.datagram) {
      return .done(verdict)
    }
    return .local
  }

  @_lifetime(frame: copy frame)
  private mutating func answerARP(
    _ frame: inout Frame, from port: Int, _ ethernet: EthernetHeader
  ) -> Verdict {
    guard let query = ARPPacket(in: frame, at: ethernet.length) else {
      counters.malformed &+= 1
      return .drop
    }
    guard query.operation == .request, ports[port].owns(IPv6Address(query.target)) else {
      counters.ignored &+= 1
      return .drop
    }
    let mac = ports[port].mac
    let header = EthernetHeader(
      destination: query.senderMAC, source: mac, type: .arp, tag: ethernet.tag)
    frame.offload = Offload()
    header.write(to: &frame)
    ARPPacket(
      .reply, senderMAC: mac, sender: query.target, targetMAC: query.senderMAC,
      target: query.sender
    ).write(to: &frame, at: header.length)
    counters.answered &+= 1
    return .send(port: port)
  }

  @_lifetime(frame: copy frame)
  private mutating func answerNeighbour(
    _ message: NeighbourMessage, _ frame: inout Frame, from port: Int, _ ethernet: EthernetHeader,
    _ datagram: Datagram
  ) -> Verdict {
    let start = ethernet.length
    let needed = start + IPv6Header.length + NeighbourMessage.length
    guard message.kind == .solicitation, ports[port].owns(message.target),
      frame.capacity >= needed, datagram.isTransportRight(in: frame)
    else {
      counters.ignored &+= 1
      return .drop
    }
    // Who asks whether his own address is free has none: the answer goes to all.
    let isProbe = datagram.source == .unspecified
    let receiver = isProbe ? IPv6Address.allNodes : datagram.source
    let mac = ports[port].mac
    frame.setLength(needed)
    // Nothing is left of what the card was to do with the question.
    frame.offload = Offload()
    EthernetHeader(
      destination: isProbe
        ? MACAddress.multicast(receiver) : (message.linkAddress ?? ethernet.source),
      source: mac, type: .ipv6, tag: ethernet.tag
    ).write(to: &frame)
    IPv6Header(
      source: message.target, destination: receiver, nextHeader: .icmpv6,
      payload: NeighbourMessage.length, hopLimit: 255
    ).write(to: &frame, at: start)
    NeighbourMessage(
      .advertisement,
      flags: NeighbourMessage.Flag.override | (isProbe ? 0 : NeighbourMessage.Flag.solicited)
        | (isRouter ? NeighbourMessage.Flag.router : 0),
      target: message.target, linkAddress: mac
    ).write(to: &frame, at: start + IPv6Header.length)
    frame.completeICMPv6(
      at: start + IPv6Header.length, count: NeighbourMessage.length, from: message.target,
      to: receiver)
    counters.answered &+= 1
    return .send(port: port)
  }

  /// nil where it is no ping.
  @_lifetime(frame: copy frame)
  mutating func answerEcho(
    _ frame: inout Frame, from port: Int, _ ethernet: EthernetHeader, _ datagram: Datagram
  ) -> Verdict? {
    let offset = datagram.transport
    guard !datagram.isFragment, let icmp = ICMPHeader(in: frame, at: offset),
      datagram.transportLength >= ICMPHeader.length, icmp.code == 0
    else { return nil }
    let reply: UInt8
    switch (datagram.version, datagram.protocol, icmp.type) {
    case (.ipv4, .icmp, ICMPHeader.V4.echoRequest): reply = ICMPHeader.V4.echoReply
    case (.ipv6, .icmpv6, ICMPHeader.V6.echoRequest): reply = ICMPHeader.V6.echoReply
    default: return nil
    }
    frame.turnAround(ethernet, datagram)
    frame.set(reply, at: offset)
    // The addresses of the pseudo-header have only changed places; nor is the type part of a sum that the
    // card is to complete.
    if frame.offload.isPartial, Int(frame.offload.checksumStart) == offset {
      frame.offload = .partial(start: offset, offset: ICMPHeader.checksumOffset)
    } else {
      frame.set(
        Checksum.update(
          icmp.checksum, from: UInt16(icmp.type) << 8, to: UInt16(reply) << 8),
        at: offset + ICMPHeader.checksumOffset)
      frame.offload = Offload()
    }
    counters.answered &+= 1
    return .send(port: port)
  }

  /// Refuses a datagram to a closed UDP port (RFC 1122, section 4.1.3.1; RFC 4443, section 3.1), as
  /// often as errors are allowed: who gives another one's address makes him little trouble.
  @_lifetime(frame: copy frame)
  public mutating func refuseDatagram(
    _ frame: inout Frame, from port: Int, _ ethernet: EthernetHeader, _ datagram: Datagram,
    at now: Instant
  ) -> Verdict {
    guard datagram.mayBeAnsweredByError(in: frame), allowance.take(at: now),
      frame.becomeError(
        .portUnreachable, about: datagram, ethernet, from: datagram.destination,
        mac: ports[port].mac)
    else { return .drop }
    counters.refused &+= 1
    return .send(port: port)
  }
}

extension Frame {
  /// Sends a frame back: addresses change places, the time to live begins anew.
  @_lifetime(self: copy self)
  mutating func turnAround(_ ethernet: EthernetHeader, _ datagram: Datagram) {
    set(ethernet.source, at: 0)
    set(ethernet.destination, at: 6)
    let start = datagram.offset
    switch datagram.version {
    case .ipv4:
      let source = ipv4(at: start + 12)
      set(ipv4(at: start + 16), at: start + 12)
      set(source, at: start + 16)
      let old = u16(at: start + 8)
      let new = 64 << 8 | old & 0xff
      set(new, at: start + 8)
      set(
        Checksum.update(u16(at: start + 10), from: old, to: new),
        at: start + IPv4Header.checksumOffset)
    case .ipv6:
      let source = ipv6(at: start + 8)
      set(ipv6(at: start + 24), at: start + 8)
      set(source, at: start + 24)
      set(UInt8(64), at: start + 7)
    }
  }

  @_lifetime(self: copy self)
  mutating func completeICMPv6(
    at offset: Int, count: Int, from source: IPv6Address, to destination: IPv6Address
  ) {
    set(UInt16(0), at: offset + ICMPHeader.checksumOffset)
    var sum = Checksum.pseudoHeader(source, destination, protocol: .icmpv6, length: count)
    sum.add(self.sum(from: offset, count: count))
    set(sum.value, at: offset + ICMPHeader.checksumOffset)
  }
}
