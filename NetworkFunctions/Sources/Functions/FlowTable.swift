public import Packets

/// How long a flow may be idle. Each has a queue of its own in a ``FlowTable``, in the order of last
/// use, so that the flows to forget stand in front.
public enum FlowLifetime: UInt8, Sendable {
  /// One packet was seen, or the end of the flow.
  case transitory = 0
  case established = 1
  /// As `established`, for protocols without connections.
  case datagrams = 2
  /// Datagrams of one side only; idle for as long as `datagrams`.
  case unanswered = 3
}

/// Flows with what a function knows of each, in memory that is taken once; of a machine's or a
/// program's it is only touched, and so the host's, as far as there have been flows at a time.
///
/// A flow has two keys: that of its packets, and that of its answers, which is another one than the
/// reversed where addresses are translated. Finding, adding and forgetting take constant time. A
/// flow is forgotten when it was idle for the time of its ``FlowLifetime``; where the table is full,
/// the longest idle flow of which only one side was seen, or that has ended, makes room: who invents
/// senders drives out no others. Where none is like that a new one finds no room.
///
/// A table can count how many of its flows each host has begun, so that none takes all of them
/// (RFC 6888, REQ-5). It does so by four numbers for each host, which few others share, and of which
/// the smallest one counts: never too few, and too many where all are shared, which nobody can bring
/// about, as a secret decides. So it takes 8 octets a flow, and nothing of what passes afterwards.
public struct FlowTable<Value>: ~Copyable {
  /// A flow's place; valid until it is forgotten.
  public typealias Index = Int

  private struct Entry {
    var key: FlowKey
    var answers: FlowKey
    /// nil where the place is free.
    var value: Value?
    var hash: UInt32 = 0
    var answersHash: UInt32 = 0
    /// In the clock's seconds.
    var usedAt: UInt32 = 0
    /// In the queue of its lifetime, or `later` alone in the list of free places.
    var earlier: Int32 = -1
    var later: Int32 = -1
    var lifetime = FlowLifetime.transitory
    /// Who sends the answers has begun it.
    var isBegunByAnswers = false
  }

  /// In seconds, by ``FlowLifetime``.
  public let idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32)

  /// As many as there have been at a time; there is place for ``capacity``.
  private var entries: [Entry] = []
  public private(set) var capacity = 0
  /// Open addressing, at most half full. 0 is empty; else the lower 24 bits are one more than twice
  /// the place, and one more yet for the answers' key, and the upper ones are those of the hash.
  private var slots: [UInt32] = [0]
  private var mask = 0
  private var free: Int32 = -1
  private var first = InlineArray<4, Int32>(repeating: -1)
  private var last = InlineArray<4, Int32>(repeating: -1)
  private let secret: Secret
  /// How many flows hosts have begun, in four parts, where ``countsHosts``.
  private var begun: [Int32] = []
  private let countsHosts: Bool
  /// How many flows a host may have begun, where they are counted.
  public var hostLimit = Int.max
  public private(set) var count = 0

  public static var maximumCapacity: Int { 1 << 22 }

  /// - Parameters:
  ///   - capacity: how many flows there can be, at most ``maximumCapacity``.
  ///   - idleLimits: in seconds.
  ///   - countsHosts: how many flows each host has begun is known.
  public init(
    capacity: Int, secret: Secret,
    idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32),
    countsHosts: Bool = false
  ) {
    self.secret = secret
    self.countsHosts = countsHosts
    self.idleLimits = idleLimits
    grow(to: capacity)
  }

  public subscript(index: Index) -> Value {
    get { entries[index].value! }
    _modify { yield &entries[index].value! }
  }

  public func key(of index: Index) -> FlowKey { entries[index].key }

  public func answersKey(of index: Index) -> FlowKey { entries[index].answers }

  /// The flow of a packet, or of an answer to it.
  public func find(_ key: FlowKey) -> (index: Index, isAnswer: Bool)? {
    let hash = UInt32(truncatingIfNeeded: key.hash(secret))
    var slot = Int(hash) & mask
    while slots[slot] != 0 {
      if slots[slot] >> 24 == hash >> 24 {
        let reference = Int(slots[slot] & 0xff_ffff) - 1
        let place = reference >> 1
        if reference & 1 == 0 {
          if entries[place].key == key { return (place, false) }
        } else if entries[place].answers == key {
          return (place, true)
        }
      }
      slot = (slot + 1) & mask
    }
    return nil
  }

  /// Whether a host may begin another flow.
  public func mayBegin(_ host: IPv6Address) -> Bool {
    guard !begun.isEmpty else { return true }
    let places = places(of: host)
    for index in 0..<4 where begun[places[index]] < hostLimit { return true }
    return false
  }

  /// Adds a flow whose keys are not there yet, and which its host may begin.
  /// - Parameters:
  ///   - isBegunByAnswers: its first packet was an answer, as it is seen here.
  ///   - forgotten: is told of the flow that made room.
  /// - Returns: nil where there is no room.
  public mutating func add(
    _ key: FlowKey, answers: FlowKey, _ value: Value, _ lifetime: FlowLifetime, at now: UInt32,
    isBegunByAnswers: Bool = false, forgotten: (FlowKey, FlowKey, Value) -> Void
  ) -> Index? {
    guard makeRoom(forgotten: forgotten) else { return nil }
    let place = takePlace()
    entries[place].key = key
    entries[place].answers = answers
    entries[place].value = value
    entries[place].hash = UInt32(truncatingIfNeeded: key.hash(secret))
    entries[place].answersHash = UInt32(truncatingIfNeeded: answers.hash(secret))
    entries[place].usedAt = now
    entries[place].lifetime = lifetime
    entries[place].isBegunByAnswers = isBegunByAnswers
    count += 1
    noteBeginning(of: place, 1)
    insert(place * 2)
    insert(place * 2 + 1)
    enqueue(place)
    return place
  }

  /// The place of one that was forgotten, else the next that none has had.
  private mutating func takePlace() -> Int {
    guard free < 0 else {
      let place = Int(free)
      free = entries[place].later
      return place
    }
    let none = FlowKey(
      source: .unspecified, destination: .unspecified, sourcePort: 0, destinationPort: 0,
      protocol: .init(0))
    entries.append(Entry(key: none, answers: none, value: nil))
    return entries.count - 1
  }

  /// Sees to it that there is room for one more flow.
  /// - Parameter forgotten: is told of the flow that made it.
  /// - Returns: false where there is none.
  public mutating func makeRoom(forgotten: (FlowKey, FlowKey, Value) -> Void) -> Bool {
    guard free < 0, entries.count == capacity else { return true }
    let half = first[Int(FlowLifetime.transitory.rawValue)]
    let lone = first[Int(FlowLifetime.unanswered.rawValue)]
    guard half >= 0 || lone >= 0 else { return false }
    let isHalf =
      lone < 0
      || half >= 0
        && Int32(bitPattern: entries[Int(half)].usedAt &- entries[Int(lone)].usedAt) <= 0
    forget(Int(isHalf ? half : lone), forgotten)
    return true
  }

  /// Notes that a packet of the flow passed.
  public mutating func use(_ index: Index, _ lifetime: FlowLifetime, at now: UInt32) {
    // Most packets come in the second of the one before.
    if entries[index].usedAt == now && entries[index].lifetime == lifetime { return }
    dequeue(index)
    entries[index].usedAt = now
    entries[index].lifetime = lifetime
    enqueue(index)
  }

  public mutating func remove(_ index: Index) {
    dequeue(index)
    erase(index * 2)
    erase(index * 2 + 1)
    noteBeginning(of: index, -1)
    entries[index].value = nil
    entries[index].later = free
    free = Int32(index)
    count -= 1
  }

  /// Forgets flows that were idle for too long.
  /// - Parameters:
  ///   - limit: how many at most, so that this takes bounded time.
  ///   - forgotten: is told of each.
  public mutating func expire(
    at now: UInt32, limit: Int = 64, forgotten: (FlowKey, FlowKey, Value) -> Void
  ) {
    var left = limit
    for queue in 0..<4 {
      let idleLimit =
        queue == 0
        ? idleLimits.transitory : queue == 1 ? idleLimits.established : idleLimits.datagrams
      while left > 0, first[queue] >= 0, now &- entries[Int(first[queue])].usedAt >= idleLimit {
        forget(Int(first[queue]), forgotten)
        left -= 1
      }
    }
  }

  /// Forgets the flows of which `isGone` says so; looks at every one.
  public mutating func removeAll(where isGone: (FlowKey, FlowKey, Value) -> Bool) {
    for place in entries.indices {
      guard let value = entries[place].value,
        isGone(entries[place].key, entries[place].answers, value)
      else { continue }
      remove(place)
    }
  }

  /// How much memory ``grow(to:)`` takes, in octets.
  public func memory(for capacity: Int) -> Int {
    capacity > self.capacity ? Self.memory(of: capacity, countsHosts: countsHosts) : 0
  }

  /// How much memory one of this capacity has, in octets.
  public static func memory(of capacity: Int, countsHosts: Bool = false) -> Int {
    capacity * MemoryLayout<Entry>.stride + 4 * slotCount(for: capacity)
      + (countsHosts ? 4 * countCount(for: capacity) : 0)
  }

  /// Two for each flow, and so many that hosts do not meet where there are few.
  private static func countCount(for capacity: Int) -> Int {
    max(2048, slotCount(for: capacity) / 2)
  }

  private static func slotCount(for capacity: Int) -> Int {
    var size = 4
    while size < 4 * capacity { size *= 2 }
    return size
  }

  /// Makes place for more flows; those that are there stay. Fewer than now is the same as now.
  public mutating func grow(to capacity: Int) {
    let capacity = min(capacity, Self.maximumCapacity)
    guard capacity > self.capacity else { return }
    self.capacity = capacity
    entries.reserveCapacity(capacity)
    slots = Array(zeros: Self.slotCount(for: capacity))
    mask = slots.count - 1
    if countsHosts { begun = Array(zeros: Self.countCount(for: capacity)) }
    for place in entries.indices where entries[place].value != nil {
      noteBeginning(of: place, 1)
      insert(place * 2)
      insert(place * 2 + 1)
    }
  }

  private mutating func forget(_ place: Int, _ forgotten: (FlowKey, FlowKey, Value) -> Void) {
    let entry = entries[place]
    remove(place)
    if let value = entry.value { forgotten(entry.key, entry.answers, value) }
  }

  // MARK: Hosts

  /// Where each of a host's numbers stands.
  private func places(of host: IPv6Address) -> InlineArray<4, Int> {
    var hash = secret.hash(host.high, host.low)
    let part = begun.count / 4
    var places = InlineArray<4, Int>(repeating: 0)
    for index in 0..<4 {
      places[index] = index * part + (Int(hash >> 32) & (part - 1))
      hash &*= 0x9e37_79b9_7f4a_7c15
    }
    return places
  }

  private mutating func noteBeginning(of place: Int, _ change: Int32) {
    guard countsHosts else { return }
    let entry = entries[place]
    let places = places(
      of: entry.isBegunByAnswers ? entry.answers.source : entry.key.source)
    for index in 0..<4 { begun[places[index]] += change }
  }

  // MARK: Slots

  private func hash(_ reference: Int) -> UInt32 {
    reference & 1 == 0 ? entries[reference >> 1].hash : entries[reference >> 1].answersHash
  }

  private mutating func insert(_ reference: Int) {
    let hash = hash(reference)
    var slot = Int(hash) & mask
    while slots[slot] != 0 { slot = (slot + 1) & mask }
    slots[slot] = UInt32(reference + 1) | hash & 0xff00_0000
  }

  /// What stands behind the gap and belongs before it moves up, so that nothing marks what was.
  private mutating func erase(_ reference: Int) {
    var gap = Int(hash(reference)) & mask
    while Int(slots[gap] & 0xff_ffff) != reference + 1 { gap = (gap + 1) & mask }
    var next = (gap + 1) & mask
    while slots[next] != 0 {
      let home = Int(hash(Int(slots[next] & 0xff_ffff) - 1)) & mask
      if (next - home) & mask >= (next - gap) & mask {
        slots[gap] = slots[next]
        gap = next
      }
      next = (next + 1) & mask
    }
    slots[gap] = 0
  }

  // MARK: Queues

  private mutating func enqueue(_ place: Int) {
    let queue = Int(entries[place].lifetime.rawValue)
    let end = last[queue]
    entries[place].earlier = end
    entries[place].later = -1
    if end >= 0 { entries[Int(end)].later = Int32(place) } else { first[queue] = Int32(place) }
    last[queue] = Int32(place)
  }

  private mutating func dequeue(_ place: Int) {
    let queue = Int(entries[place].lifetime.rawValue)
    let (earlier, later) = (entries[place].earlier, entries[place].later)
    if earlier >= 0 { entries[Int(earlier)].later = later } else { first[queue] = later }
    if later >= 0 { entries[Int(later)].earlier = earlier } else { last[queue] = earlier }
  }
}

extension Array where Element: FixedWidthInteger {
  /// As `repeating: 0`, which would store them one by one.
  fileprivate init(zeros count: Int) {
    self.init(unsafeUninitializedCapacity: count) { numbers, initialized in
      // SAFETY: all bits 0 is a whole number's 0; the memory is bound to numbers again.
      let memory = UnsafeMutableRawBufferPointer(numbers)
      memory.initializeMemory(as: UInt8.self, repeating: 0)
      memory.bindMemory(to: Element.self)
      initialized = count
    }
  }
}
