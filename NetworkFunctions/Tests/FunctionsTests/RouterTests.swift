import Functions
import Packets
import TestFrames
import Testing

/// RFC 1812 and RFC 1122, clause by clause, as far as a router of this kind is concerned.
@Suite struct RouterTests {
  /// A router that knows the server's MAC.
  static func router(
    _ surroundings: inout TestSurroundings, mtu: Int = 1500
  ) throws -> Router {
    var router = Router()
    var configuration = Sample.configuration
    configuration.ports[1].mtu = mtu
    try router.configure(configuration, in: &surroundings)
    _ = router.process(Sample.udp(), from: 0, &surroundings)
    _ = router.process(
      Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC),
      from: 1, &surroundings)
    surroundings.emitted = []
    return router
  }

  @Test("RFC 1122 2.3.2.2: the first packet waits for the neighbour's MAC")
  func theFirstPacketIsNotLost() throws {
    var surroundings = TestSurroundings()
    var router = Router()
    try router.configure(Sample.configuration, in: &surroundings)
    #expect(router.process(Sample.udp(), from: 0, &surroundings).verdict == .drop)
    #expect(surroundings.emitted.count == 1)
    #expect(surroundings.emitted.first?.port == 1)
    // An ARP query to all: who has the server's address?
    let query = surroundings.emitted.first?.octets ?? []
    #expect(Array(query.prefix(6)) == [UInt8](repeating: 0xff, count: 6))
    #expect(Array(query.suffix(4)) == [10, 0, 2, 2])
    // 2.3.2.1: not more than one query a second.
    _ = router.process(Sample.udp(), from: 0, &surroundings)
    #expect(surroundings.emitted.count == 1)
    _ = router.process(
      Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC),
      from: 1, &surroundings)
    #expect(surroundings.emitted.count == 3)
    for sent in surroundings.emitted.dropFirst() {
      #expect(sent.port == 1)
      #expect(Seen(sent.octets)?.macs == [Sample.serverMAC, Sample.rightMAC])
      #expect(Seen(sent.octets)?.hopLimit == 63)
    }
  }

  @Test("RFC 826: what nobody asked for is not learnt")
  func nobodyElseFillsTheTable() throws {
    var surroundings = TestSurroundings()
    var router = try Self.router(&surroundings)
    let stranger = IPv4Address(10, 0, 2, 3)
    _ = router.process(
      Sample.arpReply(stranger, Sample.clientMAC, to: Sample.right, Sample.rightMAC), from: 1,
      &surroundings)
    _ = router.process(Sample.udp(to: stranger), from: 0, &surroundings)
    #expect(surroundings.emitted.count == 1)
  }

  @Test("RFC 1812 5.3.1: the time to live falls by one, the checksum with it")
  func forwards() throws {
    var surroundings = TestSurroundings()
    var router = try Self.router(&surroundings)
    let (verdict, octets) = router.process(Sample.udp(hopLimit: 2), from: 0, &surroundings)
    #expect(verdict == .send(port: 1))
    #expect(
      Seen(octets)
        == Seen(
          macs: [Sample.serverMAC, Sample.rightMAC], source: IPv6Address(Sample.client),
          destination: IPv6Address(Sample.server), hopLimit: 1, protocol: .udp, first: 4000,
          second: 53, isRight: true))
  }

  @Test(
    "RFC 1812 4.3.3, 5.2.7, 5.3.1, RFC 1191 4: errors to the sender",
    arguments: [
      // TTL 1; no route; longer than the next MTU with "don't fragment".
      (Sample.udp(hopLimit: 1), UInt16(11), UInt16(0)),
      (Sample.udp(hopLimit: 0), 11, 0),
      (Sample.udp(to: IPv4Address(8, 8, 8, 8)), 3, 0),
      (Sample.udp(payload: [UInt8](repeating: 7, count: 1200)), 3, 4),
      (Sample.udp(to: Sample.left), 3, 3),
    ])
  func errors(_ octets: [UInt8], _ type: UInt16, _ code: UInt16) throws {
    var surroundings = TestSurroundings()
    var router = try Self.router(&surroundings, mtu: 1000)
    let (verdict, answer) = router.process(octets, from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(
      Seen(answer)
        == Seen(
          macs: [Sample.clientMAC, Sample.leftMAC], source: IPv6Address(Sample.left),
          destination: IPv6Address(Sample.client), hopLimit: 64, protocol: .icmp, first: type,
          second: code, isRight: true))
    // 4.3.2.3: what came is quoted as it came, its transport as well, as far as 576 octets go.
    #expect(answer.count == 14 + min(576, 28 + octets.count - 14))
    #expect(answer.count >= 42 + 28)
    #expect(Array(answer[42...]) == Array(octets[14..<(answer.count - 28)]))
    if type == 3, code == 4 { #expect(Array(answer[40..<42]) == [0x03, 0xe8]) }
  }

  @Test("RFC 1812 4.3.2.7: no error about an error, a later fragment, a multicast")
  func noErrors() throws {
    var surroundings = TestSurroundings()
    var router = try Self.router(&surroundings)
    var error = Sample.echo(11)
    error[22] = 1
    error[24] = 0
    error[25] = 0
    let sum = withFrame(error) { frame in
      frame.set(frame.sum(from: 14, count: 20).value, at: 24)
    }
    let cases = [
      sum, Sample.udp(hopLimit: 1, fragment: 0x0010),
      Sample.udp(to: IPv4Address(224, 0, 0, 9), hopLimit: 1),
      Sample.udp(from: IPv4Address(255, 255, 255, 255), hopLimit: 1),
    ]
    for octets in cases {
      #expect(router.process(octets, from: 0, &surroundings).verdict == .drop)
    }
    #expect(surroundings.emitted.isEmpty)
  }

  @Test("RFC 1812 4.3.2.8: errors are limited")
  func errorsAreLimited() throws {
    var surroundings = TestSurroundings()
    var router = try Self.router(&surroundings)
    func count(_ packets: Int) -> Int {
      (0..<packets).count { _ in
        router.process(Sample.udp(hopLimit: 1), from: 0, &surroundings).verdict != .drop
      }
    }
    #expect(count(1000) == 50)
    surroundings.now += 1_000_000_000
    #expect(count(1000) == 50)
    surroundings.now += 100_000_000
    #expect(count(1000) == 10)
  }

  @Test("RFC 1812 5.2.4.3: by a route's next hop")
  func nextHop() throws {
    var surroundings = TestSurroundings()
    var router = try Self.router(&surroundings)
    let (verdict, octets) = router.process(
      Sample.udp(to: IPv4Address(172, 20, 1, 1)), from: 0, &surroundings)
    #expect(verdict == .send(port: 1))
    #expect(Seen(octets)?.macs == [Sample.serverMAC, Sample.rightMAC])
  }

  @Test("RFC 1122 2.3.2.1: a neighbour is asked for again, and forgotten when it is silent")
  func neighboursAge() throws {
    var surroundings = TestSurroundings()
    var router = try Self.router(&surroundings)
    let second: Instant = 1_000_000_000
    surroundings.now = 59 * second
    #expect(router.process(Sample.udp(), from: 0, &surroundings).verdict == .send(port: 1))
    #expect(surroundings.emitted.isEmpty)
    surroundings.now = 61 * second
    #expect(router.process(Sample.udp(), from: 0, &surroundings).verdict == .send(port: 1))
    #expect(surroundings.emitted.count == 1)
    surroundings.now = 121 * second
    #expect(router.process(Sample.udp(), from: 0, &surroundings).verdict == .drop)
    #expect(surroundings.emitted.count == 2)
  }

  @Test("RFC 8201, RFC 4861: IPv6 goes the same way")
  func ipv6() throws {
    var surroundings = TestSurroundings()
    var router = Router()
    let inside = IPv6Address(0x2001_0db8_0000_0002, 2)
    try router.configure(
      Configuration(ports: [
        .init(
          mac: Sample.leftMAC,
          addresses: [Prefix(IPv6Address(0x2001_0db8_0000_0001, 1), length: 64)]),
        .init(
          mac: Sample.rightMAC, mtu: 1280,
          addresses: [Prefix(IPv6Address(0x2001_0db8_0000_0002, 1), length: 64)]),
      ]), in: &surroundings)
    func datagram(_ hopLimit: UInt8, _ payload: Int) -> [UInt8] {
      withFrame([]) { frame in
        frame.setLength(54 + payload)
        EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv6)
          .write(to: &frame)
        IPv6Header(
          source: IPv6Address(0x2001_0db8_0000_0001, 2), destination: inside,
          nextHeader: IPProtocol(59), payload: payload, hopLimit: hopLimit
        ).write(to: &frame, at: 14)
      }
    }
    #expect(router.process(datagram(64, 8), from: 0, &surroundings).verdict == .drop)
    // A solicitation to the group of the neighbour's address.
    let query = surroundings.emitted.first?.octets ?? []
    #expect(Array(query.prefix(6)) == [0x33, 0x33, 0xff, 0, 0, 2])
    #expect(Seen(query)?.first == 135)
    #expect(Seen(query)?.isRight == true)
    let advertisement = withFrame([]) { frame in
      frame.setLength(14 + 40 + 32)
      EthernetHeader(destination: Sample.rightMAC, source: Sample.serverMAC, type: .ipv6)
        .write(to: &frame)
      let own = IPv6Address(0x2001_0db8_0000_0002, 1)
      IPv6Header(
        source: inside, destination: own, nextHeader: .icmpv6, payload: 32, hopLimit: 255
      ).write(to: &frame, at: 14)
      NeighbourMessage(
        .advertisement, flags: NeighbourMessage.Flag.solicited, target: inside,
        linkAddress: Sample.serverMAC
      ).write(to: &frame, at: 54)
      var sum = Checksum.pseudoHeader(inside, own, protocol: .icmpv6, length: 32)
      sum.add(frame.sum(from: 54, count: 32))
      frame.set(sum.value, at: 56)
    }
    _ = router.process(advertisement, from: 1, &surroundings)
    #expect(surroundings.emitted.count == 2)
    #expect(Seen(surroundings.emitted.last?.octets ?? [])?.hopLimit == 63)
    let exceeded = router.process(datagram(1, 8), from: 0, &surroundings)
    #expect(Seen(exceeded.octets)?.first == 3)
    #expect(Seen(exceeded.octets)?.isRight == true)
    let tooBig = router.process(datagram(64, 1300), from: 0, &surroundings)
    #expect(Seen(tooBig.octets)?.first == 2)
    #expect(tooBig.octets.count <= 14 + 1280)
    #expect(Array(tooBig.octets[58..<62]) == [0, 0, 0x05, 0x00])
  }
}
