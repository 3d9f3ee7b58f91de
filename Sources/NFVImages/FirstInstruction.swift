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

  /// An ELF file (elf(5)) of 64 bits with a PVH note (Xen, docs/misc/pvh.pandoc); its code is entered
  /// in 32-bit protected mode.
  static var firstInstructionKernel: [UInt8] {
    // mov $0x3f8, %dx; mov $'1', %al; out %al, %dx; cli; hlt; jmp back to the hlt.
    let code: [UInt8] = [
      0x66, 0xBA, 0xF8, 0x03, 0xB0, 0x31, 0xEE, 0xFA, 0xF4, 0xEB, 0xFD,
    ]
    let base: UInt64 = 0x10_0000
    func integers(_ width: Int, _ values: UInt64...) -> [UInt8] {
      values.flatMap { value in
        (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
      }
    }
    // XEN_ELFNOTE_PHYS32_ENTRY of "Xen".
    let note = integers(4, 4, 4, 18) + Array("Xen\0".utf8) + integers(4, base)
    let headers: UInt64 = 64 + 2 * 56
    // Little-endian, executable, x86-64; two program headers.
    var image: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
    image += integers(2, 2, 62) + integers(4, 1) + integers(8, base, 64, 0) + integers(4, 0)
    image += integers(2, 64, 56, 2, 0, 0, 0)
    // PT_LOAD, readable and executable; PT_NOTE.
    let size = UInt64(code.count)
    image += integers(4, 1, 5) + integers(8, 0x1000, base, base, size, size, 0x1000)
    let noteSize = UInt64(note.count)
    image += integers(4, 4, 4) + integers(8, headers, 0, 0, noteSize, noteSize, 4)
    image += note
    return image + [UInt8](repeating: 0, count: 0x1000 - image.count) + code
  }
}
