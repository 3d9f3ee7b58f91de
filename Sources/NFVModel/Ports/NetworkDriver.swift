/// An owner of an open network namespace; it is open as long as this lives.
public protocol NetworkNamespaceReference: AnyObject, Sendable {
  /// A descriptor of the namespace (namespaces(7)), valid as long as this object lives.
  var fileDescriptor: Int32 { get }
}

/// Takes the descriptors of taps (Linux, networking/tuntap), one for each port.
public protocol TapReceiver: AnyObject, Sendable {
  /// Whether the port's tap was taken already, perhaps from an earlier daemon.
  func hasTap(of port: PortID) async throws(NFVError) -> Bool

  /// Takes a duplicate of the descriptor, which stays the caller's. The tap, opened with
  /// `IFF_NO_PI` and `IFF_VNET_HDR`, lives as long as its last descriptor.
  func takeTap(_ descriptor: Int32, of port: PortID) async throws(NFVError)

  /// The name that the port's tap has from ``NetworkDriver/attachWaiting(_:of:to:)``, before it is
  /// given to the port; nil: it never waited.
  func waitingTap(of port: PortID) -> String?
}

/// Where a workload's ports are plugged in.
public enum AttachmentPoint: Sendable {
  /// A veth's peer is created in this namespace.
  case networkNamespace(any NetworkNamespaceReference)
  /// Taps are opened and handed over; MAC, addresses and routes are the guest's own business.
  case taps(any TapReceiver)
  /// The workload exists only in a simulation.
  case simulated
}

/// What a network driver finds on the host of our store's things.
public struct ObservedNetworks: Sendable, Hashable {
  public struct Link: Sendable, Hashable {
    public var workload: WorkloadID
    public var port: PortID
    /// Takes traffic; a parked one does not.
    public var isActive: Bool
    /// Where it is plugged in; nil while it is parked.
    public var network: NetworkID?
    /// The port's.
    public var addresses: [IPAddress]

    public init(
      workload: WorkloadID, port: PortID, isActive: Bool, network: NetworkID? = nil,
      addresses: [IPAddress] = []
    ) {
      self.workload = workload
      self.port = port
      self.isActive = isActive
      self.network = network
      self.addresses = addresses
    }

    /// Reads the alias of an attachment's link back; nil where it is none.
    public init?(alias: String, isActive: Bool, network: NetworkID?) {
      let parts = alias.split(separator: "/").map(String.init)
      guard parts.count == 5 || parts.count == 6,
        let workload = WorkloadID(parts.prefix(4).joined(separator: "/"))
      else { return nil }
      self.init(
        workload: workload, port: PortID(parts[4]), isActive: isActive, network: network,
        addresses: parts.dropFirst(5).flatMap { $0.split(separator: ",") }
          .compactMap { IPAddress(String($0)) })
    }
  }

  public var networks: [NetworkID: TenantID]
  public var links: [Link]

  public init(networks: [NetworkID: TenantID] = [:], links: [Link] = []) {
    self.networks = networks
    self.links = links
  }
}

/// Counters of a port since its attachment, as the function sees them: `received` is what came in
/// to the function.
public struct PortCounters: Sendable, Hashable, Codable {
  public var receivedPackets, receivedBytes, sentPackets, sentBytes, dropped: UInt64

  public init(
    receivedPackets: UInt64 = 0, receivedBytes: UInt64 = 0, sentPackets: UInt64 = 0,
    sentBytes: UInt64 = 0, dropped: UInt64 = 0
  ) {
    self.receivedPackets = receivedPackets
    self.receivedBytes = receivedBytes
    self.sentPackets = sentPackets
    self.sentBytes = sentBytes
    self.dropped = dropped
  }
}

/// The tenants' fabrics on one host: bridges and the links of workloads' ports.
///
/// Every method may block its thread (netlink answers in tenths of a millisecond) and is called
/// from threads that may block. Every method is idempotent. Methods for one workload are never
/// called concurrently; for different ones they are.
public protocol NetworkDriver: Sendable {
  /// Asks whether the host can give a network of a tenant, before there is one. Only `ensure` is
  /// sure of it.
  /// - Throws: `unprocessable` where it cannot give the uplink.
  func check(_ request: NetworkRequest, of tenant: TenantID) async throws(NFVError)

  /// Makes the network's bridge and uplink, or mends what differs.
  /// - Throws: `unprocessable` where the host cannot give the uplink.
  func ensure(_ network: Network) async throws(NFVError)

  /// Removes the network; one that is not there is no error.
  func remove(_ network: NetworkID, of tenant: TenantID) async throws(NFVError)

  /// Plugs a workload's ports in: link, MAC, addresses, routes, loopback; `forwards` turns on IP
  /// forwarding inside. A parked port (`isActive` false) carries no traffic.
  func attach(
    _ attachments: [Attachment], to point: AttachmentPoint, forwards: Bool, isActive: Bool
  ) async throws(NFVError)

  /// Makes links for a workload that waits and has no ports yet, only as many places for them: they
  /// are down and on no network. `attach` gives them to ports where its attachment point says so.
  /// - Throws: `notFound` where the tenant has no network.
  func attachWaiting(
    _ places: [PortID], of workload: WorkloadID, to point: AttachmentPoint
  ) async throws(NFVError)

  /// Lets parked ports take traffic and announces their addresses by ARP and NA.
  func activate(_ attachments: [Attachment]) async throws(NFVError)

  /// Cuts the ports off, at once; what is left of them goes with the workload's namespace.
  func release(_ attachments: [Attachment]) async throws(NFVError)

  /// Asks a workload once, from inside its own namespace, whether it answers.
  /// - Returns: whether it did within `timeout`.
  func probe(
    _ check: NetworkCheck, of attachments: [Attachment], at point: AttachmentPoint,
    timeout: Duration
  ) async throws(NFVError) -> Bool

  /// Counters by port.
  func counters(of attachments: [Attachment]) async throws(NFVError) -> [PortID: PortCounters]

  /// Everything on this host that bears our store's identity.
  func observe() async throws(NFVError) -> ObservedNetworks

  /// Removes a link that no desired port has.
  func sweep(_ link: ObservedNetworks.Link) async throws(NFVError)
}

/// A question to a workload over the network.
public enum NetworkCheck: Hashable, Sendable, Codable {
  /// An ICMP or ICMPv6 echo to the first port's address.
  case icmp
  /// A TCP connection to this port of the first address.
  case tcp(Int)
}
