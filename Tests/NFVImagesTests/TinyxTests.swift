import Archive
import FoundationEssentials
import LinuxSystem
import NFVModel
import TestSupport
import Testing

@testable import NFVImages

/// Images of virtual machines: built from recipes, imported, and refused where they are none.
@Suite struct TinyxTests {
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
    #expect(try listFolder(image.root) == ["initramfs", "kernel", "tinyx.json"])
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
    {"format":"martlet-tinyx","version":1,"architecture":"x86_64","machine":"pc",\
    "commandLine":"quiet","minimumMemoryMiB":96,"entrypoint":["/f"],"environment":[],\
    "workingDirectory":"/","unknown":{"key":1}}
    """

  @Test func anImageWithUnknownKeysIsTaken() async throws {
    let store = try folder.store()
    _ = try await store.importArchive(
      at: try folder.tinyx(Self.configuration, initramfs: try folder.initramfs("init")))
  }

  @Test(arguments: [
    ("\"format\":\"martlet-tinyx\"", "\"format\":\"other\"", "its format is other 1"),
    ("\"version\":1", "\"version\":2", "its format is martlet-tinyx 2"),
    ("x86_64", "riscv64", "it is for riscv64"),
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
      try folder.tinyx(
        Self.configuration.replacing(old, with: new), initramfs: try folder.initramfs("init")),
      message)
  }

  @Test func anInitramfsWithoutInitIsRefused() async throws {
    try await expectRefusal(
      try folder.tinyx(Self.configuration, initramfs: try folder.initramfs("sbin/init")),
      "no program /init")
    try await expectRefusal(
      try folder.tinyx(Self.configuration, initramfs: [1, 2, 3]), "no cpio archive")
    try await expectRefusal(
      try folder.tinyx(Self.configuration, initramfs: []), "initramfs")
  }

  @Test func aKernelThatIsNoneIsRefused() async throws {
    try await expectRefusal(
      try folder.tinyx(
        Self.configuration, kernel: [UInt8](repeating: 7, count: 8192),
        initramfs: try folder.initramfs("init")),
      "neither a bzImage nor an ELF file")
  }

  @Test func anImageThatLacksAPartIsRefused() async throws {
    try await expectRefusal(
      try folder.tinyx(Self.configuration, kernel: nil, initramfs: try folder.initramfs("init")),
      "lacks kernel")
    try await expectRefusal(try folder.tinyx(Self.configuration, initramfs: nil), "lacks initramfs")
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

  fileprivate func tinyx(
    _ configuration: String, kernel: [UInt8]? = kernel, initramfs: [UInt8]?
  ) throws -> String {
    let path = "\(path)/image.tar"
    let writer = try ArchiveWriter(path: path, format: .tar)
    try writer.add(file: "tinyx.json", content: Array(configuration.utf8))
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
    func integer(_ value: Int, _ width: Int) -> [UInt8] {
      (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
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
