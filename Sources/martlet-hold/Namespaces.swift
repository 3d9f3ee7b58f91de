import HoldProtocol
import LinuxSystem
import SystemPackage

extension Hold {
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
      try Self.namespaces(of: users, network: network)
    }
  }

  /// Namespaces in which nothing runs: they live by their descriptors, and end with them.
  private static func namespaces(
    of users: UserRange?, network: Bool
  ) throws(SystemError) -> Kept {
    var flags: CloneFlags = network ? .newNetwork : []
    if users != nil { flags.insert(.newUser) }
    // A child that does nothing, reaped like any orphan.
    guard case .parent(let pid, let pidfd) = try cloneProcess(flags) else {
      ProcessAttributes.sleepForever()
    }
    defer {
      try? sendSignal(9, to: pidfd)
      try? pidfd.close()
    }
    if let users {
      for map in ["uid_map", "gid_map"] {
        try writeFile("/proc/\(pid)/\(map)", "0 \(users.hostStart) \(users.count)")
      }
    }
    let user = try users.map { (_) throws(SystemError) in
      try openFile("/proc/\(pid)/ns/user", .read)
    }
    do throws(SystemError) {
      return .namespaces(
        user: user, network: network ? try openFile("/proc/\(pid)/ns/net", .read) : nil)
    } catch {
      try? user?.close()
      throw error
    }
  }
}
