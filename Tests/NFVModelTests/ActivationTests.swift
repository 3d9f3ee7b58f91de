import Testing

@testable import NFVModel

extension CoreTests {
  /// The kernel forwards before a program has given it its rules; a function that has its ports for
  /// itself does not before it has its document.
  @Test(arguments: [
    (false, AddressOwner.kernel, true), (true, .kernel, false), (true, .function, true),
  ])
  func whatForwardsTakesTrafficOnceItCanJudgeIt(
    forwards: Bool, owner: AddressOwner, isActive: Bool
  ) throws {
    var fixture = try Fixture()
    var content = many(1)
    content.descriptor.flavours[0].vdus[0].forwards = forwards
    content.descriptor.flavours[0].vdus[0].addressOwner = owner
    let id = try fixture.instance(of: content)
    _ = try fixture.ask(.instantiate(id, connected)) { action in
      if case .prepareAttachment = action { true } else { false }
    }
    guard case .prepareAttachment(_, let found)? = fixture.undone.first else {
      Issue.record("\(fixture.undone)")
      return
    }
    #expect(found == isActive)
  }
}
