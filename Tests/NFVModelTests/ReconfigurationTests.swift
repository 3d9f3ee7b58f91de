import Testing

@testable import NFVModel

/// What changed configurable properties do to functions that run.
@Suite struct ReconfigurationTests {
  private static let refusal = NFVError(.unprocessable, "the function refuses its document")

  /// Performs all actions; functions answer a document as `answers` says, in the Vnfcs' order.
  private struct World {
    var fixture: CoreTests.Fixture
    let id: VnfInstanceID
    /// What functions were handed: which parameter, in the order of the actions.
    var told: [JSONValue?] = []

    init() throws {
      fixture = try CoreTests.Fixture()
      id = try fixture.instance()
      _ = try fixture.ask(
        .instantiate(
          id,
          InstantiateVnfRequest(
            connections: ["out": .init(network: "outside")], parameters: ["q": .integer(1)])))
    }

    var instance: VnfInstance { fixture.core.state.instances[id]! }

    /// The occurrence as it ends, or rests in FAILED_TEMP.
    mutating func perform(
      _ request: Request, answers: [NFVError?] = []
    ) throws(NFVError) -> VnfLcmOpOcc? {
      var answers = answers[...]
      let outcome = fixture.core.step(
        .request(request, tenant: .default, actor: "t", token: 1), at: fixture.now)
      var (changes, actions) = (outcome.changes, outcome.actions)
      while !actions.isEmpty {
        let action = actions.removeFirst()
        var error: NFVError?
        if case .configureWorkload = action {
          told.append((instance.target ?? instance.settled).parameters["q"])
          error = answers.popFirst() ?? nil
        }
        let next = fixture.core.step(
          .actionEnded(
            ActionResult(action: action, error: error, started: fixture.now, ended: fixture.now)),
          at: fixture.now)
        changes += next.changes
        actions += next.actions
      }
      _ = try outcome.answers[0].1.get()
      return changes.reversed().lazy.compactMap {
        if case .putOperation(let operation) = $0 { operation } else { nil }
      }.first
    }

    func modify(_ value: JSONValue) -> Request {
      .modifyInfo(
        id, ModifyVnfInfoRequest(patch: ["vnfConfigurableProperties": .object(["q": value])]))
    }
  }

  @Test func aPropertyBeginsAsTheParameterOfItsName() throws {
    let world = try World()
    #expect(world.instance.settled.parameters == ["q": .integer(1)])
    #expect(world.instance.info.configurableProperties == ["q": .integer(1)])
  }

  @Test func everyFunctionIsToldBeforeTheOperationEnds() throws {
    var world = try World()
    let before = world.instance
    let operation = try world.perform(world.modify(.integer(2)))
    #expect(operation?.state == .completed)
    #expect(
      operation?.changedInfo == ["vnfConfigurableProperties": .object(["q": .integer(2)])])
    #expect(world.told == [.integer(2), .integer(2)])
    #expect(world.instance.settled.parameters == ["q": .integer(2)])
    #expect(world.instance.settled.generation == before.settled.generation + 1)
    // Nothing was started anew.
    #expect(world.instance.settled.vnfcs == before.settled.vnfcs)
    // Without a value it is as the descriptor has it.
    _ = try world.perform(world.modify(.null))
    #expect(world.instance.settled.parameters == ["q": .integer(0)])
  }

  @Test func whatDoesNotChangeIsToldNobody() throws {
    var world = try World()
    #expect(try world.perform(world.modify(.integer(1)))?.state == .completed)
    #expect(world.told == [])
  }

  /// One has taken it, one refuses: both go on as before, and the instance is free at once.
  @Test func aRefusedConfigurationIsTakenBack() throws {
    var world = try World()
    let operation = try world.perform(world.modify(.integer(2)), answers: [nil, Self.refusal])
    #expect(operation?.state == .failed && operation?.error == Self.refusal)
    #expect(operation?.changedInfo == [:])
    #expect(world.told == [.integer(2), .integer(2), .integer(1), .integer(1)])
    #expect(world.instance.settled.parameters == ["q": .integer(1)])
    #expect(world.instance.info.configurableProperties == ["q": .integer(1)])
    #expect(world.instance.openOperation == nil && world.instance.target == nil)
    #expect(try world.perform(world.modify(.integer(4)))?.state == .completed)
  }

  /// Who is not reached may be later: the client decides.
  @Test func whoIsNotReachedIsAskedAgain() throws {
    var world = try World()
    let lost = NFVError(.timeout, "it does not answer")
    let operation = try #require(try world.perform(world.modify(.integer(2)), answers: [lost]))
    #expect(operation.state == .failedTemp)
    #expect(world.instance.settled.parameters == ["q": .integer(1)])
    #expect(try world.perform(.retry(operation.id))?.state == .completed)
    #expect(world.instance.settled.parameters == ["q": .integer(2)])

    let again = try #require(try world.perform(world.modify(.integer(3)), answers: [lost]))
    #expect(try world.perform(.fail(again.id))?.state == .failed)
    #expect(world.instance.settled.parameters == ["q": .integer(2)])
    #expect(world.told.last == .integer(2))
  }

  /// A daemon that begins tells those that have an earlier document than was settled.
  @Test func whatAnEarlierDaemonDidNotTellIsTold() throws {
    var world = try World()
    _ = try world.perform(world.modify(.integer(2)))
    let generation = world.instance.settled.generation
    let vnfcs = world.fixture.core.state.vnfcs(of: world.id)
    // The fixture commits requests only; the store lacks what `perform` did.
    var core = world.fixture.core
    let ids = vnfcs.map { core.state.workload($0, incarnation: $0.incarnation) }
    core.isHostKnown = false
    let links = zip(vnfcs, ids).flatMap { (vnfc, id) in
      vnfc.ports.map { ObservedNetworks.Link(workload: id, port: $0.id, isActive: true) }
    }
    let outcome = core.step(
      .observed(
        HostObservation(
          workloads: ids.enumerated().map {
            ObservedWorkload(
              id: $0.element, phase: .running, generation: $0.offset == 0 ? generation - 1 : nil)
          }, networks: .init(links: links))), at: world.fixture.now)
    #expect(outcome.actions == [.configureWorkload(ids[0], generation: generation)])
  }
}
