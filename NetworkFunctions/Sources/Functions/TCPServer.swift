import Packets

/// A small TCP server (RFC 9293) for bulk one way: segmented frames both ways, Reno's windows
/// (RFC 5681), retransmission from the oldest octet. What comes out of order is asked for again.
struct TCPServer: ~Copyable {
  struct Counters: Sendable {
    var accepted: UInt64 = 0
    var refused: UInt64 = 0
    var octetsReceived: UInt64 = 0
    var octetsSent: UInt64 = 0
    var retransmissions: UInt64 = 0
  }

  /// Our window is counted in 64 octets.
  private static let ownShift: UInt8 = 6
  /// Of a discarding connection, in octets.
  private static let ownWindow: UInt32 = 2 << 20
  /// What echo stores and so offers: no more than the first buffer of any card holds of a frame, as
  /// the octets are read from there. Of what came beyond it a peer learned by its timer alone.
  private static let storage = 3840
  private static let timeout: Instant = 200_000_000
  /// Of a SYN and ACK, at first (RFC 6298, section 2.1).
  private static let openingTimeout: Instant = 1_000_000_000
  /// Of connections, in seconds: not yet established, and others.
  private static let idleLimits: (transitory: UInt32, established: UInt32, datagrams: UInt32) =
    (5, 300, 300)
  private static let maximumRetries: UInt8 = 8
  /// Of a SYN and ACK: who gives another one's address sends him no more than three of them.
  private static let maximumOpeningRetries: UInt8 = 2
  /// Letters over and over, and one largest payload more: any part of any length is in it.
  private static let period = 26
  private static let largestPayload = 65_000
  // SAFETY: never written after it was made, and never freed.
  private nonisolated(unsafe) static let pattern: UnsafeRawBufferPointer = {
    let octets = UnsafeMutableRawBufferPointer.allocate(
      byteCount: largestPayload + period, alignment: 8)
    for index in 0..<octets.count { octets[index] = 0x61 + UInt8(index % period) }
    return UnsafeRawBufferPointer(octets)
  }()

  var counters = Counters()
  private var connections = FlowTable<TCPConnection>(
    capacity: 0, secret: Secret(0, 0), idleLimits: Self.idleLimits)
  private var secret: Secret?
  /// Connections that send or wait for an acknowledgement, and some that are gone.
  private var active: [TCPConnection] = []
  /// When one of them is due at the earliest.
  private var due = Instant.max
  /// A frame could not be emitted.
  private var isBlocked = false

  private static let capacity = 512

  init() {}

  /// Once, before the first segment.
  mutating func prepare<S: Surroundings & ~Copyable>(in surroundings: inout S) {
    guard secret == nil else { return }
    secret = Secret(from: &surroundings)
    connections = FlowTable(
      capacity: Self.capacity, secret: Secret(from: &surroundings), idleLimits: Self.idleLimits)
  }

  /// RFC 6528, section 3: a clock of 4 µs, moved for each pair of endpoints by what only we know.
  static func initialSequence(of key: FlowKey, _ secret: Secret, at now: Instant) -> UInt32 {
    UInt32(truncatingIfNeeded: now / 4000 &+ key.hash(secret))
  }

  // MARK: Receiving

  @_lifetime(frame: copy frame)
  mutating func receive<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, _ ethernet: EthernetHeader, _ datagram: Datagram,
    mtu: Int, in surroundings: inout S
  ) -> Verdict {
    guard let header = TCPHeader(in: frame, datagram), datagram.isTransportRight(in: frame) else {
      return .drop
    }
    let key = FlowKey(
      source: datagram.source, destination: datagram.destination, sourcePort: header.source,
      destinationPort: header.destination, protocol: .tcp)
    let opens = header.flags.intersection([.syn, .ack, .rst, .fin]) == .syn
    if let (index, _) = connections.find(key) {
      let connection = connections[index]
      guard opens, connection.state == .synReceived else {
        return receive(&frame, ethernet, datagram, header, key, in: &surroundings)
      }
      // A SYN sent again is answered as the first was, which may be on its way yet.
      if header.sequence &+ 1 == connection.expected {
        writeOpening(of: connection, to: &frame)
        return .send(port: connection.port)
      }
      remove(index)
    }
    guard opens, let service = TCPService(port: header.destination) else {
      return refuse(&frame, ethernet, datagram, header, from: port)
    }
    return accept(
      &frame, from: port, ethernet, datagram, header, service, key: key, mtu: mtu, in: &surroundings
    )
  }

  /// RFC 9293, section 3.10.7.1.
  @_lifetime(frame: copy frame)
  private mutating func refuse(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, _ header: TCPHeader,
    from port: Int
  ) -> Verdict {
    guard !header.flags.contains(.rst) else { return .drop }
    counters.refused &+= 1
    let payload = datagram.transportLength - header.headerLength
    let reply =
      header.flags.contains(.ack)
      ? TCPHeader(
        source: header.destination, destination: header.source,
        sequence: header.acknowledgement, acknowledgement: 0, flags: .rst)
      : TCPHeader(
        source: header.destination, destination: header.source, sequence: 0,
        acknowledgement: header.sequence &+ header.span(payload: payload), flags: [.rst, .ack])
    frame.writeSegment(
      reply, to: ethernet.source, from: ethernet.destination, tag: ethernet.tag,
      datagram.destination, datagram.source, payload: 0, isComplete: true)
    return .send(port: port)
  }

  @_lifetime(frame: copy frame)
  private mutating func accept<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, _ ethernet: EthernetHeader, _ datagram: Datagram,
    _ header: TCPHeader, _ service: TCPService, key: FlowKey, mtu: Int, in surroundings: inout S
  ) -> Verdict {
    let options = TCPOptions(in: frame, at: datagram.transport, of: header)
    let headers = (datagram.version == .ipv4 ? 20 : 40) + TCPHeader.minimumLength
    // RFC 9293, section 3.7.1: what is assumed where nothing is said.
    let offered = Int(options.maximumSegment ?? (datagram.version == .ipv4 ? 536 : 1220))
    let segment = max(64, min(offered, mtu - headers, Self.largestPayload))
    guard let secret else { return .drop }
    let initial = Self.initialSequence(of: key, secret, at: surroundings.now)
    let connection = TCPConnection(
      key, port: port, to: ethernet.source, from: ethernet.destination, tag: ethernet.tag, service,
      expected: header.sequence &+ 1, initial: initial, options: options, segment: segment,
      ownSegment: UInt16(truncatingIfNeeded: mtu - headers), window: header.window)
    connections.expire(at: surroundings.seconds) { _, _, gone in gone.state = .closed }
    guard
      connections.add(
        key, answers: key.reversed, connection, .transitory, at: surroundings.seconds,
        forgotten: { _, _, gone in gone.state = .closed }) != nil
    else { return refuse(&frame, ethernet, datagram, header, from: port) }
    counters.accepted &+= 1
    connection.retransmission = surroundings.now + Self.openingTimeout
    activate(connection)
    writeOpening(of: connection, to: &frame)
    return .send(port: port)
  }

  /// SYN and ACK.
  @_lifetime(frame: copy frame)
  private func writeOpening(of connection: TCPConnection, to frame: inout Frame) {
    let key = connection.key
    var header = TCPHeader(
      source: key.destinationPort, destination: key.sourcePort, sequence: connection.initial,
      acknowledgement: connection.expected, flags: [.syn, .ack],
      window: UInt16(min(windowSize(connection), 0xffff)))
    let options = TCPOptions(
      maximumSegment: connection.ownSegment,
      windowScale: connection.shiftsOwn ? Self.ownShift : nil)
    header.headerLength += options.length
    frame.writeSegment(
      header, to: connection.peer, from: connection.own, tag: connection.tag, key.destination,
      key.source, payload: 0, options: options, isComplete: true)
  }

  @_lifetime(frame: copy frame)
  private mutating func receive<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, _ header: TCPHeader,
    _ key: FlowKey, in surroundings: inout S
  ) -> Verdict {
    guard let (index, _) = connections.find(key) else { return .drop }
    let connection = connections[index]
    if header.flags.contains(.rst) {
      // RFC 5961, section 3.2: only the exact number is believed.
      if header.sequence == connection.expected { remove(index) }
      return .drop
    }
    if header.flags.contains(.syn) {
      // RFC 5961, section 4.2.
      return acknowledge(&frame, ethernet, datagram, header, connection)
    }
    guard header.flags.contains(.ack) else { return .drop }
    let isOpening = connection.state == .synReceived
    guard
      Int32(bitPattern: header.acknowledgement &- connection.unacknowledged) >= (isOpening ? 1 : 0),
      Int32(bitPattern: header.acknowledgement &- connection.highest) <= 0
    else {
      // RFC 9293, section 3.10.7.4: what does not acknowledge our SYN is of another connection.
      return isOpening ? refuse(&frame, ethernet, datagram, header, from: connection.port) : .drop
    }

    let payload = datagram.transportLength - header.headerLength
    let before = windowSize(connection)
    takeAcknowledgement(connection, header, payload: payload, at: surroundings.now)
    if connection.state == .lastAck, connection.unacknowledged == connection.highest {
      guard !connection.peerHasClosed else {
        remove(index)
        return .drop
      }
      connection.state = .finished
    }
    // A window that opens is told, or the peer would have to probe it; and a probe, which is an old
    // number without an octet, is answered (RFC 9293, section 3.10.7.4).
    var answers = windowSize(connection) > before || header.sequence != connection.expected
    if payload > 0 || header.flags.contains(.fin) {
      answers = true
      takePayload(
        connection, frame, datagram, header, payload: payload, at: surroundings.now)
    }
    let isOver = connection.state == .finished && connection.peerHasClosed
    connections.use(index, isOver ? .transitory : .established, at: surroundings.seconds)
    let sent = pump(key, in: &surroundings)
    // Every segment that went out has acknowledged.
    guard answers, !sent else { return .drop }
    return acknowledge(&frame, ethernet, datagram, header, connection)
  }

  private func takeAcknowledgement(
    _ connection: TCPConnection, _ header: TCPHeader, payload: Int, at now: Instant
  ) {
    if connection.state == .synReceived {
      connection.state = .established
      connection.unacknowledged = connection.initial &+ 1
      connection.retransmission = .max
      connection.retries = 0
    }
    let window = UInt32(header.window) << UInt32(connection.windowShift)
    let advanced = header.acknowledgement &- connection.unacknowledged
    if advanced > 0 {
      connection.unacknowledged = header.acknowledgement
      // The FIN has a number and no octet.
      let octets = min(Int(advanced), connection.stored.count)
      if octets > 0 { connection.stored.removeFirst(octets) }
      if Int32(bitPattern: connection.next &- connection.unacknowledged) < 0 {
        connection.next = connection.unacknowledged
      }
      connection.duplicates = 0
      connection.retries = 0
      connection.retransmission = connection.inFlight > 0 ? now + Self.timeout : .max
      let grown =
        connection.congestionWindow < connection.threshold
        ? advanced
        : UInt32(max(1, connection.segment * connection.segment))
          / max(1, connection.congestionWindow)
      connection.congestionWindow = min(connection.congestionWindow &+ grown, 4 << 20)
    } else if payload == 0, connection.inFlight > 0, window == connection.window {
      connection.duplicates &+= 1
      if connection.duplicates == 3 { back(connection) }
    }
    connection.window = window
  }

  /// Begins again with the oldest octet that was not acknowledged.
  private func back(_ connection: TCPConnection) {
    connection.threshold = max(connection.inFlight / 2, UInt32(2 * connection.segment))
    connection.congestionWindow = connection.threshold
    connection.next = connection.unacknowledged
  }

  private mutating func takePayload(
    _ connection: TCPConnection, _ frame: borrowing Frame, _ datagram: Datagram,
    _ header: TCPHeader, payload: Int, at now: Instant
  ) {
    guard !connection.peerHasClosed else { return }
    // What is known already is passed over.
    let known = Int(Int32(bitPattern: connection.expected &- header.sequence))
    if known < 0, connection.service != .echo, payload - known <= Int(Self.ownWindow),
      !header.flags.contains(.fin)
    {
      connection.noteAhead(header.sequence, header.sequence &+ UInt32(payload))
    }
    guard known >= 0, known <= payload else { return }
    var taken = payload - known
    let start = datagram.transport + header.headerLength + known
    if connection.service == .measure, taken > 0 {
      connection.begin(IperfRequest(in: frame, at: start, count: taken), at: now)
    }
    if connection.service == .echo {
      taken = max(0, min(taken, frame.head - start, Self.storage - connection.stored.count))
      for offset in start..<start + taken { connection.stored.append(frame.u8(at: offset)) }
    }
    connection.expected &+= UInt32(truncatingIfNeeded: taken)
    counters.octetsReceived &+= UInt64(taken + connection.takeAhead())
    if header.flags.contains(.fin), known + taken == payload {
      connection.expected &+= 1
      connection.peerHasClosed = true
      if connection.state == .established { connection.state = .closing }
    }
  }

  @_lifetime(frame: copy frame)
  private func acknowledge(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, _ header: TCPHeader,
    _ connection: TCPConnection
  ) -> Verdict {
    frame.writeSegment(
      TCPHeader(
        // Not `next`, which goes back where something is sent again: a peer that has it all would
        // find the number old and read nothing else (RFC 9293, section 3.10.7.4).
        source: header.destination, destination: header.source, sequence: connection.highest,
        acknowledgement: connection.expected, flags: .ack, window: windowField(connection)),
      to: ethernet.source, from: ethernet.destination, tag: ethernet.tag, datagram.destination,
      datagram.source, payload: 0, isComplete: true)
    return .send(port: connection.port)
  }

  private func windowSize(_ connection: TCPConnection) -> UInt32 {
    connection.service == .echo
      ? UInt32(Self.storage - connection.stored.count) : Self.ownWindow
  }

  private func windowField(_ connection: TCPConnection) -> UInt16 {
    let size = windowSize(connection) >> (connection.shiftsOwn ? UInt32(Self.ownShift) : 0)
    return UInt16(min(size, 0xffff))
  }

  // MARK: Sending

  /// Sends what the windows allow, and at last the FIN.
  ///
  /// - Returns: whether a segment went out.
  private mutating func pump<S: Surroundings & ~Copyable>(
    _ key: FlowKey, in surroundings: inout S
  ) -> Bool {
    guard let (index, _) = connections.find(key), connections[index].state != .synReceived else {
      return false
    }
    let connection = connections[index]
    let now = surroundings.now
    let isEcho = connection.service == .echo
    // What echo sends is copied into the frame.
    let segment = isEcho ? min(connection.segment, connection.room) : connection.segment
    let limit =
      !isEcho && surroundings.segments(port: connection.port) ? Self.largestPayload : segment
    var sent = false
    while true {
      let flight = connection.inFlight
      let room = Int(min(connection.window, connection.congestionWindow)) - Int(flight)
      if connection.hasSentAll(at: now) { connection.state = .closing }
      var available: Int
      switch connection.service {
      case .discard, .measure: available = 0
      case .echo: available = connection.stored.count - Int(flight)
      case .generate:
        // At the end only what had been sent is sent again, before the FIN.
        let unsent = Int(Int32(bitPattern: connection.highest &- connection.next))
        available =
          switch connection.state {
          case .synReceived, .finished, .closed: 0
          case .established: connection.remaining
          case .closing: unsent
          case .lastAck: max(0, unsent - 1)
          }
      }
      var count = max(0, min(available, room, limit))
      if count > segment { count -= count % segment }
      // Small pieces wait until more fits (RFC 9293, section 3.8.6.2.1).
      if count < segment, count < available, flight > 0 { break }
      let ends = available - count <= 0 && isAtEnd(connection)
      guard count > 0 || ends else { break }
      guard emit(connection, key, count: count, ends: ends, in: &surroundings) else {
        isBlocked = true
        break
      }
      sent = true
      if Int32(bitPattern: connection.next &- connection.highest) < 0 {
        counters.retransmissions &+= 1
      }
      counters.octetsSent &+= UInt64(count)
      connection.next &+= UInt32(count) &+ (ends ? 1 : 0)
      if Int32(bitPattern: connection.next &- connection.highest) > 0 {
        connection.highest = connection.next
      }
      if connection.retransmission == .max { connection.retransmission = now + Self.timeout }
      if ends {
        connection.state = .lastAck
        break
      }
    }
    // A closed window is probed by its timer.
    if connection.window == 0, connection.service == .generate, connection.retransmission == .max {
      connection.retransmission = now + Self.timeout
    }
    if Self.isWatched(connection) { activate(connection) }
    return sent
  }

  private func isAtEnd(_ connection: TCPConnection) -> Bool {
    connection.state == .closing
      || connection.state == .lastAck && connection.next != connection.highest
  }

  private func emit<S: Surroundings & ~Copyable>(
    _ connection: TCPConnection, _ key: FlowKey, count: Int, ends: Bool, in surroundings: inout S
  ) -> Bool {
    let header = TCPHeader(
      source: key.destinationPort, destination: key.sourcePort, sequence: connection.next,
      acknowledgement: connection.expected,
      flags: ends ? [.ack, .fin] : count > 0 ? [.ack, .psh] : .ack,
      window: windowField(connection))
    let isEcho = connection.service == .echo
    var payload: UnsafeRawBufferPointer?
    if !isEcho, count > 0 {
      let start = Int((connection.next &- connection.initial &- 1) % UInt32(Self.period))
      payload = UnsafeRawBufferPointer(rebasing: Self.pattern[start..<start + count])
    }
    let stored = Int(connection.inFlight)
    let completes = surroundings.segments(port: connection.port)
    return surroundings.emit(on: connection.port, payload: payload) { frame in
      let start = frame.writeSegment(
        header, to: connection.peer, from: connection.own, tag: connection.tag, key.destination,
        key.source, payload: count, isComplete: false)
      if isEcho {
        frame.setLength(start + count)
        for offset in 0..<count {
          frame.set(connection.stored[stored + offset], at: start + offset)
        }
      }
      let transport = start - TCPHeader.minimumLength
      if completes {
        frame.offload = Offload.partial(start: transport, offset: TCPHeader.checksumOffset)
        if count > connection.segment {
          frame.offload.segmentation =
            key.source.ipv4 != nil ? Offload.Segmentation.tcp4 : Offload.Segmentation.tcp6
          frame.offload.segmentSize = UInt16(truncatingIfNeeded: connection.segment)
          frame.offload.headerLength = UInt16(truncatingIfNeeded: start)
        }
      } else {
        var sum = frame.sum(from: transport, count: frame.length - transport)
        if let payload { sum.add(payload) }
        frame.set(sum.value, at: transport + TCPHeader.checksumOffset)
      }
    }
  }

  // MARK: Time

  private mutating func remove(_ index: FlowTable<TCPConnection>.Index) {
    connections[index].state = .closed
    connections.remove(index)
  }

  /// One that only receives waits for nothing.
  private static func isWatched(_ connection: TCPConnection) -> Bool {
    switch connection.state {
    case .finished, .closed: false
    case .established: connection.service == .echo || connection.service == .generate
    default: true
    }
  }

  private mutating func activate(_ connection: TCPConnection) {
    due = min(due, connection.retransmission)
    guard !connection.isActive else { return }
    // Those that are gone take no more memory than a few of the others.
    if active.count >= Self.capacity + Self.capacity / 8 {
      active.removeAll { $0.state == .closed }
    }
    connection.isActive = true
    active.append(connection)
  }

  mutating func advance<S: Surroundings & ~Copyable>(in surroundings: inout S) -> Instant {
    let now = surroundings.now
    let wasBlocked = isBlocked
    guard wasBlocked || now >= due else { return due }
    isBlocked = false
    due = .max
    var kept = 0
    for position in 0..<active.count {
      let connection = active[position]
      guard Self.isWatched(connection) else {
        connection.isActive = false
        continue
      }
      var isDue = wasBlocked
      if connection.retransmission <= now {
        let isOpening = connection.state == .synReceived
        guard connection.retries < (isOpening ? Self.maximumOpeningRetries : Self.maximumRetries)
        else {
          if let (index, _) = connections.find(connection.key) { remove(index) }
          continue
        }
        connection.retries &+= 1
        if isOpening {
          connection.retransmission = now + Self.openingTimeout << Instant(connection.retries)
          counters.retransmissions &+= 1
          _ = surroundings.emit(on: connection.port, payload: nil) { frame in
            writeOpening(of: connection, to: &frame)
          }
        } else {
          // An answer of any kind opens the window; the octet counts as sent.
          if connection.window == 0 { connection.window = 1 }
          back(connection)
          connection.congestionWindow = UInt32(connection.segment)
          connection.retransmission = now + Self.timeout << Instant(min(connection.retries, 6))
          isDue = true
        }
      }
      active[kept] = connection
      kept += 1
      if isDue { _ = pump(connection.key, in: &surroundings) }
      due = min(due, connection.retransmission)
    }
    active.removeLast(active.count - kept)
    // Who is first has what place there is.
    if wasBlocked, active.count > 1 { active.append(active.removeFirst()) }
    return due
  }
}

extension Frame {
  /// Writes all headers of a segment and sets length and offload for what stands here.
  ///
  /// - Parameters:
  ///   - payload: what follows, in octets.
  ///   - isComplete: the checksum is made here; else the pseudo-header's sum stands in its place.
  /// - Returns: where the payload begins.
  @_lifetime(self: copy self)
  @discardableResult
  mutating func writeSegment(
    _ header: TCPHeader, to destination: MACAddress, from source: MACAddress, tag: UInt16?,
    _ sender: IPv6Address, _ receiver: IPv6Address, payload: Int, options: TCPOptions? = nil,
    isComplete: Bool
  ) -> Int {
    let length = header.headerLength + payload
    let start = tag == nil ? 14 : 18
    let isIPv4 = sender.ipv4 != nil
    let transport = start + (isIPv4 ? IPv4Header.minimumLength : IPv6Header.length)
    setLength(transport + header.headerLength)
    offload = Offload()
    EthernetHeader(
      destination: destination, source: source, type: isIPv4 ? .ipv4 : .ipv6, tag: tag
    ).write(to: &self)
    if let sender = sender.ipv4, let receiver = receiver.ipv4 {
      IPv4Header(source: sender, destination: receiver, protocol: .tcp, payload: length)
        .write(to: &self, at: start)
    } else {
      IPv6Header(source: sender, destination: receiver, nextHeader: .tcp, payload: length)
        .write(to: &self, at: start)
    }
    header.write(to: &self, at: transport)
    if let options { options.write(to: &self, at: transport) }
    var sum = Checksum.pseudoHeader(sender, receiver, protocol: .tcp, length: length)
    if isComplete { sum.add(self.sum(from: transport, count: header.headerLength)) }
    set(isComplete ? sum.value : sum.folded, at: transport + TCPHeader.checksumOffset)
    return transport + header.headerLength
  }
}
