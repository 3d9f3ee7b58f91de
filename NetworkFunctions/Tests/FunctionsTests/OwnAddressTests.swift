import Functions
import Packets
import TestFrames
import Testing

/// What forwarding functions do with what is for themselves.
@Suite struct OwnAddressTests {
  /// A datagram of any protocol, whose payload means nothing.
  static func datagram(_ protocol: UInt8, fragment: UInt16 = 0x4000) -> [UInt8] {
    withFrame(Sample.udp(to: Sample.left)) { frame in
      var header = IPv4Header(
        source: Sample.client, destination: Sample.left, protocol: IPProtocol(`protocol`),
        payload: 11)
      header.fragment = fragment
      header.write(to: &frame, at: 14)
    }
  }

  /// An answer to nothing.
  static let error = NAT44Tests.error(
    about: Sample.udp(from: Sample.left, to: Sample.server), from: Sample.client, to: Sample.left,
    (Sample.clientMAC, Sample.leftMAC))

  @Test(
    "RFC 1812 5.2.7.1, RFC 1122 3.2.2: what is told of what is not served",
    arguments: [
      (Sample.udp(to: Sample.left), 3), (Sample.tcp(to: Sample.left, flags: .syn), 3),
      (Self.datagram(47), 2),
      // Answers, errors and queries that are not answered; what is in parts.
      (Sample.echo(0, to: Sample.left), nil), (Sample.echo(13, to: Sample.left), nil),
      (Self.error, nil), (Self.datagram(17, fragment: 0x2000), nil),
      (Self.datagram(17, fragment: 0x0008), nil), (Self.datagram(47, fragment: 0x2000), nil),
    ] as [([UInt8], UInt16?)])
  func refusals(octets: [UInt8], code: UInt16?) throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    let (verdict, answer) = router.process(octets, from: 0, &surroundings)
    #expect(verdict == (code == nil ? Verdict.drop : .send(port: 0)))
    guard let code else { return }
    #expect(
      Seen(answer)
        == Seen(
          macs: [Sample.clientMAC, Sample.leftMAC], source: IPv6Address(Sample.left),
          destination: IPv6Address(Sample.client), hopLimit: 64, protocol: .icmp, first: 3,
          second: code, isRight: true))
    #expect(Array(answer[38..<42]) == [0, 0, 0, 0])
  }

  @Test(
    "RFC 4443 3.4: an unrecognised next header is told by its place",
    arguments: [([47], UInt8(6)), ([60, 60, 47], 48), ([59], nil)] as [([UInt8], UInt8?)])
  func nextHeaders(chain: [UInt8], place: UInt8?) throws {
    var surroundings = TestSurroundings()
    var router = Router()
    let own = IPv6Address(0x2001_0db8_0000_0001, 1)
    try router.configure(
      Configuration(ports: [.init(mac: Sample.leftMAC, addresses: [Prefix(own, length: 64)])]),
      in: &surroundings)
    let octets = withFrame([]) { frame in
      let options = (chain.count - 1) * 8
      frame.setLength(54 + options + 8)
      EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv6)
        .write(to: &frame)
      IPv6Header(
        source: IPv6Address(0x2001_0db8_0000_0001, 2), destination: own,
        nextHeader: IPProtocol(chain[0]), payload: options + 8
      ).write(to: &frame, at: 14)
      for (index, next) in chain.dropFirst().enumerated() {
        frame.set(UInt32(next) << 24 | 0x0104, at: 54 + 8 * index)
      }
    }
    let (verdict, answer) = router.process(octets, from: 0, &surroundings)
    #expect(verdict == (place == nil ? .drop : .send(port: 0)))
    guard let place else { return }
    #expect(Array(answer[54..<56]) == [4, 1])
    #expect(Array(answer[58..<62]) == [0, 0, 0, place])
    #expect(Seen(answer)?.isRight == true)
  }

  @Test("RFC 1812 5.2.3: another port's address is the router's own")
  func otherPorts() throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    var ping = Sample.echo(to: Sample.right)
    // 4.2.2.9: with any time to live.
    ping[22] = 1
    ping = RouterRequirementTests.resummed(ping)
    let (verdict, octets) = router.process(ping, from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(
      Seen(octets)
        == Seen(
          macs: [Sample.clientMAC, Sample.leftMAC], source: IPv6Address(Sample.right),
          destination: IPv6Address(Sample.client), hopLimit: 64, protocol: .icmp, first: 0,
          second: 0, isRight: true))
    let refused = router.process(Sample.udp(to: Sample.right), from: 0, &surroundings)
    #expect(refused.verdict == .send(port: 0))
    #expect(Seen(refused.octets)?.second == 3)
    // Nobody is asked who has it.
    #expect(surroundings.emitted.isEmpty)
  }

  @Test("RFC 1812 5.2.3: so is a NAT's, where nothing turns around there")
  func translators() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let ping = nat.process(Sample.echo(to: Sample.right), from: 0, &surroundings)
    #expect(ping.verdict == .send(port: 0))
    #expect(Seen(ping.octets)?.first == 0)
    let datagram = nat.process(
      Sample.udp(to: Sample.right, ports: (6000, 6001)), from: 0, &surroundings)
    #expect(datagram.verdict == .drop)
    #expect(surroundings.emitted.isEmpty)
    let other = nat.process(
      Sample.udp(from: Sample.server, to: Sample.left, macs: NAT44Tests.back), from: 1,
      &surroundings)
    #expect(other.verdict == .send(port: 1))
    #expect(Seen(other.octets)?.second == 3)
  }

  @Test("RFC 1812 5.2.3: so is a service's, of whatever network it is")
  func services() throws {
    var surroundings = TestSurroundings()
    var balancer = LoadBalancer()
    try balancer.configure(
      Sample.configuration(
        """
        {"services": [{}, {"address": "192.0.2.80", "port": 80, "protocol": "tcp"}],
         "backends": [{"address": "10.0.2.2"}]}
        """), in: &surroundings)
    for service in [Sample.left, IPv4Address(192, 0, 2, 80)] {
      let ping = balancer.process(
        Sample.echo(from: Sample.server, to: service, macs: NAT44Tests.back), from: 1,
        &surroundings)
      #expect(ping.verdict == .send(port: 1))
      #expect(Seen(ping.octets)?.first == 0)
      #expect(Seen(ping.octets)?.source == IPv6Address(service))
    }
    #expect(surroundings.emitted.isEmpty)
  }

  @Test("RFC 4861 4.4, 7.2.4, 7.2.6: who forwards says so")
  func routerFlags() throws {
    let own = IPv6Address(0x2001_0db8_0000_0001, 1)
    let other = IPv6Address(0x2001_0db8_0000_0001, 2)
    let solicitation = NeighbourTests.message(
      .solicitation, flags: 0, target: own, link: Sample.clientMAC, from: other,
      to: own.solicitedNode, macs: (Sample.clientMAC, .multicast(own.solicitedNode)))
    func flags<Function: NetworkFunction & ~Copyable>(
      _ function: consuming Function
    ) throws -> [UInt8] {
      var surroundings = TestSurroundings()
      let configuration = Configuration(ports: [
        .init(mac: Sample.leftMAC, addresses: [Prefix(own, length: 64)])
      ])
      try function.configure(configuration, in: &surroundings)
      surroundings.adopt(configuration, isRouter: function.isRouter)
      let answer = function.process(solicitation, from: 0, &surroundings)
      #expect(answer.verdict == .send(port: 0))
      return [surroundings.emitted[0].octets[58], answer.octets[58]]
    }
    #expect(try flags(Router()) == [0xa0, 0xe0])
    #expect(try flags(Responder()) == [0x20, 0x60])
  }
}

/// What is believed of neighbours' MACs.
@Suite struct NeighbourTests {
  static func message(
    _ kind: NeighbourMessage.Kind, flags: UInt32, target: IPv6Address, link: MACAddress?,
    from source: IPv6Address, to destination: IPv6Address, macs: (MACAddress, MACAddress)
  ) -> [UInt8] {
    withFrame([]) { frame in
      let count = link == nil ? 24 : 32
      frame.setLength(54 + count)
      EthernetHeader(destination: macs.1, source: macs.0, type: .ipv6).write(to: &frame)
      IPv6Header(
        source: source, destination: destination, nextHeader: .icmpv6, payload: count,
        hopLimit: 255
      ).write(to: &frame, at: 14)
      NeighbourMessage(kind, flags: flags, target: target, linkAddress: link)
        .write(to: &frame, at: 54)
      var sum = Checksum.pseudoHeader(source, destination, protocol: .icmpv6, length: count)
      sum.add(frame.sum(from: 54, count: count))
      frame.set(sum.value, at: 56)
    }
  }

  @Test("RFC 4861 7.2.5: without \"override\" a known MAC stays, and is asked for again")
  func overriding() throws {
    var surroundings = TestSurroundings()
    surroundings.now = 1_000_000_000
    var router = Router()
    let (left, right) = (
      IPv6Address(0x2001_0db8_0000_0001, 1), IPv6Address(0x2001_0db8_0000_0002, 1)
    )
    let (client, server) = (IPv6Address(left.high, 2), IPv6Address(right.high, 2))
    try router.configure(
      Configuration(ports: [
        .init(mac: Sample.leftMAC, addresses: [Prefix(left, length: 64)]),
        .init(mac: Sample.rightMAC, addresses: [Prefix(right, length: 64)]),
      ]), in: &surroundings)
    let datagram = withFrame([]) { frame in
      frame.setLength(62)
      EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv6)
        .write(to: &frame)
      IPv6Header(source: client, destination: server, nextHeader: .none, payload: 8)
        .write(to: &frame, at: 14)
    }
    func advertise(_ flags: UInt32, _ mac: MACAddress) -> [UInt8] {
      Self.message(
        .advertisement, flags: flags, target: server, link: mac, from: server, to: right,
        macs: (mac, Sample.rightMAC))
    }
    let other = MACAddress(0x0200_0000_0099)
    let solicited = NeighbourMessage.Flag.solicited
    let override = NeighbourMessage.Flag.override
    _ = router.process(datagram, from: 0, &surroundings)
    _ = router.process(advertise(solicited, Sample.serverMAC), from: 1, &surroundings)
    surroundings.emitted = []
    for (flags, mac, known, asks) in [
      (solicited, other, Sample.serverMAC, 1), (solicited, Sample.serverMAC, Sample.serverMAC, 0),
      (solicited | override, other, other, 0),
    ] {
      _ = router.process(advertise(flags, mac), from: 1, &surroundings)
      let (verdict, octets) = router.process(datagram, from: 0, &surroundings)
      #expect(verdict == .send(port: 1))
      #expect(Seen(octets)?.macs.first == known)
      #expect(surroundings.emitted.count == asks)
      surroundings.emitted = []
    }
  }

  @Test(
    "RFC 4861 7.1.1: who asks without an address tells no MAC, and asks the group",
    arguments: [(nil, true, true), (Sample.clientMAC, true, false), (nil, false, false)]
      as [(MACAddress?, Bool, Bool)])
  func probes(link: MACAddress?, isToGroup: Bool, isAnswered: Bool) throws {
    var surroundings = TestSurroundings()
    var responder = Responder()
    let own = IPv6Address(0x2001_0db8_0000_0001, 1)
    try responder.configure(
      Configuration(ports: [.init(mac: Sample.leftMAC, addresses: [Prefix(own, length: 64)])]),
      in: &surroundings)
    let group = isToGroup ? own.solicitedNode : .allNodes
    let probe = Self.message(
      .solicitation, flags: 0, target: own, link: link, from: .unspecified, to: group,
      macs: (Sample.clientMAC, .multicast(group)))
    let verdict = responder.process(probe, from: 0, &surroundings).verdict
    #expect(verdict == (isAnswered ? .send(port: 0) : .drop))
  }

  @Test("IEEE 802.1Q 9.6: a port is of no VLAN; a priority goes through")
  func tags() throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    func tagged(_ octets: [UInt8], _ tag: UInt16) -> [UInt8] {
      octets[..<12] + [0x81, 0, UInt8(tag >> 8), UInt8(tag & 0xff)] + octets[12...]
    }
    #expect(
      router.process(tagged(Sample.udp(), 5), from: 0, &surroundings).verdict == .drop)
    #expect(
      router.process(tagged(Sample.udp(to: Sample.left), 5), from: 0, &surroundings).verdict
        == .drop)
    let (verdict, octets) = router.process(tagged(Sample.udp(), 0xe000), from: 0, &surroundings)
    #expect(verdict == .send(port: 1))
    #expect(Array(octets[12..<18]) == [0x81, 0, 0xe0, 0, 8, 0])
    // Whom a VLAN knows is not on the port's network.
    let reply = Sample.arpReply(
      Sample.server, Sample.clientMAC, to: Sample.right, Sample.rightMAC)
    _ = router.process(tagged(reply, 5), from: 1, &surroundings)
    let after = router.process(Sample.udp(), from: 0, &surroundings).octets
    #expect(Seen(after)?.macs.first == Sample.serverMAC)
  }
}
