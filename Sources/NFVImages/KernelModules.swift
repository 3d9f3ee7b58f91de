internal import FoundationEssentials
internal import LinuxSystem
internal import NFVModel

/// The modules of a kernel as its package brings them: without the lists that depmod(8) makes when
/// the package is installed.
struct KernelModules {
  /// Of this host: the folder of all modules.
  let folder: String
  /// Paths in the folder by the modules' names.
  private let paths: [String: String]
  private let builtIn: Set<String>

  /// - Parameter folder: such as `lib/modules/6.1.0-1-amd64`.
  init(folder: String) throws(NFVError) {
    self.folder = folder
    var paths: [String: String] = [:]
    do throws(SystemError) {
      try Self.collect("", in: folder, &paths)
    } catch {
      throw NFVError(.unprocessable, "the modules in \(folder) cannot be read", cause: error)
    }
    let list = (try? readFile("\(folder)/modules.builtin", limit: 1 << 20)) ?? []
    builtIn = Set(
      list.split(separator: 10).map { Self.name(of: String(decoding: $0, as: UTF8.self)) })
    self.paths = paths
  }

  private static func collect(
    _ folder: String, in root: String, _ paths: inout [String: String]
  ) throws(SystemError) {
    for entry in try listFolder("\(root)/\(folder)") {
      let path = folder.isEmpty ? entry : "\(folder)/\(entry)"
      if entry.hasSuffix(".ko") {
        paths[name(of: path)] = path
      } else if !entry.contains(".") {
        try collect(path, in: root, &paths)
      }
    }
  }

  /// `virtio_rng` of `kernel/drivers/virtio-rng.ko`.
  private static func name(of path: String) -> String {
    split(path).name.replacing(".ko", with: "").replacing("-", with: "_")
  }

  /// The paths in the folder of modules and of all that they need, each after what it needs; what is
  /// built into the kernel is left out.
  func loadOrder(of names: [String]) throws(NFVError) -> [String] {
    var order: [String] = []
    var seen: Set<String> = []
    for name in names { try add(name, neededBy: nil, &order, &seen) }
    return order
  }

  private func add(
    _ module: String, neededBy other: String?, _ order: inout [String], _ seen: inout Set<String>
  ) throws(NFVError) {
    let name = module.replacing("-", with: "_")
    guard seen.insert(name).inserted, !builtIn.contains(name) else { return }
    guard let path = paths[name] else {
      throw NFVError(
        .unprocessable,
        "the kernel has no module \(name)" + (other.map { ", which \($0) needs" } ?? "")
          + "; see the names in \(folder)")
    }
    let file = "\(folder)/\(path)"
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try readFile(file, limit: 64 << 20)
    } catch {
      throw NFVError(.unprocessable, "\(file) cannot be read", cause: error)
    }
    guard let information = ELF.section(".modinfo", of: bytes) else {
      throw NFVError(.unprocessable, "\(file) is no kernel module")
    }
    for entry in information.split(separator: 0) where entry.starts(with: "depends=".utf8) {
      for needed in entry.dropFirst(8).split(separator: UInt8(ascii: ",")) {
        try add(String(decoding: needed, as: UTF8.self), neededBy: name, &order, &seen)
      }
    }
    order.append(path)
  }
}

extension ELF {
  /// The content of a section by its name; nil where there is none, or the file is damaged.
  static func section(_ name: String, of bytes: [UInt8]) -> ArraySlice<UInt8>? {
    func integer(_ offset: Int, _ width: Int) -> Int? {
      guard offset >= 0, offset <= bytes.count - width else { return nil }
      return Int(
        exactly: (0..<width).reduce(UInt64(0)) { $0 | UInt64(bytes[offset + $1]) << (8 * $1) })
    }
    guard bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]), let table = integer(40, 8),
      let size = integer(58, 2), let count = integer(60, 2), let namesIndex = integer(62, 2),
      table <= bytes.count, size >= 64, namesIndex < count
    else { return nil }
    func content(_ index: Int) -> ArraySlice<UInt8>? {
      guard let offset = integer(table + index * size + 24, 8),
        let length = integer(table + index * size + 32, 8), offset <= bytes.count,
        length <= bytes.count - offset
      else { return nil }
      return bytes[offset..<offset + length]
    }
    guard let names = content(namesIndex) else { return nil }
    for index in 0..<count {
      guard let place = integer(table + index * size, 4), place < names.count else { continue }
      if names.dropFirst(place).prefix(while: { $0 != 0 }).elementsEqual(name.utf8) {
        return content(index)
      }
    }
    return nil
  }
}
