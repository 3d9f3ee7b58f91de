import FoundationEssentials
import Glibc
import LinuxSystem
import NFVModel
import NFVNetwork
import SystemPackage
import TestSupport
import Testing

/// A network namespace that stands for a workload's.
final class Reference: NetworkNamespaceReference {
  let namespace: NetworkNamespace
  var fileDescriptor: Int32 { namespace.descriptor.rawValue }
  init() throws { namespace = try NetworkNamespace.create() }
}

/// A run directory with a host network in it, and a network namespace that stands for the host's;
/// everything goes with the fixture.
final class Fixture {
  private let temporary: TemporaryFolder
  var folder: String { temporary.path }
  let store: StoreID
  let host: NetworkNamespace
  private(set) var network: HostNetwork
  private var networks: [(NetworkID, TenantID)] = []

  /// - Parameter host: of another fixture, whose host this one shares.
  init(store: StoreID = "teststore", host: NetworkNamespace? = nil) throws {
    self.store = store
    self.host = try host ?? NetworkNamespace.create()
    temporary = try TemporaryFolder(in: "/run")
    network = try Self.open(store, temporary.path, self.host)
  }

  private static func open(
    _ store: StoreID, _ folder: String, _ host: NetworkNamespace
  ) throws -> HostNetwork {
    try HostNetwork(
      store: store, runDirectory: folder,
      hostNamespace: "/proc/self/fd/\(host.descriptor.rawValue)")
  }

  /// As after a restart of the daemon.
  func restart() throws { network = try Self.open(store, folder, host) }

  func makeNetwork(
    _ id: NetworkID, tenant: TenantID = .default, _ prefix: String = "10.9.0.0/24",
    uplink: Network.Uplink = .none, routes: [Network.Route] = []
  ) async throws -> Network {
    let made = try describeNetwork(id, tenant: tenant, prefix, uplink: uplink, routes: routes)
    networks.append((id, tenant))
    try await network.ensure(made)
    try await network.ensure(made)
    return made
  }

  /// With an uplink its gateway is the first address, as the core has it.
  func describeNetwork(
    _ id: NetworkID, tenant: TenantID = .default, _ prefix: String, uplink: Network.Uplink,
    routes: [Network.Route] = []
  ) throws -> Network {
    let prefix = try #require(IPPrefix(prefix))
    let gateway =
      uplink == .none
      ? nil : IPAddress(family: prefix.address.family, value: prefix.address.value + 1)
    return Network(
      id: id, tenant: tenant, name: id.rawValue,
      subnets: [.init(prefix: prefix, gateway: gateway)], routes: routes, uplink: uplink)
  }

  func attachment(
    _ vnfc: VnfcID, on network: Network, _ address: String, mode: PortMode = .host,
    incarnation: Int = 1, mac: UInt64? = nil
  ) throws -> NFVModel.Attachment {
    let defaults = network.subnets.compactMap { subnet in
      subnet.gateway.map {
        Network.Route(
          destination: .init(address: .init(family: $0.family, value: 0), length: 0), via: $0)
      }
    }
    let port = Port(
      id: PortID("port-\(vnfc)"), cpd: "cp", externalCpd: nil, network: network.id,
      mac: MACAddress(value: mac ?? 0x0200_0000_0000 | HostName.hash(vnfc.rawValue) & 0xFF_FFFF),
      addresses: [try #require(IPPrefix(address))], mode: mode, mtu: 1500, interface: "eth0",
      routes: defaults)
    return NFVModel.Attachment(
      port: port,
      workload: WorkloadID(
        store: store, tenant: network.tenant, vnfc: vnfc, incarnation: incarnation))
  }

  func attach(
    _ attachment: NFVModel.Attachment, isActive: Bool = true, forwards: Bool = false
  ) async throws -> Reference {
    let reference = try Reference()
    try await network.attach(
      [attachment], to: .networkNamespace(reference), forwards: forwards, isActive: isActive)
    return reference
  }

  func end() async throws {
    for (id, tenant) in networks { try await network.remove(id, of: tenant) }
    #expect(try listFolder(folder + "/fabric").isEmpty)
    temporary.remove()
  }
}

/// Whether `address` answers an echo that is asked from inside a namespace, asked again and again
/// until it does: a link that came up is noticed by its bridge a little later where the kernel is
/// busy with others.
func reaches(
  _ address: String, from: NetworkNamespace, timeout: Duration = .seconds(2)
) throws -> Bool {
  let octets = try #require(IPAddress(address)).octets
  let deadline = ContinuousClock.now + timeout
  repeat {
    let answers = try from.run { () throws(SystemError) in
      do throws(SystemError) {
        return try answersEcho(octets, timeout: .milliseconds(300))
      } catch  where error.call == "sendto" {
        // No route is no answer.
        return false
      }
    }
    if answers { return true }
  } while ContinuousClock.now < deadline
  return false
}

func reaches(
  _ address: String, from: Reference, timeout: Duration = .seconds(2)
) throws -> Bool {
  try reaches(address, from: from.namespace, timeout: timeout)
}

/// Whether `address` does not answer, asked once, where it would if anything let it.
func cannotReach(_ address: String, from: NetworkNamespace) throws -> Bool {
  try !reaches(address, from: from, timeout: .zero)
}

func cannotReach(_ address: String, from: Reference) throws -> Bool {
  try cannotReach(address, from: from.namespace)
}
