import Functions
import Packets
import TestFrames
import Testing

/// Who sends by the router what a neighbour of its own would take is told so (RFC 1812, sections
/// 4.3.3.2 and 5.2.7.2).
@Suite struct RedirectTests {
  static let neighbour = IPv4Address(10, 0, 1, 9)
  static let neighbourMAC = MACAddress(0x02_0000_0000_09)
  static let behind = IPv4Address(192, 168, 5, 5)

  /// A function of which a neighbour on the left leads to another network, and whose neighbours have
  /// answered.
  static func function(
    _ pipeline: String, _ surroundings: inout TestSurroundings
  ) throws -> Pipeline {
    var function = Pipeline()
    var configuration = Sample.configuration(
      #"{"pipeline": "\#(pipeline)", "rules": [{"action": "accept"}]}"#)
    configuration.ports[0].routes = [
      .init(
        destination: Prefix(IPv4Address(192, 168, 0, 0), length: 16),
        via: IPv6Address(neighbour))
    ]
    try function.configure(configuration, in: &surroundings)
    for (address, mac, port) in [
      (behind, neighbourMAC, 0), (Sample.server, Sample.serverMAC, 1),
    ] {
      _ = function.process(Sample.udp(to: address, ports: (9, 9)), from: 0, &surroundings)
      _ = function.process(
        Sample.arpReply(
          port == 0 ? neighbour : address, mac, to: port == 0 ? Sample.left : Sample.right,
          port == 0 ? Sample.leftMAC : Sample.rightMAC), from: port, &surroundings)
    }
    surroundings.emitted = []
    return function
  }

  @Test("RFC 1812 5.2.7.2: for the host, by the better hop; the datagram goes on all the same")
  func redirects() throws {
    var surroundings = TestSurroundings()
    var router = try Self.function("router", &surroundings)
    let original = Sample.udp(to: Self.behind)
    let (verdict, octets) = router.process(original, from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(
      Seen(octets)
        == Seen(
          macs: [Self.neighbourMAC, Sample.leftMAC], source: IPv6Address(Sample.client),
          destination: IPv6Address(Self.behind), hopLimit: 63, protocol: .udp, first: 4000,
          second: 53, isRight: true))
    #expect(surroundings.emitted.map(\.port) == [0])
    let told = surroundings.emitted.first?.octets ?? []
    // 4.3.3.2: code 1 alone; the source is on the receiver's network.
    #expect(
      Seen(told)
        == Seen(
          macs: [Sample.clientMAC, Sample.leftMAC], source: IPv6Address(Sample.left),
          destination: IPv6Address(Sample.client), hopLimit: 64, protocol: .icmp, first: 5,
          second: 1, isRight: true))
    #expect(Array(told[38..<42]) == [10, 0, 1, 9])
    #expect(Array(told[42...]) == Array(original[14...]))
  }

  @Test("RFC 792: who is on the same network is his own next hop")
  func neighbours() throws {
    var surroundings = TestSurroundings()
    var router = try Self.function("router", &surroundings)
    // Its MAC is asked for as well.
    _ = router.process(Sample.udp(to: IPv4Address(10, 0, 1, 7)), from: 0, &surroundings)
    let told = surroundings.emitted.first { Seen($0.octets)?.protocol == .icmp }?.octets ?? []
    #expect(Seen(told)?.first == 5)
    #expect(told.count >= 42 && Array(told[38..<42]) == [10, 0, 1, 7])
  }

  @Test("RFC 1812 4.3.2.3: a long datagram's beginning is quoted, 576 octets in all")
  func longDatagrams() throws {
    var surroundings = TestSurroundings()
    var router = try Self.function("router", &surroundings)
    let original = Sample.udp(to: Self.behind, payload: [UInt8](repeating: 7, count: 1400))
    #expect(router.process(original, from: 0, &surroundings).verdict == .send(port: 0))
    let told = surroundings.emitted.first?.octets ?? []
    #expect(told.count == 14 + 576)
    #expect(Seen(told)?.isRight == true)
    #expect(Array(told.dropFirst(42)) == Array(original[14..<562]))
  }

  @Test(
    "RFC 1812 5.2.7.2, 4.3.2.7: not by another port, from another network, to all, about errors",
    arguments: [
      Sample.udp(), Sample.udp(from: IPv4Address(10, 9, 9, 9), to: behind),
      // From the better hop itself: the router's and its routes go round.
      Sample.udp(from: neighbour, to: behind),
      Sample.udp(to: IPv4Address(10, 0, 1, 255)), Sample.udp(to: behind, fragment: 0x0010),
      Sample.echo(11, to: behind), Sample.echo(5, to: behind),
    ])
  func noRedirects(octets: [UInt8]) throws {
    var surroundings = TestSurroundings()
    var router = try Self.function("router", &surroundings)
    _ = router.process(octets, from: 0, &surroundings)
    #expect(surroundings.emitted.allSatisfy { Seen($0.octets)?.protocol != .icmp })
  }

  /// A route's next hop that is of none of the port's networks is no neighbour of the sender's.
  @Test func anotherNetworkOnTheSameLink() throws {
    var surroundings = TestSurroundings()
    var router = Router()
    var configuration = Sample.configuration
    configuration.ports[0].addresses.append(Prefix(IPv4Address(10, 0, 7, 1), length: 24))
    configuration.ports[0].routes = [
      .init(
        destination: Prefix(IPv4Address(192, 168, 0, 0), length: 16),
        via: IPv6Address(IPv4Address(10, 0, 7, 9)))
    ]
    try router.configure(configuration, in: &surroundings)
    surroundings.emitted = []
    _ = router.process(Sample.udp(to: Self.behind), from: 0, &surroundings)
    // It asks for the next hop.
    #expect(surroundings.emitted.count == 1)
    #expect(Seen(surroundings.emitted.first?.octets ?? []) == nil)
  }

  @Test("RFC 1812 4.3.2.8: they are limited, and take no other errors away")
  func areLimited() throws {
    var surroundings = TestSurroundings()
    var router = try Self.function("router", &surroundings)
    for _ in 0..<1000 {
      let (verdict, _) = router.process(Sample.udp(to: Self.behind), from: 0, &surroundings)
      #expect(verdict == .send(port: 0))
    }
    // One was for what came first of all.
    #expect(surroundings.emitted.count == 49)
    surroundings.now += 100_000_000
    for _ in 0..<1000 {
      _ = router.process(Sample.udp(to: Self.behind), from: 0, &surroundings)
    }
    #expect(surroundings.emitted.count == 59)
    #expect(
      router.process(Sample.udp(hopLimit: 1), from: 0, &surroundings).verdict == .send(port: 0))
  }

  /// What filters or translates tells nobody who stands beside it.
  @Test(arguments: ["firewall", "nat44", "firewall | nat44", "loadbalancer"])
  func stagesSendNone(pipeline: String) throws {
    var surroundings = TestSurroundings()
    var function = try Self.function(pipeline, &surroundings)
    let (verdict, octets) = function.process(
      Sample.udp(to: Self.behind), from: 0, &surroundings)
    if pipeline != "loadbalancer" {
      #expect(verdict == .send(port: 0))
      #expect(Seen(octets)?.macs == [Self.neighbourMAC, Sample.leftMAC])
    }
    #expect(surroundings.emitted.isEmpty)
  }
}
