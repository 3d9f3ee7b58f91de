/// The TOSCA documents of a package with what they import, and the types they define.
struct ToscaTemplates {
  /// By path, in the order of import.
  private(set) var documents: [(path: String, root: ToscaNode)] = []
  /// The types that the package itself defines, with the type each is derived from.
  private var parents: [String: String] = [:]
  private(set) var nodeTypes: [String: ToscaNode] = [:]
  private(set) var dataTypes: [String: ToscaNode] = [:]
  /// Of all documents together.
  private var nodesLeft = 100_000
  private let files: PackageFiles
  private let findings: Findings

  /// Reads the entry and all that it imports; ETSI's own types are built in, nothing is fetched.
  init(entry: String, files: PackageFiles, findings: Findings) {
    self.files = files
    self.findings = findings
    load(entry, importedBy: nil)
  }

  private mutating func load(_ path: String, importedBy: ToscaNode?) {
    guard !documents.contains(where: { $0.path == path }) else { return }
    guard documents.count < 64 else {
      return findings.add(.error, file: path, "more than 64 files are imported")
    }
    guard let text = files.text(path) else {
      let message = "\(path) is not in the package, or is no text of at most 1 MiB"
      if let importedBy {
        findings.add(.error, importedBy, message)
      } else {
        findings.add(.error, file: path, message)
      }
      return
    }
    let root: ToscaNode
    do throws(PackageError) {
      root = try ToscaNode(file: path, text: text, nodes: &nodesLeft)
    } catch {
      return findings.add(error.diagnostics)
    }
    if root["tosca_definitions_version"] == nil {
      findings.add(.error, root, "tosca_definitions_version is missing: this is no TOSCA document")
    }
    documents.append((path, root))
    for (section, isNode) in [("node_types", true), ("data_types", false)] {
      for (name, type) in root[section]?.entries ?? [] {
        if isNode { nodeTypes[name] = type } else { dataTypes[name] = type }
        parents[name] = type["derived_from"]?.text
      }
    }
    for item in root["imports"]?.elements ?? [] {
      let file =
        item.text ?? item["file"]?.text
        ?? item.entries.first.flatMap { $0.value.text ?? $0.value["file"]?.text }
      guard let file else {
        findings.add(.error, item, "an import names a file")
        continue
      }
      let name = file.split(separator: "/").last.map(String.init) ?? file
      if name.hasPrefix("etsi_nfv_sol001_") { continue }
      guard !file.contains("://") else {
        findings.add(.error, item, "\(file): nothing is fetched; put the file into the package")
        continue
      }
      load(resolve(file, from: path), importedBy: item)
    }
  }

  /// A path as a document names it: beside the document, or from the package's root.
  func resolve(_ reference: String, from document: String) -> String {
    var parts = document.split(separator: "/").dropLast().map(String.init)
    for part in reference.split(separator: "/") {
      switch part {
      case ".": continue
      case "..": _ = parts.popLast()
      default: parts.append(String(part))
      }
    }
    let beside = parts.joined(separator: "/")
    return files.files[beside] != nil || files.files[reference] == nil ? beside : reference
  }

  /// ETSI's type that a type of the package is derived from; the type itself where it is ETSI's.
  func base(of type: String) -> String {
    var current = type
    for _ in 0..<16 {
      guard let parent = parents[current] else { return current }
      current = parent
    }
    return current
  }

  /// A property's default in the package's own node type.
  func defaultValue(of property: String, in type: String) -> ToscaNode? {
    definitions(of: property, in: type).lazy.compactMap { $0["default"] }.first
  }

  /// A property's definition in the package's own node type.
  func property(_ property: String, in type: String) -> ToscaNode? {
    definitions(of: property, in: type).first
  }

  /// The most derived first.
  private func definitions(of property: String, in type: String) -> [ToscaNode] {
    var definitions: [ToscaNode] = []
    var current: String? = type
    for _ in 0..<16 {
      guard let name = current, let definition = nodeTypes[name] else { break }
      if let found = definition["properties", property] { definitions.append(found) }
      current = parents[name]
    }
    return definitions
  }
}
