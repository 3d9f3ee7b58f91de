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
  var rows: [[Cell]]

  func rendered(color: Bool = false, indent: Int = 0) -> String {
    var widths = titles.map(\.columns)
    for row in rows {
      for (column, cell) in row.enumerated() {
        widths[column] = max(widths[column], cell.text.columns)
      }
    }
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
