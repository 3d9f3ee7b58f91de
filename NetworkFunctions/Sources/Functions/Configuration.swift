public import Packets

/// What the platform tells a function, from the document of their contract.
public struct Configuration: ~Copyable {
  public struct Route: Sendable, Hashable {
    public var destination: Prefix
    public var via: IPv6Address

    public init(destination: Prefix, via: IPv6Address) {
      self.destination = destination
      self.via = via
    }
  }

  public struct Port: Sendable, Hashable {
    /// The connection point's; parameters speak of a port by it.
    public var name: [UInt8]
    /// What the interface is named where there is an operating system.
    public var interface: [UInt8]
    public var mac: MACAddress
    /// Of the IP packet, in octets.
    public var mtu: Int
    public var addresses: [Prefix]
    public var routes: [Route]

    public init(
      name: [UInt8] = [], interface: [UInt8] = [], mac: MACAddress, mtu: Int = 1500,
      addresses: [Prefix] = [], routes: [Route] = []
    ) {
      self.name = name
      self.interface = interface
      self.mac = mac
      self.mtu = mtu
      self.addresses = addresses
      self.routes = routes
    }

    /// Whether all of an attached IPv4 network are meant, or were once (RFC 1812, section 5.3.5).
    public func isBroadcast(_ address: IPv6Address) -> Bool {
      guard address.ipv4 != nil else { return false }
      for own in addresses where own.length < 127 && own.contains(address) {
        let host = address.low & ~(~0 << UInt64(128 - own.length))
        if host == 0 || host == ~(~0 << UInt64(128 - own.length)) { return true }
      }
      return false
    }

    /// Whether the port answers for this address; its link-local one follows from its MAC.
    public func owns(_ address: IPv6Address) -> Bool {
      for own in addresses where own.address == address { return true }
      return address == IPv6Address.linkLocal(mac)
    }
  }

  public static let maximumPorts = 8

  /// Rises with each change.
  public var generation: UInt64
  /// In the order of the machine's cards.
  public var ports: [Port]
  /// In which the parameters stand: what the function itself is told, a JSON object, of which each
  /// function reads what it knows.
  let text: [UInt8]
  /// Empty where there are none.
  let parameters: Range<Int>
  /// How much memory what is read of them may take, in octets.
  let memory: Int

  public init(generation: UInt64 = 0, ports: [Port] = [], parameters: [UInt8] = []) {
    self.init(
      generation: generation, ports: ports, text: parameters, parameters: parameters.indices,
      memory: .max)
  }

  init(
    generation: UInt64, ports: [Port], text: [UInt8], parameters: Range<Int>, memory: Int
  ) {
    self.generation = generation
    self.ports = ports
    self.text = text
    self.parameters = parameters
    self.memory = memory
  }
}
