import Packets

/// An IPv4 datagram in parts (RFC 791, section 3.2).
struct Fragmentation {
  /// A frame of its headers, with its link header; its checksums are complete.
  private var octets: [UInt8]
  /// Of the IP header.
  private let start: Int
  private let header: Int
  private let end: Int
  private let flags: UInt16
  /// Payload of each part but the last, in octets.
  private let piece: Int

  /// - Parameters:
  ///   - octets: a frame whose checksum, if it is partial, is that of all that follows it.
  ///   - mtu: of an IP packet, in octets.
  /// - Returns: nil where it is no whole datagram, or `offload` makes no sense.
  init?(_ octets: [UInt8], _ offload: Offload, at start: Int, mtu: Int) {
    guard octets.count >= start + IPv4Header.minimumLength else { return nil }
    self.octets = octets
    self.start = start
    header = Int(octets[start] & 15) * 4
    end = start + (Int(octets[start + 2]) << 8 | Int(octets[start + 3]))
    flags = UInt16(octets[start + 6]) << 8 | UInt16(octets[start + 7])
    piece = (min(mtu, OwnFrame.room - start) - header) & ~7
    guard header >= IPv4Header.minimumLength, start + header < end, end <= octets.count, piece > 0
    else { return nil }
    guard offload.isPartial else { return }
    let first = Int(offload.checksumStart)
    let place = first + Int(offload.checksumOffset)
    guard first >= start + header, place + 2 <= end else { return nil }
    var sum = Checksum()
    octets.withUnsafeBytes { sum.add(UnsafeRawBufferPointer(rebasing: $0[first..<end])) }
    self.octets[place] = UInt8(sum.udpValue >> 8)
    self.octets[place + 1] = UInt8(sum.udpValue & 0xff)
  }

  /// The parts, in their order.
  var count: Int { (end - start - header + piece - 1) / piece }

  /// Writes a part's frame, with its link header.
  @_lifetime(frame: copy frame)
  func write(_ index: Int, to frame: inout Frame) {
    let payload = start + header + index * piece
    let length = min(piece, end - payload)
    octets.withUnsafeBytes {
      frame.fill(from: UnsafeRawBufferPointer(rebasing: $0[..<(start + header)]))
    }
    frame.setLength(start + header + length)
    octets.withUnsafeBytes {
      frame.put(
        UnsafeRawBufferPointer(rebasing: $0[payload..<payload + length]), at: start + header)
    }
    frame.offload = Offload()
    if index > 0 { hideOptions(of: &frame) }
    let isLast = payload + length == end
    // What is a part itself goes on where it was, and more of it may follow.
    let offset = flags & 0x1fff &+ UInt16(truncatingIfNeeded: index * piece / 8)
    frame.set(UInt16(header + length), at: start + 2)
    frame.set(offset | (isLast ? flags & 0x2000 : 0x2000), at: start + 6)
    frame.set(UInt16(0), at: start + IPv4Header.checksumOffset)
    frame.set(frame.sum(from: start, count: header).value, at: start + IPv4Header.checksumOffset)
  }

  /// Options without the flag "copied" stand in the first part only.
  @_lifetime(frame: copy frame)
  private func hideOptions(of frame: inout Frame) {
    var option = start + IPv4Header.minimumLength
    while option < start + header {
      let kind = octets[option]
      guard kind != 0 else { return }
      var length = 1
      if kind != 1, option + 1 < start + header { length = max(2, Int(octets[option + 1])) }
      if kind & 0x80 == 0 {
        for place in option..<min(option + length, start + header) {
          frame.set(UInt8(1), at: place)
        }
      }
      option += length
    }
  }
}
