/// A colour by what it tells.
enum Tone: String, Sendable {
  case good = "32"
  case busy = "33"
  case bad = "31"
  case quiet = "2"

  func paint(_ text: String) -> String { "\u{1B}[\(rawValue)m\(text)\u{1B}[0m" }
}

/// One cell: its text, and its tone where colours are wanted.
struct Cell: Sendable, Hashable, ExpressibleByStringLiteral {
  var text: String
  var tone: Tone?

  init(_ text: String, tone: Tone? = nil) {
    self.text = text.printable
    self.tone = tone
  }
  init(stringLiteral value: String) { self.init(value) }
}

/// Rows under titles, in columns as wide as their widest cell, two spaces between.
struct Table: Sendable {
  var titles: [String]
  /// Columns of numbers stand to the right.
  var alignedRight: Set<Int> = []
  /// Columns that go, in this order, where a line is too long.
  var spare: [Int] = []
  var rows: [[Cell]]

  /// - Parameter width: how much of a terminal a line may take; where it is too long, spare columns
  ///   go, then cells of the widest ones are cut, their ends shown by `…`. nil: as much as it needs.
  func rendered(color: Bool = false, indent: Int = 0, width: Int? = nil) -> String {
    var table = self
    if let width {
      table.dropSpare(for: width - indent)
      table.cut(to: width - indent)
    }
    return table.rendered(color: color, indent: indent)
  }

  private static func length(_ widths: [Int]) -> Int {
    widths.reduce(0, +) + 2 * max(0, widths.count - 1)
  }

  private mutating func dropSpare(for width: Int) {
    let widths = self.widths
    var kept = Array(widths.indices)
    for column in spare where Self.length(kept.map { widths[$0] }) > width {
      kept.removeAll { $0 == column }
    }
    titles = kept.map { titles[$0] }
    alignedRight = Set(kept.indices.filter { alignedRight.contains(kept[$0]) })
    rows = rows.map { row in kept.map { row[$0] } }
    spare = []
  }

  /// Always takes from the column that is widest then, of several from the last: names and what is
  /// narrow, such as numbers and ages, stay whole as long as that is possible. A title is never cut.
  private mutating func cut(to width: Int) {
    var widths = self.widths
    while Self.length(widths) > width {
      let cuttable = widths.indices.reversed().filter { widths[$0] > max(titles[$0].columns, 1) }
      guard let widest = cuttable.max(by: { widths[$0] < widths[$1] }) else { break }
      widths[widest] -= 1
    }
    for row in rows.indices {
      for column in rows[row].indices {
        rows[row][column].text = rows[row][column].text.truncated(to: widths[column])
      }
    }
  }

  private var widths: [Int] {
    var widths = titles.map(\.columns)
    for row in rows {
      for (column, cell) in row.enumerated() {
        widths[column] = max(widths[column], cell.text.columns)
      }
    }
    return widths
  }

  private func rendered(color: Bool, indent: Int) -> String {
    let widths = self.widths
    func line(_ cells: [Cell]) -> String {
      var text = String(repeating: " ", count: indent)
      for (column, cell) in cells.enumerated() {
        // No spaces at a line's end: they would wrap on a narrow terminal.
        let isLast = column == cells.count - 1
        let right = alignedRight.contains(column)
        var padded =
          isLast && !right
          ? cell.text : cell.text.padded(to: widths[column], alignedRight: right)
        if color, let tone = cell.tone {
          let trailing = padded.count - cell.text.count
          padded =
            right
            ? String(repeating: " ", count: trailing) + tone.paint(cell.text)
            : tone.paint(cell.text) + String(repeating: " ", count: trailing)
        }
        text += (column > 0 ? "  " : "") + padded
      }
      while text.last == " " { text.removeLast() }
      return text + "\n"
    }
    let titled = titles.contains { !$0.isEmpty } ? line(titles.map { Cell($0) }) : ""
    return titled + rows.map(line).joined()
  }
}
