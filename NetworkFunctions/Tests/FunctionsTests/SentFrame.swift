import Functions
import Packets
import TestFrames

/// A frame as it goes to a card, with what is left for that one to do.
struct SentFrame {
  var octets: [UInt8]
  var offload: Offload

  init(_ octets: [UInt8], _ offload: Offload = Offload()) {
    self.octets = octets
    self.offload = offload
  }

  /// What of it no neighbour would understand; nil is nothing.
  ///
  /// - Parameters:
  ///   - mac: of the port by which it goes.
  ///   - isSound: its transport's checksum is to be right as well.
  func flaw(from mac: MACAddress, isSound: Bool) -> String? {
    var flaw: String?
    withFrame(octets) { frame in
      guard let ethernet = EthernetHeader(in: frame) else {
        flaw = "no Ethernet header"
        return
      }
      if ethernet.source != mac { flaw = "from another MAC" }
      switch ethernet.type {
      case .arp:
        if ARPPacket(in: frame, at: ethernet.length) == nil { flaw = "no ARP packet" }
        if offload != Offload() { flaw = "ARP with something left for the card" }
      case .ipv4, .ipv6:
        // Lengths, options and IPv4's checksum.
        guard let datagram = Datagram(in: frame, ethernet) else {
          flaw = "no datagram"
          return
        }
        if datagram.hopLimit == 0 { flaw = "no time to live" }
        if datagram.isSourceRouted { flaw = "a source route" }
      default: flaw = "of type \(ethernet.type.rawValue)"
      }
    }
    if flaw == nil, isSound, isTransportRight == false { return "a wrong transport checksum" }
    return flaw
  }

  /// Whether its transport's checksum is right once the card has done its part; nil where nothing can
  /// be said: of parts, other protocols, UDP without one, and a card that is asked for nonsense.
  var isTransportRight: Bool? {
    var isRight: Bool?
    withFrame(octets) { frame in
      guard let place = Self.checksumPlace(in: frame) else { return }
      let (datagram, offset) = place
      let start = datagram.transport
      if offload.isPartial, Int(offload.checksumStart) == start {
        guard Int(offload.checksumOffset) == offset,
          frame.length == start + datagram.transportLength
        else { return }
        let sum = frame.sum(from: start, count: datagram.transportLength)
        frame.set(
          datagram.protocol == .udp ? sum.udpValue : sum.value, at: start + offset)
      }
      if datagram.protocol == .udp, frame.u16(at: start + offset) == 0 { return }
      isRight = datagram.isTransportRight(in: frame)
    }
    return isRight
  }

  /// Where in the transport of a whole datagram the checksum stands.
  private static func checksumPlace(in frame: borrowing Frame) -> (Datagram, Int)? {
    guard let ethernet = EthernetHeader(in: frame), let datagram = Datagram(in: frame, ethernet),
      !datagram.isFragment
    else { return nil }
    let offset: Int
    switch (datagram.protocol, datagram.version) {
    case (.tcp, _): offset = TCPHeader.checksumOffset
    case (.udp, _): offset = UDPHeader.checksumOffset
    case (.icmp, .ipv4), (.icmpv6, .ipv6): offset = ICMPHeader.checksumOffset
    default: return nil
    }
    return datagram.transportLength >= offset + 2 ? (datagram, offset) : nil
  }

  /// The same with a right checksum of its transport.
  ///
  /// - Parameter isPartial: it is left to the card, where nothing comes after the datagram.
  func mended(isPartial: Bool) -> SentFrame {
    var offload = Offload()
    let octets = withFrame(octets) { frame in
      guard let (datagram, offset) = Self.checksumPlace(in: frame) else { return }
      let (start, count) = (datagram.transport, datagram.transportLength)
      let pseudoHeader = Checksum.pseudoHeader(
        datagram.source, datagram.destination, protocol: datagram.protocol, length: count)
      if isPartial, frame.length == start + count {
        frame.set(
          datagram.protocol == .icmp ? UInt16(0) : pseudoHeader.folded, at: start + offset)
        offload = .partial(start: start, offset: offset)
        return
      }
      frame.set(UInt16(0), at: start + offset)
      var sum = frame.sum(from: start, count: count)
      if datagram.protocol != .icmp { sum.add(pseudoHeader) }
      frame.set(datagram.protocol == .udp ? sum.udpValue : sum.value, at: start + offset)
    }
    return SentFrame(octets, offload)
  }
}
