import FoundationEssentials
import Testing

@testable import NFVModel

@Suite struct DescriptorCodingTests {
  /// A property that may have no value is not one that needs one, also after it was stored.
  @Test(arguments: [nil, JSONValue.null, .integer(1)])
  func defaultsAreReadAsTheyWereWritten(_ value: JSONValue?) throws {
    let parameter = VnfDescriptor.Parameter(description: "d", default: value)
    let read = try JSONDecoder().decode(
      VnfDescriptor.Parameter.self, from: try JSONEncoder().encode(parameter))
    #expect(read == parameter)
  }
}
