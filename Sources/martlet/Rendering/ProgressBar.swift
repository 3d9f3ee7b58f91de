/// What a progress line says; drawing it is a pure function of this and the width.
struct ProgressBar: Sendable, Hashable {
  var label: String
  /// Between 0 and 1; nil where nobody knows, then a piece runs to and fro.
  var fraction: Double?
  var detail: String = ""
  var elapsed: Duration = .zero

  /// One line without its end, at most `width` columns.
  func rendered(width: Int) -> String {
    let seconds = elapsed.inSeconds(digits: 1)
    let percent = fraction.map { " \(Int((min(1, max(0, $0)) * 100).rounded(.down)))%" } ?? ""
    let tail = "\(percent)  \(detail.isEmpty ? "" : detail + "  ")\(seconds)"
    let inner = min(30, width - label.columns - tail.columns - 3)
    guard inner >= 5 else { return (label + tail).truncated(to: width) }
    return "\(label) [\(bar(inner))]\(tail)"
  }

  private func bar(_ width: Int) -> String {
    if let fraction {
      let filled = Int((min(1, max(0, fraction)) * Double(width)).rounded(.down))
      let head = filled > 0 && filled < width ? 1 : 0
      return String(repeating: "=", count: filled - head) + (head > 0 ? ">" : "")
        + String(repeating: " ", count: width - filled)
    }
    let piece = 3
    let span = width - piece
    let step = Int(elapsed / .milliseconds(100)) % (2 * span)
    let left = step <= span ? step : 2 * span - step
    return String(repeating: " ", count: left) + "<=>"
      + String(repeating: " ", count: span - left)
  }
}

extension Duration {
  /// Such as `1.5s`.
  func inSeconds(digits: Int) -> String {
    let tenths = components.seconds * 10 + components.attoseconds / 100_000_000_000_000_000
    return digits == 0 ? "\(tenths / 10)s" : "\(tenths / 10).\(tenths % 10)s"
  }
}
