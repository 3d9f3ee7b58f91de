import HoldProtocol
import LinuxSystem
import NFVModel
import Synchronization
import SystemPackage

/// What the driver keeps of each workload on the host: one folder in a file system of memory, from
/// which a new daemon learns what the last one made. It goes last.
struct RunFolder: Sendable {
  /// What stands in a folder's `identity`.
  struct Record: Sendable, Hashable {
    var id: WorkloadID
    var users: UserRange

    var text: String { "\(id)\n\(users.hostStart)\n" }

    init(id: WorkloadID, users: UserRange) {
      self.id = id
      self.users = users
    }

    init?(_ text: String) {
      let lines = text.split(separator: "\n").map(String.init)
      guard lines.count == 2, let id = WorkloadID(lines[0]), let start = UInt32(lines[1]) else {
        return nil
      }
      self.init(id: id, users: UserRange(hostStart: start, count: UserRanges.size))
    }
  }

  /// The workload's folder.
  let path: String

  init(_ id: WorkloadID, in root: String) { path = "\(root)/workloads/\(id.name)" }

  var bundle: String { path }
  var documents: String { path + "/documents" }
  var runtimeLog: String { path + "/runtime.log" }
  var pidFile: String { path + "/pid" }

  var record: Record? {
    (try? readFile(path + "/identity", limit: 1024))
      .flatMap { Record(String(decoding: $0, as: UTF8.self)) }
  }

  /// The main process, once it was started.
  var process: ProcessIdentity? {
    guard let bytes = try? readFile(path + "/process", limit: 1024) else { return nil }
    let lines = String(decoding: bytes, as: UTF8.self).split(
      separator: "\n", omittingEmptySubsequences: false)
    guard lines.count >= 3, let pid = Int32(lines[0]), let ticks = UInt64(lines[1]) else {
      return nil
    }
    return ProcessIdentity(
      pid: pid, startTicks: ticks,
      handle: lines[2].split(separator: " ").compactMap { UInt8($0) })
  }

  func write(_ record: Record) throws(SystemError) {
    try Mount.makeDirectory(path, mode: 0o711)
    try replaceFile(path + "/identity", Array(record.text.utf8), mode: 0o600)
  }

  func write(_ process: ProcessIdentity) throws(SystemError) {
    let handle = process.handle.map { "\($0)" }.joined(separator: " ")
    try replaceFile(
      path + "/process", Array("\(process.pid)\n\(process.startTicks)\n\(handle)\n".utf8),
      mode: 0o600)
  }

  /// The identities of all folders below `root`; what has none is half made or half removed and goes.
  static func records(in root: String) throws(SystemError) -> [Record] {
    var records: [Record] = []
    for name in try listFolder(root + "/workloads") {
      let text = try? readFile("\(root)/workloads/\(name)/identity", limit: 1024)
      if let record = text.flatMap({ Record(String(decoding: $0, as: UTF8.self)) }) {
        records.append(record)
      } else {
        try remove(name, in: root + "/workloads")
      }
    }
    return records
  }

  /// Removes `name` in `folder` with all that is in it.
  static func remove(_ name: String, in folder: String) throws(SystemError) {
    let root: FileDescriptor
    do throws(SystemError) {
      root = try openFile(folder, .path)
    } catch  where error.errno == .noSuchFileOrDirectory {
      return
    }
    defer { try? root.close() }
    try Confined.remove("", name, in: root)
  }
}

/// The uids of the host that workloads' own are mapped upon: ranges of 65,536 from 0x100000 on, one
/// per workload, never one of two at a time.
struct UserRanges: Sendable {
  static let size: UInt32 = 65536
  private static let first: UInt32 = 0x10_0000
  /// The last range ends below 2³¹: some programs read a uid as a signed number.
  private static let count = (0x8000_0000 - first) / size

  private var used: Set<UInt32> = []
  /// Stores of one host begin at different places.
  private var next: UInt32

  init(store: StoreID, used records: [RunFolder.Record]) {
    next = UInt32(truncatingIfNeeded: HostName.hash(store.rawValue)) % Self.count
    for record in records { used.insert(record.users.hostStart) }
  }

  mutating func take() -> UserRange? {
    for _ in 0..<Self.count {
      let start = Self.first + next * Self.size
      next = (next + 1) % Self.count
      if used.insert(start).inserted { return UserRange(hostStart: start, count: Self.size) }
    }
    return nil
  }

  mutating func giveBack(_ range: UserRange) { used.remove(range.hostStart) }
}
