internal import ControlProtocol
internal import LinuxSystem

/// What the guest's kernel counts (proc(5)).
enum Counters {
  static func read() -> ControlReply {
    do throws(SystemError) {
      let memory = fields(try text("/proc/meminfo"))
      let statistics = try text("/proc/stat")
      // user, nice, system, idle, iowait, irq, softirq, in hundredths of a second.
      let times = (statistics.split(separator: "\n").first ?? "").split(separator: " ").dropFirst()
        .compactMap { UInt64($0) }
      let busy = times.enumerated().reduce(0) {
        [3, 4].contains($1.offset) || $1.offset > 6 ? $0 : $0 + $1.element
      }
      let load = try text("/proc/loadavg").split(separator: " ")
      let processes = load.count > 3 ? load[3].split(separator: "/").last : nil
      return .counters(
        GuestCounters(
          uptimeMilliseconds: monotonicMilliseconds(), processorMilliseconds: busy * 10,
          memoryTotal: (memory["MemTotal"] ?? 0) * 1024,
          memoryAvailable: (memory["MemAvailable"] ?? 0) * 1024,
          processes: processes.flatMap { UInt32($0) } ?? 0))
    } catch {
      return .refused("\(error)")
    }
  }

  private static func text(_ path: String) throws(SystemError) -> String {
    String(decoding: try readFile(path, limit: 1 << 16), as: UTF8.self)
  }

  /// Lines such as `MemTotal:  1024 kB`.
  static func fields(_ text: String) -> [Substring: UInt64] {
    var result: [Substring: UInt64] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(whereSeparator: { $0 == " " || $0 == ":" })
      if parts.count > 1, let value = UInt64(parts[1]) { result[parts[0]] = value }
    }
    return result
  }
}
