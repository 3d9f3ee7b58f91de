import Packets

extension Frame {
  enum Side { case source, destination }

  /// Gives an IPv4 packet another endpoint on one side; checksums follow incrementally (RFC 1624,
  /// RFC 3022, section 4.2), also those that a card is to complete. An echo's port is its
  /// identifier.
  ///
  /// - Parameters:
  ///   - offset: of the IP header.
  ///   - transport: where the transport begins.
  ///   - present: how much of the transport is there, in octets.
  ///   - isQuoted: of an ICMP error, where only the first eight octets of the transport are sure.
  @_lifetime(self: copy self)
  mutating func rewrite(
    _ side: Side, to endpoint: PortTranslation.Endpoint, protocol: IPProtocol, at offset: Int,
    transport: Int, present: Int, isQuoted: Bool = false
  ) {
    guard let address = endpoint.address.ipv4 else { return }
    let addressOffset = offset + (side == .source ? 12 : 16)
    let old = u32(at: addressOffset)
    set(address, at: addressOffset)
    set(
      Checksum.update(u16(at: offset + IPv4Header.checksumOffset), from: old, to: address.bits),
      at: offset + IPv4Header.checksumOffset)
    switch `protocol` {
    case .icmp:
      guard present >= ICMPHeader.length else { return }
      let identifier = u16(at: transport + 4)
      set(endpoint.port, at: transport + 4)
      set(
        Checksum.update(
          u16(at: transport + ICMPHeader.checksumOffset), from: identifier, to: endpoint.port),
        at: transport + ICMPHeader.checksumOffset)
    case .tcp, .udp:
      let portOffset = transport + (side == .source ? 0 : 2)
      let port = u16(at: portOffset)
      set(endpoint.port, at: portOffset)
      let isUDP = `protocol` == .udp
      let checksumOffset = transport + (isUDP ? 6 : TCPHeader.checksumOffset)
      guard checksumOffset + 2 <= transport + present else { return }
      let checksum = u16(at: checksumOffset)
      if offload.isPartial && !isQuoted {
        set(Checksum.updatePartial(checksum, from: old, to: address.bits), at: checksumOffset)
        return
      }
      // UDP over IPv4 may have none (RFC 768).
      if isUDP && checksum == 0 { return }
      let new = Checksum.update(
        Checksum.update(checksum, from: old, to: address.bits), from: port, to: endpoint.port)
      set(isUDP && new == 0 ? 0xffff : new, at: checksumOffset)
    default: return
    }
  }
}
