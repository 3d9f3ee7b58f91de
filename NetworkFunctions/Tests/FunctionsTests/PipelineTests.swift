import Functions
import Packets
import TestFrames
import Testing

/// Left is inside, right is outside.
@Suite struct PipelineTests {
  static let back = NAT44Tests.back
  static let rules = """
    "rules": [{"from": "left", "source": "10.0.1.0/24", "protocol": "tcp", "ports": 80,
               "action": "accept"},
              {"from": "left", "protocol": "udp", "action": "accept"}]
    """

  /// It knows both neighbours' MACs.
  static func pipeline(
    _ text: String, _ parameters: String, _ surroundings: inout TestSurroundings
  ) throws -> Pipeline {
    var pipeline = Pipeline()
    // A router asks for all its neighbours.
    try pipeline.configure(
      Sample.configuration(#"{"pipeline": "router"}"#), in: &surroundings)
    _ = pipeline.process(Sample.udp(), from: 0, &surroundings)
    _ = pipeline.process(
      Sample.udp(from: Sample.server, to: Sample.client, macs: back), from: 1, &surroundings)
    for (octets, port) in [
      (Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC), 1),
      (Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), 0),
    ] {
      _ = pipeline.process(octets, from: port, &surroundings)
    }
    try pipeline.configure(
      Sample.configuration(#"{"pipeline": "\#(text)", \#(parameters)}"#), in: &surroundings)
    surroundings.emitted = []
    return pipeline
  }

  static func counters(_ pipeline: borrowing Pipeline) -> [String: UInt64] {
    var counters: [String: UInt64] = [:]
    pipeline.readCounters { counters["\($0)"] = $1 }
    return counters
  }

  @Test func `a firewall before a NAT judges what is inside`() throws {
    var surroundings = TestSurroundings()
    var pipeline = try Self.pipeline("firewall | nat44", Self.rules, &surroundings)
    let out = pipeline.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    #expect(out.verdict == .send(port: 1))
    #expect(Seen(out.octets)?.source == IPv6Address(Sample.right))
    #expect(Seen(out.octets)?.isRight == true)
    let answer = pipeline.process(
      Sample.tcp(
        from: Sample.server, to: Sample.right, ports: (80, 4000), flags: [.syn, .ack],
        macs: Self.back), from: 1, &surroundings)
    #expect(answer.verdict == .send(port: 0))
    #expect(Seen(answer.octets)?.destination == IPv6Address(Sample.client))
    #expect(Seen(answer.octets)?.isRight == true)
    // The NAT alone would let anybody answer; the firewall knows who was asked.
    let other = pipeline.process(
      Sample.tcp(
        from: IPv4Address(172, 16, 0, 9), to: Sample.right, ports: (80, 4000), flags: .syn,
        macs: Self.back), from: 1, &surroundings)
    #expect(other.verdict == .drop)
    // What the firewall does not allow has no mapping.
    #expect(
      pipeline.process(Sample.tcp(ports: (4001, 81), flags: .syn), from: 0, &surroundings).verdict
        == .drop)
    let counters = Self.counters(pipeline)
    #expect(counters["firewall.dropped"] == 2)
    #expect(counters["firewall.accepted"] == 2)
    #expect(counters["nat44.outbound"] == 1)
    #expect(counters["nat44.inbound"] == 2)
  }

  @Test("RFC 5508 REQ-4: errors pass both ways back")
  func errors() throws {
    var surroundings = TestSurroundings()
    var pipeline = try Self.pipeline("firewall | nat44", Self.rules, &surroundings)
    let original = Sample.udp()
    let out = pipeline.process(original, from: 0, &surroundings)
    let error = pipeline.process(
      NAT44Tests.error(
        about: out.octets, from: Sample.server, to: Sample.right, Self.back), from: 1,
      &surroundings)
    #expect(error.verdict == .send(port: 0))
    #expect(Seen(error.octets)?.isRight == true)
    #expect(Array(error.octets[54..<66]) == Array(original[26..<38]))
  }

  @Test func `a firewall before a balancer judges the service's address`() throws {
    var surroundings = TestSurroundings()
    var pipeline = try Self.pipeline(
      "firewall | loadbalancer",
      #"""
      "rules": [{"destination": "10.0.1.80", "protocol": "tcp", "ports": 80, "action": "accept"},
                {"action": "reject"}],
      "services": [{"address": "10.0.1.80", "port": 80, "protocol": "tcp"}],
      "backends": [{"address": "10.0.2.2"}]
      """#, &surroundings)
    let service = IPv4Address(10, 0, 1, 80)
    let out = pipeline.process(Sample.tcp(to: service, flags: .syn), from: 0, &surroundings)
    #expect(out.verdict == .send(port: 1))
    #expect(Seen(out.octets)?.destination == IPv6Address(Sample.server))
    #expect(Seen(out.octets)?.isRight == true)
    let answer = pipeline.process(
      Sample.tcp(
        from: Sample.server, to: Sample.client, ports: (80, 4000), flags: [.syn, .ack],
        macs: Self.back), from: 1, &surroundings)
    #expect(answer.verdict == .send(port: 0))
    #expect(Seen(answer.octets)?.source == IPv6Address(service))
    // It answers for the address.
    let query = withFrame([]) { frame in
      frame.setLength(42)
      EthernetHeader(destination: .broadcast, source: Sample.clientMAC, type: .arp)
        .write(to: &frame)
      ARPPacket(.request, senderMAC: Sample.clientMAC, sender: Sample.client, target: service)
        .write(to: &frame, at: 14)
    }
    #expect(pipeline.process(query, from: 0, &surroundings).verdict == .send(port: 0))
    // Refused with a reset that comes from where it was sent to.
    let refused = pipeline.process(
      Sample.tcp(to: service, ports: (4000, 81), flags: .syn), from: 0, &surroundings)
    #expect(refused.verdict == .send(port: 0))
    #expect(refused.octets[47] == 0x14)
  }

  @Test func `a new configuration keeps what it allows`() throws {
    var surroundings = TestSurroundings()
    var pipeline = try Self.pipeline("firewall | nat44", Self.rules, &surroundings)
    func passes() -> Bool {
      pipeline.process(
        Sample.udp(from: Sample.server, to: Sample.right, ports: (53, 4000), macs: Self.back),
        from: 1, &surroundings
      ).verdict == .send(port: 0)
    }
    _ = pipeline.process(Sample.udp(), from: 0, &surroundings)
    #expect(passes())
    func configure(_ parameters: String) throws {
      try pipeline.configure(
        Sample.configuration(#"{"pipeline": "firewall | nat44", \#(parameters)}"#),
        in: &surroundings)
    }
    try configure(#""flows": 5000, "ports": "30000-30999", \#(Self.rules)"#)
    #expect(passes())
    // Refused as a whole: the NAT's part is wrong, the firewall's is not taken either.
    #expect(throws: ConfigurationError.self) { try configure(#""rules": [], "ports": 1"#) }
    #expect(passes())
    try configure(#""rules": []"#)
    #expect(!passes())
  }

  @Test func `the responder alone`() throws {
    var surroundings = TestSurroundings()
    var pipeline = try Self.pipeline("responder", #""x": 1"#, &surroundings)
    let (verdict, octets) = pipeline.process(
      Sample.tcp(to: Sample.left, flags: .syn), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(octets[47] == 0x14)
  }
}
