internal import CLinux
internal import Glibc
public import SystemPackage

/// What finds the same process again, over restarts of its keeper but not of the host: a pid alone
/// may have been given to another process since.
public struct ProcessIdentity: Sendable, Hashable {
  public var pid: Int32
  /// Clock ticks between boot and its start (`/proc/PID/stat`, field 22).
  public var startTicks: UInt64
  /// The file handle of its pidfd (`name_to_handle_at(2)`; Linux 6.14): the handle's type as four
  /// little-endian bytes, then its bytes. Empty on older kernels.
  public var handle: [UInt8]

  public init(pid: Int32, startTicks: UInt64, handle: [UInt8]) {
    self.pid = pid
    self.startTicks = startTicks
    self.handle = handle
  }

  /// The identity of the process that `pidfd` means, whose pid is `pid`.
  public init(pid: Int32, pidfd: FileDescriptor) throws(SystemError) {
    self.init(
      pid: pid, startTicks: try Self.startTicks(of: pid), handle: Self.handle(of: pidfd))
  }

  /// A pidfd of exactly this process.
  ///
  /// - Throws: ESRCH where it is gone (its pid may be another's by now).
  public func open() throws(SystemError) -> FileDescriptor {
    let gone = SystemError(call: "pidfd_open", errno: .noSuchProcess, subject: "pid \(pid)")
    guard handle.count > 4, handle.count <= 4 + 128 else {
      let pidfd: FileDescriptor
      do throws(SystemError) {
        pidfd = try openPidfd(pid)
      } catch  where error.errno == .invalidArgument || error.errno == .noSuchFileOrDirectory {
        // The pid is a thread's now.
        throw gone
      }
      guard let ticks = try? Self.startTicks(of: pid), ticks == startTicks else {
        try? pidfd.close()
        throw gone
      }
      return pidfd
    }
    let own = try openPidfd(getpid())
    defer { try? own.close() }
    var file = CLinux_file_handle()
    file.handle_bytes = UInt32(handle.count - 4)
    file.handle_type = Int32(bitPattern: handle[..<4].reversed().reduce(0) { $0 << 8 | UInt32($1) })
    // SAFETY: `handle` has at most 128 bytes after the type, the size of `f_handle`.
    withUnsafeMutableBytes(of: &file.f_handle) { $0.copyBytes(from: handle[4...]) }
    do throws(SystemError) {
      return FileDescriptor(
        rawValue: try systemCall("open_by_handle_at", "pid \(pid)") {
          CLinux_open_by_handle(own.rawValue, &file, O_CLOEXEC)
        })
    } catch  where error.errno == .staleNFSFileHandle || error.errno == .noSuchProcess {
      throw gone
    }
  }

  private static func startTicks(of pid: Int32) throws(SystemError) -> UInt64 {
    let stat = try readFile("/proc/\(pid)/stat", limit: 2048)
    // The second field, the program's name, may hold anything; it ends with the last parenthesis.
    guard let end = stat.lastIndex(of: UInt8(ascii: ")")) else {
      throw SystemError(call: "read", errno: .ioError, subject: "/proc/\(pid)/stat")
    }
    let fields = stat[(end + 1)...].split(separator: UInt8(ascii: " "))
    guard fields.count > 19, let ticks = UInt64(String(decoding: fields[19], as: UTF8.self)) else {
      throw SystemError(call: "read", errno: .ioError, subject: "/proc/\(pid)/stat")
    }
    return ticks
  }

  private static func handle(of pidfd: FileDescriptor) -> [UInt8] {
    var file = CLinux_file_handle()
    file.handle_bytes = 128
    guard CLinux_descriptor_to_handle(pidfd.rawValue, &file) == 0 else { return [] }
    var bytes: [UInt8] = []
    withUnsafeBytes(of: file.handle_type.littleEndian) { bytes.append(contentsOf: $0) }
    withUnsafeBytes(of: &file.f_handle) {
      bytes.append(contentsOf: $0.prefix(Int(file.handle_bytes)))
    }
    return bytes
  }
}
