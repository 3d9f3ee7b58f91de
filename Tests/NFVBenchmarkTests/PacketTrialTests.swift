import Testing

@testable import NFVBenchmark

@Suite struct PacketTrialTests {
  static let client: [UInt8] = [10, 0, 0, 1]
  static let server: [UInt8] = [10, 0, 0, 2]
  static let router: [UInt8] = [10, 0, 0, 9]

  static func packet(_ trial: PacketTrial, _ number: Int) -> [UInt8] {
    trial.packet(number, from: client, to: server)
  }

  static func answer(_ packet: [UInt8]) -> (number: Int, verdict: PacketVerdict)? {
    PacketTrial.answer(
      in: [UInt8](repeating: 2, count: 12) + [8, 0] + packet, from: client, to: server)
  }

  /// A header without options, whose checksum nobody looks at.
  static func ip(_ transport: UInt8, from source: [UInt8], _ body: [UInt8]) -> [UInt8] {
    [0x45, 0, 0, UInt8(20 + body.count), 0, 0, 0, 0, 64, transport, 0, 0] + source + client + body
  }

  @Test func theOctetsOfEachKind() {
    let ping: [UInt8] = [
      0x45, 0, 0, 30, 0, 0, 0x40, 0, 1, 1, 0x65, 0xDD,  // lives one hop, ICMP
      10, 0, 0, 1, 10, 0, 0, 2,
      8, 0, 0xA9, 0xDB, 0x4E, 0x20, 0, 3,  // echo, identifier 20000, sequence 3
      0, 1,
    ]
    #expect(Self.packet(.init(.echo(octets: 2), hops: 1, expected: .passed), 3) == ping)
    let syn: [UInt8] = [
      0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0x26, 0xCE, 10, 0, 0, 1, 10, 0, 0, 2,
      0x4E, 0x25, 0x13, 0x89, 0, 0, 0, 1, 0, 0, 0, 0,  // 20005 to 5001
      0x50, 0x02, 0xFF, 0xFF, 0x3A, 0x31, 0, 0,
    ]
    #expect(Self.packet(.init(.connection(port: 5001), expected: .passed), 5) == syn)
    let stray = Self.packet(.init(.stray(port: 5001), expected: .dropped), 5)
    #expect(stray[33] == 0x10 && stray[28..<32] == [0, 0, 0, 1])
    let datagram = Self.packet(.init(.datagram(port: 53), expected: .dropped), 6)
    #expect(datagram.count == 32 && datagram[9] == 17)
    #expect(datagram[20..<26] == [0x4E, 0x26, 0, 53, 0, 12])
    // Sums over what has its own sum in it are nothing (RFC 1071).
    for packet in [ping, syn, stray, datagram] {
      #expect(SynProbe.checksum(Array(packet[..<20])) == [0, 0])
    }
    #expect(SynProbe.checksum(Array(ping[20...])) == [0, 0])
    for packet in [syn, stray, datagram] {
      let body = Array(packet[20...])
      let pseudo = Self.client + Self.server + [0, packet[9], 0, UInt8(body.count)]
      #expect(SynProbe.checksum(pseudo + body) == [0, 0])
    }
  }

  @Test func resetsAreToldByTheNumberOfTheirSyn() {
    func segment(_ flags: UInt8, acknowledging number: [UInt8]) -> [UInt8] {
      [UInt8](repeating: 2, count: 12) + [8, 0]
        + Self.ip(
          6, from: Self.server,
          [0, 1, 0xC3, 0x50, 0, 0, 0, 0] + number + [0x50, flags, 0, 0, 0, 0, 0, 0])
    }
    let reset = segment(0x14, acknowledging: [0, 1, 0, 0])
    #expect(SynProbe.isReset(reset, from: Self.server, of: 0xFFFF))
    #expect(!SynProbe.isReset(reset, from: Self.server, of: 0x1_0000))
    #expect(!SynProbe.isReset(reset, from: Self.client, of: 0xFFFF))
    #expect(!SynProbe.isReset(Array(reset.dropLast()), from: Self.server, of: 0xFFFF))
    // Taken for one of the number 0xFFFFFFFF, a SYN that is accepted is none.
    let whole = segment(0x12, acknowledging: [0, 0, 0, 0])
    #expect(!SynProbe.isReset(whole, from: Self.server, of: 0xFFFF_FFFF))
    #expect(
      SynProbe.isReset(
        segment(0x14, acknowledging: [0, 0, 0, 0]), from: Self.server, of: 0xFFFF_FFFF))
  }

  @Test func answersAreToldByTheirNumbers() throws {
    let reply = try #require(
      Self.answer(Self.ip(1, from: Self.server, [0, 0, 0, 0, 0x4E, 0x20, 0, 7])))
    #expect(reply.number == 7 && reply.verdict == .passed)
    func segment(_ flags: UInt8) -> [UInt8] {
      Self.ip(
        6, from: Self.server,
        [0x13, 0x89, 0x4E, 0x25, 0, 0, 0, 0, 0, 0, 0, 2, 0x50, flags, 0, 0, 0, 0, 0, 0])
    }
    #expect(try #require(Self.answer(segment(0x12))) == (5, .passed))
    #expect(try #require(Self.answer(segment(0x14))) == (5, .refused))
    #expect(Self.answer(segment(0x10)) == nil)
    let datagram = Self.ip(17, from: Self.server, [0, 53, 0x4E, 0x26, 0, 8, 0, 0])
    #expect(try #require(Self.answer(datagram)) == (6, .passed))
    // By somebody else, and of a number that is none of ours.
    #expect(
      Self.answer(Self.ip(1, from: Self.router, [0, 0, 0, 0, 0x4E, 0x20, 0, 7])) == nil)
    #expect(Self.answer(Self.ip(1, from: Self.server, [0, 0, 0, 0, 0x4E, 0x21, 0, 7])) == nil)
  }

  @Test func errorsAreToldByWhatTheyQuote() throws {
    let sent = Self.packet(.init(.datagram(port: 53), expected: .dropped), 6)
    func error(_ type: UInt8, _ quoted: [UInt8]) -> [UInt8] {
      Self.ip(1, from: Self.router, [type, 0, 0, 0, 0, 0, 0, 0] + quoted)
    }
    #expect(try #require(Self.answer(error(3, sent))) == (6, .refused))
    #expect(try #require(Self.answer(error(11, sent))) == (6, .expired(at: Self.router)))
    let ping = Self.packet(.init(.echo(octets: 8), expected: .passed), 9)
    #expect(
      try #require(Self.answer(error(11, Array(ping[..<28])))) == (9, .expired(at: Self.router)))
    // Cut off, of another kind, about another's packet.
    #expect(Self.answer(error(3, Array(sent[..<27]))) == nil)
    #expect(Self.answer(error(5, sent)) == nil)
    let foreign = PacketTrial(.datagram(port: 53), expected: .dropped)
      .packet(6, from: Self.client, to: Self.router)
    #expect(Self.answer(error(3, foreign)) == nil)
    for count in 0..<50 { _ = Self.answer(Array(error(3, sent).prefix(count))) }
  }
}
