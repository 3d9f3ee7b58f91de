internal import NFVBenchmark

/// The draft's five quantities of several forms, beside what the draft measured of each.
struct Comparison: Sendable {
  private let figures: [FormFigures]

  init(_ figures: [FormFigures]) { self.figures = figures }

  func rendered() -> String {
    var rows: [[Cell]] = []
    func add(
      _ title: String, _ here: (FormFigures) -> String,
      _ draft: ((DraftResult) -> String)? = nil
    ) {
      rows.append(
        [Cell(title)] + figures.flatMap { [Cell(here($0)), Cell(draft?($0.form.draft) ?? "")] })
    }
    add(
      "instantiation: first RST", { milliseconds(of: $0.rst) },
      { grouped($0.instantiationMilliseconds) + " ms" })
    add("instantiation: its process runs", { milliseconds(of: $0.running) })
    add("instantiation: COMPLETED", { milliseconds(of: $0.ready) })
    add("throughput Tx", { rate($0.tx.p50) }, { rate($0.txGbps) })
    add("throughput Rx", { rate($0.rx.p50) }, { rate($0.rxGbps) })
    add(
      "RTT, ping flood", { "\(fixed($0.roundTrip.p50, digits: 1)) µs" },
      { "\(fixed($0.roundTripMilliseconds, digits: 0)) ms" })
    add("image size", { megabytes($0.imageBytes) }, { megabytes($0.imageMegabytes) })
    add("memory", { megabytes($0.memoryBytes) }, { megabytes($0.memoryMegabytes) })
    return Table(
      titles: [""]
        + figures.flatMap { ["\(named($0)) here", "draft's \($0.form.draft.technology)"] },
      alignedRight: Set(1...max(1, 2 * figures.count)), rows: rows
    ).rendered()
  }
}

/// A form's name, with the accelerator of a virtual machine.
func named(_ figures: FormFigures) -> String {
  figures.accelerator == "none"
    ? figures.form.flavour : "\(figures.form.flavour) (\(figures.accelerator))"
}

/// The median; from a second on without a fraction.
private func milliseconds(of distribution: Distribution) -> String {
  distribution.p50 < 1000
    ? "\(fixed(distribution.p50, digits: 1)) ms" : "\(grouped(distribution.p50)) ms"
}

private func grouped(_ value: Double) -> String { microseconds(Int64(value.rounded())) }

private func rate(_ gigabits: Double) -> String { "\(fixed(gigabits, digits: 1)) Gbit/s" }

private func megabytes(_ bytes: Int64) -> String { megabytes(Double(bytes) / 1e6) }

private func megabytes(_ value: Double) -> String {
  if value < 0.1 { return "\(fixed(value * 1000, digits: 0)) KB" }
  return wholeMegabytes(value)
}

private func wholeMegabytes(_ value: Double) -> String {
  value == value.rounded() ? "\(fixed(value, digits: 0)) MB" : "\(fixed(value, digits: 1)) MB"
}
