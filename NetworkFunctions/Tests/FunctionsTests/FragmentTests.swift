import Functions
import Packets
import TestFrames
import Testing

/// RFC 4787, REQ-14, and what goes with it; left is inside, right is outside.
@Suite struct FragmentTests {
  /// A datagram of 8 octets of UDP header and 24 of payload, in parts of 16 octets.
  static func fragments(
    _ identification: UInt16, to destination: IPv4Address = Sample.server, port: UInt16 = 53
  ) -> [[UInt8]] {
    let whole = Sample.udp(
      to: destination, ports: (4000, port), payload: (0..<24).map { UInt8($0) }, fragment: 0)
    return (0..<2).map { part in
      withFrame(Array(whole[..<34]) + whole[(34 + part * 16)..<(50 + part * 16)]) { frame in
        var header = IPv4Header(
          source: Sample.client, destination: destination, protocol: .udp, payload: 16,
          identification: identification)
        header.fragment = part == 0 ? 0x2000 : 2
        header.write(to: &frame, at: 14)
      }
    }
  }

  /// Whether these are a datagram with a right checksum again.
  static func isWhole(_ parts: [[UInt8]]) -> Bool {
    var header: IPv4Header?
    for part in parts {
      withFrame(part) { frame in
        header = IPv4Header(in: frame, at: 14)
        if header?.isRight(in: frame, at: 14) != true { header = nil }
      }
    }
    guard let header else { return false }
    let transport = parts.flatMap { $0[34...] }
    var isRight = false
    withFrame(transport) { frame in
      var sum = frame.sum(from: 0, count: transport.count)
      sum.add(
        Checksum.pseudoHeader(
          IPv6Address(header.source), IPv6Address(header.destination), protocol: .udp,
          length: transport.count))
      isRight = sum.isRight
    }
    return isRight
  }

  @Test("RFC 4787 REQ-14: in their order")
  func inOrder() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let parts = Self.fragments(7).map { nat.process($0, from: 0, &surroundings) }
    #expect(parts.map(\.verdict) == [.send(port: 1), .send(port: 1)])
    for part in parts { #expect(Array(part.octets[26..<30]) == [10, 0, 2, 1]) }
    #expect(Self.isWhole(parts.map(\.octets)))
  }

  @Test("RFC 4787 REQ-14: the first one last")
  func outOfOrder() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let parts = Self.fragments(7)
    #expect(nat.process(parts[1], from: 0, &surroundings).verdict == .drop)
    #expect(surroundings.emitted.isEmpty)
    let first = nat.process(parts[0], from: 0, &surroundings)
    #expect(first.verdict == .send(port: 1))
    #expect(surroundings.emitted.map(\.port) == [1])
    #expect(Self.isWhole([first.octets] + surroundings.emitted.map(\.octets)))
    // Once only.
    _ = nat.process(parts[0], from: 0, &surroundings)
    #expect(surroundings.emitted.count == 1)
  }

  @Test("RFC 4787 REQ-14a: fragments without end harm neither each other's order nor the rest")
  func floods() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    for number in 100..<1000 as Range<UInt16> {
      #expect(nat.process(Self.fragments(number)[1], from: 0, &surroundings).verdict == .drop)
    }
    #expect(nat.process(Sample.udp(), from: 0, &surroundings).verdict == .send(port: 1))
    let parts = Self.fragments(7).map { nat.process($0, from: 0, &surroundings).verdict }
    #expect(parts == [.send(port: 1), .send(port: 1)])
    // Those that waited in vain are forgotten.
    surroundings.now += 3_000_000_000
    _ = nat.advance(in: &surroundings)
    surroundings.emitted = []
    _ = nat.process(Self.fragments(999)[0], from: 0, &surroundings)
    #expect(surroundings.emitted.isEmpty)
  }

  @Test func `a firewall lets pass what belongs to an allowed first fragment`() throws {
    var surroundings = TestSurroundings()
    var firewall = try FirewallTests.firewall(&surroundings)
    try firewall.configure(
      Sample.configuration(
        #"{"rules": [{"protocol": "udp", "ports": 53, "action": "accept"}]}"#), in: &surroundings)
    let allowed = Self.fragments(7).map { firewall.process($0, from: 0, &surroundings).verdict }
    #expect(allowed == [.send(port: 1), .send(port: 1)])
    let other = Self.fragments(8, port: 54).map {
      firewall.process($0, from: 0, &surroundings).verdict
    }
    #expect(other == [.drop, .drop])
    // The same number from the other side is another datagram.
    #expect(firewall.process(Self.fragments(7)[1], from: 1, &surroundings).verdict == .drop)
    #expect(surroundings.emitted.isEmpty)
  }

  @Test("RFC 5722 4, RFC 3128: what a later fragment says of the first one's part is dropped")
  func overlapping() throws {
    var surroundings = TestSurroundings()
    var firewall = try FirewallTests.firewall(&surroundings)
    try firewall.configure(
      Sample.configuration(
        #"{"rules": [{"protocol": "udp", "ports": 53, "action": "accept"}]}"#), in: &surroundings)
    let parts = Self.fragments(7)
    func moved(to offset: UInt16) -> [UInt8] {
      withFrame(parts[1]) { frame in
        var header = IPv4Header(
          source: Sample.client, destination: Sample.server, protocol: .udp, payload: 16,
          identification: 7)
        header.fragment = offset
        header.write(to: &frame, at: 14)
      }
    }
    #expect(firewall.process(parts[0], from: 0, &surroundings).verdict == .send(port: 1))
    #expect(firewall.process(moved(to: 1), from: 0, &surroundings).verdict == .drop)
    #expect(firewall.process(moved(to: 2), from: 0, &surroundings).verdict == .send(port: 1))
    // Before the first one as well.
    let other = Self.fragments(8)
    let early = withFrame(moved(to: 1)) { frame in
      var header = IPv4Header(
        source: Sample.client, destination: Sample.server, protocol: .udp, payload: 16,
        identification: 8)
      header.fragment = 1
      header.write(to: &frame, at: 14)
    }
    _ = firewall.process(early, from: 0, &surroundings)
    #expect(firewall.process(other[0], from: 0, &surroundings).verdict == .send(port: 1))
    #expect(surroundings.emitted.isEmpty)
  }

  @Test("RFC 3128 4: what would overwrite TCP's flags is dropped")
  func tiny() throws {
    var surroundings = TestSurroundings()
    var firewall = try FirewallTests.firewall(&surroundings)
    func segment(_ fragment: UInt16) -> [UInt8] {
      withFrame(Sample.tcp(flags: .syn)) { frame in
        var header = IPv4Header(
          source: Sample.client, destination: Sample.server, protocol: .tcp, payload: 20,
          identification: 3)
        header.fragment = fragment
        header.write(to: &frame, at: 14)
      }
    }
    #expect(firewall.process(segment(0x2000), from: 0, &surroundings).verdict == .send(port: 1))
    #expect(firewall.process(segment(1), from: 0, &surroundings).verdict == .drop)
    #expect(firewall.process(segment(3), from: 0, &surroundings).verdict == .send(port: 1))
  }

  @Test("RFC 6864 5.3: hosts behind one address number their datagrams each for itself")
  func numbers() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let own = Self.fragments(7)
    let others = Self.fragments(7).map { part in
      withFrame(part) { frame in
        var header = IPv4Header(in: frame, at: 14)!
        header.source = NAT44Tests.neighbour
        header.write(to: &frame, at: 14)
        // Its UDP checksum is wrong now, which is nobody's business here.
      }
    }
    var seen: [[UInt8]] = []
    for octets in [own[0], others[0], others[1], own[1]] {
      let (verdict, out) = nat.process(octets, from: 0, &surroundings)
      #expect(verdict == .send(port: 1))
      #expect(Seen(out)?.source == IPv6Address(Sample.right))
      seen.append(Array(out[18..<20]))
    }
    #expect(seen[0] == seen[3])
    #expect(seen[1] == seen[2])
    #expect(seen[0] != seen[1])
    // What is not in parts yet, and what never will be.
    for (fragment, isNumbered) in [(0, true), (0x4000, false)] as [(UInt16, Bool)] {
      let numbers = [Sample.client, NAT44Tests.neighbour].map { source in
        nat.process(Sample.udp(from: source, fragment: fragment), from: 0, &surroundings)
          .octets[18..<20]
      }
      #expect((numbers[0] != numbers[1]) == isNumbered)
    }
  }
}
