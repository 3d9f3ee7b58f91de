import FoundationEssentials
import Testing

@testable import NFVModel

/// TOSCA Simple Profile in YAML 1.3, 3.6.3 and 3.6.10.
@Suite struct ValueSchemaTests {
  private static let rule = ValueSchema(
    .object([
      "action": .init(
        ValueSchema(.string, [.among([.string("accept"), .string("drop")])]), isRequired: true),
      "ports": .init(ValueSchema(.string), isRequired: false),
      "limit": .init(ValueSchema(.integer, [.atLeast(1), .atMost(9)]), isRequired: false),
    ]))
  private static let numbers = ValueSchema(.map(of: ValueSchema(.integer)))

  private func check(_ schema: ValueSchema, _ json: String) throws {
    let value = try JSONDecoder().decode(JSONValue.self, from: Data(json.utf8))
    try schema.check(value, called: "p")
  }

  @Test(arguments: [
    (ValueSchema(.string), #""a""#), (ValueSchema(.string), "80"),
    (ValueSchema(.integer), #""-5""#), (ValueSchema(.number, [.above(1), .below(2)]), "1.5"),
    (ValueSchema(.boolean), #""true""#),
    (ValueSchema(.integer, [.among([.integer(1), .integer(2)])]), #""2""#),
    (ValueSchema(.list(of: ValueSchema(.integer)), [.length(atLeast: 0, atMost: 2)]), "[1, 2]"),
    (numbers, #"{"a": 1}"#), (rule, #"{"action": "drop", "ports": "80-90", "limit": 9}"#),
    (rule, #"{"action": "drop", "limit": null}"#), (ValueSchema(), #"{"anything": [1, "b"]}"#),
  ])
  func isAllowed(_ schema: ValueSchema, _ json: String) throws { try check(schema, json) }

  @Test(arguments: [
    (ValueSchema(.string), #"["a"]"#, "p is a list; it has to be a word"),
    (ValueSchema(.integer), "1.5", "p is 1.5; it has to be a whole number"),
    (ValueSchema(.integer), "true", "p is true; it has to be a whole number"),
    (ValueSchema(.number), #""many""#, "p is many; it has to be a number"),
    (ValueSchema(.boolean), "1", "p is 1; it has to be true or false"),
    (ValueSchema(.number, [.above(1)]), "1", "p is 1; it has to be more than 1"),
    (ValueSchema(.number, [.below(2.5)]), #""3""#, "p is 3; it has to be less than 2.5"),
    (
      ValueSchema(.string, [.length(atLeast: 2, atMost: 3)]), #""a""#,
      "p has a length of 1, not of 2 to 3"
    ),
    (
      ValueSchema(.list(of: rule)), #"{"action": "drop"}"#, "p is an object; it has to be a list"
    ),
    (
      ValueSchema(.list(of: rule)), #"[{"action": "drop"}, {"action": "allow"}]"#,
      "p[1].action is allow; it can be accept, drop"
    ),
    (rule, #"{"ports": "80"}"#, "p needs action"),
    (
      rule, #"{"action": "drop", "port": 80}"#,
      "p has no member port; it has action, limit, ports"
    ),
    (rule, #"{"action": "drop", "limit": 10}"#, "p.limit is 10; it has to be at most 9"),
    (numbers, #"{"a": "b"}"#, "p.a is b; it has to be a whole number"),
  ])
  func isRefusedWithItsPlace(_ schema: ValueSchema, _ json: String, _ message: String) {
    let error = #expect(throws: NFVError.self) { try check(schema, json) }
    #expect(error?.code == .unprocessable && error?.message == message)
  }
}
