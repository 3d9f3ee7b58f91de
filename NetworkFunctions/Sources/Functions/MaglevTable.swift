/// Which backend serves a flow: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4). Backends
/// get equal shares, and when one goes or comes, few flows of the others change theirs.
public struct MaglevTable: Sendable {
  /// A prime much larger than the number of backends: shares differ by 1 % at most with up to
  /// ``size`` / 100 of them.
  public static let size = 2039

  private var entries: [UInt8]

  /// - Parameters:
  ///   - names: a number for each backend that stays the same whatever others there are, such as
  ///     its address; at most 255 of them.
  ///   - isServing: false for a backend that gets no new flows.
  public init(names: [UInt64], isServing: [Bool]) {
    precondition(names.count == isServing.count && names.count <= 255)
    let size = UInt64(Self.size)
    guard isServing.contains(true) else {
      entries = []
      return
    }
    // The places that a backend would like, in its order: offset, offset + skip, ...
    var wishes: [(backend: UInt8, next: UInt64, skip: UInt64)] = []
    for (backend, name) in names.enumerated() where isServing[backend] {
      wishes.append(
        (
          UInt8(backend), Self.scatter(name) % size,
          Self.scatter(name ^ 0x5851_f42d_4c95_7f2d) % (size - 1) + 1
        ))
    }
    let none = UInt8.max
    entries = Array(repeating: none, count: Self.size)
    var filled = 0
    var turn = 0
    while filled < Self.size {
      let (backend, place, skip) = wishes[turn]
      // As a remainder, without a division: 4,000 of them took 0.2 ms where QEMU interprets.
      wishes[turn].next = place + skip < size ? place + skip : place + skip - size
      guard entries[Int(place)] == none else { continue }
      entries[Int(place)] = backend
      filled += 1
      turn = turn + 1 == wishes.count ? 0 : turn + 1
    }
  }

  /// The backend of a flow, by its place among the names; nil where none serves.
  public func backend(for hash: UInt64) -> Int? {
    entries.isEmpty ? nil : Int(entries[Int(hash % UInt64(entries.count))])
  }

  /// The finaliser of MurmurHash3: every bit of a name moves half of the result's.
  private static func scatter(_ value: UInt64) -> UInt64 {
    var value = value
    value = (value ^ value >> 33) &* 0xff51_afd7_ed55_8ccd
    value = (value ^ value >> 33) &* 0xc4ce_b9fe_1a85_ec53
    return value ^ value >> 33
  }
}
