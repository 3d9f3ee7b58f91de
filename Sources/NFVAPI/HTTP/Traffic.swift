internal import HTTPTypes
internal import Synchronization

/// How many calls came to which end since the start.
final class Traffic: Sendable {
  private let counts = Mutex<[Int: Int]>([:])

  func count(_ status: HTTPResponse.Status) {
    counts.withLock { $0[status.code, default: 0] += 1 }
  }

  /// By status code.
  var answers: [Int: Int] { counts.withLock { $0 } }
}
