import Functions
import Packets
import TestFrames
import Testing

/// What RFC 1812 asks of a router beyond the way of an ordinary datagram, and what an attacker tries.
@Suite struct RouterRequirementTests {
  static func resummed(_ octets: [UInt8], header: Int = 20) -> [UInt8] {
    withFrame(octets) { frame in
      frame.set(UInt16(0), at: 24)
      frame.set(frame.sum(from: 14, count: header).value, at: 24)
    }
  }

  @Test("RFC 1812 4.2.2.7: without \"don't fragment\" what is too long goes in parts")
  func fragments() throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings, mtu: 1000)
    let payload = (0..<1400).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    #expect(
      router.process(Sample.udp(payload: payload, fragment: 0), from: 0, &surroundings).verdict
        == .drop)
    let parts = surroundings.emitted.map(\.octets)
    #expect(parts.map(\.count) == [14 + 996, 14 + 20 + 432])
    #expect(FragmentTests.isWhole(parts))
    for part in parts { #expect(part[22] == 63) }
    // A part that is too long itself goes on where it was, and more of it follows.
    surroundings.emitted = []
    _ = router.process(Sample.udp(payload: payload, fragment: 0x2010), from: 0, &surroundings)
    let again = surroundings.emitted.map(\.octets)
    #expect(again.map { Array($0[20..<22]) } == [[0x20, 0x10], [0x20, 0x10 + 122]])
    // What waits for its neighbour's MAC as well.
    let other = IPv4Address(10, 0, 2, 9)
    _ = router.process(
      Sample.udp(to: other, payload: payload, fragment: 0), from: 0, &surroundings)
    surroundings.emitted = []
    _ = router.process(
      Sample.arpReply(other, Sample.serverMAC, to: Sample.right, Sample.rightMAC), from: 1,
      &surroundings)
    #expect(FragmentTests.isWhole(surroundings.emitted.map(\.octets)))
    #expect(surroundings.emitted.count == 2)
  }

  @Test("RFC 791 3.1: options that are not copied stand in the first part only")
  func fragmentedOptions() throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings, mtu: 1000)
    let plain = Sample.udp(payload: [UInt8](repeating: 1, count: 1000), fragment: 0)
    // Record route, which is not copied, and a stream identifier, which is.
    let options: [UInt8] = [7, 3, 4, 1, 136, 4, 0, 9]
    var octets = Array(plain[..<34]) + options + plain[34...]
    octets[14] = 0x47
    octets[17] &+= 8
    octets = Self.resummed(octets, header: 28)
    _ = router.process(octets, from: 0, &surroundings)
    let parts = surroundings.emitted.map(\.octets)
    #expect(parts.map { Array($0[34..<42]) } == [options, [1, 1, 1, 1, 136, 4, 0, 9]])
    for part in parts {
      withFrame(part) { frame in
        let header = IPv4Header(in: frame, at: 14)
        #expect(header?.totalLength == part.count - 14)
        expect(header?.isRight(in: frame, at: 14), is: true)
      }
    }
  }

  /// What a card was to complete is complete before it is in parts.
  @Test func partialChecksumsAreCompleted() throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings, mtu: 1000)
    var octets = Sample.udp(payload: (0..<1200).map { UInt8(truncatingIfNeeded: $0) }, fragment: 0)
    let partial = Checksum.pseudoHeader(
      IPv6Address(Sample.client), IPv6Address(Sample.server), protocol: .udp, length: 1208
    ).folded
    octets[40] = UInt8(partial >> 8)
    octets[41] = UInt8(partial & 0xff)
    _ = router.process(octets, from: 0, &surroundings, offload: .partial(start: 34, offset: 6))
    #expect(surroundings.emitted.count == 2)
    #expect(FragmentTests.isWhole(surroundings.emitted.map(\.octets)))
    // One that makes no sense goes nowhere.
    surroundings.emitted = []
    _ = router.process(octets, from: 0, &surroundings, offload: .partial(start: 2000, offset: 6))
    #expect(surroundings.emitted.isEmpty)
  }

  @Test("RFC 1812 3.3.2: who sends to a neighbour that does not answer is told")
  func unreachableHosts() throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    let absent = IPv4Address(10, 0, 2, 77)
    for _ in 0..<3 {
      #expect(router.process(Sample.udp(to: absent), from: 0, &surroundings).verdict == .drop)
    }
    for _ in 0..<3 {
      surroundings.now += 1_000_000_000
      _ = router.advance(in: &surroundings)
    }
    // It was asked for three times.
    #expect(surroundings.emitted.filter { $0.port == 1 }.count == 3)
    let told = surroundings.emitted.filter { $0.port == 0 }
    #expect(told.count == 1)
    #expect(
      Seen(told.first?.octets ?? [])
        == Seen(
          macs: [Sample.clientMAC, Sample.leftMAC], source: IPv6Address(Sample.left),
          destination: IPv6Address(Sample.client), hopLimit: 64, protocol: .icmp, first: 3,
          second: 1, isRight: true))
  }

  @Test("RFC 1812 4.3.2.5: errors are internetwork control")
  func precedence() throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    let (_, octets) = router.process(Sample.udp(hopLimit: 1), from: 0, &surroundings)
    #expect(octets[15] == 0xc0)
  }

  @Test("RFC 1812 4.2.2.9: what is for the router itself may have any time to live")
  func ownAddresses() throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    var ping = Sample.echo(to: Sample.left)
    ping[22] = 1
    let (verdict, octets) = router.process(Self.resummed(ping), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(Seen(octets)?.first == 0)
  }

  @Test(
    "RFC 1812 4.2.2.11, 5.3.4, 5.3.5, 5.3.7, RFC 2644: what no router forwards",
    arguments: [
      // To all of a link; to a network, all of one, or all; to and from loopback and nobody.
      Sample.udp(macs: (Sample.clientMAC, .broadcast)),
      Sample.udp(to: IPv4Address(10, 0, 2, 255)), Sample.udp(to: IPv4Address(10, 0, 2, 0)),
      Sample.udp(to: .broadcast), Sample.udp(to: IPv4Address(224, 0, 0, 5)),
      Sample.udp(to: IPv4Address(127, 0, 0, 1)), Sample.udp(to: IPv4Address(0, 0, 0, 1)),
      Sample.udp(to: IPv4Address(240, 0, 0, 1)), Sample.udp(from: IPv4Address(127, 0, 0, 1)),
      Sample.udp(from: IPv4Address(0, 0, 0, 0)), Sample.udp(from: .broadcast),
      Sample.udp(from: IPv4Address(224, 0, 0, 5)), Sample.udp(from: IPv4Address(240, 0, 0, 1)),
    ])
  func martians(octets: [UInt8]) throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    #expect(router.process(octets, from: 0, &surroundings).verdict == .drop)
    #expect(surroundings.emitted.isEmpty)
  }

  /// A datagram with eight octets of options.
  static func datagram(
    _ options: [UInt8], in plain: [UInt8] = Sample.udp()
  ) -> [UInt8] {
    var octets = Array(plain[..<34]) + options + plain[34...]
    octets[14] = 0x47
    octets[17] &+= 8
    return resummed(octets, header: 28)
  }

  @Test("RFC 7126 4.3.5, 4.4.5: source routes go nowhere", arguments: [131, 137])
  func sourceRoutes(kind: UInt8) throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    let route: [UInt8] = [kind, 7, 4, 172, 16, 0, 1, 0]
    // Nor is it told what else is wrong with it.
    let damaged: [UInt8] = [kind, 3, 4, 7, 9, 4, 0, 0]
    for destination in [Sample.server, Sample.left] {
      for options in [route, damaged] {
        let octets = Self.datagram(options, in: Sample.udp(to: destination))
        #expect(router.process(octets, from: 0, &surroundings).verdict == .drop)
      }
    }
    #expect(surroundings.emitted.isEmpty)
  }

  @Test(
    "RFC 1812 5.3.13.1: other options pass as they are, known or not",
    arguments: [
      // Record route, timestamps, a router alert, one that nobody knows.
      [1, 1, 7, 6, 4, 0, 0, 0], [68, 8, 5, 0, 0, 0, 0, 0], [148, 4, 0, 0, 0, 7, 1, 0],
      [158, 6, 1, 2, 3, 4, 1, 0],
    ])
  func options(_ options: [UInt8]) throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    let (verdict, octets) = router.process(Self.datagram(options), from: 0, &surroundings)
    #expect(verdict == .send(port: 1))
    #expect(Array(octets[34..<42]) == options)
    #expect(Seen(octets)?.isRight == true)
  }

  @Test(
    "RFC 1812 4.3.3.5: who sends options that make no sense is told where",
    arguments: [
      // Longer than the header, shorter than themselves, without a length, behind a good one.
      ([7, 9, 4, 0, 0, 0, 0, 0], 21), ([7, 0, 4, 0, 0, 0, 0, 0], 21),
      ([136, 1, 0, 0, 0, 0, 0, 0], 21), ([1, 1, 1, 1, 1, 1, 1, 7], 27),
      ([1, 136, 4, 0, 9, 68, 12, 5], 26),
    ] as [([UInt8], UInt8)])
  func parameterProblems(options: [UInt8], place: UInt8) throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    for destination in [Sample.server, Sample.left] {
      let octets = Self.datagram(options, in: Sample.udp(to: destination))
      let (verdict, answer) = router.process(octets, from: 0, &surroundings)
      #expect(verdict == .send(port: 0))
      #expect(
        Seen(answer)
          == Seen(
            macs: [Sample.clientMAC, Sample.leftMAC], source: IPv6Address(Sample.left),
            destination: IPv6Address(Sample.client), hopLimit: 64, protocol: .icmp, first: 12,
            second: 0, isRight: true))
      #expect(Array(answer[38..<42]) == [place, 0, 0, 0])
      // The header is quoted as it came.
      #expect(Array(answer[42...]) == Array(octets[14...]))
    }
    // RFC 1812 4.3.2.7.
    for plain in [
      Sample.udp(macs: (Sample.clientMAC, .broadcast)), Sample.udp(from: IPv4Address(0, 0, 0, 0)),
      Sample.udp(to: IPv4Address(224, 0, 0, 9)), Sample.udp(fragment: 0x0010), Sample.echo(11),
    ] {
      let octets = Self.datagram(options, in: plain)
      #expect(router.process(octets, from: 0, &surroundings).verdict == .drop)
    }
    // Who filters or translates has let nothing through.
    for pipeline in ["firewall", "nat44"] {
      var function = Pipeline()
      try function.configure(
        Sample.configuration(#"{"pipeline": "\#(pipeline)"}"#), in: &surroundings)
      surroundings.emitted = []
      let octets = Self.datagram(options)
      #expect(function.process(octets, from: 0, &surroundings).verdict == .drop)
    }
    #expect(surroundings.emitted.isEmpty)
  }

  @Test("RFC 5095 3: neither do IPv6 routing headers of type 0")
  func routingHeaders() throws {
    var surroundings = TestSurroundings()
    var router = Router()
    try router.configure(
      Configuration(ports: [
        .init(
          mac: Sample.leftMAC,
          addresses: [Prefix(IPv6Address(0x2001_0db8_0000_0001, 1), length: 64)]),
        .init(
          mac: Sample.rightMAC,
          addresses: [Prefix(IPv6Address(0x2001_0db8_0000_0002, 1), length: 64)]),
      ]), in: &surroundings)
    func datagram(type: UInt8, left: UInt8) -> [UInt8] {
      withFrame([]) { frame in
        frame.setLength(54 + 24)
        EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv6)
          .write(to: &frame)
        IPv6Header(
          source: IPv6Address(0x2001_0db8_0000_0001, 2),
          destination: IPv6Address(0x2001_0db8_0000_0002, 2), nextHeader: IPProtocol(43),
          payload: 24
        ).write(to: &frame, at: 14)
        for (index, octet) in ([59, 2, type, left] as [UInt8]).enumerated() {
          frame.set(octet, at: 54 + index)
        }
      }
    }
    _ = router.process(datagram(type: 0, left: 1), from: 0, &surroundings)
    #expect(surroundings.emitted.isEmpty)
    _ = router.process(datagram(type: 0, left: 0), from: 0, &surroundings)
    // It asks for the neighbour.
    #expect(surroundings.emitted.count == 1)
  }

  @Test("RFC 6583: a scan drives no neighbour out, and asks 1,000 times a second at most")
  func scans() throws {
    var surroundings = TestSurroundings()
    var router = Router()
    var configuration = Sample.configuration
    configuration.ports[1].addresses = [Prefix(IPv4Address(10, 2, 0, 1), length: 16)]
    try router.configure(configuration, in: &surroundings)
    // Forty neighbours that have answered.
    let known = (1...40).map { IPv4Address(10, 2, 9, UInt8($0)) }
    for neighbour in known {
      _ = router.process(Sample.udp(to: neighbour), from: 0, &surroundings)
      _ = router.process(
        Sample.arpReply(
          neighbour, Sample.serverMAC, to: IPv4Address(10, 2, 0, 1), Sample.rightMAC), from: 1,
        &surroundings)
    }
    surroundings.emitted = []
    for number in 0..<50_000 as Range<UInt32> {
      surroundings.now += 20_000
      let absent = IPv4Address(0x0a02_1000 + number % 0xe000)
      _ = router.process(Sample.udp(to: absent), from: 0, &surroundings)
    }
    #expect(surroundings.emitted.count <= 1064)
    for neighbour in known {
      #expect(
        router.process(Sample.udp(to: neighbour), from: 0, &surroundings).verdict
          == .send(port: 1))
    }
  }
}
