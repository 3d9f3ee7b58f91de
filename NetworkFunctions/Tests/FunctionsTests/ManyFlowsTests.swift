import Functions
import Packets
import TestFrames
import Testing

/// 50,000 flows at a time, each of which is still known when all are there.
@Suite struct ManyFlowsTests {
  static let count = 50_000
  static let parameters =
    #"{"flows": 50000, "flowsPerHost": 50000, "rules": [{"from": "left", "protocol": "udp", "action": "accept"}]}"#

  /// The numbers of the flows: half of a host's ports, half of its neighbour's.
  static func datagram(_ number: Int) -> [UInt8] {
    let port = UInt16(2000 + number / 2)
    return number % 2 == 0
      ? Sample.udp(ports: (port, 53))
      : Sample.udp(
        from: NAT44Tests.neighbour, ports: (port, 53),
        macs: (NAT44Tests.neighbourMAC, Sample.leftMAC))
  }

  @Test func firewall() throws {
    var surroundings = TestSurroundings()
    var firewall = try FirewallTests.firewall(&surroundings)
    try firewall.configure(Sample.configuration(Self.parameters), in: &surroundings)
    for _ in 0..<2 {
      for number in 0..<Self.count {
        let (verdict, _) = firewall.process(Self.datagram(number), from: 0, &surroundings)
        guard verdict == .send(port: 1) else {
          Issue.record("flow \(number) does not pass")
          return
        }
      }
    }
    #expect(firewall.stage.flowCount == Self.count)
    // From the other side only what answers passes.
    try firewall.configure(
      Sample.configuration(Self.parameters), in: &surroundings)
    for number in stride(from: 0, to: Self.count, by: 2) {
      let answer = Sample.udp(
        from: Sample.server, to: Sample.client, ports: (53, UInt16(2000 + number / 2)),
        macs: FirewallTests.back)
      guard firewall.process(answer, from: 1, &surroundings).verdict == .send(port: 0) else {
        Issue.record("the answer to flow \(number) does not pass")
        return
      }
    }
    #expect(firewall.stage.counters.full == 0)
  }

  @Test func nat44() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    try nat.configure(Sample.configuration(Self.parameters), in: &surroundings)
    surroundings.now += 400_000_000_000
    _ = nat.advance(in: &surroundings)
    _ = nat.process(Self.datagram(0), from: 0, &surroundings)
    _ = nat.process(
      Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC), from: 1,
      &surroundings)
    var ports: [UInt16] = []
    for number in 0..<Self.count {
      let (verdict, octets) = nat.process(Self.datagram(number), from: 0, &surroundings)
      guard verdict == .send(port: 1), let port = Seen(octets)?.first else {
        Issue.record("flow \(number) does not pass")
        return
      }
      ports.append(port)
    }
    #expect(Set(ports).count == Self.count)
    #expect(nat.stage.flowCount == Self.count)
    // Each is known by its own port still, from both sides.
    for number in stride(from: 0, to: Self.count, by: 7) {
      let again = nat.process(Self.datagram(number), from: 0, &surroundings)
      guard Seen(again.octets)?.first == ports[number] else {
        Issue.record("flow \(number) has another port")
        return
      }
    }
    #expect(nat.stage.counters.full == 0)
    // One more than there is place for: the longest idle one does not make room, it is in use.
    let inbound = nat.process(
      Sample.udp(
        from: Sample.server, to: Sample.right, ports: (53, ports[0]), macs: NAT44Tests.back),
      from: 1, &surroundings)
    #expect(Seen(inbound.octets)?.destination == IPv6Address(Sample.client))
  }
}
