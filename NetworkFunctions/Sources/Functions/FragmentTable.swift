import Packets

/// Where the fragments of datagrams go whose first one was seen, and the later ones that came before
/// it (RFC 4787, REQ-14). Both are few: who sends fragments without end harms only fragments.
struct FragmentTable {
  struct Way {
    var source: IPv6Address
    var destination: IPv6Address
    /// How much of the datagram the first fragment has, in octets. What a later one says of that is
    /// not what was judged (RFC 3128; RFC 5722).
    var judged: Int
    /// The datagram's where it is translated: hosts behind one address number theirs each for itself
    /// (RFC 6864, section 5.3).
    var identification: UInt16?
  }

  struct Held {
    var name: Name
    var octets: [UInt8]
    var offload: Offload
    var since: Instant
  }

  /// What the fragments of a datagram have in common (RFC 791, section 3.2; RFC 8200, section 4.5: of
  /// IPv6 not the protocol, as headers may stand between).
  struct Name: Equatable {
    var source: IPv6Address
    var destination: IPv6Address
    var identification: UInt32
    var `protocol`: IPProtocol
    var port: Int

    init(_ datagram: Datagram, from port: Int) {
      source = datagram.source
      destination = datagram.destination
      identification = datagram.identification
      `protocol` = datagram.version == .ipv4 ? datagram.protocol : IPProtocol(0)
      self.port = port
    }
  }

  private struct Known {
    var name: Name
    var way: Way
    var since: Instant
  }

  /// RFC 791, section 3.2, "timer".
  private static let knownFor: Instant = 15_000_000_000
  private static let heldFor: Instant = 2_000_000_000
  private static let maximumKnown = 64
  private static let maximumHeld = 16
  private static let maximumOctets = 2048

  private var known: [Known] = []
  /// Where the next one is noted, once all places are taken.
  private var oldest = 0
  private var held: [Held] = []
  /// Later fragments whose first one did not come.
  private(set) var lost: UInt64 = 0

  func way(of datagram: Datagram, from port: Int, at now: Instant) -> Way? {
    let name = Name(datagram, from: port)
    for entry in known where entry.name == name && now - entry.since < Self.knownFor {
      return entry.way
    }
    return nil
  }

  /// Takes note of a first fragment that went on.
  mutating func know(
    _ datagram: Datagram, from port: Int, _ key: FlowKey, identification: UInt16?, at now: Instant
  ) {
    let entry = Known(
      name: Name(datagram, from: port),
      way: Way(
        source: key.source, destination: key.destination, judged: datagram.fragmentLength,
        identification: identification),
      since: now)
    for index in known.indices where known[index].name == entry.name {
      known[index] = entry
      return
    }
    guard known.count == Self.maximumKnown else {
      known.append(entry)
      return
    }
    known[oldest] = entry
    oldest = (oldest + 1) % Self.maximumKnown
  }

  mutating func hold(
    _ frame: borrowing Frame, _ datagram: Datagram, from port: Int, at now: Instant
  ) {
    guard frame.length <= Self.maximumOctets, frame.head == frame.length else {
      lost &+= 1
      return
    }
    if held.count == Self.maximumHeld {
      held.removeFirst()
      lost &+= 1
    }
    var octets = [UInt8](repeating: 0, count: frame.length)
    _ = octets.withUnsafeMutableBytes { frame.copy(to: $0) }
    held.append(
      Held(
        name: Name(datagram, from: port), octets: octets, offload: frame.offload,
        since: now))
  }

  /// A fragment that waits for this one, and waits no more.
  mutating func takeHeld(_ datagram: Datagram, from port: Int) -> Held? {
    let name = Name(datagram, from: port)
    for index in held.indices where held[index].name == name { return held.remove(at: index) }
    return nil
  }

  mutating func expire(at now: Instant) {
    let before = held.count
    held.removeAll { now - $0.since >= Self.heldFor }
    lost &+= UInt64(before - held.count)
  }
}
