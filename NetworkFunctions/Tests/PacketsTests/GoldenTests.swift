import Packets
import TestFrames
import Testing

/// Each format read from its octets and written to the same.
@Suite struct GoldenTests {
  @Test func `an ARP request in a VLAN`() throws {
    let octets = golden(
      """
      ffffffffffff 021950924cf7  // destination, source
      8100 600a 0806             // 802.1Q, priority 3, VLAN 10, ARP
      0001 0800 06 04 0001       // Ethernet, IPv4, lengths, request
      021950924cf7 0a020001      // sender
      000000000000 0a020002      // target
      """)
    let source = MACAddress(0x0219_5092_4cf7)
    let header = EthernetHeader(
      destination: .broadcast, source: source, type: .arp, tag: 0x600a)
    let query = ARPPacket(
      .request, senderMAC: source, sender: IPv4Address(10, 2, 0, 1),
      target: IPv4Address(10, 2, 0, 2))
    withFrame(octets) { frame in
      expect(EthernetHeader(in: frame), is: header)
      #expect(header.vlan == 10)
      expect(ARPPacket(in: frame, at: header.length), is: query)
    }
    let written = withFrame([]) { frame in
      frame.setLength(46)
      header.write(to: &frame)
      query.write(to: &frame, at: header.length)
    }
    #expect(written == octets)
  }

  @Test func `an ICMP echo over IPv4`() throws {
    let octets = golden(
      """
      020000000001 020000000002 0800
      45 00 0020                 // version and length, class, total length
      1234 4000                  // identification, don't fragment
      40 01 14a7                 // time to live, ICMP, checksum
      0a000001 0a000002          // source, destination
      08 00 3336                 // echo request, checksum
      0001 0002 616263 64        // identifier, sequence, payload
      """)
    try withFrame(octets) { frame in
      let ethernet = try present(EthernetHeader(in: frame))
      let header = try present(IPv4Header(in: frame, at: 14))
      #expect(header.source == IPv4Address(10, 0, 0, 1))
      #expect(header.totalLength == 32)
      expect(header.isRight(in: frame, at: 14), is: true)
      let datagram = try present(Datagram(in: frame, ethernet))
      #expect(datagram.protocol == .icmp)
      #expect(datagram.transport == 34)
      let icmp = try present(ICMPHeader(in: frame, at: 34))
      #expect(icmp.type == ICMPHeader.V4.echoRequest)
      #expect(icmp.rest == 0x0001_0002)
      expect(datagram.isTransportRight(in: frame), is: true)
    }
    let written = withFrame(octets) { frame in
      for offset in 14..<34 { frame.set(UInt8(0), at: offset) }
      IPv4Header(
        source: IPv4Address(10, 0, 0, 1), destination: IPv4Address(10, 0, 0, 2), protocol: .icmp,
        payload: 12, identification: 0x1234
      ).write(to: &frame, at: 14)
    }
    #expect(written == octets)
  }

  @Test func `a neighbour solicitation`() throws {
    let octets = golden(
      """
      3333ff000002 020000000001 86dd
      60000000 0020 3a ff                  // version, length, ICMPv6, hop limit 255
      fd000000000000000000000000000001
      ff0200000000000000000001ff000002     // the target's solicited-node group
      87 00 7d97 00000000                  // solicitation, checksum, reserved
      fd000000000000000000000000000002     // target
      01 01 020000000001                   // source link-layer address
      """)
    let target = IPv6Address(0xfd00_0000_0000_0000, 2)
    #expect(target.solicitedNode == IPv6Address(0xff02_0000_0000_0000, 0x1_ff00_0002))
    #expect(MACAddress.multicast(target.solicitedNode) == MACAddress(0x3333_ff00_0002))
    let message = NeighbourMessage(
      .solicitation, target: target, linkAddress: MACAddress(0x0200_0000_0001))
    try withFrame(octets) { frame in
      let ethernet = try present(EthernetHeader(in: frame))
      let datagram = try present(Datagram(in: frame, ethernet))
      expect(NeighbourMessage(in: frame, datagram), is: message)
      expect(datagram.isTransportRight(in: frame), is: true)
    }
    let written = withFrame(octets) { frame in
      for offset in 14..<octets.count { frame.set(UInt8(0), at: offset) }
      IPv6Header(
        source: IPv6Address(0xfd00_0000_0000_0000, 1), destination: target.solicitedNode,
        nextHeader: .icmpv6, payload: 32, hopLimit: 255
      ).write(to: &frame, at: 14)
      message.write(to: &frame, at: 54)
      frame.set(UInt16(0x7d97), at: 56)
    }
    #expect(written == octets)
  }

  @Test func `a SYN with options, and UDP`() throws {
    let octets = golden(
      """
      020000000001 020000000002 0800
      4500 0030 0000 4000 40 06 26c6 0a000001 0a000002
      c000 1389                  // ports 49152, 5001
      00000001 00000000          // sequence, acknowledgement
      70 02 ffff                 // seven words, SYN, window
      9c8b 0000                  // checksum, urgent
      0204 05b4 01 0303 07       // segment size 1460, no operation, scale 7
      """)
    let header = TCPHeader(
      source: 49152, destination: 5001, sequence: 1, acknowledgement: 0, flags: .syn,
      window: 0xffff, headerLength: 28)
    let options = TCPOptions(maximumSegment: 1460, windowScale: 7)
    try withFrame(octets) { frame in
      let ethernet = try present(EthernetHeader(in: frame))
      let datagram = try present(Datagram(in: frame, ethernet))
      var read = try present(TCPHeader(in: frame, datagram))
      expect(TCPOptions(in: frame, at: 34, of: read), is: options)
      expect(datagram.isTransportRight(in: frame), is: true)
      read.checksum = 0
      #expect(read == header)
    }
    let written = withFrame(octets) { frame in
      for offset in 34..<octets.count { frame.set(UInt8(0), at: offset) }
      header.write(to: &frame, at: 34)
      options.write(to: &frame, at: 34)
      var sum = frame.sum(from: 34, count: 28)
      sum.add(
        Checksum.pseudoHeader(
          IPv6Address(IPv4Address(10, 0, 0, 1)), IPv6Address(IPv4Address(10, 0, 0, 2)),
          protocol: .tcp, length: 28))
      frame.set(sum.value, at: 34 + TCPHeader.checksumOffset)
    }
    #expect(written == octets)
    let udp = withFrame([]) { frame in
      frame.setLength(8)
      UDPHeader(source: 53, destination: 1024, payload: 4, checksum: 0xabcd)
        .write(to: &frame, at: 0)
    }
    #expect(udp == golden("0035 0400 000c abcd"))
  }
}

@Suite struct ChecksumTests {
  /// The example of RFC 1071, section 3, and of RFC 1624, section 4.
  @Test func `the examples of the RFCs`() {
    withFrame([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]) { frame in
      expect(frame.sum(from: 0, count: 8).folded, is: 0xddf2)
    }
    #expect(Checksum.update(0xdd2f, from: UInt16(0x5555), to: UInt16(0x3285)) == 0x0000)
  }

  @Test func `an update equals a sum anew`() {
    var random = SystemRandomNumberGenerator()
    for length in 8..<80 {
      var octets = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
      octets[0] |= 1
      withFrame(octets) { frame in
        let before = frame.sum(from: 0, count: length)
        var naive: UInt32 = 0
        for (index, octet) in octets.enumerated() {
          naive += UInt32(octet) << (index % 2 == 0 ? 8 : 0)
        }
        naive = (naive >> 16) + (naive & 0xffff)
        naive = (naive >> 16) + (naive & 0xffff)
        #expect(before.folded == UInt16(naive))
        let old = frame.u32(at: 4)
        let new = UInt32.random(in: 0...UInt32.max, using: &random)
        frame.set(new, at: 4)
        let after = frame.sum(from: 0, count: length)
        var change = Checksum.Change()
        change.add(from: old, to: new)
        #expect(change.applied(to: before.value) == after.value)
        #expect(change.appliedToPartial(before.folded) == after.folded)
      }
    }
  }
}

/// No octets, however wrong, reach beyond what is there.
@Suite struct HostileFrames {
  @Test func `cut off and random frames are read without a trap`() {
    var random = SystemRandomNumberGenerator()
    let types: [[UInt8]] = [[8, 0, 0x45], [8, 6, 0], [0x86, 0xdd, 0x60], [0x81, 0, 0]]
    for round in 0..<20_000 {
      let length = Int.random(in: 0...120, using: &random)
      var octets = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
      if length > 14 { octets.replaceSubrange(12..<15, with: types[round % 4]) }
      if length > 23, round % 3 == 0 { octets[23] = [1, 6, 17, 58][round % 4] }
      withFrame(octets, capacity: length) { frame in
        guard let ethernet = EthernetHeader(in: frame) else { return }
        _ = ARPPacket(in: frame, at: ethernet.length)
        _ = IPv4Header(in: frame, at: ethernet.length)
        guard let datagram = Datagram(in: frame, ethernet) else { return }
        _ = datagram.isTransportRight(in: frame)
        _ = NeighbourMessage(in: frame, datagram)
        _ = UDPHeader(in: frame, datagram)
        if let tcp = TCPHeader(in: frame, datagram) {
          _ = TCPOptions(in: frame, at: datagram.transport, of: tcp)
        }
      }
    }
  }
}
