/// Why a test cannot go on.
public struct Failed: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// Polls until `condition` holds.
///
/// Other tests may keep every thread busy for longer than `time`: it is asked two hundred times at
/// least before it is given up.
/// - Throws: `Failed` with `what` where it does not in time, and what `condition` throws.
public func eventually(
  _ what: @autoclosure () -> String, within time: Duration = .seconds(10),
  every interval: Duration = .milliseconds(2), isolation: isolated (any Actor)? = #isolation,
  _ condition: () async throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + time
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
