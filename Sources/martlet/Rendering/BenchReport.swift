internal import NFVModel

/// A benchmark's result as tables.
struct BenchReport {
  private let report: JSONValue

  init(_ report: JSONValue) { self.report = report }

  func rendered() -> String {
    var text = ""
    let subjects = report["instantiate"].elements + report["peers"].elements
    if !subjects.isEmpty {
      text += "From the request until, ms\n" + comparison(subjects)
      for left in report["leftOut"].elements {
        text += "  without \(left["name"].text): \(left["reason"].text.printable)\n"
      }
      text += "\n"
    }
    let machines = report["firstInstruction"].elements
    if !machines.isEmpty {
      text += "From the request until a guest's first instruction, ms\n" + starts(machines) + "\n"
    }
    for entry in report["instantiate"].elements {
      let phases = entry["phasesUs"].members.sorted {
        ($0.value["p50"].double ?? 0) > ($1.value["p50"].double ?? 0)
      }
      guard !phases.isEmpty else { continue }
      text += "Phases of the daemon, \(entry["flavour"].text)\n"
      text += distributions(
        entry["phasesUs"], unit: "µs", phases.map { (key: $0.key, title: $0.key) }, digits: 0)
      text += "\n"
    }
    if !report["functions"].elements.isEmpty {
      text += "Network functions in Swift\n" + FunctionFigures.table(report["functions"].elements)
    }
    let single = singles
    if !single.isEmpty {
      text += Table(titles: ["", ""], alignedRight: [1], rows: single).rendered()
    }
    return text
  }

  /// Forms and peers, measured in one run, and what the draft has of their like.
  private func comparison(_ subjects: [JSONValue]) -> String {
    let moments = ["rstMs", "runningMs", "readyMs"]
    return Table(
      titles: [
        "", "COUNT", "FIRST RST", "p95", "PROCESS RUNS", "p95", "COMPLETED", "p95", "TERMINATED",
        "DRAFT'S RST",
      ],
      alignedRight: Set(1...9),
      rows: subjects.map { subject in
        let accelerator = subject["accelerator"].string ?? "none"
        let name = subject["flavour"].text
        return [
          Cell(accelerator == "none" ? name : "\(name) (\(accelerator))"),
          Cell(subject["count"].text),
        ]
          + moments.flatMap { moment in
            ["p50", "p95"].map { Cell(fixed(subject[moment, $0].double ?? 0, digits: 1)) }
          } + [Cell(subject["terminateMs", "p50"].double.map { fixed($0, digits: 1) } ?? "")]
          + [Cell(subject["draftRstMs"].double.map { fixed($0, digits: 0) } ?? "")]
      }
    ).rendered(indent: 2)
  }

  /// QEMU's machines and what of their start is QEMU's and the daemon's.
  private func starts(_ machines: [JSONValue]) -> String {
    Table(
      titles: ["", "COUNT", "median", "p95", "p99"], alignedRight: [1, 2, 3, 4],
      rows: machines.map { machine in
        [
          Cell("\(machine["machine"].text) (\(machine["accelerator"].text))"),
          Cell(machine["count"].text),
        ] + ["p50", "p95", "p99"].map { Cell(fixed(machine["ms", $0].double ?? 0, digits: 1)) }
      }
    ).rendered(indent: 2)
  }

  private func distributions(
    _ values: JSONValue, unit: String, _ keys: [(key: String, title: String)], digits: Int = 1
  ) -> String {
    Table(
      titles: [unit, "median", "p95", "p99"], alignedRight: [1, 2, 3],
      rows: keys.map { key, title in
        [Cell(title)]
          + ["p50", "p95", "p99"].map {
            Cell(fixed(values[key, $0].double ?? 0, digits: digits))
          }
      }
    ).rendered(indent: 2)
  }

  private var singles: [[Cell]] {
    var rows: [[Cell]] = []
    func add(_ title: String, _ value: JSONValue, _ unit: String, scale: Double = 1, digits: Int) {
      guard let number = value.double else { return }
      rows.append([Cell(title), Cell("\(fixed(number * scale, digits: digits)) \(unit)")])
    }
    let count = report["sequence", "count"].text
    add("\(count) one after another", report["sequence", "totalSeconds"], "s", digits: 2)
    add("the last ten against the first ten", report["sequence", "lastToFirst"], "times", digits: 2)
    add("terminate one", report["terminate", "oneMs"], "ms", digits: 1)
    add(
      "terminate \(report["terminate", "count"].text) at once", report["terminate", "allSeconds"],
      "s", digits: 2)
    for (title, key) in [
      ("the idle daemon's memory", "idleBytes"), ("the idle hold's memory", "holdIdleBytes"),
      ("memory added per function", "bytesPerInstance"),
    ] {
      add(title, report["daemon", key], "KiB", scale: 1 / 1024, digits: 0)
    }
    add("a page of 100 of 1,000 instances, p99", report["listP99Ms"], "ms", digits: 1)
    return rows
  }
}

/// A number with so many digits after its point.
func fixed(_ value: Double, digits: Int) -> String {
  var scale: Int64 = 1
  for _ in 0..<digits { scale *= 10 }
  let whole = Int64((value * Double(scale)).rounded())
  guard digits > 0 else { return String(whole) }
  let fraction = String(whole.magnitude % UInt64(scale))
  return "\(whole < 0 ? "-" : "")\(whole.magnitude / UInt64(scale))."
    + String(repeating: "0", count: digits - fraction.count) + fraction
}
