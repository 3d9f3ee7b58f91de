import Functions
import Packets
import TestFrames
import Testing

/// What RFC 4787, 5382 and 5508 ask of a NAT besides its tables, on the wire; left is inside, right is
/// outside.
@Suite struct NATRequirementTests {
  static let back = NAT44Tests.back

  @Test("RFC 4787 REQ-10, RFC 5382 REQ-6: what is in a packet is nobody's business")
  func noApplicationGateways() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    // FTP, SIP and TFTP tell addresses.
    for port in [21, 69, 5060] as [UInt16] {
      let payload = Array("PORT 10,0,1,2,15,160 sip:10.0.1.2:4000".utf8)
      let out = nat.process(
        Sample.udp(ports: (4000, port), payload: payload), from: 0, &surroundings)
      #expect(out.verdict == .send(port: 1))
      #expect(Array(out.octets[42...]) == payload)
    }
    // Over TCP both ways: what is said, how long it is, and where in the stream.
    for port in [21, 5060] as [UInt16] {
      let asked = Array("PORT 10,0,1,2,15,160\r\n".utf8)
      let told = Array("227 Entering Passive Mode (10,0,2,1,15,160)\r\n".utf8)
      _ = nat.process(Sample.tcp(ports: (4000, port), flags: .syn), from: 0, &surroundings)
      let sent = Sample.tcp(ports: (4000, port), flags: [.ack, .psh], payload: asked)
      let out = nat.process(sent, from: 0, &surroundings)
      let answer = Sample.tcp(
        from: Sample.server, to: Sample.right, ports: (port, 4000), flags: [.ack, .psh],
        payload: told, macs: Self.back)
      let back = nat.process(answer, from: 1, &surroundings)
      #expect(out.verdict == .send(port: 1) && back.verdict == .send(port: 0))
      for (before, after) in [(sent, out.octets), (answer, back.octets)] {
        #expect(Array(after[16..<18]) == Array(before[16..<18]))
        #expect(Array(after[38..<50]) == Array(before[38..<50]))
        #expect(Array(after[54...]) == Array(before[54...]))
        #expect(Seen(after)?.isRight == true)
      }
    }
  }

  @Test(
    "RFC 4787 REQ-12, RFC 5382 REQ-10, RFC 5508 REQ-6: an ICMP error ends and refreshes nothing")
  func errorsLeaveMappings() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    surroundings.now = 1_000_000_000_000
    _ = nat.advance(in: &surroundings)
    #expect(nat.stage.flowCount == 0)
    let second: Instant = 1_000_000_000
    let begin = surroundings.now
    var outs: [[UInt8]] = []
    for octets in [Sample.udp(), Sample.tcp(flags: .syn), Sample.echo()] {
      _ = nat.process(octets, from: 0, &surroundings)
      _ = nat.process(
        Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC),
        from: 1, &surroundings)
      outs.append(nat.process(octets, from: 0, &surroundings).octets)
    }
    #expect(nat.stage.flowCount == 3)
    surroundings.now = begin + 200 * second
    let inbound = nat.stage.counters.inbound
    for out in outs {
      let error = NAT44Tests.error(about: out, from: Sample.server, to: Sample.right, Self.back)
      _ = nat.process(error, from: 1, &surroundings)
    }
    #expect(nat.stage.flowCount == 3)
    #expect(nat.stage.counters.inbound == inbound + 3)
    // TCP's 240 s and the others' 300 s are those of what was sent.
    for (after, flows) in [(239, 3), (240, 2), (299, 2), (300, 0)] as [(Instant, Int)] {
      surroundings.now = begin + after * second
      _ = nat.advance(in: &surroundings)
      #expect(nat.stage.flowCount == flows, "after \(after) s")
    }
  }

  @Test("RFC 4787 REQ-12a: an error may come from anybody on the way")
  func errorsFromTheWay() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let out = nat.process(Sample.udp(), from: 0, &surroundings)
    let router = IPv4Address(203, 0, 113, 1)
    let error = nat.process(
      NAT44Tests.error(about: out.octets, from: router, to: Sample.right, Self.back), from: 1,
      &surroundings)
    #expect(error.verdict == .send(port: 0))
    #expect(Seen(error.octets)?.source == IPv6Address(router))
  }

  @Test("RFC 4787 REQ-13: what is too long is told, or (a) fragmented in order")
  func tooLong() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    var configuration = Sample.configuration(#"{"flows": 16}"#)
    configuration.ports[1].mtu = 576
    try nat.configure(configuration, in: &surroundings)
    surroundings.emitted = []
    let payload = (0..<1200).map { UInt8(truncatingIfNeeded: $0) }
    let told = nat.process(Sample.udp(payload: payload), from: 0, &surroundings)
    #expect(told.verdict == .send(port: 0))
    #expect(Seen(told.octets)?.first == 3)
    #expect(Seen(told.octets)?.second == 4)
    #expect(surroundings.emitted.isEmpty)
    let whole = Sample.udp(payload: payload, fragment: 0)
    #expect(nat.process(whole, from: 0, &surroundings).verdict == .drop)
    let parts = surroundings.emitted.map(\.octets)
    #expect(surroundings.emitted.map(\.port) == [1, 1, 1])
    #expect(parts.map(\.count) == [14 + 572, 14 + 572, 14 + 20 + 104])
    #expect(parts.map { Array($0[20..<22]) } == [[0x20, 0], [0x20, 69], [0, 138]])
    for part in parts { #expect(Array(part[26..<30]) == [10, 0, 2, 1]) }
    #expect(FragmentTests.isWhole(parts))
  }

  @Test("RFC 5382 REQ-2: both ends may open at once")
  func simultaneousOpen() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let out = nat.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    #expect(out.verdict == .send(port: 1))
    for flags in [.syn, [.syn, .ack], .ack] as [TCPHeader.Flags] {
      let segment = nat.process(
        Sample.tcp(
          from: Sample.server, to: Sample.right, ports: (80, 4000), flags: flags,
          macs: Self.back), from: 1, &surroundings)
      #expect(segment.verdict == .send(port: 0))
      #expect(Seen(segment.octets)?.destination == IPv6Address(Sample.client))
    }
    // From outside to a mapped port, too.
    let begun = nat.process(
      Sample.tcp(
        from: IPv4Address(172, 16, 0, 9), to: Sample.right, ports: (999, 4000), flags: .syn,
        macs: Self.back), from: 1, &surroundings)
    #expect(begun.verdict == .send(port: 0))
  }

  @Test("RFC 5382 REQ-8: connections hairpin, with (a) the external address as source")
  func hairpinnedConnections() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    _ = nat.process(Sample.tcp(flags: .syn), from: 0, &surroundings)
    let (verdict, octets) = nat.process(
      Sample.tcp(
        from: NAT44Tests.neighbour, to: Sample.right, ports: (6000, 4000), flags: .syn,
        macs: (NAT44Tests.neighbourMAC, Sample.leftMAC)), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(
      Seen(octets)
        == NAT44Tests.seen(
          from: Sample.right, to: Sample.client, (6000, 4000), .tcp, macs: NAT44Tests.inwards))
  }

  @Test("RFC 5382 REQ-9: an error about a connection reaches who made it")
  func errorsAboutConnections() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let original = Sample.tcp(flags: .syn)
    let out = nat.process(original, from: 0, &surroundings)
    let error = nat.process(
      NAT44Tests.error(about: out.octets, from: Sample.server, to: Sample.right, Self.back),
      from: 1, &surroundings)
    #expect(error.verdict == .send(port: 0))
    #expect(Seen(error.octets)?.isRight == true)
    #expect(Array(error.octets[54..<66]) == Array(original[26..<38]))
  }

  @Test("RFC 5508 REQ-1: queries that are no echoes")
  func timestamps() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let out = nat.process(Sample.echo(13), from: 0, &surroundings)
    #expect(
      Seen(out.octets)
        == NAT44Tests.seen(
          from: Sample.right, to: Sample.server, (13, 0), .icmp, macs: NAT44Tests.outwards))
    let reply = nat.process(
      Sample.echo(14, from: Sample.server, to: Sample.right, macs: Self.back), from: 1,
      &surroundings)
    #expect(
      Seen(reply.octets)
        == NAT44Tests.seen(
          from: Sample.server, to: Sample.client, (14, 0), .icmp, macs: NAT44Tests.inwards))
  }

  @Test("RFC 5508 REQ-3: what is wrong in an error: its checksum, and (a) the quoted header's")
  func damagedErrors() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let out = nat.process(Sample.udp(), from: 0, &surroundings)
    let error = NAT44Tests.error(
      about: out.octets, from: Sample.server, to: Sample.right, Self.back)
    var damaged = error
    damaged[69] ^= 1
    #expect(nat.process(damaged, from: 1, &surroundings).verdict == .drop)
    // The quoted time to live, with the message's checksum made anew.
    let quoted = withFrame(error) { frame in
      frame.set(UInt8(1), at: 50)
      frame.set(UInt16(0), at: 36)
      frame.set(frame.sum(from: 34, count: 36).value, at: 36)
    }
    #expect(nat.process(quoted, from: 1, &surroundings).verdict == .drop)
    // (c): of the transport's checksum nothing is asked.
    let transport = withFrame(error) { frame in
      frame.set(UInt16(0x1234), at: 68)
      frame.set(UInt16(0), at: 36)
      frame.set(frame.sum(from: 34, count: 36).value, at: 36)
    }
    #expect(nat.process(transport, from: 1, &surroundings).verdict == .send(port: 0))
  }

  @Test("RFC 5508 REQ-3b: quoted options are passed over")
  func quotedOptions() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let out = nat.process(Sample.udp(), from: 0, &surroundings).octets
    // No operation, four times.
    let header = withFrame([UInt8](repeating: 0, count: 24)) { frame in
      for (index, octet) in out[14..<34].enumerated() { frame.set(octet, at: index) }
      frame.set(UInt8(0x46), at: 0)
      frame.set(UInt32(0x0101_0101), at: 20)
      frame.set(UInt16(0), at: 10)
      frame.set(frame.sum(from: 0, count: 24).value, at: 10)
    }
    let error = withFrame([]) { frame in
      frame.setLength(42 + 32)
      EthernetHeader(destination: Self.back.1, source: Self.back.0, type: .ipv4).write(to: &frame)
      IPv4Header(source: Sample.server, destination: Sample.right, protocol: .icmp, payload: 40)
        .write(to: &frame, at: 14)
      ICMPHeader(type: 3, code: 3).write(to: &frame, at: 34)
      for (index, octet) in (header + out[34..<42]).enumerated() {
        frame.set(octet, at: 42 + index)
      }
      frame.set(frame.sum(from: 34, count: 40).value, at: 36)
    }
    let (verdict, octets) = nat.process(error, from: 1, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(Seen(octets)?.isRight == true)
    #expect(Array(octets[54..<58]) == [10, 0, 1, 2])
    #expect(Array(octets[66..<68]) == [0x0f, 0xa0])
  }

  @Test("RFC 5508 REQ-3d: extensions and the padding before them are no part of what is quoted")
  func extensions() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let original = Sample.udp()
    let out = nat.process(original, from: 0, &surroundings).octets
    // RFC 4884: padded to 128 octets, whose number of words the header tells, and a label stack.
    let padding = [UInt8](repeating: 0, count: 128 - (out.count - 14))
    let structure: [UInt8] = [0x20, 0, 0xcd, 0xee, 0, 8, 1, 1, 0, 0, 0x11, 0x08]
    let error = withFrame([]) { frame in
      let message = Array(out[14...]) + padding + structure
      frame.setLength(42 + message.count)
      EthernetHeader(destination: Self.back.1, source: Self.back.0, type: .ipv4).write(to: &frame)
      IPv4Header(
        source: Sample.server, destination: Sample.right, protocol: .icmp,
        payload: 8 + message.count
      ).write(to: &frame, at: 14)
      ICMPHeader(type: 11, code: 0, rest: 32 << 16).write(to: &frame, at: 34)
      for (index, octet) in message.enumerated() { frame.set(octet, at: 42 + index) }
      frame.set(frame.sum(from: 34, count: 8 + message.count).value, at: 36)
    }
    let (verdict, octets) = nat.process(error, from: 1, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(Seen(octets)?.isRight == true)
    #expect(Array(octets[38..<42]) == [0, 32, 0, 0])
    // The quote is the sender's datagram again, with its own checksum.
    #expect(Array(octets[54..<73]) == Array(original[26..<45]))
    withFrame(octets) { frame in expect(frame.sum(from: 42, count: 20).isRight, is: true) }
    #expect(Array(octets[73...]) == padding + structure)
  }

  @Test("RFC 5508 REQ-5: an error from inside about nothing that is mapped is dropped")
  func errorsAboutNothing() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    let quoted = Sample.udp(from: Sample.server, to: Sample.client, ports: (53, 7777))
    let (verdict, _) = nat.process(
      NAT44Tests.error(
        about: quoted, from: Sample.client, to: Sample.server,
        (Sample.clientMAC, Sample.leftMAC)), from: 0, &surroundings)
    #expect(verdict == .drop)
    #expect(surroundings.emitted.isEmpty)
  }

  @Test("RFC 5508 REQ-8: who gets no flow is told, by code 13")
  func full() throws {
    var surroundings = TestSurroundings()
    var nat = NAT44()
    try nat.configure(Sample.configuration(#"{"flows": 1, "flowsPerHost": 2}"#), in: &surroundings)
    _ = nat.process(Sample.udp(), from: 0, &surroundings)
    _ = nat.process(
      Sample.udp(from: Sample.server, to: Sample.right, ports: (53, 4000), macs: Self.back),
      from: 1, &surroundings)
    let (verdict, octets) = nat.process(Sample.udp(ports: (4001, 53)), from: 0, &surroundings)
    #expect(verdict == .send(port: 0))
    #expect(Seen(octets)?.first == 3)
    #expect(Seen(octets)?.second == 13)
    #expect(nat.stage.counters.full == 1)
  }

  @Test("RFC 5508 REQ-11: ICMP that is neither query nor error stays where it is")
  func otherMessages() throws {
    var surroundings = TestSurroundings()
    var nat = try NAT44Tests.nat(&surroundings)
    for type in [4, 5, 9, 10, 15, 17, 30] as [UInt8] {
      #expect(nat.process(Sample.echo(type), from: 0, &surroundings).verdict == .drop)
    }
    #expect(surroundings.emitted.isEmpty)
  }
}
