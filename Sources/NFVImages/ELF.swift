/// What a loader needs to know of a 64-bit little-endian ELF file (elf(5)).
struct ELF {
  /// e_machine; two files go together where it is the same.
  var machine: UInt64
  var interpreter: String?
  /// DT_NEEDED, in order.
  var needed: [String] = []
  /// DT_RUNPATH, else DT_RPATH; `$ORIGIN` stands for the file's folder.
  var searchPath: [String] = []
  /// Where a machine begins to run it: the address in its note XEN_ELFNOTE_PHYS32_ENTRY (Xen,
  /// public/elfnote.h); nil where it has none.
  var physicalEntry: UInt64?

  /// The e_machine of a file of which the first octets are given; nil where it is no such file.
  static func machine(ofHead head: [UInt8]) -> UInt64? {
    guard head.count >= 20, head.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else { return nil }
    return UInt64(head[18]) | UInt64(head[19]) << 8
  }

  /// Finds the note named `Xen` of type 18 in a segment of notes.
  private static func physicalEntry(
    in start: UInt64, _ length: UInt64, _ integer: (UInt64, Int) -> UInt64?
  ) -> UInt64? {
    let end = start.addingReportingOverflow(length)
    guard !end.overflow else { return nil }
    var place = start
    while place < end.partialValue, let nameSize = integer(place, 4),
      let size = integer(place + 4, 4), let type = integer(place + 8, 4)
    {
      // Both sizes have 32 bits, and a field was read at `place`: the sums cannot overflow.
      let content = place + 12 + (nameSize + 3) & ~3
      if nameSize == 4, integer(place + 12, 4) == 0x6E_6558, type == 18, size == 4 || size == 8 {
        return integer(content, Int(size))
      }
      place = content + (size + 3) & ~3
    }
    return nil
  }

  /// Reads the headers of a program or shared library.
  /// - Returns: nil where it is no such file, or damaged.
  init?(_ bytes: [UInt8]) {
    func integer(_ offset: UInt64, _ width: Int) -> UInt64? {
      guard offset <= UInt64(bytes.count), UInt64(bytes.count) - offset >= UInt64(width) else {
        return nil
      }
      return (0..<width).reduce(0) { $0 | UInt64(bytes[Int(offset) + $1]) << UInt64(8 * $1) }
    }
    func text(_ offset: UInt64) -> String? {
      guard offset < UInt64(bytes.count) else { return nil }
      let rest = bytes[Int(offset)...].prefix(4096)
      guard let end = rest.firstIndex(of: 0) else { return nil }
      return String(decoding: rest[..<end], as: UTF8.self)
    }
    guard bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]), let machine = integer(18, 2),
      let table = integer(32, 8),
      let size = integer(54, 2), let count = integer(56, 2), size >= 56, count <= 1024
    else { return nil }
    self.machine = machine
    var loads: [(address: UInt64, offset: UInt64, size: UInt64)] = []
    var dynamic: (offset: UInt64, size: UInt64)?
    for index in 0..<count {
      let header = table.addingReportingOverflow(index * size)
      guard !header.overflow, header.partialValue < UInt64(bytes.count),
        let type = integer(header.partialValue, 4),
        let offset = integer(header.partialValue + 8, 8),
        let address = integer(header.partialValue + 16, 8),
        let length = integer(header.partialValue + 32, 8)
      else { return nil }
      switch type {
      case 1: loads.append((address, offset, length))
      case 2: dynamic = (offset, length)
      case 3: interpreter = text(offset)
      case 4:
        physicalEntry = physicalEntry ?? Self.physicalEntry(in: offset, length, integer)
      default: continue
      }
    }
    guard let dynamic else { return }
    var strings: UInt64?
    var names: [(tag: UInt64, offset: UInt64)] = []
    for index in 0..<min(dynamic.size / 16, 4096) {
      let entry = dynamic.offset &+ index * 16
      guard let tag = integer(entry, 8), let value = integer(entry &+ 8, 8) else { return nil }
      if tag == 0 { break }
      if tag == 5 {
        // DT_STRTAB is an address in memory.
        strings = loads.first { value >= $0.address && value - $0.address < $0.size }
          .map { value - $0.address &+ $0.offset }
      } else if tag == 1 || tag == 15 || tag == 29 {
        names.append((tag, value))
      }
    }
    guard let strings else { return }
    for (tag, offset) in names {
      guard let name = text(strings &+ offset) else { return nil }
      switch tag {
      case 1: needed.append(name)
      case 29: searchPath = name.split(separator: ":").map(String.init)
      default: if searchPath.isEmpty { searchPath = name.split(separator: ":").map(String.init) }
      }
    }
  }
}
