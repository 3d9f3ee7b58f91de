public import Packets

/// Where destinations are reached: the longest prefix decides (RFC 1812, section 5.2.4.3).
///
/// One hash table for each prefix length in use, asked from the longest on: a handful of lengths
/// are in use, however many routes there are.
public struct RouteTable<NextHop> {
  private struct Length {
    var length: Int
    /// Open addressing, at most half full; a power of two.
    var slots: [(network: IPv6Address, hop: NextHop)?]
    var count: Int
  }

  /// The longest first.
  private var lengths: [Length] = []

  public init() {}

  public var count: Int { lengths.reduce(0) { $0 + $1.count } }

  /// Adds a route, or replaces that to the same prefix.
  public mutating func set(_ prefix: Prefix, to hop: NextHop) {
    let index: Int
    if let found = lengths.firstIndex(where: { $0.length <= prefix.length }) {
      index = found
      if lengths[found].length != prefix.length {
        lengths.insert(
          Length(length: prefix.length, slots: Array(repeating: nil, count: 4), count: 0),
          at: found)
      }
    } else {
      index = lengths.count
      lengths.append(
        Length(length: prefix.length, slots: Array(repeating: nil, count: 4), count: 0))
    }
    if (lengths[index].count + 1) * 2 > lengths[index].slots.count { grow(index) }
    let network = Self.network(prefix.address, prefix.length)
    let slot = self.slot(of: network, in: lengths[index])
    if lengths[index].slots[slot] == nil { lengths[index].count += 1 }
    lengths[index].slots[slot] = (network, hop)
  }

  /// - Returns: nil where no route leads there.
  public func find(_ destination: IPv6Address) -> NextHop? {
    for index in lengths.indices {
      let network = Self.network(destination, lengths[index].length)
      if let found = lengths[index].slots[slot(of: network, in: lengths[index])] {
        return found.hop
      }
    }
    return nil
  }

  /// An address of which only the first bits are left.
  private static func network(_ address: IPv6Address, _ length: Int) -> IPv6Address {
    if length == 0 { return .unspecified }
    if length <= 64 { return IPv6Address(address.high & ~0 << UInt64(64 - length), 0) }
    return IPv6Address(address.high, address.low & ~0 << UInt64(128 - length))
  }

  private mutating func grow(_ index: Int) {
    let old = lengths[index].slots
    lengths[index].slots = Array(repeating: nil, count: old.count * 2)
    for case .some(let route) in old {
      lengths[index].slots[slot(of: route.network, in: lengths[index])] = route
    }
  }

  /// Where a network stands or would stand.
  private func slot(of network: IPv6Address, in length: Length) -> Int {
    let mask = length.slots.count - 1
    let product = (network.high ^ 0xd1b5_4a32_d192_ed03).multipliedFullWidth(
      by: (network.low ^ 0x9e37_79b9_7f4a_7c15) | 1)
    var slot = Int(truncatingIfNeeded: (product.high ^ product.low) >> 7) & mask
    while let found = length.slots[slot], found.network != network { slot = (slot + 1) & mask }
    return slot
  }
}
