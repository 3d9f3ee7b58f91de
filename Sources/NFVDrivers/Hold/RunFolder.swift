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
    /// The identity that it had while it waited to be claimed, by which all that was made then is
    /// still named; nil where it never waited.
    var origin: WorkloadID?

    var text: String {
      "\(id)\n\(users.hostStart)\n\(users.count)\n" + (origin.map { "\($0)\n" } ?? "")
    }

    init(id: WorkloadID, users: UserRange, origin: WorkloadID? = nil) {
      self.id = id
      self.users = users
      self.origin = origin
    }

    init?(_ text: String) {
      let lines = text.split(separator: "\n").map(String.init)
      // Without a count: a container's range.
      guard lines.count >= 2, let id = WorkloadID(lines[0]), let start = UInt32(lines[1]),
        let count = lines.count > 2 ? UInt32(lines[2]) : 65536
      else { return nil }
      self.init(
        id: id, users: UserRange(hostStart: start, count: count),
        origin: lines.count > 3 ? WorkloadID(lines[3]) : nil)
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
    // At once or not at all: by this one file a waiting workload becomes another's.
    try replaceFile(path + "/identity", Array(record.text.utf8), mode: 0o600)
  }

  func write(_ process: ProcessIdentity) throws(SystemError) {
    let handle = process.handle.map { "\($0)" }.joined(separator: " ")
    try replaceFile(
      path + "/process", Array("\(process.pid)\n\(process.startTicks)\n\(handle)\n".utf8),
      mode: 0o600)
  }

  /// Of the document that the workload was told last; nil where nobody noted it.
  var generation: Int? {
    (try? readFile(path + "/generation", limit: 64))
      .flatMap { Int(String(decoding: $0, as: UTF8.self)) }
  }

  func write(generation: Int) throws(SystemError) {
    try replaceFile(path + "/generation", Array("\(generation)".utf8), mode: 0o600)
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

/// uids of the host that workloads' own are mapped upon or that they run as: ranges of one size, one
/// per workload, never one of two at a time.
struct UserRanges: Sendable {
  /// Ranges of 65,536 from 0x100000 on, for user namespaces. The last ends below 2³¹: some programs
  /// read a uid as a signed number.
  static func containers(store: StoreID, used: [RunFolder.Record]) -> UserRanges {
    UserRanges(
      first: 0x10_0000, size: 65536, count: (0x8000_0000 - 0x10_0000) / 65536, store: store,
      used: used)
  }

  /// The 65,536 uids below those, one for each machine.
  static func machines(store: StoreID, used: [RunFolder.Record]) -> UserRanges {
    UserRanges(first: 0xF_0000, size: 1, count: 65536, store: store, used: used)
  }

  private let first, size, count: UInt32
  private var used: Set<UInt32> = []
  /// Stores of one host begin at different places.
  private var next: UInt32

  private init(
    first: UInt32, size: UInt32, count: UInt32, store: StoreID, used records: [RunFolder.Record]
  ) {
    (self.first, self.size, self.count) = (first, size, count)
    next = UInt32(truncatingIfNeeded: HostName.hash(store.rawValue)) % count
    for record in records { used.insert(record.users.hostStart) }
  }

  mutating func take() -> UserRange? {
    for _ in 0..<count {
      let start = first + next * size
      next = (next + 1) % count
      if used.insert(start).inserted { return UserRange(hostStart: start, count: size) }
    }
    return nil
  }

  mutating func giveBack(_ range: UserRange) { used.remove(range.hostStart) }
}
