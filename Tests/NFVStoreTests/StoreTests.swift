import FoundationEssentials
import GRDB
import NFVModel
import NFVStore
import Synchronization
import TestSupport
import Testing

/// What a store promises, for every implementation of it.
@Suite struct StoreTests {
  enum Kind: CaseIterable { case memory, sqlite }

  /// A store and a way to open it again.
  final class Fixture {
    private let folder: TemporaryFolder
    var path: String { folder.path + "/store.sqlite" }
    let store: any Store
    private let kind: Kind

    init(_ kind: Kind, retention: Int = 1000) throws {
      self.kind = kind
      folder = try TemporaryFolder()
      store =
        switch kind {
        case .memory: MemoryStore(id: "s", retention: retention)
        case .sqlite: try SQLiteStore(path: folder.path + "/store.sqlite", retention: retention)
        }
    }

    func reopened() throws -> any Store {
      kind == .memory ? store : try SQLiteStore(path: path)
    }
  }

  let now = Timestamp(microseconds: 1_700_000_000_000_000)

  func operation(_ id: VnfLcmOpOccID, _ state: LcmOperationState = .processing) -> VnfLcmOpOcc {
    VnfLcmOpOcc(
      id: id, tenant: .default, instance: "i", operation: .instantiate, state: state,
      startTime: now, actor: "a", parameters: .object(["n": .integer(1), "x": .null]))
  }

  func vnfc(_ id: VnfcID, address: String = "10.0.0.2/24") throws -> Vnfc {
    Vnfc(
      id: id, instance: "i", tenant: .default, vdu: "v", flavour: "f", ordinal: 0,
      ports: [
        Port(
          id: PortID("p-\(id)"), cpd: "c", externalCpd: nil, network: "n",
          mac: MACAddress(value: HostName.hash(id.rawValue)),
          addresses: [try #require(IPPrefix(address))], mode: .router, mtu: 1500,
          interface: "eth0")
      ])
  }

  @Test(arguments: Kind.allCases) func everyChangeComesBack(kind: Kind) throws {
    let fixture = try Fixture(kind)
    let identity = try fixture.store.load().store
    let package = VnfPackage(
      id: "p", tenant: .default, createdAt: now, userDefinedData: ["k": .array([.bool(true)])])
    var instance = VnfInstance(
      id: "i", tenant: .default, name: "n", package: "p", createdAt: now)
    instance.target = VnfState(
      flavour: "f", vnfcs: ["v": 3], external: ["e": .init(network: "n")],
      parameters: ["a": .number(1.5)])
    let network = Network(
      id: "n", tenant: .default, name: "net",
      subnets: [.init(prefix: try #require(IPPrefix("fd00::/64")))], uplink: .device("eth9"))
    var component = try vnfc("v")
    _ = try fixture.store.commit([
      .putPackage(package), .putInstance(instance), .putNetwork(network), .putVnfc(component),
      .putOperation(operation("o")),
    ])
    component.incarnation = 4
    _ = try fixture.store.commit([.putVnfc(component)])
    let stored = try fixture.reopened().load()
    #expect(stored.store == identity)
    #expect(stored.packages == [package])
    #expect(stored.instances == [instance])
    #expect(stored.networks == [network])
    #expect(stored.vnfcs == [component])
    #expect(stored.openOperations == [operation("o")])

    let store = try fixture.reopened()
    _ = try store.commit([
      .removeVnfc("v"), .removeNetwork("n"), .removeInstance("i"), .removePackage("p"),
      .putOperation(operation("o", .completed)),
    ])
    let empty = try store.load()
    #expect(
      empty.packages.isEmpty && empty.instances.isEmpty && empty.networks.isEmpty
        && empty.vnfcs.isEmpty && empty.openOperations.isEmpty)
    #expect(try store.operation("o")?.state == .completed)
  }

  @Test(arguments: Kind.allCases)
  func theGenerationRisesWithWhatTheHostMayGet(kind: Kind) throws {
    let fixture = try Fixture(kind)
    var last = try fixture.store.load().generation
    func rises(_ change: Change) throws -> Bool {
      _ = try fixture.store.commit([change])
      let generation = try fixture.reopened().load().generation
      defer { last = generation }
      return generation > last
    }
    let network = Network(
      id: "n", tenant: .default, name: "net",
      subnets: [.init(prefix: try #require(IPPrefix("10.0.0.0/24")))], uplink: .none)
    #expect(try rises(.putNetwork(network)))
    var component = try vnfc("v")
    #expect(try rises(.putVnfc(component)))
    component.incarnation = 1
    #expect(try rises(.putVnfc(component)))
    component.restart = Vnfc.Restart(
      failures: 1, notBefore: now, lastExit: nil, outageSince: now, isExhausted: false)
    #expect(try !rises(.putVnfc(component)))
    #expect(try !rises(.putOperation(operation("o"))))
    #expect(try !rises(.removeVnfc("v")))
  }

  @Test func aGenerationIsNotedWhenItIsOnDisk() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/store.sqlite"
    final class Noted: Sendable {
      let generations = Mutex<[Int]>([])
    }
    let noted = Noted()
    let store = try SQLiteStore(path: path) { generation in
      let stored = try? SQLiteStore(path: path).load().generation
      noted.generations.withLock { $0 += [generation, stored ?? -1] }
    }
    var component = try vnfc("v")
    _ = try store.commit([.putVnfc(component)])
    #expect(noted.generations.withLock { $0 } == [])
    try store.sync()
    #expect(noted.generations.withLock { $0 } == [1, 1])
    _ = try store.commit([.putOperation(operation("o"))])
    try store.sync()
    component.incarnation = 1
    _ = try store.commit([.putVnfc(component)])
    try store.sync()
    #expect(noted.generations.withLock { $0 } == [1, 1, 2, 2])
  }

  @Test(arguments: Kind.allCases) func operationsArePaged(kind: Kind) throws {
    let fixture = try Fixture(kind)
    for index in 0..<5 {
      _ = try fixture.store.commit([.putOperation(operation(.init("o\(index)"), .completed))])
    }
    let first = try fixture.store.operations(of: "i", before: nil, limit: 2)
    #expect(first.map(\.id) == ["o4", "o3"])
    let second = try fixture.store.operations(of: "i", before: "o3", limit: 9)
    #expect(second.map(\.id) == ["o2", "o1", "o0"])
    #expect(try fixture.store.operations(of: "other", before: nil, limit: 9).isEmpty)
  }

  @Test(arguments: Kind.allCases) func theOutboxKeepsItsOrder(kind: Kind) throws {
    let fixture = try Fixture(kind, retention: 20)
    var last: Int64 = 0
    for index in 0..<100 {
      var notification = Notification(kind: .workload, tenant: .default, time: now)
      notification.message = "\(index)"
      let entries = try fixture.store.commit([.notify(notification)])
      #expect(entries.map(\.sequence) == [last + 1])
      last += 1
    }
    #expect(try fixture.store.load().lastSequence == 100)
    let tail = try fixture.store.outbox(after: 95, limit: 3)
    #expect(tail.map(\.notification.message) == ["95", "96", "97"])
    #expect(throws: NFVError.self) { try fixture.store.outbox(after: 3, limit: 1) }
    #expect(try fixture.store.outbox(after: 100, limit: 1).isEmpty)
  }

  @Test func anInstanceHasOneOpenOperation() throws {
    let fixture = try Fixture(.sqlite)
    _ = try fixture.store.commit([.putOperation(operation("a"))])
    #expect(throws: NFVError.self) {
      try fixture.store.commit([
        .putNetwork(Network(id: "n", tenant: .default, name: "x", subnets: [])),
        .putOperation(operation("b")),
      ])
    }
    // All or nothing.
    #expect(try fixture.store.load().networks.isEmpty)
  }

  @Test func anAddressIsGivenOnce() throws {
    let fixture = try Fixture(.sqlite)
    _ = try fixture.store.commit([.putVnfc(try vnfc("a"))])
    let error = #expect(throws: NFVError.self) {
      try fixture.store.commit([.putVnfc(try vnfc("b"))])
    }
    #expect(error?.code == .conflict)
    _ = try fixture.store.commit([.removeVnfc("a"), .putVnfc(try vnfc("b"))])
  }

  /// What an earlier Martlet wrote is read by this one.
  @Test func anOlderStoreIsMigrated() throws {
    let fixture = try Fixture(.sqlite)
    var package = VnfPackage(id: "p", tenant: .default, createdAt: now)
    package.content = VnfPackage.Content(
      descriptor: VnfDescriptor(
        id: "d", provider: "p", productName: "n", softwareVersion: "1", descriptorVersion: "1",
        flavours: []),
      digest: "sha256:0", size: 0, images: [:], templates: [:])
    let empty = VnfPackage(id: "q", tenant: .default, createdAt: now)
    let instance = VnfInstance(
      id: "i", tenant: .default, name: "n", package: "p", createdAt: now)
    _ = try fixture.store.commit([
      .putPackage(package), .putPackage(empty), .putInstance(instance),
    ])
    let database = try DatabaseQueue(path: fixture.path)
    try database.write { database in
      try database.execute(
        sql: """
          UPDATE vnf_instance SET document = json_remove(document, '$.info');
          UPDATE vnf_package SET document =
            json_remove(document, '$.content.descriptor.modifiable', '$.content.imageSizes');
          DELETE FROM grdb_migrations WHERE identifier <> '1 core';
          """)
    }
    try database.close()
    let stored = try fixture.reopened().load()
    #expect(stored.instances == [instance])
    #expect(stored.packages == [package, empty])
  }

  @Test func whatIsNoDatabaseIsRefused() throws {
    let fixture = try Fixture(.memory)
    try String(repeating: "no database ", count: 500).write(
      toFile: fixture.path, atomically: false, encoding: .utf8)
    let error = #expect(throws: NFVError.self) { try SQLiteStore(path: fixture.path) }
    #expect(error?.message.contains("damaged") == true)
  }
}
