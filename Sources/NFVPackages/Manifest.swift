internal import Crypto

/// The manifest of a package (SOL004 4.3): blocks of `key: value` lines, apart by empty lines.
enum Manifest {
  static func blocks(_ text: String) -> [[String: String]] {
    var blocks: [[String: String]] = [[:]]
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      let line = line.last == "\r" ? line.dropLast() : line
      guard let colon = line.firstIndex(of: ":") else {
        if !(blocks.last?.isEmpty ?? true) { blocks.append([:]) }
        continue
      }
      let key = line[..<colon].trimmed
      // A block begins with its source also where the empty line is missing.
      if key == "Source", blocks.last?["Source"] != nil { blocks.append([:]) }
      blocks[blocks.count - 1][key] = line[line.index(after: colon)...].trimmed
    }
    return blocks
  }

  /// Warns of an archive's files that no manifest has a hash of (SOL004 4.3.2 wants all listed):
  /// nobody would see that one was changed on its way.
  /// - Parameter listed: what manifests have hashes of, and the manifests themselves.
  static func checkAll(of files: PackageFiles, listed: Set<String>, _ findings: Findings) {
    guard files.isArchive else { return }
    let unlisted = files.names.filter {
      !listed.contains($0) && !$0.hasSuffix(".cert") && !$0.hasSuffix(".cms")
    }
    guard let first = unlisted.first else { return }
    let others = unlisted.count > 1 ? " and \(unlisted.count - 1) more" : ""
    findings.add(
      .warning, file: first,
      "no manifest lists a hash of \(first)\(others), so what was changed or damaged there goes "
        + "unseen; `martlet package build` writes one")
  }

  /// Compares the hashes that a manifest lists with the files.
  /// - Returns: the files that it has hashes of.
  /// - Parameter isMetadata: of TOSCA.meta, where published packages list hashes that were taken
  ///   before an editor added the last line end; that one difference is only warned about.
  static func check(
    _ blocks: [[String: String]], _ manifest: String, isMetadata: Bool = false,
    _ files: PackageFiles, _ findings: Findings
  ) -> Set<String> {
    var listed: Set = [manifest]
    for block in blocks {
      guard let source = block["Source"], let hash = block["Hash"] else { continue }
      listed.insert(source)
      guard let file = files.files[source] else {
        if !source.contains("://") {
          findings.add(.error, file: manifest, "\(source) is listed and not in the package")
        }
        continue
      }
      let algorithm = (block["Algorithm"] ?? "").uppercased()
      let actual: String
      switch algorithm {
      case "SHA-256", "SHA256": actual = file.sha256
      case "SHA-512", "SHA512": actual = file.sha512
      default:
        findings.add(
          .error, file: manifest,
          "\(source) is hashed by \(algorithm); SHA-256 and SHA-512 are known")
        continue
      }
      if actual == hash.lowercased() { continue }
      if isMetadata, hashesWithoutLastNewline(of: file).contains(hash.lowercased()) {
        findings.add(
          .warning, file: manifest,
          "the hash of \(source) is of the file without its last line end; write it anew")
      } else {
        findings.add(
          .error, file: manifest,
          "the hash of \(source) is \(actual.prefix(12))…, listed is \(hash.prefix(12))…: the file "
            + "was changed, or the package was damaged")
      }
    }
    return listed
  }

  private static func hashesWithoutLastNewline(of file: PackageFiles.File) -> [String] {
    guard let content = file.content, content.last == UInt8(ascii: "\n") else { return [] }
    let text = content.dropLast()
    return [hexadecimal(SHA256.hash(data: text)), hexadecimal(SHA512.hash(data: text))]
  }
}

extension Substring {
  fileprivate var trimmed: String {
    var text = self.drop { $0 == " " || $0 == "\t" }
    while let last = text.last, last == " " || last == "\t" || last == "\r" { text.removeLast() }
    return String(text)
  }
}
