internal import Archive
internal import FoundationEssentials
internal import LinuxSystem
internal import NFVModel

/// Virtual machines' images: the recipe's root with an init and the modules that it loads, as Linux
/// unpacks it into memory, beside a kernel.
extension ImageBuilder {
  /// What reaches the host and the other functions, in the order of loading.
  private static let machineModules = ["virtio_pci", "virtio_console", "virtio_net", "virtio_blk"]
  /// Loaded by the init; see GuestInit's `Preparation`.
  private static let moduleList = "etc/martlet/modules"
  /// Of the kernel, besides what the initramfs takes.
  private static let kernelMemoryMiB = 72
  /// `panic=-1` ends a machine that cannot go on. The rest leaves out what nobody needs here and what
  /// costs most where QEMU interprets the guest: self-tests of ciphers (0.2 and 0.17 s of 2.5) and
  /// the tracer's own (0.09 s).
  static let commandLine =
    "console=ttyS0 quiet panic=-1 cryptomgr.notests "
    + "initcall_blacklist=crypto_kdf108_init,init_kprobe_trace"

  static func buildTinyx(
    _ recipe: ImageRecipe, in folder: String, kernel: KernelPackage, initProgram: String,
    to output: String
  ) throws(NFVError) -> BuiltImage {
    guard ["", "0", "root", "0:0"].contains(recipe.user ?? "") else {
      throw NFVError(
        .unprocessable,
        "the recipe \(recipe.name) names the user \(recipe.user ?? ""); a tinyx runs its function "
          + "as root of its own machine")
    }
    let entrypoint = (recipe.entrypoint ?? []) + (recipe.command ?? [])
    guard !entrypoint.isEmpty else {
      throw NFVError(.malformed, "the recipe \(recipe.name) has no entrypoint to start")
    }
    guard let elf = ELF(try read(initProgram)), elf.interpreter == nil else {
      throw NFVError(
        .unavailable,
        "the program \(initProgram), the first of a tinyx, is missing or not static; install "
          + "Martlet again")
    }
    var builder = try ImageBuilder(recipe, in: folder)
    builder.entries["init"] = .file(try read(initProgram), mode: 0o755)
    // Swift's runtime asks for its program's path before anything can mount /proc.
    builder.entries["proc/self/exe"] = .link("/init")
    let modules = try kernel.modules()
    var loaded: [String] = []
    for path in try modules.loadOrder(of: machineModules + (recipe.modules ?? [])) {
      let name = "lib/modules/\(split(path).name)"
      builder.entries[name] = .file(try read("\(modules.folder)/\(path)"), mode: 0o644)
      loaded.append("/\(name)\n")
    }
    builder.entries[moduleList] = .file(Array(loaded.joined().utf8), mode: 0o644)
    return try builder.writeTinyx(recipe, entrypoint, kernel: try kernel.kernel(), to: output)
  }

  private func writeTinyx(
    _ recipe: ImageRecipe, _ entrypoint: [String], kernel: [UInt8], to output: String
  ) throws(NFVError) -> BuiltImage {
    try Self.inWorkFolder(of: recipe, output) { work in
      let initramfsPath = "\(work)/initramfs"
      let names = try writeRoot(to: initramfsPath, .cpio)
      let initramfs = try Self.read(initramfsPath)
      let configuration = TinyxConfiguration(
        commandLine: Self.commandLine,
        // The archive and what it unpacks to are there together for a moment.
        minimumMemoryMiB: Self.kernelMemoryMiB + 2 * initramfs.count >> 20,
        entrypoint: entrypoint, environment: recipe.env ?? Self.environment,
        workingDirectory: recipe.workdir ?? "/")
      let document = try canonicalJSON(configuration)
      let archive = "\(work)/image.tar"
      let writer = try ArchiveWriter(path: archive, format: .tar)
      try writer.add(file: TinyxConfiguration.fileName, content: document)
      try writer.add(file: "kernel", content: kernel)
      try writer.add(file: "initramfs", content: initramfs)
      try writer.finish()
      let manifest = try canonicalJSON(
        OCI.tinyxManifest([document, kernel, initramfs].map { (sha256($0), $0.count) }))
      return (
        archive,
        BuiltImage(
          digest: ImageDigest("sha256:\(sha256(manifest))"),
          size: UInt64(document.count + kernel.count + initramfs.count), files: names)
      )
    }
  }
}

extension OCI {
  static let tinyxType = "application/vnd.martlet.tinyx.config.v1+json"

  /// How the store keeps a tinyx image: as a manifest of its configuration, kernel and initramfs.
  static func tinyxManifest(_ parts: [(digest: String, size: Int)]) -> Manifest {
    let types = [tinyxType, "application/vnd.martlet.kernel", "application/vnd.martlet.initramfs"]
    let descriptors = zip(types, parts).map {
      Descriptor(mediaType: $0, digest: "sha256:\($1.digest)", size: $1.size)
    }
    return Manifest(config: descriptors[0], layers: Array(descriptors[1...]))
  }
}
