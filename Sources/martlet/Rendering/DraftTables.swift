internal import NFVBenchmark

/// The draft's five tables (4.2 to 4.6): its rows, and beside them what was measured here.
struct DraftTables: Sendable {
  private let figures: [FormFigures]

  init(_ figures: [FormFigures]) { self.figures = figures }

  func rendered() -> String {
    [
      "4.2 Instantiation, ms (medians)\n"
        + table(
          ["first RST", "process runs", "COMPLETED"], ["draft"],
          here: { [number($0.rst.p50), number($0.running.p50), number($0.ready.p50)] },
          draft: { [number($0.instantiationMilliseconds, digits: 0)] }),
      "4.3 Throughput, Gbit/s (medians, and least to most)\n"
        + table(
          ["Tx", "", "Rx", ""], ["draft Tx", "Rx"],
          here: { [number($0.tx.p50), range($0.tx), number($0.rx.p50), range($0.rx)] },
          draft: { [number($0.txGbps), number($0.rxGbps)] }),
      "4.4 Round trip of a ping flood (median)\n"
        + table(
          ["µs"], ["draft, ms"], here: { [number($0.roundTrip.p50)] },
          draft: { [number($0.roundTripMilliseconds, digits: 0)] }),
      "4.5 Image size, MB\n"
        + table(
          ["here"], ["draft"], here: { [number(Double($0.imageBytes) / 1e6)] },
          draft: { [number($0.imageMegabytes)] }),
      "4.6 Memory, MB\n"
        + table(
          ["here"], ["draft"], here: { [number(Double($0.memoryBytes) / 1e6)] },
          draft: { [number($0.memoryMegabytes)] }),
    ].joined(separator: "\n")
  }

  /// A row for each of the draft's; one of which several forms come closest stands as often.
  private func table(
    _ measured: [String], _ published: [String], here: (FormFigures) -> [String],
    draft: (DraftResult) -> [String]
  ) -> String {
    var rows: [[Cell]] = []
    for result in DraftResult.all {
      let found = figures.filter { $0.form.draft == result }
      let published = draft(result).map { Cell($0) }
      for figures in found {
        rows.append(
          [Cell(result.technology), Cell(named(figures))] + here(figures).map { Cell($0) }
            + published)
      }
      if found.isEmpty {
        rows.append(
          [Cell(result.technology), "–"] + measured.map { $0.isEmpty ? "" : "–" } + published)
      }
    }
    return Table(
      titles: ["DRAFT'S FORM", "HERE"] + measured + published,
      alignedRight: Set(2..<(2 + measured.count + published.count)), rows: rows
    ).rendered(indent: 2)
  }
}

private func number(_ value: Double, digits: Int = 1) -> String { fixed(value, digits: digits) }

private func range(_ value: Distribution) -> String {
  "\(fixed(value.minimum, digits: 1))–\(fixed(value.maximum, digits: 1))"
}
