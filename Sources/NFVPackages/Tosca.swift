internal import NFVModel
internal import Yams

/// Collects what is found while a package is read.
final class Findings {
  private(set) var diagnostics: [PackageDiagnostic] = []

  func add(_ severity: PackageDiagnostic.Severity, _ node: ToscaNode, _ message: String) {
    diagnostics.append(
      PackageDiagnostic(
        severity, file: node.file, line: node.line, column: node.column, message: message))
  }

  func add(_ severity: PackageDiagnostic.Severity, file: String, _ message: String) {
    diagnostics.append(PackageDiagnostic(severity, file: file, message: message))
  }

  /// Adds what a document's own reading found.
  func add(_ found: [PackageDiagnostic]) { diagnostics += found }

  /// A number of things of which there are at most 100,000: instances, levels, milli-CPUs.
  func count(_ node: ToscaNode?) -> Int? {
    guard let node else { return nil }
    guard let value = node.integer, (0...100_000).contains(value) else {
      add(.error, node, "\(node.text ?? "this") is no number from 0 to 100,000")
      return nil
    }
    return value
  }

  var hasErrors: Bool { diagnostics.contains { $0.severity == .error } }
}

/// A node of a YAML document with its place, read leniently: what is not there is nil.
struct ToscaNode {
  let file: String
  private let node: Node

  /// Parses a document.
  /// - Parameter nodes: how many a package's documents may yet have; those of this one are taken.
  /// - Throws: a diagnostic where it is no YAML, or its aliases unfold to more than a descriptor has.
  init(file: String, text: String, nodes: inout Int) throws(PackageError) {
    self.file = file
    guard !Self.mayUnfoldInKeys(text) else {
      throw PackageError([
        PackageDiagnostic(
          .error, file: file,
          message: "it has aliases together with mapping keys that are no plain words (`?`, `]:`, "
            + "`}:`); write the aliases out")
      ])
    }
    let found: Node?
    do {
      found = try Yams.compose(yaml: text)
    } catch {
      var line = 0
      var column = 0
      var message = String(describing: error)
      switch error as? YamlError {
      case .scanner(_, let problem, let mark, _)?, .parser(_, let problem, let mark, _)?,
        .composer(_, let problem, let mark, _)?:
        (line, column) = (mark.line, mark.column)
        message = problem
      case .duplicatedKeysInMapping(let keys, let context)?:
        (line, column) = (context.mark.line, context.mark.column)
        message = "the key \(keys.first ?? "") is there twice"
      default: break
      }
      throw PackageError([
        PackageDiagnostic(.error, file: file, line: line, column: column, message: message)
      ])
    }
    guard let found, found.mapping != nil else {
      throw PackageError([
        PackageDiagnostic(.error, file: file, message: "it is no YAML mapping")
      ])
    }
    node = found
    guard Self.isBounded(found, depth: 0, &nodes) else {
      throw PackageError([
        PackageDiagnostic(
          .error, file: file,
          message:
            "the descriptor has more than 100,000 nodes, its aliases written out, or more than "
            + "64 levels; make it smaller")
      ])
    }
  }

  private init(file: String, node: Node) {
    self.file = file
    self.node = node
  }

  /// Whether composing might hash an alias as part of a mapping key, which takes as long as its
  /// unfolded size and happens before that size can be bounded. Errs on the side of yes.
  private static func mayUnfoldInKeys(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
    var hasAlias = false
    var hasComplexKey = false
    /// The last octet that is no blank.
    var previous = UInt8(ascii: "\n")
    var isAlias = false
    for (index, byte) in bytes.enumerated() {
      switch byte {
      case UInt8(ascii: "*"):
        let next = index + 1 < bytes.count ? bytes[index + 1] : 0x20
        if !isBlank(next), next != UInt8(ascii: "\n") {
          hasAlias = true
          isAlias = true
        }
      case UInt8(ascii: "?"):
        let before = index > 0 ? bytes[index - 1] : 0x20
        if isBlank(before) || "\r\n[{,:-".utf8.contains(before) { hasComplexKey = true }
      case UInt8(ascii: ":"):
        if isAlias || "]}".utf8.contains(previous) { hasComplexKey = true }
        isAlias = false
      case UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: ","), UInt8(ascii: "]"):
        isAlias = false
      default: break
      }
      if !isBlank(byte) { previous = byte }
    }
    return hasAlias && hasComplexKey
  }

  /// Aliases are shared when composed and unfold when walked: a walk is cut off at the budget.
  private static func isBounded(_ node: Node, depth: Int, _ budget: inout Int) -> Bool {
    budget -= 1
    guard budget > 0, depth < 64 else { return false }
    switch node {
    case .mapping(let mapping):
      for (key, value) in mapping {
        guard isBounded(key, depth: depth + 1, &budget),
          isBounded(value, depth: depth + 1, &budget)
        else { return false }
      }
    case .sequence(let sequence):
      for element in sequence {
        guard isBounded(element, depth: depth + 1, &budget) else { return false }
      }
    case .scalar, .alias: break
    }
    return true
  }

  var line: Int { node.mark?.line ?? 0 }
  var column: Int { node.mark?.column ?? 0 }

  subscript(_ keys: String...) -> ToscaNode? {
    var current = node
    for key in keys {
      guard let next = current.mapping?[Node(key)] else { return nil }
      current = next
    }
    return ToscaNode(file: file, node: current)
  }

  /// Key and value of a mapping, in its order.
  var entries: [(key: String, value: ToscaNode)] {
    (node.mapping.map(Array.init) ?? []).compactMap { key, value in
      key.string.map { ($0, ToscaNode(file: file, node: value)) }
    }
  }

  var elements: [ToscaNode] {
    (node.sequence.map(Array.init) ?? []).map { ToscaNode(file: file, node: $0) }
  }

  var isMapping: Bool { node.mapping != nil }
  var text: String? { node.scalar?.string }
  var integer: Int? { node.int ?? text.flatMap { Int($0) } }
  var boolean: Bool? { node.bool ?? text.flatMap { Bool($0.lowercased()) } }

  /// The whole as JSON.
  var json: JSONValue {
    switch node {
    case .scalar:
      if node.null != nil { return .null }
      if let value = node.bool { return .bool(value) }
      if let value = node.int { return .integer(Int64(value)) }
      if let value = node.float { return .number(value) }
      return .string(text ?? "")
    case .sequence: return .array(elements.map(\.json))
    case .mapping:
      return .object(Dictionary(entries.map { ($0.key, $0.value.json) }) { first, _ in first })
    case .alias: return .null
    }
  }

  /// A TOSCA scalar-unit.size (TOSCA-Simple-Profile-YAML 3.3.6.4) in octets.
  var bytes: UInt64? {
    guard let text else { return nil }
    let digits = text.prefix { $0.isNumber || $0 == "." }
    let unit = text.dropFirst(digits.count).filter { $0 != " " }
    guard let value = Double(digits), value >= 0, value < 1e15 else { return nil }
    let factors: [String: Double] = [
      "": 1, "B": 1, "KB": 1e3, "KIB": 1024, "MB": 1e6, "MIB": 1_048_576, "GB": 1e9,
      "GIB": 1_073_741_824, "TB": 1e12, "TIB": 1_099_511_627_776,
    ]
    // Up to 1 PB: what is larger is a mistake, and no host's.
    return factors[unit.uppercased()].map { value * $0 }.flatMap { $0 <= 1e15 ? UInt64($0) : nil }
  }
}
