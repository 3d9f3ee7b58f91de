import Packets

/// Why a datagram was not delivered, as its sender is told (RFC 792; RFC 4443).
public struct ICMPError: Sendable, Hashable {
  var v4: (type: UInt8, code: UInt8) { (UInt8(codes >> 24), UInt8(codes >> 16 & 0xff)) }
  var v6: (type: UInt8, code: UInt8) { (UInt8(codes >> 8 & 0xff), UInt8(codes & 0xff)) }
  /// What stands in the header's last four octets.
  var rest: UInt32
  private var codes: UInt32

  /// What an answer quotes at most, in octets: it is to fit into 576, into 1,280 for IPv6.
  static let maximumQuoteV4 = 576 - IPv4Header.minimumLength - ICMPHeader.length
  static let maximumQuoteV6 = 1280 - IPv6Header.length - ICMPHeader.length

  private init(_ codes: UInt32, rest: UInt32 = 0) {
    self.codes = codes
    self.rest = rest
  }

  public static let noRoute = ICMPError(0x0300_0100)
  public static let addressUnreachable = ICMPError(0x0301_0103)
  public static let portUnreachable = ICMPError(0x0303_0104)
  /// Administratively prohibited (RFC 1812, section 5.2.7.1).
  public static let prohibited = ICMPError(0x030d_0101)
  public static let timeExceeded = ICMPError(0x0b00_0300)

  /// Protocol unreachable (RFC 1812, section 5.2.7.1), or an unrecognised next header (RFC 4443,
  /// section 3.4).
  /// - Parameter place: where its number stands in an IPv6 datagram, in octets; 0 where it is IPv4.
  static func unknownProtocol(at place: Int) -> ICMPError {
    ICMPError(0x0302_0401, rest: UInt32(truncatingIfNeeded: place))
  }

  /// A better way for all that goes to the datagram's destination (RFC 1812, section 5.2.7.2). IPv4's
  /// only.
  static func redirect(to gateway: IPv4Address) -> ICMPError {
    ICMPError(0x0501_0000, rest: gateway.bits)
  }

  /// - Parameter place: of the octet that makes no sense, in the IP header. IPv4's only.
  static func parameterProblem(at place: UInt8) -> ICMPError {
    ICMPError(0x0c00_0000, rest: UInt32(place) << 24)
  }

  /// - Parameter mtu: what would pass, in octets (RFC 1191, section 4).
  public static func tooBig(mtu: Int) -> ICMPError {
    ICMPError(0x0304_0200, rest: UInt32(truncatingIfNeeded: mtu))
  }
}

extension Datagram {
  /// Whether its sender may be told of an error (RFC 1812, section 4.3.2.7; RFC 4443, section
  /// 2.4 (e)): not about an error, a later fragment, or what came from or went to no single host.
  func mayBeAnsweredByError(in frame: borrowing Frame) -> Bool {
    guard !isLaterFragment, source.isHost, destination.isHost, !source.isUnroutable else {
      return false
    }
    guard present(in: frame) >= 1 else { return `protocol` != .icmp && `protocol` != .icmpv6 }
    let type = frame.u8(at: transport)
    switch `protocol` {
    // Unreachable, source quench, redirect, time exceeded, parameter problem.
    case .icmp: return !(type == 3 || type == 4 || type == 5 || type == 11 || type == 12)
    case .icmpv6: return type >= 128
    default: return true
    }
  }
}

extension IPv6Address {
  /// Broadcast and what is never a host's.
  fileprivate var isUnroutable: Bool { self == .unspecified || ipv4 == .broadcast }
}

extension Frame {
  /// Where in an IPv6 datagram the number of its transport stands, in octets; 0 where it is IPv4.
  func placeOfProtocol(_ datagram: Datagram) -> Int {
    guard datagram.version == .ipv6 else { return 0 }
    var place = datagram.offset + 6
    var header = datagram.offset + IPv6Header.length
    while header < datagram.transport {
      // A fragment's header has eight octets, of which the second is 0.
      place = header
      header += (Int(u8(at: header + 1)) + 1) * 8
    }
    return place - datagram.offset
  }

  /// Turns a datagram into an error about it, back to who sent it. It quotes as much as keeps the
  /// answer within 576 octets (RFC 1812, section 4.3.2.3), 1,280 for IPv6 (RFC 4443, section 2.4 (c)).
  ///
  /// - Parameters:
  ///   - source: the address that tells it, of the datagram's version.
  ///   - mac: of the port through which it goes back.
  /// - Returns: false where the buffer is too small; then nothing was changed.
  @_lifetime(self: copy self)
  mutating func becomeError(
    _ error: ICMPError, about datagram: Datagram, _ ethernet: EthernetHeader,
    from source: IPv6Address, mac: MACAddress
  ) -> Bool {
    let start = datagram.offset
    let isV4 = datagram.version == .ipv4
    let header = isV4 ? IPv4Header.minimumLength : IPv6Header.length
    let quoted = min(
      datagram.transport - start + datagram.transportLength,
      isV4 ? ICMPError.maximumQuoteV4 : ICMPError.maximumQuoteV6, head - start)
    let message = ICMPHeader.length + quoted
    let needed = start + header + message
    guard capacity >= needed else { return false }
    move(quoted, from: start, to: start + header + ICMPHeader.length)
    setLength(needed)
    offload = Offload()
    EthernetHeader(
      destination: ethernet.source, source: mac, type: ethernet.type, tag: ethernet.tag
    ).write(to: &self)
    let transport = start + header
    if isV4, let from = source.ipv4, let to = datagram.source.ipv4 {
      var ip = IPv4Header(source: from, destination: to, protocol: .icmp, payload: message)
      // Internetwork control (RFC 1812, section 4.3.2.5).
      ip.trafficClass = 0xc0
      ip.write(to: &self, at: start)
      ICMPHeader(type: error.v4.type, code: error.v4.code, rest: error.rest)
        .write(to: &self, at: transport)
      set(
        sum(from: transport, count: message).value, at: transport + ICMPHeader.checksumOffset)
    } else {
      IPv6Header(
        source: source, destination: datagram.source, nextHeader: .icmpv6, payload: message
      ).write(to: &self, at: start)
      ICMPHeader(type: error.v6.type, code: error.v6.code, rest: error.rest)
        .write(to: &self, at: transport)
      completeICMPv6(at: transport, count: message, from: source, to: datagram.source)
    }
    return true
  }
}
