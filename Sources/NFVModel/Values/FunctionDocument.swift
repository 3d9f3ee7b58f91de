/// What the platform tells a function: the one JSON document of their contract, the same for every
/// technology. A container reads it as `/run/martlet/config.json`; templates are rendered with it.
public struct FunctionDocument: Sendable, Hashable, Codable {
  public struct Identity: Sendable, Hashable, Codable {
    public var tenant: TenantID
    public var vnfInstance: VnfInstanceID
    public var vnfInstanceName: String
    public var vnfc: VnfcID
    public var vdu: String
    public var ordinal: Int
    public var incarnation: Int

    public init(
      tenant: TenantID, vnfInstance: VnfInstanceID, vnfInstanceName: String, vnfc: VnfcID,
      vdu: String, ordinal: Int, incarnation: Int
    ) {
      self.tenant = tenant
      self.vnfInstance = vnfInstance
      self.vnfInstanceName = vnfInstanceName
      self.vnfc = vnfc
      self.vdu = vdu
      self.ordinal = ordinal
      self.incarnation = incarnation
    }
  }

  public struct PortDocument: Sendable, Hashable, Codable {
    /// The connection point's name in the descriptor.
    public var name: String
    /// The interface's name inside the workload.
    public var interface: String
    public var mac: MACAddress
    public var addresses: [IPPrefix]
    public var mtu: Int
    public var routes: [Network.Route]
    public var owner: AddressOwner

    public init(_ port: Port, owner: AddressOwner = .kernel) {
      name = port.cpd
      interface = port.interface
      mac = port.mac
      addresses = port.addresses
      mtu = port.mtu
      routes = port.routes
      self.owner = owner
    }
  }

  public var identity: Identity
  public var ports: [PortDocument]
  public var parameters: [String: JSONValue]
  /// Rises with each change of what the function is told.
  public var generation: Int

  public init(
    identity: Identity, ports: [PortDocument], parameters: [String: JSONValue], generation: Int
  ) {
    self.identity = identity
    self.ports = ports
    self.parameters = parameters
    self.generation = generation
  }
}
