public import Packets

/// The MAC addresses of neighbours that were asked for (RFC 826; RFC 4861).
///
/// Only what was asked for is learnt, so that nobody fills the table with what he invents. Places
/// are few and bounded: a new neighbour takes the place of the one that was longest unheard.
public struct NeighbourTable: Sendable {
  /// In seconds: what is older is asked for again while it goes on serving, and later forgotten.
  private static let freshFor: UInt64 = 60
  private static let knownFor: UInt64 = 120
  private static let ways = 4

  private struct Entry {
    var address: IPv6Address
    var port: Int
    var mac: MACAddress?
    var heardAt: Instant
    var askedAt: Instant?
  }

  private var entries: [Entry?]

  /// - Parameter capacity: how many neighbours at most; rounded up to a power of two.
  public init(capacity: Int = 256) {
    var size = Self.ways
    while size < capacity { size *= 2 }
    entries = Array(repeating: nil, count: size)
  }

  public enum Answer: Sendable, Hashable {
    case known(MACAddress)
    /// Known, but heard of long ago: to be asked for again.
    case stale(MACAddress)
    /// To be asked for now.
    case unknown
    /// Asked for less than a second ago (RFC 1122, section 2.3.2.1).
    case awaited
  }

  public mutating func find(_ address: IPv6Address, port: Int, at now: Instant) -> Answer {
    let place = place(of: address, port, at: now)
    guard var entry = entries[place], entry.address == address, entry.port == port else {
      entries[place] = Entry(
        address: address, port: port, mac: nil, heardAt: now, askedAt: now)
      return .unknown
    }
    let second: Instant = 1_000_000_000
    let age = now - entry.heardAt
    if let mac = entry.mac, age < Self.freshFor * second { return .known(mac) }
    let mayAsk = entry.askedAt.map { now - $0 >= second } ?? true
    if mayAsk {
      entry.askedAt = now
      entries[place] = entry
    }
    if let mac = entry.mac, age < Self.knownFor * second {
      return mayAsk ? .stale(mac) : .known(mac)
    }
    return mayAsk ? .unknown : .awaited
  }

  /// Takes note of what a neighbour tells of itself.
  /// - Returns: false where nobody wanted to know.
  @discardableResult
  public mutating func learn(
    _ address: IPv6Address, is mac: MACAddress, port: Int, at now: Instant
  ) -> Bool {
    guard !mac.isMulticast else { return false }
    let place = place(of: address, port, at: now)
    guard entries[place]?.address == address, entries[place]?.port == port else { return false }
    entries[place]!.mac = mac
    entries[place]!.heardAt = now
    entries[place]!.askedAt = nil
    return true
  }

  /// Where a neighbour stands, or would.
  private func place(of address: IPv6Address, _ port: Int, at now: Instant) -> Int {
    let product = (address.low ^ address.high ^ UInt64(port))
      .multipliedFullWidth(by: 0x9e37_79b9_7f4a_7c15)
    let first =
      Int(truncatingIfNeeded: (product.high ^ product.low) >> 16) & (entries.count - Self.ways)
    var oldest = first
    for place in first..<first + Self.ways {
      guard let entry = entries[place] else { return place }
      if entry.address == address && entry.port == port { return place }
      if entry.heardAt < entries[oldest]!.heardAt { oldest = place }
    }
    return oldest
  }
}
