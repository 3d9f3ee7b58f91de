public import Packets

/// What of a packet says to which flow it belongs, and what it does to that.
public enum FlowPacket: Sendable {
  /// A packet of a flow, or the first of one.
  case flow(FlowKey, TCPHeader?)
  /// An ICMP error about a packet that had this key (RFC 5508, section 4).
  case error(about: FlowKey)
  /// Nothing that has flows, or its header is cut off or in another fragment.
  case other

  public init(in frame: borrowing Frame, _ datagram: Datagram) {
    guard !datagram.isLaterFragment else {
      self = .other
      return
    }
    let at = datagram.transport
    let present = datagram.present(in: frame)
    func key(_ source: UInt16, _ destination: UInt16) -> FlowKey {
      FlowKey(
        source: datagram.source, destination: datagram.destination, sourcePort: source,
        destinationPort: destination, protocol: datagram.protocol)
    }
    switch datagram.protocol {
    case .tcp:
      guard let header = TCPHeader(in: frame, datagram) else { break }
      self = .flow(key(header.source, header.destination), header)
      return
    case .udp:
      guard present >= 8 else { break }
      self = .flow(key(frame.u16(at: at), frame.u16(at: at + 2)), nil)
      return
    case .icmp, .icmpv6:
      guard present >= ICMPHeader.length else { break }
      let type = frame.u8(at: at)
      let isEcho =
        datagram.protocol == .icmp
        ? type == ICMPHeader.V4.echoRequest || type == ICMPHeader.V4.echoReply
        : type == ICMPHeader.V6.echoRequest || type == ICMPHeader.V6.echoReply
      if isEcho {
        self = .flow(key(frame.u16(at: at + 4), 0), nil)
        return
      }
      if let quoted = Self.quoted(in: frame, datagram) {
        self = .error(about: quoted)
        return
      }
    default: break
    }
    self = .other
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
    default: return nil
    }
  }
}

extension Datagram {
  /// Whether a packet of a protocol without connections may be the first of its flow: an echo by its
  /// request.
  func isOpening(in frame: borrowing Frame) -> Bool {
    switch `protocol` {
    case .icmp: frame.u8(at: transport) == ICMPHeader.V4.echoRequest
    case .icmpv6: frame.u8(at: transport) == ICMPHeader.V6.echoRequest
    default: true
    }
  }
}
