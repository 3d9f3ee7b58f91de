/// A layer-2 network of a tenant with its subnets: a bridge in the tenant's fabric.
public struct Network: Hashable, Sendable, Codable, Identifiable {
  /// Where a network's traffic may leave the fabric.
  public enum Uplink: Hashable, Sendable {
    case none
    /// Masqueraded behind the host's addresses.
    case nat
    /// Routed by the host; a prefix that overlaps another is refused.
    case routed
    /// Bridged with a device of the host.
    case device(String)
  }

  public struct Subnet: Hashable, Sendable, Codable {
    /// The network's prefix, such as 10.1.0.0/24.
    public var prefix: IPPrefix
    /// The default router that functions get; the fabric itself answers for it when the network has
    /// an uplink.
    public var gateway: IPAddress?

    public init(prefix: IPPrefix, gateway: IPAddress? = nil) {
      self.prefix = prefix.network
      self.gateway = gateway
    }
  }

  public struct Route: Hashable, Sendable, Codable {
    public var destination: IPPrefix
    public var via: IPAddress

    public init(destination: IPPrefix, via: IPAddress) {
      self.destination = destination
      self.via = via
    }
  }

  public var id: NetworkID
  public var tenant: TenantID
  public var host: HostID
  /// Unique within the tenant.
  public var name: String
  /// In octets, of the IP packet.
  public var mtu: Int
  /// At most one of each family.
  public var subnets: [Subnet]
  /// What every port on this network gets beside its own prefix.
  public var routes: [Route]
  public var uplink: Uplink
  /// The instance whose internal virtual link this is; the network goes with it.
  public var owner: VnfInstanceID?

  public init(
    id: NetworkID, tenant: TenantID, host: HostID = .local, name: String, mtu: Int = 1500,
    subnets: [Subnet], routes: [Route] = [], uplink: Uplink = .none, owner: VnfInstanceID? = nil
  ) {
    self.id = id
    self.tenant = tenant
    self.host = host
    self.name = name
    self.mtu = mtu
    self.subnets = subnets
    self.routes = routes
    self.uplink = uplink
    self.owner = owner
  }

  /// The bridge's name in the tenant's fabric.
  public func bridgeName(store: StoreID) -> String { HostName.derived(from: alias(store: store)) }

  /// What stands in the bridge's alias: `store/tenant/network`.
  public func alias(store: StoreID) -> String { "\(store)/\(tenant)/\(id)" }
}

extension Network.Uplink: Codable, CustomStringConvertible {
  /// `none`, `nat`, `routed` or `device:IFNAME`; nil for anything else.
  public init?(_ text: String) {
    switch text {
    case "none": self = .none
    case "nat": self = .nat
    case "routed": self = .routed
    default:
      guard text.hasPrefix("device:"), (8...22).contains(text.utf8.count) else { return nil }
      self = .device(String(text.dropFirst(7)))
    }
  }

  public var description: String {
    switch self {
    case .none: "none"
    case .nat: "nat"
    case .routed: "routed"
    case .device(let name): "device:\(name)"
    }
  }

  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let uplink = Self(text) else {
      throw DecodingError.dataCorrupted(
        .init(
          codingPath: decoder.codingPath,
          debugDescription: "an uplink is none, nat, routed or device:IFNAME, not \(text)"))
    }
    self = uplink
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// A connection point of a Vnfc: durable, with its MAC and addresses; they outlive its workloads.
public struct Port: Hashable, Sendable, Codable, Identifiable {
  public var id: PortID
  /// The connection point descriptor (VduCp) that it is made from.
  public var cpd: String
  /// The external connection point (VnfExtCp) that exposes it, if one does.
  public var externalCpd: String?
  public var network: NetworkID
  public var host: HostID
  public var mac: MACAddress
  /// With the length of the subnet's prefix; at most one of each family.
  public var addresses: [IPPrefix]
  public var mode: PortMode
  public var mtu: Int
  /// The interface's name inside the workload, such as `eth0` or the connection point's name.
  public var interface: String
  /// Static routes through this port.
  public var routes: [Network.Route]

  public init(
    id: PortID, cpd: String, externalCpd: String?, network: NetworkID, host: HostID = .local,
    mac: MACAddress, addresses: [IPPrefix], mode: PortMode, mtu: Int, interface: String,
    routes: [Network.Route] = []
  ) {
    self.id = id
    self.cpd = cpd
    self.externalCpd = externalCpd
    self.network = network
    self.host = host
    self.mac = mac
    self.addresses = addresses
    self.mode = mode
    self.mtu = mtu
    self.interface = interface
    self.routes = routes
  }
}

/// Which source addresses a port may send from.
public enum PortMode: String, Hashable, Sendable, Codable {
  /// Only its own MAC and addresses; ARP, ND and RA are checked.
  case host
  /// Its own MAC, any source address: it routes.
  case router
  /// Anything; needs the tenant's permission.
  case bridge
}

/// Who answers for a port's addresses inside a workload.
public enum AddressOwner: String, Hashable, Sendable, Codable, CaseIterable {
  /// They are set on the interface, with its routes.
  case kernel
  /// The function reads and writes frames; the kernel beside it, where there is one, knows no address
  /// and forwards nothing.
  case function
}

/// A port's link to one workload: it goes with the workload.
public struct Attachment: Hashable, Sendable {
  public var port: Port
  public var workload: WorkloadID
  public var addressOwner: AddressOwner

  public init(port: Port, workload: WorkloadID, addressOwner: AddressOwner = .kernel) {
    self.port = port
    self.workload = workload
    self.addressOwner = addressOwner
  }

  /// The name of the host's end of the link.
  public var interfaceName: String { workload.interfaceName(of: port.id) }
  /// The link's alias: `store/tenant/vnfc/incarnation/port/addresses`, the addresses apart by commas.
  /// Whoever finds the link knows whose it is, and what it answers for; addresses that make it longer
  /// than the 255 octets that Linux keeps (IFALIASZ) are left out.
  public var alias: String {
    port.addresses.reduce("\(workload)/\(port.id)") { alias, prefix in
      let separator = prefix == port.addresses.first ? "/" : ","
      let longer = "\(alias)\(separator)\(prefix.address)"
      return longer.utf8.count < 256 ? longer : alias
    }
  }
}
