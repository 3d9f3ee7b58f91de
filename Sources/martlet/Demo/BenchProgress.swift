internal import NFVBenchmark
internal import Synchronization

/// How far the benchmark is, drawn on a terminal; in a pipe only what begins.
final class BenchProgress: Sendable {
  // About how many seconds one of each takes; the pace of this host corrects it.
  static let peer = 0.7
  static let traffic = 5.5
  static let firstInstruction = 0.2
  static func instantiation(_ form: Form) -> Double { form.isSlow ? 5 : 0.2 }
  static func start(_ form: Form) -> Double { form.isSlow ? 5 : 0.1 }

  private struct State {
    var progress = Pace(expected: 0)
    var began = ContinuousClock.now
    var label = ""
    var isDrawn = false
    var told: Set<String> = []
  }

  private let state = Mutex(State())

  /// A series begins that takes about so many seconds.
  func expect(_ seconds: Double) {
    end()
    state.withLock { $0 = State(progress: Pace(expected: seconds)) }
  }

  /// Something is done now; in a pipe it is told once.
  func began(_ label: String) {
    let (isNew, isUntold, left) = state.withLock { state in
      defer { state.label = label }
      let left = state.progress.secondsLeft(after: (.now - state.began).milliseconds / 1000)
      return (state.label != label, state.told.insert(label).inserted, left)
    }
    if Console.current.drawsProgress {
      if isNew { draw() }
    } else if isUntold {
      Console.current.note("\(label) (about \(Self.span(left)) left)")
    }
  }

  func did(_ seconds: Double) {
    state.withLock { $0.progress.add(seconds) }
    if Console.current.drawsProgress { draw() }
  }

  /// The line is complete.
  func end() {
    let wasDrawn = state.withLock { state in
      defer { state.isDrawn = false }
      return state.isDrawn
    }
    if wasDrawn { Console.current.error([0x0D, 0x1B, 0x5B, 0x4B]) }
  }

  private func draw() {
    let console = Console.current
    let bar = state.withLock { state in
      state.isDrawn = true
      return Self.bar(state.label, state.progress, elapsed: .now - state.began)
    }
    console.error(Array("\r\u{1B}[K\(bar.rendered(width: console.width()))".utf8))
  }

  /// What a line says of a series: a pure function.
  static func bar(_ label: String, _ progress: Pace, elapsed: Duration) -> ProgressBar {
    let left = progress.secondsLeft(after: elapsed.milliseconds / 1000)
    return ProgressBar(
      label: label, fraction: progress.fraction,
      detail: "about \(span(left)) left", elapsed: elapsed)
  }

  private static func span(_ seconds: Double) -> String {
    martlet.span(.seconds(Int64(seconds.rounded(.up))))
  }
}
