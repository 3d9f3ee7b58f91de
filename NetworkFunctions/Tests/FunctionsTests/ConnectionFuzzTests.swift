import Functions
import Packets
import TestFrames
import Testing

/// Segments of connections that are open, right ones and damaged ones: what a frame without the
/// connection's numbers never reaches.
@Suite struct ConnectionFuzzTests {
  /// As the client knows a connection.
  struct Connection {
    /// The next number of each side.
    var own: UInt32
    var other: UInt32
  }

  struct Client {
    static let services: [UInt16] = [7, 9, 19, 5001]
    static let headers = 14 + 20 + 20

    var numbers: FuzzTests.Numbers
    /// By the client's port.
    var connections: [UInt16: Connection] = [:]
    var opened = 0

    static func service(of port: UInt16) -> UInt16 { services[Int(port) % services.count] }

    mutating func segment() -> (octets: [UInt8], offload: Offload) {
      let port = UInt16.random(in: 40_000..<40_032, using: &numbers)
      guard let connection = connections[port] else {
        let sequence = UInt32.random(in: 0...UInt32.max, using: &numbers)
        connections[port] = Connection(own: sequence &+ 1, other: 0)
        let options = TCPOptions(
          maximumSegment: [nil, 0, 88, 536, 1460, 8960, 65_535].randomElement(using: &numbers)!,
          windowScale: [nil, 0, 7, 14].randomElement(using: &numbers)!)
        return (
          write(port, .syn, sequence, 0, payload: 0, options: options), Offload()
        )
      }
      let flags =
        ([.ack, .ack, .ack, .ack, .ack, .ack, .ack, .ack, .ack, [.ack, .psh]]
        + [[.ack, .fin], .rst, .syn, [.ack, .syn], .fin, []] as [TCPHeader.Flags])
        .randomElement(using: &numbers)!
      let isExact = Int.random(in: 0..<4, using: &numbers) > 0
      let payload = [0, 0, 1, 500, 1460, 3780, 3841, 8000].randomElement(using: &numbers)!
      var octets = write(
        port, flags, connection.own &+ (isExact ? 0 : near()),
        connection.other &+ (isExact ? 0 : near()), payload: payload,
        options: TCPOptions())
      for _ in 0..<[0, 0, 0, 1, 2].randomElement(using: &numbers)! {
        octets[Int.random(in: 34..<54, using: &numbers)] = UInt8.random(
          in: 0...255, using: &numbers)
      }
      var offload = Offload()
      // Damaged ones get no further without that.
      if Bool.random(using: &numbers) { offload.flags = Offload.checksumIsValid }
      if Int.random(in: 0..<8, using: &numbers) == 0 {
        offload = .partial(start: 34, offset: TCPHeader.checksumOffset)
        offload.segmentation = Offload.Segmentation.tcp4
        offload.segmentSize = UInt16.random(in: 0...UInt16.max, using: &numbers)
        offload.headerLength = UInt16.random(in: 0...UInt16.max, using: &numbers)
      }
      return (octets, offload)
    }

    private mutating func near() -> UInt32 {
      UInt32(bitPattern: Int32.random(in: -5000...5000, using: &numbers))
    }

    private mutating func write(
      _ port: UInt16, _ flags: TCPHeader.Flags, _ sequence: UInt32, _ acknowledgement: UInt32,
      payload: Int, options: TCPOptions
    ) -> [UInt8] {
      let window = [0, 1, 1000, 65_535].randomElement(using: &numbers)!
      return withFrame([], capacity: Self.headers + 8 + payload) { frame in
        let length = 20 + options.length + payload
        frame.setLength(34 + length)
        EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv4)
          .write(to: &frame)
        IPv4Header(
          source: Sample.client, destination: Sample.left, protocol: .tcp, payload: length
        ).write(to: &frame, at: 14)
        TCPHeader(
          source: port, destination: Self.service(of: port), sequence: sequence,
          acknowledgement: acknowledgement, flags: flags, window: UInt16(window),
          headerLength: 20 + options.length
        ).write(to: &frame, at: 34)
        options.write(to: &frame, at: 34)
        if payload >= IperfRequest.length, Self.service(of: port) == 5001 {
          // Octets or some time in reverse.
          frame.set(UInt32(0x4401_0078), at: 54)
          frame.set(port % 8 < 4 ? 5000 : UInt32.max, at: 74)
          frame.set(UInt16(0x0400), at: 86)
        }
        var sum = Checksum.pseudoHeader(
          IPv6Address(Sample.client), IPv6Address(Sample.left), protocol: .tcp, length: length)
        sum.add(frame.sum(from: 34, count: length))
        frame.set(sum.value, at: 34 + TCPHeader.checksumOffset)
      }
    }

    /// What the function says of a connection.
    mutating func read(_ octets: [UInt8]) {
      var header: TCPHeader?
      var payload = 0
      withFrame(octets) { frame in
        guard let ethernet = EthernetHeader(in: frame),
          let datagram = Datagram(in: frame, ethernet)
        else { return }
        header = TCPHeader(in: frame, datagram)
        payload = datagram.transportLength - (header?.headerLength ?? 0)
      }
      guard let header, connections[header.destination] != nil else { return }
      guard !header.flags.contains(.rst) else {
        connections[header.destination] = nil
        return
      }
      if header.flags.contains(.syn) { opened += 1 }
      connections[header.destination] = Connection(
        own: header.acknowledgement, other: header.sequence &+ header.span(payload: payload))
    }
  }

  @Test(arguments: FuzzTests.mtus, [false, true])
  func connections(mtu: Int, segments: Bool) throws {
    var client = Client(numbers: FuzzTests.Numbers(state: UInt64(mtu)))
    var surroundings = TestSurroundings()
    surroundings.segmentsTCP = segments
    var responder = Responder()
    var configuration = Sample.configuration
    configuration.ports[0].mtu = mtu
    try responder.configure(configuration, in: &surroundings)
    var longest = 0
    for step in 0..<FuzzTests.count / 4 {
      let (octets, offload) = client.segment()
      let (verdict, answer) = responder.process(octets, from: 0, &surroundings, offload: offload)
      if verdict != .drop { client.read(answer) }
      surroundings.now += UInt64.random(in: 0...20_000_000, using: &client.numbers)
      if step % 8 == 0 { _ = responder.advance(in: &surroundings) }
      for emitted in surroundings.emitted {
        client.read(emitted.octets)
        let sent = SentFrame(emitted.octets, emitted.offload)
        if let flaw = sent.flaw(from: Sample.leftMAC, isSound: true) {
          Issue.record("step \(step): \(flaw)")
        }
        longest = max(longest, emitted.octets.count)
      }
      surroundings.emitted = []
    }
    #expect(client.opened > FuzzTests.count / 1000)
    if !segments { #expect(longest <= 14 + max(mtu, 104)) }
    // It still opens connections.
    let verdict = responder.process(
      Sample.tcp(to: Sample.left, ports: (50_000, 7), flags: .syn), from: 0, &surroundings
    ).verdict
    #expect(verdict == .send(port: 0))
  }
}
