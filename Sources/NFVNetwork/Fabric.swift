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
  private let path: String
  /// The bridges' indices, which never change while they live.
  private let bridges = Mutex<[NetworkID: UInt32]>([:])

  /// Opens the fabric that is pinned at `path`, or makes it.
  init(tenant: TenantID, path: String, nft: String) throws(SystemError) {
    self.tenant = tenant
    self.path = path
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
        try setUp(nft: nft)
      } catch {
        try? NetworkNamespace.unpin(path)
        throw error
      }
    }
  }

  private func setUp(nft: String) throws(SystemError) {
    try route.request([.setLinkUp(named: "lo")], subject: "lo of the fabric")
    try namespace.run { () throws(SystemError) in
      for (name, value) in Self.sysctls {
        do throws(SystemError) {
          try writeFile("/proc/sys/net/\(name)", value)
        } catch  where error.errno == .noSuchFileOrDirectory {
          // A kernel without bridge-nf-call or without IPv6 has nothing to turn off.
        }
      }
    }
    try run(nft, rules: Self.rules)
  }

  /// The tables are made by the `nft` program: once a tenant, off the way of any port.
  private func run(_ nft: String, rules: String) throws(SystemError) {
    let (input, output) = try makePipe()
    try writeAll(Array(rules.utf8), to: output, "nft")
    try? output.close()
    defer { try? input.close() }
    let result = try namespace.run { () throws(SystemError) in
      try runProgram(nft, arguments: [nft, "-f", "-"], input: input)
    }
    guard result.status == 0 else {
      throw SystemError(
        call: "nft", errno: .invalidArgument,
        subject: String(decoding: result.output, as: UTF8.self))
    }
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
      chain from_port {
        type filter hook prerouting priority -200; policy drop;
        iifname . ether saddr . ip saddr @host_v4 accept
        iifname . ether saddr @router_ports accept
        ether type arp iifname . arp saddr ether . arp saddr ip @host_v4 accept
        iifname . ether saddr @host_ports icmpv6 type { nd-router-advert, nd-redirect } drop
        iifname . ether saddr . ip6 saddr @host_v6 accept
        iifname . ether saddr @host_ports ip6 saddr :: icmpv6 type nd-neighbor-solicit accept
        iifname @bridge_ports accept
      }
    }
    table inet martlet {
      chain to_fabric {
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
      }
    }

    """

  /// The elements that a port's mode puts into the sets.
  func elements(of attachment: Attachment) -> [(set: NetlinkMessage.NetfilterSet, key: [UInt8])] {
    func set(_ name: String) -> NetlinkMessage.NetfilterSet {
      NetlinkMessage.NetfilterSet(family: 7, table: "martlet", name: name)
    }
    let name = Array(attachment.interfaceName.utf8)
    let interface = name + [UInt8](repeating: 0, count: 16 - name.count)
    let mac = attachment.port.mac.octets + [0, 0]
    switch attachment.port.mode {
    case .bridge: return [(set("bridge_ports"), interface)]
    case .router: return [(set("router_ports"), interface + mac)]
    case .host:
      return [(set("host_ports"), interface + mac)]
        + attachment.port.addresses.map { prefix in
          (
            set(prefix.address.family == .v4 ? "host_v4" : "host_v6"),
            interface + mac + prefix.address.octets
          )
        }
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
    _ = try bridge(network.id, named: name)
  }

  private func bridge(_ id: NetworkID, named name: String) throws(SystemError) -> UInt32 {
    if let index = bridges.withLock({ $0[id] }) { return index }
    let index = try route.index(ofLinkNamed: name)
    bridges.withLock { $0[id] = index }
    return index
  }

  /// The bridge of a port's network.
  /// - Throws: ENODEV where the network was never ensured.
  func bridge(of network: NetworkID) throws(SystemError) -> UInt32 {
    if let index = bridges.withLock({ $0[network] }) { return index }
    for link in try route.links() where link.kind == "bridge" {
      if link.alias.split(separator: "/").last.map(String.init) == network.rawValue {
        bridges.withLock { $0[network] = link.index }
        return link.index
      }
    }
    throw SystemError(call: "netlink", errno: .noSuchAddressOrDevice, subject: "bridge \(network)")
  }

  /// - Returns: whether the fabric has no bridge left.
  func removeBridge(_ id: NetworkID) throws(SystemError) -> Bool {
    var rest = 0
    for link in try route.links() where link.kind == "bridge" {
      if link.alias.split(separator: "/").last.map(String.init) == id.rawValue {
        try route.request([.deleteLink(link.index)], subject: "bridge \(id)")
      } else {
        rest += 1
      }
    }
    bridges.withLock { $0[id] = nil }
    return rest == 0
  }

  /// Lets go of the namespace; with its last port it is gone.
  func unpin() throws(SystemError) { try NetworkNamespace.unpin(path) }
}

extension UInt64 {
  fileprivate var octets: [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: self >> (8 * $0)) } }
}
