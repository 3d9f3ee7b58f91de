public import LinuxSystem
internal import SystemPackage

/// A host of the benchmark's own on a tenant's network: a network namespace with one link into the
/// network's bridge, from which real traffic is sent. It goes with `remove`, or with the process.
public final class ClientNamespace: Sendable {
  public let namespace: NetworkNamespace
  /// What its link is called inside.
  public static let interface = "eth0"
  private let fabric: NetworkNamespace
  private let name: String

  /// A route that the client has.
  public struct Route: Sendable {
    public var destination: [UInt8]
    public var prefixLength: Int
    public var gateway: [UInt8]

    public init(destination: [UInt8], prefixLength: Int, gateway: [UInt8]) {
      self.destination = destination
      self.prefixLength = prefixLength
      self.gateway = gateway
    }
  }

  /// - Parameters:
  ///   - fabric: the path at which the tenant's fabric is pinned.
  ///   - network: the network's identifier.
  ///   - name: of the link's end in the fabric, at most 15 octets.
  ///   - address: of the client, in the order of the wire.
  /// - Throws: where the network is not on this host, or the caller is not root.
  public init(
    fabric path: String, network: String, name: String, address: [UInt8], prefixLength: Int,
    routes: [Route] = []
  ) throws(SystemError) {
    self.name = name
    fabric = try NetworkNamespace(path: path)
    namespace = try NetworkNamespace.create()
    let (route, netfilter) = try fabric.run { () throws(SystemError) in
      (try NetlinkSocket(.route), try NetlinkSocket(.netfilter))
    }
    let bridge = try route.links().first {
      $0.kind == "bridge" && $0.alias.hasSuffix("/\(network)")
    }
    guard let bridge else {
      throw SystemError(
        call: "netlink", errno: .noSuchAddressOrDevice, subject: "network \(network)")
    }
    try route.request(
      [
        .addVeth(
          name: name, mtu: 1500, master: bridge.index,
          peer: .init(name: "eth0", mac: [], namespace: namespace.descriptor.rawValue))
      ], subject: "the client's link")
    try netfilter.add([(Self.unchecked, Self.key(name))])
    let inside = try namespace.run { () throws(SystemError) in try NetlinkSocket(.route) }
    let index = try inside.index(ofLinkNamed: "eth0")
    try inside.request(
      [
        .setLinkUp(named: "lo"),
        .addAddress(address, prefixLength: prefixLength, link: index),
        .setLink(index, isUp: true),
      ]
        + routes.map {
          .addRoute(
            to: $0.destination, prefixLength: $0.prefixLength, gateway: $0.gateway, link: index)
        }, subject: "the client's address")
  }

  private static let unchecked = NetlinkMessage.NetfilterSet(
    family: 7, table: "martlet", name: "bridge_ports")

  private static func key(_ name: String) -> [UInt8] {
    Array(name.utf8) + [UInt8](repeating: 0, count: 16 - name.utf8.count)
  }

  /// Takes the client off the network.
  public func remove() {
    let name = name
    _ = try? fabric.run { () throws(SystemError) in
      let netfilter = try NetlinkSocket(.netfilter)
      try netfilter.remove([(Self.unchecked, Self.key(name))])
      let route = try NetlinkSocket(.route)
      try route.request([.deleteLink(try route.index(ofLinkNamed: name))])
    }
  }

  /// Runs a program of the host on the client and gives back what it printed.
  public func run(_ path: String, _ arguments: [String]) throws(SystemError) -> ProgramResult {
    try namespace.run { () throws(SystemError) in
      try runProgram(path, arguments: [path] + arguments)
    }
  }

  /// Whether a TCP connection is accepted, asked from here.
  public func connects(
    to address: [UInt8], port: UInt16, timeout: Duration
  ) throws(SystemError) -> Bool {
    try namespace.run { () throws(SystemError) in
      try acceptsConnection(address, port: port, timeout: timeout)
    }
  }

  /// Waits until a TCP connection is accepted.
  /// - Returns: the moment; nil when `deadline` came first.
  public func firstConnection(
    to address: [UInt8], port: UInt16, until deadline: ContinuousClock.Instant
  ) throws(SystemError) -> ContinuousClock.Instant? {
    try namespace.run { () throws(SystemError) in
      while ContinuousClock.now < deadline {
        if try acceptsConnection(address, port: port, timeout: .milliseconds(20)) {
          return ContinuousClock.now
        }
        pause(microseconds: 100)
      }
      return nil
    }
  }
}
