internal import LinuxSystem

/// What a traffic program said makes no sense, or it failed.
public struct TrafficError: Error, Sendable, Hashable {
  public var program: String
  /// The end of what it wrote.
  public var output: String
}

/// Traffic between a client and a function, as the draft sends it (4.3, 4.4).
extension ClientNamespace {
  /// TCP by iperf (version 2) for some seconds, in Gbit/s. Blocks as long.
  /// - Parameter reversed: from the function to the client, which the draft calls Tx.
  public func throughput(
    to address: String, seconds: Int, reversed: Bool
  ) throws -> Double {
    let arguments =
      ["-c", address, "-t", String(seconds), "-y", "C"] + (reversed ? ["-R"] : [])
    // A server that ends one test may refuse the next for a moment.
    var words = ""
    for _ in 0..<5 {
      words = String(decoding: try run("/usr/bin/iperf", arguments).output, as: UTF8.self)
      if let rate = gigabits(ofIperf: words) { return rate }
      pause(microseconds: 300_000)
    }
    throw TrafficError(program: "iperf", output: String(words.suffix(300)))
  }

  /// Sends pings at an interval, and waits a second for the last answers.
  public func pings(
    to address: String, count: Int, milliseconds: Int
  ) throws -> (sent: Int, received: Int) {
    let interval = "\(milliseconds / 1000)." + "\(1000 + milliseconds % 1000)".dropFirst()
    let result = try run(
      "/usr/bin/ping", ["-q", "-i", interval, "-c", String(count), "-W", "1", address])
    let words = String(decoding: result.output, as: UTF8.self)
    guard let counts = counts(ofPing: words) else {
      throw TrafficError(program: "ping", output: String(words.suffix(300)))
    }
    return counts
  }

  /// The average round trip of a ping flood, in microseconds.
  public func roundTrip(to address: String, count: Int) throws -> Double {
    let result = try run("/usr/bin/ping", ["-f", "-q", "-c", String(count), address])
    let words = String(decoding: result.output, as: UTF8.self)
    guard let average = microseconds(ofPing: words) else {
      throw TrafficError(program: "ping", output: String(words.suffix(300)))
    }
    return average
  }
}

/// The rate in iperf's comma-separated report (`-y C`), Gbit/s; nil where it is none.
func gigabits(ofIperf report: String) -> Double? {
  let rates = report.split(separator: "\n").compactMap { line -> Double? in
    let fields = line.split(separator: ",", omittingEmptySubsequences: false)
    return fields.count >= 9 ? Double(fields[8]) : nil
  }
  guard let rate = rates.max(), rate > 0 else { return nil }
  return rate / 1e9
}

/// What ping's line `3 packets transmitted, 2 received, …` says.
func counts(ofPing report: String) -> (sent: Int, received: Int)? {
  let numbers =
    report.split(separator: "\n").first { $0.contains("packets transmitted") }?
    .split(separator: " ").compactMap { Int($0) } ?? []
  return numbers.count >= 2 ? (numbers[0], numbers[1]) : nil
}

/// The average in ping's last line, `rtt min/avg/max/mdev = 0.001/0.002/…`, in microseconds.
func microseconds(ofPing report: String) -> Double? {
  guard let line = report.split(separator: "\n").last(where: { $0.contains("min/avg/max") }),
    let average = line.split(separator: "=").last?.split(separator: "/").dropFirst().first,
    let milliseconds = Double(average.filter { $0 != " " })
  else { return nil }
  return milliseconds * 1000
}
