import Packets

/// One end of a connection, as RFC 9293, section 3.3.1 names its variables. Of a class, as copies of
/// all of it would be a tenth of the smallest image.
final class TCPConnection {
  enum State: Sendable {
    case synReceived
    case established
    /// The peer has closed, or all is sent that was asked for; what is left is, then our FIN.
    case closing
    /// Our FIN was sent.
    case lastAck
    /// It was acknowledged before the peer has closed; he is waited for, and then for whether he has
    /// read that we know it (FIN-WAIT-2 and TIME-WAIT).
    case finished
    /// Not in the table any more.
    case closed
  }

  let key: FlowKey
  var port: Int
  var peer: MACAddress
  var own: MACAddress
  var tag: UInt16?
  var service: TCPService
  var state = State.synReceived
  var peerHasClosed = false
  /// RCV.NXT
  var expected: UInt32
  /// The first sequence number.
  var initial: UInt32
  /// SND.UNA, SND.NXT, and the highest that was ever sent.
  var unacknowledged: UInt32
  var next: UInt32
  var highest: UInt32
  /// SND.WND in octets, and what shifts it.
  var window: UInt32 = 0
  var windowShift: UInt8
  /// Whether the peer understood our own shift.
  var shiftsOwn: Bool
  /// Payload of a segment.
  var segment: Int
  /// What we take of one.
  let ownSegment: UInt16
  var congestionWindow: UInt32
  var threshold: UInt32 = .max
  var duplicates: UInt8 = 0
  /// When the oldest octet is sent again.
  var retransmission = Instant.max
  /// How often it was.
  var retries: UInt8 = 0
  /// When generating ends, and the number after its last octet.
  private var deadline = Instant.max
  private var limit: UInt32?
  /// Stands among those that time is looked at for.
  var isActive = false
  /// What came beyond ``expected`` and is not wanted again, without its octets.
  var ahead: (start: UInt32, end: UInt32)?
  /// What echo has taken and not yet had acknowledged; the first is `unacknowledged`'s.
  var stored: [UInt8] = []

  init(
    _ key: FlowKey, port: Int, to peer: MACAddress, from own: MACAddress, tag: UInt16?,
    _ service: TCPService, expected: UInt32, initial: UInt32, options: TCPOptions, segment: Int,
    ownSegment: UInt16, window: UInt16
  ) {
    self.key = key
    self.port = port
    self.peer = peer
    self.own = own
    self.tag = tag
    self.service = service
    self.expected = expected
    self.initial = initial
    unacknowledged = initial
    next = initial &+ 1
    highest = initial &+ 1
    windowShift = options.windowScale ?? 0
    shiftsOwn = options.windowScale != nil
    self.segment = segment
    self.ownSegment = ownSegment
    self.window = UInt32(window)
    congestionWindow = UInt32(10 * segment)
  }

  var inFlight: UInt32 { next &- unacknowledged }

  /// Payload that a frame of our own has room for.
  var room: Int {
    OwnFrame.room - (tag == nil ? 14 : 18)
      - (key.source.ipv4 != nil ? IPv4Header.minimumLength : IPv6Header.length)
      - TCPHeader.minimumLength
  }
}

// MARK: iperf

extension TCPConnection {
  /// Does what a client has asked for by its first octets; nil is nothing.
  func begin(_ request: IperfRequest?, at now: Instant) {
    service = request == nil ? .discard : .generate
    switch request?.extent {
    case .octets(let count): limit = initial &+ 1 &+ count
    case .nanoseconds(let time): deadline = now &+ time
    case nil: break
    }
  }

  /// What may still be generated, in octets.
  var remaining: Int { limit.map { Int(Int32(bitPattern: $0 &- next)) } ?? .max }

  /// Whether nothing more is to be generated, of what was asked for.
  func hasSentAll(at now: Instant) -> Bool {
    state == .established && service == .generate && (now >= deadline || highest == limit)
  }
}

// MARK: What came ahead

extension TCPConnection {
  /// One range is remembered: two processors of a host that send one flow in turn change the order
  /// of what lies between them, and a sender would repeat it all.
  func noteAhead(_ start: UInt32, _ end: UInt32) {
    guard let known = ahead else {
      ahead = (start, end)
      return
    }
    guard Int32(bitPattern: start &- known.end) <= 0, Int32(bitPattern: known.start &- end) <= 0
    else { return }
    if Int32(bitPattern: start &- known.start) < 0 { ahead!.start = start }
    if Int32(bitPattern: end &- known.end) > 0 { ahead!.end = end }
  }

  /// Where the hole before it is filled, counts what came ahead as received.
  ///
  /// - Returns: how many octets that were.
  func takeAhead() -> Int {
    guard let known = ahead, Int32(bitPattern: known.start &- expected) <= 0 else { return 0 }
    ahead = nil
    let count = Int32(bitPattern: known.end &- expected)
    guard count > 0 else { return 0 }
    expected = known.end
    return Int(count)
  }
}
