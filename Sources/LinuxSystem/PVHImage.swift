/// The least that QEMU boots as a kernel: an ELF file (elf(5)) of 64 bits whose entry point stands in a
/// note (Xen, docs/misc/pvh.pandoc).
public enum PVHImage {
  /// Code is loaded, and entered in 32-bit protected mode, here.
  public static let base: UInt64 = 0x10_0000

  public static func octets(of code: [UInt8]) -> [UInt8] {
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
    // PT_LOAD, readable, writable and executable; PT_NOTE.
    let size = UInt64(code.count)
    image += integers(4, 1, 7) + integers(8, 0x1000, base, base, size, size, 0x1000)
    let noteSize = UInt64(note.count)
    image += integers(4, 4, 4) + integers(8, headers, 0, 0, noteSize, noteSize, 4)
    image += note
    return image + [UInt8](repeating: 0, count: 0x1000 - image.count) + code
  }
}
