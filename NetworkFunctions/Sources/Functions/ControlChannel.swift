/// The function's end of the platform's control channel: the frames of `ControlProtocol` (the
/// platform's target of that name), of which a function knows `hello`, `configure` and counters.
public struct ControlChannel: ~Copyable {
  public static let version: UInt16 = 1
  private static let maximumFrame = 1 << 20
  /// What every `hello` begins with, after length, id and kind.
  public static var greeting: [UInt8] {
    (0..<16).map {
      UInt8(truncatingIfNeeded: ($0 < 8 ? magic.0 : magic.1) >> UInt64(56 - $0 % 8 * 8))
    }
  }
  private static let magic: (UInt64, UInt64) = (0x4d61_7274_6c65_74f5, 0x1b8e_d0ff_93a6_c1fe)
  private static let greetingOffset = 14
  /// Length, id, kind and the document's own length.
  private static let documentOffset = 18
  /// What is never too long.
  private static let shortFrame = 4096
  /// Of memory, for what a document brings besides itself, in octets.
  private static let reserve = 16 << 10
  private static let helloStart = greetingOffset + 16

  private enum Kind {
    static let hello: UInt64 = 1
    static let stop: UInt64 = 2
    static let configure: UInt64 = 3
    static let functionCounters: UInt64 = 10
    static let done: UInt16 = 101
    static let status: UInt16 = 102
    static let refused: UInt16 = 104
    static let countersReply: UInt16 = 105
  }

  private var unread: [UInt8] = []
  /// How long the frame is that has begun, once four octets of it are there.
  private var expected = 0
  /// The last 32 octets, whatever they were read as; the newest is the last one's lowest.
  private var recent: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
  private var isSynchronised = false
  /// Of a request that there is no memory for: how much of it is still to come, and why it is refused.
  private var passingOver = 0
  private var refusal: ConfigurationError?
  /// The function was configured.
  public private(set) var isConfigured = false
  /// The platform has asked for the end.
  public private(set) var mustStop = false
  /// What is to be sent; the driver takes it away.
  public var output: [UInt8] = []

  public init() { unread.reserveCapacity(Self.shortFrame) }

  /// Takes what came and does what it asks.
  public mutating func receive<F: NetworkFunction & ~Copyable, S: Surroundings & ~Copyable>(
    _ octet: UInt8, for function: inout F, in surroundings: inout S
  ) {
    recent.0 = recent.0 << 8 | recent.1 >> 56
    recent.1 = recent.1 << 8 | recent.2 >> 56
    recent.2 = recent.2 << 8 | recent.3 >> 56
    recent.3 = recent.3 << 8 | UInt64(octet)
    // A `hello` begins a connection wherever it stands, also where a request before it was cut off.
    let isGreeted = recent.3 == Self.magic.1 && recent.2 == Self.magic.0
    if isGreeted {
      beginAnew()
    } else if let refusal {
      passingOver -= 1
      guard passingOver == 0 else { return }
      self.refusal = nil
      refuse(number(at: 4, octets: 8), refusal.text)
      unread.removeAll(keepingCapacity: true)
      return
    } else if isSynchronised {
      unread.append(octet)
    }
    guard isSynchronised, unread.count >= 4 else { return }
    if isGreeted || unread.count == 4 {
      let length = Int(number(at: 0, octets: 4))
      // A `hello` has come as far as its greeting, and is short.
      let lengths =
        isGreeted ? Self.helloStart - 4...Self.shortFrame : 10...Self.maximumFrame
      guard lengths ~= length else {
        isSynchronised = false
        unread = []
        return
      }
      expected = 4 + length
    }
    if unread.count == Self.greetingOffset, expected > unread.count {
      refusal = makeRoom(for: expected, memory: surroundings.freeMemory)
      passingOver = expected - unread.count
    }
    guard unread.count == expected else { return }
    handle(for: &function, in: &surroundings)
    unread.removeAll(keepingCapacity: true)
  }

  /// Takes memory for all of a request that begins; it is kept for the next ones.
  /// - Returns: why there is none.
  private mutating func makeRoom(for count: Int, memory: Int) -> ConfigurationError? {
    guard count > Self.shortFrame, count > unread.capacity else { return nil }
    guard count <= Self.documentOffset + Configuration.maximumDocument else {
      return Configuration.tooLong
    }
    var capacity = 2 * Self.shortFrame
    while capacity < count { capacity *= 2 }
    guard capacity <= memory - Self.reserve else {
      return ConfigurationError("there is no memory for so long a document")
    }
    unread.reserveCapacity(capacity)
    return nil
  }

  /// Has the function take a document over, whatever way it came.
  ///
  /// - Throws: where it makes no sense; then all is as before.
  /// - Parameter start: where the document begins in these octets.
  public mutating func configure<F: NetworkFunction & ~Copyable, S: Surroundings & ~Copyable>(
    document: [UInt8], from start: Int = 0, for function: inout F, in surroundings: inout S
  ) throws(ConfigurationError) {
    let configuration = try Configuration(
      document: document, from: start, memory: surroundings.freeMemory - Self.reserve / 2)
    try surroundings.assign(configuration)
    try function.configure(configuration, in: &surroundings)
    surroundings.adopt(configuration, isRouter: function.isRouter)
    isConfigured = true
  }

  /// What came until now is a `hello` as far as its greeting.
  @inline(never)
  private mutating func beginAnew() {
    unread.removeAll(keepingCapacity: true)
    for index in 32 - Self.helloStart..<32 {
      let word = [recent.0, recent.1, recent.2, recent.3][index / 8]
      unread.append(UInt8(truncatingIfNeeded: word >> UInt64(56 - index % 8 * 8)))
    }
    isSynchronised = true
    refusal = nil
  }

  private func number(at offset: Int, octets: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in (0..<octets).reversed() { value = value << 8 | UInt64(unread[offset + index]) }
    return value
  }

  private mutating func handle<F: NetworkFunction & ~Copyable, S: Surroundings & ~Copyable>(
    for function: inout F, in surroundings: inout S
  ) {
    let id = number(at: 4, octets: 8)
    switch number(at: 12, octets: 2) {
    case Kind.hello:
      var body: [UInt8] = []
      body.put(UInt64(Self.version), octets: 2)
      // The state `running`; its process is 0 as long as there is no configuration.
      body.push(1)
      body.put(isConfigured ? 1 : 0, octets: 4)
      reply(id, Kind.status, body)
    case Kind.stop:
      mustStop = true
      reply(id, Kind.done, [])
    case Kind.configure:
      guard unread.count >= Self.documentOffset,
        unread.count == Self.documentOffset + Int(number(at: 14, octets: 4))
      else {
        return refuse(id, ConfigurationError("the request is cut off").text)
      }
      do throws(ConfigurationError) {
        try configure(
          document: unread, from: Self.documentOffset, for: &function, in: &surroundings)
        reply(id, Kind.done, [])
      } catch {
        refuse(id, error.text)
      }
    case Kind.functionCounters:
      var count: UInt64 = 0
      var body: [UInt8] = []
      function.readCounters { name, value in
        count += 1
        body.put(name, value)
      }
      var list: [UInt8] = []
      list.put(count, octets: 2)
      reply(id, Kind.countersReply, list + body)
    default: refuse(id, ConfigurationError("a function does not know this request").text)
    }
  }

  private mutating func refuse(_ id: UInt64, _ reason: [UInt8]) {
    var body: [UInt8] = []
    body.put(UInt64(reason.count), octets: 2)
    reply(id, Kind.refused, body + reason)
  }

  private mutating func reply(_ id: UInt64, _ kind: UInt16, _ body: [UInt8]) {
    output.put(UInt64(10 + body.count), octets: 4)
    output.put(id, octets: 8)
    output.put(UInt64(kind), octets: 2)
    output.append(contentsOf: body)
  }
}

extension [UInt8] {
  /// The lowest octet first.
  @inline(never)
  fileprivate mutating func put(_ value: UInt64, octets: Int) {
    for index in 0..<octets { push(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
  }

  @inline(never)
  fileprivate mutating func put(_ name: StaticString, _ value: UInt64) {
    put(UInt64(name.utf8CodeUnitCount), octets: 2)
    self += [UInt8](name)
    put(value, octets: 8)
  }
}
