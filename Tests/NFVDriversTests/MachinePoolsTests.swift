import NFVModel
import Testing

@testable import NFVDrivers

/// Which starts may claim a machine that waits: what was fixed when it was born has to be the same.
@Suite struct MachinePoolsTests {
  /// A machine that waits, like one that was started.
  private func pools() async throws -> (MachinePools, member: WorkloadID) {
    let pools = MachinePools(size: 1)
    pools.fill(after: Self.started)
    var work = pools.work.makeAsyncIterator()
    guard case .make(let member) = await work.next() else { throw Unexpected() }
    #expect(pools.isMaking(member.id))
    #expect(pools.claim(for: Self.specification("early")) == nil)
    pools.noteReady(member)
    return (pools, member.id)
  }

  private struct Unexpected: Error {}

  private static let started = specification("started")

  private static func specification(_ vnfc: VnfcID) -> WorkloadSpecification {
    WorkloadSpecification(
      id: WorkloadID(store: "store", tenant: "green", vnfc: vnfc, incarnation: 1),
      technology: .unikernel, hostName: "\(vnfc)-0",
      image: PreparedImage(
        digest: "sha256:aa", root: "/images/aa", configuration: ImageConfiguration(), size: 1),
      cpuMillicores: 500, memoryBytes: 4 << 20, writableLayerBytes: 0, document: [],
      ports: ["one", "two"].map { port($0) }, addressOwner: .function)
  }

  private static func port(_ id: PortID) -> Port {
    Port(
      id: id, cpd: "network", externalCpd: nil, network: "lan", mac: MACAddress(value: 2),
      addresses: [], mode: .router, mtu: 1500, interface: "network")
  }

  enum Fixed: CaseIterable {
    case tenant, image, ports, memory, moreCPU, unlimitedCPU

    func change(_ specification: inout WorkloadSpecification) {
      switch self {
      case .tenant: specification.id.tenant = "blue"
      case .image: specification.image.digest = "sha256:bb"
      case .ports: specification.ports.removeLast()
      case .memory: specification.memoryBytes += 1 << 20
      case .moreCPU: specification.cpuMillicores = 1000
      case .unlimitedCPU: specification.cpuMillicores = nil
      }
    }
  }

  @Test(arguments: Fixed.allCases)
  func whatWasFixedAtItsBirthHasToBeTheSame(_ fixed: Fixed) async throws {
    let (pools, member) = try await pools()
    var other = Self.specification("other")
    fixed.change(&other)
    #expect(pools.claim(for: other) == nil)
    #expect(pools.claim(for: Self.specification("same")) == member)
  }

  /// All else it is told when it is claimed; and nobody gets it twice.
  @Test func whatItIsToldLaterMayDiffer() async throws {
    let (pools, member) = try await pools()
    var other = Self.specification("other")
    other.id.incarnation = 3
    other.hostName = "another"
    other.document = [0x7b, 0x7d]
    other.generation = 7
    other.ports = ["three", "four"].map { Self.port($0) }
    other.ports[0].network = "wan"
    #expect(pools.claim(for: other) == member)
    #expect(pools.claim(for: other) == nil)
  }
}
