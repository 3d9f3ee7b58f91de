internal import NFVModel

/// Reads what a VNF declares of the information that clients may modify (SOL001 6.2.52, 6.2.53):
/// either as data types of the package, by the type of the VNF's property, or by the values that the
/// VNF's node gives.
struct ModifiableReader {
  private let templates: ToscaTemplates
  private var schemas: SchemaReader

  init(templates: ToscaTemplates, findings: Findings) {
    self.templates = templates
    schemas = SchemaReader(templates: templates, findings: findings)
  }

  mutating func read(_ vnf: DescriptorReader.NodeTemplate) -> VnfDescriptor.Modifiable {
    var properties = declared("configurable_properties", of: vnf)
    // The VNF's own ones stand one level below ETSI's.
    let additional = properties.removeValue(forKey: "additional_configurable_properties")
    let attributes = declared("modifiable_attributes", of: vnf)
    return VnfDescriptor.Modifiable(
      configurableProperties: parameters(properties)
        .merging(parameters(members(of: additional))) { $1 },
      metadata: parameters(members(of: attributes["metadata"])),
      extensions: parameters(members(of: attributes["extensions"])))
  }

  /// A property: its definition in a data type, its value, or both.
  private struct Declared {
    var definition: ToscaNode?
    var value: ToscaNode?
  }

  private func declared(
    _ property: String, of vnf: DescriptorReader.NodeTemplate
  ) -> [String: Declared] {
    members(
      of: Declared(
        definition: templates.property(property, in: vnf.type), value: vnf.property(property)))
  }

  /// The members of a property whose type is a data type of the package, and of its value.
  private func members(of parent: Declared?) -> [String: Declared] {
    guard let parent else { return [:] }
    var members: [String: Declared] = [:]
    for (name, definition) in parent.definition?["type"]?.text
      .flatMap({ templates.dataTypes[$0] })?["properties"]?.entries ?? []
    {
      members[name] = Declared(definition: definition)
    }
    for (name, value) in (parent.value ?? parent.definition?["default"])?.entries ?? [] {
      members[name, default: Declared()].value = value
    }
    return members
  }

  private mutating func parameters(
    _ members: [String: Declared]
  ) -> [String: VnfDescriptor.Parameter] {
    var parameters: [String: VnfDescriptor.Parameter] = [:]
    for (name, member) in members.sorted(by: { $0.key < $1.key }) {
      parameters[name] = schemas.parameter(name, member.definition, value: member.value)
    }
    return parameters
  }
}
