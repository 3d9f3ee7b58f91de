internal import FoundationEssentials
public import NFVModel
internal import Yams

extension JSONValue {
  /// Writes it to a file, and makes the folders on its way.
  func write(to path: String) throws {
    let parent = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    if !parent.isEmpty {
      try FileManager.default.createDirectory(
        atPath: parent.joined(separator: "/"), withIntermediateDirectories: true)
    }
    try Data((compact + "\n").utf8).write(to: URL(filePath: path))
  }

  /// What stands at a path of object keys; `.null` where a part of it is missing.
  subscript(path: String...) -> JSONValue {
    var value = self
    for key in path {
      guard case .object(let members) = value, let member = members[key] else { return .null }
      value = member
    }
    return value
  }

  /// A string, number or boolean as text; empty for null and for what is composed.
  var text: String {
    switch self {
    case .string(let value): value
    case .integer(let value): String(value)
    case .number(let value): String(value)
    case .bool(let value): String(value)
    case .null, .array, .object: ""
    }
  }

  var string: String? {
    if case .string(let value) = self { value } else { nil }
  }

  var integer: Int64? {
    switch self {
    case .integer(let value): value
    case .number(let value): Int64(exactly: value.rounded())
    default: nil
    }
  }

  var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }

  var elements: [JSONValue] {
    if case .array(let elements) = self { elements } else { [] }
  }

  var members: [String: JSONValue] {
    if case .object(let members) = self { members } else { [:] }
  }

  init(parsing octets: [UInt8]) throws {
    self = try JSONDecoder().decode(JSONValue.self, from: Data(octets))
  }

  /// JSON on one line, keys in order.
  var compact: String { encoded([.sortedKeys, .withoutEscapingSlashes]) }

  /// JSON for reading, keys in order, without a line end after it.
  var pretty: String { encoded([.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]) }

  private func encoded(_ formatting: JSONEncoder.OutputFormatting) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = formatting
    // A number that is not finite cannot come out of JSON, and nothing else can fail.
    guard let data = try? encoder.encode(self) else { return "null" }
    return String(decoding: data, as: UTF8.self)
  }

  /// YAML 1.1, keys in order, with a line end after it.
  var yaml: String { (try? serialize(node: node, allowUnicode: true)) ?? "" }

  private var node: Node {
    switch self {
    case .null: Node("null", Tag(.null))
    case .bool(let value): Node(String(value), Tag(.bool))
    case .integer(let value): Node(String(value), Tag(.int))
    case .number(let value): Node(String(value), Tag(.float))
    case .string(let value): Node(value, Tag(.str), value.scalarStyle)
    case .array(let elements): Node(elements.map(\.node), Tag(.seq))
    case .object(let members):
      Node(
        members.sorted { $0.key < $1.key }.map {
          (Node($0.key, Tag(.str), $0.key.scalarStyle), $0.value.node)
        }, Tag(.map))
    }
  }
}

extension String {
  /// Lines stand as lines; what would be read back as something else than a string is quoted.
  fileprivate var scalarStyle: Node.Scalar.Style {
    if contains("\n") { return .literal }
    return isEmpty || Resolver.default.resolveTag(of: Node(self)) != .str ? .doubleQuoted : .any
  }
}

extension JSONValue: ExpressibleByDictionaryLiteral {
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(uniqueKeysWithValues: elements))
  }
}

extension JSONValue: ExpressibleByStringLiteral {
  public init(stringLiteral value: String) { self = .string(value) }
}
