internal import HTTPTypes
internal import Hummingbird
internal import NFVModel

/// What a list's query asks for: which items (SOL013 5.2), which attributes (5.3), which page (5.4).
struct Listing {
  static let pageSize = 100

  let filter: Filter
  let selection: Selection
  /// Where the page before ended; nil for the first.
  let marker: String?
  private let call: Call

  /// - Parameters:
  ///   - attributes: the names that a filter may use.
  ///   - complex: the attributes that are left out unless they are asked for.
  init(_ call: Call, attributes: Set<String>, complex: Set<String> = []) throws(Problem) {
    self.call = call
    filter = try Filter(call.query("filter"), attributes: attributes)
    selection = try Selection(call, complex: complex)
    marker = call.query("nextpage_opaque_marker")
  }

  /// The answer with one page.
  /// - Parameter next: the marker of the page after it, nil where this is the last.
  func reply<Item>(
    _ items: [Item], next: String?, _ write: (inout JSONWriter, Item) -> Void
  ) -> Reply {
    var headers = HTTPFields()
    if let next {
      var query = call.uri.query.map { $0.split(separator: "&").map(String.init) } ?? []
      query.removeAll { $0.hasPrefix("nextpage_opaque_marker=") }
      query.append("nextpage_opaque_marker=\(next)")
      headers[.link] = "<\(call.uri.path)?\(query.joined(separator: "&"))>; rel=\"next\""
    }
    return .json(headers: headers, capacity: 256 + items.count * 2048) { json in
      json.array { json in
        for item in items { write(&json, item) }
      }
    }
  }

  /// An item's place in a list: the order of creation.
  struct Item<Subject>: Comparable {
    var created: Timestamp
    var id: Identifier<Subject>

    static func < (left: Self, right: Self) -> Bool {
      (left.created, left.id) < (right.created, right.id)
    }
  }

  /// Takes one page of items that are all in memory.
  ///
  /// The marker is the last item's place in the order, so that what is made or removed between two
  /// pages neither repeats an item nor hides one.
  /// - Parameter take: takes an item, or says that it is not wanted.
  /// - Returns: the marker of the next page, nil where this is the last.
  func page<Subject>(
    of items: [Item<Subject>], _ take: (Identifier<Subject>) -> Bool
  ) throws(NFVError) -> String? {
    var items = items
    if let marker {
      let parts = marker.split(separator: ".", maxSplits: 1)
      guard parts.count == 2, let microseconds = Int64(parts[0]) else {
        throw NFVError(.malformed, "nextpage_opaque_marker=\(marker) is none of ours")
      }
      let last = Item<Subject>(
        created: Timestamp(microseconds: microseconds), id: Identifier(String(parts[1])))
      items.removeAll { $0 <= last }
    }
    items.sort()
    var taken = 0
    for (index, item) in items.enumerated() where take(item.id) {
      taken += 1
      if taken == Self.pageSize {
        return index + 1 < items.count ? "\(item.created.microseconds).\(item.id)" : nil
      }
    }
    return nil
  }
}

/// Which complex attributes of a list's items are told (SOL013 5.3).
struct Selection {
  private let excluded: Set<String>

  static let all = Selection(excluded: [])

  private init(excluded: Set<String>) { self.excluded = excluded }

  init(_ call: Call, complex: Set<String>) throws(Problem) {
    func names(_ parameter: String) throws(Problem) -> Set<String>? {
      guard let text = call.query(parameter) else { return nil }
      let names = Set(text.split(separator: ",").map(String.init))
      if let unknown = names.subtracting(complex).min() {
        throw Problem(
          .badRequest,
          "\(parameter): \(unknown) is no complex attribute here; these are: "
            + complex.sorted().joined(separator: ", "))
      }
      return names
    }
    if call.query("all_fields") != nil {
      excluded = []
    } else if let names = try names("fields") {
      excluded = complex.subtracting(names)
    } else if let names = try names("exclude_fields") {
      excluded = names
    } else {
      excluded = complex
    }
  }

  func includes(_ attribute: String) -> Bool { !excluded.contains(attribute) }
}

/// An attribute-based filter (SOL013 5.2): `(eq,instantiationState,INSTANTIATED);(neq,a/b,c)`.
struct Filter {
  enum Comparison: String, CaseIterable {
    case eq, neq, `in`, nin, gt, gte, lt, lte, cont, ncont

    /// Whether it takes one value only.
    var takesOne: Bool {
      switch self {
      case .eq, .neq, .gt, .gte, .lt, .lte: true
      case .in, .nin, .cont, .ncont: false
      }
    }
  }

  struct Term {
    var comparison: Comparison
    var attribute: String
    var values: [String]

    func holds(for actual: String?) -> Bool {
      switch comparison {
      case .eq, .in: actual.map(values.contains) ?? false
      case .neq, .nin: !(actual.map(values.contains) ?? false)
      case .gt: actual.map { Self.isLess(values[0], $0) } ?? false
      case .gte: actual.map { !Self.isLess($0, values[0]) } ?? false
      case .lt: actual.map { Self.isLess($0, values[0]) } ?? false
      case .lte: actual.map { !Self.isLess(values[0], $0) } ?? false
      case .cont: actual.map { text in values.contains { text.contains($0) } } ?? false
      case .ncont: !(actual.map { text in values.contains { text.contains($0) } } ?? false)
      }
    }

    /// Numbers by their value; all else, dates among it, by their characters.
    private static func isLess(_ left: String, _ right: String) -> Bool {
      if let left = Double(left), let right = Double(right) { return left < right }
      return left < right
    }
  }

  let terms: [Term]

  init(_ text: String?, attributes: Set<String>) throws(Problem) {
    guard let text else {
      terms = []
      return
    }
    var parser = Parser(text)
    var terms: [Term] = []
    repeat { terms.append(try parser.term(attributes)) } while parser.skip(";")
    guard parser.isAtEnd else { throw parser.problem("';' and another expression") }
    self.terms = terms
  }

  /// Whether an item is wanted.
  /// - Parameter attribute: the item's value of an attribute, nil where it has none.
  func matches(_ attribute: (String) -> String?) -> Bool {
    terms.allSatisfy { $0.holds(for: attribute($0.attribute)) }
  }

  /// The value that an attribute must have, where the filter says just that.
  func required(_ attribute: String) -> String? {
    terms.first { $0.comparison == .eq && $0.attribute == attribute }?.values.first
  }

  private struct Parser {
    private let text: [Character]
    private var index = 0

    init(_ text: String) { self.text = Array(text) }

    var isAtEnd: Bool { index == text.count }

    func problem(_ expected: String) -> Problem {
      Problem(
        .badRequest,
        "filter: \(expected) is expected at character \(index + 1) of \(String(text)); write "
          + "(eq,attribute,value), several with ';' between them")
    }

    mutating func skip(_ character: Character) -> Bool {
      guard index < text.count, text[index] == character else { return false }
      index += 1
      return true
    }

    mutating func term(_ attributes: Set<String>) throws(Problem) -> Term {
      guard skip("(") else { throw problem("'('") }
      let word = try value()
      guard let comparison = Comparison(rawValue: word) else {
        throw Problem(
          .badRequest,
          "filter: the operator \(word) is not known here; these are: "
            + Comparison.allCases.map(\.rawValue).joined(separator: ", "))
      }
      guard skip(",") else { throw problem("',' and an attribute") }
      let attribute = try value()
      guard attributes.contains(attribute) else {
        throw Problem(
          .badRequest,
          "filter: \(attribute) cannot be filtered by; these can: "
            + attributes.sorted().joined(separator: ", "))
      }
      var values: [String] = []
      while skip(",") { values.append(try value()) }
      guard skip(")") else { throw problem("',' or ')'") }
      guard comparison.takesOne ? values.count == 1 : !values.isEmpty else {
        let count = comparison.takesOne ? "one value" : "one value or more"
        throw Problem(.badRequest, "filter: \(word) of \(attribute) takes \(count)")
      }
      return Term(comparison: comparison, attribute: attribute, values: values)
    }

    /// Up to the next `,` or `)`, or in single quotes, where two quotes are one.
    private mutating func value() throws(Problem) -> String {
      var value = ""
      guard skip("'") else {
        while index < text.count, text[index] != ",", text[index] != ")" {
          value.append(text[index])
          index += 1
        }
        return value
      }
      while index < text.count {
        if skip("'") {
          guard skip("'") else { return value }
          value.append("'")
        } else {
          value.append(text[index])
          index += 1
        }
      }
      throw problem("a closing quote")
    }
  }
}
