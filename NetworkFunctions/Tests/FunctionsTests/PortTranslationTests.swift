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
    // REQ-6: what goes out keeps it.
    _ = nat.outbound(Self.outbound(1, 5000), nil, at: 299)
    nat.expire(at: 598)
    #expect(nat.flowCount == 1)
    nat.expire(at: 599)
    #expect(nat.flowCount == 0)
    #expect(nat.mappingCount == 0)
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
