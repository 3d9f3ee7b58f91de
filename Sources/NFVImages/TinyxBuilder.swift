internal import Archive
internal import FoundationEssentials
internal import LinuxSystem
internal import NFVModel

/// Images of tiny machines: the recipe's root with an init and the modules that it loads, as Linux
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
  /// the tracer's own (0.09 s). What guards a kernel against its own programs' speculation guards
  /// nothing where one function is the whole machine: its host guards itself.
  static let commandLine =
    "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests "
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
    try Self.inWorkFolder(of: recipe.name, output) { work in
      let initramfsPath = "\(work)/initramfs"
      let names = try writeRoot(to: initramfsPath, .cpio)
      let initramfs = try Self.read(initramfsPath)
      return try Self.writeMachine(
        MachineConfiguration(
          technology: .tinyx, machine: "pc", commandLine: Self.commandLine,
          // The archive and what it unpacks to are there together for a moment.
          minimumMemoryMiB: Self.kernelMemoryMiB + 2 * initramfs.count >> 20,
          entrypoint: entrypoint, environment: recipe.env ?? Self.environment,
          workingDirectory: recipe.workdir ?? "/"),
        kernel: kernel, initramfs: initramfs, files: names, in: work)
    }
  }
}
