internal import CLinux
internal import Glibc
public import SystemPackage

/// Kinds of namespaces and of sharing for `clone3(2)`, `unshare(2)` and `setns(2)`.
public struct CloneFlags: OptionSet, Sendable, Hashable {
  public var rawValue: UInt64

  public init(rawValue: UInt64) { self.rawValue = rawValue }

  public static let newMount = CloneFlags(rawValue: UInt64(CLONE_NEWNS))
  public static let newCgroup = CloneFlags(rawValue: UInt64(CLONE_NEWCGROUP))
  public static let newUTS = CloneFlags(rawValue: UInt64(CLONE_NEWUTS))
  public static let newIPC = CloneFlags(rawValue: UInt64(CLONE_NEWIPC))
  public static let newUser = CloneFlags(rawValue: UInt64(CLONE_NEWUSER))
  public static let newPID = CloneFlags(rawValue: UInt64(CLONE_NEWPID))
  public static let newNetwork = CloneFlags(rawValue: UInt64(CLONE_NEWNET))
}

/// On which side of a `clone3(2)` the caller is.
public enum CloneSide: Sendable {
  case child
  case parent(pid: Int32, pidfd: FileDescriptor)
}

/// Copies this process (`clone3(2)` without shared memory), in the namespaces that `flags` name
/// and, if given, in the cgroup (version 2) whose folder `cgroup` is.
///
/// Only for a process with one thread: the child has a copy of this thread alone, and of every
/// lock as it was. The pidfd is close-on-exec.
public func cloneProcess(
  _ flags: CloneFlags = [], cgroup: FileDescriptor? = nil
) throws(SystemError) -> CloneSide {
  var pidfd: Int32 = -1
  var arguments = clone_args()
  arguments.flags = flags.rawValue | UInt64(CLONE_PIDFD)
  arguments.exit_signal = UInt64(SIGCHLD)
  if let cgroup {
    // CLONE_INTO_CGROUP, which Swift can't import: its value does not fit C's int.
    arguments.flags |= 0x2_0000_0000
    arguments.cgroup = UInt64(cgroup.rawValue)
  }
  let pid = try withUnsafeMutablePointer(to: &pidfd) { (pointer) throws(SystemError) in
    // SAFETY: the kernel writes the pidfd to `pointer`, valid during the call; `arguments` is a
    // whole clone_args. Without CLONE_VM the child goes on with its own copy of this stack.
    arguments.pidfd = UInt64(UInt(bitPattern: pointer))
    return try systemCall("clone3") {
      CLinux_clone3(&arguments, MemoryLayout<clone_args>.size)
    }
  }
  return pid == 0
    ? .child : .parent(pid: Int32(pid), pidfd: FileDescriptor(rawValue: pidfd))
}

/// `unshare(2)` of this thread.
public func unshareNamespaces(_ flags: CloneFlags) throws(SystemError) {
  try SystemCalls.perform { $0.unshare(flags) }
}

/// `setns(2)`: moves this thread into the namespace that `descriptor` refers to.
public func joinNamespace(_ descriptor: FileDescriptor) throws(SystemError) {
  try SystemCalls.perform { $0.join(.value(Int(descriptor.rawValue))) }
}

/// Ends this process at once (`_exit(2)`), as the child of a clone must.
public func exitNow(_ code: Int32) -> Never { _exit(code) }

/// Replaces this process's program (`execve(2)`); returns only by throwing.
public func execute(
  _ path: String, arguments: [String], environment: [String]
) throws(SystemError) -> Never {
  // SAFETY: both arrays end with a null pointer, and their strings live until the call returns;
  // it returns only on failure, when they are freed.
  let argv = arguments.map { strdup($0) } + [nil]
  let envp = environment.map { strdup($0) } + [nil]
  defer {
    for pointer in argv { free(pointer) }
    for pointer in envp { free(pointer) }
  }
  try systemCall("execve", path) { execve(path, argv, envp) }
  fatalError("execve returned without an error")
}

/// Starts a program in a session of its own (`posix_spawn(3)`) with standard streams on
/// `/dev/null`; safe from any thread. The caller waits for it.
///
/// - Returns: its pid.
public func spawnDetached(
  _ path: String, arguments: [String], environment: [String]
) throws(SystemError) -> Int32 {
  var attributes = posix_spawnattr_t()
  var actions = posix_spawn_file_actions_t()
  posix_spawnattr_init(&attributes)
  posix_spawn_file_actions_init(&actions)
  let argv = arguments.map { strdup($0) } + [nil]
  let envp = environment.map { strdup($0) } + [nil]
  defer {
    posix_spawnattr_destroy(&attributes)
    posix_spawn_file_actions_destroy(&actions)
    for pointer in argv { free(pointer) }
    for pointer in envp { free(pointer) }
  }
  var none = sigset_t()
  var all = sigset_t()
  sigemptyset(&none)
  sigfillset(&all)
  posix_spawnattr_setsigmask(&attributes, &none)
  posix_spawnattr_setsigdefault(&attributes, &all)
  posix_spawnattr_setflags(
    &attributes,
    Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | CLINUX_POSIX_SPAWN_SETSID))
  for number in Int32(0)...2 {
    posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0)
  }
  // SwiftNIO's sockets have no FD_CLOEXEC: inherited, they stay open when we close them.
  CLinux_posix_spawn_closefrom(&actions, 3)
  var pid: pid_t = 0
  // SAFETY: both arrays end with a null pointer and outlive the call, which copies them.
  let code = posix_spawn(&pid, path, &actions, &attributes, argv, envp)
  guard code == 0 else {
    throw SystemError(call: "posix_spawn", errno: Errno(rawValue: code), subject: path)
  }
  return pid
}
