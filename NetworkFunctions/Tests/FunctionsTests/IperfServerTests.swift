import Functions
import Packets
import TestFrames
import Testing

/// The responder as a server of iperf 2.
@Suite struct IperfServerTests {
  /// A client's side of one connection, and the responder.
  final class Peer {
    var responder = Responder()
    var surroundings = TestSurroundings()
    var sequence: UInt32 = 100
    /// The next number of the responder's.
    var expected: UInt32 = 0
    var octetsReceived = 0
    var hasReceivedEnd = false

    init() throws {
      try responder.configure(Sample.configuration, in: &surroundings)
      let opened = try #require(try send(.syn))
      sequence &+= 1
      expected = opened.sequence &+ 1
    }

    /// - Returns: the answer to it; what the responder sent of its own is taken.
    @discardableResult
    func send(_ flags: TCPHeader.Flags, _ payload: [UInt8] = []) throws -> TCPHeader? {
      let frame = Self.segment(flags, sequence, expected, payload)
      let (verdict, octets) = responder.process(frame, from: 0, &surroundings)
      sequence &+= UInt32(payload.count) &+ (flags.contains(.fin) ? 1 : 0)
      try take()
      return verdict == .drop ? nil : try Self.header(octets).header
    }

    func take() throws {
      for emitted in surroundings.emitted {
        let (header, payload) = try Self.header(emitted.octets)
        guard header.sequence == expected else { continue }
        octetsReceived += payload
        hasReceivedEnd = hasReceivedEnd || header.flags.contains(.fin)
        expected &+= header.span(payload: payload)
      }
      surroundings.emitted = []
    }

    private static func header(_ octets: [UInt8]) throws -> (header: TCPHeader, payload: Int) {
      var header: TCPHeader?
      var payload = 0
      withFrame(octets) { frame in
        guard let ethernet = EthernetHeader(in: frame),
          let datagram = Datagram(in: frame, ethernet), datagram.isTransportRight(in: frame)
        else { return }
        header = TCPHeader(in: frame, datagram)
        payload = datagram.transportLength - (header?.headerLength ?? 0)
      }
      return (try #require(header), payload)
    }

    private static func segment(
      _ flags: TCPHeader.Flags, _ sequence: UInt32, _ acknowledgement: UInt32, _ payload: [UInt8]
    ) -> [UInt8] {
      withFrame([]) { frame in
        let length = 20 + payload.count
        frame.setLength(34 + length)
        EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv4)
          .write(to: &frame)
        IPv4Header(
          source: Sample.client, destination: Sample.left, protocol: .tcp, payload: length
        ).write(to: &frame, at: 14)
        TCPHeader(
          source: 40_000, destination: 5001, sequence: sequence, acknowledgement: acknowledgement,
          flags: flags, window: 65_535
        ).write(to: &frame, at: 34)
        for (index, octet) in payload.enumerated() { frame.set(octet, at: 54 + index) }
        var sum = Checksum.pseudoHeader(
          IPv6Address(Sample.client), IPv6Address(Sample.left), protocol: .tcp, length: length)
        sum.add(frame.sum(from: 34, count: length))
        frame.set(sum.value, at: 34 + TCPHeader.checksumOffset)
      }
    }
  }

  /// See `IperfTests` for its octets.
  private func request(amount: Int32 = -100, flags: UInt16 = 0x0400) -> [UInt8] {
    withFrame([UInt8](repeating: 0, count: 60)) { frame in
      frame.set(UInt32(0x4401_0078), at: 0)
      frame.set(UInt32(bitPattern: amount), at: 20)
      frame.set(flags, at: 32)
    }
  }

  @Test func `octets that are asked for are sent, then the end, which the client answers`() throws {
    let peer = try Peer()
    try peer.send(.ack)
    #expect(peer.octetsReceived == 0)
    try peer.send(.ack, request(amount: 100_001))
    for _ in 0..<20 where !peer.hasReceivedEnd { try peer.send(.ack) }
    #expect(peer.octetsReceived == 100_001)
    #expect(peer.hasReceivedEnd)
    // FIN-WAIT-2: what still comes is taken.
    #expect(try peer.send(.ack) == nil)
    #expect(try peer.send(.ack, [1, 2, 3])?.acknowledgement == peer.sequence)
    #expect(try peer.send([.ack, .fin])?.acknowledgement == peer.sequence)
    // TIME-WAIT: the acknowledgement was lost, and the FIN comes again.
    peer.sequence &-= 1
    let again = try #require(try peer.send([.ack, .fin]))
    #expect(again.flags == .ack)
    #expect(again.acknowledgement == peer.sequence)
    peer.surroundings.now += 10_000_000_000
    #expect(peer.responder.advance(in: &peer.surroundings) == .max)
    try peer.take()
    #expect(peer.octetsReceived == 100_001)
  }

  @Test func `time that is asked for ends, also where nobody acknowledges`() throws {
    let peer = try Peer()
    try peer.send(.ack, request(amount: -50))
    #expect(peer.octetsReceived > 0)
    peer.surroundings.now = 499_000_000
    try peer.send(.ack)
    #expect(!peer.hasReceivedEnd)
    let before = peer.octetsReceived
    peer.surroundings.now = 500_000_000
    try peer.send(.ack)
    #expect(peer.hasReceivedEnd)
    #expect(peer.octetsReceived == before)
    // Its FIN is sent again.
    peer.expected &-= 1
    peer.hasReceivedEnd = false
    peer.surroundings.now = 1_000_000_000
    _ = peer.responder.advance(in: &peer.surroundings)
    try peer.take()
    #expect(peer.hasReceivedEnd)
  }

  @Test func `both close at once`() throws {
    let peer = try Peer()
    try peer.send(.ack, request(amount: 10))
    for _ in 0..<3 where !peer.hasReceivedEnd { try peer.send(.ack) }
    // The client's FIN has crossed ours.
    peer.expected &-= 1
    let crossed = try peer.send([.ack, .fin])
    #expect(crossed?.acknowledgement == peer.sequence)
    peer.expected &+= 1
    #expect(try peer.send(.ack) == nil)
    #expect(try peer.send(.ack)?.flags == .rst)
  }

  @Test func `both ways at a time`() throws {
    let peer = try Peer()
    try peer.send(.ack, request(amount: -100, flags: 0x0800) + [UInt8](repeating: 0, count: 900))
    #expect(peer.octetsReceived > 0)
    for _ in 0..<20 { try peer.send(.ack, [UInt8](repeating: 0, count: 1000)) }
    #expect(peer.octetsReceived > 20_000)
    var counters: [String: UInt64] = [:]
    peer.responder.readCounters { counters["\($0)"] = $1 }
    #expect(counters["tcpOctetsReceived"] == 20_960)
  }

  @Test func `a client that leaves early has its FIN answered`() throws {
    let peer = try Peer()
    try peer.send(.ack, request())
    try peer.send([.ack, .fin])
    #expect(peer.hasReceivedEnd)
    #expect(try peer.send(.ack) == nil)
    #expect(try peer.send(.ack)?.flags == .rst)
  }

  @Test func `what asks for nothing is discarded, also what asks later`() throws {
    for first in [[1], Array(request()[..<59]), request(flags: 0), request(flags: 0x0410)] {
      let peer = try Peer()
      for octets in [first, request(), Array(repeating: 7, count: 1000)] {
        let taken = try #require(try peer.send(.ack, octets))
        #expect(taken.flags == .ack)
        #expect(taken.acknowledgement == peer.sequence)
      }
      #expect(peer.octetsReceived == 0)
    }
  }
}

/// Over datagrams.
@Suite struct IperfDatagramTests {
  private func datagram(
    _ number: Int64, sentAt milliseconds: UInt64 = 0, length: Int = 1470, port: UInt16 = 4000
  ) -> [UInt8] {
    let payload = withFrame([UInt8](repeating: 0, count: length)) { frame in
      frame.set(UInt32(truncatingIfNeeded: number), at: 0)
      frame.set(UInt32(1_800_000_000 + milliseconds / 1000), at: 4)
      frame.set(UInt32(milliseconds % 1000 * 1000), at: 8)
      guard length >= 20 else { return }
      frame.set(UInt32(truncatingIfNeeded: number >> 32), at: 12)
      frame.set(UInt32(0x4801_0098), at: 16)
    }
    return Sample.udp(to: Sample.left, ports: (port, 5001), payload: payload)
  }

  private func responder() throws -> Responder {
    var responder = Responder()
    var surroundings = TestSurroundings()
    try responder.configure(Sample.configuration, in: &surroundings)
    return responder
  }

  @Test func `lost and late ones are counted, and the last one is answered by a report`() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    for (index, number) in ([1, 2, 5, 4, 6] as [Int64]).enumerated() {
      // On their way 1 ms, but for the third, which took 2 ms more.
      surroundings.now = UInt64(1 + index * 10 + (index == 2 ? 2 : 0)) * 1_000_000
      let octets = datagram(number, sentAt: UInt64(index * 10))
      #expect(responder.process(octets, from: 0, &surroundings).verdict == .drop)
    }
    surroundings.now = 101_000_000
    // It comes again until its answer has.
    for _ in 0..<3 {
      let (verdict, octets) = responder.process(
        datagram(-7, sentAt: 100), from: 0, &surroundings)
      #expect(verdict == .send(port: 0))
      let seen = try #require(Seen(octets))
      #expect(seen.isRight)
      #expect(seen.macs == [Sample.clientMAC, Sample.leftMAC])
      #expect(seen.source == IPv6Address(Sample.left))
      #expect((seen.first, seen.second) == (5001, 4000))
      #expect(octets.count == 42 + IperfReport.length)
      #expect(
        Array(octets[58..<90])
          == golden(
            """
            88000000 00000000 00002274  // six of 1,470 octets
            00000000 000186a0           // 0.1 s
            00000001 00000001           // number 3 is lost, number 4 was late
            00000007                    // the last one's number
            """))
      // 2 ms, a sixteenth of it twice, some of the first gone.
      #expect((100...250).contains(UInt16(octets[96]) << 8 | UInt16(octets[97])))
    }
  }

  /// 16 places, and whoever gives another one's address makes nobody be sent more than he has sent.
  @Test func `places are limited, and so are answers`() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    func answers(_ ports: Range<UInt16>, length: Int = 1470) -> Int {
      ports.count {
        responder.process(datagram(-1, length: length, port: $0), from: 0, &surroundings).verdict
          != .drop
      }
    }
    #expect(answers(5000..<6000) == 16)
    #expect(answers(5000..<5016) == 16)
    #expect(answers(6000..<6100) == 0)
    surroundings.now += 2_000_000_000
    #expect(answers(7000..<7100) == 16)
    surroundings.now += 2_000_000_000
    #expect(answers(8000..<8016, length: 127) == 0)
    for length in 0..<16 { #expect(answers(8000..<8016, length: length) == 0) }
    surroundings.now += 2_000_000_000
    for round in 0..<20 {
      #expect(answers(9000..<9001, length: 1280) == (round < 10 ? 1 : 0))
    }
  }

  @Test func `over IPv6 too, with its tag`() throws {
    var responder = Responder()
    var surroundings = TestSurroundings()
    var configuration = Sample.configuration
    let own = IPv6Address(0xfd00_0000_0000_0000, 1)
    let other = IPv6Address(0xfd00_0000_0000_0000, 2)
    configuration.ports[0].addresses.append(Prefix(own, length: 64))
    try responder.configure(configuration, in: &surroundings)
    let octets = withFrame([]) { frame in
      frame.setLength(18 + 40 + 8 + 200)
      for offset in 0..<frame.length { frame.set(UInt8(0), at: offset) }
      EthernetHeader(
        destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv6, tag: 5
      ).write(to: &frame)
      IPv6Header(source: other, destination: own, nextHeader: .udp, payload: 208)
        .write(to: &frame, at: 18)
      UDPHeader(source: 4000, destination: 5001, payload: 200).write(to: &frame, at: 58)
      frame.set(UInt32.max, at: 66)
      var sum = Checksum.pseudoHeader(other, own, protocol: .udp, length: 208)
      sum.add(frame.sum(from: 58, count: 208))
      frame.set(sum.udpValue, at: 64)
    }
    let (verdict, answer) = responder.process(octets, from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(answer.count == 66 + IperfReport.length)
    let seen = try #require(Seen(answer))
    #expect(seen.isRight)
    #expect(seen.destination == other)
    withFrame(answer) { frame in expect(EthernetHeader(in: frame)?.tag, is: 5) }
  }
}
