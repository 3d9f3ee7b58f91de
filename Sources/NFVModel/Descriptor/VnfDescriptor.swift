/// What a VNF package describes (SOL001 6), free of TOSCA's form.
public struct VnfDescriptor: Sendable, Hashable, Codable {
  /// `descriptor_id`, the `vnfdId` of the interfaces.
  public var id: String
  public var provider: String
  public var productName: String
  public var softwareVersion: String
  public var descriptorVersion: String
  /// In the descriptor's order; the first is the default one.
  public var flavours: [DeploymentFlavour]
  /// What an instance can be told, by name.
  public var parameters: [String: Parameter]
  public var modifiable: Modifiable

  /// A parameter with its default; one without a default must be given.
  public struct Parameter: Sendable, Hashable, Codable {
    public var description: String
    /// nil: a value must be given; `.null`: it may have none.
    public var `default`: JSONValue?
    /// What values it may have.
    public var schema: ValueSchema

    public init(
      description: String = "", default: JSONValue? = nil, schema: ValueSchema = ValueSchema()
    ) {
      self.description = description
      self.default = `default`
      self.schema = schema
    }

    public init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      description = try container.decode(String.self, forKey: .description)
      // Without this a null would be read as if it were not there.
      `default` =
        container.contains(.default) ? try container.decode(JSONValue.self, forKey: .default) : nil
      // A package of a store that an earlier Martlet wrote has none.
      schema = try container.decodeIfPresent(ValueSchema.self, forKey: .schema) ?? ValueSchema()
    }
  }

  /// What it declares of an instance's `VnfInfo`: `configurable_properties`, and `extensions` and
  /// `metadata` of the `modifiable_attributes`.
  public struct Modifiable: Sendable, Hashable, Codable {
    public var configurableProperties: [String: Parameter]
    public var metadata: [String: Parameter]
    public var extensions: [String: Parameter]

    public init(
      configurableProperties: [String: Parameter] = [:], metadata: [String: Parameter] = [:],
      extensions: [String: Parameter] = [:]
    ) {
      self.configurableProperties = configurableProperties
      self.metadata = metadata
      self.extensions = extensions
    }
  }

  public init(
    id: String, provider: String, productName: String, softwareVersion: String,
    descriptorVersion: String, flavours: [DeploymentFlavour],
    parameters: [String: Parameter] = [:], modifiable: Modifiable = Modifiable()
  ) {
    self.id = id
    self.provider = provider
    self.productName = productName
    self.softwareVersion = softwareVersion
    self.descriptorVersion = descriptorVersion
    self.flavours = flavours
    self.parameters = parameters
    self.modifiable = modifiable
  }

  public func flavour(_ id: String) -> DeploymentFlavour? { flavours.first { $0.id == id } }
}

/// One way of deploying the VNF: which VDUs, how many, connected how (IFA011 7.1.8).
public struct DeploymentFlavour: Sendable, Hashable, Codable, Identifiable {
  public var id: String
  public var description: String
  public var vdus: [Vdu]
  public var virtualLinks: [VirtualLinkDescriptor]
  public var externalCpds: [ExternalCpd]
  /// By name; where the descriptor has none, one level of every VDU's initial number.
  public var instantiationLevels: [String: InstantiationLevel]
  public var defaultInstantiationLevel: String?
  public var scalingAspects: [ScalingAspect]
  public var affinityRules: [AffinityRule]

  public init(
    id: String, description: String = "", vdus: [Vdu], virtualLinks: [VirtualLinkDescriptor] = [],
    externalCpds: [ExternalCpd] = [], instantiationLevels: [String: InstantiationLevel] = [:],
    defaultInstantiationLevel: String? = nil, scalingAspects: [ScalingAspect] = [],
    affinityRules: [AffinityRule] = []
  ) {
    self.id = id
    self.description = description
    self.vdus = vdus
    self.virtualLinks = virtualLinks
    self.externalCpds = externalCpds
    self.instantiationLevels = instantiationLevels
    self.defaultInstantiationLevel = defaultInstantiationLevel
    self.scalingAspects = scalingAspects
    self.affinityRules = affinityRules
  }

  public func vdu(_ id: String) -> Vdu? { vdus.first { $0.id == id } }
}

/// A unit of deployment: one kind of component, of one technology.
public struct Vdu: Sendable, Hashable, Codable, Identifiable {
  public var id: String
  public var name: String
  public var technology: Technology
  /// The path in the archive of the artifact that is its software image.
  public var imagePath: String?
  /// Thousandths of a processor; nil is unlimited.
  public var cpuMillicores: Int?
  public var memoryBytes: UInt64
  public var writableLayerBytes: UInt64
  /// In the order of the interfaces.
  public var cpds: [VduCpd]
  public var storages: [VirtualBlockStorage]
  /// How many there are at the aspects' level 0, or always where no aspect scales it.
  public var initialInstances: Int
  public var minimumInstances: Int
  public var maximumInstances: Int
  /// From the allow list, without `CAP_`.
  public var linuxCapabilities: [String]
  public var readiness: Readiness
  /// What replaces the image's entry point and command.
  public var command: [String]?
  /// `NAME=value`.
  public var environment: [String]
  public var files: [TemplateFile]
  /// Whether it forwards packets between its ports.
  public var forwards: Bool
  /// Who answers for its ports' addresses; nil, where the descriptor does not say it, is the kernel.
  public var addressOwner: AddressOwner?

  public init(
    id: String, name: String, technology: Technology, imagePath: String? = nil,
    cpuMillicores: Int? = nil, memoryBytes: UInt64 = 64 << 20,
    writableLayerBytes: UInt64 = 16 << 20, cpds: [VduCpd] = [],
    storages: [VirtualBlockStorage] = [], initialInstances: Int = 1, minimumInstances: Int = 0,
    maximumInstances: Int = 1, linuxCapabilities: [String] = [],
    readiness: Readiness = Readiness(), command: [String]? = nil, environment: [String] = [],
    files: [TemplateFile] = [], forwards: Bool = false, addressOwner: AddressOwner? = nil
  ) {
    self.id = id
    self.name = name
    self.technology = technology
    self.imagePath = imagePath
    self.cpuMillicores = cpuMillicores
    self.memoryBytes = memoryBytes
    self.writableLayerBytes = writableLayerBytes
    self.cpds = cpds
    self.storages = storages
    self.initialInstances = initialInstances
    self.minimumInstances = minimumInstances
    self.maximumInstances = maximumInstances
    self.linuxCapabilities = linuxCapabilities
    self.readiness = readiness
    self.command = command
    self.environment = environment
    self.files = files
    self.forwards = forwards
    self.addressOwner = addressOwner
  }
}

/// When a workload counts as ready.
public struct Readiness: Sendable, Hashable, Codable {
  public enum Check: Sendable, Hashable, Codable {
    /// As soon as its process runs.
    case running
    case network(NetworkCheck)
    /// A command inside it that exits with 0.
    case command([String])
  }

  public var check: Check
  /// Between two attempts, in milliseconds.
  public var intervalMilliseconds: Int
  /// In milliseconds; after it the start has failed.
  public var timeoutMilliseconds: Int

  public init(
    check: Check = .running, intervalMilliseconds: Int = 2, timeoutMilliseconds: Int = 30_000
  ) {
    self.check = check
    self.intervalMilliseconds = intervalMilliseconds
    self.timeoutMilliseconds = timeoutMilliseconds
  }
}

/// A file of the package, rendered for each Vnfc and given to it.
public struct TemplateFile: Sendable, Hashable, Codable {
  /// In the archive.
  public var source: String
  /// Absolute, inside the workload.
  public var path: String
  /// Permission bits.
  public var mode: UInt32

  public init(source: String, path: String, mode: UInt32 = 0o644) {
    self.source = source
    self.path = path
    self.mode = mode
  }
}

/// A connection point of a VDU (VduCp): an interface of each of its instances.
public struct VduCpd: Sendable, Hashable, Codable, Identifiable {
  public var id: String
  /// The internal virtual link; nil where an external connection point exposes it.
  public var virtualLink: String?
  public var mode: PortMode

  public init(id: String, virtualLink: String? = nil, mode: PortMode = .host) {
    self.id = id
    self.virtualLink = virtualLink
    self.mode = mode
  }
}

/// A connection point that the VNF shows to the outside (VnfExtCp).
public struct ExternalCpd: Sendable, Hashable, Codable, Identifiable {
  public enum Exposes: Sendable, Hashable, Codable {
    case vduCpd(vdu: String, cpd: String)
    /// Re-exposes an internal virtual link.
    case virtualLink(String)
    /// One address in front of several instances (VirtualCp).
    case virtualCp(String)
  }

  public var id: String
  public var exposes: Exposes

  public init(id: String, exposes: Exposes) {
    self.id = id
    self.exposes = exposes
  }
}

/// An internal virtual link (VnfVirtualLink).
public struct VirtualLinkDescriptor: Sendable, Hashable, Codable, Identifiable {
  public var id: String
  /// As the descriptor's l3_protocol_data has them; empty where it has none.
  public var subnets: [IPPrefix]
  public var mtu: Int?

  public init(id: String, subnets: [IPPrefix] = [], mtu: Int? = nil) {
    self.id = id
    self.subnets = subnets
    self.mtu = mtu
  }
}

/// A block device of a VDU (VirtualBlockStorage).
public struct VirtualBlockStorage: Sendable, Hashable, Codable, Identifiable {
  public var id: String
  public var sizeBytes: UInt64

  public init(id: String, sizeBytes: UInt64) {
    self.id = id
    self.sizeBytes = sizeBytes
  }
}

/// How many instances of each VDU a level means.
public struct InstantiationLevel: Sendable, Hashable, Codable {
  /// The scale level of each aspect.
  public var scale: [String: Int]
  /// By VDU; a VDU that is not named has what its aspects' levels give.
  public var instances: [String: Int]

  public init(scale: [String: Int] = [:], instances: [String: Int] = [:]) {
    self.scale = scale
    self.instances = instances
  }
}

/// A dimension in which the VNF scales (IFA011 7.1.8.2.2).
public struct ScalingAspect: Sendable, Hashable, Codable, Identifiable {
  public var id: String
  public var name: String
  public var maximumLevel: Int
  /// By VDU: how many instances each step adds; the last one goes for all further steps.
  public var deltas: [String: [Int]]

  public init(id: String, name: String, maximumLevel: Int, deltas: [String: [Int]]) {
    self.id = id
    self.name = name
    self.maximumLevel = maximumLevel
    self.deltas = deltas
  }

  /// How many instances of the VDU `level` adds to the initial ones.
  public func instances(of vdu: String, at level: Int) -> Int {
    guard let steps = deltas[vdu], let last = steps.last else { return 0 }
    return (0..<max(0, level)).reduce(0) { $0 + ($1 < steps.count ? steps[$1] : last) }
  }
}

/// Which VDUs' instances shall, or shall not, share a place.
public struct AffinityRule: Sendable, Hashable, Codable {
  public enum Kind: String, Sendable, Hashable, Codable { case affinity, antiAffinity }

  public var kind: Kind
  /// `nfvi_node`, `zone` and the like.
  public var scope: String
  public var vdus: [String]
  /// One that the host cannot give is refused instead of warned about.
  public var isMandatory: Bool

  public init(kind: Kind, scope: String, vdus: [String], isMandatory: Bool = false) {
    self.kind = kind
    self.scope = scope
    self.vdus = vdus
    self.isMandatory = isMandatory
  }
}
