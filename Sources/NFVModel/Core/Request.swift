/// What a caller asks of the core. Every request is checked against the state before anything is
/// changed; one that is refused leaves everything as it was.
public enum Request: Sendable, Hashable {
  // The catalogue.
  case createPackage(userDefinedData: [String: JSONValue])
  /// The archive is being read: the package is PROCESSING until that is over.
  case processPackage(VnfPackageID)
  /// The archive was read and its images imported: the package becomes ONBOARDED and ENABLED.
  case onboardPackage(VnfPackageID, VnfPackage.Content)
  /// The archive was refused: the package says why.
  case failPackage(VnfPackageID, NFVError)
  /// Changes what is given; `userDefinedData` is merged into what is there (RFC 7396).
  /// `expected` is what the caller took the package for; nil: whatever it is.
  case modifyPackage(
    VnfPackageID, operational: VnfPackage.OperationalState?, userDefinedData: [String: JSONValue],
    expected: VnfPackage? = nil)
  case deletePackage(VnfPackageID)

  // Networks.
  case createNetwork(NetworkRequest)
  case deleteNetwork(NetworkID)

  // Instances (SOL003 5.4).
  case createInstance(CreateVnfRequest)
  case deleteInstance(VnfInstanceID)
  case modifyInfo(VnfInstanceID, ModifyVnfInfoRequest)
  case instantiate(VnfInstanceID, InstantiateVnfRequest)
  case scale(VnfInstanceID, ScaleVnfRequest)
  case scaleToLevel(VnfInstanceID, ScaleVnfToLevelRequest)
  case operate(VnfInstanceID, OperateVnfRequest)
  case heal(VnfInstanceID, HealVnfRequest)
  case terminate(VnfInstanceID, TerminateVnfRequest)

  // Operation occurrences in FAILED_TEMP.
  case retry(VnfLcmOpOccID)
  case rollback(VnfLcmOpOccID)
  case fail(VnfLcmOpOccID)
}

/// What an accepted request gives back, as of its commit.
public enum Response: Sendable, Hashable {
  case package(VnfPackage)
  case network(Network)
  case instance(VnfInstance)
  case operation(VnfLcmOpOcc)
  case done
}

public struct NetworkRequest: Sendable, Hashable, Codable {
  public var name: String
  /// Empty: a free IPv4 /24 of 10.64.0.0/10 is taken.
  public var subnets: [Network.Subnet]
  public var routes: [Network.Route]
  public var uplink: Network.Uplink
  public var mtu: Int

  public init(
    name: String, subnets: [Network.Subnet] = [], routes: [Network.Route] = [],
    uplink: Network.Uplink = .none, mtu: Int = 1500
  ) {
    self.name = name
    self.subnets = subnets
    self.routes = routes
    self.uplink = uplink
    self.mtu = mtu
  }
}

/// SOL003 5.5.2.3. `vnfd` names a package by its descriptor's identifier.
public struct CreateVnfRequest: Sendable, Hashable {
  public var vnfd: String
  public var name: String?
  public var description: String?
  public var metadata: [String: JSONValue]

  public init(
    vnfd: String, name: String? = nil, description: String? = nil,
    metadata: [String: JSONValue] = [:]
  ) {
    self.vnfd = vnfd
    self.name = name
    self.description = description
    self.metadata = metadata
  }
}

/// SOL003 5.5.2.12, VnfInfoModificationRequest: a merge patch (RFC 7396) of the instance's
/// attributes that may be changed.
public struct ModifyVnfInfoRequest: Sendable, Hashable {
  /// `vnfInstanceName`, `vnfInstanceDescription`, `vnfConfigurableProperties`, `metadata` and
  /// `extensions`.
  public var patch: [String: JSONValue]
  /// What the caller took the instance for; nil: whatever it is.
  public var expected: VnfInstance?

  public init(patch: [String: JSONValue], expected: VnfInstance? = nil) {
    self.patch = patch
    self.expected = expected
  }
}

/// SOL003 5.5.2.4.
public struct InstantiateVnfRequest: Sendable, Hashable {
  /// Where an external connection point shall be plugged in.
  public struct Connection: Sendable, Hashable {
    /// A network's name or identifier (`resourceId` of the external virtual link).
    public var network: String
    public var addresses: [IPAddress]
    /// The external virtual link's identifier as the caller names it.
    public var virtualLinkID: String?

    public init(network: String, addresses: [IPAddress] = [], virtualLinkID: String? = nil) {
      self.network = network
      self.addresses = addresses
      self.virtualLinkID = virtualLinkID
    }
  }

  /// nil: the only flavour, or the descriptor's first.
  public var flavour: String?
  /// nil: the flavour's default level.
  public var instantiationLevel: String?
  /// By external connection point (`cpdId`).
  public var connections: [String: Connection]
  /// `additionalParams`.
  public var parameters: [String: JSONValue]
  /// Merged into what the instance has of both (RFC 7396).
  public var configurableProperties: [String: JSONValue]
  public var extensions: [String: JSONValue]
  /// The body as it came, for the occurrence's `operationParams`.
  public var body: JSONValue

  public init(
    flavour: String? = nil, instantiationLevel: String? = nil,
    connections: [String: Connection] = [:], parameters: [String: JSONValue] = [:],
    configurableProperties: [String: JSONValue] = [:], extensions: [String: JSONValue] = [:],
    body: JSONValue = .object([:])
  ) {
    self.flavour = flavour
    self.instantiationLevel = instantiationLevel
    self.connections = connections
    self.parameters = parameters
    self.configurableProperties = configurableProperties
    self.extensions = extensions
    self.body = body
  }
}

/// SOL003 5.5.2.5.
public struct ScaleVnfRequest: Sendable, Hashable {
  public enum Direction: String, Sendable, Hashable, Codable {
    case out = "SCALE_OUT"
    case `in` = "SCALE_IN"
  }

  public var direction: Direction
  public var aspect: String
  /// At least 1.
  public var steps: Int
  public var body: JSONValue

  public init(
    direction: Direction, aspect: String, steps: Int = 1, body: JSONValue = .object([:])
  ) {
    self.direction = direction
    self.aspect = aspect
    self.steps = steps
    self.body = body
  }
}

/// SOL003 5.5.2.6: a level by name, or levels by aspect.
public struct ScaleVnfToLevelRequest: Sendable, Hashable {
  public var instantiationLevel: String?
  public var levels: [String: Int]
  public var body: JSONValue

  public init(
    instantiationLevel: String? = nil, levels: [String: Int] = [:],
    body: JSONValue = .object([:])
  ) {
    self.instantiationLevel = instantiationLevel
    self.levels = levels
    self.body = body
  }
}

/// SOL003 5.5.2.10.
public struct OperateVnfRequest: Sendable, Hashable {
  public var state: VnfState.OperationalState
  public var body: JSONValue

  public init(state: VnfState.OperationalState, body: JSONValue = .object([:])) {
    self.state = state
    self.body = body
  }
}

/// SOL003 5.5.2.9; without Vnfcs all are healed.
public struct HealVnfRequest: Sendable, Hashable {
  public var vnfcs: [VnfcID]
  public var cause: String?
  public var body: JSONValue

  public init(vnfcs: [VnfcID] = [], cause: String? = nil, body: JSONValue = .object([:])) {
    self.vnfcs = vnfcs
    self.cause = cause
    self.body = body
  }
}

/// SOL003 5.5.2.8.
public struct TerminateVnfRequest: Sendable, Hashable {
  /// How long processes may take to end by themselves; nil is FORCEFUL.
  public var grace: Duration?
  public var body: JSONValue

  public init(grace: Duration? = nil, body: JSONValue = .object([:])) {
    self.grace = grace
    self.body = body
  }
}
