import Functions
import Packets
import TestFrames
import Testing

/// What a NAT says later than a packet came: about connections that nobody inside has begun, and about
/// next hops that are silent.
@Suite struct NATLateAnswerTests {
  private static let second: Instant = 1_000_000_000

  private static func syn(_ ports: (UInt16, UInt16) = (80, 4000)) -> [UInt8] {
    Sample.tcp(
      from: Sample.server, to: Sample.right, ports: ports, flags: .syn, macs: NAT44Tests.back)
  }

  /// What is emitted in so many seconds, each with the second in which it is.
  private static func wait<F: NetworkFunction & ~Copyable>(
    _ seconds: Int, _ function: inout F, _ surroundings: inout TestSurroundings
  ) -> [(second: Int, port: Int, octets: [UInt8])] {
    var emitted: [(second: Int, port: Int, octets: [UInt8])] = []
    for second in 1...seconds {
      surroundings.emitted = []
      surroundings.now += Self.second
      _ = function.advance(in: &surroundings)
      for (port, octets, _) in surroundings.emitted { emitted.append((second, port, octets)) }
    }
    surroundings.emitted = []
    return emitted
  }

  @Test(
    "RFC 5382 REQ-4: a SYN that nobody expects is answered after 6 s, by port unreachable",
    arguments: ["nat44", "firewall | nat44", "nat44 | firewall"])
  func unsolicited(pipeline: String) throws {
    var surroundings = TestSurroundings()
    var nat = Pipeline()
    try nat.configure(
      Sample.configuration(#"{"pipeline": "\#(pipeline)", "rules": [{"action": "accept"}]}"#),
      in: &surroundings)
    let syn = Self.syn()
    #expect(nat.process(syn, from: 1, &surroundings).verdict == .drop)
    // It comes again, as it was not answered.
    surroundings.now += Self.second
    #expect(nat.process(syn, from: 1, &surroundings).verdict == .drop)
    let said = Self.wait(10, &nat, &surroundings)
    // A second of which has passed.
    #expect(said.map(\.second) == [5])
    #expect(said.map(\.port) == [1])
    let error = try #require(said.first?.octets)
    #expect(
      Seen(error)
        == NAT44Tests.seen(
          from: Sample.right, to: Sample.server, (3, 3), .icmp,
          macs: [
            Sample.serverMAC, Sample.rightMAC,
          ], hopLimit: 64))
    // It quotes all of the SYN.
    #expect(Array(error[42...]) == Array(syn[14...]))
  }

  @Test("RFC 5382 REQ-4: not where somebody inside begins it meanwhile, REQ-2: which then goes on")
  func simultaneousOpen() throws {
    for delay in [0, 1, 5] {
      var surroundings = TestSurroundings()
      var nat = try NAT44Tests.nat(&surroundings)
      _ = nat.process(Self.syn(), from: 1, &surroundings)
      if delay > 0 { #expect(Self.wait(delay, &nat, &surroundings).isEmpty) }
      let out = nat.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
      #expect(out.verdict == .send(port: 1))
      let said = Self.wait(10, &nat, &surroundings)
      #expect(said.isEmpty, "after \(delay) s")
      #expect(nat.process(Self.syn(), from: 1, &surroundings).verdict == .send(port: 0))
    }
  }

  @Test("RFC 5382 REQ-4: of nothing else that is unmapped")
  func onlyBeginnings() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    for flags in [.ack, [.syn, .ack], .rst, [.syn, .rst], .fin] as [TCPHeader.Flags] {
      _ = nat.process(
        Sample.tcp(
          from: Sample.server, to: Sample.right, ports: (80, 9000), flags: flags,
          macs: NAT44Tests.back), from: 1, &surroundings)
    }
    _ = nat.process(
      Sample.udp(
        from: Sample.server, to: Sample.right, ports: (53, 9000), macs: NAT44Tests.back), from: 1,
      &surroundings)
    #expect(Self.wait(10, &nat, &surroundings).isEmpty)
  }

  /// A scan gets 32 answers in 6 s, whatever it sends.
  @Test func aScanTakesNoMemory() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    for number in 0..<1000 as Range<UInt16> {
      _ = nat.process(Self.syn((1000 + number, 9000)), from: 1, &surroundings)
    }
    #expect(Self.wait(10, &nat, &surroundings).count == 32)
    // And then there is room again.
    _ = nat.process(Self.syn(), from: 1, &surroundings)
    #expect(Self.wait(10, &nat, &surroundings).count == 1)
  }

  @Test(
    "RFC 1812 section 3.3.2, RFC 5508 REQ-4: who is translated is told of a silent next hop as he knows it",
    arguments: [IPProtocol.udp, .tcp, .icmp])
  func silentNextHop(_ protocol: IPProtocol) throws {
    var surroundings = TestSurroundings()
    var nat = NAT44()
    try nat.configure(Sample.configuration(#"{"ports": "30000-30999"}"#), in: &surroundings)
    let original =
      switch `protocol` {
      case .tcp: Sample.tcp(flags: .syn)
      case .icmp: Sample.echo()
      default: Sample.udp()
      }
    _ = nat.process(original, from: 0, &surroundings)
    surroundings.emitted = []
    var said = Self.wait(3, &nat, &surroundings)
    // The server's MAC was asked for until then, and the client's is, as nobody knows it yet.
    said.removeAll { $0.port == 1 }
    #expect(said.map { Array($0.octets[12..<14]) } == [[8, 6]])
    #expect(said.first?.second == 3)
    _ = nat.process(
      Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), from: 0,
      &surroundings)
    #expect(surroundings.emitted.map(\.port) == [0])
    let error = try #require(surroundings.emitted.first?.octets)
    #expect(
      Seen(error)
        == NAT44Tests.seen(
          from: Sample.right, to: Sample.client, (3, 1), .icmp, macs: NAT44Tests.inwards))
    // Addresses and ports, or an identifier, are those that the client has used.
    #expect(Array(error[54..<62]) == Array(original[26..<34]))
    #expect(
      `protocol` == .icmp
        ? Array(error[66..<68]) == Array(original[38..<40])
        : Array(error[62..<66]) == Array(original[34..<38]))
  }

  @Test("RFC 1812 section 3.3.2: a client is told of a silent backend as of the service")
  func silentBackend() throws {
    var surroundings = TestSurroundings()
    var balancer = LoadBalancer()
    try balancer.configure(
      Sample.configuration(#"{"services": [{"port": 80}], "backends": [{"address": "10.0.2.9"}]}"#),
      in: &surroundings)
    let syn = Sample.tcp(to: Sample.left, flags: .syn)
    _ = balancer.process(syn, from: 0, &surroundings)
    _ = Self.wait(4, &balancer, &surroundings)
    _ = balancer.process(
      Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), from: 0,
      &surroundings)
    let error = try #require(surroundings.emitted.first?.octets)
    #expect(
      Seen(error)
        == NAT44Tests.seen(
          from: Sample.left, to: Sample.client, (3, 1), .icmp, macs: NAT44Tests.inwards))
    #expect(Array(error[54..<66]) == Array(syn[26..<38]))
  }

  /// What waits for a neighbour there is asked for each second, and told about later.
  @Test(arguments: [0, 1])
  func aPortThatGoesTakesWhatWaitsWithIt(from port: Int) throws {
    var surroundings = TestSurroundings()
    var router = Router()
    try router.configure(Sample.configuration, in: &surroundings)
    let datagram =
      port == 0
      ? Sample.udp()
      : Sample.udp(
        from: Sample.server, to: Sample.client, ports: (53, 4000), macs: NAT44Tests.back)
    _ = router.process(datagram, from: port, &surroundings)
    var configuration = Sample.configuration
    configuration.ports.removeLast()
    try router.configure(configuration, in: &surroundings)
    #expect(Self.wait(10, &router, &surroundings).isEmpty)
  }

  /// Two networks with the same addresses, of which the NAT could not know which is meant.
  @Test(
    "RFC 4787 REQ-7: inside and outside have no addresses in common",
    arguments: [
      ("10.0.1.0", 24, false), ("10.0.0.0", 8, false), ("10.0.1.130", 25, false),
      ("10.0.1.2", 32, false), ("10.0.2.1", 24, true), ("10.0.0.1", 24, true),
    ])
  func conflicts(address: String, length: Int, isFine: Bool) throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    var configuration = Sample.configuration("{}")
    let octets = address.split(separator: ".").compactMap { UInt8($0) }
    configuration.ports[1].addresses = [
      Prefix(IPv4Address(octets[0], octets[1], octets[2], octets[3]), length: length)
    ]
    do {
      try nat.configure(configuration, in: &surroundings)
      #expect(isFine)
    } catch {
      #expect(!isFine)
      #expect(
        String(decoding: error.text, as: UTF8.self)
          == "a network of a NAT's inside has addresses of its outside")
    }
  }
}
