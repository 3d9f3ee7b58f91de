import Packets

extension Surroundings where Self: ~Copyable {
  /// Tells each port's network where its addresses are now: gratuitous ARP (RFC 5227, section 3) and
  /// unsolicited neighbour advertisements (RFC 4861, section 7.2.6), so that nobody waits for what an
  /// earlier owner said to grow old.
  public mutating func announce(_ ports: [Configuration.Port], isRouter: Bool) {
    let flags = NeighbourMessage.Flag.override | (isRouter ? NeighbourMessage.Flag.router : 0)
    for port in ports.indices {
      let mac = ports[port].mac
      for own in ports[port].addresses {
        if let address = own.address.ipv4 {
          _ = emit(on: port, payload: nil) { frame in
            frame.setLength(14 + ARPPacket.length)
            frame.offload = Offload()
            EthernetHeader(destination: .broadcast, source: mac, type: .arp).write(to: &frame)
            ARPPacket(.request, senderMAC: mac, sender: address, target: address)
              .write(to: &frame, at: 14)
          }
        } else {
          let address = own.address
          _ = emit(on: port, payload: nil) { frame in
            let start = 14 + IPv6Header.length
            frame.setLength(start + NeighbourMessage.length)
            frame.offload = Offload()
            let all = IPv6Address(0xff02_0000_0000_0000, 1)
            EthernetHeader(destination: .multicast(all), source: mac, type: .ipv6).write(to: &frame)
            IPv6Header(
              source: address, destination: all, nextHeader: .icmpv6,
              payload: NeighbourMessage.length, hopLimit: 255
            ).write(to: &frame, at: 14)
            NeighbourMessage(
              .advertisement, flags: flags, target: address, linkAddress: mac
            ).write(to: &frame, at: start)
            frame.completeICMPv6(
              at: start, count: NeighbourMessage.length, from: address, to: all)
          }
        }
      }
    }
  }
}
