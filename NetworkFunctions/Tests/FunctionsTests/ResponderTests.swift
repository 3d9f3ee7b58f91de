import Functions
import Packets
import TestFrames
import Testing

@Suite struct ResponderTests {
  private func responder() throws -> Responder {
    var responder = Responder()
    var surroundings = TestSurroundings()
    try responder.configure(Sample.configuration, in: &surroundings)
    return responder
  }

  private func segment(
    _ flags: TCPHeader.Flags, to port: UInt16, sequence: UInt32, acknowledgement: UInt32 = 0,
    payload: Int = 0
  ) -> [UInt8] {
    withFrame([]) { frame in
      frame.setLength(54 + payload)
      EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv4)
        .write(to: &frame)
      IPv4Header(
        source: Sample.client, destination: Sample.left, protocol: .tcp, payload: 20 + payload
      ).write(to: &frame, at: 14)
      TCPHeader(
        source: 40000, destination: port, sequence: sequence, acknowledgement: acknowledgement,
        flags: flags, window: 65535
      ).write(to: &frame, at: 34)
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
}
