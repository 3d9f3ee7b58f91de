import Archive
import FoundationEssentials
import NFVModel
import NFVPackages
import TestSupport
import Testing

/// Input that was made to break a reader: it ends in diagnostics, soon.
@Suite struct HostileInputTests {
  let folder: TemporaryFolder
  let descriptor: String

  init() throws {
    folder = try TemporaryFolder()
    try PackageProject(folder: "\(folder.path)/hello").create(name: "hello")
    descriptor = String(decoding: try folder.read("hello/Definitions/hello.yaml"), as: UTF8.self)
  }

  private func lint(_ text: String) throws -> [PackageDiagnostic] {
    try folder.write("hello/Definitions/hello.yaml", text)
    return PackageProject(folder: "\(folder.path)/hello").lint()
  }

  private func errors(_ text: String) throws -> [PackageDiagnostic] {
    try lint(text).filter { $0.severity == .error }
  }

  @Test(arguments: ["[", "{", "- ", "{a: ", "? "])
  func deepNestingIsRefused(opening: String) throws {
    let text = "a: \n " + String(repeating: opening, count: 200_000)
    #expect(try !errors(text).isEmpty)
  }

  /// Deep, but well formed: what a parser accepts a reader must bound.
  @Test func deepDocumentIsRefused() throws {
    let text =
      "a: " + String(repeating: "[", count: 900) + String(repeating: "]", count: 900) + "\n"
    #expect(try errors(text).contains { $0.message.contains("64 levels") })
  }

  /// A mapping's keys are compared while it is composed: an alias there unfolds at once.
  @Test(arguments: ["? *a9\n: x\n", "*a9 : x\n", "k: { [*a9]: x }\n", "k:\n  ? [*a9]\n  : x\n"])
  func aliasesInKeysAreRefused(key: String) throws {
    var bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1...9 {
      let aliases = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
      bomb += "a\(level): &a\(level) [\(aliases)]\n"
    }
    let start = ContinuousClock.now
    #expect(try errors(bomb + key).contains { $0.message.contains("aliases") })
    #expect(ContinuousClock.now - start < .seconds(5))
  }

  @Test func harmlessAliasesAreRead() throws {
    let text = descriptor.replacing("32 MB", with: "&size 32 MB")
      .replacing("8 MB", with: "*size")
    #expect(text != descriptor)
    #expect(try errors(text).isEmpty)
  }

  @Test(arguments: [
    ("32 MB", "999999999999 TB", "no size"), ("32 MB", "-1 MB", "no size"),
    ("32 MB", "1e400 MB", "no size"),
    ("cpu_resource_limit: 500", "cpu_resource_limit: 9223372036854775807", "100,000"),
    ("max_number_of_instances: 1", "max_number_of_instances: 9223372036854775807", "100,000"),
    ("min_number_of_instances: 1", "min_number_of_instances: -1", "100,000"),
    ("check: running", "check: tcp", "65535"),
  ])
  func numbersBeyondAllMeasureAreRefused(from: String, to: String, message: String) throws {
    #expect(descriptor.contains(from))
    let found = try errors(descriptor.replacing(from, with: to))
    let one = try #require(found.first { $0.message.contains(message) }, "\(found)")
    #expect(one.file == "Definitions/hello.yaml" && one.line > 1 && one.column > 1)
  }

  @Test func keyThatIsThereTwiceIsNamedWithItsPlace() throws {
    let text = "tosca_definitions_version: tosca_simple_yaml_1_3\na: 1\na: 2\n"
    let one = try #require(try errors(text).first)
    #expect(one.file == "Definitions/hello.yaml")
    #expect(one.line >= 1 && one.message.contains("twice"))
  }

  @Test func syntaxErrorIsNamedWithItsPlace() throws {
    let one = try #require(try errors(descriptor + "\n  bad: [\n").first)
    #expect(one.file == "Definitions/hello.yaml")
    #expect(one.line > 80 && one.column >= 1)
  }

  /// Any change of a good descriptor is read or refused, and never the end of the reader.
  @Test func mutatedDescriptorsEnd() throws {
    var random = SeededGenerator(seed: 11)
    let interesting = [
      "[", "]", "{", "}", ": ", "- ", "&a ", "*a", "? ", "\"", "'", "|\n", "!!x ",
      "-1", "99999999999999999999", "~", "\u{0}", "\u{FEFF}", "\t", "<<: *a",
    ]
    for _ in 0..<400 {
      var lines = descriptor.split(separator: "\n", omittingEmptySubsequences: false).map(
        String.init)
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let index = Int.random(in: 0..<lines.count, using: &random)
        switch Int.random(in: 0..<5, using: &random) {
        case 0: lines.remove(at: index)
        case 1: lines.insert(lines[Int.random(in: 0..<lines.count, using: &random)], at: index)
        case 2: lines[index] = "  " + lines[index]
        case 3: lines[index] = String(lines[index].dropFirst(2))
        default:
          var line = Array(lines[index])
          line.insert(
            contentsOf: interesting.randomElement(using: &random)!,
            at: Int.random(in: 0...line.count, using: &random))
          lines[index] = String(line)
        }
        if lines.isEmpty { break }
      }
      _ = try lint(lines.joined(separator: "\n"))
    }
  }

  /// The same for the archive: damaged anywhere, it is read or refused.
  @Test func damagedPackagesEnd() throws {
    let project = PackageProject(folder: "\(folder.path)/hello")
    let path = "\(folder.path)/hello.csar"
    try project.build(to: path) { _, _, image throws(NFVError) in
      do { try Data([1, 2, 3]).write(to: URL(filePath: image)) } catch {
        throw NFVError(.failed, "test", cause: error)
      }
    }
    let whole = try folder.read("hello.csar")
    var random = SeededGenerator(seed: 13)
    var refused = 0
    for round in 0..<200 {
      var bytes = whole
      if round % 4 == 0 {
        bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
      } else {
        for _ in 0..<Int.random(in: 1...6, using: &random) {
          bytes[Int.random(in: 0..<bytes.count, using: &random)] =
            .random(in: 0...255, using: &random)
        }
      }
      let damaged = try folder.write("damaged.csar", bytes)
      do throws(PackageError) {
        let package = try PackageReader.read(try PackageFiles(archive: damaged))
        // The manifest's hashes vouch for what was read.
        #expect(package.descriptor.id == "hello")
      } catch {
        refused += 1
        #expect(error.diagnostics.contains { $0.severity == .error })
        #expect(error.problem.code == .unprocessable)
      }
    }
    #expect(refused > 50)
  }

  /// Small files are held, but not however many there are.
  @Test(arguments: [(31, true), (33, false)])
  func heldFilesAreBoundedTogether(count: Int, isTaken: Bool) throws {
    let path = "\(folder.path)/many.csar"
    let writer = try ArchiveWriter(path: path, format: .tar)
    let zeros = [UInt8](repeating: 0, count: 1 << 20)
    for index in 0..<count { try writer.add(file: "Files/\(index)", content: zeros) }
    // What is too large to be held does not count.
    try writer.add(file: "Files/image", content: zeros + zeros)
    try writer.finish()
    do throws(PackageError) {
      _ = try PackageFiles(archive: path)
      #expect(isTaken)
    } catch {
      #expect(!isTaken && error.problem.message.contains("32 MiB"), "\(error)")
    }
  }

  /// Each document may have many nodes, but not many such documents.
  @Test func nodesAreBoundedTogether() throws {
    let nodes = "x: [" + String(repeating: "a,", count: 30_000) + "a]\n"
    let version = "tosca_definitions_version: tosca_simple_yaml_1_3\n"
    for name in ["b", "c", "d"] {
      try folder.write("hello/Definitions/\(name).yaml", version + nodes)
    }
    let found = try errors(version + "imports: [b.yaml, c.yaml, d.yaml]\n" + nodes)
    #expect(
      found.contains { $0.file == "Definitions/d.yaml" && $0.message.contains("100,000 nodes") },
      "\(found)")
  }

  /// Published packages list hashes in TOSCA.meta that were taken before a last line end was added:
  /// that is said, and any other difference is refused.
  @Test func metadataHashToleratesALastLineEndOnly() throws {
    func diagnostics(_ script: String) throws -> [PackageDiagnostic] {
      let project = PackageProject(folder: "\(folder.path)/\(script.utf8.count)")
      try project.create(name: "hello")
      try folder.write("\(script.utf8.count)/Files/x.sh", script)
      let meta = String(
        decoding: try folder.read("\(script.utf8.count)/TOSCA-Metadata/TOSCA.meta"), as: UTF8.self)
      // sha256 of "abc" (FIPS 180-4, appendix B.1).
      try folder.write(
        "\(script.utf8.count)/TOSCA-Metadata/TOSCA.meta",
        meta + """

          Source: Files/x.sh
          Algorithm: SHA-256
          Hash: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad

          """)
      return project.lint()
    }
    #expect(try diagnostics("abc").isEmpty)
    #expect(try diagnostics("abc\n").map(\.severity) == [.warning])
    #expect(try diagnostics("abc\n\n").map(\.severity) == [.error])
    #expect(try diagnostics("abcdef").map(\.severity) == [.error])
  }
}
