import Packets

extension [UInt8] {
  /// As `append`, which would be made anew in every place.
  @inline(never)
  mutating func push(_ octet: UInt8) { append(octet) }

  @inline(never)
  init(_ word: StaticString) {
    self = []
    for index in 0..<word.utf8CodeUnitCount { push((word.utf8Start + index).pointee) }
  }

  /// Whether these are the word's octets.
  @inline(never)
  func equals(_ word: StaticString) -> Bool {
    guard count == word.utf8CodeUnitCount else { return false }
    for index in 0..<count where self[index] != (word.utf8Start + index).pointee { return false }
    return true
  }
}

private func hexadecimal(_ octet: UInt8) -> UInt64? {
  switch octet {
  case 0x30...0x39: UInt64(octet - 0x30)
  case 0x41...0x46: UInt64(octet - 0x37)
  case 0x61...0x66: UInt64(octet - 0x57)
  default: nil
  }
}

private func decimal(_ text: ArraySlice<UInt8>, atMost limit: Int) -> Int? {
  guard !text.isEmpty, text.count <= 3 else { return nil }
  var value = 0
  for octet in text {
    guard case 0x30...0x39 = octet else { return nil }
    value = value * 10 + Int(octet - 0x30)
  }
  return value <= limit ? value : nil
}

extension MACAddress {
  /// Six pairs of hexadecimal digits with colons between.
  init?(text: [UInt8]) {
    guard text.count == 17 else { return nil }
    var bits: UInt64 = 0
    for index in 0..<17 {
      if index % 3 == 2 {
        guard text[index] == 0x3a else { return nil }
      } else {
        guard let digit = hexadecimal(text[index]) else { return nil }
        bits = bits << 4 | digit
      }
    }
    self.init(bits)
  }
}

extension IPv4Address {
  init?(text: ArraySlice<UInt8>) {
    var bits: UInt32 = 0
    var parts = 0
    var start = text.startIndex
    for index in text.startIndex...text.endIndex where index == text.endIndex || text[index] == 0x2e
    {
      guard parts < 4, let part = decimal(text[start..<index], atMost: 255) else { return nil }
      bits = bits << 8 | UInt32(part)
      parts += 1
      start = index + 1
    }
    guard parts == 4 else { return nil }
    self.init(bits)
  }
}

extension IPv6Address {
  /// RFC 4291, section 2.2; an IPv4 address is mapped.
  init?(text: ArraySlice<UInt8>) {
    if let ipv4 = IPv4Address(text: text) {
      self.init(ipv4)
      return
    }
    var groups = InlineArray<8, UInt64>(repeating: 0)
    var count = 0
    var gap: Int?
    var index = text.startIndex
    while index < text.endIndex {
      if text[index] == 0x3a {
        guard index + 1 < text.endIndex, text[index + 1] == 0x3a, gap == nil else { return nil }
        gap = count
        index += 2
        continue
      }
      var group: UInt64 = 0
      var digits = 0
      while index < text.endIndex, let digit = hexadecimal(text[index]) {
        group = group << 4 | digit
        digits += 1
        index += 1
      }
      guard 1...4 ~= digits, count < 8 else { return nil }
      groups[count] = group
      count += 1
      guard index < text.endIndex else { break }
      guard text[index] == 0x3a, index + 1 < text.endIndex else { return nil }
      if text[index + 1] != 0x3a { index += 1 }
    }
    guard gap == nil ? count == 8 : count < 8 else { return nil }
    if let gap {
      let moved = count - gap
      for place in 0..<moved {
        groups[7 - place] = groups[count - 1 - place]
        if 7 - place != count - 1 - place { groups[count - 1 - place] = 0 }
      }
    }
    self.init(
      groups[0] << 48 | groups[1] << 32 | groups[2] << 16 | groups[3],
      groups[4] << 48 | groups[5] << 32 | groups[6] << 16 | groups[7])
  }
}

extension Prefix {
  /// An address, a slash and a length; without them, the address alone.
  init?(text: [UInt8]) {
    var slash = text.count
    for index in 0..<text.count where text[index] == 0x2f { slash = index }
    let isIPv4 = IPv4Address(text: text[..<slash]) != nil
    guard let address = IPv6Address(text: text[..<slash]) else { return nil }
    var length = isIPv4 ? 32 : 128
    if slash < text.count {
      guard let given = decimal(text[(slash + 1)...], atMost: length) else { return nil }
      length = given
    }
    self.init(address, length: isIPv4 ? 96 + length : length)
  }
}
