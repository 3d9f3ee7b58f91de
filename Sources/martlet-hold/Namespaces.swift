import HoldProtocol
import LinuxSystem
import SystemPackage

/// A user namespace whose ids are not mapped yet, and maybe a network namespace of it. Nothing runs in
/// them: they live by their descriptors, and end with them.
///
/// A map can still be written when the process that had it is gone: its open file keeps the
/// namespace (user_namespaces(7); the kernel's `proc_id_map_open`).
final class UnmappedNamespaces {
  private let userMap: FileDescriptor
  private let groupMap: FileDescriptor
  /// The namespaces' own; none once they are somebody's.
  private var own: (user: FileDescriptor, network: FileDescriptor?)?

  init(network: Bool) throws(SystemError) {
    let (pid, pidfd) = try startSleeper(in: network ? [.newUser, .newNetwork] : .newUser)
    defer { endSleeper(pidfd) }
    var opened: [FileDescriptor] = []
    func open(_ name: String, _ access: FileAccess) throws(SystemError) {
      opened.append(try openFile("/proc/\(pid)/\(name)", access))
    }
    do throws(SystemError) {
      try open("ns/user", .read)
      try open("uid_map", .write)
      try open("gid_map", .write)
      if network { try open("ns/net", .read) }
    } catch {
      for descriptor in opened { try? descriptor.close() }
      throw error
    }
    (userMap, groupMap) = (opened[1], opened[2])
    own = (opened[0], network ? opened[3] : nil)
  }

  deinit {
    try? userMap.close()
    try? groupMap.close()
    try? own?.user.close()
    try? own?.network?.close()
  }

  /// Maps ids, which can be done once, and gives the namespaces away.
  func mapped(to users: UserRange) throws(SystemError) -> Kept {
    let map = Array("0 \(users.hostStart) \(users.count)".utf8)
    try writeAll(map, to: userMap, "uid_map")
    try writeAll(map, to: groupMap, "gid_map")
    defer { own = nil }
    return .namespaces(user: own?.user, network: own?.network)
  }
}

/// A child that does nothing, in namespaces of its own. It is reaped like any orphan.
private func startSleeper(
  in namespaces: CloneFlags
) throws(SystemError) -> (pid: Int32, pidfd: FileDescriptor) {
  guard case .parent(let pid, let pidfd) = try cloneProcess(namespaces) else {
    ProcessAttributes.sleepForever()
  }
  return (pid, pidfd)
}

private func endSleeper(_ pidfd: FileDescriptor) {
  try? sendSignal(9, to: pidfd)
  try? pidfd.close()
}

extension Hold {
  /// Namespaces in stock: making a pair takes 0.8 ms of a start, of which nothing depends on whose
  /// they will be. A pair takes 190 KB of the kernel.
  static let stock = 4
  /// Nobody asked for anything for so long, in milliseconds, before the stock is filled.
  static let idleTime: Int32 = 5

  var isStockLow: Bool { spares.map { $0.count < Self.stock } ?? false }

  func makeNamespaces(
    _ key: String, _ users: UserRange?, _ network: Bool
  ) throws(HoldRefusal) {
    try check(newKey: key)
    guard users != nil || network else {
      throw HoldRefusal(code: .malformed, message: "neither a user nor a network namespace")
    }
    if let users, users.count == 0 || users.hostStart.addingReportingOverflow(users.count).overflow
    {
      throw HoldRefusal(code: .malformed, message: "no uid range: \(users)")
    }
    kept[key] = try system { () throws(SystemError) in
      guard let users else {
        let (pid, pidfd) = try startSleeper(in: .newNetwork)
        defer { endSleeper(pidfd) }
        return .namespaces(user: nil, network: try openFile("/proc/\(pid)/ns/net", .read))
      }
      guard network else { return try UnmappedNamespaces(network: false).mapped(to: users) }
      let spare = spares?.popLast()
      if spares == nil { spares = [] }
      guard let spare else { return try UnmappedNamespaces(network: true).mapped(to: users) }
      return try spare.mapped(to: users)
    }
  }

  /// Adds a pair to the stock; the first request for one begins it.
  func fillStock() {
    do throws(SystemError) {
      spares?.append(try UnmappedNamespaces(network: true))
    } catch {
      // Who needs a pair then makes it and is told why not.
      spares = nil
    }
  }
}
