internal import Archive
internal import LinuxSystem
public import NFVModel

/// An image for measuring the host's own part of a machine's start.
extension ImageBuilder {
  /// QEMU's machines for which there is one.
  public static let firstInstructionMachines = ["pc", "microvm"]

  /// Builds a tinyx image whose kernel writes one octet to its serial port with its first
  /// instructions, and stands still: until then nothing runs but the platform and QEMU.
  /// - Parameters:
  ///   - machine: one of ``firstInstructionMachines``.
  ///   - output: the archive (tar) that is written; replaced where it is there.
  public static func buildFirstInstruction(
    machine: String, to output: String
  ) throws(NFVError) -> BuiltImage {
    try inWorkFolder(of: "first instruction", output) { work in
      // Never unpacked: no Linux is there.
      let initramfs = "\(work)/initramfs"
      let writer = try ArchiveWriter(path: initramfs, format: .cpio)
      try writer.add(file: "init", mode: 0o755, content: [0])
      try writer.finish()
      return try writeMachine(
        MachineConfiguration(
          technology: .tinyx, machine: machine, commandLine: "", minimumMemoryMiB: 16,
          entrypoint: ["/init"], environment: [], workingDirectory: "/", control: false),
        kernel: firstInstructionKernel, initramfs: try read(initramfs), files: [], in: work)
    }
  }

  static var firstInstructionKernel: [UInt8] {
    PVHImage.octets(of: [
      // mov $0x3f8, %dx; mov $'1', %al; out %al, %dx; cli; hlt; jmp back to the hlt.
      0x66, 0xBA, 0xF8, 0x03, 0xB0, 0x31, 0xEE, 0xFA, 0xF4, 0xEB, 0xFD,
    ])
  }
}
