import Functions
import Packets
import TestFrames
import Testing

/// Frames that a card is to segment (Virtual I/O Device 1.1, 5.1.6.2).
@Suite struct SegmentationTests {
  /// One of so many octets of payload, of which the card makes segments of so many.
  static func segments(
    payload: Int, of size: UInt16, headerLength: UInt16, headers: Int = 20
  ) -> (octets: [UInt8], offload: Offload) {
    let octets = withFrame(Sample.tcp(flags: .ack), capacity: 4096) { frame in
      frame.setLength(34 + headers + payload)
      IPv4Header(
        source: Sample.client, destination: Sample.server, protocol: .tcp,
        payload: headers + payload
      ).write(to: &frame, at: 14)
      frame.set(UInt8(headers * 4), at: 46)
    }
    var offload = Offload.partial(start: 34, offset: TCPHeader.checksumOffset)
    offload.segmentation = Offload.Segmentation.tcp4
    offload.segmentSize = size
    offload.headerLength = headerLength
    return (octets, offload)
  }

  @Test(
    "5.1.6.2: a segment is as long as its headers say, not as the sender's hint",
    arguments: [
      // As the kernel says it of a frame below a page, of a longer one, not at all, and nonsense.
      (2896, 2950, 20), (2896, 54, 20), (2896, 0, 20), (2896, 65535, 20), (2880, 2946, 32),
    ] as [(Int, UInt16, Int)])
  func hints(payload: Int, hint: UInt16, headers: Int) throws {
    var surroundings = TestSurroundings()
    var router = try RouterTests.router(&surroundings)
    let size = UInt16(1500 - 20 - headers)
    for (size, isSent) in [(size, true), (size + 1, false)] {
      let (octets, offload) = Self.segments(
        payload: payload, of: size, headerLength: hint, headers: headers)
      var verdict = Verdict.drop
      var sent = Offload()
      withFrame(octets, capacity: 4096, offload: offload) { frame in
        verdict = router.process(&frame, from: 0, in: &surroundings)
        sent = frame.offload
      }
      #expect(verdict == .send(port: isSent ? 1 : 0))
      guard isSent else { continue }
      #expect(sent.headerLength == UInt16(34 + headers))
      #expect(sent.segmentSize == size)
    }
  }
}
