import Functions
import Packets
import Testing

/// RFC 4787, 5382 and 5508, requirement by requirement, as far as ports are concerned.
@Suite struct PortTranslationTests {
  static let external = IPv4Address(192, 0, 2, 1)

  static func outbound(
    _ host: UInt8, _ port: UInt16, to remote: UInt8 = 9, _ remotePort: UInt16 = 80,
    _ protocol: IPProtocol = .udp
  ) -> FlowKey {
    FlowKey(
      source: IPv6Address(IPv4Address(10, 0, 0, host)),
      destination: IPv6Address(IPv4Address(198, 51, 100, remote)), sourcePort: port,
      destinationPort: `protocol` == .icmp ? 0 : remotePort, protocol: `protocol`)
  }

  static func inbound(
    to port: UInt16, from remote: UInt8 = 9, _ remotePort: UInt16 = 80,
    _ protocol: IPProtocol = .udp
  ) -> FlowKey {
    FlowKey(
      source: IPv6Address(IPv4Address(198, 51, 100, remote)),
      destination: IPv6Address(external), sourcePort: `protocol` == .icmp ? port : remotePort,
      destinationPort: `protocol` == .icmp ? 0 : port, protocol: `protocol`)
  }

  static func endpoint(_ host: UInt8, _ port: UInt16) -> Endpoint {
    Endpoint(IPv6Address(IPv4Address(10, 0, 0, host)), port)
  }

  func segment(_ flags: TCPHeader.Flags) -> TCPHeader {
    TCPHeader(source: 0, destination: 0, sequence: 0, acknowledgement: 0, flags: flags)
  }

  static func translation(_ capacity: Int = 100) -> PortTranslation {
    PortTranslation(external: external, capacity: capacity, secret: Secret(1, 2))
  }

  @Test("RFC 4787 REQ-1: one mapping for all destinations")
  func mappingIsIndependentOfTheOtherEnd() {
    var nat = Self.translation()
    let first = nat.outbound(Self.outbound(1, 5000), nil, at: 0)
    let second = nat.outbound(Self.outbound(1, 5000, to: 8, 443), nil, at: 0)
    #expect(first == second)
    #expect(first?.address == IPv6Address(Self.external))
    #expect(nat.mappingCount == 1)
    #expect(nat.flowCount == 2)
  }

  @Test("RFC 4787 REQ-3: no port for two endpoints; REQ-4: parity and range stay")
  func portsAreNotOverloaded() {
    var nat = Self.translation(300)
    var seen: Set<UInt16> = []
    for host in 1...100 as ClosedRange<UInt8> {
      for port in [5000, 5001, 600] as [UInt16] {
        guard let endpoint = nat.outbound(Self.outbound(host, port), nil, at: 0) else {
          Issue.record("no port for \(host):\(port)")
          return
        }
        #expect(seen.insert(endpoint.port).inserted)
        #expect(endpoint.port % 2 == port % 2)
        #expect((endpoint.port < 1024) == (port < 1024))
        #expect(
          nat.inbound(Self.inbound(to: endpoint.port), nil, at: 0) == Self.endpoint(host, port))
      }
    }
    #expect(seen.contains(5000) && seen.contains(5001) && seen.contains(600))
  }

  @Test("RFC 4787 REQ-8: filtering is independent of the other end")
  func anyoneMayAnswer() {
    var nat = Self.translation()
    let port = nat.outbound(Self.outbound(1, 5000), nil, at: 0)?.port ?? 0
    #expect(nat.inbound(Self.inbound(to: port, from: 77, 7), nil, at: 0) == Self.endpoint(1, 5000))
    #expect(nat.inbound(Self.inbound(to: port + 1), nil, at: 0) == nil)
    #expect(nat.inbound(Self.inbound(to: port, from: 9, 80, .tcp), segment(.ack), at: 0) == nil)
  }

  @Test("RFC 4787 REQ-5: UDP is forgotten after 300 s, not before")
  func datagramsAreForgotten() {
    var nat = Self.translation()
    _ = nat.outbound(Self.outbound(1, 5000), nil, at: 0)
    nat.expire(at: 299)
    #expect(nat.flowCount == 1)
    #expect(nat.mappingCount == 1)
    nat.expire(at: 300)
    #expect(nat.flowCount == 0)
    #expect(nat.mappingCount == 0)
  }

  @Test("RFC 4787 REQ-6: what goes out keeps a mapping, to whomever, and (a) what comes in")
  func refreshes() {
    for direction in ["out", "out elsewhere", "in", "none"] {
      var nat = Self.translation()
      let endpoint = nat.outbound(Self.outbound(1, 5000), nil, at: 0)
      switch direction {
      case "out": _ = nat.outbound(Self.outbound(1, 5000), nil, at: 299)
      case "out elsewhere": _ = nat.outbound(Self.outbound(1, 5000, to: 10), nil, at: 299)
      case "in": _ = nat.inbound(Self.inbound(to: endpoint?.port ?? 0), nil, at: 299)
      default: break
      }
      nat.expire(at: 598)
      #expect(nat.mappingCount == (direction == "none" ? 0 : 1), "\(direction)")
      // Outside it is known by the same port.
      let again = nat.outbound(Self.outbound(1, 5000, to: 11), nil, at: 598)
      #expect(direction == "none" || again == endpoint, "\(direction)")
      nat.expire(at: 598 + 300)
      #expect(nat.mappingCount == 0, "\(direction)")
    }
  }

  @Test("RFC 5382 REQ-5: TCP is kept for 2 h 4 min when established, 4 min before and after")
  func connections() {
    var nat = Self.translation()
    let out = Self.outbound(1, 5000, to: 9, 80, .tcp)
    let back = Self.inbound(to: 5000, from: 9, 80, .tcp)
    _ = nat.outbound(out, segment(.syn), at: 0)
    nat.expire(at: 239)
    #expect(nat.flowCount == 1)
    _ = nat.inbound(back, segment(.syn), at: 239)
    _ = nat.outbound(out, segment(.ack), at: 239)
    nat.expire(at: 239 + 7439)
    #expect(nat.flowCount == 1)
    _ = nat.outbound(out, segment(.fin), at: 7678)
    nat.expire(at: 7678 + 240)
    #expect(nat.flowCount == 1)
    _ = nat.inbound(back, segment(.fin), at: 7918)
    nat.expire(at: 7918 + 239)
    #expect(nat.flowCount == 1)
    nat.expire(at: 7918 + 240)
    #expect(nat.flowCount == 0)
    #expect(nat.mappingCount == 0)
  }

  @Test("RFC 5382 REQ-5: a mapping lives as long as one of its connections")
  func aMappingOutlivesAConnection() {
    var nat = Self.translation()
    for remote in [8, 9] as [UInt8] {
      _ = nat.outbound(Self.outbound(1, 5000, to: remote, 80, .tcp), segment(.syn), at: 0)
      _ = nat.inbound(Self.inbound(to: 5000, from: remote, 80, .tcp), segment(.syn), at: 0)
      _ = nat.outbound(Self.outbound(1, 5000, to: remote, 80, .tcp), segment(.ack), at: 0)
    }
    _ = nat.inbound(Self.inbound(to: 5000, from: 8, 80, .tcp), segment(.rst), at: 1)
    nat.expire(at: 241)
    #expect(nat.flowCount == 1)
    #expect(nat.inside(of: Self.inbound(to: 5000, from: 9, 80, .tcp)) == Self.endpoint(1, 5000))
  }

  @Test("RFC 5508 REQ-1: an echo's identifier is translated as a port")
  func echoes() {
    var nat = Self.translation()
    let one = nat.outbound(Self.outbound(1, 7, .icmp), nil, at: 0)
    let two = nat.outbound(Self.outbound(2, 7, .icmp), nil, at: 0)
    #expect(one?.port == 7)
    #expect(two != nil && two?.port != 7)
    #expect(nat.inbound(Self.inbound(to: 7, from: 9, 0, .icmp), nil, at: 0) == Self.endpoint(1, 7))
    #expect(
      nat.inbound(Self.inbound(to: two?.port ?? 0, from: 9, 0, .icmp), nil, at: 0)
        == Self.endpoint(2, 7))
    // Again, now by the flow.
    #expect(nat.outbound(Self.outbound(2, 7, .icmp), nil, at: 1) == two)
  }

  @Test("RFC 4787 REQ-2: all of a host's ports are of one external address")
  func onePair() {
    var nat = Self.translation()
    for port in 5000..<5050 as Range<UInt16> {
      let endpoint = nat.outbound(Self.outbound(1, port), nil, at: 0)
      #expect(endpoint?.address == IPv6Address(Self.external))
    }
  }

  @Test("RFC 5382 REQ-1, REQ-3: one mapping for all destinations, and anybody may answer")
  func connectionsAreIndependentOfTheOtherEnd() {
    var nat = Self.translation()
    let first = nat.outbound(Self.outbound(1, 5000, to: 9, 80, .tcp), segment(.syn), at: 0)
    let second = nat.outbound(Self.outbound(1, 5000, to: 8, 443, .tcp), segment(.syn), at: 0)
    #expect(first != nil && first == second)
    #expect(nat.mappingCount == 1)
    #expect(
      nat.inbound(Self.inbound(to: 5000, from: 77, 7, .tcp), segment(.syn), at: 0)
        == Self.endpoint(1, 5000))
  }

  @Test("RFC 5382 REQ-7: no TCP port for two endpoints")
  func connectionsDoNotShareAPort() {
    var nat = Self.translation(200)
    var seen: Set<UInt16> = []
    for host in 1...150 as ClosedRange<UInt8> {
      let key = Self.outbound(host, 5000, to: 9, 80, .tcp)
      guard let endpoint = nat.outbound(key, segment(.syn), at: 0) else {
        Issue.record("no port for \(host)")
        return
      }
      #expect(seen.insert(endpoint.port).inserted)
    }
  }

  @Test("RFC 4787 REQ-11: mapping and filtering are the same whatever has happened")
  func behaviourDoesNotChange() {
    var nat = Self.translation(64)
    var generator = FuzzTests.Numbers(state: 11)
    for step in 0..<20_000 as Range<UInt32> {
      let host = UInt8.random(in: 1...40, using: &generator)
      let port = UInt16.random(in: 5000...5003, using: &generator)
      guard let endpoint = nat.outbound(Self.outbound(host, port), nil, at: step / 16) else {
        Issue.record("nothing is left at step \(step)")
        return
      }
      let remote = UInt8.random(in: 1...200, using: &generator)
      #expect(nat.outbound(Self.outbound(host, port, to: remote), nil, at: step / 16) == endpoint)
      #expect(
        nat.inbound(Self.inbound(to: endpoint.port, from: 250, 9), nil, at: step / 16)
          == Self.endpoint(host, port))
      #expect(endpoint.port % 2 == port % 2)
      if step % 64 == 0 { nat.expire(at: step / 16) }
    }
  }

  @Test("RFC 5508 REQ-2: queries are forgotten after 300 s, not before 60 s")
  func queriesAreForgotten() {
    var nat = Self.translation()
    _ = nat.outbound(Self.outbound(1, 7, .icmp), nil, at: 0)
    nat.expire(at: 299)
    #expect(nat.flowCount == 1)
    nat.expire(at: 300)
    #expect(nat.flowCount == 0)
  }

  /// Each of a port of its own: there are as many mappings as flows.
  @Test(arguments: [IPProtocol.udp, .tcp, .icmp])
  func aScanFromInsideDoesNotKeepOthersOut(_ protocol: IPProtocol) {
    var nat = Self.translation(16)
    let opening = `protocol` == .tcp ? segment(.syn) : nil
    // Answered: it stays.
    let own = Self.outbound(1, 5000, to: 9, 80, `protocol`)
    _ = nat.outbound(own, opening, at: 0)
    _ = nat.inbound(
      Self.inbound(to: 5000, from: 9, 80, `protocol`), `protocol` == .tcp ? segment(.ack) : nil,
      at: 0)
    for number in 0..<5000 as Range<UInt16> {
      let key = Self.outbound(2, 10_000 + number, to: 9, 80, `protocol`)
      #expect(nat.outbound(key, opening, at: 1) != nil)
    }
    #expect(nat.flowCount == 16)
    #expect(nat.mappingCount == 16)
    #expect(nat.outbound(own, `protocol` == .tcp ? segment(.ack) : nil, at: 2)?.port == 5000)
    #expect(nat.outbound(Self.outbound(3, 6000, to: 9, 80, `protocol`), opening, at: 2) != nil)
  }

  /// Anybody may send to a mapped port, but nobody makes lasting flows of it alone.
  @Test(arguments: [IPProtocol.udp, .tcp])
  func aFloodFromOutsideDoesNotKeepOthersOut(_ protocol: IPProtocol) {
    var nat = Self.translation(16)
    let isTCP = `protocol` == .tcp
    let own = Self.outbound(1, 5000, to: 9, 80, `protocol`)
    _ = nat.outbound(own, isTCP ? segment(.syn) : nil, at: 0)
    _ = nat.inbound(
      Self.inbound(to: 5000, from: 9, 80, `protocol`), isTCP ? segment([.syn, .ack]) : nil, at: 0)
    _ = nat.outbound(own, isTCP ? segment(.ack) : nil, at: 0)
    for number in 0..<1000 as Range<UInt16> {
      let key = Self.inbound(to: 5000, from: 66, 1000 + number, `protocol`)
      for flags in [.syn, .ack, .ack] as [TCPHeader.Flags] {
        _ = nat.inbound(key, isTCP ? segment(flags) : nil, at: 1)
      }
    }
    let other = nat.outbound(
      Self.outbound(2, 6000, to: 9, 80, `protocol`), isTCP ? segment(.syn) : nil, at: 1)
    #expect(other != nil)
    nat.expire(at: 1000, limit: 1000)
    #expect(nat.flowCount == (isTCP ? 1 : 0))
  }

  @Test func whatIsFullRefusesAndGoesOn() {
    var nat = Self.translation(2)
    for host in [1, 2] as [UInt8] {
      _ = nat.outbound(Self.outbound(host, 5000, to: 9, 80, .tcp), segment(.syn), at: 0)
      let port =
        nat.outbound(Self.outbound(host, 5000, to: 9, 80, .tcp), segment(.syn), at: 0)?.port ?? 0
      _ = nat.inbound(Self.inbound(to: port, from: 9, 80, .tcp), segment(.syn), at: 0)
      _ = nat.outbound(Self.outbound(host, 5000, to: 9, 80, .tcp), segment(.ack), at: 0)
    }
    #expect(nat.outbound(Self.outbound(3, 5000, to: 9, 80, .tcp), segment(.syn), at: 0) == nil)
    #expect(nat.flowCount == 2)
    #expect(nat.mappingCount == 2)
    #expect(nat.outbound(Self.outbound(1, 5000, to: 9, 80, .tcp), segment(.ack), at: 1) != nil)
  }
}

extension PortTranslationTests {
  static func outbound(_ host: UInt8, _ port: UInt16, _ protocol: IPProtocol) -> FlowKey {
    outbound(host, port, to: 9, 80, `protocol`)
  }
}
