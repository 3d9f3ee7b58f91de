import Functions
import Packets
import TestFrames
import Testing

@Suite struct ResponderTests {
  private func responder(mtu: Int = 1500) throws -> Responder {
    var responder = Responder()
    var surroundings = TestSurroundings()
    var configuration = Sample.configuration
    configuration.ports[0].mtu = mtu
    try responder.configure(configuration, in: &surroundings)
    return responder
  }

  private func segment(
    _ flags: TCPHeader.Flags, to port: UInt16, sequence: UInt32, acknowledgement: UInt32 = 0,
    payload: Int = 0, maximumSegment: UInt16? = nil
  ) -> [UInt8] {
    let header = maximumSegment == nil ? 20 : 24
    return withFrame([], capacity: 4096) { frame in
      let payload = payload + header - 20
      frame.setLength(54 + payload)
      EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv4)
        .write(to: &frame)
      IPv4Header(
        source: Sample.client, destination: Sample.left, protocol: .tcp, payload: 20 + payload
      ).write(to: &frame, at: 14)
      TCPHeader(
        source: 40000, destination: port, sequence: sequence, acknowledgement: acknowledgement,
        flags: flags, window: 65535, headerLength: header
      ).write(to: &frame, at: 34)
      TCPOptions(maximumSegment: maximumSegment).write(to: &frame, at: 34)
      var sum = frame.sum(from: 34, count: 20 + payload)
      sum.add(
        Checksum.pseudoHeader(
          IPv6Address(Sample.client), IPv6Address(Sample.left), protocol: .tcp,
          length: 20 + payload))
      frame.set(sum.value, at: 34 + TCPHeader.checksumOffset)
    }
  }

  private func header(_ octets: [UInt8]) throws -> TCPHeader {
    var header: TCPHeader?
    withFrame(octets) { frame in
      guard let ethernet = EthernetHeader(in: frame),
        let datagram = Datagram(in: frame, ethernet), datagram.isTransportRight(in: frame)
      else { return }
      header = TCPHeader(in: frame, datagram)
    }
    return try #require(header)
  }

  @Test("RFC 1812 4.3.2.8: who gives another one's address has him told 100 times a second")
  func errorsAreLimited() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    func count() -> Int {
      (0..<1000).count { _ in
        responder.process(Sample.udp(to: Sample.left), from: 0, &surroundings).verdict != .drop
      }
    }
    #expect(count() == 50)
    surroundings.now += 100_000_000
    #expect(count() == 10)
  }

  /// RFC 9293, section 3.10.7.1.
  @Test func `a closed port answers by RST`() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    let (verdict, octets) = responder.process(
      segment(.syn, to: 82, sequence: 1000), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    let answer = try header(octets)
    #expect(answer.flags == [.rst, .ack])
    #expect(answer.acknowledgement == 1001)
    #expect(answer.destination == 40000)
  }

  @Test func `discard asks for what is missing, remembers what came ahead, and closes`() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    let opened = try header(
      responder.process(segment(.syn, to: 9, sequence: 99), from: 0, &surroundings).octets)
    #expect(opened.flags == [.syn, .ack])
    let own = opened.sequence &+ 1
    // The last two are one range; what is far beyond it is not remembered.
    let segments: [(sequence: UInt32, expected: UInt32)] = [
      (100, 600), (1600, 600), (1100, 600), (4100, 600), (600, 2100), (2100, 2600),
    ]
    for (sequence, expected) in segments {
      let taken = try header(
        responder.process(
          segment(.ack, to: 9, sequence: sequence, acknowledgement: own, payload: 500), from: 0,
          &surroundings
        ).octets)
      #expect(taken.acknowledgement == expected)
    }
    let fin = segment([.ack, .fin], to: 9, sequence: 2600, acknowledgement: own)
    #expect(responder.process(fin, from: 0, &surroundings).verdict == .drop)
    let closed = try header(try #require(surroundings.emitted.first).octets)
    #expect(closed.flags == [.ack, .fin])
    #expect(closed.acknowledgement == 2601)
  }

  @Test func `generated octets are sent again when nobody acknowledges`() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    let opened = try header(
      responder.process(segment(.syn, to: 19, sequence: 99), from: 0, &surroundings).octets)
    let own = opened.sequence &+ 1
    _ = responder.process(
      segment(.ack, to: 19, sequence: 100, acknowledgement: own), from: 0, &surroundings)
    let first = try #require(surroundings.emitted.first)
    #expect(try header(first.octets).sequence == own)
    #expect(first.octets[54] == UInt8(ascii: "a"))
    surroundings.emitted = []
    surroundings.now = 1_000_000_000
    _ = responder.advance(in: &surroundings)
    #expect(try #require(surroundings.emitted.first).octets == first.octets)
  }

  /// RFC 9293, section 3.10.7.4: whoever lost our window's opening asks with an old number.
  @Test func `a probe is answered, with the newest number after something was sent again`() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    let opened = try header(
      responder.process(segment(.syn, to: 7, sequence: 99), from: 0, &surroundings).octets)
    let own = opened.sequence &+ 1
    _ = responder.process(
      segment(.ack, to: 7, sequence: 100, acknowledgement: own, payload: 500), from: 0,
      &surroundings)
    #expect(surroundings.emitted.count == 1)
    surroundings.now = 1_000_000_000
    _ = responder.advance(in: &surroundings)
    #expect(surroundings.emitted.count == 2)
    let probe = segment(.ack, to: 7, sequence: 599, acknowledgement: own)
    let answer = try header(responder.process(probe, from: 0, &surroundings).octets)
    #expect(answer.flags == .ack)
    #expect(answer.sequence == own &+ 500)
    #expect(answer.acknowledgement == 600)
  }

  @Test func `echo offers no more than the first buffer of a frame holds`() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    let opened = try header(
      responder.process(segment(.syn, to: 7, sequence: 99), from: 0, &surroundings).octets)
    #expect(opened.window > 1460)
    // With Ethernet's header and a tag, IPv6's, TCP's with all options, and virtio-net's.
    let headers = 18 + 40 + 60 + 12
    #expect(Int(opened.window) + headers <= 4096)
  }

  /// A segment of 8,960 octets, as a network of jumbo frames has it, fits into no frame of our own.
  @Test(arguments: [UInt16(7), 19]) func `segments are no longer than their buffer`(
    port: UInt16
  ) throws {
    var responder = try responder(mtu: 9000)
    var surroundings = TestSurroundings()
    let opened = try header(
      responder.process(
        segment(.syn, to: port, sequence: 99, maximumSegment: 8960), from: 0, &surroundings
      ).octets)
    let own = opened.sequence &+ 1
    var sequence: UInt32 = 100
    var acknowledged = own
    for _ in 0..<3 {
      surroundings.emitted = []
      let payload = port == 7 ? 3800 : 0
      _ = responder.process(
        segment(
          .ack, to: port, sequence: sequence, acknowledgement: acknowledged, payload: payload),
        from: 0, &surroundings)
      sequence &+= UInt32(payload)
      var octets = 0
      for emitted in surroundings.emitted {
        let sent = try header(emitted.octets)
        #expect(sent.sequence == acknowledged &+ UInt32(octets))
        octets += emitted.octets.count - 54
      }
      // All of it is on its way at once.
      if port == 7 { #expect(octets == payload) } else { #expect(octets >= 8960) }
      acknowledged &+= UInt32(octets)
    }
  }

  @Test("RFC 9293 3.8.1, 3.10.7.4: a SYN sent again is answered by the same number")
  func repeatedOpenings() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    let syn = segment(.syn, to: 9, sequence: 99, maximumSegment: 1460)
    let first = responder.process(syn, from: 0, &surroundings).octets
    surroundings.now = 500_000_000
    #expect(responder.process(syn, from: 0, &surroundings).octets == first)
    // The answer to the first one opens the connection.
    let own = try header(first).sequence &+ 1
    let data = segment(.ack, to: 9, sequence: 100, acknowledgement: own, payload: 10)
    let taken = try header(responder.process(data, from: 0, &surroundings).octets)
    #expect(taken.flags == .ack)
    #expect(taken.acknowledgement == 110)
  }

  @Test("RFC 9293 3.10.7.4: SYN-RECEIVED, an unacceptable acknowledgement is reset")
  func wrongAcknowledgements() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    let opened = try header(
      responder.process(segment(.syn, to: 9, sequence: 99), from: 0, &surroundings).octets)
    let own = opened.sequence &+ 1
    for wrong in [own &- 1, own &+ 1, own &+ 70_000] {
      let answer = try header(
        responder.process(
          segment(.ack, to: 9, sequence: 100, acknowledgement: wrong), from: 0, &surroundings
        ).octets)
      #expect(answer.flags == .rst)
      #expect(answer.sequence == wrong)
    }
    let data = segment(.ack, to: 9, sequence: 100, acknowledgement: own, payload: 10)
    #expect(try header(responder.process(data, from: 0, &surroundings).octets).flags == .ack)
  }

  @Test("RFC 6298 2.1, 5: SYN and ACK are sent again, twice, and the connection is forgotten")
  func lostOpenings() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    let first = responder.process(
      segment(.syn, to: 9, sequence: 99, maximumSegment: 1460), from: 0, &surroundings
    ).octets
    var times: [Instant] = []
    for tenth in 1...300 as ClosedRange<Instant> {
      surroundings.now = tenth * 100_000_000
      _ = responder.advance(in: &surroundings)
      for emitted in surroundings.emitted {
        #expect(emitted.octets == first)
        times.append(tenth)
      }
      surroundings.emitted = []
    }
    #expect(times == [10, 30])
    let late = segment(
      .ack, to: 9, sequence: 100, acknowledgement: try header(first).sequence &+ 1)
    #expect(try header(responder.process(late, from: 0, &surroundings).octets).flags == .rst)
  }

  /// One that was opened is not answered again, and those that came and went leave nothing.
  @Test func `a flood of SYNs is sent again twice at most and ends`() throws {
    var responder = try responder()
    var surroundings = TestSurroundings()
    for number in 0..<20_000 as Range<UInt32> {
      var octets = segment(.syn, to: 9, sequence: number)
      octets = withFrame(octets) { frame in
        let port = UInt16(1024 + number % 60_000)
        frame.set(
          Checksum.update(frame.u16(at: 50), from: frame.u16(at: 34), to: port), at: 50)
        frame.set(port, at: 34)
      }
      _ = responder.process(octets, from: 0, &surroundings)
      surroundings.now += 100_000
      _ = responder.advance(in: &surroundings)
    }
    for _ in 0..<200 {
      surroundings.now += 100_000_000
      _ = responder.advance(in: &surroundings)
    }
    // The table has 512 places.
    #expect(surroundings.emitted.count <= 2 * 512 * 3)
    let before = surroundings.emitted.count
    surroundings.now += 100_000_000_000
    #expect(responder.advance(in: &surroundings) == .max)
    #expect(surroundings.emitted.count == before)
  }
}
