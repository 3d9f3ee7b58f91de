extension String {
  /// How many columns of a terminal the text takes: two for East Asian wide characters and emoji,
  /// none for combining marks and control characters (a short form of UAX 11).
  var columns: Int { reduce(0) { $0 + $1.columns } }

  /// The text with spaces up to `width` columns.
  func padded(to width: Int, alignedRight: Bool = false) -> String {
    let missing = String(repeating: " ", count: max(0, width - columns))
    return alignedRight ? missing + self : self + missing
  }

  /// The text cut to `width` columns, its end shown by `…`.
  func truncated(to width: Int) -> String {
    guard columns > width else { return self }
    var result = ""
    var used = 0
    for character in self {
      guard used + character.columns <= width - 1 else { break }
      result.append(character)
      used += character.columns
    }
    return width > 0 ? result + "…" : ""
  }

  /// The text without what could steer a terminal: names come from whoever made a package.
  var printable: String {
    String(
      String.UnicodeScalarView(
        unicodeScalars.map { $0.properties.generalCategory == .control ? "\u{FFFD}" : $0 }))
  }
}

extension Character {
  fileprivate var columns: Int {
    guard let first = unicodeScalars.first else { return 0 }
    switch first.properties.generalCategory {
    case .control, .nonspacingMark, .enclosingMark, .format: return 0
    default: break
    }
    if first.properties.isEmojiPresentation || unicodeScalars.contains("\u{FE0F}") { return 2 }
    switch first.value {
    case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF,
      0xA000...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60,
      0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD:
      return 2
    default: return 1
    }
  }
}
