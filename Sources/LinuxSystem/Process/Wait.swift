internal import CLinux
internal import Glibc
public import SystemPackage

/// How a process ended.
public enum ExitStatus: Sendable, Hashable {
  case exited(code: Int32)
  case killed(signal: Int32)
  /// It is gone, and the kernel did not tell us how: it was no child of ours.
  case unknown
}

/// Which children to wait for.
public enum WaitTarget: Sendable {
  case anyChild
  case pid(Int32)
}

/// Reaps one ended child without waiting (`waitid(2)`).
///
/// - Returns: nil where no child has ended, or there is none.
public func reapChild(
  _ target: WaitTarget = .anyChild
) throws(SystemError) -> (pid: Int32, status: ExitStatus)? {
  try wait(target, WEXITED | WNOHANG)
}

/// Waits for the end of the child `pid` and reaps it; one that takes longer is killed. Blocks the
/// thread.
public func waitForChild(
  _ pid: Int32, milliseconds: Int32 = 20_000
) throws(SystemError) -> ExitStatus {
  if let pidfd = try? openPidfd(pid) {
    defer { try? pidfd.close() }
    if try !waitReadable(pidfd, milliseconds: milliseconds) { try? sendSignal(SIGKILL, to: pidfd) }
  }
  return try wait(.pid(pid), WEXITED)?.status ?? .unknown
}

/// Whether `pid` is a child of this process, running or ended and not reaped.
public func isChild(_ pid: Int32) -> Bool {
  var info = siginfo_t()
  return CLinux_waitid(
    CLINUX_P_PID, UInt32(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0
}

private func wait(
  _ target: WaitTarget, _ options: Int32
) throws(SystemError) -> (pid: Int32, status: ExitStatus)? {
  var info = siginfo_t()
  let (type, id): (Int32, UInt32) =
    switch target {
    case .anyChild: (CLINUX_P_ALL, 0)
    case .pid(let pid): (CLINUX_P_PID, UInt32(pid))
    }
  do throws(SystemError) {
    try systemCall("waitid") { CLinux_waitid(type, id, &info, options) }
  } catch  where error.errno == .noChildProcess {
    return nil
  }
  let pid = CLinux_siginfo_pid(&info)
  guard pid != 0 else { return nil }
  let value = CLinux_siginfo_status(&info)
  return (pid, info.si_code == CLD_EXITED ? .exited(code: value) : .killed(signal: value))
}

/// `pidfd_open(2)`; close-on-exec.
public func openPidfd(_ pid: Int32) throws(SystemError) -> FileDescriptor {
  FileDescriptor(
    rawValue: try systemCall("pidfd_open", "pid \(pid)") { CLinux_pidfd_open(pid, 0) })
}

/// Whether a process catches SIGHUP (proc(5), SigCgt), which ends whoever does not.
public func catchesHangUp(_ pid: Int32) -> Bool {
  guard let bytes = try? readFile("/proc/\(pid)/status", limit: 1 << 14),
    let line = bytes.split(separator: 10).first(where: { $0.starts(with: "SigCgt:".utf8) }),
    let caught = UInt64(
      String(decoding: line.dropFirst(7).filter { $0 > 32 }, as: UTF8.self), radix: 16)
  else { return false }
  return caught & 1 != 0
}

/// `pidfd_send_signal(2)`: reaches the process that the pidfd means or none (ESRCH).
public func sendSignal(_ signal: Int32, to pidfd: FileDescriptor) throws(SystemError) {
  try systemCall("pidfd_send_signal", "signal \(signal)") {
    CLinux_pidfd_send_signal(pidfd.rawValue, signal)
  }
}

/// How the process of a pidfd ended, once it has been reaped by whoever its parent is
/// (`PIDFD_GET_INFO`, Linux 6.15; `.unknown` before that).
public func exitStatus(ofReaped pidfd: FileDescriptor) -> ExitStatus {
  var info = CLinux_pidfd_info()
  info.mask = CLINUX_PIDFD_INFO_EXIT
  guard CLinux_pidfd_get_info(pidfd.rawValue, &info) == 0,
    info.mask & CLINUX_PIDFD_INFO_EXIT != 0
  else { return .unknown }
  // The status word of wait(2).
  let signal = info.exit_code & 0x7f
  return signal == 0 ? .exited(code: (info.exit_code >> 8) & 0xff) : .killed(signal: signal)
}

/// Whether this kernel knows `PIDFD_GET_INFO` (Linux 6.13), and so sends POLLHUP when a process that
/// is no child of ours has been reaped.
public func tellsExitOfStrangers(_ pidfd: FileDescriptor) -> Bool {
  var info = CLinux_pidfd_info()
  guard CLinux_pidfd_get_info(pidfd.rawValue, &info) == -1 else { return true }
  return errno == ESRCH
}

/// Kills every process of a process group; one that is gone already is no error.
public func killProcessGroup(_ group: Int32) { _ = kill(-group, SIGKILL) }

/// Kills a process, and with it the process groups that its children are in: with a program that
/// waits for a command, the command. What they have moved to groups of their own is left.
///
/// - Parameter pidfd: of the process `pid`.
/// - Throws: ESRCH where it is gone.
public func killWithChildren(_ pid: Int32, _ pidfd: FileDescriptor) throws(SystemError) {
  // Who stands still reaps nobody: the pids of its children are nobody else's.
  try sendSignal(SIGSTOP, to: pidfd)
  for task in (try? listFolder("/proc/\(pid)/task")) ?? [] {
    // The kernel may have been built without it (CONFIG_PROC_CHILDREN).
    let children = (try? readFile("/proc/\(pid)/task/\(task)/children", limit: 65536)) ?? []
    for child in children.split(separator: UInt8(ascii: " ")) {
      guard let child = Int32(String(decoding: child, as: UTF8.self)) else { continue }
      let group = getpgid(child)
      if group > 1 { killProcessGroup(group) }
    }
  }
  try sendSignal(SIGKILL, to: pidfd)
}

/// Signals every process of a process group; one that is gone already is no error.
public func signalProcessGroup(_ group: Int32, _ number: Int32) { _ = kill(-group, number) }

public func currentProcessID() -> Int32 { getpid() }
