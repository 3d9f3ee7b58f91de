internal import HTTPTypes
internal import NFVModel

/// A value of a request's body together with its place, so that an error names it:
/// `extVirtualLinks[0].resourceId`.
struct JSONBody {
  let value: JSONValue
  let path: String

  /// Parses a body; an empty one is an empty object.
  init(_ bytes: [UInt8]) throws(Problem) {
    self.init(value: bytes.isEmpty ? .object([:]) : try JSONReader.read(bytes), path: "")
    _ = try members()
  }

  private init(value: JSONValue, path: String) {
    self.value = value
    self.path = path
  }

  private func wrong(_ expected: String) -> Problem {
    Problem(.badRequest, "\(path.isEmpty ? "the body" : path) must be \(expected)")
  }

  /// The member of that name; nil where it is missing or null.
  func member(_ name: String) throws(Problem) -> JSONBody? {
    guard let value = try members()[name], value != .null else { return nil }
    return JSONBody(value: value, path: path.isEmpty ? name : "\(path).\(name)")
  }

  func required(_ name: String) throws(Problem) -> JSONBody {
    guard let found = try member(name) else {
      throw Problem(
        .badRequest, "\(path.isEmpty ? name : "\(path).\(name)") is missing")
    }
    return found
  }

  func members() throws(Problem) -> [String: JSONValue] {
    guard case .object(let members) = value else { throw wrong("an object") }
    return members
  }

  /// The members with their places, sorted by name.
  func entries() throws(Problem) -> [(name: String, body: JSONBody)] {
    try members().sorted { $0.key < $1.key }.map {
      ($0.key, JSONBody(value: $0.value, path: path.isEmpty ? $0.key : "\(path).\($0.key)"))
    }
  }

  func items() throws(Problem) -> [JSONBody] {
    guard case .array(let items) = value else { throw wrong("an array") }
    return items.enumerated().map { JSONBody(value: $1, path: "\(path)[\($0)]") }
  }

  func text() throws(Problem) -> String {
    guard case .string(let text) = value else { throw wrong("a string") }
    return text
  }

  func integer() throws(Problem) -> Int {
    guard case .integer(let number) = value, let number = Int(exactly: number) else {
      throw wrong("a whole number")
    }
    return number
  }

  /// A text that stands for a value, such as an address or a case of an enumeration.
  func parsed<Value>(_ what: String, _ parse: (String) -> Value?) throws(Problem) -> Value {
    guard let value = parse(try text()) else { throw wrong(what) }
    return value
  }

  func oneOf<Value: RawRepresentable & CaseIterable>(
    _: Value.Type = Value.self
  ) throws(Problem) -> Value where Value.RawValue == String {
    try parsed(
      "one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))", Value.init(rawValue:))
  }

  // MARK: Members by type

  func text(_ name: String) throws(Problem) -> String? { try member(name)?.text() }

  func integer(_ name: String) throws(Problem) -> Int? { try member(name)?.integer() }

  func items(_ name: String) throws(Problem) -> [JSONBody] { try member(name)?.items() ?? [] }

  func object(_ name: String) throws(Problem) -> [String: JSONValue] {
    try member(name)?.members() ?? [:]
  }
}
