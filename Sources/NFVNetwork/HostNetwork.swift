internal import LinuxSystem
public import NFVModel
internal import Synchronization
internal import SystemPackage

/// The network driver of a Linux host: a fabric per tenant, spoken to by netlink.
///
/// Every method blocks its thread for as long as netlink does.
public final class HostNetwork: NetworkDriver, Sendable {
  private let store: StoreID
  /// Where fabrics are pinned, one file a tenant.
  private let folder: String
  private let hostNamespace: String
  private let nft: String
  private let fabrics = Mutex<[TenantID: Fabric]>([:])
  /// The host's side of uplinks, opened when the first network needs it. What makes and removes
  /// networks holds it: a fabric goes with its last network, whatever another call begins.
  private let hostSide = Mutex<HostSide?>(nil)

  /// - Parameters:
  ///   - store: whose things these are; all others are left alone.
  ///   - runDirectory: an existing folder of a file system in memory, owned by root.
  ///   - hostNamespace: the path of the network namespace that uplinks lead to.
  ///   - nft: the path of the `nft` program.
  /// - Throws: `unavailable` where namespaces cannot be had.
  public init(
    store: StoreID, runDirectory: String, hostNamespace: String = "/proc/self/ns/net",
    nft: String = "/usr/sbin/nft"
  ) throws(NFVError) {
    self.store = store
    self.hostNamespace = hostNamespace
    self.nft = nft
    folder = runDirectory + "/fabric"
    do throws(SystemError) {
      try Mount.makeDirectory(folder, mode: 0o700)
      for name in try listFolder(folder) {
        let tenant = TenantID(name)
        let fabric = try Fabric(tenant: tenant, path: "\(folder)/\(name)", nft: nft)
        fabrics.withLock { $0[tenant] = fabric }
        // A removal that was cut short is finished.
        try hostSide.withLock { side throws(SystemError) in
          let isEmpty = try fabric.isEmpty
          let hasTransit = try fabric.transitLink != nil
          try settle(fabric, isEmpty: isEmpty, hadUplink: hasTransit, &side)
        }
      }
    } catch {
      throw NFVError(.unavailable, "the fabrics in \(folder) cannot be opened", cause: error)
    }
  }

  public func check(_ request: NetworkRequest, of tenant: TenantID) async throws(NFVError) {
    guard request.uplink != .none else { return }
    try hostSide.withLock { side throws(NFVError) in try check(request, tenant, &side) }
  }

  private func check(
    _ request: NetworkRequest, _ tenant: TenantID, _ side: inout HostSide?
  ) throws(NFVError) {
    let refusal = try wrap("the network \(request.name)") { () throws(SystemError) in
      try open(&side).refusal(of: request, tenant)
    }
    if let refusal { throw refusal }
  }

  public func ensure(_ network: Network) async throws(NFVError) {
    let subject = "the network \(network.name)"
    if case .device = network.uplink {
      throw NFVError(
        .unprocessable,
        "the uplink \(network.uplink) of \(subject) cannot be had yet; use none, nat or routed")
    }
    try hostSide.withLock { side throws(NFVError) in
      guard network.uplink != .none else {
        return try wrap(subject) { () throws(SystemError) in
          try fabric(of: network.tenant).ensureBridge(network, store: store)
        }
      }
      try check(
        NetworkRequest(name: network.name, subnets: network.subnets, uplink: network.uplink),
        network.tenant, &side)
      try wrap(subject) { () throws(SystemError) in
        let fabric = try fabric(of: network.tenant)
        let host = try open(&side)
        try fabric.ensureBridge(network, store: store)
        // The rules come before any forwarding.
        try fabric.ensureUplink(network, store: store)
        let transit = try host.ensureTransit(
          to: fabric, families: Set(network.subnets.map(\.prefix.address.family)))
        if network.uplink == .routed { try host.ensureRoutes(to: network, by: transit) }
      }
    }
  }

  public func remove(_ network: NetworkID, of tenant: TenantID) async throws(NFVError) {
    try hostSide.withLock { side throws(NFVError) in
      guard let fabric = fabrics.withLock({ $0[tenant] }) else { return }
      try wrap("the network \(network)") { () throws(SystemError) in
        let prefixes = try fabric.prefixes(of: network)
        if !prefixes.isEmpty {
          try open(&side).removeRoutes(to: prefixes, of: tenant)
          try fabric.forgetUplink(of: network)
        }
        let isEmpty = try fabric.removeBridge(network)
        try settle(fabric, isEmpty: isEmpty, hadUplink: !prefixes.isEmpty, &side)
      }
    }
  }

  /// Removes what no network needs any more: the transit, the fabric.
  private func settle(
    _ fabric: Fabric, isEmpty: Bool, hadUplink: Bool, _ side: inout HostSide?
  ) throws(SystemError) {
    if hadUplink, try !fabric.hasUplink { try open(&side).removeTransit(of: fabric.tenant) }
    guard isEmpty else { return }
    fabrics.withLock { $0[fabric.tenant] = nil }
    try fabric.unpin()
  }

  private func open(_ side: inout HostSide?) throws(SystemError) -> HostSide {
    if let side { return side }
    let opened = try HostSide(store: store, namespace: hostNamespace, nft: nft)
    side = opened
    return opened
  }

  public func attach(
    _ attachments: [Attachment], to point: AttachmentPoint, forwards: Bool, isActive: Bool
  ) async throws(NFVError) {
    let reference: any NetworkNamespaceReference
    switch point {
    case .networkNamespace(let namespace): reference = namespace
    case .taps(let receiver): return try await attach(attachments, to: receiver, isActive)
    case .simulated: return
    }
    try wrap("the ports of \(attachments.first?.workload.vnfc.rawValue ?? "a workload")") {
      () throws(SystemError) in
      let descriptor = reference.fileDescriptor
      var created: [NetlinkMessage] = []
      var elements: [(set: NetlinkMessage.NetfilterSet, key: [UInt8])] = []
      let fabric = try attachments.first.map { (first) throws(SystemError) in
        try self.fabric(of: first.workload.tenant)
      }
      if let fabric {
        for attachment in attachments {
          let bridge = try fabric.bridge(of: attachment.port.network)
          created.append(
            .addVeth(
              name: attachment.interfaceName, mtu: attachment.port.mtu,
              master: isActive ? bridge : nil,
              peer: .init(
                name: attachment.port.interface, mac: attachment.port.mac.octets,
                namespace: descriptor)))
          created.append(
            .setAlias(ofLinkNamed: attachment.interfaceName, to: attachment.alias))
          if isActive { elements += fabric.elements(of: attachment) }
        }
        for (index, errno) in try fabric.route.outcomes(created).enumerated() {
          // An attachment that is tried again finds its links.
          if let errno, errno != .fileExists {
            throw SystemError(
              call: "netlink", errno: errno,
              subject: "veth of the port \(attachments[index / 2].port.cpd)")
          }
        }
        try fabric.netfilter.add(elements)
        // While the function's end is down it does not hear of itself.
        if isActive { try fabric.direct(attachments) }
      }
      try configure(attachments, in: reference, forwards: forwards)
      // The fabric's ends hear by a worker of the kernel's that the other ends are up, and drop
      // frames until then: 0.1 to 20 ms, 3 ms in the middle on a host with no processor idle. Who
      // asks for a link settles that first, in 40 µs (rtnl_getlink of Linux 6.8).
      for attachment in attachments {
        _ = try fabric?.route.link(named: attachment.interfaceName)
      }
    }
  }

  /// Taps that are open nowhere yet are opened in the fabric and handed over.
  private func attach(
    _ attachments: [Attachment], to receiver: any TapReceiver, _ isActive: Bool
  ) async throws(NFVError) {
    guard let workload = attachments.first?.workload else { return }
    let what = "the ports of \(workload.vnfc)"
    let fabric = try wrap(what) { () throws(SystemError) in try self.fabric(of: workload.tenant) }
    var messages: [NetlinkMessage] = []
    for attachment in attachments {
      let port = attachment.port
      let bridge = try wrap(what) { () throws(SystemError) in
        try fabric.bridge(of: port.network)
      }
      let master = isActive ? bridge : nil
      let name = attachment.interfaceName
      // An attachment that is tried again may find that the tap has its own name already.
      let waiting = try wrap(what) { () throws(SystemError) in
        try receiver.waitingTap(of: port.id).flatMap { (waiting) throws(SystemError) in
          try fabric.route.link(named: waiting)?.index
        }
      }
      if let waiting {
        messages.append(
          .setTap(waiting, name: name, mtu: port.mtu, master: master, alias: attachment.alias))
        continue
      }
      try await openTap(named: name, of: port.id, in: fabric, for: receiver, what)
      messages.append(
        .setTap(named: name, mtu: port.mtu, master: master, alias: attachment.alias))
    }
    let elements = isActive ? attachments.flatMap(fabric.elements) : []
    try wrap(what) { () throws(SystemError) in
      try fabric.route.request(messages, subject: "taps")
      try fabric.netfilter.add(elements)
      if isActive { try fabric.direct(attachments) }
    }
  }

  public func attachWaiting(
    _ places: [PortID], of workload: WorkloadID, to point: AttachmentPoint
  ) async throws(NFVError) {
    guard case .taps(let receiver) = point else { return }
    let what = "the ports of \(workload)"
    // It is not made for this: with its last network it would not go.
    guard let fabric = fabrics.withLock({ $0[workload.tenant] }) else {
      throw NFVError(.notFound, "the tenant \(workload.tenant) has no network")
    }
    var messages: [NetlinkMessage] = []
    for place in places {
      let name = workload.interfaceName(of: place)
      try await openTap(named: name, of: place, in: fabric, for: receiver, what)
      messages.append(.setAlias(ofLinkNamed: name, to: "\(workload)/\(place)"))
    }
    try wrap(what) { () throws(SystemError) in
      try fabric.route.request(messages, subject: "taps")
    }
  }

  /// Opens a tap that is open nowhere yet in the fabric and hands it over.
  private func openTap(
    named name: String, of port: PortID, in fabric: Fabric, for receiver: any TapReceiver,
    _ what: String
  ) async throws(NFVError) {
    if try await receiver.hasTap(of: port) { return }
    let tap = try wrap(what) { () throws(SystemError) in
      try fabric.namespace.run { () throws(SystemError) in try LinuxSystem.openTap(named: name) }
    }
    defer { try? tap.close() }
    try await receiver.takeTap(tap.rawValue, of: port)
  }

  /// Loopback, and, where they are the kernel's, addresses and routes inside the workload's namespace.
  private func configure(
    _ attachments: [Attachment], in reference: any NetworkNamespaceReference, forwards: Bool
  ) throws(SystemError) {
    let isKernels = attachments.allSatisfy { $0.addressOwner == .kernel }
    let inside = NetworkNamespace(
      owning: try duplicate(FileDescriptor(rawValue: reference.fileDescriptor)))
    let (socket, netfilter) = try inside.run { () throws(SystemError) in
      try writeSysctls(
        isKernels ? Self.sysctls(forwards: forwards) : Self.sysctlsOfFunctions)
      return (try NetlinkSocket(.route), isKernels ? nil : try NetlinkSocket(.netfilter))
    }
    var messages = [NetlinkMessage.setLinkUp(named: "lo")]
    for attachment in attachments {
      let port = attachment.port
      let index = try socket.index(ofLinkNamed: port.interface)
      guard isKernels else {
        messages.append(.setLink(index, isUp: true))
        continue
      }
      messages += port.addresses.map {
        .addAddress($0.address.octets, prefixLength: $0.length, link: index)
      }
      messages.append(.setLink(index, isUp: true))
      messages += port.routes.map {
        .addRoute(
          to: $0.destination.network.address.octets, prefixLength: $0.destination.length,
          gateway: $0.via.octets, link: index)
      }
    }
    try socket.request(messages, subject: "addresses and routes")
    // The kernel keeps still by its settings, also where it has no such chains; with one it has a third
    // less to do for each frame.
    try? netfilter?.dropReceived(table: "martlet", interfaces: attachments.map(\.port.interface))
  }

  private static func sysctls(forwards: Bool) -> [(String, String)] {
    let values = [
      // Without link-local addresses a port's own addresses are its only ones, known to the checks.
      ("ipv6/conf/default/addr_gen_mode", "1"), ("ipv6/conf/default/accept_ra", "0"),
      // A host that forwards gives that to its new namespaces.
      ("ipv4/ip_forward", forwards ? "1" : "0"),
    ]
    return forwards ? values + [("ipv6/conf/all/forwarding", "1")] : values
  }

  /// The kernel beside a function that answers for its ports' addresses keeps still.
  private static let sysctlsOfFunctions = [
    ("ipv6/conf/all/disable_ipv6", "1"), ("ipv4/ip_forward", "0"),
  ]

  public func activate(_ attachments: [Attachment]) async throws(NFVError) {
    guard let tenant = attachments.first?.workload.tenant else { return }
    try wrap("the ports of \(attachments[0].workload.vnfc)") { () throws(SystemError) in
      let fabric = try fabric(of: tenant)
      var messages: [NetlinkMessage] = []
      for attachment in attachments {
        // Before it is a port of the bridge, so that it does not hear of itself.
        fabric.announce(attachment.port)
        let index = try fabric.route.index(ofLinkNamed: attachment.interfaceName)
        let bridge = try fabric.bridge(of: attachment.port.network)
        messages.append(.setLink(index, isUp: true, master: bridge))
        messages.append(.setForwarding(of: attachment.port.mac.octets, to: index))
      }
      try fabric.netfilter.add(attachments.flatMap(fabric.elements))
      try fabric.route.request(messages, subject: "activation")
    }
  }

  public func release(_ attachments: [Attachment]) async throws(NFVError) {
    guard let tenant = attachments.first?.workload.tenant,
      let fabric = fabrics.withLock({ $0[tenant] })
    else { return }
    try wrap("the ports of \(attachments[0].workload.vnfc)") { () throws(SystemError) in
      // Deleting a link blocks for 15 to 20 ms; it goes with the workload's namespace instead.
      try fabric.netfilter.remove(attachments.flatMap(fabric.elements))
    }
  }

  public func probe(
    _ check: NetworkCheck, of attachments: [Attachment], at point: AttachmentPoint,
    timeout: Duration
  ) async throws(NFVError) -> Bool {
    let reference: any NetworkNamespaceReference
    switch point {
    case .networkNamespace(let namespace): reference = namespace
    case .taps: return try probe(check, byFramesTo: attachments, timeout: timeout)
    case .simulated: return true
    }
    if attachments.first?.addressOwner == .function {
      return try probe(check, byFramesTo: attachments, timeout: timeout)
    }
    guard let address = attachments.first?.port.addresses.first?.address else {
      throw NFVError(
        .unprocessable, "a readiness check over the network needs a port with an address")
    }
    return try wrap("the readiness check of \(address)") { () throws(SystemError) in
      let inside = NetworkNamespace(
        owning: try duplicate(FileDescriptor(rawValue: reference.fileDescriptor)))
      return try inside.run { () throws(SystemError) in
        switch check {
        case .icmp: try answersEcho(address.octets, timeout: timeout)
        case .tcp(let port):
          try acceptsConnection(
            address.octets, port: UInt16(truncatingIfNeeded: port), timeout: timeout)
        }
      }
    }
  }

  private func probe(
    _ check: NetworkCheck, byFramesTo attachments: [Attachment], timeout: Duration
  ) throws(NFVError) -> Bool {
    guard let attachment = attachments.first,
      let address = attachment.port.addresses.first(where: { $0.address.family == .v4 })
    else {
      throw NFVError(
        .unprocessable,
        "a readiness check over the network of a virtual machine, or of a function that owns its "
          + "addresses, needs a first port with an IPv4 address")
    }
    return try wrap("the readiness check of \(address.address)") { () throws(SystemError) in
      let fabric = try self.fabric(of: attachment.workload.tenant)
      return try fabric.namespace.run { () throws(SystemError) in
        let name = attachment.interfaceName
        return try FrameProbe(
          on: try LinkSocket(interface: name), interface: name, mac: attachment.port.mac,
          address: address
        ).answers(check, timeout: timeout)
      }
    }
  }

  public func counters(
    of attachments: [Attachment]
  ) async throws(NFVError) -> [PortID: PortCounters] {
    let known = fabrics.withLock { $0 }
    return try wrap("the counters of ports") { () throws(SystemError) in
      var counters: [PortID: PortCounters] = [:]
      for (tenant, some) in Dictionary(grouping: attachments, by: \.workload.tenant) {
        guard let fabric = known[tenant] else { continue }
        let links = Dictionary(
          try fabric.route.links().map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        for attachment in some {
          guard let link = links[attachment.interfaceName] else { continue }
          // What the host's end sends is what the function receives.
          counters[attachment.port.id] = PortCounters(
            receivedPackets: link.sentPackets, receivedBytes: link.sentBytes,
            sentPackets: link.receivedPackets, sentBytes: link.receivedBytes,
            dropped: link.receiveDropped + link.sendDropped)
        }
      }
      return counters
    }
  }

  public func observe() async throws(NFVError) -> ObservedNetworks {
    var observed = ObservedNetworks()
    for (tenant, fabric) in fabrics.withLock({ $0 }) {
      try wrap("the fabric of \(tenant)") { () throws(SystemError) in
        let links = try fabric.route.links().filter { $0.alias.hasPrefix("\(store)/") }
        var bridges: [UInt32: NetworkID] = [:]
        for link in links where link.kind == "bridge" {
          let parts = link.alias.split(separator: "/").map(String.init)
          if parts.count == 3 { bridges[link.index] = NetworkID(parts[2]) }
        }
        for network in bridges.values { observed.networks[network] = tenant }
        observed.links += links.compactMap {
          .init(alias: $0.alias, isActive: $0.master != 0, network: bridges[$0.master])
        }
      }
    }
    return observed
  }

  public func sweep(_ link: ObservedNetworks.Link) async throws(NFVError) {
    guard let fabric = fabrics.withLock({ $0[link.workload.tenant] }) else { return }
    try wrap("the stray port \(link.port)") { () throws(SystemError) in
      let name = link.workload.interfaceName(of: link.port)
      guard let found = try fabric.route.link(named: name) else { return }
      let outcome = try fabric.route.outcomes([.deleteLink(found.index)])
      // ENODEV: it went with its namespace meanwhile.
      if let errno = outcome[0], errno != .operationNotSupportedByDevice {
        throw SystemError(call: "netlink", errno: errno, subject: name)
      }
    }
  }

  // MARK: Fabrics

  private func fabric(of tenant: TenantID) throws(SystemError) -> Fabric {
    try fabrics.withLock { fabrics throws(SystemError) in
      if let fabric = fabrics[tenant] { return fabric }
      let fabric = try Fabric(tenant: tenant, path: "\(folder)/\(tenant)", nft: nft)
      fabrics[tenant] = fabric
      return fabric
    }
  }

  private func wrap<Value>(
    _ subject: @autoclosure () -> String, _ body: () throws(SystemError) -> Value
  ) throws(NFVError) -> Value {
    do throws(SystemError) {
      return try body()
    } catch {
      throw NFVError(.failed, "\(subject()) cannot be set up on this host", cause: error)
    }
  }
}
