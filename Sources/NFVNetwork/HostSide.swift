internal import LinuxSystem
internal import NFVModel
internal import SystemPackage

/// The host's side of uplinks: one transit link a tenant, the routes to its `routed` networks, and
/// one nft table a store, named after it so that two daemons on one host leave each other alone.
///
/// Nothing of it is stored: it follows from store and tenant, and is found again on the host.
/// Uses are serial.
final class HostSide: Sendable {
  private let store: StoreID
  private let nft: String
  private let namespace: NetworkNamespace
  private let route: NetlinkSocket
  private let netfilter: NetlinkSocket
  private let table: String

  /// - Parameter path: of the network namespace that is the host's.
  init(store: StoreID, namespace path: String, nft: String) throws(SystemError) {
    self.store = store
    self.nft = nft
    let namespace = try NetworkNamespace(path: path)
    self.namespace = namespace
    (route, netfilter) = try namespace.run { () throws(SystemError) in
      (try NetlinkSocket(.route), try NetlinkSocket(.netfilter))
    }
    table = "martlet_" + HostName.derived(from: store.rawValue)
  }

  /// What comes from a fabric may go out, behind the host's addresses where its source is a
  /// transit's; it may not go to the host itself, to another fabric, or to link-local addresses
  /// (RFC 3927 7), where cloud providers answer with the host's credentials.
  private var rules: String {
    """
    add table inet \(table)
    add set inet \(table) transits { type ifname; }
    add set inet \(table) sources_v4 { type ipv4_addr; }
    add set inet \(table) sources_v6 { type ipv6_addr; }
    add chain inet \(table) to_host { type filter hook input priority 0; }
    add chain inet \(table) across { type filter hook forward priority 0; }
    add chain inet \(table) outwards { type nat hook postrouting priority 100; }
    flush chain inet \(table) to_host
    flush chain inet \(table) across
    flush chain inet \(table) outwards
    table inet \(table) {
      chain to_host {
        iifname != @transits accept
        ct state established,related accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
        drop
      }
      chain across {
        iifname @transits oifname @transits drop
        iifname @transits ip daddr 169.254.0.0/16 drop
        ip saddr @sources_v4 ct state invalid drop
        ip6 saddr @sources_v6 ct state invalid drop
      }
      chain outwards {
        ip saddr @sources_v4 oifname != @transits masquerade
        ip6 saddr @sources_v6 oifname != @transits masquerade
      }
    }

    """
  }

  private func linkName(of tenant: TenantID) -> String {
    HostName.derived(from: Transit.alias(of: tenant, store: store))
  }

  // MARK: What cannot be had

  /// Why this host cannot give a tenant's network its uplink; nil where it can.
  func refusal(
    of network: NetworkRequest, _ tenant: TenantID
  ) throws(SystemError) -> NFVError? {
    let routes = try route.routes()
    if network.subnets.contains(where: { $0.prefix.address.family == .v6 }),
      let refusal = try refusalOfForwarding(network, routes)
    {
      return refusal
    }
    guard network.uplink == .routed else { return nil }
    let own = try route.link(named: linkName(of: tenant))?.index
    for subnet in network.subnets {
      for route in routes where route.prefixLength > 0 && !route.isForGroups {
        guard let prefix = IPPrefix(octets: route.destination, length: route.prefixLength),
          prefix.overlaps(subnet.prefix), !(route.link == own && prefix == subnet.prefix)
        else { continue }
        return NFVError(
          .unprocessable,
          "the subnet \(subnet.prefix) of the network \(network.name) cannot be routed: it overlaps "
            + "the host's route to \(prefix)\(try wayOut(of: route)); choose another subnet, or the "
            + "uplink nat")
      }
    }
    return nil
  }

  /// A host that learns its router by advertisements would forget it when it begins to forward.
  private func refusalOfForwarding(
    _ network: NetworkRequest, _ routes: [RouteInformation]
  ) throws(SystemError) -> NFVError? {
    guard try sysctl("ipv6/conf/all/forwarding") == "0" else { return nil }
    for route in routes
    // RTPROT_RA
    where route.destination.count == 16 && route.prefixLength == 0 && route.origin == 9 {
      guard let name = try linkName(of: route),
        try sysctl("ipv6/conf/\(name)/accept_ra") != "2"
      else { continue }
      return NFVError(
        .unprocessable,
        "the network \(network.name) cannot have an uplink for IPv6: this host learns its own router "
          + "on \(name) by advertisements and would forget it when it forwards; allow both by "
          + "net.ipv6.conf.\(name).accept_ra=2 (sysctl)")
    }
    return nil
  }

  private func linkName(of route: RouteInformation) throws(SystemError) -> String? {
    guard route.link != 0 else { return nil }
    return try self.route.links().first { $0.index == route.link }?.name
  }

  private func wayOut(of route: RouteInformation) throws(SystemError) -> String {
    try linkName(of: route).map { " by \($0)" } ?? ""
  }

  private func sysctl(_ name: String) throws(SystemError) -> String? {
    try namespace.run { () throws(SystemError) in
      do throws(SystemError) {
        let text = try readFile("/proc/sys/net/\(name)", limit: 64)
        return String(decoding: text.prefix { $0 != 10 }, as: UTF8.self)
      } catch  where error.errno == .noSuchFileOrDirectory {
        return nil
      }
    }
  }

  // MARK: Transit links

  private static let anyMTU = 65535

  private func set(_ name: String) -> NetlinkMessage.NetfilterSet { .inet(table, name) }

  /// Links the host with a tenant's fabric, or mends what differs.
  func ensureTransit(
    to fabric: Fabric, families: Set<IPAddress.Family>
  ) throws(SystemError) -> Transit {
    let name = linkName(of: fabric.tenant)
    try loadRules(rules, by: nft, in: namespace)
    // Before the link is there: nothing that comes by it is ever unchecked.
    try netfilter.add([(set("transits"), interfaceKey(name))])
    let link = try ensureLink(name, to: fabric)
    let transit = try transit(of: fabric.tenant, link: link)
    let families = families.union([.v4])
    for family in families.sorted() {
      let (host, inside) = transit.ends(of: family)
      try netfilter.add([
        (set(family == .v4 ? "sources_v4" : "sources_v6"), inside.address.octets)
      ])
      let addresses = family == .v4 ? [host] : [host, Transit.gatewayLinkLocal]
      try route.request(
        addresses.map { .addAddress($0, link: link) },
        subject: "the host's end of the transit to \(fabric.tenant)")
      try forward(family)
    }
    try fabric.ensureTransit(transit, families: families)
    return transit
  }

  private func ensureLink(_ name: String, to fabric: Fabric) throws(SystemError) -> UInt32 {
    let outer = try route.link(named: name)
    let inner = try fabric.transitLink
    if let outer, let inner, outer.peer == inner.index, inner.peer == outer.index {
      try route.request([.setLink(outer.index, isUp: true)], subject: name)
      return outer.index
    }
    // One end without the other one is of another fabric, or of another host's namespace.
    if let outer { try route.request([.deleteLink(outer.index)], subject: name) }
    if let inner {
      try fabric.route.request([.deleteLink(inner.index)], subject: Transit.fabricLink)
    }
    // The devices behind the transit have the limits; it has none.
    try route.request(
      [
        .addVeth(
          name: name, mtu: Self.anyMTU, master: nil,
          peer: .init(
            name: Transit.fabricLink, mac: [],
            namespace: fabric.namespace.descriptor.rawValue)),
        .setAlias(ofLinkNamed: name, to: Transit.alias(of: fabric.tenant, store: store)),
      ], subject: "the transit to \(fabric.tenant)")
    return try route.index(ofLinkNamed: name)
  }

  /// The addresses that the transit has, or those of a place that nothing on this host uses.
  private func transit(of tenant: TenantID, link: UInt32) throws(SystemError) -> Transit {
    var taken: Set<Int> = []
    for address in try route.addresses() {
      guard let place = IPAddress(octets: address.octets).flatMap(Transit.place) else { continue }
      if address.link == link { return Transit(place: place, store: store) }
      taken.insert(place)
    }
    let first = Transit.preferredPlace(of: tenant, store: store)
    for step in 0..<Transit.places {
      let place = (first + step) % Transit.places
      if !taken.contains(place), !Transit.isReserved(place) {
        return Transit(place: place, store: store)
      }
    }
    throw SystemError(
      call: "transit", errno: .noSpace, subject: "every pair of 169.254.128.0/17 is taken")
  }

  /// Has the host forward a family. It is never turned off again: others may rely on it by then.
  private func forward(_ family: IPAddress.Family) throws(SystemError) {
    let name = family == .v4 ? "ipv4/ip_forward" : "ipv6/conf/all/forwarding"
    if try sysctl(name) != "0" { return }
    try namespace.run { () throws(SystemError) in try writeSysctls([(name, "1")]) }
  }

  /// Takes the link away, and with the store's last one its table.
  func removeTransit(of tenant: TenantID) throws(SystemError) {
    let name = linkName(of: tenant)
    let links = try route.links()
    let own = links.first { $0.name == name }
    let isLast = !links.contains { link in
      link.name != name && link.alias.hasPrefix("\(store)/")
        && link.alias.hasSuffix("/\(Transit.fabricLink)")
    }
    if isLast {
      try loadRules(
        "add table inet \(table)\ndelete table inet \(table)\n", by: nft, in: namespace)
    } else {
      var elements = [(set: set("transits"), key: interfaceKey(name))]
      if let own {
        let transit = try transit(of: tenant, link: own.index)
        elements.append((set("sources_v4"), transit.ipv4.fabric.address.octets))
        elements.append((set("sources_v6"), transit.ipv6.fabric.address.octets))
      }
      try netfilter.remove(elements)
    }
    if let own { try route.request([.deleteLink(own.index)], subject: name) }
  }

  // MARK: Routes

  /// Routes the subnets of a `routed` network to its fabric.
  func ensureRoutes(to network: Network, by transit: Transit) throws(SystemError) {
    let link = try route.index(ofLinkNamed: linkName(of: network.tenant))
    try route.request(
      network.subnets.map { subnet in
        .addRoute(
          to: subnet.prefix.address.octets, prefixLength: subnet.prefix.length,
          gateway: transit.ends(of: subnet.prefix.address.family).fabric.address.octets,
          link: link)
      }, subject: "the routes to \(network.name)")
  }

  /// Removes the routes to prefixes of a tenant's network, where it has any.
  func removeRoutes(to prefixes: [IPPrefix], of tenant: TenantID) throws(SystemError) {
    guard let link = try route.link(named: linkName(of: tenant))?.index else { return }
    let outcomes = try route.outcomes(
      prefixes.map {
        .deleteRoute(to: $0.address.octets, prefixLength: $0.length, link: link)
      })
    // A network with the uplink nat has none.
    if let errno = outcomes.compactMap(\.self).first(where: { $0 != .noSuchProcess }) {
      throw SystemError(call: "netlink", errno: errno, subject: "routes to \(prefixes)")
    }
  }
}
