internal import LinuxSystem
internal import NFVModel
internal import Synchronization
internal import SystemPackage

/// The fabric's side of uplinks: it is the gateway of the networks that have one.
extension Fabric {
  /// Lets nothing across the fabric but what belongs to an uplink: networks of one tenant do not
  /// reach each other here. The chains are emptied first, so that loading them mends them.
  private static let uplinkRules = """
    add table inet martlet
    add set inet martlet nat_networks { type ifname; }
    add set inet martlet routed_networks { type ifname; }
    add chain inet martlet to_fabric { type filter hook input priority 0; policy drop; }
    add chain inet martlet across { type filter hook forward priority 0; policy drop; }
    add chain inet martlet outwards { type nat hook postrouting priority 100; }
    flush chain inet martlet to_fabric
    flush chain inet martlet across
    flush chain inet martlet outwards
    table inet martlet {
      chain to_fabric {
        iifname "lo" accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
      }
      chain across {
        iifname != "transit" fib saddr . iif oif missing drop
        iifname @nat_networks ct state invalid drop
        iifname @nat_networks oifname "transit" meta mark set 1 accept
        iifname @routed_networks oifname "transit" accept
        iifname "transit" oifname @nat_networks ct state established,related accept
        iifname "transit" oifname @routed_networks accept
      }
      chain outwards { oifname "transit" meta mark 1 masquerade; }
    }

    """

  private static let natNetworks = NetlinkMessage.NetfilterSet.inet("martlet", "nat_networks")
  private static let routedNetworks = NetlinkMessage.NetfilterSet.inet(
    "martlet", "routed_networks")
  /// Above the kernel's own routes to the fabric's networks, which win.
  private static let metric: UInt32 = 1024

  /// The link to the host, where it is made.
  var transitLink: LinkInformation? {
    get throws(SystemError) { try route.link(named: Transit.fabricLink) }
  }

  /// The fabric's end of the transit, with the default routes by the host.
  func ensureTransit(
    _ transit: Transit, families: Set<IPAddress.Family>
  ) throws(SystemError) {
    try route.request([.setLinkUp(named: Transit.fabricLink)], subject: "the transit")
    let link = try route.index(ofLinkNamed: Transit.fabricLink)
    var messages: [NetlinkMessage] = []
    for family in families.sorted() {
      let (host, fabric) = transit.ends(of: family)
      messages.append(.addAddress(fabric, link: link))
      if family == .v6 { messages.append(.addAddress(Transit.fabricLinkLocal, link: link)) }
      messages.append(
        .addRoute(
          to: IPAddress(family: family, value: 0).octets, prefixLength: 0,
          gateway: host.address.octets, link: link, metric: Self.metric))
    }
    try route.request(messages, subject: "the fabric's end of the transit")
  }

  /// Makes the fabric the gateway of a network with the uplink `nat` or `routed`.
  func ensureUplink(_ network: Network, store: StoreID) throws(SystemError) {
    try hasUplinkRules.withLock { isLoaded throws(SystemError) in
      if isLoaded { return }
      try loadRules(Self.uplinkRules, by: nft, in: namespace)
      isLoaded = true
    }
    let key = interfaceKey(network.bridgeName(store: store))
    try netfilter.add([(network.uplink == .routed ? Self.routedNetworks : Self.natNetworks, key)])
    let link = try bridge(of: network.id)
    var gateways = network.subnets.compactMap { subnet in
      subnet.gateway.map { IPPrefix(address: $0, length: subnet.prefix.length) }
    }
    if gateways.contains(where: { $0.address.family == .v6 }) {
      gateways.append(Transit.gatewayLinkLocal)
    }
    try route.request(
      gateways.map { .addAddress($0, link: link) }, subject: "the gateway of \(network.name)")
    // What the network's functions reach behind one of them, the uplink reaches too.
    try route.request(
      network.routes.filter { route in
        route.destination.length > 0
          && network.subnets.contains { $0.prefix.contains(route.via) }
      }.map {
        .addRoute(
          to: $0.destination.network.address.octets, prefixLength: $0.destination.length,
          gateway: $0.via.octets, link: link, metric: Self.metric)
      }, subject: "the routes of \(network.name)")
    try namespace.run { () throws(SystemError) in
      try writeSysctls([("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])
    }
  }

  /// Takes a network with an uplink out of the rules.
  func forgetUplink(of network: NetworkID) throws(SystemError) {
    guard let key = try link(of: network).map({ interfaceKey($0.name) }) else { return }
    try netfilter.remove([(Self.natNetworks, key), (Self.routedNetworks, key)])
  }

  /// Whether a network here has an uplink.
  var hasUplink: Bool {
    get throws(SystemError) {
      let bridges = Set(try route.links().filter { $0.kind == "bridge" }.map(\.index))
      return try route.addresses().contains { bridges.contains($0.link) }
    }
  }
}

extension NetlinkMessage {
  static func addAddress(_ prefix: IPPrefix, link: UInt32) -> Self {
    .addAddress(prefix.address.octets, prefixLength: prefix.length, link: link)
  }
}
