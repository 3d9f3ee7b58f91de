internal import Archive
public import NFVModel

/// Virtual machines' images: one archive of a configuration, a kernel and, for Linux, an initramfs.
extension ImageBuilder {
  /// Of a unikernel with up to 4,096 flows.
  private static let unikernelMemoryMiB = 4

  /// Builds a unikernel's image.
  /// - Parameters:
  ///   - kernel: an ELF file with a PVH note.
  ///   - output: the archive (tar) that is written; replaced where it is there.
  /// - Throws: `unprocessable` where QEMU could not start such a kernel.
  public static func buildUnikernel(
    _ kernel: String, to output: String
  ) throws(NFVError) -> BuiltImage {
    let bytes = try read(kernel)
    try MachineImage.checkUnikernel(bytes)
    return try inWorkFolder(of: kernel, output) { work in
      try writeMachine(
        MachineConfiguration(
          technology: .unikernel, machine: "microvm", commandLine: "",
          minimumMemoryMiB: unikernelMemoryMiB, entrypoint: [], environment: [],
          workingDirectory: "/"),
        kernel: bytes, initramfs: nil, files: [], in: work)
    }
  }

  static func writeMachine(
    _ configuration: MachineConfiguration, kernel: [UInt8], initramfs: [UInt8]?,
    files: [String], in work: String
  ) throws -> (archive: String, image: BuiltImage) {
    let document = try canonicalJSON(configuration)
    var parts = [
      (MachineConfiguration.fileName, document), (MachineImage.kernelName, kernel),
    ]
    if let initramfs { parts.append((MachineImage.initramfsName, initramfs)) }
    let archive = "\(work)/image.tar"
    let writer = try ArchiveWriter(path: archive, format: .tar)
    for (name, content) in parts { try writer.add(file: name, content: content) }
    try writer.finish()
    let manifest = try canonicalJSON(
      OCI.machineManifest(parts.map { (sha256($0.1), $0.1.count) }))
    return (
      archive,
      BuiltImage(
        digest: ImageDigest("sha256:\(sha256(manifest))"),
        size: parts.reduce(0) { $0 + UInt64($1.1.count) }, files: files)
    )
  }
}

extension OCI {
  static let machineType = "application/vnd.martlet.machine.config.v1+json"

  /// How the store keeps a machine's image: as a manifest of its configuration, kernel and, where it
  /// has one, initramfs.
  static func machineManifest(_ parts: [(digest: String, size: Int)]) -> Manifest {
    let types = [
      machineType, "application/vnd.martlet.kernel", "application/vnd.martlet.initramfs",
    ]
    let descriptors = zip(types, parts).map {
      Descriptor(mediaType: $0, digest: "sha256:\($1.digest)", size: $1.size)
    }
    return Manifest(config: descriptors[0], layers: Array(descriptors[1...]))
  }
}
