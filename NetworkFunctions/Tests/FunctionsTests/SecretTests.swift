import Functions
import Packets
import Testing

@Suite struct SecretTests {
  /// The key and the input of the reference implementation's vectors: octets that count up.
  static let secret = Secret(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)

  @Test func `SipHash-1-3 of two words, as other implementations have it`() {
    #expect(
      Self.secret.hash(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908) == 0xcc4f_dd1a_7d90_8b66)
  }

  @Test func `another secret puts keys elsewhere`() {
    let keys = (0..<256).map { FlowTableTests.key($0) }
    let there = keys.filter {
      $0.hash(Secret(1, 2)) & 0xff == $0.hash(Secret(1, 3)) & 0xff
    }
    #expect(there.count < 16)
    #expect(Set(keys.map { $0.hash(Secret(1, 2)) }).count == keys.count)
  }

  @Test("RFC 6528 3: sequence numbers go on with time, and differ by endpoints and secret")
  func sequenceNumbers() throws {
    func initial(_ port: UInt16, at now: Instant, _ seed: UInt64) throws -> UInt32 {
      var surroundings = TestSurroundings(seed: seed)
      surroundings.now = now
      var responder = Responder()
      try responder.configure(Sample.configuration, in: &surroundings)
      let (verdict, octets) = responder.process(
        Sample.tcp(to: Sample.left, ports: (port, 9), flags: .syn), from: 0, &surroundings)
      #expect(verdict == .send(port: 0))
      return octets[38..<42].reduce(0) { $0 << 8 | UInt32($1) }
    }
    let first = try initial(4000, at: 1_000_000_000, 1)
    // 250,000 a second.
    #expect(try initial(4000, at: 2_000_000_000, 1) &- first == 250_000)
    #expect(try initial(4001, at: 1_000_000_000, 1) != first)
    #expect(try initial(4000, at: 1_000_000_000, 2) != first)
  }
}
