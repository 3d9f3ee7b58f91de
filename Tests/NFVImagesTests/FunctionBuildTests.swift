import FoundationEssentials
import LinuxSystem
import NFVModel
import TestSupport
import Testing

@testable import NFVImages

extension Facility {
  /// A kernel for tiny machines, as `make setup` keeps one.
  static let machineKernel = Facility("kernel", (try? KernelPackage.kept()) != nil)
}

/// `martlet function build` as who types it, on the source of this checkout: what is not built yet, or
/// is older than the source, takes the compiler its time.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct FunctionBuildTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder(mode: 0o711) }

  /// - Returns: what the store makes of the archive.
  private func build(_ name: String, _ form: String) async throws -> PreparedImage {
    let archive = "\(folder.path)/\(name).\(form).tar"
    let errors = "\(folder.path)/errors"
    func run(_ output: String) throws -> String {
      let result = try runProgram(
        "/bin/sh",
        arguments: [
          "sh", "-c", #"file=$1; shift; exec "$@" 2>"$file""#, "sh", errors,
          Built.program("martlet"), "function", "build", name, "--form", form, "-o", output,
          "--source", "\(Built.project)/NetworkFunctions",
        ])
      let words = String(decoding: try readFile(errors, limit: 1 << 16), as: UTF8.self)
      #expect(result.status == 0, "\(words)")
      #expect(words.contains("\(output): "), "\(words)")
      return String(decoding: result.output, as: UTF8.self)
    }
    let digest = try run(archive)
    // The same sources give the same octets.
    #expect(try run("\(folder.path)/again.tar") == digest)
    #expect(try folder.read("again.tar") == folder.read("\(name).\(form).tar"))
    let store = try folder.store()
    let image = try await store.ensure(try await store.importArchive(at: archive))
    #expect("\(image.digest.rawValue)\n" == digest)
    return image
  }

  @Test func asAContainerItIsItsProgram() async throws {
    let image = try await build("nat44", "container")
    #expect(image.technology == .container)
    #expect(image.configuration.entrypoint == ["/nat44"])
    let program = try readFile("\(image.root)/nat44", limit: 2 << 20)
    // An ELF file for x86-64 that no other file interprets: static, and below 1 MB.
    #expect(program.starts(with: [0x7f, 0x45, 0x4c, 0x46]) && program.count < 1_000_000)
    #expect(program[18] == 62 && !program.contains("/lib64/ld-linux".utf8))
  }

  @Test func asAUnikernelItIsWhatAMachineBoots() async throws {
    let image = try await build("nat44", "unikernel")
    #expect(image.technology == .unikernel)
    #expect(image.size < 64 << 10)
    #expect(try listFolder(image.root) == ["kernel", "machine.json"])
  }

  @Test(.needs(.machineKernel))
  func asATinyxItIsItsProgramBesideAKernel() async throws {
    let image = try await build("nat44", "tinyx")
    #expect(image.technology == .tinyx)
    #expect(image.configuration.entrypoint == ["/nat44"])
    #expect(try listFolder(image.root) == ["initramfs", "kernel", "machine.json"])
  }

  @Test(arguments: [
    (["firewal", "--form", "unikernel"], "firewall, loadbalancer, nat44"),
    (["firewall", "--form", "standardvm"], "'container', 'tinyx' or 'unikernel'"),
  ])
  func whatThereIsNotIsToldWithWhatThereIs(_ arguments: [String], _ words: String) throws {
    let result = try runProgram(
      Built.program("martlet"),
      arguments: ["martlet", "function", "build"] + arguments + [
        "-o", "\(folder.path)/none.tar", "--source", "\(Built.project)/NetworkFunctions",
      ])
    let text = String(decoding: result.output, as: UTF8.self)
    #expect(result.status != 0 && text.contains(words), "\(text)")
    #expect(try folder.names() == [])
  }
}
