internal import LinuxSystem
internal import NFVModel
internal import Synchronization
internal import SystemPackage

/// A tenant's fabric: the network namespace that holds its bridges and the host ends of its ports.
/// Pinned by a bind mount, so that the daemon's death leaves it and its traffic alone.
final class Fabric: Sendable {
  let tenant: TenantID
  let namespace: NetworkNamespace
  /// Opened inside the fabric once; serves it from any thread.
  let route: NetlinkSocket
  let netfilter: NetlinkSocket
  let nft: String
  private let path: String
  private let bridges = Mutex<[NetworkID: Bridge]>([:])
  /// Whether this process has loaded the rules for uplinks. Nobody else changes them here.
  let hasUplinkRules = Mutex(false)

  /// A network's bridge. Its index never changes while it lives.
  private struct Bridge {
    let index: UInt32
    /// For the announcements of its ports.
    let frames: LinkSocket
    /// Who had which address last; nil where an earlier daemon made the bridge and nobody knows.
    var owners: [IPAddress: MACAddress]?
  }

  /// Opens the fabric that is pinned at `path`, or makes it.
  init(tenant: TenantID, path: String, nft: String) throws(SystemError) {
    self.tenant = tenant
    self.path = path
    self.nft = nft
    var isNew = false
    var found: NetworkNamespace?
    do throws(SystemError) {
      let pinned = try NetworkNamespace(path: path)
      // The file without its mount is left from before a reboot: no namespace is behind it.
      if try isNamespace(pinned.descriptor) { found = pinned }
    } catch  where error.errno == .noSuchFileOrDirectory {}
    if let found {
      namespace = found
    } else {
      namespace = try NetworkNamespace.create()
      try namespace.pin(at: path)
      isNew = true
    }
    (route, netfilter) = try namespace.run { () throws(SystemError) in
      (try NetlinkSocket(.route), try NetlinkSocket(.netfilter))
    }
    if isNew {
      do throws(SystemError) {
        try setUp()
      } catch {
        try? NetworkNamespace.unpin(path)
        throw error
      }
    }
  }

  private func setUp() throws(SystemError) {
    try route.request([.setLinkUp(named: "lo")], subject: "lo of the fabric")
    try namespace.run { () throws(SystemError) in try writeSysctls(Self.sysctls) }
    try loadRules(Self.rules, by: nft, in: namespace)
  }

  private static let sysctls = [
    ("bridge/bridge-nf-call-iptables", "0"), ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"), ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"), ("ipv6/conf/all/accept_ra", "0"),
  ]

  /// A port is an element of a set, never a rule: what a frame may come from is one look-up.
  private static let rules = """
    table bridge martlet {
      set bridge_ports { type ifname; }
      set router_ports { type ifname . ether_addr; }
      set host_ports { type ifname . ether_addr; }
      set host_v4 { type ifname . ether_addr . ipv4_addr; }
      set host_v6 { type ifname . ether_addr . ipv6_addr; }
      set host_targets { typeof iifname . ether saddr . @th,64,128; }
      chain from_port {
        type filter hook prerouting priority -200; policy drop;
        iifname . ether saddr . ip saddr @host_v4 accept
        iifname . ether saddr @router_ports accept
        ether type arp iifname . arp saddr ether . arp saddr ip @host_v4 accept
        iifname . ether saddr @host_ports icmpv6 type { nd-router-advert, nd-redirect } drop
        iifname . ether saddr @host_ports icmpv6 type nd-neighbor-advert \
          iifname . ether saddr . @th,64,128 != @host_targets drop
        iifname . ether saddr . ip6 saddr @host_v6 accept
        iifname . ether saddr @host_ports ip6 saddr :: icmpv6 type nd-neighbor-solicit accept
        iifname @bridge_ports accept
      }
    }
    table inet martlet {
      chain to_fabric { type filter hook input priority 0; policy drop; iifname "lo" accept; }
    }

    """

  /// The elements that a port's mode puts into the sets.
  func elements(of attachment: Attachment) -> [(set: NetlinkMessage.NetfilterSet, key: [UInt8])] {
    func set(_ name: String) -> NetlinkMessage.NetfilterSet {
      NetlinkMessage.NetfilterSet(family: 7, table: "martlet", name: name)
    }
    let interface = interfaceKey(attachment.interfaceName)
    let mac = attachment.port.mac.octets + [0, 0]
    switch attachment.port.mode {
    case .bridge: return [(set("bridge_ports"), interface)]
    case .router: return [(set("router_ports"), interface + mac)]
    case .host:
      var elements = [(set: set("host_ports"), key: interface + mac)]
      for address in attachment.port.addresses.map(\.address) {
        let key = interface + mac + address.octets
        switch address.family {
        case .v4: elements.append((set("host_v4"), key))
        // What it may send from, and what a neighbour advertisement of it may be about.
        case .v6: elements += [(set("host_v6"), key), (set("host_targets"), key)]
        }
      }
      return elements
    }
  }

  // MARK: Bridges

  func ensureBridge(_ network: Network, store: StoreID) throws(SystemError) {
    let name = network.bridgeName(store: store)
    let mac: [UInt8] = [2] + HostName.hash(name).octets.prefix(5)
    let outcome = try route.outcomes([
      .addBridge(name: name, mac: mac, mtu: network.mtu),
      .setAlias(ofLinkNamed: name, to: network.alias(store: store)),
    ])
    if let errno = outcome[0], errno != .fileExists {
      throw SystemError(call: "netlink", errno: errno, subject: "bridge of \(network.name)")
    }
    if bridges.withLock({ $0[network.id] }) == nil {
      _ = try open(
        network.id, named: name, index: try route.index(ofLinkNamed: name),
        isNew: outcome[0] == nil)
    }
  }

  private func open(
    _ id: NetworkID, named name: String, index: UInt32, isNew: Bool
  ) throws(SystemError) -> Bridge {
    let frames = try namespace.run { () throws(SystemError) in
      try LinkSocket(interface: name, receives: false)
    }
    let bridge = Bridge(index: index, frames: frames, owners: isNew ? [:] : nil)
    bridges.withLock { $0[id] = bridge }
    return bridge
  }

  /// The link of a network's bridge.
  /// - Returns: nil where the network was never ensured.
  func link(of network: NetworkID) throws(SystemError) -> LinkInformation? {
    try route.links().first { link in
      link.kind == "bridge"
        && link.alias.split(separator: "/").last.map(String.init) == network.rawValue
    }
  }

  private func openBridge(of network: NetworkID) throws(SystemError) -> Bridge {
    if let bridge = bridges.withLock({ $0[network] }) { return bridge }
    guard let link = try link(of: network) else {
      throw SystemError(
        call: "netlink", errno: .noSuchAddressOrDevice, subject: "bridge \(network)")
    }
    return try open(network, named: link.name, index: link.index, isNew: false)
  }

  /// The index of the bridge of a port's network.
  /// - Throws: ENXIO where the network was never ensured.
  func bridge(of network: NetworkID) throws(SystemError) -> UInt32 {
    try openBridge(of: network).index
  }

  /// Directs traffic to ports that take it from their beginning: frames to their MACs, which the
  /// predecessors' links still have as long as their namespaces are there, and neighbours that know
  /// an address by another MAC.
  func direct(_ attachments: [Attachment]) throws(SystemError) {
    var entries: [NetlinkMessage] = []
    for attachment in attachments {
      let index = try route.index(ofLinkNamed: attachment.interfaceName)
      entries.append(.setForwarding(of: attachment.port.mac.octets, to: index))
      if take(attachment.port) { announce(attachment.port) }
    }
    try route.request(entries, subject: "forwarding entries")
  }

  /// Makes a port's addresses known to the neighbours on its network. They learn by themselves,
  /// later, where this fails. It costs some 5 µs for each port of the network.
  func announce(_ port: Port) {
    guard let bridge = try? openBridge(of: port.network) else { return }
    for frame in Announcement.frames(of: port) { try? bridge.frames.send(frame) }
  }

  /// Notes that a port has its addresses.
  /// - Returns: whether neighbours may know one of them by another MAC.
  private func take(_ port: Port) -> Bool {
    bridges.withLock { bridges in
      guard var owners = bridges[port.network]?.owners else { return true }
      bridges[port.network]?.owners = nil
      var isKnown = false
      for prefix in port.addresses {
        let before = owners.updateValue(port.mac, forKey: prefix.address)
        if let before, before != port.mac { isKnown = true }
      }
      bridges[port.network]?.owners = owners
      return isKnown
    }
  }

  /// - Returns: whether the fabric has no bridge left.
  func removeBridge(_ id: NetworkID) throws(SystemError) -> Bool {
    if let link = try link(of: id) {
      try route.request([.deleteLink(link.index)], subject: "bridge \(id)")
    }
    bridges.withLock { $0[id] = nil }
    return try isEmpty
  }

  /// Whether the fabric has no bridge.
  var isEmpty: Bool {
    get throws(SystemError) { try !route.links().contains { $0.kind == "bridge" } }
  }

  /// The prefixes of a network whose gateway the fabric is; empty where it has no uplink.
  func prefixes(of network: NetworkID) throws(SystemError) -> [IPPrefix] {
    guard let index = try link(of: network)?.index else { return [] }
    return try route.addresses().filter { $0.link == index }
      .compactMap { IPPrefix(octets: $0.octets, length: $0.prefixLength)?.network }
      .filter { !$0.isLinkLocal }
  }

  /// Lets go of the namespace; with its last port it is gone.
  func unpin() throws(SystemError) { try NetworkNamespace.unpin(path) }
}

extension UInt64 {
  fileprivate var octets: [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: self >> (8 * $0)) } }
}
