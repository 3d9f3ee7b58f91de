/// What a number of measurements come to.
public struct Distribution: Sendable, Hashable, Codable {
  public var count: Int
  public var minimum, p50, p95, p99, maximum: Double

  /// By the nearest rank; all zero where there is no sample.
  public init(_ samples: [Double]) {
    let sorted = samples.sorted()
    func rank(_ part: Double) -> Double {
      guard !sorted.isEmpty else { return 0 }
      let place = Int((part * Double(sorted.count)).rounded(.up))
      return sorted[min(max(place - 1, 0), sorted.count - 1)]
    }
    count = sorted.count
    minimum = sorted.first ?? 0
    p50 = rank(0.50)
    p95 = rank(0.95)
    p99 = rank(0.99)
    maximum = sorted.last ?? 0
  }
}

extension Duration {
  /// With the fraction.
  public var milliseconds: Double {
    Double(components.seconds) * 1000 + Double(components.attoseconds) / 1e15
  }
}
