import Glibc

/// How many times slower than a machine of its own the host is, as MARTLET_TEST_SLOWNESS says: tests
/// in an interpreted guest take their time. 1 where it is not named.
public let slowness = getenv("MARTLET_TEST_SLOWNESS").flatMap { Int(String(cString: $0)) } ?? 1

/// Why a test cannot go on.
public struct Failed: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// Polls until `condition` holds.
///
/// Other tests may keep every thread busy for longer than `time`: it is asked two hundred times at
/// least before it is given up. A slow host gets more of it.
/// - Throws: `Failed` with `what` where it does not in time, and what `condition` throws.
public func eventually(
  _ what: @autoclosure () -> String, within time: Duration = .seconds(10),
  every interval: Duration = .milliseconds(2), isolation: isolated (any Actor)? = #isolation,
  _ condition: () async throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + time * slowness
  var asked = 0
  while true {
    if try await condition() { return }
    asked += 1
    guard asked < 200 || ContinuousClock.now < deadline else {
      throw Failed("not within \(time): \(what())")
    }
    try await Task.sleep(for: interval)
  }
}
