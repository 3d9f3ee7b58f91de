import Functions
import Packets
import TestFrames
import Testing

/// RFC 3022, 4787, 5382 and 5508 on the wire; left is inside, right is outside.
@Suite struct NAT44Tests {
  static let back = (Sample.serverMAC, Sample.rightMAC)
  static let neighbour = IPv4Address(10, 0, 1, 3)
  static let neighbourMAC = MACAddress(0x0200_0000_0003)

  static func nat(_ surroundings: inout TestSurroundings) throws -> NAT44 {
    var nat = NAT44()
    try nat.configure(
      Sample.configuration(#"{"flows": 16, "flowsPerHost": 16}"#), in: &surroundings)
    // It asks for its neighbours and is answered.
    _ = nat.process(Sample.udp(ports: (9, 9)), from: 0, &surroundings)
    _ = nat.process(
      Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC), from: 1,
      &surroundings)
    _ = nat.process(
      Sample.udp(from: Sample.server, to: Sample.right, ports: (9, 9), macs: back), from: 1,
      &surroundings)
    _ = nat.process(
      Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), from: 0,
      &surroundings)
    surroundings.emitted = []
    return nat
  }

  static func seen(
    from source: IPv4Address, to destination: IPv4Address, _ ports: (UInt16, UInt16),
    _ protocol: IPProtocol, macs: [MACAddress], hopLimit: UInt8 = 63
  ) -> Seen {
    Seen(
      macs: macs, source: IPv6Address(source), destination: IPv6Address(destination),
      hopLimit: hopLimit, protocol: `protocol`, first: ports.0, second: ports.1, isRight: true)
  }

  static let outwards = [Sample.serverMAC, Sample.rightMAC]
  static let inwards = [Sample.clientMAC, Sample.leftMAC]

  @Test("RFC 3022 2.2: out behind the outside address, and the answer back")
  func translates() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    let out = nat.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    #expect(out.verdict == .send(port: 1))
    #expect(
      Seen(out.octets)
        == Self.seen(
          from: Sample.right, to: Sample.server, (4000, 80), .tcp, macs: Self.outwards))
    let answer = nat.process(
      Sample.tcp(
        from: Sample.server, to: Sample.right, ports: (80, 4000), flags: [.syn, .ack],
        macs: Self.back), from: 1, &surroundings)
    #expect(answer.verdict == .send(port: 0))
    #expect(
      Seen(answer.octets)
        == Self.seen(
          from: Sample.server, to: Sample.client, (80, 4000), .tcp, macs: Self.inwards))
  }

  @Test("RFC 4787 REQ-3: who comes second gets another port")
  func portsDiffer() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    let first = nat.process(Sample.udp(), from: 0, &surroundings)
    let second = nat.process(Sample.udp(from: Self.neighbour), from: 0, &surroundings)
    #expect(Seen(first.octets)?.first == 4000)
    #expect(Seen(second.octets)?.first != 4000)
    #expect(Seen(second.octets)?.isRight == true)
    #expect(Seen(second.octets)?.source == IPv6Address(Sample.right))
  }

  @Test func udpWithoutChecksumKeepsNone() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    var octets = Sample.udp()
    octets[40] = 0
    octets[41] = 0
    let out = nat.process(octets, from: 0, &surroundings)
    #expect(out.verdict == .send(port: 1))
    #expect(Array(out.octets[40..<42]) == [0, 0])
  }

  /// What a card is to complete holds the pseudo-header's sum: completed, it must be right.
  @Test func aPartialChecksumStaysPartial() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    var octets = Sample.tcp(flags: .syn)
    withFrame(octets) { frame in
      let partial = Checksum.pseudoHeader(
        IPv6Address(Sample.client), IPv6Address(Sample.server), protocol: .tcp, length: 20
      ).folded
      octets[50] = UInt8(partial >> 8)
      octets[51] = UInt8(partial & 0xff)
    }
    let out = nat.process(
      octets, from: 0, &surroundings, offload: .partial(start: 34, offset: 16))
    let completed = withFrame(out.octets) { frame in
      frame.set(frame.sum(from: 34, count: 20).value, at: 50)
    }
    #expect(Seen(completed)?.isRight == true)
    #expect(Seen(completed)?.source == IPv6Address(Sample.right))
  }

  /// A tunnel's datagram, of whose inner packet the card is to complete the checksum: its own has
  /// nothing to do with that.
  @Test func theInnerPartialChecksumIsNotTheOuterOne() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    let tunnelled = Sample.udp(payload: [UInt8](repeating: 9, count: 60))
    let inner = Offload.partial(start: 70, offset: 16)
    let out = nat.process(tunnelled, from: 0, &surroundings, offload: inner)
    #expect(out.verdict == .send(port: 1))
    #expect(Seen(out.octets)?.isRight == true)
    var without = tunnelled
    without[40] = 0
    without[41] = 0
    let none = nat.process(without, from: 0, &surroundings, offload: inner)
    #expect(none.verdict == .send(port: 1))
    #expect(Array(none.octets[40..<42]) == [0, 0])
  }

  @Test("RFC 5508 REQ-1: echoes")
  func echoes() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    let out = nat.process(Sample.echo(), from: 0, &surroundings)
    #expect(
      Seen(out.octets)
        == Self.seen(from: Sample.right, to: Sample.server, (8, 0), .icmp, macs: Self.outwards))
    let back = nat.process(
      Sample.echo(0, from: Sample.server, to: Sample.right, macs: Self.back), from: 1,
      &surroundings)
    #expect(
      Seen(back.octets)
        == Self.seen(from: Sample.server, to: Sample.client, (0, 0), .icmp, macs: Self.inwards))
  }

  @Test func whatIsNotMappedStaysOutside() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    for octets in [
      Sample.tcp(
        from: Sample.server, to: Sample.right, ports: (80, 4000), flags: .syn, macs: Self.back),
      // By the inside address itself.
      Sample.tcp(
        from: Sample.server, to: Sample.client, ports: (80, 4000), flags: .syn, macs: Self.back),
    ] {
      #expect(nat.process(octets, from: 1, &surroundings).verdict == .drop)
    }
    #expect(nat.stage.counters.unmapped == 2)
  }

  static func error(
    about quoted: [UInt8], from source: IPv4Address, to destination: IPv4Address,
    _ macs: (MACAddress, MACAddress)
  ) -> [UInt8] {
    withFrame([]) { frame in
      frame.setLength(42 + 28)
      EthernetHeader(destination: macs.1, source: macs.0, type: .ipv4).write(to: &frame)
      IPv4Header(source: source, destination: destination, protocol: .icmp, payload: 36)
        .write(to: &frame, at: 14)
      ICMPHeader(type: 3, code: 3).write(to: &frame, at: 34)
      for (index, octet) in quoted[14..<42].enumerated() { frame.set(octet, at: 42 + index) }
      frame.set(frame.sum(from: 34, count: 36).value, at: 36)
    }
  }

  @Test("RFC 5508 REQ-4: an error from outside reaches who sent what it quotes")
  func errorsComeIn() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    let original = Sample.udp()
    let out = nat.process(original, from: 0, &surroundings)
    let error = nat.process(
      Self.error(about: out.octets, from: Sample.server, to: Sample.right, Self.back), from: 1,
      &surroundings)
    #expect(error.verdict == .send(port: 0))
    #expect(Seen(error.octets)?.destination == IPv6Address(Sample.client))
    #expect(Seen(error.octets)?.isRight == true)
    // Addresses and ports of the quote are the sender's own again.
    #expect(Array(error.octets[54..<66]) == Array(original[26..<38]))
    #expect(
      nat.process(
        Self.error(
          about: Sample.udp(from: Sample.right, ports: (1, 2)), from: Sample.server,
          to: Sample.right, Self.back), from: 1, &surroundings
      ).verdict == .drop)
  }

  @Test("RFC 5508 REQ-5: an error from inside leaves by the external endpoint")
  func errorsGoOut() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    _ = nat.process(Sample.udp(), from: 0, &surroundings)
    let inbound = nat.process(
      Sample.udp(from: Sample.server, to: Sample.right, ports: (53, 4000), macs: Self.back),
      from: 1, &surroundings)
    let error = nat.process(
      Self.error(
        about: inbound.octets, from: Sample.client, to: Sample.server,
        (Sample.clientMAC, Sample.leftMAC)), from: 0, &surroundings)
    #expect(error.verdict == .send(port: 1))
    #expect(Seen(error.octets)?.source == IPv6Address(Sample.right))
    #expect(Seen(error.octets)?.isRight == true)
    #expect(Array(error.octets[58..<62]) == [10, 0, 2, 1])
    #expect(Array(error.octets[64..<66]) == [0x0f, 0xa0])
  }

  @Test("RFC 4787 REQ-9: inside hosts reach each other, (a) by external source address and port")
  func hairpinning() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    // The client is known outside by port 4000, its neighbour by another one, from which it sends there.
    _ = nat.process(Sample.udp(), from: 0, &surroundings)
    let macs = (Self.neighbourMAC, Sample.leftMAC)
    let out = nat.process(
      Sample.udp(from: Self.neighbour, macs: macs), from: 0, &surroundings)
    let port = try #require(Seen(out.octets)?.first)
    #expect(port != 4000)
    let (verdict, octets) = nat.process(
      Sample.udp(from: Self.neighbour, to: Sample.right, ports: (4000, 4000), macs: macs), from: 0,
      &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(
      Seen(octets)
        == Self.seen(
          from: Sample.right, to: Sample.client, (port, 4000), .udp, macs: Self.inwards))
  }

  @Test("RFC 5508 REQ-7: an error about a hairpinned packet finds who sent it")
  func hairpinnedErrors() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    _ = nat.process(Sample.udp(), from: 0, &surroundings)
    let inner = Sample.udp(
      from: Self.neighbour, to: Sample.right, ports: (6000, 4000),
      macs: (Self.neighbourMAC, Sample.leftMAC))
    let hairpinned = nat.process(inner, from: 0, &surroundings)
    surroundings.emitted = []
    // The client says that nobody listens; its neighbour's MAC has to be asked for.
    let (verdict, _) = nat.process(
      Self.error(
        about: hairpinned.octets, from: Sample.client, to: Sample.right,
        (Sample.clientMAC, Sample.leftMAC)), from: 0, &surroundings)
    #expect(verdict == .drop)
    _ = nat.process(
      Sample.arpReply(Self.neighbour, Self.neighbourMAC, to: Sample.left, Sample.leftMAC), from: 0,
      &surroundings)
    let error = try #require(surroundings.emitted.last).octets
    #expect(Seen(error)?.source == IPv6Address(Sample.right))
    #expect(Seen(error)?.destination == IPv6Address(Self.neighbour))
    #expect(Seen(error)?.isRight == true)
    // It quotes what the neighbour has sent.
    #expect(Array(error[54..<66]) == Array(inner[26..<38]))
  }

  @Test("RFC 5508 REQ-10a: an error about what goes out quotes it as it was sent")
  func expiredOutside() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    let flows = nat.stage.flowCount
    let original = Sample.udp(hopLimit: 1)
    let (verdict, octets) = nat.process(original, from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(Seen(octets)?.first == 11)
    #expect(Array(octets[42..<70]) == Array(original[14..<42]))
    #expect(nat.stage.flowCount == flows)
  }

  @Test func aNewConfigurationKeepsFlows() throws {
    var surroundings = TestSurroundings()
    var nat = try Self.nat(&surroundings)
    _ = nat.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    let before = nat.stage.flowCount
    try nat.configure(Sample.configuration, in: &surroundings)
    #expect(nat.stage.flowCount == before)
    #expect(throws: ConfigurationError.self) {
      try nat.configure(Configuration(ports: [.init(mac: Sample.leftMAC)]), in: &surroundings)
    }
    #expect(nat.stage.flowCount == before)
  }
}
