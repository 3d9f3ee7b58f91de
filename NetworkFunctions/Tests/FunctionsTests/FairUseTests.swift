import Functions
import Packets
import TestFrames
import Testing

/// How many flows one host may have, so that others have some too.
@Suite struct FairUseTests {
  /// The client's place in the table that it does not get, and its neighbour's that it does.
  private static let rows: [(parameters: String, allowed: Int)] = [
    // A quarter of 16, unless something else is said.
    (#""flows": 16"#, 4),
    (#""flows": 16, "flowsPerHost": 6"#, 6),
    (#""flows": 16, "flowsPerHost": null"#, 4),
    (#""flows": 3"#, 1),
    (#""flows": 16, "flowsPerHost": 1000000"#, 16),
  ]

  private static func datagram(_ number: Int, of host: IPv4Address = Sample.client) -> [UInt8] {
    Sample.udp(from: host, ports: (UInt16(5000 + number), 53))
  }

  /// An answer from the server, as it comes to where it was asked from.
  private static func answer(to address: IPv4Address, _ number: Int) -> [UInt8] {
    Sample.udp(
      from: Sample.server, to: address, ports: (53, UInt16(5000 + number)),
      macs: FirewallTests.back)
  }

  private static func meetNeighbours<F: NetworkFunction & ~Copyable>(
    _ function: inout F, _ surroundings: inout TestSurroundings
  ) {
    _ = function.process(datagram(0), from: 0, &surroundings)
    for (octets, port) in [
      (Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC), 1),
      (answer(to: Sample.client, 0), 1),
      (Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), 0),
    ] {
      _ = function.process(octets, from: port, &surroundings)
    }
  }

  @Test(
    "RFC 6888 REQ-4, REQ-5: a host inside gets no more than its share, and is told (RFC 5508 REQ-8)",
    arguments: rows)
  func translator(parameters: String, allowed: Int) throws {
    var surroundings = TestSurroundings()
    var nat = NAT44()
    try nat.configure(Sample.configuration("{\(parameters)}"), in: &surroundings)
    Self.meetNeighbours(&nat, &surroundings)
    var passed = 0
    for number in 0..<20 {
      let (verdict, octets) = nat.process(Self.datagram(number), from: 0, &surroundings)
      if verdict == .send(port: 1) {
        passed += 1
        // Answered: what is not makes room in any case.
        _ = nat.process(
          Self.answer(to: Sample.right, number), from: 1, &surroundings)
      } else {
        #expect(verdict == .send(port: 0))
        #expect(Seen(octets)?.first == 3)
        #expect(Seen(octets)?.second == 13)
      }
    }
    #expect(passed == allowed)
    #expect(nat.stage.flowCount == allowed)
    let refused = allowed == 16 ? nat.stage.counters.full : nat.stage.counters.limited
    #expect(refused == UInt64(20 - allowed))
    // What passes goes on; another host has what is left.
    #expect(
      nat.process(Self.datagram(0), from: 0, &surroundings).verdict == .send(port: 1))
    let other = nat.process(
      Self.datagram(0, of: NAT44Tests.neighbour), from: 0, &surroundings)
    #expect(other.verdict == .send(port: allowed == 16 ? 0 : 1))
  }

  @Test("RFC 6888 REQ-5: of a firewall's flows as well", arguments: rows)
  func filter(parameters: String, allowed: Int) throws {
    var surroundings = TestSurroundings()
    var firewall = Firewall()
    try firewall.configure(
      Sample.configuration(#"{"rules": [{"action": "accept"}], \#(parameters)}"#),
      in: &surroundings)
    Self.meetNeighbours(&firewall, &surroundings)
    var passed = 0
    for number in 0..<20 {
      guard
        firewall.process(Self.datagram(number), from: 0, &surroundings).verdict == .send(port: 1)
      else { continue }
      passed += 1
      #expect(
        firewall.process(Self.answer(to: Sample.client, number), from: 1, &surroundings).verdict
          == .send(port: 0))
    }
    #expect(passed == allowed)
    let counters = firewall.stage.counters
    #expect((allowed == 16 ? counters.full : counters.limited) == UInt64(20 - allowed))
    #expect(
      firewall.process(Self.datagram(0), from: 0, &surroundings).verdict == .send(port: 1))
    // Who was asked may ask himself: what he has answered is not his.
    let own = Sample.udp(
      from: Sample.server, to: Sample.client, ports: (700, 701), macs: FirewallTests.back)
    #expect(
      firewall.process(own, from: 1, &surroundings).verdict
        == (allowed == 16 ? .drop : .send(port: 0)))
  }

  @Test("RFC 6888 REQ-4: flows that end are not its own any more")
  func flowsEnd() throws {
    var surroundings = TestSurroundings()
    var nat = NAT44()
    try nat.configure(Sample.configuration(#"{"flows": 16}"#), in: &surroundings)
    Self.meetNeighbours(&nat, &surroundings)
    for number in 0..<5 { _ = nat.process(Self.datagram(number), from: 0, &surroundings) }
    #expect(nat.stage.flowCount == 4)
    #expect(nat.stage.counters.limited == 1)
    surroundings.now += 300_000_000_000
    _ = nat.advance(in: &surroundings)
    #expect(nat.stage.flowCount == 0)
    for number in 0..<5 { _ = nat.process(Self.datagram(number), from: 0, &surroundings) }
    #expect(nat.stage.flowCount == 4)
    #expect(nat.stage.counters.limited == 2)
    // A larger share is there at once, and in a larger table nobody has lost count.
    for (parameters, flows) in [
      (#"{"flows": 16, "flowsPerHost": 7}"#, 7), (#"{"flows": 40}"#, 10),
      (#"{"flows": 40, "flowsPerHost": 2}"#, 10),
    ] {
      try nat.configure(Sample.configuration(parameters), in: &surroundings)
      for number in 0..<20 { _ = nat.process(Self.datagram(number), from: 0, &surroundings) }
      #expect(nat.stage.flowCount == flows)
    }
  }

  @Test("RFC 6888 REQ-5: who begins from outside has his own share, and takes none of the inside's")
  func fromOutside() throws {
    var surroundings = TestSurroundings()
    var nat = NAT44()
    try nat.configure(Sample.configuration(#"{"flows": 16}"#), in: &surroundings)
    Self.meetNeighbours(&nat, &surroundings)
    _ = nat.process(Self.datagram(0), from: 0, &surroundings)
    for number in 0..<10 as Range<UInt16> {
      _ = nat.process(
        Sample.udp(
          from: IPv4Address(172, 16, 0, 9), to: Sample.right, ports: (1000 + number, 5000),
          macs: FirewallTests.back), from: 1, &surroundings)
    }
    #expect(nat.stage.flowCount == 1 + 4)
    #expect(nat.stage.counters.limited == 6)
    for number in 1..<4 {
      #expect(
        nat.process(Self.datagram(number), from: 0, &surroundings).verdict == .send(port: 1))
    }
  }

  /// Four numbers for each host: those of many others do not become one's own.
  @Test func manyHostsDoNotMeet() {
    var table = FlowTable<Int>(
      capacity: 4096, secret: Secret(3, 4), idleLimits: (10, 100, 50), countsHosts: true)
    table.hostLimit = 16
    func key(_ host: Int, _ number: Int) -> FlowKey {
      FlowKey(
        source: IPv6Address(0xfd00_0000_0000_0000, UInt64(host)),
        destination: IPv6Address(1, 1), sourcePort: UInt16(number), destinationPort: 80,
        protocol: .tcp)
    }
    for host in 0..<200 {
      for number in 0..<16 {
        let key = key(host, number)
        let may = table.mayBegin(key.source)
        #expect(may)
        _ = table.add(key, answers: key.reversed, 0, .established, at: 0) { _, _, _ in }
      }
      let may = table.mayBegin(key(host, 0).source)
      #expect(!may)
    }
    #expect(table.count == 3200)
    for host in 0..<200 {
      if let (index, _) = table.find(key(host, 3)) { table.remove(index) }
      let may = table.mayBegin(key(host, 0).source)
      #expect(may)
    }
  }
}
