/// Why a test cannot go on.
public struct Failed: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// Polls until `condition` holds.
/// - Throws: `Failed` with `what` where it does not in time, and what `condition` throws.
public func eventually(
  _ what: @autoclosure () -> String, within time: Duration = .seconds(10),
  every interval: Duration = .milliseconds(2), isolation: isolated (any Actor)? = #isolation,
  _ condition: () async throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + time
  while true {
    if try await condition() { return }
    guard ContinuousClock.now < deadline else { throw Failed("not within \(time): \(what())") }
    try await Task.sleep(for: interval)
  }
}
