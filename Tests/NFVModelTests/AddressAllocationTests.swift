import Testing

@testable import NFVModel

/// Which addresses Vnfcs get.
extension CoreTests {
  @Test func aFixedAddressIsOneVnfcs() throws {
    var content = Simulation.content
    content.descriptor.flavours[0].vdus[0].maximumInstances = 2
    content.descriptor.flavours[0].scalingAspects = [
      ScalingAspect(id: "width", name: "width", maximumLevel: 1, deltas: ["front": [1]])
    ]
    var fixture = try Fixture()
    let id = try fixture.instance(of: content)
    let network = try #require(fixture.core.state.networks.values.first { $0.name == "outside" })
    let prefix = try #require(network.subnets.first).prefix
    let address = IPAddress(family: prefix.address.family, value: prefix.address.value + 9)
    let fixed = InstantiateVnfRequest(
      connections: ["out": .init(network: "outside", addresses: [address])])
    _ = try fixture.ask(.instantiate(id, fixed))
    let before = fixture.core.state.vnfcs
    let request = Request.scale(id, ScaleVnfRequest(direction: .out, aspect: "width", steps: 1))
    let outcome = fixture.core.step(
      .request(request, tenant: .default, actor: "t", token: 1), at: fixture.now)
    #expect(outcome.changes.isEmpty && outcome.actions.isEmpty)
    #expect(fixture.core.state.vnfcs == before && fixture.core.state.openOperations.isEmpty)
    let error = #expect(throws: NFVError.self) { try outcome.answers[0].1.get() }
    #expect(error?.code == .conflict)
    #expect(
      error?.message.contains("fixed address \(address) of the connection point out is taken")
        == true, "\(String(describing: error))")
  }

  @Test func addressesRunOutAndFixedOnesAreChecked() throws {
    var fixture = try Fixture()
    let id = try fixture.instance()
    let small = try #require(IPPrefix("10.6.0.0/30"))
    _ = try fixture.ask(
      .createNetwork(NetworkRequest(name: "small", subnets: [.init(prefix: small)])))
    func on(_ address: String?) throws -> InstantiateVnfRequest {
      let addresses = try address.map { [try #require(IPAddress($0))] } ?? []
      return InstantiateVnfRequest(
        connections: ["out": .init(network: "small", addresses: addresses)])
    }
    #expect(refusal(&fixture, .instantiate(id, try on("10.7.0.1")))?.code == .unprocessable)
    #expect(refusal(&fixture, .instantiate(id, try on("10.6.0.3")))?.code == .unprocessable)
    _ = try fixture.ask(.instantiate(id, try on("10.6.0.2")))
    for (name, code) in [("two", nil), ("three", NFVError.Code.exhausted)] {
      guard
        case .instance(let next) = try fixture.ask(
          .createInstance(CreateVnfRequest(vnfd: "sim", name: name)))
      else { fatalError("no instance") }
      #expect(refusal(&fixture, .instantiate(next.id, try on(nil)))?.code == code)
      // What was refused left nothing: neither networks of its own nor Vnfcs.
      if code != nil {
        #expect(fixture.core.state.vnfcs(of: next.id).isEmpty)
        #expect(!fixture.core.state.networks.values.contains { $0.owner == next.id })
      }
    }
  }

  /// A function that is a network's gateway has that address, and no route to itself; nobody gets it who
  /// asks for none, nor where the fabric has it.
  @Test func aFunctionIsAGateway() throws {
    var fixture = try Fixture()
    let gateway = try #require(IPAddress("10.6.0.1"))
    let fabric = try #require(IPAddress("10.7.0.1"))
    for (name, uplink, gateway) in [
      ("inner", Network.Uplink.none, gateway), ("outer", .nat, fabric),
    ] {
      let prefix = IPPrefix(address: IPAddress(family: .v4, value: gateway.value - 1), length: 24)
      _ = try fixture.ask(
        .createNetwork(
          NetworkRequest(
            name: name, subnets: [.init(prefix: prefix, gateway: gateway)], uplink: uplink)))
    }
    func request(_ network: String, _ addresses: [IPAddress]) -> InstantiateVnfRequest {
      InstantiateVnfRequest(connections: ["out": .init(network: network, addresses: addresses)])
    }
    let id = try fixture.instance()
    #expect(refusal(&fixture, .instantiate(id, request("outer", [fabric])))?.code == .conflict)
    _ = try fixture.ask(.instantiate(id, request("inner", [gateway])))
    guard
      case .instance(let next) = try fixture.ask(
        .createInstance(CreateVnfRequest(vnfd: "sim", name: "next")))
    else { fatalError("no instance") }
    #expect(
      refusal(&fixture, .instantiate(next.id, request("inner", [gateway])))?.code == .conflict)
    _ = try fixture.ask(.instantiate(next.id, request("inner", [])))
    func port(_ instance: VnfInstanceID) throws -> Port {
      try #require(
        fixture.core.state.vnfcs(of: instance).flatMap(\.ports).first { $0.externalCpd == "out" })
    }
    #expect(try port(id).addresses.map(\.address) == [gateway] && port(id).routes.isEmpty)
    #expect(try port(next.id).addresses.map(\.address) == [try #require(IPAddress("10.6.0.2"))])
    #expect(try port(next.id).routes.map(\.via) == [gateway])
  }
}
