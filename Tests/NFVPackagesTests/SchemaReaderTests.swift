import FoundationEssentials
import NFVModel
import TestSupport
import Testing

@testable import NFVPackages

/// What values a descriptor allows for its parameters (TOSCA Simple Profile in YAML 1.3, 3.6.3, 3.6.10 and
/// 3.7.6).
@Suite struct SchemaReaderTests {
  /// - Parameters:
  ///   - property: the definition of the parameter `p`, one line.
  ///   - types: more data types, without indent.
  private func diagnosed(_ property: String, types: String = "") throws -> (
    schema: ValueSchema?, errors: [String]
  ) {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try FileManager.default.copyItem(
      atPath: Built.project + "/examples/nat44", toPath: folder.path + "/n")
    let path = "n/Definitions/nat44.yaml"
    let text = String(decoding: try folder.read(path), as: UTF8.self)
    let place =
      "    derived_from: tosca.datatypes.nfv.VnfOperationAdditionalParameters\n    properties:\n"
    try #require(text.contains(place))
    let more = types.split(separator: "\n").map { "  \($0)\n" }.joined()
    try folder.write(
      path,
      text.replacing(place, with: "\(place)      p: \(property)\n")
        .replacing("\ndata_types:\n", with: "\ndata_types:\n\(more)"))
    do throws(PackageError) {
      let package = try PackageReader.read(try PackageFiles(folder: folder.path + "/n"))
      return (package.descriptor.parameters["p"]?.schema, [])
    } catch {
      return (nil, error.diagnostics.filter { $0.severity == .error }.map(\.message))
    }
  }

  @Test(arguments: [
    ("{ type: string }", ValueSchema(.string)), ("{ type: float }", ValueSchema(.number)),
    ("{ type: org.example.nobody }", ValueSchema()),
    ("{ type: list, entry_schema: integer }", ValueSchema(.list(of: ValueSchema(.integer)))),
    (
      "{ type: map, entry_schema: { type: string, constraints: [ max_length: 3 ] } }",
      ValueSchema(.map(of: ValueSchema(.string, [.length(atLeast: 0, atMost: 3)])))
    ),
    (
      "{ type: integer, constraints: [ in_range: [ 1, UNBOUNDED ], less_than: 9 ] }",
      ValueSchema(.integer, [.atLeast(1), .below(9)])
    ),
    (
      "{ type: string, constraints: [ valid_values: [ a, 1 ], pattern: x ] }",
      ValueSchema(.string, [.among([.string("a"), .integer(1)])])
    ),
  ])
  func aDefinitionIsRead(_ property: String, _ schema: ValueSchema) throws {
    #expect(try diagnosed(property).schema == schema)
  }

  @Test func aDataTypeHasItsOwnPropertiesAndThoseItIsDerivedFrom() throws {
    let found = try diagnosed(
      "{ type: Child, required: false }",
      types: """
        Port: { derived_from: integer, constraints: [ in_range: [ 1, 65535 ] ] }
        Parent:
          properties:
            port: { type: Port }
            name: { type: string }
        Child:
          derived_from: Parent
          properties:
            name: { type: string, required: false }
        """)
    #expect(
      found.schema
        == ValueSchema(
          .object([
            "port": .init(ValueSchema(.integer, [.atLeast(1), .atMost(65535)]), isRequired: true),
            "name": .init(ValueSchema(.string), isRequired: false),
          ])))
  }

  @Test func aDefaultThatIsNotAllowedRefusesThePackage() throws {
    let found = try diagnosed("{ type: integer, default: 10, constraints: [ less_than: 9 ] }")
    #expect(found.errors == ["p is 10; it has to be less than 9"])
  }

  /// Types that hold each other, and a few that would unfold to 10^12.
  @Test(.timeLimit(.minutes(1)), arguments: [true, false])
  func typesThatUnfoldWithoutEndAreCutOff(_ isCircle: Bool) throws {
    let types =
      isCircle
      ? "T0:\n  properties: { a: { type: T0 }, b: { type: T0 } }"
      : (0..<12).map { level in
        "T\(level):\n  properties:\n"
          + (0..<10).map { "    m\($0): { type: T\(level + 1) }\n" }.joined()
      }.joined()
    #expect(try diagnosed("{ type: T0, required: false }", types: types).schema != nil)
  }

  /// The function would refuse it, and nftables would only tell its log.
  @Test(arguments: [
    ("firewall", "rules", #"[{"action": "accept", "from": "middle"}]"#, "rules[0].from is middle"),
    ("firewall", "rules", #"[{"action": "allow"}]"#, "rules[0].action is allow"),
    ("loadbalancer", "backends", #"[{"state": "drain"}]"#, "backends[0] needs address"),
    ("loadbalancer", "services", #"[{"port": 70000}]"#, "services[0].port is 70000"),
  ])
  func theExamplesSayWhatTheirListsHold(
    _ example: String, _ name: String, _ json: String, _ words: String
  ) throws {
    let value = try JSONDecoder().decode(JSONValue.self, from: Data(json.utf8))
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try PackageProject(folder: folder.path + "/own").create(name: "own", function: example)
    for (path, isExample) in [
      (Built.project + "/examples/\(example)", true), (folder.path + "/own", false),
    ] {
      let descriptor = try PackageReader.read(try PackageFiles(folder: path)).descriptor
      for parameter in [
        isExample ? descriptor.parameters[name] : nil,
        descriptor.modifiable.configurableProperties[name],
      ].compactMap(\.self) {
        let error = #expect(throws: NFVError.self) {
          try parameter.schema.check(value, called: name)
        }
        #expect(error?.message.hasPrefix(words) == true, "\(String(describing: error))")
      }
    }
  }
}
