public import Packets

/// Sends datagrams on to where the longest prefix leads, as RFC 1812 asks of a router: counts the
/// time to live down, finds the next hop's MAC, fragments IPv4 that allows it, tells senders what went
/// wrong.
public struct Forwarding {
  public struct Counters: Sendable {
    public var forwarded: UInt64 = 0
    public var withoutRoute: UInt64 = 0
    public var expired: UInt64 = 0
    public var tooBig: UInt64 = 0
    public var fragmented: UInt64 = 0
    public var unresolved: UInt64 = 0
  }

  struct Hop: Sendable {
    var port: Int
    /// nil where the destination itself is the neighbour.
    var via: IPv6Address?
    /// The destination is an address of the stage's.
    var isOwn = false
  }

  /// A frame whose next hop is being asked for (RFC 1122, section 2.3.2.2: the latest is kept).
  private struct Waiting {
    var hop: IPv6Address
    var port: Int
    var octets: [UInt8]
    var offload: Offload
    var since: Instant
    /// Through which port it came.
    var from: Int
    /// Its sender knows it by other endpoints.
    var isTranslated: Bool
  }

  /// A frame whose sender is not told yet that it was refused.
  struct Refused {
    var key: FlowKey
    var port: Int
    var octets: [UInt8]
    var since: Instant
  }

  public private(set) var counters = Counters()
  private var ports: [Configuration.Port] = []
  private var routes = RouteTable<Hop>()
  private var neighbours = NeighbourTable()
  private var waiting: [Waiting] = []
  /// The oldest first.
  private var refused: [Refused] = []
  private var allowance = Allowance.errors
  /// Of redirects, so that a host which heeds none takes no errors away.
  private var redirects = Allowance.errors

  private static let maximumWaiting = 16
  private static let waitingFor: Instant = 3_000_000_000
  private static let maximumKept = 2048
  /// RFC 5382, REQ-4: 6 s at least. Those that come when there are as many already get no answer, nor do
  /// those that are longer than a SYN with all options.
  private static let refusedAfter: Instant = 6_000_000_000
  private static let maximumRefused = 32
  private static let maximumRefusedOctets = 160

  public init() {}

  /// Takes over ports and routes; known neighbours stay, and what waits as long as its ports do.
  /// - Parameter own: addresses that are the function's besides its ports'.
  public mutating func configure(
    _ ports: [Configuration.Port], own: [(port: Int, address: IPv6Address)] = []
  ) {
    self.ports = ports
    waiting.removeAll { max($0.port, $0.from) >= ports.count }
    refused.removeAll { $0.port >= ports.count }
    routes = RouteTable()
    for (index, port) in ports.enumerated() {
      for address in port.addresses { routes.set(address, to: Hop(port: index, via: nil)) }
      for route in port.routes {
        routes.set(route.destination, to: Hop(port: index, via: route.via))
      }
    }
    // After all others, which may be as long. Ports' own are looked at where their network is known
    // to be meant: another length to look for would take a third more of a packet's time.
    for (port, address) in own where port < ports.count && !ports[port].owns(address) {
      routes.set(Prefix(address, length: 128), to: Hop(port: port, via: nil, isOwn: true))
    }
  }

  // MARK: Neighbours

  /// Looks whether a frame tells a neighbour's MAC, and sends what waited for it.
  public mutating func learn<S: Surroundings & ~Copyable>(
    from frame: borrowing Frame, on port: Int, in surroundings: inout S
  ) {
    guard port < ports.count, let ethernet = EthernetHeader(in: frame) else { return }
    // Another VLAN is another network.
    guard !ethernet.isTagged else { return }
    let address: IPv6Address
    let mac: MACAddress
    var overrides = true
    if ethernet.type == .arp {
      guard let packet = ARPPacket(in: frame, at: ethernet.length),
        packet.senderMAC == ethernet.source
      else { return }
      address = IPv6Address(packet.sender)
      mac = packet.senderMAC
    } else if ethernet.type == .ipv6, frame.head > ethernet.length + 6,
      frame.u8(at: ethernet.length + 6) == IPProtocol.icmpv6.rawValue,
      let datagram = Datagram(in: frame, ethernet),
      let message = NeighbourMessage(in: frame, datagram),
      datagram.isTransportRight(in: frame)
    {
      guard let link = message.linkAddress else { return }
      let isAdvertisement = message.kind == .advertisement
      address = isAdvertisement ? message.target : datagram.source
      mac = link
      overrides = !isAdvertisement || message.flags & NeighbourMessage.Flag.override != 0
    } else {
      return
    }
    guard !ports[port].owns(address),
      neighbours.learn(
        address, is: mac, port: port, at: surroundings.now, overrides: overrides)
    else { return }
    flush(address, port, mac, in: &surroundings)
  }

  private mutating func flush<S: Surroundings & ~Copyable>(
    _ hop: IPv6Address, _ port: Int, _ mac: MACAddress, in surroundings: inout S
  ) {
    var index = 0
    while index < waiting.count {
      guard waiting[index].hop == hop, waiting[index].port == port else {
        index += 1
        continue
      }
      let kept = waiting.remove(at: index)
      let own = ports[port].mac
      var octets = kept.octets
      var isTooLong = false
      octets.withUnsafeMutableBytes { bytes in
        var frame = Frame(bytes.mutableBytes, length: bytes.count, offload: kept.offload)
        frame.set(mac, at: 0)
        frame.set(own, at: 6)
        guard let ethernet = EthernetHeader(in: frame) else { return }
        isTooLong = Self.isTooLong(frame, ethernet.length, for: ports[port].mtu)
        if isTooLong { sendInParts(frame, ethernet, to: port, in: &surroundings) }
      }
      if isTooLong { continue }
      if emit(octets, octets.count, kept.offload, on: port, in: &surroundings) {
        counters.forwarded &+= 1
      } else {
        counters.unresolved &+= 1
      }
    }
  }

  /// Sends the first octets as a frame.
  @discardableResult @inline(never)
  func emit<S: Surroundings & ~Copyable>(
    _ octets: [UInt8], _ length: Int, _ offload: Offload, on port: Int, in surroundings: inout S
  ) -> Bool {
    surroundings.emit(on: port, payload: nil) { frame in
      octets.withUnsafeBytes { frame.fill(from: UnsafeRawBufferPointer(rebasing: $0[..<length])) }
      frame.offload = offload
    }
  }

  private func ask<S: Surroundings & ~Copyable>(
    for hop: IPv6Address, on port: Int, in surroundings: inout S
  ) {
    let own = ports[port]
    if let target = hop.ipv4 {
      guard let sender = own.address(like: hop)?.ipv4 else { return }
      _ = surroundings.emit(on: port, payload: nil) { frame in
        frame.setLength(14 + ARPPacket.length)
        frame.offload = Offload()
        EthernetHeader(destination: .broadcast, source: own.mac, type: .arp).write(to: &frame)
        ARPPacket(.request, senderMAC: own.mac, sender: sender, target: target)
          .write(to: &frame, at: 14)
      }
      return
    }
    let sender = own.address(like: hop) ?? IPv6Address.linkLocal(own.mac)
    let group = hop.solicitedNode
    _ = surroundings.emit(on: port, payload: nil) { frame in
      frame.setLength(14 + IPv6Header.length + NeighbourMessage.length)
      frame.offload = Offload()
      EthernetHeader(
        destination: MACAddress.multicast(group), source: own.mac, type: .ipv6
      ).write(to: &frame)
      IPv6Header(
        source: sender, destination: group, nextHeader: .icmpv6,
        payload: NeighbourMessage.length, hopLimit: 255
      ).write(to: &frame, at: 14)
      NeighbourMessage(.solicitation, target: hop, linkAddress: own.mac)
        .write(to: &frame, at: 14 + IPv6Header.length)
      frame.completeICMPv6(
        at: 14 + IPv6Header.length, count: NeighbourMessage.length, from: sender, to: group)
    }
  }

  // MARK: Datagrams

  /// Sends a datagram on that came through `port`, and tells its sender where there is a better way.
  @_lifetime(frame: copy frame)
  mutating func forward<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ headers: inout Headers,
    to destination: IPv6Address, by hop: Hop?, from port: Int, in surroundings: inout S
  ) -> Verdict {
    if let verdict = admit(&frame, &headers, by: hop, from: port, in: &surroundings) {
      return verdict
    }
    guard let hop else { return .drop }
    if hop.port == port {
      redirect(frame, headers, to: hop.via ?? destination, on: port, in: &surroundings)
    }
    return send(
      &frame, &headers, to: destination, by: hop, from: port, isTranslated: false,
      in: &surroundings)
  }

  func hop(to destination: IPv6Address) -> Hop? { routes.find(destination) }

  /// Whether a destination to which this hop leads is the function's own (RFC 1812, section 5.2.3).
  func isOwn(_ destination: IPv6Address, by hop: Hop) -> Bool {
    guard hop.via == nil else { return false }
    if hop.isOwn { return true }
    for own in ports[hop.port].addresses where own.address == destination {
      return !destination.isLinkLocal
    }
    return false
  }

  /// Refuses a datagram that may go nowhere. Here and in ``admit(_:_:_:by:from:in:)`` nothing of it
  /// was changed yet: errors quote what their receiver has sent.
  @_lifetime(frame: copy frame)
  mutating func refuse<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ headers: inout Headers, from port: Int,
    in surroundings: inout S
  ) -> Verdict? {
    guard headers.datagram.destination.isHost, !headers.datagram.destination.isLinkLocal,
      !headers.datagram.source.isLinkLocal
    else { return .drop }
    guard headers.datagram.hopLimit <= 1 else { return nil }
    counters.expired &+= 1
    return tell(.timeExceeded, &frame, &headers, on: port, in: &surroundings)
  }

  /// Refuses a datagram that can't go to its next hop. IPv4 that is too long and may be fragmented can
  /// (RFC 1812, section 4.2.2.7), unless it is only a beginning or segments that a card was to make.
  @_lifetime(frame: copy frame)
  mutating func admit<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ headers: inout Headers, by hop: Hop?,
    from port: Int, in surroundings: inout S
  ) -> Verdict? {
    guard let hop else {
      counters.withoutRoute &+= 1
      return tell(.noRoute, &frame, &headers, on: port, in: &surroundings)
    }
    let mtu = ports[hop.port].mtu
    guard frame.packetLength(headers.datagram) > mtu else { return nil }
    guard
      headers.datagram.version == .ipv6 || frame.u16(at: headers.datagram.offset + 6) & 0x4000 != 0
    else {
      if frame.offload.segmentation == Offload.Segmentation.none, frame.head == frame.length {
        return nil
      }
      counters.tooBig &+= 1
      return .drop
    }
    counters.tooBig &+= 1
    return tell(.tooBig(mtu: mtu), &frame, &headers, on: port, in: &surroundings)
  }

  /// Sends an admitted datagram to its next hop, or has it wait for that one's MAC.
  ///
  /// - Parameters:
  ///   - from: the port through which it came.
  ///   - isTranslated: its sender knows it by other endpoints than the frame now has.
  @_lifetime(frame: copy frame)
  mutating func send<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ headers: inout Headers, to destination: IPv6Address, by hop: Hop,
    from: Int, isTranslated: Bool, in surroundings: inout S
  ) -> Verdict {
    countDown(&frame, headers.datagram.version, at: headers.datagram.offset)
    let neighbour = hop.via ?? destination
    let mac: MACAddress
    switch neighbours.find(neighbour, port: hop.port, at: surroundings.now) {
    case .known(let found): mac = found
    case .stale(let found):
      mac = found
      ask(for: neighbour, on: hop.port, in: &surroundings)
    case let answer:
      // A directed broadcast, for which nobody answers, goes nowhere (RFC 2644).
      guard !ports[hop.port].isBroadcast(neighbour) else { return .drop }
      if answer == .unknown { ask(for: neighbour, on: hop.port, in: &surroundings) }
      keep(
        frame, for: neighbour, hop.port, from: from, isTranslated: isTranslated,
        at: surroundings.now)
      return .drop
    }
    frame.set(mac, at: 0)
    frame.set(ports[hop.port].mac, at: 6)
    if Self.isTooLong(frame, headers.ethernet.length, for: ports[hop.port].mtu) {
      sendInParts(frame, headers.ethernet, to: hop.port, in: &surroundings)
      return .drop
    }
    counters.forwarded &+= 1
    return .send(port: hop.port)
  }

  /// Tells the sender of a datagram why it does not arrive, if that may be told now.
  @_lifetime(frame: copy frame)
  public mutating func tell<S: Surroundings & ~Copyable>(
    _ error: ICMPError, _ frame: inout Frame, _ headers: inout Headers,
    on port: Int, in surroundings: inout S
  ) -> Verdict {
    guard headers.datagram.mayBeAnsweredByError(in: frame),
      let source = ports[port].address(like: headers.datagram.source),
      allowance.take(at: surroundings.now),
      frame.becomeError(
        error, about: headers.datagram, headers.ethernet, from: source, mac: ports[port].mac)
    else { return .drop }
    return .send(port: port)
  }

  /// Tells a host of the port's network by which neighbour of its own a datagram goes on (RFC 1812,
  /// section 5.2.7.2). What has a source route has not come so far.
  @inline(never)
  private mutating func redirect<S: Surroundings & ~Copyable>(
    _ frame: borrowing Frame, _ headers: Headers, to neighbour: IPv6Address, on port: Int,
    in surroundings: inout S
  ) {
    let source = headers.datagram.source
    guard let gateway = neighbour.ipv4, neighbour != source, !ports[port].isBroadcast(neighbour),
      let own = ports[port].addresses.first(where: {
        $0.address.ipv4 != nil && $0.contains(source) && $0.contains(neighbour)
      }),
      headers.datagram.mayBeAnsweredByError(in: frame), redirects.take(at: surroundings.now)
    else { return }
    let start = headers.ethernet.length
    let kept = min(frame.head, start + ICMPError.maximumQuoteV4)
    var octets = [UInt8](
      repeating: 0, count: kept + IPv4Header.minimumLength + ICMPHeader.length)
    var length = 0
    octets.withUnsafeMutableBytes { bytes in
      _ = frame.copy(to: UnsafeMutableRawBufferPointer(rebasing: bytes[..<kept]))
      var answer = Frame(bytes.mutableBytes, length: kept)
      guard
        answer.becomeError(
          .redirect(to: gateway), about: headers.datagram, headers.ethernet, from: own.address,
          mac: ports[port].mac)
      else { return }
      length = answer.length
    }
    emit(octets, length, Offload(), on: port, in: &surroundings)
  }

  /// Asks again for next hops that did not answer.
  /// - Returns: when to be called again at the latest.
  public mutating func advance<S: Surroundings & ~Copyable>(in surroundings: inout S) -> Instant {
    let now = surroundings.now
    for kept in waiting {
      guard case .unknown = neighbours.find(kept.hop, port: kept.port, at: now) else { continue }
      ask(for: kept.hop, on: kept.port, in: &surroundings)
    }
    return now + (waiting.isEmpty ? Self.waitingFor : Self.waitingFor / 3)
  }

  /// Tells who has sent something to a next hop that did not answer for a while (RFC 1812, section
  /// 3.3.2).
  /// - Returns: the next error that is still to be translated back, about what goes out of a port; it
  ///   has that port's MAC, as if it came from there.
  mutating func takeUnanswered<S: Surroundings & ~Copyable>(
    in surroundings: inout S
  ) -> (octets: [UInt8], port: Int)? {
    var told: IPv6Address?
    while let kept = waiting.first, surroundings.now - kept.since >= Self.waitingFor {
      waiting.removeFirst()
      counters.unresolved &+= 1
      // Of those that wait for the same hop one is enough, where they are its sender's own.
      guard told != kept.hop || kept.isTranslated else { continue }
      guard kept.isTranslated else {
        told = kept.hop
        tellLate(.addressUnreachable, about: kept.octets, on: kept.from, in: &surroundings)
        continue
      }
      if let octets = error(
        .addressUnreachable, about: kept.octets, on: kept.port, to: ports[kept.port].mac,
        in: &surroundings)
      {
        return (octets, kept.port)
      }
    }
    return nil
  }

  /// Takes note of a datagram whose sender is to be told later.
  mutating func refuseLater(
    _ frame: borrowing Frame, _ key: FlowKey, from port: Int, at now: Instant
  ) {
    guard refused.count < Self.maximumRefused, frame.head == frame.length,
      frame.length <= Self.maximumRefusedOctets
    else { return }
    // Said again.
    for other in refused where other.key == key { return }
    var octets = [UInt8](repeating: 0, count: frame.length)
    _ = octets.withUnsafeMutableBytes { frame.copy(to: $0) }
    refused.append(Refused(key: key, port: port, octets: octets, since: now))
  }

  /// What was refused long enough ago, and is forgotten by this.
  mutating func takeRefused(at now: Instant) -> Refused? {
    guard let first = refused.first, now - first.since >= Self.refusedAfter else { return nil }
    return refused.removeFirst()
  }

  /// Tells the sender of a datagram, of which there is a copy, by the port through which it came.
  mutating func tellLate<S: Surroundings & ~Copyable>(
    _ error: ICMPError, about octets: [UInt8], on port: Int, in surroundings: inout S
  ) {
    guard let octets = self.error(error, about: octets, on: port, to: nil, in: &surroundings)
    else { return }
    emit(octets, octets.count, Offload(), on: port, in: &surroundings)
  }

  /// An error about a datagram, of which there is a copy, if that may be told now.
  ///
  /// - Parameters:
  ///   - port: whose address tells it; it may not be there any more.
  ///   - mac: whom to send it to, if not to the one that the datagram came from.
  @inline(never)
  private mutating func error<S: Surroundings & ~Copyable>(
    _ error: ICMPError, about octets: [UInt8], on port: Int, to mac: MACAddress?,
    in surroundings: inout S
  ) -> [UInt8]? {
    guard port < ports.count else { return nil }
    // With room for the headers of an error.
    var result = octets + [UInt8](repeating: 0, count: 64)
    var length = 0
    result.withUnsafeMutableBytes { bytes in
      var frame = Frame(bytes.mutableBytes, length: octets.count)
      var headers = Headers()
      guard let ethernet = EthernetHeader(in: frame), headers.datagram.read(frame, ethernet) else {
        return
      }
      headers.ethernet = ethernet
      if case .send = tell(error, &frame, &headers, on: port, in: &surroundings) {
        if let mac { frame.set(mac, at: 0) }
        length = frame.length
      }
    }
    return length > 0 ? Array(result[..<length]) : nil
  }

  /// Sends a frame that is ready but for its length.
  private mutating func sendInParts<S: Surroundings & ~Copyable>(
    _ frame: borrowing Frame, _ ethernet: EthernetHeader, to port: Int, in surroundings: inout S
  ) {
    var octets = [UInt8](repeating: 0, count: frame.head)
    _ = octets.withUnsafeMutableBytes { frame.copy(to: $0) }
    guard
      let parts = Fragmentation(
        octets, frame.offload, at: ethernet.length, mtu: ports[port].mtu)
    else {
      counters.tooBig &+= 1
      return
    }
    for index in 0..<parts.count {
      // Without one of them the others are nothing.
      guard surroundings.emit(on: port, payload: nil, { parts.write(index, to: &$0) }) else {
        counters.tooBig &+= 1
        return
      }
    }
    counters.fragmented &+= 1
    counters.forwarded &+= 1
  }

  /// Whether an admitted frame has to go in parts; segments of one fit.
  private static func isTooLong(_ frame: borrowing Frame, _ start: Int, for mtu: Int) -> Bool {
    frame.offload.segmentation == Offload.Segmentation.none && frame.length - start > mtu
  }

  @_lifetime(frame: copy frame)
  private func countDown(_ frame: inout Frame, _ version: Datagram.Version, at offset: Int) {
    switch version {
    case .ipv4:
      let old = frame.u16(at: offset + 8)
      let new = old - 0x100
      frame.set(new, at: offset + 8)
      frame.set(
        Checksum.update(frame.u16(at: offset + 10), from: old, to: new),
        at: offset + IPv4Header.checksumOffset)
    case .ipv6: frame.set(frame.u8(at: offset + 7) - 1, at: offset + 7)
    }
  }

  private mutating func keep(
    _ frame: borrowing Frame, for hop: IPv6Address, _ port: Int, from: Int, isTranslated: Bool,
    at now: Instant
  ) {
    guard frame.length <= Self.maximumKept, frame.head == frame.length else {
      counters.unresolved &+= 1
      return
    }
    if waiting.count == Self.maximumWaiting {
      waiting.removeFirst()
      counters.unresolved &+= 1
    }
    var octets = [UInt8](repeating: 0, count: frame.length)
    _ = octets.withUnsafeMutableBytes { frame.copy(to: $0) }
    waiting.append(
      Waiting(
        hop: hop, port: port, octets: octets, offload: frame.offload, since: now, from: from,
        isTranslated: isTranslated))
  }
}

extension Frame {
  /// Of the IP packet, or of one segment of what the card is to segment, in octets.
  ///
  /// Who sent a segmented frame may have said any length of its headers, which is a hint (Virtual I/O
  /// Device 1.1, 5.1.6.2): the kernel says how much of a frame is in its first piece of memory, and
  /// that is all of it below a page. The next card is told the right one.
  @_lifetime(self: copy self)
  fileprivate mutating func packetLength(_ datagram: Datagram) -> Int {
    guard offload.segmentation != Offload.Segmentation.none else { return length - datagram.offset }
    let header: Int
    switch datagram.protocol {
    case .tcp where datagram.present(in: self) >= TCPHeader.minimumLength:
      header = Int(u8(at: datagram.transport + 12) >> 4) * 4
    case .udp: header = UDPHeader.length
    default: return length - datagram.offset
    }
    let end = datagram.transport + header
    offload.headerLength = UInt16(truncatingIfNeeded: end)
    return end - datagram.offset + Int(offload.segmentSize)
  }
}

extension Configuration.Port {
  /// An own address of the same version as another one, best of its network.
  func address(like other: IPv6Address) -> IPv6Address? {
    var found: IPv6Address?
    for own in addresses where (own.address.ipv4 == nil) == (other.ipv4 == nil) {
      if own.contains(other) { return own.address }
      if found == nil { found = own.address }
    }
    return found
  }
}
