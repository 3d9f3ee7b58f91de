import Packets
import TestFrames
import Testing

/// What Debian 12's iperf (2.1.8) and its server say to each other.
@Suite struct IperfTests {
  /// `iperf -c ADDRESS -R -t 1`, with what is to be changed of it.
  static func request(
    _ first: String = "44010078", amount: String = "ffffff9c", flags: String = "0400",
    rate: String = "00000000"
  ) -> [UInt8] {
    golden(
      """
      \(first)                   // extended, version 2, 60 octets
      00000001 00001389          // threads, port
      00000000 00000000          // length of a write, window
      \(amount)                  // octets, or less than zero hundredths of a second
      00000000 00000000          // type, length
      \(flags) 0000              // flags beyond: 0400 reverse, 0800 both ways
      00020001 00080003          // version 2.1.8.3
      0000 0000                  // reserved, type of service
      \(rate) 00000000           // octets a second, upper half
      00000000                   // to be written ahead
      """)
  }

  private func read(_ octets: [UInt8], count: Int? = nil, capacity: Int? = nil) -> IperfRequest? {
    var request: IperfRequest?
    withFrame(octets, capacity: capacity ?? 2048) { frame in
      request = IperfRequest(in: frame, at: 0, count: count ?? octets.count)
    }
    return request
  }

  @Test func `a client asks for a second, for a MiB, and for both ways`() throws {
    let second = try #require(read(Self.request()))
    #expect(second.extent == .nanoseconds(1_000_000_000))
    #expect(!second.isTwoWay)
    let octets = try #require(read(Self.request(amount: "00100000")))
    #expect(octets.extent == .octets(1 << 20))
    let both = try #require(read(Self.request(flags: "0800")))
    #expect(both.isTwoWay)
    #expect(both.extent == .nanoseconds(1_000_000_000))
    // What a socket is to be set to changes nothing here, and what follows is not looked at.
    #expect(read(Self.request(flags: "c400") + [1, 2, 3]) == second)
    let longest = try #require(read(Self.request(amount: "80000000")))
    #expect(longest.extent == .nanoseconds(21_474_836_480_000_000))
  }

  @Test(arguments: [
    ("40010078", "0000", "00000000"),  // It sends.
    ("c0010079", "0000", "00000000"),  // -d: the server is to connect.
    ("04010078", "0400", "00000000"),  // There are no flags beyond.
    ("44010076", "0400", "00000000"),  // 59 octets.
    ("44810078", "0400", "00000000"),  // --bounceback
    ("440100a0", "0410", "00000000"),  // --trip-times
    ("44010078", "0401", "00000000"),  // --isochronous
    ("44010078", "1400", "00000000"),  // --txstart-time
    ("44010078", "2400", "00000000"),  // --burst-period
    ("44010078", "0600", "00000000"),  // --fq-rate
    ("44010078", "0400", "00989680"),  // -b 10m
  ])
  func nothingIsAskedForThatIsServed(first: String, flags: String, rate: String) {
    #expect(read(Self.request(first, flags: flags, rate: rate)) == nil)
  }

  @Test func `what is cut off asks for nothing`() {
    let octets = Self.request()
    for length in 0..<octets.count {
      #expect(read(Array(octets[..<length]), capacity: length) == nil)
      #expect(read(octets, count: length) == nil)
      // The frame is longer than what stands in its first buffer.
      #expect(read(Array(octets[..<length]), count: 60, capacity: length) == nil)
    }
    #expect(read(octets, count: -1) == nil)
    withFrame(octets, capacity: octets.count) { frame in
      expect(IperfRequest(in: frame, at: 1, count: 60), is: nil)
      expect(IperfRequest(in: frame, at: 70, count: 60), is: nil)
      expect(IperfDatagram(in: frame, at: 45, count: 60), is: nil)
      expect(IperfDatagram(in: frame, at: 44, count: 15), is: nil)
    }
  }

  @Test func `the first and the last datagram`() throws {
    let first = golden(
      """
      00000001                   // number
      6b02c985 00070771          // seconds, microseconds
      00000000                   // the number's upper half
      48010098                   // extended, numbers of 64 bits, 152 octets
      """)
    let last = golden(
      """
      fffffff4 6b02c986 0009ba7f ffffffff
      48010098
      """)
    withFrame(first) { frame in
      let head = IperfDatagram(in: frame, at: 0, count: 20)
      expect(head?.number, is: 1)
      expect(head?.sentAt, is: 1_795_344_773_460_657_000)
    }
    withFrame(last) { frame in
      expect(IperfDatagram(in: frame, at: 0, count: 20)?.number, is: -12)
      // Without what says how long numbers are.
      expect(IperfDatagram(in: frame, at: 0, count: 16)?.number, is: -12)
    }
    let far = golden("00000000 00000000 00000000 00000001 08000000")
    withFrame(far, capacity: 20) { frame in
      expect(IperfDatagram(in: frame, at: 0, count: 20)?.number, is: 1 << 32)
      expect(IperfDatagram(in: frame, at: 0, count: 16)?.number, is: 0)
    }
  }

  /// As the real server reported it, but for the delays, which a client reads by another flag.
  @Test func `a report`() {
    let report = IperfReport(
      octets: 17_640, nanoseconds: 1_176_906_000, datagrams: 12, lost: 0, disordered: 0,
      jitter: 20_000)
    #expect(
      written(report)
        == golden(
          """
          00000000 00000000 00000000 00000000  // number and time
          88000000                   // version 1, counts of 64 bits
          00000000 000044e8          // octets
          00000001 0002b30a          // seconds, microseconds
          00000000 00000000          // lost, not in their order
          0000000c                   // datagrams
          00000000 00000014          // jitter: seconds, microseconds
          00000000 00000000 00000000 00000000  // delays
          00000000 00000000 00000000 00000000
          00000000 00000000 00000000 00000000
          00000000 00000000 00000000
          00000000 00000000 00000000 // upper halves: lost, not in their order, datagrams
          """))
    let long = written(
      IperfReport(
        octets: 0x0102_0304_0506_0708, nanoseconds: 0, datagrams: 0x3_0000_0004,
        lost: 0x5_0000_0006, disordered: 0x7_0000_0008, jitter: 0))
    #expect(Array(long[20..<28]) == [1, 2, 3, 4, 5, 6, 7, 8])
    #expect(Array(long[36..<48]) == golden("00000006 00000008 00000004"))
    #expect(Array(long[116...]) == golden("00000005 00000007 00000003"))
  }

  private func written(_ report: IperfReport) -> [UInt8] {
    withFrame([UInt8](repeating: 0xaa, count: IperfReport.length)) { frame in
      report.write(to: &frame, at: 0)
    }
  }
}
