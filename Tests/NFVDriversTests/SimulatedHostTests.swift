import NFVDrivers
import NFVModel
import Testing

@Suite struct SimulatedHostTests {
  private let id = WorkloadID(store: "s", tenant: "default", vnfc: "v", incarnation: 1)

  private var specification: WorkloadSpecification {
    WorkloadSpecification(
      id: id, technology: .container, hostName: "fw-0",
      image: PreparedImage(
        digest: "sha256:0", root: "", configuration: ImageConfiguration(), size: 0),
      memoryBytes: 4096, writableLayerBytes: 0, document: [])
  }

  @Test func lifeOfAWorkload() async throws {
    let host = SimulatedHost()
    await #expect(throws: NFVError.self) { try await host.start(specification) }
    _ = try await host.prepare(specification)
    #expect(try await host.observe() == [ObservedWorkload(id: id, phase: .prepared, generation: 1)])
    try await host.start(specification)
    try await host.start(specification)
    #expect(try await host.observe() == [ObservedWorkload(id: id, phase: .running, generation: 1)])
    await #expect(throws: NFVError.self) { try await host.delete(id) }
    host.end(id, .exited(code: 3))
    host.end(id, .exited(code: 4))
    var exits = host.exits.makeAsyncIterator()
    #expect(await exits.next() == WorkloadExit(id: id, status: .exited(code: 3)))
    await #expect(throws: NFVError.self) { try await host.start(specification) }
    let log = try await host.log(of: id, from: 6, limit: 5)
    #expect(log.offset == 6 && log.bytes == Array("run 1".utf8))
    try await host.delete(id)
    #expect(try await host.observe() == [ObservedWorkload]())
  }

  @Test func linksNeedTheirNetwork() async throws {
    let host = SimulatedHost()
    let port = Port(
      id: "p", cpd: "c", externalCpd: nil, network: "n", mac: MACAddress(value: 1),
      addresses: [], mode: .host, mtu: 1500, interface: "eth0")
    let attachments = [Attachment(port: port, workload: id)]
    await #expect(throws: NFVError.self) {
      try await host.attach(attachments, to: .simulated, forwards: false, isActive: false)
    }
    try await host.ensure(Network(id: "n", tenant: "default", name: "n", subnets: []))
    try await host.attach(attachments, to: .simulated, forwards: false, isActive: false)
    try await host.activate(attachments)
    let observed: ObservedNetworks = try await host.observe()
    #expect(observed.networks == ["n": "default"])
    #expect(observed.links == [.init(workload: id, port: "p", isActive: true)])
    try await host.release(attachments)
    #expect((try await host.observe() as ObservedNetworks).links.isEmpty)
  }

  @Test func commands() async throws {
    let host = SimulatedHost()
    _ = try await host.prepare(specification)
    try await host.start(specification)
    func run(_ arguments: [String], input: String = "") async throws -> [ExecOutput] {
      let session = try await host.execute(ExecRequest(arguments: arguments), in: id)
      if !input.isEmpty { try await session.write(Array(input.utf8)) }
      await session.closeInput()
      return await session.output.reduce(into: []) { $0.append($1) }
    }
    #expect(
      try await run(["cat"], input: "x") == [.standardOutput([120]), .exited(.exited(code: 0))])
    #expect(try await run(["false"]) == [.exited(.exited(code: 1))])
    #expect(try await run(["kill", "1"]) == [.exited(.exited(code: 0))])
    var exits = host.exits.makeAsyncIterator()
    #expect(await exits.next()?.status == .killed(signal: 9))
    await #expect(throws: NFVError.self) { try await run(["ls"]) }
  }

  @Test func aRunningFunctionTakesAnotherDocument() async throws {
    let host = SimulatedHost()
    var next = specification
    next.generation = 2
    await #expect(throws: NFVError.self) { try await host.configure(next) }
    _ = try await host.prepare(specification)
    try await host.start(specification)
    host.fail(.configure, with: NFVError(.unprocessable, "no"))
    await #expect(throws: NFVError(.unprocessable, "no")) { try await host.configure(next) }
    #expect(try await host.counters(of: id) == [.init(name: "configuration", value: 1)])
    host.fail(.configure, with: nil)
    try await host.configure(next)
    #expect(try await host.counters(of: id) == [.init(name: "configuration", value: 2)])
    #expect(
      try await host.observe() == [ObservedWorkload(id: id, phase: .running, generation: 2)])
  }

  @Test func faults() async throws {
    let host = SimulatedHost()
    host.fail(.prepare, with: NFVError(.exhausted, "no memory"))
    await #expect(throws: NFVError(.exhausted, "no memory")) {
      _ = try await host.prepare(specification)
    }
    host.fail(.prepare, with: nil)
    _ = try await host.prepare(specification)
  }
}
