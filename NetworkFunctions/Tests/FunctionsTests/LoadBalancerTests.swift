import Functions
import Packets
import TestFrames
import Testing

@Suite struct LoadBalancerTests {
  static let backends = [
    IPv4Address(10, 0, 2, 2), IPv4Address(10, 0, 2, 3), IPv4Address(10, 0, 2, 4),
  ]
  static func mac(of backend: IPv4Address) -> MACAddress {
    MACAddress(0x0200_0000_0200 | UInt64(backend.bits & 0xff))
  }

  /// One service for all of TCP and UDP, at the left address.
  static func configuration(
    _ backends: [IPv4Address], draining: IPv4Address? = nil
  ) -> Configuration {
    let list = backends.map {
      #"{"address": "10.0.2.\#($0.bits & 255)", "state": "\#($0 == draining ? "drain" : "active")"}"#
    }.joined(separator: ", ")
    return Sample.configuration(#"{"flows": 1024, "services": [{}], "backends": [\#(list)]}"#)
  }

  /// Before three backends, whose MACs it has asked for.
  static func balancer(_ surroundings: inout TestSurroundings) throws -> LoadBalancer {
    var balancer = LoadBalancer()
    try balancer.configure(configuration(backends), in: &surroundings)
    for number in 1...60 as ClosedRange<UInt16> {
      _ = balancer.process(datagram(number), from: 0, &surroundings)
    }
    for backend in backends {
      _ = balancer.process(
        Sample.arpReply(backend, mac(of: backend), to: Sample.right, Sample.rightMAC), from: 1,
        &surroundings)
    }
    _ = balancer.process(answer(backends[0], 1), from: 1, &surroundings)
    _ = balancer.process(
      Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), from: 0,
      &surroundings)
    surroundings.emitted = []
    return balancer
  }

  static func datagram(_ port: UInt16) -> [UInt8] {
    Sample.udp(to: Sample.left, ports: (port, 53))
  }

  static func answer(_ backend: IPv4Address, _ port: UInt16) -> [UInt8] {
    Sample.udp(
      from: backend, to: Sample.client, ports: (53, port),
      macs: (mac(of: backend), Sample.rightMAC))
  }

  static func backend(of octets: [UInt8]) -> IPv4Address? { Seen(octets)?.destination.ipv4 }

  @Test func flowsSpreadAndStay() throws {
    var surroundings = TestSurroundings()
    var balancer = try Self.balancer(&surroundings)
    var shares: [IPv4Address: Int] = [:]
    for number in 100..<400 as Range<UInt16> {
      let (verdict, octets) = balancer.process(Self.datagram(number), from: 0, &surroundings)
      #expect(verdict == .send(port: 1))
      #expect(Seen(octets)?.isRight == true)
      guard let backend = Self.backend(of: octets) else {
        Issue.record("no backend")
        return
      }
      shares[backend, default: 0] += 1
      let again = balancer.process(Self.datagram(number), from: 0, &surroundings)
      #expect(Self.backend(of: again.octets) == backend)
      // Its answer bears the service's address.
      let back = balancer.process(Self.answer(backend, number), from: 1, &surroundings)
      #expect(back.verdict == .send(port: 0))
      #expect(Seen(back.octets)?.source == IPv6Address(Sample.left))
      #expect(Seen(back.octets)?.isRight == true)
    }
    #expect(Set(shares.keys) == Set(Self.backends))
    #expect(shares.values.allSatisfy { $0 > 60 })
  }

  /// A successor has other MACs, and clients beside it believe what its predecessor said.
  @Test func theAddressesOfServicesAreAnnounced() throws {
    func announced<Function: NetworkFunction & ~Copyable>(
      _ function: consuming Function, _ parameters: String
    ) throws -> [Int: Int] {
      var surroundings = TestSurroundings()
      let services = """
        "services": [{"port": 80}, {"address": "10.0.1.80", "port": 80},
        {"address": "10.0.1.81", "port": 81}]
        """
      try function.configure(
        Sample.configuration("{\(parameters)\(services)}"), in: &surroundings)
      var counts: [Int: Int] = [:]
      // Nothing comes, so that it is called when it asked for it, and no sooner.
      surroundings.now = 0
      while surroundings.now < 10_000_000_000 {
        surroundings.emitted = []
        let next = function.advance(in: &surroundings)
        defer { surroundings.now = next }
        counts[Int(surroundings.now / 1_000_000)] = surroundings.emitted.count { emitted in
          var isOne = false
          _ = withFrame(emitted.octets) { frame in
            guard let packet = ARPPacket(in: frame, at: 14) else { return }
            isOne =
              emitted.port == 0 && packet.senderMAC == Sample.leftMAC
              && packet.sender == packet.target
              && [IPv4Address(10, 0, 1, 80), IPv4Address(10, 0, 1, 81)].contains(packet.sender)
          }
          return isOne
        }
      }
      return counts.filter { $0.value > 0 }
    }
    #expect(try announced(LoadBalancer(), "") == [0: 2, 100: 2, 2100: 2, 4100: 2])
    let stages = #""pipeline": "firewall | loadbalancer", "#
    #expect(try announced(Pipeline(), stages) == [0: 2, 100: 2, 2100: 2, 4100: 2])
    #expect(try announced(Firewall(), "") == [:])
  }

  @Test func aDrainingBackendKeepsItsFlowsAndGetsNoNewOnes() throws {
    var surroundings = TestSurroundings()
    var balancer = try Self.balancer(&surroundings)
    var before: [UInt16: IPv4Address] = [:]
    for number in 100..<200 as Range<UInt16> {
      before[number] = Self.backend(
        of: balancer.process(Self.datagram(number), from: 0, &surroundings).octets)
    }
    let draining = Self.backends[1]
    try balancer.configure(
      Self.configuration(Self.backends, draining: draining), in: &surroundings)
    for number in 100..<200 as Range<UInt16> {
      let octets = balancer.process(Self.datagram(number), from: 0, &surroundings).octets
      #expect(Self.backend(of: octets) == before[number])
    }
    for number in 200..<300 as Range<UInt16> {
      let octets = balancer.process(Self.datagram(number), from: 0, &surroundings).octets
      #expect(Self.backend(of: octets) != draining)
    }
    // Gone altogether: its flows go to others.
    try balancer.configure(
      Self.configuration(Self.backends.filter { $0 != draining }), in: &surroundings)
    for number in 100..<200 as Range<UInt16> {
      let octets = balancer.process(Self.datagram(number), from: 0, &surroundings).octets
      #expect(Self.backend(of: octets) != draining)
    }
  }

  @Test func aConnectionThatNobodyKnowsIsReset() throws {
    var surroundings = TestSurroundings()
    var balancer = try Self.balancer(&surroundings)
    let (verdict, octets) = balancer.process(
      Sample.tcp(to: Sample.left, flags: .ack), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(octets[47] == 0x04)
    #expect(Seen(octets)?.isRight == true)
  }

  @Test("RFC 1191 6.3: what a client's network says of an answer reaches the backend that sent it")
  func errorsReachBackends() throws {
    var surroundings = TestSurroundings()
    var balancer = try Self.balancer(&surroundings)
    let out = balancer.process(Self.datagram(100), from: 0, &surroundings)
    let backend = try #require(Self.backend(of: out.octets))
    let answer = balancer.process(Self.answer(backend, 100), from: 1, &surroundings)
    let error = balancer.process(
      NAT44Tests.error(
        about: answer.octets, from: Sample.client, to: Sample.left,
        (Sample.clientMAC, Sample.leftMAC)), from: 0, &surroundings)
    #expect(error.verdict == .send(port: 1))
    #expect(Self.backend(of: error.octets) == backend)
    #expect(Seen(error.octets)?.isRight == true)
    // It quotes what the backend has sent.
    #expect(Array(error.octets[54..<58]) == Array(Self.answer(backend, 100)[26..<30]))
  }

  @Test func withoutBackendsTheSenderIsTold() throws {
    var surroundings = TestSurroundings()
    var balancer = try Self.balancer(&surroundings)
    try balancer.configure(Self.configuration([]), in: &surroundings)
    let (verdict, octets) = balancer.process(Self.datagram(500), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(Seen(octets)?.first == 3)
    #expect(Seen(octets)?.second == 3)
  }

  /// Two services, one port of the client's: a backend could not tell the two flows apart, and who
  /// gets its answers would be chance.
  @Test func flowsOfTwoServicesHaveDifferentBackends() throws {
    var surroundings = TestSurroundings()
    var balancer = try Self.balancer(&surroundings)
    let addresses = [Sample.left, IPv4Address(10, 0, 1, 80), IPv4Address(10, 0, 1, 81)]
    func settings(_ backends: String) -> Configuration {
      Sample.configuration(
        """
        {"flows": 4096, "services": [{}, {"address": "10.0.1.80"}, {"address": "10.0.1.81"}],
         "backends": [\(backends)]}
        """)
    }
    try balancer.configure(
      settings(
        """
        {"address": "10.0.2.2"}, {"address": "10.0.2.3"}, {"address": "10.0.2.4"},
        {"address": "10.0.2.5", "state": "drain"}
        """), in: &surroundings)
    for number in 1000..<1100 as Range<UInt16> {
      var ways: [IPv4Address: IPv4Address] = [:]
      for address in addresses {
        let datagram = Sample.udp(to: address, ports: (number, 53))
        let (verdict, octets) = balancer.process(datagram, from: 0, &surroundings)
        #expect(verdict == .send(port: 1))
        ways[try #require(Self.backend(of: octets))] = address
      }
      #expect(ways.count == 3)
      for (backend, address) in ways {
        let back = balancer.process(Self.answer(backend, number), from: 1, &surroundings)
        #expect(Seen(back.octets)?.source == IPv6Address(address))
      }
    }
    // Where there is no other backend the second one is refused.
    try balancer.configure(
      settings(#"{"address": "10.0.2.2"}, {"address": "10.0.2.3", "state": "drain"}"#),
      in: &surroundings)
    let verdicts = addresses.prefix(2).map {
      balancer.process(Sample.udp(to: $0, ports: (2000, 53)), from: 0, &surroundings).verdict
    }
    #expect(verdicts == [.send(port: 1), .send(port: 0)])
  }
}
