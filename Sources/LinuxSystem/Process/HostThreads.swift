internal import SystemPackage

/// Threads of another process, by the numbers that it knows them by itself.
public struct HostThreads: Sendable, Hashable {
  public let pid: Int32
  /// As this pid namespace numbers them.
  public let threads: [Int32]

  /// Finds them by `NSpid` of `/proc/PID/task/TID/status` (proc_pid_status(5)).
  ///
  /// - Parameter inner: their numbers in the process's own pid namespace; those that are not there are
  ///   left out.
  public init(of pid: Int32, numbered inner: Set<Int32>) throws(SystemError) {
    self.pid = pid
    threads = try listFolder("/proc/\(pid)/task").compactMap { name in
      guard let thread = Int32(name),
        // A thread may end at any moment.
        let status = try? readFile("/proc/\(pid)/task/\(name)/status", limit: 1 << 14)
      else { return nil }
      let lines = String(decoding: status, as: UTF8.self).split(separator: "\n")
      let own = lines.first { $0.hasPrefix("NSpid:") }?.split(separator: "\t").last
      return own.flatMap { Int32($0) }.map(inner.contains) == true ? thread : nil
    }
  }

  /// Their processor time together, in nanoseconds (the first field of `schedstat`,
  /// Documentation/scheduler/sched-stats.rst).
  ///
  /// - Throws: ENOENT where one has ended, or the kernel does not account for it.
  public func processorNanoseconds() throws(SystemError) -> UInt64 {
    var sum: UInt64 = 0
    for thread in threads {
      let path = "/proc/\(pid)/task/\(thread)/schedstat"
      let text = String(decoding: try readFile(path, limit: 128), as: UTF8.self)
      guard let time = text.split(separator: " ").first.flatMap({ UInt64($0) }) else {
        throw SystemError(call: "read", errno: .ioError, subject: path)
      }
      sum += time
    }
    return sum
  }
}
