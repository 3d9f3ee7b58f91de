import FoundationEssentials
import Glibc
import LinuxSystem
import NFVModel
import NFVNetwork
import SystemPackage
import Testing

/// Root is needed for namespaces; MARTLET_REQUIRE=root turns its absence into a failure.
private let isRoot =
  geteuid() == 0
  || (getenv("MARTLET_REQUIRE").map { String(cString: $0) } ?? "").split(separator: ",")
    .contains("root")

@Suite(.enabled(if: isRoot, "needs root"), .serialized)
struct HostNetworkTests {
  /// A network namespace that stands for a workload's.
  final class Reference: NetworkNamespaceReference {
    let namespace: NetworkNamespace
    var fileDescriptor: Int32 { namespace.descriptor.rawValue }
    init() throws { namespace = try NetworkNamespace.create() }
  }

  /// A run directory with a host network in it; everything goes with the fixture.
  final class Fixture {
    let folder = "/run/martlet-network-test-\(UInt32.random(in: 0 ..< .max))"
    let store: StoreID = "teststore"
    private(set) var network: HostNetwork
    private var networks: [(NetworkID, TenantID)] = []

    init() throws {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      network = try HostNetwork(store: "teststore", runDirectory: folder)
    }

    /// As after a restart of the daemon.
    func restart() throws { network = try HostNetwork(store: store, runDirectory: folder) }

    func makeNetwork(
      _ id: NetworkID, tenant: TenantID = .default, _ prefix: String = "10.9.0.0/24"
    ) async throws -> Network {
      let made = Network(
        id: id, tenant: tenant, name: id.rawValue,
        subnets: [.init(prefix: try #require(IPPrefix(prefix)))])
      try await network.ensure(made)
      try await network.ensure(made)
      networks.append((id, tenant))
      return made
    }

    func attachment(
      _ vnfc: VnfcID, on network: Network, _ address: String, mode: PortMode = .host,
      incarnation: Int = 1, mac: UInt64? = nil
    ) throws -> NFVModel.Attachment {
      let port = Port(
        id: PortID("port-\(vnfc)"), cpd: "cp", externalCpd: nil, network: network.id,
        mac: MACAddress(value: mac ?? 0x0200_0000_0000 | HostName.hash(vnfc.rawValue) & 0xFF_FFFF),
        addresses: [try #require(IPPrefix(address))], mode: mode, mtu: 1500, interface: "eth0")
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
      try FileManager.default.removeItem(atPath: folder)
    }
  }

  /// Whether `address` answers an echo that is asked from inside a namespace.
  func reaches(_ address: String, from: Reference, timeout: Duration = .milliseconds(300)) throws
    -> Bool
  {
    let octets = try #require(IPAddress(address)).octets
    return try from.namespace.run { () throws(SystemError) in
      try answersEcho(octets, timeout: timeout)
    }
  }

  @Test func portsOnOneNetworkReachEachOther() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n1")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    let b = try await fixture.attach(try fixture.attachment("b", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.9.0.2", from: a))
    #expect(try reaches("10.9.0.1", from: b))
    let counters = try await fixture.network.counters(
      of: [try fixture.attachment("a", on: network, "10.9.0.1/24")])
    #expect((counters["port-a"]?.sentPackets ?? 0) >= 2)
    let observed = try await fixture.network.observe()
    #expect(observed.networks == ["n1": .default])
    #expect(observed.links.count == 2 && observed.links.allSatisfy(\.isActive))
    withExtendedLifetime((a, b)) {}
    try await fixture.end()
  }

  @Test func ipv6WorksAtOnce() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n6", "fd00:9::/64")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "fd00:9::1/64"))
    let b = try await fixture.attach(try fixture.attachment("b", on: network, "fd00:9::2/64"))
    #expect(try reaches("fd00:9::2", from: a, timeout: .seconds(1)))
    withExtendedLifetime((a, b)) {}
    try await fixture.end()
  }

  /// A host port sends from its own MAC and address only; a router port from any address.
  @Test(arguments: [PortMode.host, .router]) func spoofedSourcesAreDropped(mode: PortMode)
    async throws
  {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n2")
    let liar = try await fixture.attach(
      try fixture.attachment("a", on: network, "10.9.0.1/24", mode: mode))
    let b = try await fixture.attach(try fixture.attachment("b", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.9.0.2", from: liar))
    // Another address of the same interface, its MAC unchanged.
    try liar.namespace.run { () throws(SystemError) in
      let socket = try NetlinkSocket(.route)
      let index = try socket.index(ofLinkNamed: "eth0")
      try socket.request([.addAddress([10, 9, 0, 77], prefixLength: 32, link: index)])
    }
    let passed = try liar.namespace.run { () throws(SystemError) in
      try runProgram(
        "/bin/ping", arguments: ["ping", "-c", "1", "-W", "1", "-I", "10.9.0.77", "10.9.0.2"]
      )
      .status == 0
    }
    // The answer to a router's packet needs a neighbour entry, which ARP of that address gives.
    #expect(passed == (mode == .router))
    withExtendedLifetime((liar, b)) {}
    try await fixture.end()
  }

  @Test func aParkedPortCarriesNothingUntilItIsActivated() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n3")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    let old = try await fixture.attach(try fixture.attachment("b", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.9.0.2", from: a))
    // The successor has the same MAC and address and waits aside.
    let successor = try fixture.attachment("b", on: network, "10.9.0.2/24", incarnation: 2)
    let new = try await fixture.attach(successor, isActive: false)
    #expect(try reaches("10.9.0.2", from: a))
    #expect(try !reaches("10.9.0.1", from: new))
    try await fixture.network.activate([successor])
    try await fixture.network.release([
      try fixture.attachment("b", on: network, "10.9.0.2/24")
    ])
    // The successor has asked for its neighbour in vain before; ARP asks again once a second.
    #expect(try reaches("10.9.0.1", from: new, timeout: .seconds(3)))
    #expect(try reaches("10.9.0.2", from: a))
    #expect(try !reaches("10.9.0.1", from: old))
    withExtendedLifetime((a, old, new)) {}
    try await fixture.end()
  }

  @Test func tenantsAreApartAndMayHaveTheSameAddresses() async throws {
    let fixture = try Fixture()
    let one = try await fixture.makeNetwork("n4", tenant: "one")
    let two = try await fixture.makeNetwork("n5", tenant: "two")
    let a = try await fixture.attach(try fixture.attachment("a", on: one, "10.9.0.1/24"))
    let b = try await fixture.attach(try fixture.attachment("b", on: two, "10.9.0.2/24"))
    #expect(try !reaches("10.9.0.2", from: a))
    let c = try await fixture.attach(try fixture.attachment("c", on: two, "10.9.0.1/24"))
    #expect(try reaches("10.9.0.2", from: c))
    withExtendedLifetime((a, b, c)) {}
    try await fixture.end()
  }

  @Test func aNewDaemonTakesTheFabricBack() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n7")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    try fixture.restart()
    let b = try await fixture.attach(try fixture.attachment("b", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.9.0.2", from: a))
    #expect(try await fixture.network.observe().links.count == 2)
    withExtendedLifetime((a, b)) {}
    try await fixture.end()
  }

  @Test func aSweptLinkIsGone() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n8")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    let link = try #require(try await fixture.network.observe().links.first)
    try await fixture.network.sweep(link)
    try await fixture.network.sweep(link)
    #expect(try await fixture.network.observe().links.isEmpty)
    withExtendedLifetime(a) {}
    try await fixture.end()
  }

  @Test func probesAskInsideTheNamespace() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n9")
    let attachment = try fixture.attachment("a", on: network, "10.9.0.1/24")
    let a = try await fixture.attach(attachment)
    let point = AttachmentPoint.networkNamespace(a)
    #expect(
      try await fixture.network.probe(.icmp, of: [attachment], at: point, timeout: .seconds(1)))
    #expect(
      try await !fixture.network.probe(
        .tcp(7), of: [attachment], at: point, timeout: .milliseconds(200)))
    try await fixture.end()
  }

  @Test func anUplinkThatCannotBeHadIsRefused() async throws {
    let fixture = try Fixture()
    var network = try await fixture.makeNetwork("n10")
    network.uplink = .device("eth9")
    let error = await #expect(throws: NFVError.self) { try await fixture.network.ensure(network) }
    #expect(error?.code == .unprocessable)
    try await fixture.end()
  }

  /// Prints how long a port takes, for the record; a time is no assertion.
  @Test func portsAreCheapAlsoAmongMany() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n11", "10.9.0.0/16")
    var kept: [Reference] = []
    var times: [Duration] = []
    for index in 0..<150 {
      let attachment = try fixture.attachment(
        VnfcID("v\(index)"), on: network, "10.9.1.\(index + 1)/16")
      let reference = try Reference()
      let start = ContinuousClock.now
      try await fixture.network.attach(
        [attachment], to: .networkNamespace(reference), forwards: false, isActive: true)
      times.append(ContinuousClock.now - start)
      kept.append(reference)
    }
    func median(_ part: ArraySlice<Duration>) -> Duration { part.sorted()[part.count / 2] }
    print("attach: first 50 \(median(times[0..<50])), last 50 \(median(times[100..<150]))")
    #expect(try reaches("10.9.1.150", from: kept[0]))
    kept = []
    try await fixture.end()
  }
}
