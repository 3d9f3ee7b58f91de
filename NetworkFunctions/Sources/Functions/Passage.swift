import Packets

extension Passage {
  /// A datagram that is not a later fragment.
  init(
    _ frame: borrowing Frame, _ datagram: Datagram, from port: Int, to exit: Int?, isInward: Bool,
    at now: UInt32
  ) {
    key = FlowKey(
      source: datagram.source, destination: datagram.destination, sourcePort: 0,
      destinationPort: 0, protocol: datagram.protocol)
    self.port = port
    self.exit = exit
    self.isInward = isInward
    self.now = now
    let at = datagram.transport
    let present = datagram.present(in: frame)
    switch datagram.protocol {
    case .tcp:
      guard let header = TCPHeader(in: frame, datagram) else { return }
      key.sourcePort = header.source
      key.destinationPort = header.destination
      segment = header
      // A connection begins by a SYN alone.
      kind =
        header.flags.intersection([.syn, .ack, .rst, .fin]) == .syn ? .opening : .following
    case .udp:
      guard present >= 8 else { return }
      key.sourcePort = frame.u16(at: at)
      key.destinationPort = frame.u16(at: at + 2)
      kind = .opening
    case .icmp, .icmpv6:
      guard present >= ICMPHeader.length else { return }
      let isV4 = datagram.protocol == .icmp
      let type = frame.u8(at: at)
      if type == (isV4 ? ICMPHeader.V4.echoRequest : ICMPHeader.V6.echoRequest)
        || isV4 && type == ICMPHeader.V4.timestampRequest
      {
        kind = .opening
      } else if type == (isV4 ? ICMPHeader.V4.echoReply : ICMPHeader.V6.echoReply)
        || isV4 && type == ICMPHeader.V4.timestampReply
      {
        kind = .following
      } else if let quoted = Self.quoted(in: frame, datagram) {
        kind = .error
        key = quoted.reversed
        return
      } else {
        return
      }
      key.sourcePort = frame.u16(at: at + 4)
    default: kind = .portless
    }
  }

  /// The key of the packet that an ICMP error quotes.
  private static func quoted(in frame: borrowing Frame, _ datagram: Datagram) -> FlowKey? {
    let type = frame.u8(at: datagram.transport)
    let isV4 = datagram.protocol == .icmp
    guard isV4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4 else { return nil }
    let start = datagram.transport + ICMPHeader.length
    let end = min(datagram.transport + datagram.transportLength, frame.head)
    let source: IPv6Address
    let destination: IPv6Address
    let `protocol`: IPProtocol
    let transport: Int
    if isV4 {
      guard end - start >= IPv4Header.minimumLength, frame.u8(at: start) >> 4 == 4,
        frame.u16(at: start + 6) & 0x1fff == 0
      else { return nil }
      source = IPv6Address(frame.ipv4(at: start + 12))
      destination = IPv6Address(frame.ipv4(at: start + 16))
      `protocol` = IPProtocol(frame.u8(at: start + 9))
      transport = start + Int(frame.u8(at: start) & 15) * 4
      guard transport - start >= IPv4Header.minimumLength else { return nil }
    } else {
      guard end - start >= IPv6Header.length, frame.u8(at: start) >> 4 == 6 else { return nil }
      source = frame.ipv6(at: start + 8)
      destination = frame.ipv6(at: start + 24)
      `protocol` = IPProtocol(frame.u8(at: start + 6))
      transport = start + IPv6Header.length
    }
    guard end - transport >= 8 else { return nil }
    switch `protocol` {
    case .tcp, .udp:
      return FlowKey(
        source: source, destination: destination, sourcePort: frame.u16(at: transport),
        destinationPort: frame.u16(at: transport + 2), protocol: `protocol`)
    case .icmp where isV4, .icmpv6 where !isV4:
      return FlowKey(
        source: source, destination: destination, sourcePort: frame.u16(at: transport + 4),
        destinationPort: 0, protocol: `protocol`)
    default:
      return FlowKey(
        source: source, destination: destination, sourcePort: 0, destinationPort: 0,
        protocol: `protocol`)
    }
  }
}
