internal import CLinux
internal import Glibc

/// What a process makes of itself before it becomes a program (credentials(7)).
extension SystemCalls {
  /// Blocks no signal (rt_sigprocmask(2)).
  public mutating func unblockSignals() {
    append(
      Int32(SYS_rt_sigprocmask), "rt_sigprocmask", "", .value(Int(SIG_SETMASK)),
      .octets([UInt8](repeating: 0, count: 8)), .value(0), .value(8))
  }

  /// open(2) for writing, close-on-exec.
  public mutating func openForWriting(_ path: String) -> Argument {
    append(
      Int32(SYS_openat), "open", path, .value(Int(AT_FDCWD)), .text(path),
      .value(Int(O_WRONLY | O_NOCTTY | O_CLOEXEC)))
  }

  /// Writes a short text at once, as a file of the kernel's takes it.
  public mutating func write(_ text: String, to descriptor: Argument, _ subject: String) {
    append(
      Int32(SYS_write), "write", subject, descriptor, .text(text), .value(text.utf8.count))
  }

  /// unshare(2).
  public mutating func unshare(_ flags: CloneFlags) {
    append(
      Int32(SYS_unshare), "unshare", "", .value(Int(truncatingIfNeeded: flags.rawValue)))
  }

  /// setns(2).
  public mutating func join(_ namespace: Argument) {
    append(Int32(SYS_setns), "setns", "", namespace, .value(0))
  }

  /// setsid(2).
  public mutating func startSession() { append(Int32(SYS_setsid), "setsid", "") }

  /// Makes the terminal of `descriptor` that of this session (`TIOCSCTTY`).
  public mutating func takeTerminal(_ descriptor: Argument) {
    append(
      Int32(SYS_ioctl), "ioctl", "TIOCSCTTY", descriptor, .value(Int(TIOCSCTTY)), .value(0))
  }

  public mutating func changeDirectory(_ path: String) {
    append(Int32(SYS_chdir), "chdir", path, .text(path))
  }

  /// A second number of `descriptor`, from `minimum` up, close-on-exec.
  /// - Parameter tellsFailures: what follows tells failures to it.
  public mutating func duplicate(
    _ descriptor: Argument, atLeast minimum: Int32, tellsFailures: Bool = false
  ) -> Argument {
    append(
      Int32(SYS_fcntl), "fcntl", "F_DUPFD_CLOEXEC", descriptor, .value(Int(F_DUPFD_CLOEXEC)),
      .value(Int(minimum)), tellsFailures: tellsFailures)
  }

  /// dup2(2).
  public mutating func duplicate(_ descriptor: Argument, to target: Int32) {
    append(Int32(SYS_dup2), "dup2", "to \(target)", descriptor, .value(Int(target)))
  }

  /// Closes the descriptors of a range, or has `execve(2)` close them (close_range(2)).
  public mutating func closeDescriptors(_ range: ClosedRange<UInt32>, onExecOnly: Bool = false) {
    append(
      Int32(SYS_close_range), "close_range", "", .value(Int(range.lowerBound)),
      .value(Int(range.upperBound)), .value(onExecOnly ? Int(CLINUX_CLOSE_RANGE_CLOEXEC) : 0))
  }

  /// `setrlimit(2)`; `resource` is the kernel's number.
  public mutating func setLimit(_ resource: Int32, soft: UInt64, hard: UInt64) {
    let octets = [soft, hard].flatMap { value in withUnsafeBytes(of: value) { Array($0) } }
    append(
      Int32(SYS_prlimit64), "prlimit", "resource \(resource)", .value(0), .value(Int(resource)),
      .octets(octets), .value(0))
  }

  public mutating func setDescriptorLimit(soft: UInt64, hard: UInt64) {
    setLimit(Int32(RLIMIT_NOFILE.rawValue), soft: soft, hard: hard)
  }

  /// Supplementary groups, then gid, then uid, each real, effective and saved.
  public mutating func setUser(uid: UInt32, gid: UInt32, groups: [UInt32]) {
    let octets = groups.flatMap { value in withUnsafeBytes(of: value) { Array($0) } }
    append(
      Int32(SYS_setgroups), "setgroups", "", .value(groups.count), .octets(octets))
    for (number, name, id) in [
      (SYS_setresgid, "setresgid", gid), (SYS_setresuid, "setresuid", uid),
    ] {
      append(
        Int32(number), name, "\(id)", .value(Int(id)), .value(Int(id)), .value(Int(id)))
    }
  }

  public mutating func setNoNewPrivileges() {
    append(
      Int32(SYS_prctl), "prctl", "PR_SET_NO_NEW_PRIVS", .value(Int(CLINUX_PR_SET_NO_NEW_PRIVS)),
      .value(1), .value(0), .value(0), .value(0))
  }
}
