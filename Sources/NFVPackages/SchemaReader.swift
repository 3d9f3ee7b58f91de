internal import NFVModel

/// Reads what values parameters may have (TOSCA Simple Profile in YAML 1.3, 3.6.10 and 3.7.6).
struct SchemaReader {
  let templates: ToscaTemplates
  let findings: Findings
  /// Of all parameters together: a data type is written out wherever it is named, so that a few types
  /// would unfold to millions.
  private var left = 10_000

  init(templates: ToscaTemplates, findings: Findings) {
    self.templates = templates
    self.findings = findings
  }

  /// A parameter by its property's definition, and by the value that the VNF's node gives. A value that
  /// the definition does not allow is found fault with.
  mutating func parameter(
    _ name: String, _ definition: ToscaNode?, value: ToscaNode?
  ) -> VnfDescriptor.Parameter {
    let schema = definition.map { self.schema(of: $0, depth: 0) } ?? ValueSchema()
    let given = value ?? definition?["default"]
    if let given, given.json != .null {
      do throws(NFVError) {
        try schema.check(given.json, called: name)
      } catch {
        findings.add(.error, given, error.message)
      }
    }
    // One that is not required has no value until a client gives one.
    let isOptional = definition?["required"]?.boolean == false
    return .init(
      description: definition?["description"]?.text ?? "",
      default: given?.json ?? (isOptional ? .null : nil), schema: schema)
  }

  /// - Parameter node: a property's definition or an `entry_schema`, which may be a type's name alone.
  private mutating func schema(of node: ToscaNode?, depth: Int) -> ValueSchema {
    left -= 1
    guard let node, depth < 16, left > 0 else { return ValueSchema() }
    var constraints = constraints(of: node)
    var type = node.text ?? node["type"]?.text
    // A data type's own properties before those of what it is derived from.
    var properties: [String: ValueSchema.Property] = [:]
    for _ in 0..<16 {
      guard let name = type, let definition = templates.dataTypes[name] else { break }
      constraints += self.constraints(of: definition)
      for (name, property) in definition["properties"]?.entries ?? [] where properties[name] == nil
      {
        properties[name] = .init(
          schema(of: property, depth: depth + 1),
          isRequired: property["required"]?.boolean != false && property["default"] == nil)
      }
      type = definition["derived_from"]?.text
    }
    guard properties.isEmpty else { return ValueSchema(.object(properties), constraints) }
    let entry = node["entry_schema"]
    let kind: ValueSchema.Kind =
      switch type {
      case "string": .string
      case "integer": .integer
      case "float": .number
      case "boolean": .boolean
      case "list": .list(of: schema(of: entry, depth: depth + 1))
      case "map": .map(of: schema(of: entry, depth: depth + 1))
      default: .any
      }
    return ValueSchema(kind, constraints)
  }

  private func constraints(of node: ToscaNode) -> [ValueSchema.Constraint] {
    (node["constraints"]?.elements ?? []).flatMap(\.entries).flatMap { name, value in
      constraints(name, value)
    }
  }

  private func constraints(_ name: String, _ value: ToscaNode) -> [ValueSchema.Constraint] {
    let number = value.text.flatMap(Double.init)
    switch name {
    case "equal": return [.among([value.json])]
    case "valid_values": return [.among(value.elements.map(\.json))]
    case "greater_or_equal": return number.map { [.atLeast($0)] } ?? []
    case "greater_than": return number.map { [.above($0)] } ?? []
    case "less_or_equal": return number.map { [.atMost($0)] } ?? []
    case "less_than": return number.map { [.below($0)] } ?? []
    case "in_range":
      // Either bound may be UNBOUNDED.
      let bounds = value.elements.map { $0.text.flatMap(Double.init) }
      guard bounds.count == 2 else { return [] }
      return [bounds[0].map { .atLeast($0) }, bounds[1].map { .atMost($0) }].compactMap(\.self)
    case "length": return findings.count(value).map { [.length(atLeast: $0, atMost: $0)] } ?? []
    case "min_length":
      return findings.count(value).map { [.length(atLeast: $0, atMost: .max)] } ?? []
    case "max_length": return findings.count(value).map { [.length(atLeast: 0, atMost: $0)] } ?? []
    default: return []
    }
  }
}
