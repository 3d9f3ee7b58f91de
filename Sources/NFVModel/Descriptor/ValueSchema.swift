/// What values a parameter may have: the `type`, `entry_schema` and `constraints` of its property
/// (TOSCA Simple Profile in YAML 1.3, 3.6.10), with the properties of a package's own data types
/// (3.7.6).
///
/// A function reads its parameters as it likes, so that numbers and words are not told apart where the
/// one reads as the other.
public struct ValueSchema: Sendable, Hashable, Codable {
  public indirect enum Kind: Sendable, Hashable, Codable {
    /// A type of which nothing is known here.
    case any
    case string, integer, number, boolean
    case list(of: ValueSchema)
    case map(of: ValueSchema)
    case object([String: Property])
  }

  /// A member of an object.
  public struct Property: Sendable, Hashable, Codable {
    public var schema: ValueSchema
    public var isRequired: Bool

    public init(_ schema: ValueSchema, isRequired: Bool) {
      self.schema = schema
      self.isRequired = isRequired
    }
  }

  /// TOSCA Simple Profile in YAML 1.3, 3.6.3, but for `pattern` and `schema`.
  public enum Constraint: Sendable, Hashable, Codable {
    case among([JSONValue])
    case atLeast(Double)
    case above(Double)
    case atMost(Double)
    case below(Double)
    /// Of a word in characters, of a list in elements.
    case length(atLeast: Int, atMost: Int)
  }

  public var kind: Kind
  public var constraints: [Constraint]

  public init(_ kind: Kind = .any, _ constraints: [Constraint] = []) {
    self.kind = kind
    self.constraints = constraints
  }

  /// - Parameter name: what the value is called to who gave it.
  /// - Throws: `unprocessable` where the value is another than this allows.
  public func check(_ value: JSONValue, called name: String) throws(NFVError) {
    switch (kind, value) {
    case (.any, _), (.string, .string), (.string, .integer), (.string, .number), (.string, .bool):
      break
    case (.integer, _):
      guard value.reading(Int64.init) != nil else { throw wrong(name, value, "a whole number") }
    case (.number, _):
      guard value.reading(Double.init) != nil else { throw wrong(name, value, "a number") }
    case (.boolean, .bool), (.boolean, .string("true")), (.boolean, .string("false")): break
    case (.list(let schema), .array(let elements)):
      for (index, element) in elements.enumerated() {
        try schema.check(element, called: "\(name)[\(index)]")
      }
    case (.map(let schema), .object(let members)):
      for (key, member) in members.sorted(by: { $0.key < $1.key }) {
        try schema.check(member, called: "\(name).\(key)")
      }
    case (.object(let properties), .object(let members)):
      try check(members, properties, name)
    case (.string, _): throw wrong(name, value, "a word")
    case (.boolean, _): throw wrong(name, value, "true or false")
    case (.list, _): throw wrong(name, value, "a list")
    case (.map, _), (.object, _): throw wrong(name, value, "an object")
    }
    for constraint in constraints { try check(value, constraint, name) }
  }

  private func check(
    _ members: [String: JSONValue], _ properties: [String: Property], _ name: String
  ) throws(NFVError) {
    let unknown = members.keys.filter { properties[$0] == nil }
    guard unknown.isEmpty else {
      throw NFVError(
        .unprocessable, "\(name) has no member \(list(unknown)); it has \(list(properties.keys))")
    }
    let missing = properties.filter {
      $0.value.isRequired && members[$0.key, default: .null] == .null
    }
    guard missing.isEmpty else {
      throw NFVError(.unprocessable, "\(name) needs \(list(missing.keys))")
    }
    for (key, member) in members.sorted(by: { $0.key < $1.key }) where member != .null {
      try properties[key]?.schema.check(member, called: "\(name).\(key)")
    }
  }

  private func check(
    _ value: JSONValue, _ constraint: Constraint, _ name: String
  ) throws(NFVError) {
    func compare(_ isRight: (Double) -> Bool, _ words: String) throws(NFVError) {
      // What is no number has no order that all agree on.
      guard let number = value.reading(Double.init), !isRight(number) else { return }
      throw wrong(name, value, words)
    }
    switch constraint {
    case .among(let values):
      guard !values.contains(where: { $0 == value || $0.word != nil && $0.word == value.word })
      else {
        return
      }
      throw NFVError(
        .unprocessable,
        "\(name) is \(value.shown); it can be \(list(values.map(\.shown)))")
    case .atLeast(let bound): try compare({ $0 >= bound }, "at least \(shown(bound))")
    case .above(let bound): try compare({ $0 > bound }, "more than \(shown(bound))")
    case .atMost(let bound): try compare({ $0 <= bound }, "at most \(shown(bound))")
    case .below(let bound): try compare({ $0 < bound }, "less than \(shown(bound))")
    case .length(let least, let most):
      let length: Int
      switch value {
      case .array(let elements): length = elements.count
      case .object(let members): length = members.count
      default: length = value.word?.count ?? 0
      }
      guard (least...max(least, most)).contains(length) else {
        let bounds = most == .max ? "at least \(least)" : "\(least) to \(most)"
        throw NFVError(.unprocessable, "\(name) has a length of \(length), not of \(bounds)")
      }
    }
  }

  private func wrong(_ name: String, _ value: JSONValue, _ words: String) -> NFVError {
    NFVError(.unprocessable, "\(name) is \(value.shown); it has to be \(words)")
  }

  private func shown(_ bound: Double) -> String {
    Int64(exactly: bound).map { "\($0)" } ?? "\(bound)"
  }
}

extension JSONValue {
  /// A scalar as it would be written without quotes.
  fileprivate var word: String? {
    switch self {
    case .string(let text): text
    case .integer(let number): "\(number)"
    case .number(let number): "\(number)"
    case .bool(let value): "\(value)"
    case .null, .array, .object: nil
    }
  }

  /// For messages: who sent it knows it, and long ones are cut.
  fileprivate var shown: String {
    switch self {
    case .null: "nothing"
    case .array: "a list"
    case .object: "an object"
    default: word.map { $0.count > 60 ? "\($0.prefix(60))…" : $0 } ?? ""
    }
  }

  fileprivate func reading<Number>(_ parse: (String) -> Number?) -> Number? {
    switch self {
    case .integer, .number, .string: word.flatMap(parse)
    case .null, .bool, .array, .object: nil
    }
  }
}
