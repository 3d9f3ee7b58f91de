import HoldProtocol
import LinuxSystem
import SystemPackage

/// One thing kept under a key.
enum Kept: Sendable {
  case namespaces(user: FileDescriptor?, network: FileDescriptor?)
  case stored(FileDescriptor)
  case process(ProcessRecord)

  /// The descriptors that a client may have, by role.
  var descriptors: [(role: DescriptorRole, descriptor: FileDescriptor)] {
    switch self {
    case .namespaces(let user, let network):
      var list: [(DescriptorRole, FileDescriptor)] = []
      if let user { list.append((.user, user)) }
      if let network { list.append((.network, network)) }
      return list
    case .stored(let descriptor): return [(.stored, descriptor)]
    case .process(let record): return [(.process, record.pidfd)]
    }
  }
}

/// Whom to answer.
struct Waiter: Sendable, Hashable {
  var connection: UInt64
  var request: UInt64
}

/// A process that was started or adopted.
struct ProcessRecord: Sendable {
  enum Phase: UInt8, Sendable {
    /// Forked, and not known to have become the program.
    case launching = 1
    /// The program is a runtime whose workload will be adopted when it ends.
    case runtime = 2
    case running = 3
    case exited = 4
  }

  var phase: Phase
  var pid: Int32
  var pidfd: FileDescriptor
  /// Known from `running` on.
  var identity: ProcessIdentity?
  /// The kernel tells us its exit status; otherwise its pidfd is watched.
  var isChild = true
  var exit: ExitStatus?
  /// While launching: carries the error of the step that failed, or closes at exec.
  var launchPipe: FileDescriptor?
  /// While launching: what it is a copy of.
  var zygote: Zygote.Kind?
  var waitForExit = false
  var adoptPidFile: String?
  var requester: Waiter?
  var timedOut = false
  /// Its standard error, if that is a file of ours, and where its own part begins.
  var errorFile: (path: String, start: UInt64)?
}

/// A file that grows at its end and whose head is freed.
struct BoundedFile {
  var descriptor: FileDescriptor
  var limit: UInt64
  /// Keys whose processes write to it.
  var owners: Set<String>
  var length: UInt64 = 0

  /// Frees the head where more than the limit is allocated; keeps at least the newest three quarters
  /// of the limit, so that it is not called again for every line.
  ///
  /// - Returns: whether the file has grown since the last call.
  mutating func bound() throws(SystemError) -> Bool {
    let size = try fileSize(descriptor)
    if size.allocated > limit {
      let kept = limit / 4 * 3
      if size.length > kept { try punchHead(of: descriptor, before: size.length - kept) }
    }
    defer { length = size.length }
    return size.length != length
  }

  /// The last bytes, at most 4 KiB, of what was written after `start`, as text.
  func tail(from start: UInt64) -> String {
    let limit = 4096
    guard let size = try? fileSize(descriptor), size.length > start else { return "" }
    let offset = max(start, size.length > limit ? size.length - UInt64(limit) : 0)
    guard let bytes = try? readRange(of: descriptor, from: offset, limit: limit) else { return "" }
    // Punched holes read as zeros, which no message may hold.
    return String(decoding: bytes.drop { $0 == 0 }.map { $0 == 0 ? 0x20 : $0 }, as: UTF8.self)
  }
}

/// A connected client.
struct Connection {
  let socket: FileDescriptor
  var greeted = false
  /// Packets that its socket had no room for, with duplicates of their descriptors.
  var queue: [(bytes: [UInt8], descriptors: [FileDescriptor])] = []
}
