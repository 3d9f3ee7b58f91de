internal import CLinux
internal import SystemPackage

extension NetlinkMessage {
  /// Addresses of every family on every link.
  public static var listAddresses: Self {
    Self(type: 22, fixed: [UInt8](repeating: 0, count: 8))
  }

  /// Routes of every family and table.
  public static var listRoutes: Self {
    Self(type: 26, fixed: [UInt8](repeating: 0, count: 12))
  }

  /// One link by its name.
  static func getLink(named name: String) -> Self {
    // `struct ifinfomsg` that says nothing, IFLA_IFNAME.
    var message = Self(type: 18, fixed: [UInt8](repeating: 0, count: 16))
    message.attribute(3, name)
    return message
  }
}

/// An address of an interface as `RTM_GETADDR` lists it.
public struct AddressInformation: Sendable, Hashable {
  /// The interface's index.
  public var link: UInt32
  /// 4 or 16 octets in the order of the wire.
  public var octets: [UInt8]
  public var prefixLength: Int

  init?(_ bytes: ArraySlice<UInt8>) {
    guard bytes.count >= 8 else { return nil }
    let attributes = NetlinkAttributes(bytes.dropFirst(8))
    // IFA_LOCAL where there is one: IFA_ADDRESS is the other end's on a point-to-point link.
    guard let address = attributes[2] ?? attributes[1], [4, 16].contains(address.count) else {
      return nil
    }
    octets = Array(address)
    prefixLength = Int(bytes.integer(at: 1, as: UInt8.self))
    link = bytes.integer(at: 4, as: UInt32.self)
  }
}

/// A route as `RTM_GETROUTE` lists it.
public struct RouteInformation: Sendable, Hashable {
  /// 4 or 16 octets in the order of the wire; zeros in the default route.
  public var destination: [UInt8]
  public var prefixLength: Int
  /// Who made it (RTPROT_*), such as 9 for a router advertisement.
  public var origin: UInt8
  /// Whether it is a multicast or broadcast route, of which the kernel has some for each address.
  public var isForGroups: Bool
  /// The index of the interface that it leaves by; 0 for none.
  public var link: UInt32

  init?(_ bytes: ArraySlice<UInt8>) {
    guard bytes.count >= 12 else { return nil }
    // AF_INET and AF_INET6
    guard let width = [2: 4, 10: 16][bytes.integer(at: 0, as: UInt8.self)] else { return nil }
    let attributes = NetlinkAttributes(bytes.dropFirst(12))
    destination = attributes[1].map(Array.init) ?? [UInt8](repeating: 0, count: width)
    prefixLength = Int(bytes.integer(at: 1, as: UInt8.self))
    origin = bytes.integer(at: 5, as: UInt8.self)
    // RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST
    isForGroups = (3...5).contains(bytes.integer(at: 7, as: UInt8.self))
    link = attributes.integer(4, as: UInt32.self) ?? 0
  }
}

extension NetlinkSocket {
  public func addresses() throws(SystemError) -> [AddressInformation] {
    try dump(.listAddresses).compactMap(AddressInformation.init)
  }

  public func routes() throws(SystemError) -> [RouteInformation] {
    try dump(.listRoutes).compactMap(RouteInformation.init)
  }

  /// A link by its name, among however many.
  /// - Returns: nil where there is none.
  public func link(named name: String) throws(SystemError) -> LinkInformation? {
    do throws(SystemError) {
      return try ask(.getLink(named: name)).first.flatMap(LinkInformation.init)
    } catch  where error.errno == .operationNotSupportedByDevice {
      return nil
    }
  }

  /// The index of a link by its name (netdevice(7), SIOCGIFINDEX). Unlike `link(named:)` it does not
  /// settle the link's carrier first, which waits for the other processors: 0.3 ms.
  /// - Throws: ENODEV where there is none.
  public func index(ofLinkNamed name: String) throws(SystemError) -> UInt32 {
    UInt32(
      try systemCall("ioctl", "SIOCGIFINDEX \(name)") {
        CLinux_link_index(descriptor.rawValue, name)
      })
  }
}
