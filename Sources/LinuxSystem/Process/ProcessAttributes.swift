internal import CLinux
internal import Glibc
public import SystemPackage

/// What a process says about itself: signals, limits, user, session (`prctl(2)`, `setrlimit(2)`,
/// `credentials(7)`). All of it is for the calling thread or its process.
public enum ProcessAttributes {
  /// Sets every signal to its default action and blocks none, whatever was inherited.
  public static func resetSignals() {
    for number in 1...Int32(64) where number != SIGKILL && number != SIGSTOP {
      _ = CLinux_default_signal(number)
    }
    try? SystemCalls.perform { $0.unblockSignals() }
  }

  /// Blocks SIGCHLD and tells of it by a descriptor (`signalfd(2)`), non-blocking, close-on-exec.
  public static func childSignals() throws(SystemError) -> FileDescriptor {
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, SIGCHLD)
    try systemCall("sigprocmask") { sigprocmask(SIG_BLOCK, &set, nil) }
    let flags = O_CLOEXEC | O_NONBLOCK
    return FileDescriptor(rawValue: try systemCall("signalfd") { signalfd(-1, &set, flags) })
  }

  /// Has all threads share `count` heaps (mallopt(3), M_ARENA_MAX), which otherwise are up to eight for
  /// each processor, every one with what its own threads have freed. To be called before there are
  /// threads.
  public static func limitHeaps(to count: Int) { _ = CLinux_limit_arenas(Int32(count)) }

  /// Makes this process the parent of its descendants' orphans.
  public static func becomeSubreaper() throws(SystemError) {
    try systemCall("prctl", "PR_SET_CHILD_SUBREAPER") {
      CLinux_prctl(CLINUX_PR_SET_CHILD_SUBREAPER, 1)
    }
  }

  public static func setNoNewPrivileges() throws(SystemError) {
    try SystemCalls.perform { $0.setNoNewPrivileges() }
  }

  /// Gives up every capability but these, by their numbers (`capabilities(7)`).
  public static func keepCapabilities(_ numbers: [Int]) throws(SystemError) {
    let mask = numbers.reduce(UInt64(0)) { $0 | 1 << UInt64($1) }
    try systemCall("capset") {
      CLinux_capset(UInt32(truncatingIfNeeded: mask), UInt32(mask >> 32))
    }
  }

  /// Has this process killed when the thread that started it ends (`PR_SET_PDEATHSIG`); to be
  /// called after the last change of users, which resets it.
  /// - Parameter parent: the process that started it; where it has gone meanwhile, this one goes.
  public static func dieWithParent(_ parent: Int32) throws(SystemError) {
    try systemCall("prctl", "PR_SET_PDEATHSIG") {
      CLinux_prctl(CLINUX_PR_SET_PDEATHSIG, UInt(SIGKILL))
    }
    if getppid() != parent { exitNow(1) }
  }

  /// `getppid(2)`.
  public static var parentProcess: Int32 { getppid() }

  /// The soft and the hard limit of open descriptors.
  public static func descriptorLimit() throws(SystemError) -> (soft: UInt64, hard: UInt64) {
    var limit = CLinux_limit()
    try systemCall("prlimit") { CLinux_prlimit(Int32(RLIMIT_NOFILE.rawValue), nil, &limit) }
    return (limit.soft, limit.hard)
  }

  public static func setDescriptorLimit(soft: UInt64, hard: UInt64) throws(SystemError) {
    try setLimit(Int32(RLIMIT_NOFILE.rawValue), soft: soft, hard: hard)
  }

  /// `setrlimit(2)`; `resource` is the kernel's number.
  public static func setLimit(
    _ resource: Int32, soft: UInt64, hard: UInt64
  ) throws(SystemError) {
    try SystemCalls.perform { $0.setLimit(resource, soft: soft, hard: hard) }
  }

  /// Supplementary groups, then gid, then uid, each real, effective and saved.
  public static func setUser(
    uid: UInt32, gid: UInt32, groups: [UInt32]
  ) throws(SystemError) {
    try SystemCalls.perform { $0.setUser(uid: uid, gid: gid, groups: groups) }
  }

  /// `setsid(2)`.
  public static func startSession() throws(SystemError) {
    try SystemCalls.perform { $0.startSession() }
  }

  /// Makes the terminal of `descriptor` that of this session (`TIOCSCTTY`).
  public static func takeTerminal(_ descriptor: FileDescriptor) throws(SystemError) {
    try SystemCalls.perform { $0.takeTerminal(.value(Int(descriptor.rawValue))) }
  }

  public static func changeDirectory(_ path: String) throws(SystemError) {
    try SystemCalls.perform { $0.changeDirectory(path) }
  }

  /// `umask(2)`: permission bits that new files don't get.
  public static func setFileModeMask(_ mask: UInt32) { umask(mask) }

  public static var effectiveUser: UInt32 { geteuid() }

  /// Sleeps until killed.
  public static func sleepForever() -> Never {
    while true { pause() }
  }

  /// Memory of this process that is in RAM, in bytes.
  public static func residentBytes() -> UInt64 {
    guard let text = try? readFile("/proc/self/statm", limit: 256) else { return 0 }
    let fields = text.split(separator: UInt8(ascii: " "))
    guard fields.count > 1, let pages = UInt64(String(decoding: fields[1], as: UTF8.self)) else {
      return 0
    }
    return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
  }
}
