internal import NFVModel

/// The addresses of the link between the host and one tenant's fabric.
struct Transit: Hashable, Sendable {
  /// Which of the 16,384 pairs of 169.254.128.0/17 it has; the pair of IPv6 follows from it.
  let place: Int
  let store: StoreID

  static let places = 1 << 14

  /// The first place to try: the same for the same tenant every time.
  static func preferredPlace(of tenant: TenantID, store: StoreID) -> Int {
    Int(HostName.hash("\(store)/\(tenant)") % UInt64(places))
  }

  /// The place that an address lies in; nil for one outside of the range.
  static func place(of address: IPAddress) -> Int? {
    guard address.family == .v4, address.value >= first, address.value < first + 1 << 15 else {
      return nil
    }
    return Int(address.value - first) >> 1
  }

  /// What cloud providers answer at (169.254.169.0/24 and 169.254.170.0/24) and what RFC 3927
  /// reserves (169.254.255.0/24).
  static func isReserved(_ place: Int) -> Bool { [41, 42, 127].contains(place >> 7) }

  private static let first: UInt128 = 0xA9FE_8000

  /// The host's end, then the fabric's; of IPv4 a /31 (RFC 3021).
  var ipv4: (host: IPPrefix, fabric: IPPrefix) {
    let value = Self.first + UInt128(place) << 1
    return (end(.v4, value, 31), end(.v4, value + 1, 31))
  }

  /// Of IPv6 a /127 (RFC 6164) of a local /48 (RFC 4193) that follows from the store.
  var ipv6: (host: IPPrefix, fabric: IPPrefix) {
    let global = UInt128(HostName.hash(store.rawValue) & 0xFF_FFFF_FFFF)
    let value = 0xFD << 120 | global << 80 | UInt128(place) << 64
    return (end(.v6, value, 127), end(.v6, value + 1, 127))
  }

  func ends(of family: IPAddress.Family) -> (host: IPPrefix, fabric: IPPrefix) {
    family == .v4 ? ipv4 : ipv6
  }

  /// fe80::1 and fe80::2. Who forwards IPv6 asks for neighbours from a link-local address: without
  /// one it asks nobody.
  static let gatewayLinkLocal = linkLocal(1)
  static let fabricLinkLocal = linkLocal(2)

  private static func linkLocal(_ last: UInt128) -> IPPrefix {
    IPPrefix(address: IPAddress(family: .v6, value: 0xFE80 << 112 | last), length: 64)
  }

  private func end(_ family: IPAddress.Family, _ value: UInt128, _ length: Int) -> IPPrefix {
    IPPrefix(address: IPAddress(family: family, value: value), length: length)
  }

  /// The link's end in the fabric.
  static let fabricLink = "transit"

  /// What stands in the alias of the host's end.
  static func alias(of tenant: TenantID, store: StoreID) -> String {
    "\(store)/\(tenant)/\(fabricLink)"
  }
}

extension IPPrefix {
  /// From what netlink lists.
  init?(octets: [UInt8], length: Int) {
    guard let address = IPAddress(octets: octets) else { return nil }
    self.init(address: address, length: length)
  }

  /// Of fe80::/10 (RFC 4291 2.5.6).
  var isLinkLocal: Bool { address.family == .v6 && address.value >> 118 == 0xFE80 >> 6 }
}
