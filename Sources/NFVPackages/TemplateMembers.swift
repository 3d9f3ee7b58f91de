internal import NFVModel

/// What templates know of the elements of lists among a function's parameters: the names that stand in
/// the lists' sections.
///
/// A rule with a member of another name would mean more than the one that was asked for: without its
/// `ports`, which was written `port`, it lets all of them pass.
struct TemplateMembers {
  /// What a document has itself; a dotted name that begins so is none of an element's.
  private static let fields: Set<Substring> = [
    "identity", "ports", "port", "parameters", "generation",
  ]

  /// By the parameters' names.
  private var known: [String: Set<String>] = [:]

  /// - Parameter templates: all that are rendered with the same document.
  init(_ templates: [String]) {
    for template in templates {
      // Of each section that is open, the parameter whose elements it has.
      var sections: [String?] = []
      for tag in template.matches(of: /\{\{\{?\s*([#^\/&>!=%$<]?)\s*([^{}]*?)\s*\}?\}\}/) {
        let (kind, name) = (tag.1, Self.bare(tag.2))
        switch kind {
        case "/": _ = sections.popLast()
        case "#", "^", "", "&":
          let list = sections.last { $0 != nil } ?? nil
          if let list, let member = Self.member(name) { known[list, default: []].insert(member) }
          guard kind == "#" || kind == "^" else { continue }
          let parameter = name.hasPrefix("parameters.") ? String(name.dropFirst(11)) : nil
          if let parameter, kind == "#", known[parameter] == nil { known[parameter] = [] }
          sections.append(kind == "#" ? parameter : nil)
        default: break
        }
      }
    }
  }

  /// A name without what transforms it, `sorted(name)`.
  private static func bare(_ name: Substring) -> Substring {
    guard let begin = name.lastIndex(of: "("), let end = name.firstIndex(of: ")"), begin < end
    else { return name }
    return name[name.index(after: begin)..<end]
  }

  /// The element's member that a name begins with; nil where it is the element, or the document's.
  private static func member(_ name: Substring) -> String? {
    let parts = name.split(separator: ".")
    guard let first = parts.first else { return nil }
    if parts.count > 1, !name.hasPrefix("."), fields.contains(first) { return nil }
    return String(first)
  }

  /// - Throws: `unprocessable`, with the place, where an element has a member that no template knows.
  func check(_ parameters: [String: JSONValue]) throws(NFVError) {
    for (name, value) in parameters.sorted(by: { $0.key < $1.key }) {
      guard case .array(let elements) = value, let known = known[name] else { continue }
      for (index, element) in elements.enumerated() {
        guard case .object(let members) = element else { continue }
        for member in members.keys.sorted() where !known.contains(member) {
          throw NFVError(
            .unprocessable,
            "parameters.\(name)[\(index)].\(member): there is no member of this name here; there are "
              + known.sorted().joined(separator: ", "))
        }
      }
    }
  }
}
