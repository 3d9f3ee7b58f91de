import LinuxSystem
import Testing

@testable import NFVImages

@Suite struct ELFTests {
  /// A 64-bit little-endian x86-64 shared object with one LOAD over the whole file.
  static let small: [UInt8] = {
    var bytes: [UInt8] = [
      0x7F, 0x45, 0x4C, 0x46,  // magic
      2, 1, 1, 0,  // 64 bits, little-endian, version, ABI
      0, 0, 0, 0, 0, 0, 0, 0,
      3, 0, 62, 0,  // ET_DYN, EM_X86_64
      1, 0, 0, 0,
    ]
    func put(_ value: UInt64, _ width: Int) {
      for index in 0..<width { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }
    put(0, 8)  // e_entry
    put(64, 8)  // e_phoff
    put(0, 8)  // e_shoff
    put(0, 4)  // e_flags
    put(64, 2)  // e_ehsize
    put(56, 2)  // e_phentsize
    put(3, 2)  // e_phnum
    put(0, 6)
    // 64: LOAD at 0x1000, DYNAMIC at 232, INTERP at 312.
    for (type, offset, address, size): (UInt64, UInt64, UInt64, UInt64) in [
      (1, 0, 0x1000, 400), (2, 232, 0x10E8, 80), (3, 312, 0x1138, 6),
    ] {
      put(type, 4)
      put(4, 4)  // p_flags
      put(offset, 8)
      put(address, 8)
      put(address, 8)
      put(size, 8)  // p_filesz
      put(size, 8)  // p_memsz
      put(8, 8)  // p_align
    }
    // 232: DT_NEEDED 1, DT_NEEDED 9, DT_RUNPATH 16, DT_STRTAB 0x1140, DT_NULL.
    for (tag, value): (UInt64, UInt64) in [(1, 1), (1, 9), (29, 16), (5, 0x1140), (0, 0)] {
      put(tag, 8)
      put(value, 8)
    }
    bytes += Array("/ld.so\0\0".utf8)  // 312
    bytes += Array("\0libone\0\0libtwo\0$ORIGIN:/opt\0".utf8)  // 320, the string table
    return bytes + [UInt8](repeating: 0, count: 400 - bytes.count)
  }()

  @Test func whatTheLoaderNeedsIsRead() throws {
    let elf = try #require(ELF(Self.small))
    #expect(elf.machine == 62)
    #expect(elf.interpreter == "/ld.so")
    #expect(elf.needed == ["libone", "libtwo"])
    #expect(elf.searchPath == ["$ORIGIN", "/opt"])
  }

  @Test func aProgramOfThisHostIsRead() throws {
    let elf = try #require(ELF(try readFile("/bin/ls", limit: 1 << 24)))
    #expect(elf.interpreter?.contains("ld-linux") == true)
    #expect(elf.needed.contains("libc.so.6"))
  }

  @Test func whatIsNoProgramIsNone() {
    #expect(ELF([]) == nil)
    #expect(ELF(Array("#!/bin/sh\n".utf8)) == nil)
    // 32 bits; big-endian.
    for (index, value): (Int, UInt8) in [(4, 1), (5, 2)] {
      var bytes = Self.small
      bytes[index] = value
      #expect(ELF(bytes) == nil)
    }
  }

  @Test func damagedProgramsEndInBoundedTime() {
    for count in 0..<Self.small.count { _ = ELF(Array(Self.small.prefix(count))) }
    var state: UInt64 = 1
    func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 33
    }
    for _ in 0..<20_000 {
      var bytes = Self.small
      for _ in 0...(next() % 4) {
        bytes[Int(next()) % bytes.count] =
          [0, 1, 0x7F, 0xFF, UInt8(next() & 0xFF)][Int(next() % 5)]
      }
      if let elf = ELF(bytes) { #expect(elf.needed.count <= 4096) }
    }
  }
}
