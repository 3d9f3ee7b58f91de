import Archive
import FoundationEssentials
import LinuxSystem
import NFVModel
import TestSupport
import Testing

@testable import NFVImages

/// Images of virtual machines: built from recipes, imported, and refused where they are none.
@Suite struct MachineImageTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  // MARK: Building

  @Test(.needs(.dpkg))
  func theSameInputsGiveTheSameImageWhichTheStoreTakes() async throws {
    let kernel = try KernelPackage(
      package: try folder.kernelPackage(), cache: folder.path + "/cache")
    var recipe = ImageRecipe(name: "cat")
    recipe.programs = ["cat"]
    recipe.entrypoint = ["/bin/cat"]
    recipe.command = ["-u"]
    recipe.modules = ["extra"]
    let form = ImageForm.tinyx(kernel: kernel, initProgram: try folder.initProgram())
    let one = try ImageBuilder.build(recipe, as: form, in: "/", to: folder.path + "/1.tar")
    let two = try ImageBuilder.build(recipe, as: form, in: "/", to: folder.path + "/2.tar")
    #expect(one == two)
    #expect(try folder.read("1.tar") == folder.read("2.tar"))

    let store = try folder.store()
    let image = try await store.ensure(
      try await store.importArchive(at: folder.path + "/1.tar"))
    #expect(image.digest == one.digest)
    #expect(image.size == one.size)
    #expect(image.technology == .tinyx)
    #expect(image.configuration.entrypoint == ["/bin/cat", "-u"])
    #expect(try listFolder(image.root) == ["initramfs", "kernel", "machine.json"])
    // What a restarted daemon finds.
    let again = try await folder.store().ensure(image.digest)
    #expect(again == image)

    let reader = try ArchiveReader(initramfs: image.root + "/initramfs")
    var names: [String] = []
    var modules = ""
    while let entry = try reader.next() {
      names.append(entry.path)
      if entry.path == "etc/martlet/modules" {
        modules = String(decoding: try reader.readAll(limit: 4096), as: UTF8.self)
      }
    }
    #expect(names == names.sorted())
    #expect(names.contains("init") && names.contains("usr/bin/cat"))
    #expect(
      modules == """
        /lib/modules/virtio.ko
        /lib/modules/virtio_pci.ko
        /lib/modules/virtio_console.ko
        /lib/modules/virtio-net.ko
        /lib/modules/virtio_blk.ko
        /lib/modules/extra.ko

        """)
    try await store.removeUnused(keeping: [])
    try folder.expectEmptyStore()
  }

  @Test(.needs(.dpkg))
  func whatCannotBeBuiltIsToldWithWhatToDo() throws {
    let kernel = try KernelPackage(
      package: try folder.kernelPackage(), cache: folder.path + "/cache")
    let form = ImageForm.tinyx(kernel: kernel, initProgram: try folder.initProgram())
    func build(_ form: ImageForm, _ change: (inout ImageRecipe) -> Void) -> String {
      var recipe = ImageRecipe(name: "x")
      recipe.entrypoint = ["/bin/cat"]
      change(&recipe)
      do throws(NFVError) {
        _ = try ImageBuilder.build(recipe, as: form, in: "/", to: folder.path + "/x.tar")
        return ""
      } catch {
        return error.message
      }
    }
    #expect(build(form) { $0.modules = ["nowhere"] }.contains("no module nowhere"))
    #expect(build(form) { $0.user = "nobody" }.contains("as root of its own machine"))
    #expect(build(form) { $0.entrypoint = nil }.contains("no entrypoint"))
    let dynamic = ImageForm.tinyx(kernel: kernel, initProgram: "/bin/cat")
    #expect(build(dynamic) { _ in }.contains("install Martlet again"))
    #expect(throws: NFVError.self) {
      try KernelPackage(package: "/nowhere.deb", cache: folder.path + "/cache")
    }
  }

  @Test(.needs(.dpkg))
  func aPackageWithoutAKernelIsRefusedAndNotKept() throws {
    let package = try folder.package("empty", files: ["boot/readme": [1]])
    let error = #expect(throws: NFVError.self) {
      try KernelPackage(package: package, cache: folder.path + "/cache")
    }
    #expect(error?.message.contains("is no kernel package") == true)
    #expect(try listFolder(folder.path + "/cache") == [])
  }

  // MARK: Bad images

  private static let configuration = """
    {"format":"martlet-machine","version":1,"technology":"tinyx","architecture":"x86_64",\
    "machine":"pc","commandLine":"quiet","minimumMemoryMiB":96,"entrypoint":["/f"],"environment":[],\
    "workingDirectory":"/","unknown":{"key":1}}
    """

  @Test func anImageWithUnknownKeysIsTaken() async throws {
    let store = try folder.store()
    _ = try await store.importArchive(
      at: try folder.machine(Self.configuration, initramfs: try folder.initramfs("init")))
  }

  @Test(arguments: [
    ("\"format\":\"martlet-machine\"", "\"format\":\"other\"", "its format is other 1"),
    ("\"version\":1", "\"version\":2", "its format is martlet-machine 2"),
    ("x86_64", "riscv64", "it is for riscv64"),
    ("tinyx", "container", "its technology is container"),
    ("tinyx", "unheard-of", "makes no sense"),
    ("\"machine\":\"pc\"", "\"machine\":\"virt\"", "its machine virt is none of"),
    ("\"commandLine\":\"quiet\",", "", "commandLine is missing"),
    ("\"entrypoint\":[\"/f\"],", "", "entrypoint is missing"),
    ("\"entrypoint\":[\"/f\"]", "\"entrypoint\":[]", "its entrypoint is empty"),
    ("\"minimumMemoryMiB\":96", "\"minimumMemoryMiB\":-1", "minimumMemoryMiB is -1"),
    ("{\"format\"", "\"format\"", "makes no sense"),
  ])
  func aConfigurationThatIsNotForUsIsRefused(
    _ old: String, _ new: String, _ message: String
  ) async throws {
    try await expectRefusal(
      try folder.machine(
        Self.configuration.replacing(old, with: new), initramfs: try folder.initramfs("init")),
      message)
  }

  @Test func anInitramfsWithoutInitIsRefused() async throws {
    try await expectRefusal(
      try folder.machine(Self.configuration, initramfs: try folder.initramfs("sbin/init")),
      "no program /init")
    try await expectRefusal(
      try folder.machine(Self.configuration, initramfs: [1, 2, 3]), "no cpio archive")
    try await expectRefusal(
      try folder.machine(Self.configuration, initramfs: []), "initramfs")
  }

  @Test func aKernelThatIsNoneIsRefused() async throws {
    try await expectRefusal(
      try folder.machine(
        Self.configuration, kernel: [UInt8](repeating: 7, count: 8192),
        initramfs: try folder.initramfs("init")),
      "neither a bzImage nor an ELF file")
  }

  @Test func anImageThatLacksAPartIsRefused() async throws {
    try await expectRefusal(
      try folder.machine(Self.configuration, kernel: nil, initramfs: try folder.initramfs("init")),
      "lacks kernel")
    try await expectRefusal(
      try folder.machine(Self.configuration, initramfs: nil), "lacks initramfs")
  }

  // MARK: Unikernels

  @Test func aUnikernelsImageIsTheSameTwiceAndTheStoreTakesIt() async throws {
    let kernel = try folder.write("f.elf", TemporaryFolder.unikernel())
    let one = try ImageBuilder.buildUnikernel(kernel, to: folder.path + "/1.tar")
    let two = try ImageBuilder.buildUnikernel(kernel, to: folder.path + "/2.tar")
    #expect(one == two)
    #expect(try folder.read("1.tar") == folder.read("2.tar"))
    let store = try folder.store()
    let image = try await store.ensure(try await store.importArchive(at: folder.path + "/1.tar"))
    #expect(image.digest == one.digest && image.size == one.size)
    #expect(image.technology == .unikernel)
    #expect(image.configuration.entrypoint == [])
    #expect(try listFolder(image.root) == ["kernel", "machine.json"])
    #expect(
      try text(image.root + "/machine.json") == #"""
        {"architecture":"x86_64","commandLine":"","entrypoint":[],"environment":[],\#
        "format":"martlet-machine","machine":"microvm","minimumMemoryMiB":4,\#
        "technology":"unikernel","version":1,"workingDirectory":"/"}
        """#)
    #expect(try readFile(image.root + "/kernel", limit: 1 << 20) == TemporaryFolder.unikernel())
  }

  @Test(arguments: ImageBuilder.firstInstructionMachines)
  func theImageOfOneOctetIsTheSameTwiceAndTheStoreTakesIt(machine: String) async throws {
    let one = try ImageBuilder.buildFirstInstruction(machine: machine, to: folder.path + "/1.tar")
    let two = try ImageBuilder.buildFirstInstruction(machine: machine, to: folder.path + "/2.tar")
    #expect(one == two)
    let store = try folder.store()
    let image = try await store.ensure(try await store.importArchive(at: folder.path + "/1.tar"))
    #expect(image.digest == one.digest && image.technology == .tinyx)
    let configuration = try text(image.root + "/machine.json")
    #expect(configuration.contains(#""control":false"#), "\(configuration)")
    #expect(configuration.contains(#""machine":"\#(machine)""#), "\(configuration)")
    #expect(ELF(ImageBuilder.firstInstructionKernel)?.physicalEntry == 0x10_0000)
  }

  /// A note of another name or type, cut off, behind another one.
  @Test func theNoteOfAUnikernelIsFoundWhereItIs() {
    func entry(_ notes: [UInt8]) -> UInt64? {
      ELF(TemporaryFolder.unikernel(notes))?.physicalEntry
    }
    let note = TemporaryFolder.note
    #expect(entry(note("Xen", 18, 0x10_0000)) == 0x10_0000)
    #expect(entry(note("GNU", 18, 1) + note("Xen", 6, 2) + note("Xen", 18, 3)) == 3)
    #expect(entry(note("Xen", 17, 1)) == nil)
    #expect(entry(note("Xes", 18, 1)) == nil)
    #expect(entry([]) == nil)
    let whole = TemporaryFolder.unikernel(note("Xen", 18, 1))
    for length in 0..<whole.count { _ = ELF(Array(whole.prefix(length))) }
    #expect(ELF(Array(whole.dropLast()))?.physicalEntry == nil)
  }

  private static let unikernel = """
    {"format":"martlet-machine","version":1,"technology":"unikernel","architecture":"x86_64",\
    "machine":"microvm","commandLine":"","minimumMemoryMiB":4,"entrypoint":[],"environment":[],\
    "workingDirectory":"/"}
    """

  @Test func aUnikernelThatQEMUCouldNotStartIsRefused() async throws {
    let kernel = TemporaryFolder.unikernel()
    let bad: [(String, [UInt8]?, [UInt8]?, String)] = [
      (Self.unikernel, TemporaryFolder.unikernel([]), nil, "no PVH note"),
      (Self.unikernel, Array("MZ".utf8), nil, "no ELF file"),
      (Self.unikernel, nil, nil, "lacks kernel"),
      (Self.unikernel, kernel, [1], "must not have initramfs"),
      (Self.unikernel.replacing("microvm", with: "pc"), kernel, nil, "a unikernel's is microvm"),
      (
        Self.unikernel.replacing(#""entrypoint":[]"#, with: #""entrypoint":["/f"]"#), kernel, nil,
        "it has an entrypoint"
      ),
    ]
    for (configuration, kernel, initramfs, message) in bad {
      try await expectRefusal(
        try folder.machine(configuration, kernel: kernel, initramfs: initramfs), message)
    }
    let path = try folder.write("none.elf", TemporaryFolder.unikernel([]))
    #expect(throws: NFVError.self) {
      try ImageBuilder.buildUnikernel(path, to: folder.path + "/none.tar")
    }
    #expect(!fileExists(folder.path + "/none.tar"))
  }

  private func expectRefusal(
    _ archive: String, _ message: String, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let store = try folder.store()
    let error = await #expect(throws: NFVError.self, sourceLocation: sourceLocation) {
      try await store.importArchive(at: archive)
    }
    #expect(
      error?.message.contains(message) == true, "\(String(describing: error))",
      sourceLocation: sourceLocation)
    try folder.expectEmptyStore(sourceLocation: sourceLocation)
  }
}

extension Facility {
  static let dpkg = Facility(program: "dpkg-deb")
}

extension TemporaryFolder {
  /// An ELF file without loader, as a static program.
  fileprivate func initProgram() throws -> String {
    try write("init", Self.elf(sections: [:]))
  }

  /// One note of a segment of them (elf(5)): a name of three letters, a type and a value of 4 octets.
  fileprivate static func note(
    _ name: String, _ type: Int, _ value: Int
  ) -> [UInt8] {
    integer(4, 4) + integer(4, 4) + integer(type, 4) + Array(name.utf8) + [0] + integer(value, 4)
  }

  /// An ELF file with one segment, of notes.
  fileprivate static func unikernel(
    _ notes: [UInt8] = note("Xen", 18, 0x10_0000)
  ) -> [UInt8] {
    let header: [UInt8] =
      [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0] + integer(0, 8) + integer(2, 2) + integer(62, 2)
      + integer(1, 4) + integer(0x10_0000, 8) + integer(64, 8) + integer(0, 8) + integer(0, 4)
      + integer(64, 2) + integer(56, 2) + integer(1, 2) + integer(64, 2) + integer(0, 4)
    let segment =
      integer(4, 4) + integer(4, 4) + integer(120, 8) + integer(0, 16) + integer(notes.count, 8)
      + integer(notes.count, 8) + integer(4, 8)
    return header + segment + notes
  }

  private static func integer(_ value: Int, _ width: Int) -> [UInt8] {
    (0..<width).map { $0 < 8 ? UInt8(truncatingIfNeeded: value >> (8 * $0)) : 0 }
  }

  fileprivate func initramfs(_ program: String) throws -> [UInt8] {
    let writer = try ArchiveWriter(path: "\(path)/initramfs", format: .cpio)
    try writer.add(file: program, mode: 0o755, content: [1])
    try writer.finish()
    return try read("initramfs")
  }

  private static let kernel: [UInt8] = {
    var bytes = [UInt8](repeating: 0, count: 4096)
    bytes.replaceSubrange(0x1FE..<0x200, with: [0x55, 0xAA])
    bytes.replaceSubrange(0x202..<0x206, with: "HdrS".utf8)
    return bytes
  }()

  fileprivate func machine(
    _ configuration: String, kernel: [UInt8]? = kernel, initramfs: [UInt8]?
  ) throws -> String {
    let path = "\(path)/image.tar"
    let writer = try ArchiveWriter(path: path, format: .tar)
    try writer.add(file: "machine.json", content: Array(configuration.utf8))
    if let kernel { try writer.add(file: "kernel", content: kernel) }
    if let initramfs { try writer.add(file: "initramfs", content: initramfs) }
    try writer.finish()
    return path
  }

  /// A Debian package.
  fileprivate func package(_ name: String, files: [String: [UInt8]]) throws -> String {
    let root = "\(path)/\(name)"
    var files = files
    files["DEBIAN/control"] = Array(
      "Package: \(name)\nVersion: 1\nArchitecture: all\nMaintainer: n\nDescription: d\n".utf8)
    for (file, bytes) in files {
      try FileManager.default.createDirectory(
        atPath: split("\(root)/\(file)").folder, withIntermediateDirectories: true)
      try Data(bytes).write(to: URL(filePath: "\(root)/\(file)"))
    }
    let program = "/usr/bin/dpkg-deb"
    let result = try runProgram(
      program, arguments: [program, "-Znone", "-b", root, "\(path)/\(name).deb"])
    try #require(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
    return "\(path)/\(name).deb"
  }

  /// A package with a kernel's form and modules' dependencies.
  fileprivate func kernelPackage() throws -> String {
    let modules = "lib/modules/1.0-test"
    func module(_ depends: String) -> [UInt8] {
      Self.elf(sections: [".modinfo": Array("license=GPL\0depends=\(depends)\0name=x\0".utf8)])
    }
    return try package(
      "linux-image-1.0-test",
      files: [
        "boot/vmlinuz-1.0-test": Self.kernel,
        "\(modules)/modules.builtin": Array("kernel/lib/built-in.ko\n".utf8),
        "\(modules)/kernel/drivers/virtio/virtio.ko": module(""),
        "\(modules)/kernel/drivers/virtio/virtio_pci.ko": module("virtio,built_in"),
        "\(modules)/kernel/drivers/virtio_console.ko": module("virtio"),
        "\(modules)/kernel/drivers/virtio-net.ko": module("virtio"),
        "\(modules)/kernel/drivers/virtio_blk.ko": module("virtio"),
        "\(modules)/kernel/net/extra.ko": module(""),
      ])
  }

  /// An ELF file without program headers.
  private static func elf(sections: [String: [UInt8]]) -> [UInt8] {
    var names: [UInt8] = [0]
    var contents: [UInt8] = []
    var headers = [UInt8](repeating: 0, count: 64)
    func header(_ name: Int, _ offset: Int, _ size: Int) -> [UInt8] {
      integer(name, 4) + integer(1, 4) + integer(0, 16) + integer(offset, 8) + integer(size, 8)
        + integer(0, 24)
    }
    for (name, content) in sections.sorted(by: { $0.key < $1.key }) {
      headers += header(names.count, 64 + contents.count, content.count)
      names += Array(name.utf8) + [0]
      contents += content
    }
    headers += header(0, 64 + contents.count, names.count)
    contents += names
    let count = sections.count + 2
    return [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0] + integer(0, 8) + integer(2, 2) + integer(62, 2)
      + integer(1, 4) + integer(0, 8) + integer(64, 8) + integer(64 + contents.count, 8)
      + integer(0, 4) + integer(64, 2) + integer(56, 2) + integer(0, 2) + integer(64, 2)
      + integer(count, 2) + integer(count - 1, 2) + contents + headers
  }
}
