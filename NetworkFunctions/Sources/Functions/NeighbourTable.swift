public import Packets

/// The MAC addresses of neighbours that were asked for (RFC 826; RFC 4861).
///
/// Only what was asked for is learnt, so that nobody fills the table with what he invents; and only
/// who has answered stands in it, so that nobody empties it by sending to addresses that nobody has
/// (RFC 6583). Places are few and bounded: a new neighbour takes the place of the one that was
/// longest unheard.
public struct NeighbourTable: Sendable {
  /// In seconds: what is older is asked for again while it goes on serving, and later forgotten.
  private static let freshFor: UInt64 = 60
  private static let knownFor: UInt64 = 120
  private static let second: Instant = 1_000_000_000
  private static let ways = 4
  private static let maximumQuestions = 64

  private struct Entry {
    var address: IPv6Address
    var port: Int
    var mac: MACAddress
    var heardAt: Instant
    var askedAt: Instant?
    /// Another MAC was told, which might not take this one's place.
    var isDoubted = false
  }

  private struct Question {
    var address: IPv6Address
    var port: Int
    var askedAt: Instant
  }

  private var entries: [Entry?]
  /// For neighbours that are not known; the oldest first.
  private var questions: [Question] = []
  /// For those: 1,000 a second, each of which all of a network hear.
  private var allowance = Allowance(burst: 64, every: 1_000_000)

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
    /// Asked for less than a second ago (RFC 1122, section 2.3.2.1), or others were.
    case awaited
  }

  public mutating func find(_ address: IPv6Address, port: Int, at now: Instant) -> Answer {
    let place = place(of: address, port)
    guard var entry = entries[place], entry.address == address, entry.port == port,
      now - entry.heardAt < Self.knownFor * Self.second
    else { return ask(address, port, at: now) }
    guard entry.isDoubted || now - entry.heardAt >= Self.freshFor * Self.second,
      entry.askedAt.map({ now - $0 >= Self.second }) ?? true
    else { return .known(entry.mac) }
    entry.askedAt = now
    entries[place] = entry
    return .stale(entry.mac)
  }

  private mutating func ask(_ address: IPv6Address, _ port: Int, at now: Instant) -> Answer {
    for index in questions.indices
    where questions[index].address == address && questions[index].port == port {
      guard now - questions[index].askedAt >= Self.second else { return .awaited }
      questions.remove(at: index)
      break
    }
    guard allowance.take(at: now) else { return .awaited }
    if questions.count == Self.maximumQuestions { questions.removeFirst() }
    questions.append(Question(address: address, port: port, askedAt: now))
    return .unknown
  }

  /// Takes note of what a neighbour tells of itself.
  /// - Parameter overrides: another MAC may take the known one's place (RFC 4861, section 7.2.5); else
  ///   the neighbour is asked for again.
  /// - Returns: false where nobody wanted to know.
  @discardableResult
  public mutating func learn(
    _ address: IPv6Address, is mac: MACAddress, port: Int, at now: Instant, overrides: Bool = true
  ) -> Bool {
    guard !mac.isMulticast else { return false }
    let place = place(of: address, port)
    if entries[place]?.address != address || entries[place]?.port != port {
      var wasAsked = false
      for index in questions.indices
      where questions[index].address == address && questions[index].port == port {
        questions.remove(at: index)
        wasAsked = true
        break
      }
      guard wasAsked else { return false }
    } else if !overrides, let known = entries[place], known.mac != mac,
      now - known.heardAt < Self.knownFor * Self.second
    {
      entries[place]!.isDoubted = true
      return false
    }
    entries[place] = Entry(address: address, port: port, mac: mac, heardAt: now)
    return true
  }

  /// Where a neighbour stands, or would.
  private func place(of address: IPv6Address, _ port: Int) -> Int {
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
