import Functions
import Packets

extension Machine {
  /// How long a machine that is ready waits for its document before it rehearses, in nanoseconds. The
  /// document of one that was started for it is there when it has booted.
  static let patience: Instant = 10_000_000

  /// Has a function that nobody else knows take a document and some packets, of which nothing leaves
  /// the machine.
  ///
  /// A monitor that emulates translates code when it first runs (QEMU 7.2: 7 µs for each branch). A
  /// machine that waits for its document does that while nobody waits for it: of the 20 to 40 ms from
  /// a document until the first packet was through a function with two ports, 4 to 6 are left.
  @inline(never)
  static func rehearse<F: NetworkFunction & ~Copyable>(
    _: borrowing F, in cards: inout Cards
  ) {
    var function = F()
    var channel = ControlChannel()
    cards.isRehearsing = true
    for octet in Rehearsal.messages(ports: cards.count) {
      channel.receive(octet, for: &function, in: &cards)
    }
    for step in Rehearsal.steps where step.port < cards.count {
      cards.rehearse(step, with: &function)
      _ = function.advance(in: &cards)
    }
    cards.isRehearsing = false
  }
}

/// A packet that comes to a port during a rehearsal, from the only neighbour there.
struct Rehearsal {
  let port: Int
  let kind: Kind

  enum Kind {
    case arp(ARPPacket.Operation)
    /// A host's question for the function's own address.
    case solicitation
    /// The first of a connection to an address; most have no service at 81, and the responder one at 9.
    case segment(to: IPv4Address, service: UInt16 = 81)
  }

  /// To the function itself and to a service of it, and through it to somebody whom it has to look
  /// for first.
  static var steps: [Rehearsal] {
    [
      Rehearsal(port: 0, kind: .arp(.request)),
      Rehearsal(port: 0, kind: .solicitation),
      Rehearsal(port: 0, kind: .segment(to: function(0))),
      Rehearsal(port: 0, kind: .segment(to: function(0), service: 9)),
      Rehearsal(port: 0, kind: .segment(to: neighbour(1))),
      Rehearsal(port: 1, kind: .arp(.reply)),
      Rehearsal(port: 0, kind: .segment(to: neighbour(1))),
      Rehearsal(port: 0, kind: .segment(to: function(0))),
      Rehearsal(port: 1, kind: .arp(.request)),
    ]
  }

  // What texts about networks use (RFC 5737, RFC 7042): 192.0.2.0/24 and 198.51.100.0/24.
  private static func network(_ port: Int) -> UInt32 { port == 0 ? 0xc000_0200 : 0xc633_6400 }
  private static func function(_ port: Int) -> IPv4Address { IPv4Address(network(port) + 1) }
  private static func neighbour(_ port: Int) -> IPv4Address { IPv4Address(network(port) + 2) }
  private static func functionMAC(_ port: Int) -> MACAddress {
    MACAddress(0x0200_5e00_5301 + UInt64(port))
  }
  private static func neighbourMAC(_ port: Int) -> MACAddress {
    MACAddress(0x0200_5e00_5311 + UInt64(port))
  }

  @_lifetime(frame: copy frame)
  func write(to frame: inout Frame) {
    let (mac, neighbour) = (Self.functionMAC(port), Self.neighbourMAC(port))
    switch kind {
    case .arp(let operation):
      frame.setLength(14 + ARPPacket.length)
      EthernetHeader(
        destination: operation == .request ? .broadcast : mac, source: neighbour, type: .arp
      ).write(to: &frame)
      ARPPacket(
        operation, senderMAC: neighbour, sender: Self.neighbour(port), targetMAC: mac,
        target: Self.function(port)
      ).write(to: &frame, at: 14)
    case .solicitation:
      let target = IPv6Address(0x2001_0db8_0001_0000, 1)
      let source = IPv6Address(0x2001_0db8_0001_0000, 2)
      frame.setLength(14 + IPv6Header.length + NeighbourMessage.length)
      EthernetHeader(
        destination: .multicast(target.solicitedNode), source: neighbour, type: .ipv6
      ).write(to: &frame)
      IPv6Header(
        source: source, destination: target.solicitedNode, nextHeader: .icmpv6,
        payload: NeighbourMessage.length, hopLimit: 255
      ).write(to: &frame, at: 14)
      NeighbourMessage(.solicitation, target: target, linkAddress: neighbour)
        .write(to: &frame, at: 14 + IPv6Header.length)
    case .segment(let destination, let service):
      frame.setLength(14 + IPv4Header.minimumLength + TCPHeader.minimumLength)
      EthernetHeader(destination: mac, source: neighbour, type: .ipv4).write(to: &frame)
      IPv4Header(
        source: Self.neighbour(port), destination: destination, protocol: .tcp,
        payload: TCPHeader.minimumLength
      ).write(to: &frame, at: 14)
      TCPHeader(
        source: 40_000, destination: service, sequence: 1, acknowledgement: 0, flags: .syn,
        window: 1024
      ).write(to: &frame, at: 34)
    }
  }

  /// Turns a segment that left by a port into the answer that comes back there.
  @_lifetime(frame: copy frame)
  static func answer(_ frame: inout Frame, on port: Int) {
    guard frame.length == 54 else { return }
    EthernetHeader(destination: functionMAC(port), source: neighbourMAC(port), type: .ipv4)
      .write(to: &frame)
    let (source, destination) = (frame.ipv4(at: 26), frame.ipv4(at: 30))
    frame.set(destination, at: 26)
    frame.set(source, at: 30)
    TCPHeader(
      source: frame.u16(at: 36), destination: frame.u16(at: 34), sequence: 1, acknowledgement: 2,
      flags: [.syn, .ack], window: 1024
    ).write(to: &frame, at: 34)
  }

  /// A hello and a document with so many ports, as they come by the control channel.
  static func messages(ports: Int) -> [UInt8] {
    var document: [UInt8] = []
    for part in ports > 1 ? [first, second, rest] : [first, rest] {
      for index in 0..<part.utf8CodeUnitCount {
        document.append((part.utf8Start + index).pointee)
      }
    }
    // Length, id, kind: 28 octets, 1.
    var octets: [UInt8] = [28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    octets += ControlChannel.greeting
    octets += [1, 0]
    // The kind 3, whose text begins with its own length.
    octets += length(document.count + 14)
    octets += [0, 0, 0, 0, 0, 0, 0, 0, 3, 0]
    octets += length(document.count)
    return octets + document
  }

  private static func length(_ count: Int) -> [UInt8] {
    [UInt8(truncatingIfNeeded: count), UInt8(truncatingIfNeeded: count >> 8), 0, 0]
  }

  private static var first: StaticString {
    """
    {"generation":1,"ports":[{"name":"a","interface":"eth0","mac":"02:00:5e:00:53:01","mtu":1500,\
    "owner":"function","addresses":["192.0.2.1/24","2001:db8:1::1/64"],"routes":[]}
    """
  }

  private static var second: StaticString {
    """
    ,{"name":"b","interface":"eth1","mac":"02:00:5e:00:53:02","mtu":1500,"owner":"function",\
    "addresses":["198.51.100.1/24"],"routes":[{"destination":"0.0.0.0/0","via":"198.51.100.2"}]}
    """
  }

  /// Each function takes what it knows. Tables are small: what they took stays theirs.
  private static var rest: StaticString {
    """
    ],"parameters":{"flows":16,"pipeline":"firewall | nat44","inside":"a","outside":"b",\
    "rules":[{"from":"a","protocol":"udp","destination":"192.0.2.9","ports":53,"action":"drop"},\
    {"from":"a","protocol":"tcp","source":"192.0.2.0/24","ports":"80-443","action":"accept"}],\
    "services":[{"address":"192.0.2.1","port":80,"protocol":"udp"},\
    {"address":"192.0.2.1","port":"81","protocol":"tcp"}],\
    "backends":[{"address":"198.51.100.2","state":"active"}]}}
    """
  }
}
