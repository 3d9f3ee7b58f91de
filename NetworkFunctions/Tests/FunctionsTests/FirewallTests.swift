import Functions
import Packets
import TestFrames
import Testing

@Suite struct FirewallTests {
  static let back = (Sample.serverMAC, Sample.rightMAC)

  static let rules = """
    {"flows": 8, "flowsPerHost": 100, "rules": [
      {"from": "left", "protocol": "tcp", "ports": "80", "action": "accept"},
      {"from": "left", "protocol": "icmp", "action": "accept"},
      {"from": "left", "protocol": "tcp", "action": "reject"},
      {"from": "left", "protocol": "udp", "ports": 9, "action": "reject"}]}
    """

  /// TCP 80 and echoes from left to right, other TCP refused; it knows both neighbours' MACs.
  static func firewall(
    _ surroundings: inout TestSurroundings, capacity: Int = 16
  ) throws -> Firewall {
    var firewall = Firewall()
    try firewall.configure(
      Sample.configuration(#"{"flows": \#(capacity), "rules": [{"action": "accept"}]}"#),
      in: &surroundings)
    for (octets, port) in [
      (Sample.udp(), 0),
      (Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC), 1),
      (
        Sample.udp(from: Sample.server, to: Sample.client, ports: (9, 9), macs: back), 1
      ),
      (Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), 0),
    ] {
      _ = firewall.process(octets, from: port, &surroundings)
    }
    surroundings.now = 1_000_000_000_000
    _ = firewall.advance(in: &surroundings)
    surroundings.emitted = []
    // Heard of again, as it is long ago.
    for (octets, port) in [
      (Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC), 1),
      (Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), 0),
    ] {
      _ = firewall.process(octets, from: port, &surroundings)
    }
    try firewall.configure(Sample.configuration(rules), in: &surroundings)
    #expect(firewall.stage.flowCount == 0)
    return firewall
  }

  static func answer(_ flags: TCPHeader.Flags, _ ports: (UInt16, UInt16) = (80, 4000)) -> [UInt8] {
    Sample.tcp(
      from: Sample.server, to: Sample.client, ports: ports, flags: flags, macs: back)
  }

  @Test func anAllowedConnectionPassesInBothDirections() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    let out = firewall.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    #expect(out.verdict == .send(port: 1))
    #expect(Seen(out.octets)?.isRight == true)
    #expect(
      firewall.process(Self.answer([.syn, .ack]), from: 1, &surroundings).verdict
        == .send(port: 0))
    #expect(
      firewall.process(Sample.tcp(flags: .ack), from: 0, &surroundings).verdict == .send(port: 1))
    #expect(firewall.stage.flowCount == 1)
  }

  @Test func answersWithoutQuestionDoNotPass() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    for octets in [
      Self.answer([.syn, .ack]), Self.answer(.ack), Self.answer(.syn), Self.answer(.rst),
      Sample.echo(0, from: Sample.server, to: Sample.client, macs: Self.back),
      Sample.udp(from: Sample.server, to: Sample.client, macs: Self.back),
    ] {
      #expect(firewall.process(octets, from: 1, &surroundings).verdict == .drop)
    }
    // In the middle of a connection that nobody saw begin.
    #expect(firewall.process(Sample.tcp(flags: .ack), from: 0, &surroundings).verdict == .drop)
    #expect(surroundings.emitted.isEmpty)
    #expect(firewall.stage.flowCount == 0)
  }

  @Test func aRefusedConnectionIsReset() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    let (verdict, octets) = firewall.process(
      Sample.tcp(ports: (4000, 81), flags: .syn), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(
      Seen(octets)
        == Seen(
          macs: [Sample.clientMAC, Sample.leftMAC], source: IPv6Address(Sample.server),
          destination: IPv6Address(Sample.client), hopLimit: 64, protocol: .tcp, first: 81,
          second: 4000, isRight: true))
    // RFC 9293 3.10.7.1: sequence 0, the SYN acknowledged, RST and ACK.
    #expect(Array(octets[38..<42]) == [0, 0, 0, 0])
    #expect(Array(octets[42..<46]) == [0, 0, 0x03, 0xe9])
    #expect(octets[47] == 0x14)
    #expect(firewall.stage.flowCount == 0)
  }

  @Test func aRefusedDatagramIsTold() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    let (verdict, octets) = firewall.process(
      Sample.udp(ports: (4000, 9)), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(Seen(octets)?.first == 3)
    #expect(Seen(octets)?.second == 13)
    #expect(Seen(octets)?.isRight == true)
    #expect(
      firewall.process(Sample.udp(ports: (4000, 10)), from: 0, &surroundings).verdict == .drop)
  }

  @Test func anErrorAboutAFlowPasses() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    let syn = Sample.tcp(flags: .syn)
    func error(about quoted: [UInt8]) -> [UInt8] {
      withFrame([]) { frame in
        frame.setLength(42 + 28)
        EthernetHeader(
          destination: Self.back.1, source: Self.back.0, type: .ipv4
        ).write(to: &frame)
        IPv4Header(
          source: Sample.server, destination: Sample.client, protocol: .icmp, payload: 36
        ).write(to: &frame, at: 14)
        ICMPHeader(type: 3, code: 1).write(to: &frame, at: 34)
        for (index, octet) in quoted[14..<42].enumerated() { frame.set(octet, at: 42 + index) }
        frame.set(frame.sum(from: 34, count: 36).value, at: 36)
      }
    }
    #expect(firewall.process(error(about: syn), from: 1, &surroundings).verdict == .drop)
    _ = firewall.process(syn, from: 0, &surroundings)
    #expect(
      firewall.process(error(about: syn), from: 1, &surroundings).verdict == .send(port: 0))
    let other = Sample.tcp(ports: (4001, 80), flags: .syn)
    #expect(firewall.process(error(about: other), from: 1, &surroundings).verdict == .drop)
  }

  @Test func flowsEnd() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    _ = firewall.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    _ = firewall.process(Self.answer([.syn, .ack]), from: 1, &surroundings)
    _ = firewall.process(Sample.tcp(flags: .ack), from: 0, &surroundings)
    func isKept(after seconds: UInt64) -> Bool {
      surroundings.now += seconds * 1_000_000_000
      _ = firewall.advance(in: &surroundings)
      return firewall.stage.flowCount == 1
    }
    #expect(isKept(after: 100_000))
    _ = firewall.process(Sample.tcp(flags: [.fin, .ack]), from: 0, &surroundings)
    #expect(isKept(after: 1000))
    _ = firewall.process(Self.answer([.fin, .ack]), from: 1, &surroundings)
    #expect(isKept(after: 119))
    #expect(!isKept(after: 1))
  }

  @Test func aFloodOfBeginningsDoesNotEndConnections() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings, capacity: 8)
    _ = firewall.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    _ = firewall.process(Self.answer([.syn, .ack]), from: 1, &surroundings)
    _ = firewall.process(Sample.tcp(flags: .ack), from: 0, &surroundings)
    for number in 5000..<6000 as Range<UInt16> {
      let (verdict, _) = firewall.process(
        Sample.tcp(ports: (number, 80), flags: .syn), from: 0, &surroundings)
      #expect(verdict == .send(port: 1))
    }
    #expect(firewall.stage.flowCount == 8)
    #expect(firewall.process(Self.answer(.ack), from: 1, &surroundings).verdict == .send(port: 0))
  }

  @Test func aFloodOfDatagramsDoesNotEndWhatIsAnswered() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings, capacity: 8)
    try firewall.configure(
      Sample.configuration(
        """
        {"flows": 8, "flowsPerHost": 100,
         "rules": [{"from": "left", "protocol": "udp", "action": "accept"}]}
        """),
      in: &surroundings)
    let answer = Sample.udp(
      from: Sample.server, to: Sample.client, ports: (53, 4000), macs: Self.back)
    _ = firewall.process(Sample.udp(), from: 0, &surroundings)
    _ = firewall.process(answer, from: 1, &surroundings)
    for number in 5000..<6000 as Range<UInt16> {
      let (verdict, _) = firewall.process(
        Sample.udp(ports: (number, 53)), from: 0, &surroundings)
      #expect(verdict == .send(port: 1))
    }
    #expect(firewall.stage.counters.full == 0)
    #expect(firewall.stage.flowCount == 8)
    #expect(firewall.process(answer, from: 1, &surroundings).verdict == .send(port: 0))
  }

  /// As nftables has it: a rule without a protocol is about all of them.
  @Test func protocolsWithoutKnownPortsAreFlowsToo() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    try firewall.configure(
      Sample.configuration(
        #"{"rules": [{"from": "left", "destination": "10.0.2.2", "action": "accept"}]}"#),
      in: &surroundings)
    func encapsulated(back: Bool) -> [UInt8] {
      withFrame([]) { frame in
        frame.setLength(34 + 16)
        let macs = back ? Self.back : (Sample.clientMAC, Sample.leftMAC)
        EthernetHeader(destination: macs.1, source: macs.0, type: .ipv4).write(to: &frame)
        IPv4Header(
          source: back ? Sample.server : Sample.client,
          destination: back ? Sample.client : Sample.server, protocol: IPProtocol(47), payload: 16
        ).write(to: &frame, at: 14)
      }
    }
    #expect(firewall.process(encapsulated(back: true), from: 1, &surroundings).verdict == .drop)
    #expect(
      firewall.process(encapsulated(back: false), from: 0, &surroundings).verdict
        == .send(port: 1))
    #expect(
      firewall.process(encapsulated(back: true), from: 1, &surroundings).verdict
        == .send(port: 0))
    // Without a whole header it is nothing that a rule can judge.
    let cut = withFrame(Sample.tcp(flags: .syn)) { frame in
      IPv4Header(source: Sample.client, destination: Sample.server, protocol: .tcp, payload: 12)
        .write(to: &frame, at: 14)
    }
    #expect(firewall.process(cut, from: 0, &surroundings).verdict == .drop)
  }

  /// Of a flow's first packet, whose answers come to that port.
  @Test func theSourcePortDecides() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    try firewall.configure(
      Sample.configuration(
        """
        {"rules": [{"from": "left", "protocol": "udp", "sourcePorts": "4000-4001", "ports": 53,
                    "action": "accept"}]}
        """),
      in: &surroundings)
    func passes(_ ports: (UInt16, UInt16)) -> Bool {
      firewall.process(Sample.udp(ports: ports), from: 0, &surroundings).verdict == .send(port: 1)
    }
    #expect(passes((4000, 53)) && passes((4001, 53)))
    #expect(!passes((3999, 53)) && !passes((4002, 53)) && !passes((53, 4000)))
    let answer = Sample.udp(
      from: Sample.server, to: Sample.client, ports: (53, 4000), macs: Self.back)
    #expect(firewall.process(answer, from: 1, &surroundings).verdict == .send(port: 0))
  }

  @Test func newRulesEndWhatTheyDoNotAllow() throws {
    var surroundings = TestSurroundings()
    var firewall = try Self.firewall(&surroundings)
    _ = firewall.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    _ = firewall.process(Self.answer([.syn, .ack]), from: 1, &surroundings)
    func passes() -> Bool {
      firewall.process(Self.answer(.ack), from: 1, &surroundings).verdict == .send(port: 0)
    }
    try firewall.configure(
      Sample.configuration(
        #"{"rules": [{"from": "left", "destination": "10.0.2.2", "action": "accept"}]}"#),
      in: &surroundings)
    #expect(passes())
    // What makes no sense changes nothing.
    #expect(throws: ConfigurationError.self) {
      try firewall.configure(Sample.configuration(#"{"rules": [{}]}"#), in: &surroundings)
    }
    #expect(passes())
    // Its answers' port alone is not enough: who began it counts.
    try firewall.configure(
      Sample.configuration(#"{"rules": [{"from": "right", "action": "accept"}]}"#),
      in: &surroundings)
    #expect(!passes())
    #expect(firewall.stage.flowCount == 0)
  }
}
