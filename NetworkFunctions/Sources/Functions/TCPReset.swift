import Packets

extension Frame {
  /// Turns a TCP segment into the reset that refuses it, back to who sent it (RFC 9293, section
  /// 3.10.7.1).
  ///
  /// - Returns: false where it is a reset itself, or the buffer is too small; then nothing was
  ///   changed.
  @_lifetime(self: copy self)
  mutating func becomeReset(
    of segment: TCPHeader, in datagram: Datagram, _ ethernet: EthernetHeader, mac: MACAddress
  ) -> Bool {
    let start = datagram.offset
    let isV4 = datagram.version == .ipv4
    let transport = start + (isV4 ? IPv4Header.minimumLength : IPv6Header.length)
    let needed = transport + TCPHeader.minimumLength
    guard !segment.flags.contains(.rst), capacity >= needed else { return false }
    let payload = datagram.transportLength - segment.headerLength
    setLength(needed)
    offload = Offload()
    EthernetHeader(
      destination: ethernet.source, source: mac, type: ethernet.type, tag: ethernet.tag
    ).write(to: &self)
    if let source = datagram.destination.ipv4, let destination = datagram.source.ipv4, isV4 {
      IPv4Header(
        source: source, destination: destination, protocol: .tcp,
        payload: TCPHeader.minimumLength
      ).write(to: &self, at: start)
    } else {
      IPv6Header(
        source: datagram.destination, destination: datagram.source, nextHeader: .tcp,
        payload: TCPHeader.minimumLength
      ).write(to: &self, at: start)
    }
    let wasAcknowledging = segment.flags.contains(.ack)
    TCPHeader(
      source: segment.destination, destination: segment.source,
      sequence: wasAcknowledging ? segment.acknowledgement : 0,
      acknowledgement: wasAcknowledging
        ? 0 : segment.sequence &+ segment.span(payload: payload),
      flags: wasAcknowledging ? .rst : [.rst, .ack]
    ).write(to: &self, at: transport)
    var sum = Checksum.pseudoHeader(
      datagram.destination, datagram.source, protocol: .tcp, length: TCPHeader.minimumLength)
    sum.add(self.sum(from: transport, count: TCPHeader.minimumLength))
    set(sum.value, at: transport + TCPHeader.checksumOffset)
    return true
  }
}
