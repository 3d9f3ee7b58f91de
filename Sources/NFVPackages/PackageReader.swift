internal import FoundationEssentials
internal import Mustache
public import NFVModel

/// A package that was read: its descriptor, and what was found on the way.
public struct ReadPackage: Sendable {
  public var descriptor: VnfDescriptor
  /// Warnings; a package with errors is not read.
  public var diagnostics: [PackageDiagnostic]
  let files: PackageFiles

  /// The paths of the software images that are in the package.
  public var imagePaths: [String] {
    Set(descriptor.flavours.flatMap { $0.vdus.compactMap(\.imagePath) })
      .filter { files.files[$0] != nil }.sorted()
  }

  /// Copies one of its files to a path outside of it, which must not exist.
  public func extract(_ name: String, to path: String) throws(NFVError) {
    do {
      try files.extract(name, to: path)
    } catch {
      throw NFVError(.failed, "\(name) cannot be taken out of the package", cause: error)
    }
  }

  /// The template files that its VDUs name.
  public var templates: [String: String] {
    let sources = Set(descriptor.flavours.flatMap { $0.vdus.flatMap { $0.files.map(\.source) } })
    return Dictionary(
      uniqueKeysWithValues: sources.compactMap { name in files.text(name).map { (name, $0) } })
  }
}

/// Reads VNF packages (SOL004): the manifest's hashes are checked, the descriptor is read, and
/// everything wrong is named with its place.
public enum PackageReader {
  /// - Throws: all that was found, at least one error among it.
  public static func read(_ files: PackageFiles) throws(PackageError) -> ReadPackage {
    let findings = Findings()
    guard let entry = entry(of: files, findings) else {
      throw PackageError(findings.diagnostics)
    }
    let templates = ToscaTemplates(entry: entry, files: files, findings: findings)
    let descriptor =
      findings.hasErrors
      ? nil : DescriptorReader(templates: templates, files: files, findings: findings).read()
    guard let descriptor, !findings.hasErrors else { throw PackageError(findings.diagnostics) }
    checkTemplates(descriptor, files, findings)
    if findings.hasErrors { throw PackageError(findings.diagnostics) }
    return ReadPackage(
      descriptor: descriptor, diagnostics: findings.diagnostics, files: files)
  }

  /// The descriptor's path, from TOSCA.meta or, with the manifest in the root, beside it
  /// (SOL004 4.1.2, 4.1.3); the hashes are checked on the way.
  private static func entry(of files: PackageFiles, _ findings: Findings) -> String? {
    var listed: Set<String> = []
    defer { Manifest.checkAll(of: files, listed: listed, findings) }
    let meta = "TOSCA-Metadata/TOSCA.meta"
    if let text = files.text(meta) {
      let blocks = Manifest.blocks(text)
      let keys = blocks.reduce(into: [:]) { $0.merge($1) { first, _ in first } }
      listed = Manifest.check(blocks, meta, isMetadata: true, files, findings)
      if let manifest = keys["ETSI-Entry-Manifest"] {
        if let text = files.text(manifest) {
          listed.formUnion(Manifest.check(Manifest.blocks(text), manifest, files, findings))
        } else {
          findings.add(
            .error, file: meta, "ETSI-Entry-Manifest names \(manifest), which is missing")
        }
      }
      guard let entry = keys["Entry-Definitions"] else {
        findings.add(.error, file: meta, "Entry-Definitions is missing")
        return nil
      }
      return entry
    }
    let inRoot = files.names.filter { !$0.contains("/") }
    let descriptors = inRoot.filter { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") }
    for manifest in inRoot.filter({ $0.hasSuffix(".mf") }) {
      listed.formUnion(
        Manifest.check(Manifest.blocks(files.text(manifest) ?? ""), manifest, files, findings))
    }
    guard descriptors.count == 1 else {
      findings.add([.noEntry])
      return nil
    }
    return descriptors[0]
  }

  private static func checkTemplates(
    _ descriptor: VnfDescriptor, _ files: PackageFiles, _ findings: Findings
  ) {
    for name in Set(descriptor.flavours.flatMap { $0.vdus.flatMap { $0.files.map(\.source) } })
      .sorted()
    {
      do {
        _ = try MustacheTemplate(string: files.text(name) ?? "")
      } catch {
        findings.add(.error, file: name, "it is no mustache template: \(error)")
      }
    }
  }

  /// Renders a function's templates. Values stand as they are, not escaped for HTML.
  /// - Throws: `unprocessable`, also where a list among the parameters has elements with members that
  ///   none of the templates knows.
  public static func render(
    _ templates: [String], _ document: FunctionDocument
  ) throws(NFVError) -> [String] {
    guard !templates.isEmpty else { return [] }
    try TemplateMembers(templates).check(document.parameters)
    do {
      let values = try values(document)
      return try templates.map { template in
        try MustacheTemplate(string: "{{%CONTENT_TYPE:TEXT}}" + template).render(values)
      }
    } catch {
      throw NFVError(.unprocessable, "a template of the package cannot be rendered", cause: error)
    }
  }

  /// The document as a template sees it: its own fields, and each port by its name as well.
  private static func values(_ document: FunctionDocument) throws -> [String: Any] {
    let data = try JSONEncoder().encode(document)
    let json = try JSONDecoder().decode(JSONValue.self, from: data)
    guard case .object(let fields) = json, case .array(let ports)? = fields["ports"] else {
      return [:]
    }
    var result = fields.compactMapValues(plain)
    var byName: [String: Any] = [:]
    for case .object(let port) in ports {
      guard case .string(let name)? = port["name"] else { continue }
      var values = port.compactMapValues(plain)
      if case .array(let addresses)? = port["addresses"] {
        let bare = addresses.compactMap { value -> String? in
          guard case .string(let text) = value else { return nil }
          return text.split(separator: "/").first.map(String.init)
        }
        values["ipv4"] = bare.first { !$0.contains(":") }
        values["ipv6"] = bare.first { $0.contains(":") }
      }
      byName[name] = values
    }
    result["port"] = byName
    return result
  }

  private static func plain(_ value: JSONValue) -> Any? {
    switch value {
    case .null: nil
    case .bool(let value): value
    case .integer(let value): value
    case .number(let value): value
    case .string(let value): value
    case .array(let values): values.compactMap(plain)
    case .object(let fields): fields.compactMapValues(plain)
    }
  }
}
