import Archive
import FoundationEssentials
import LinuxSystem
import NFVModel
import TestSupport
import Testing

@testable import NFVImages

/// Images of network functions, from a source that a script stands for.
@Suite struct FunctionTests {
  private let folder: TemporaryFolder
  private let source: FunctionSource

  init() throws {
    folder = try TemporaryFolder()
    let script = """
      #!/bin/sh
      set -eu
      cd "$(dirname "$0")"
      [ "$1" != broken ] || { echo "Main.swift:3: error: no such thing"; exit 1; }
      mkdir -p .build
      echo "built" >> .build/count
      echo "program $1" > ".build/$1$(cat suffix)"
      """
    for (package, suffix) in [("", ""), ("Unikernel/", ".elf")] {
      let place = "checkout/NetworkFunctions/\(package)"
      for name in ["broken", "echo"] {
        try folder.write("\(place)Sources/\(name)/Main.swift", "")
      }
      try folder.write("\(place)Sources/Library/Value.swift", "")
      try folder.write("\(place)suffix", suffix)
      let build = try folder.write("\(place)build", script)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: build)
    }
    source = try FunctionSource(folder.path + "/checkout")
  }

  private func builds(_ package: String = "") throws -> Int {
    try folder.read("checkout/NetworkFunctions/\(package).build/count").count { $0 == 10 }
  }

  @Test func whatIsBuiltIsBuiltAgainOnlyWhereTheSourceIsNewer() throws {
    #expect(source == (try FunctionSource(folder.path + "/checkout/NetworkFunctions")))
    #expect(source.names(.program) == ["broken", "echo"])
    var said: [String] = []
    let path = try source.build("echo", as: .program) { said.append($0) }
    #expect(path == "\(source.folder)/.build/echo")
    #expect(try text(path) == "program echo\n")
    #expect(said.count == 1 && said[0].contains("NetworkFunctions/build echo"))
    _ = try source.build("echo", as: .program) { said.append($0) }
    #expect(try builds() == 1 && said.count == 1)
    // A unikernel has sources in both folders.
    #expect(try source.build("echo", as: .unikernel).hasSuffix("/Unikernel/.build/echo.elf"))
    _ = try source.build("echo", as: .unikernel)
    #expect(try builds("Unikernel/") == 1)
    // The file system's clock is coarse.
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSinceNow: 60)],
      ofItemAtPath: source.folder + "/Sources/Library/Value.swift")
    _ = try source.build("echo", as: .program)
    _ = try source.build("echo", as: .unikernel)
    #expect(try builds() == 2 && builds("Unikernel/") == 2)
  }

  @Test func whatCannotBeBuiltIsToldWithWhatToDo() throws {
    func message(_ body: () throws(NFVError) -> Void) -> String {
      do throws(NFVError) {
        try body()
        return ""
      } catch {
        return error.description
      }
    }
    #expect(
      message { () throws(NFVError) in _ = try source.build("nothing", as: .program) }
        .contains("there are broken, echo"))
    #expect(
      message { () throws(NFVError) in _ = try source.build("broken", as: .program) }
        .contains("Main.swift:3: error: no such thing"))
    #expect(
      message { () throws(NFVError) in _ = try FunctionSource(folder.path) }
        .contains("no source of network functions"))
  }

  /// The image has the program, what a container's file systems are mounted on, and nothing else of
  /// the host.
  @Test func aContainerOfAFunctionHasItsProgramAlone() async throws {
    var recipe = ImageRecipe(name: "echo")
    recipe.function = "echo"
    recipe.add(functionProgram: try source.build("echo", as: .program))
    let one = try ImageBuilder.build(recipe, in: ".", to: folder.path + "/1.tar")
    let two = try ImageBuilder.build(recipe, in: ".", to: folder.path + "/2.tar")
    #expect(one == two)
    let store = try folder.store()
    let image = try await store.ensure(try await store.importArchive(at: folder.path + "/1.tar"))
    #expect(image.configuration.entrypoint == ["/echo"])
    #expect(try text(image.root + "/echo") == "program echo\n")
    #expect(FileManager.default.isExecutableFile(atPath: image.root + "/echo"))
    #expect(
      try listFolder(image.root) == ["dev", "echo", "etc", "proc", "run", "sys", "tmp", "var"])
  }
}
