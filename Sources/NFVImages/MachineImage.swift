internal import Archive
internal import FoundationEssentials
internal import LinuxSystem
internal import NFVModel

/// What is done with a virtual machine's image that somebody brings: nothing in it is trusted, and
/// nothing of it but its configuration is ever interpreted on the host.
enum MachineImage {
  static let kernelName = "kernel"
  static let initramfsName = "initramfs"
  private static let maximumConfiguration = 64 << 10
  private static let maximumKernel: UInt64 = 256 << 20
  private static let maximumUnikernel = 64 << 20
  private static let maximumInitramfs: UInt64 = 1 << 30

  /// Reads `machine.json`.
  /// - Parameter source: what errors call the image.
  static func configuration(
    _ bytes: [UInt8], _ source: String
  ) throws(NFVError) -> MachineConfiguration {
    let configuration: MachineConfiguration
    do {
      configuration = try JSONDecoder().decode(MachineConfiguration.self, from: Data(bytes))
    } catch DecodingError.keyNotFound(let key, _) {
      throw NFVError(
        .unprocessable,
        "the machine's image \(source) cannot be taken: \(key.stringValue) is missing in its "
          + MachineConfiguration.fileName)
    } catch {
      throw NFVError(
        .unprocessable,
        "the machine's image \(source) cannot be taken: its \(MachineConfiguration.fileName) makes "
          + "no sense", cause: error)
    }
    try configuration.check(source)
    return configuration
  }

  /// Copies the parts of an archive.
  /// - Parameter part: writes what the pieces are to a blob and says its digest and size.
  /// - Returns: the manifest under which the store keeps the image.
  static func copy(
    _ path: String, limits: ArchiveLimits,
    part: (_ next: () throws -> [UInt8]) throws -> (digest: String, size: UInt64)
  ) throws -> OCI.Manifest {
    let names = [MachineConfiguration.fileName, kernelName, initramfsName]
    var found: [String: (digest: String, size: Int)] = [:]
    var document: [UInt8] = []
    let reader = try ArchiveReader(path: path, limits: limits)
    while let entry = try reader.next() {
      guard let name = safePath(entry.path), names.contains(name) else { continue }
      guard entry.kind == .file, found[name] == nil else {
        throw NFVError(
          .unprocessable, "the machine's image \(path) has \(name) twice, or it is no file")
      }
      let limit =
        switch name {
        case kernelName: maximumKernel
        case initramfsName: maximumInitramfs
        default: UInt64(maximumConfiguration)
        }
      var size: UInt64 = 0
      let written = try part {
        let piece = try reader.read()
        size += UInt64(piece.count)
        guard size <= limit else {
          throw NFVError(
            .tooLarge, "\(name) of the machine's image \(path) has more than \(limit) octets")
        }
        if name == MachineConfiguration.fileName { document += piece }
        return piece
      }
      found[name] = (written.digest, Int(written.size))
    }
    let technology = try configuration(document, path).technology
    return OCI.machineManifest(
      try names.compactMap { name in
        let isWanted = name != initramfsName || MachineConfiguration.hasInitramfs(technology)
        let part = found[name]
        guard isWanted == (part != nil) else {
          throw NFVError(
            .unprocessable,
            "the \(technology.rawValue) image \(path) \(isWanted ? "lacks" : "must not have") \(name);"
              + " build it again: martlet image build, or martlet function build")
        }
        return part
      })
  }

  /// Checks an image's parts and shows them under their names in a new folder; they are shared by
  /// all its instances.
  /// - Parameter blobs: configuration, kernel and, where it has one, initramfs, on the folder's file
  ///   system.
  static func prepare(_ blobs: [String], in root: String) throws {
    let source = "sha256:\(split(blobs[0]).name.prefix(12))"
    let configuration = try configuration(
      try readFile(blobs[0], limit: maximumConfiguration), source)
    switch configuration.technology {
    case .unikernel: try checkUnikernel(try readFile(blobs[1], limit: maximumUnikernel + 1))
    default:
      try checkKernel(blobs[1])
      try checkInitramfs(blobs[2])
    }
    for (name, blob) in zip([MachineConfiguration.fileName, kernelName, initramfsName], blobs) {
      try FileManager.default.linkItem(atPath: blob, toPath: "\(root)/\(name)")
    }
  }

  /// A kernel that QEMU can start: a bzImage (Linux, arch/x86/boot.rst) or an ELF file.
  private static func checkKernel(_ path: String) throws {
    let head = try readFile(path, limit: 4096)
    let isImage =
      head.count > 0x210 && head[0x1FE] == 0x55 && head[0x1FF] == 0xAA
      && head[0x202..<0x206].elementsEqual("HdrS".utf8)
    guard isImage || ELF.machine(ofHead: head) == elfMachine else {
      throw NFVError(
        .unprocessable,
        "the tinyx image cannot be taken: its kernel is neither a bzImage nor an ELF file for "
          + MachineConfiguration.hostArchitecture)
    }
  }

  /// A kernel that QEMU starts directly: an ELF file that names its PVH entry point.
  static func checkUnikernel(_ bytes: [UInt8]) throws(NFVError) {
    guard bytes.count <= maximumUnikernel else {
      throw NFVError(.tooLarge, "the unikernel has more than \(maximumUnikernel) octets")
    }
    guard let elf = ELF(bytes), elf.machine == elfMachine else {
      throw NFVError(
        .unprocessable,
        "the unikernel image cannot be taken: its kernel is no ELF file for "
          + MachineConfiguration.hostArchitecture)
    }
    guard elf.interpreter == nil, elf.physicalEntry != nil else {
      throw NFVError(
        .unprocessable,
        "the unikernel image cannot be taken: its kernel has no PVH note "
          + "(XEN_ELFNOTE_PHYS32_ENTRY), which says where it begins; link one in")
    }
  }

  private static func checkInitramfs(_ path: String) throws {
    var size: UInt64 = 0
    do {
      let reader = try ArchiveReader(
        initramfs: path, limits: ArchiveLimits(bytes: maximumInitramfs))
      while let entry = try reader.next() {
        let name = entry.path.hasPrefix("/") ? String(entry.path.dropFirst()) : entry.path
        if safePath(name) == "init", entry.kind == .file, entry.mode & 0o111 != 0 { return }
        size += entry.size
        guard size <= maximumInitramfs else {
          throw NFVError(
            .tooLarge, "the tinyx image's initramfs unpacks to more than \(maximumInitramfs) octets"
          )
        }
      }
    } catch let error as ArchiveError {
      throw NFVError(
        .unprocessable,
        "the tinyx image cannot be taken: its initramfs is no cpio archive, plain or compressed",
        cause: error)
    }
    throw NFVError(
      .unprocessable,
      "the tinyx image cannot be taken: its initramfs has no program /init to begin with")
  }

  /// e_machine.
  private static var elfMachine: UInt64 {
    #if arch(x86_64)
      62
    #else
      183
    #endif
  }
}
