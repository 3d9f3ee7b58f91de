/// An archive in cpio's `newc` form, as Linux unpacks it into its first root file system
/// (Documentation/driver-api/early-userspace/buffer-format.rst). Everything in it belongs to root.
struct CpioArchive: Sendable {
  private var octets: [UInt8] = []
  private var count: UInt32 = 0

  mutating func addFolder(_ path: String) { add(path, mode: 0o040755, []) }

  /// - Parameter mode: permission bits.
  mutating func addFile(_ path: String, mode: UInt32, _ content: [UInt8]) {
    add(path, mode: 0o100000 | mode & 0o777, content)
  }

  /// The archive with its end.
  func finished() -> [UInt8] {
    var whole = self
    whole.count = 0
    whole.add("TRAILER!!!", mode: 0, [])
    return whole.octets
  }

  private mutating func add(_ path: String, mode: UInt32, _ content: [UInt8]) {
    count += 1
    octets += Array("070701".utf8)
    let fields: [UInt32] = [
      mode == 0 ? 0 : count, mode, 0, 0, 1, 0, UInt32(content.count), 0, 0, 0, 0,
      UInt32(path.utf8.count + 1), 0,
    ]
    for field in fields {
      let digits = String(field, radix: 16, uppercase: true)
      octets += [UInt8](repeating: UInt8(ascii: "0"), count: 8 - digits.utf8.count) + digits.utf8
    }
    octets += path.utf8
    octets.append(0)
    pad()
    octets += content
    pad()
  }

  private mutating func pad() {
    octets += [UInt8](repeating: 0, count: (4 - octets.count % 4) % 4)
  }
}
