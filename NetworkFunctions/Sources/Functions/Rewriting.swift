import Packets

extension Frame {
  /// Gives an IPv4 packet the endpoints of another key than its own.
  ///
  /// - Parameter isError: it is an ICMP error, and the keys are those of an answer to what it
  ///   quotes: that is translated back, so that its receiver knows it (RFC 5508, section 4.2).
  /// - Returns: false where that can't be done; the frame is then to be dropped.
  @_lifetime(self: copy self)
  mutating func translate(
    _ datagram: Datagram, isError: Bool, from old: FlowKey, to new: FlowKey
  ) -> Bool {
    let present = datagram.present(in: self)
    guard isError else {
      rewrite(
        from: old, to: new, at: datagram.offset, transport: datagram.transport, present: present,
        isQuoted: false)
      return true
    }
    // The whole message is summed anew: its quote changes in several places.
    guard present == datagram.transportLength, datagram.isTransportRight(in: self) else {
      return false
    }
    let quoted = datagram.transport + ICMPHeader.length
    // RFC 5508, REQ-3 (a); the quoted transport's own checksum is nobody's business (c).
    let transport = quoted + Int(u8(at: quoted) & 15) * 4
    guard transport <= datagram.transport + present,
      sum(from: quoted, count: transport - quoted).isRight
    else { return false }
    rewrite(
      from: old.reversed, to: new.reversed, at: quoted, transport: transport,
      present: datagram.transport + present - transport, isQuoted: true)
    set(UInt16(0), at: datagram.transport + ICMPHeader.checksumOffset)
    set(
      sum(from: datagram.transport, count: present).value,
      at: datagram.transport + ICMPHeader.checksumOffset)
    offload = Offload()
    // Who sent the error may be another one on the way; he is hidden as the answering end is.
    readdress(
      datagram, from: new.source == old.source ? datagram.source : new.source,
      to: new.destination)
    return true
  }

  /// Gives an IPv4 datagram other addresses, whatever it carries.
  @_lifetime(self: copy self)
  mutating func readdress(
    _ datagram: Datagram, from source: IPv6Address, to destination: IPv6Address
  ) {
    func key(_ source: IPv6Address, _ destination: IPv6Address) -> FlowKey {
      FlowKey(
        source: source, destination: destination, sourcePort: 0, destinationPort: 0,
        protocol: IPProtocol(0xff))
    }
    rewrite(
      from: key(datagram.source, datagram.destination), to: key(source, destination),
      at: datagram.offset, transport: datagram.transport, present: 0, isQuoted: false)
  }

  /// Whether an IPv4 datagram is in parts, or may come to be.
  func mayBeInParts(at offset: Int) -> Bool { u16(at: offset + 6) & 0x7fff != 0x4000 }

  /// Gives an IPv4 datagram another number.
  @_lifetime(self: copy self)
  mutating func identify(as number: UInt16, at offset: Int) {
    let checksum = offset + IPv4Header.checksumOffset
    set(Checksum.update(u16(at: checksum), from: u16(at: offset + 4), to: number), at: checksum)
    set(number, at: offset + 4)
  }

  /// Checksums follow incrementally (RFC 1624; RFC 3022, section 4.2), also those that a card is to
  /// complete.
  ///
  /// - Parameters:
  ///   - offset: of the IP header.
  ///   - transport: where the transport begins.
  ///   - present: how much of the transport is there, in octets.
  ///   - isQuoted: of an ICMP error, where only the first eight octets of the transport are sure.
  @_lifetime(self: copy self)
  private mutating func rewrite(
    from old: FlowKey, to new: FlowKey, at offset: Int, transport: Int, present: Int,
    isQuoted: Bool
  ) {
    guard let oldSource = old.source.ipv4, let oldDestination = old.destination.ipv4,
      let source = new.source.ipv4, let destination = new.destination.ipv4
    else { return }
    var addresses = Checksum.Change()
    addresses.add(from: oldSource.bits, to: source.bits)
    addresses.add(from: oldDestination.bits, to: destination.bits)
    set(source, at: offset + 12)
    set(destination, at: offset + 16)
    set(
      addresses.applied(to: u16(at: offset + IPv4Header.checksumOffset)),
      at: offset + IPv4Header.checksumOffset)
    var ports = Checksum.Change()
    ports.add(from: old.sourcePort, to: new.sourcePort)
    switch old.protocol {
    case .icmp:
      guard present >= ICMPHeader.length else { return }
      set(new.sourcePort, at: transport + 4)
      // What the card is to complete has neither addresses nor the identifier in it.
      if !isQuoted, offload.isPartial, Int(offload.checksumStart) == transport { return }
      set(
        ports.applied(to: u16(at: transport + ICMPHeader.checksumOffset)),
        at: transport + ICMPHeader.checksumOffset)
    case .tcp, .udp:
      ports.add(from: old.destinationPort, to: new.destinationPort)
      set(new.sourcePort, at: transport)
      set(new.destinationPort, at: transport + 2)
      let isUDP = old.protocol == .udp
      let checksumOffset = transport + (isUDP ? 6 : TCPHeader.checksumOffset)
      guard checksumOffset + 2 <= transport + present else { return }
      let checksum = u16(at: checksumOffset)
      // A tunnel's card may be asked for the inner packet's checksum only.
      if !isQuoted, offload.isPartial, Int(offload.checksumStart) == transport {
        set(addresses.appliedToPartial(checksum), at: checksumOffset)
        return
      }
      // UDP over IPv4 may have none (RFC 768).
      if isUDP && checksum == 0 { return }
      ports.add(addresses)
      let changed = ports.applied(to: checksum)
      set(isUDP && changed == 0 ? 0xffff : changed, at: checksumOffset)
    default: return
    }
  }
}
