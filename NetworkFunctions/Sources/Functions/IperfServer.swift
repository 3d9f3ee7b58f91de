import Packets

/// The server of iperf 2 for datagrams: counts them, and reports when the last one comes.
struct IperfServer {
  static let port: UInt16 = 5001
  /// Tests at a time.
  private static let capacity = 16
  /// A test that was silent for so long makes room, and what its client sends then is a new one.
  private static let patience: Instant = 2_000_000_000

  fileprivate struct Test {
    var key: FlowKey
    var begin: Instant
    var latest: Instant
    var octets: UInt64 = 0
    var received: UInt64 = 0
    var highest: UInt64 = 0
    var disordered: UInt64 = 0
    /// From there to here, by two clocks; only differences mean anything.
    var transit: Int64
    var jitter: UInt64 = 0
    /// The last datagram has come; it comes again until its client has the report.
    var isOver = false
    var reports: UInt64 = 0
  }

  private var tests: [Test] = []

  init() {}

  /// Once, before the first datagram: nothing grows then.
  mutating func prepare() { tests.reserveCapacity(Self.capacity) }

  /// - Returns: whether the frame has become a report that goes back.
  @_lifetime(frame: copy frame)
  mutating func receive(
    _ frame: inout Frame, _ ethernet: EthernetHeader, _ datagram: Datagram, _ udp: UDPHeader,
    at now: Instant
  ) -> Bool {
    let payload = udp.totalLength - UDPHeader.length
    guard udp.checksum == 0 || datagram.isTransportRight(in: frame),
      let head = IperfDatagram(
        in: frame, at: datagram.transport + UDPHeader.length, count: payload)
    else { return false }
    let key = FlowKey(
      source: datagram.source, destination: datagram.destination, sourcePort: udp.source,
      destinationPort: udp.destination, protocol: .udp)
    let transit = Int64(bitPattern: now &- head.sentAt)
    guard let index = place(of: key, transit, at: now) else { return false }
    if !tests[index].isOver { tests[index].count(head, payload: payload, transit, at: now) }
    guard head.number < 0, tests[index].mayReport() else { return false }
    return frame.becomeReport(tests[index].report, to: ethernet, datagram, udp)
  }

  /// nil where there is room for no more.
  private mutating func place(of key: FlowKey, _ transit: Int64, at now: Instant) -> Int? {
    let test = Test(key: key, begin: now, latest: now, transit: transit)
    var silent: Int?
    for index in tests.indices {
      let isSilent = now - tests[index].latest >= Self.patience
      if tests[index].key == key {
        if isSilent { tests[index] = test }
        return index
      }
      if isSilent { silent = index }
    }
    if let silent {
      tests[silent] = test
      return silent
    }
    guard tests.count < Self.capacity else { return nil }
    tests.append(test)
    return tests.count - 1
  }
}

extension IperfServer.Test {
  mutating func count(_ head: IperfDatagram, payload: Int, _ transit: Int64, at now: Instant) {
    latest = now
    octets &+= UInt64(payload)
    received &+= 1
    if head.number.magnitude < highest { disordered &+= 1 }
    highest = max(highest, head.number.magnitude)
    isOver = head.number < 0
    let change = (transit &- self.transit).magnitude
    self.transit = transit
    jitter = jitter &+ change / 16 &- jitter / 16
  }

  /// Whoever gives another one's address has him sent no more than he has sent himself.
  mutating func mayReport() -> Bool {
    reports &+= 1
    return octets >= reports &* UInt64(IperfReport.length)
  }

  var report: IperfReport {
    IperfReport(
      octets: octets, nanoseconds: latest - begin, datagrams: highest,
      lost: highest > received ? highest - received : 0, disordered: disordered, jitter: jitter)
  }
}

extension Frame {
  /// Turns a datagram into the answer to it, which may be longer.
  ///
  /// - Returns: false where the buffer is too small; then nothing was changed.
  @_lifetime(self: copy self)
  fileprivate mutating func becomeReport(
    _ report: IperfReport, to ethernet: EthernetHeader, _ datagram: Datagram, _ udp: UDPHeader
  ) -> Bool {
    let payload = IperfReport.length
    let start = ethernet.length
    let transport =
      start + (datagram.version == .ipv4 ? IPv4Header.minimumLength : IPv6Header.length)
    let length = UDPHeader.length + payload
    guard capacity >= transport + length else { return false }
    setLength(transport + length)
    offload = Offload()
    EthernetHeader(
      destination: ethernet.source, source: ethernet.destination, type: ethernet.type,
      tag: ethernet.tag
    ).write(to: &self)
    if let source = datagram.destination.ipv4, let destination = datagram.source.ipv4 {
      IPv4Header(source: source, destination: destination, protocol: .udp, payload: length)
        .write(to: &self, at: start)
    } else {
      IPv6Header(
        source: datagram.destination, destination: datagram.source, nextHeader: .udp,
        payload: length
      ).write(to: &self, at: start)
    }
    UDPHeader(source: udp.destination, destination: udp.source, payload: payload)
      .write(to: &self, at: transport)
    report.write(to: &self, at: transport + UDPHeader.length)
    var sum = Checksum.pseudoHeader(
      datagram.destination, datagram.source, protocol: .udp, length: length)
    sum.add(self.sum(from: transport, count: length))
    set(sum.udpValue, at: transport + UDPHeader.checksumOffset)
    return true
  }
}
