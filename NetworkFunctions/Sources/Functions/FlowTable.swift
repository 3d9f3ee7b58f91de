/// How long a flow may be idle. Each has a queue of its own in a ``FlowTable``, in the order of last
/// use, so that the flows to forget stand in front.
public enum FlowLifetime: Int, Sendable {
  /// One packet was seen, or the end of the flow.
  case transitory = 0
  case established = 1
  /// As `established`, for protocols without connections.
  case datagrams = 2
}

/// Flows with what a function knows of each, in memory that is taken once.
///
/// A flow has one key or two: that of its packets and, where addresses are translated, that of its
/// answers. Finding, adding and forgetting take constant time. A flow is forgotten when it was
/// idle for the time of its ``FlowLifetime``; where the table is full, the longest idle flow that is
/// not yet established makes room, and where all are established a new one finds none.
public struct FlowTable<Value>: ~Copyable {
  /// A flow's place; valid until it is forgotten.
  public typealias Index = Int

  struct Entry {
    var key: FlowKey
    var answers: FlowKey
    var value: Value
    /// In the clock's seconds.
    var usedAt: UInt32
    var lifetime: FlowLifetime
    /// In the chain of its bucket: by ``key``, by ``answers``.
    var next: Int32
    var nextAnswers: Int32
    /// In the queue of its lifetime, or `later` alone in the list of free places.
    var earlier: Int32
    var later: Int32
  }

  /// In seconds, by ``FlowLifetime``.
  public var idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32)

  var entries: [Entry?]
  var buckets: [Int32]
  var answerBuckets: [Int32]
  /// First and last of each queue.
  var first: (Int32, Int32, Int32) = (-1, -1, -1)
  var last: (Int32, Int32, Int32) = (-1, -1, -1)
  var free: [Int32]
  let secret: Secret
  let mask: UInt64

  /// - Parameters:
  ///   - capacity: how many flows there can be.
  ///   - secret: not known outside, so that nobody can choose keys that meet.
  ///   - idleLimits: in seconds.
  public init(
    capacity: Int, secret: Secret,
    idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32)
  ) {
    let capacity = max(1, capacity)
    var size = 1
    while size < capacity { size *= 2 }
    entries = Array(repeating: nil, count: capacity)
    buckets = Array(repeating: -1, count: size)
    answerBuckets = Array(repeating: -1, count: size)
    free = []
    free.reserveCapacity(capacity)
    for index in 0..<capacity { free.append(Int32(capacity - 1 - index)) }
    mask = UInt64(size - 1)
    self.secret = secret
    self.idleLimits = idleLimits
  }

  public var capacity: Int { entries.count }
  public var count: Int { entries.count - free.count }

  public subscript(index: Index) -> Value {
    get { entries[index]!.value }
    _modify { yield &entries[index]!.value }
  }

  public func key(of index: Index) -> FlowKey { entries[index]!.key }

  public func answersKey(of index: Index) -> FlowKey { entries[index]!.answers }

  /// The flow of a packet, or of an answer to it.
  public func find(_ key: FlowKey) -> (index: Index, isAnswer: Bool)? {
    let bucket = Int(truncatingIfNeeded: key.hash(secret) & mask)
    var index = buckets[bucket]
    while index >= 0 {
      let entry = entries[Int(index)]!
      if entry.key == key { return (Int(index), false) }
      index = entry.next
    }
    index = answerBuckets[bucket]
    while index >= 0 {
      let entry = entries[Int(index)]!
      if entry.answers == key { return (Int(index), true) }
      index = entry.nextAnswers
    }
    return nil
  }

  /// Adds a flow whose keys are not there yet.
  /// - Parameter forgotten: is told of the flow that made room.
  /// - Returns: nil where there is no room.
  public mutating func add(
    _ key: FlowKey, answers: FlowKey, _ value: Value, _ lifetime: FlowLifetime, at now: UInt32,
    forgotten: (FlowKey, FlowKey, Value) -> Void
  ) -> Index? {
    if free.isEmpty {
      guard first.0 >= 0 else { return nil }
      let oldest = entries[Int(first.0)]!
      remove(Int(first.0))
      forgotten(oldest.key, oldest.answers, oldest.value)
    }
    guard let place = free.popLast() else { return nil }
    let bucket = bucket(of: key)
    let answerBucket = self.bucket(of: answers)
    entries[Int(place)] = Entry(
      key: key, answers: answers, value: value, usedAt: now, lifetime: lifetime,
      next: buckets[bucket], nextAnswers: answerBuckets[answerBucket], earlier: -1, later: -1)
    buckets[bucket] = place
    answerBuckets[answerBucket] = place
    enqueue(place)
    return Int(place)
  }

  /// Notes that a packet of the flow passed.
  public mutating func use(_ index: Index, _ lifetime: FlowLifetime, at now: UInt32) {
    // Most packets come in the second of the one before.
    let entry = entries[index]!
    if entry.usedAt == now && entry.lifetime == lifetime { return }
    dequeue(Int32(index))
    entries[index]!.usedAt = now
    entries[index]!.lifetime = lifetime
    enqueue(Int32(index))
  }

  public mutating func remove(_ index: Index) {
    let place = Int32(index)
    let entry = entries[index]!
    dequeue(place)
    unchain(place, entry)
    entries[index] = nil
    free.append(place)
  }

  /// Forgets flows that were idle for too long.
  /// - Parameters:
  ///   - limit: how many at most, so that this takes bounded time.
  ///   - forgotten: is told of each.
  public mutating func expire(
    at now: UInt32, limit: Int = 64, forgotten: (FlowKey, FlowKey, Value) -> Void
  ) {
    var left = limit
    for lifetime in 0..<3 {
      let idleLimit =
        lifetime == 0
        ? idleLimits.transitory : lifetime == 1 ? idleLimits.established : idleLimits.datagrams
      while left > 0 {
        let place = lifetime == 0 ? first.0 : lifetime == 1 ? first.1 : first.2
        guard place >= 0, now &- entries[Int(place)]!.usedAt >= idleLimit else { break }
        let entry = entries[Int(place)]!
        remove(Int(place))
        forgotten(entry.key, entry.answers, entry.value)
        left -= 1
      }
    }
  }

  // MARK: Chains and queues

  private func bucket(of key: FlowKey) -> Int {
    Int(truncatingIfNeeded: key.hash(secret) & mask)
  }

  private mutating func unchain(_ place: Int32, _ entry: Entry) {
    let bucket = bucket(of: entry.key)
    if buckets[bucket] == place {
      buckets[bucket] = entry.next
    } else {
      var index = Int(buckets[bucket])
      while entries[index]!.next != place { index = Int(entries[index]!.next) }
      entries[index]!.next = entry.next
    }
    let answerBucket = self.bucket(of: entry.answers)
    if answerBuckets[answerBucket] == place {
      answerBuckets[answerBucket] = entry.nextAnswers
    } else {
      var index = Int(answerBuckets[answerBucket])
      while entries[index]!.nextAnswers != place { index = Int(entries[index]!.nextAnswers) }
      entries[index]!.nextAnswers = entry.nextAnswers
    }
  }

  private func ends(_ lifetime: FlowLifetime) -> (first: Int32, last: Int32) {
    switch lifetime {
    case .transitory: (first.0, last.0)
    case .established: (first.1, last.1)
    case .datagrams: (first.2, last.2)
    }
  }

  private mutating func setEnds(_ lifetime: FlowLifetime, _ ends: (first: Int32, last: Int32)) {
    switch lifetime {
    case .transitory: (first.0, last.0) = ends
    case .established: (first.1, last.1) = ends
    case .datagrams: (first.2, last.2) = ends
    }
  }

  private mutating func enqueue(_ place: Int32) {
    let lifetime = entries[Int(place)]!.lifetime
    var ends = ends(lifetime)
    entries[Int(place)]!.earlier = ends.last
    entries[Int(place)]!.later = -1
    if ends.last >= 0 { entries[Int(ends.last)]!.later = place } else { ends.first = place }
    ends.last = place
    setEnds(lifetime, ends)
  }

  private mutating func dequeue(_ place: Int32) {
    let entry = entries[Int(place)]!
    var ends = ends(entry.lifetime)
    if entry.earlier >= 0 {
      entries[Int(entry.earlier)]!.later = entry.later
    } else {
      ends.first = entry.later
    }
    if entry.later >= 0 {
      entries[Int(entry.later)]!.earlier = entry.earlier
    } else {
      ends.last = entry.earlier
    }
    setEnds(entry.lifetime, ends)
  }
}
