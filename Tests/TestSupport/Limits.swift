import LinuxSystem

/// Sets how many descriptors a process may have (prlimit(1), the soft limit); those that it has stay.
public func limitDescriptors(of process: Int32, to count: Int) throws {
  let result = try runProgram(
    "/usr/bin/prlimit", arguments: ["prlimit", "--pid", "\(process)", "--nofile=\(count):"])
  guard result.status == 0 else { throw Failed(String(decoding: result.output, as: UTF8.self)) }
}
