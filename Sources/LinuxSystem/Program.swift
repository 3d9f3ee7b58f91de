internal import CLinux
internal import Glibc
public import SystemPackage

/// What a program that was run left behind.
public struct ProgramResult: Sendable, Hashable {
  /// Its exit code; 128 and the signal's number where it was killed.
  public var status: Int32
  /// Its standard output and error, at most 64 KiB of them.
  public var output: [UInt8]
}

/// Runs a program of the host to its end and waits for it: for what is rare and has no system call.
/// It runs in the calling thread's network namespace.
///
/// - Parameters:
///   - arguments: with the program's name first; no secrets, as anybody can read them.
///   - input: its standard input; nil is /dev/null.
///   - timeout: after it the program is killed; nil waits for ever.
public func runProgram(
  _ path: String, arguments: [String], input: FileDescriptor? = nil, timeout: Duration? = nil
) throws(SystemError) -> ProgramResult {
  let (read, write) = try makePipe()
  defer { try? read.close() }
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  if let input {
    posix_spawn_file_actions_adddup2(&actions, input.rawValue, 0)
  } else {
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
  }
  posix_spawn_file_actions_adddup2(&actions, write.rawValue, 1)
  posix_spawn_file_actions_adddup2(&actions, write.rawValue, 2)
  // SwiftNIO's sockets have no FD_CLOEXEC: inherited, they stay open when we close them.
  CLinux_posix_spawn_closefrom(&actions, 3)
  // SAFETY: both arrays end with a null pointer; their strings are freed after the call.
  let argv = arguments.map { strdup($0) } + [nil]
  let environment = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), strdup("LC_ALL=C"), nil]
  defer { for pointer in argv + environment { free(pointer) } }
  var pid = pid_t()
  let code = posix_spawn(&pid, path, &actions, nil, argv, environment)
  try? write.close()
  guard code == 0 else {
    throw SystemError(call: "posix_spawn", errno: Errno(rawValue: code), subject: path)
  }
  var output: [UInt8] = []
  let deadline = timeout.map { ContinuousClock.now + $0 }
  while true {
    if let deadline {
      let (seconds, attoseconds) = max(deadline - .now, .zero).components
      let left = Int32(clamping: seconds * 1000 + attoseconds / 1_000_000_000_000_000)
      if try !waitReadable(read, milliseconds: left) {
        kill(pid, SIGKILL)
        break
      }
    }
    let bytes = try readSome(of: read, limit: 16384)
    if bytes.isEmpty { break }
    if output.count < 65536 { output += bytes }
  }
  var status: Int32 = 0
  try systemCall("waitpid", path) { waitpid(pid, &status, 0) }
  let signal = status & 0x7F
  return ProgramResult(status: signal == 0 ? status >> 8 & 0xFF : 128 + signal, output: output)
}

/// The names in a folder, without `.` and `..`, sorted; empty where there is no such folder.
public func listFolder(_ path: String) throws(SystemError) -> [String] {
  guard let folder = opendir(path) else {
    let error = SystemError.last("opendir", path)
    if error.errno == .noSuchFileOrDirectory { return [] }
    throw error
  }
  defer { closedir(folder) }
  var names: [String] = []
  while let entry = readdir(folder) {
    // SAFETY: d_name is terminated by a zero within the entry, which lives until the next call.
    let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
      pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names.sorted()
}

/// Whether a descriptor refers to a namespace (its file system is nsfs).
public func isNamespace(_ descriptor: FileDescriptor) throws(SystemError) -> Bool {
  let path = "/proc/self/fd/\(descriptor.rawValue)"
  // NSFS_MAGIC
  return try systemCall("statfs", path) { CLinux_file_system_type(path) } == 0x6e73_6673
}
