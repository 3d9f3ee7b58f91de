internal import Glibc
internal import SystemPackage

/// Requests of rtnetlink(7) that a fabric is made of. Addresses are octets in the order of the wire.
extension NetlinkMessage {
  private static let newLink: UInt16 = 16
  private static let createExclusively: UInt16 = 0x600
  private static let createOrReplace: UInt16 = 0x500

  /// `struct ifinfomsg`.
  private static func link(index: UInt32 = 0, isUp: Bool? = nil, family: UInt8 = 0) -> [UInt8] {
    [family, 0, 0, 0] + octets(index) + octets(UInt32(isUp == true ? 1 : 0))
      + octets(UInt32(isUp == nil ? 0 : 1))
  }

  /// A bridge with its MAC from the beginning (or it changes with its first port), without
  /// forwarding delay, up.
  public static func addBridge(name: String, mac: [UInt8], mtu: Int) -> Self {
    var message = Self(type: newLink, flags: createExclusively, fixed: link(isUp: true))
    message.attribute(3, name)
    message.attribute(1, mac)
    message.attribute(4, UInt32(mtu))
    message.nested(18) { info in
      info.attribute(1, "bridge")
      // IFLA_BR_FORWARD_DELAY
      info.nested(2) { $0.attribute(1, UInt32(0)) }
    }
    return message
  }

  /// What a veth's peer is born with.
  public struct VethPeer: Sendable, Hashable {
    public var name: String
    public var mac: [UInt8]
    /// A descriptor of the network namespace that it is born in.
    public var namespace: Int32

    public init(name: String, mac: [UInt8], namespace: Int32) {
      self.name = name
      self.mac = mac
      self.namespace = namespace
    }
  }

  /// A veth pair: this end up and in `master` where one is given, the other born in its namespace.
  /// The peer cannot be up yet: the kernel answers ENOTCONN. One queue is named for each direction
  /// (IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES): the kernel uses one in any case, but makes one for
  /// each processor and takes the others away again, which waits for the processors: 0.5 ms a pair.
  public static func addVeth(name: String, mtu: Int, master: UInt32?, peer: VethPeer) -> Self {
    var message = Self(type: newLink, flags: createExclusively, fixed: link(isUp: true))
    message.attribute(3, name)
    message.attribute(4, UInt32(mtu))
    message.attribute(31, UInt32(1))
    message.attribute(32, UInt32(1))
    if let master { message.attribute(10, master) }
    message.nested(18) { info in
      info.attribute(1, "veth")
      info.nested(2) { data in
        data.nested(1, prefix: link()) { end in
          end.attribute(3, peer.name)
          if !peer.mac.isEmpty { end.attribute(1, peer.mac) }
          end.attribute(4, UInt32(mtu))
          end.attribute(31, UInt32(1))
          end.attribute(32, UInt32(1))
          end.attribute(28, UInt32(bitPattern: peer.namespace))
        }
      }
    }
    return message
  }

  /// Sets a link's alias, which holds the identity of what it belongs to.
  public static func setAlias(ofLinkNamed name: String, to alias: String) -> Self {
    var message = Self(type: newLink, fixed: link())
    message.attribute(3, name)
    message.attribute(20, Array(alias.utf8))
    return message
  }

  public static func setLink(_ index: UInt32, isUp: Bool? = nil, master: UInt32? = nil) -> Self {
    var message = Self(type: newLink, fixed: link(index: index, isUp: isUp))
    if let master { message.attribute(10, master) }
    return message
  }

  /// What a tap gets, which is born without any of it: up, and in `master` where one is given.
  public static func setTap(named name: String, mtu: Int, master: UInt32?, alias: String) -> Self {
    var message = Self(type: newLink, fixed: link(isUp: true))
    message.attribute(3, name)
    message.attribute(4, UInt32(mtu))
    if let master { message.attribute(10, master) }
    message.attribute(20, Array(alias.utf8))
    return message
  }

  /// Gives a tap that is down to another: its name, alias and MTU change, it comes up, and goes into
  /// `master` where one is given.
  public static func setTap(
    _ index: UInt32, name: String, mtu: Int, master: UInt32?, alias: String
  ) -> Self {
    var message = Self(type: newLink, fixed: link(index: index, isUp: true))
    message.attribute(3, name)
    message.attribute(4, UInt32(mtu))
    if let master { message.attribute(10, master) }
    message.attribute(20, Array(alias.utf8))
    return message
  }

  /// Renames a link, which must be down, and sets its MTU where one is given.
  public static func setLink(_ index: UInt32, name: String, mtu: UInt32? = nil) -> Self {
    var message = Self(type: newLink, fixed: link(index: index))
    message.attribute(3, name)
    if let mtu { message.attribute(4, mtu) }
    return message
  }

  public static func setLinkUp(named name: String) -> Self {
    var message = Self(type: newLink, fixed: link(isUp: true))
    message.attribute(3, name)
    return message
  }

  public static func deleteLink(_ index: UInt32) -> Self {
    Self(type: 17, fixed: link(index: index))
  }

  public static var listLinks: Self { Self(type: 18, fixed: link()) }

  /// An address that works at once: without duplicate address detection (IFA_F_NODAD).
  public static func addAddress(_ address: [UInt8], prefixLength: Int, link: UInt32) -> Self {
    let isV4 = address.count == 4
    var message = Self(
      type: 20, flags: createOrReplace,
      fixed: [isV4 ? 2 : 10, UInt8(prefixLength), 2, 0] + octets(link))
    message.attribute(2, address)
    message.attribute(1, address)
    message.attribute(8, UInt32(2))
    return message
  }

  /// `struct rtmsg`: table main, protocol static, scope universe, type unicast.
  private static func route(
    type: UInt16, flags: UInt16 = 0, to destination: [UInt8], prefixLength: Int
  ) -> Self {
    var message = Self(
      type: type, flags: flags,
      fixed: [
        destination.count == 4 ? 2 : 10, UInt8(prefixLength), 0, 0, 254, 4, 0, 1, 0, 0, 0, 0,
      ])
    if prefixLength > 0 { message.attribute(1, destination) }
    return message
  }

  /// A route to `destination` by `gateway`; with a prefix of no length it is the default route.
  /// - Parameter metric: of several routes to the same the lowest is taken; the kernel's own to
  ///   what is on a link have 0 (IPv4) and 256 (IPv6).
  public static func addRoute(
    to destination: [UInt8], prefixLength: Int, gateway: [UInt8], link: UInt32, metric: UInt32 = 0
  ) -> Self {
    var message = route(
      type: 24, flags: createOrReplace, to: destination, prefixLength: prefixLength)
    message.attribute(5, gateway)
    message.attribute(4, link)
    if metric > 0 { message.attribute(6, metric) }
    return message
  }

  /// Deletes the route to `destination` that leaves by `link`.
  public static func deleteRoute(
    to destination: [UInt8], prefixLength: Int, link: UInt32
  ) -> Self {
    var message = route(type: 25, to: destination, prefixLength: prefixLength)
    message.attribute(4, link)
    return message
  }

  /// A bridge's forwarding entry: frames to `mac` go to the port `link`, at once and until they
  /// are learned elsewhere. It goes with the port and does not age; only so can a port have it
  /// whose other end is not up yet.
  public static func setForwarding(of mac: [UInt8], to link: UInt32) -> Self {
    // `struct ndmsg`: family AF_BRIDGE, state NUD_NOARP, flags NTF_MASTER.
    var message = Self(
      type: 28, flags: createOrReplace,
      fixed: [7, 0, 0, 0] + octets(link) + octets(UInt16(0x40)) + [4, 0])
    message.attribute(2, mac)
    return message
  }

  /// A neighbour that is known for ever (NUD_PERMANENT).
  public static func addNeighbour(_ address: [UInt8], mac: [UInt8], link: UInt32) -> Self {
    var message = Self(
      type: 28, flags: createOrReplace,
      fixed: [address.count == 4 ? 2 : 10, 0, 0, 0] + octets(link) + octets(UInt16(0x80)) + [0, 0])
    message.attribute(1, address)
    message.attribute(2, mac)
    return message
  }
}

/// A link as `RTM_GETLINK` lists it.
public struct LinkInformation: Sendable, Hashable {
  public var index: UInt32
  public var name: String
  public var alias: String
  /// The kind of a virtual link, such as `bridge` or `veth`.
  public var kind: String
  public var mac: [UInt8]
  public var isUp: Bool
  /// The bridge that it is in; 0 for none.
  public var master: UInt32
  /// The index of a veth's other end, in its own namespace; 0 for other kinds.
  public var peer: UInt32
  /// As this end sees them.
  public var receivedPackets, sentPackets, receivedBytes, sentBytes: UInt64
  public var receiveDropped, sendDropped: UInt64

  init?(_ bytes: ArraySlice<UInt8>) {
    guard bytes.count >= 16 else { return nil }
    let attributes = NetlinkAttributes(bytes.dropFirst(16))
    guard let name = attributes.text(3) else { return nil }
    index = bytes.integer(at: 4, as: UInt32.self)
    isUp = bytes.integer(at: 8, as: UInt32.self) & 1 != 0
    self.name = name
    alias = attributes.text(20) ?? ""
    kind = attributes.nested(18)?.text(1) ?? ""
    mac = Array(attributes[1] ?? [])
    master = attributes.integer(10, as: UInt32.self) ?? 0
    peer = attributes.integer(5, as: UInt32.self) ?? 0
    // `struct rtnl_link_stats64`: eight octets each.
    let statistics = attributes[23] ?? []
    func counter(_ place: Int) -> UInt64 {
      statistics.count >= 8 * place + 8 ? statistics.integer(at: 8 * place, as: UInt64.self) : 0
    }
    receivedPackets = counter(0)
    sentPackets = counter(1)
    receivedBytes = counter(2)
    sentBytes = counter(3)
    receiveDropped = counter(6)
    sendDropped = counter(7)
  }
}

extension NetlinkSocket {
  public func links() throws(SystemError) -> [LinkInformation] {
    try dump(.listLinks).compactMap(LinkInformation.init)
  }
}
