/// A VNF: what it is settled at, and, while an operation is open, what it shall become.
public struct VnfInstance: Sendable, Hashable, Codable, Identifiable {
  public var id: VnfInstanceID
  public var tenant: TenantID
  public var name: String
  public var description: String
  public var package: VnfPackageID
  public var createdAt: Timestamp
  public var info: VnfInfo
  public var settled: VnfState
  /// What the open operation converges to; nil when none is open.
  public var target: VnfState?
  public var openOperation: VnfLcmOpOccID?

  public init(
    id: VnfInstanceID, tenant: TenantID, name: String, description: String = "",
    package: VnfPackageID, createdAt: Timestamp, info: VnfInfo = VnfInfo()
  ) {
    self.id = id
    self.tenant = tenant
    self.name = name
    self.description = description
    self.package = package
    self.createdAt = createdAt
    self.info = info
    self.settled = .notInstantiated
  }
}

/// What clients keep with an instance, by name (SOL003 5.5.2.2): values, and in the descriptor what
/// it declares of them.
public struct VnfInfo: Sendable, Hashable, Codable {
  /// `vnfConfigurableProperties`; only declared ones.
  public var configurableProperties: [String: JSONValue]
  /// Anything; declared or not.
  public var metadata: [String: JSONValue]
  /// Only declared ones.
  public var extensions: [String: JSONValue]

  public init(
    configurableProperties: [String: JSONValue] = [:], metadata: [String: JSONValue] = [:],
    extensions: [String: JSONValue] = [:]
  ) {
    self.configurableProperties = configurableProperties
    self.metadata = metadata
    self.extensions = extensions
  }
}

/// What a VNF is wanted to be: a value that convergence compares with the host.
public struct VnfState: Sendable, Hashable, Codable {
  /// SOL003 5.5.2.2's `operationalState`.
  public enum OperationalState: String, Sendable, Hashable, Codable {
    case started = "STARTED"
    case stopped = "STOPPED"
  }

  /// Where an external connection point is plugged in.
  public struct ExternalConnection: Sendable, Hashable, Codable {
    public var network: NetworkID
    /// Fixed addresses that the request asked for; others are allotted.
    public var addresses: [IPAddress]
    /// The identifier of the external virtual link as the request named it.
    public var virtualLinkID: String?

    public init(network: NetworkID, addresses: [IPAddress] = [], virtualLinkID: String? = nil) {
      self.network = network
      self.addresses = addresses
      self.virtualLinkID = virtualLinkID
    }
  }

  /// nil: NOT_INSTANTIATED, and all else is empty.
  public var flavour: String?
  public var operational: OperationalState
  /// The level of each scaling aspect.
  public var scale: [String: Int]
  /// The wanted Vnfcs, each with the lowest incarnation that will do: a heal raises it.
  public var vnfcs: [VnfcID: Int]
  /// By the identifier of the external connection point's descriptor.
  public var external: [String: ExternalConnection]
  /// The networks of the internal virtual links, by the link's descriptor.
  public var virtualLinks: [String: NetworkID]
  /// The VNF's parameters, defaults filled in.
  public var parameters: [String: JSONValue]
  /// Counts changes of what the functions are told.
  public var generation: Int

  public init(
    flavour: String?, operational: OperationalState = .started, scale: [String: Int] = [:],
    vnfcs: [VnfcID: Int] = [:], external: [String: ExternalConnection] = [:],
    virtualLinks: [String: NetworkID] = [:], parameters: [String: JSONValue] = [:],
    generation: Int = 1
  ) {
    self.flavour = flavour
    self.operational = operational
    self.scale = scale
    self.vnfcs = vnfcs
    self.external = external
    self.virtualLinks = virtualLinks
    self.parameters = parameters
    self.generation = generation
  }

  public static let notInstantiated = VnfState(flavour: nil, operational: .stopped)

  public var isInstantiated: Bool { flavour != nil }
}

/// One component of a VNF: an instance of a VDU. It keeps its identifier, ports and addresses over
/// every restart of its workload.
public struct Vnfc: Sendable, Hashable, Codable, Identifiable {
  /// How often in a row its workload ended, and when the next start may be.
  public struct Restart: Sendable, Hashable, Codable {
    public var failures: Int
    public var notBefore: Timestamp
    public var lastExit: ExitStatus?
    /// Since when it does not serve; nil where it serves again.
    public var outageSince: Timestamp?
    /// It failed too often: only a heal or another operation starts it again.
    public var isExhausted: Bool

    public init(
      failures: Int, notBefore: Timestamp, lastExit: ExitStatus?, outageSince: Timestamp?,
      isExhausted: Bool = false
    ) {
      self.failures = failures
      self.notBefore = notBefore
      self.lastExit = lastExit
      self.outageSince = outageSince
      self.isExhausted = isExhausted
    }
  }

  public var id: VnfcID
  public var instance: VnfInstanceID
  public var tenant: TenantID
  public var host: HostID
  public var vdu: String
  /// The flavour whose VDU it is.
  public var flavour: String
  /// Its place among the Vnfcs of its VDU, from 0.
  public var ordinal: Int
  /// The last incarnation asked for; 0 before the first start.
  public var incarnation: Int
  public var ports: [Port]
  public var restart: Restart?

  public init(
    id: VnfcID, instance: VnfInstanceID, tenant: TenantID, host: HostID = .local, vdu: String,
    flavour: String, ordinal: Int, ports: [Port]
  ) {
    self.id = id
    self.instance = instance
    self.tenant = tenant
    self.host = host
    self.vdu = vdu
    self.flavour = flavour
    self.ordinal = ordinal
    self.incarnation = 0
    self.ports = ports
    self.restart = nil
  }
}
