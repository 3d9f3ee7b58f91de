import LinuxSystem
import NFVModel
import NFVNetwork
import Synchronization
import SystemPackage
import Testing

extension HostNetworkTests {
  /// A guest behind a tap that answers ARP and echoes for one address, and asks for the MAC of whom
  /// it answers, as kernels do.
  final class Guest: TapReceiver {
    private let taps = Mutex<[PortID: FileDescriptor]>([:])
    private let mac: [UInt8]
    private let address: [UInt8]
    /// The names of taps that were there before their ports.
    private let waiting: [PortID: String]

    init(_ port: Port, waiting: [PortID: String] = [:]) throws {
      self.waiting = waiting
      mac = port.mac.octets
      address = try #require(port.addresses.first).address.octets
    }

    func waitingTap(of port: PortID) -> String? { waiting[port] }

    func hasTap(of port: PortID) async throws(NFVError) -> Bool {
      waiting[port] != nil || taps.withLock { $0[port] != nil }
    }

    func takeTap(_ descriptor: Int32, of port: PortID) async throws(NFVError) {
      do throws(SystemError) {
        let tap = try duplicate(FileDescriptor(rawValue: descriptor))
        taps.withLock { $0[port] = tap }
        startThread(name: "guest") { [mac, address] in
          var waiting: [[UInt8]] = []
          while (try? waitReadable(tap, milliseconds: 2000)) == true {
            guard let read = try? readSome(of: tap, limit: 65_536), read.count >= 52 else { return }
            for frame in Self.answers(Array(read.dropFirst(10)), mac, address, &waiting) {
              try? writeAll([UInt8](repeating: 0, count: 10) + frame, to: tap)
            }
          }
        }
      } catch {
        throw NFVError(.failed, "tap", cause: error)
      }
    }

    static func answers(
      _ frame: [UInt8], _ mac: [UInt8], _ address: [UInt8], _ waiting: inout [[UInt8]]
    ) -> [[UInt8]] {
      let broadcast = [UInt8](repeating: 0xFF, count: 6)
      func arp(_ operation: UInt8, _ to: [UInt8], _ target: [UInt8]) -> [UInt8] {
        to + mac + [8, 6, 0, 1, 8, 0, 6, 4, 0, operation] + mac + address + to + target
      }
      if frame[12..<14] == [8, 6], frame[38..<42].elementsEqual(address) {
        if frame[21] == 1 { return [arp(2, Array(frame[22..<28]), Array(frame[28..<32]))] }
        defer { waiting = [] }
        return waiting.map { Array(frame[22..<28]) + $0.dropFirst(6) }
      }
      guard frame[12..<14] == [8, 0], frame[23] == 1, frame[34] == 8,
        frame[30..<34].elementsEqual(address)
      else { return [] }
      var reply = Array(frame[6..<12]) + mac + frame[12..<26]
      reply += Array(frame[30..<34]) + frame[26..<30] + [0, 0]
      // The echo's type counted 8 in the checksum's upper octet.
      let sum = UInt32(frame[36]) << 8 + UInt32(frame[37]) + 0x0800
      let folded = sum & 0xFFFF + sum >> 16
      reply += [UInt8(folded >> 8), UInt8(folded & 0xFF)] + frame[38...]
      waiting.append(reply)
      return [arp(1, broadcast, Array(frame[26..<30]))]
    }

    func end() {
      for tap in taps.withLock({ Array($0.values) }) { try? tap.close() }
    }
  }

  @Test("A function that owns its addresses answers for them alone, and is probed by frames")
  func functionsOwnTheirAddresses() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("owners")
    var attachment = try fixture.attachment("f", on: network, "10.9.0.5/24", mode: .router)
    attachment.addressOwner = .function
    let reference = try await fixture.attach(attachment, isActive: false, forwards: true)
    func isReady() async throws -> Bool {
      try await fixture.network.probe(
        .icmp, of: [attachment], at: .networkNamespace(reference), timeout: .milliseconds(300))
    }
    let (forwards, hasIPv6, link) = try reference.namespace.run { () throws(SystemError) in
      (
        try readFile("/proc/sys/net/ipv4/ip_forward", limit: 4),
        try readFile("/proc/thread-self/net/if_inet6", limit: 4096),
        try LinkSocket(interface: "eth0")
      )
    }
    #expect(
      forwards.first == UInt8(ascii: "0")
        && !String(decoding: hasIPv6, as: UTF8.self).contains("eth0"))
    // Nobody answers beside the function.
    #expect(try await !isReady())
    let isOver = Mutex(false)
    let (mac, address) = (attachment.port.mac.octets, attachment.port.addresses[0].address.octets)
    async let function: Void = {
      var waiting: [[UInt8]] = []
      while !isOver.withLock({ $0 }) {
        guard let frame = try link.receive(timeout: .milliseconds(20)), frame.count >= 42,
          !frame[6..<12].elementsEqual(mac)
        else { continue }
        for answer in Guest.answers(frame, mac, address, &waiting) { try link.send(answer) }
      }
    }()
    #expect(try await isReady())
    let other = try fixture.attachment("other", on: network, "10.9.0.6/24")
    let client = try await fixture.attach(other)
    #expect(try cannotReach("10.9.0.5", from: client))
    try await fixture.network.activate([attachment])
    #expect(try reaches("10.9.0.5", from: client))
    isOver.withLock { $0 = true }
    try await function
    try await fixture.network.release([attachment, other])
    withExtendedLifetime((reference, client)) {}
    try await fixture.end()
  }

  /// Whatever comes to its port, also what every host answers, the kernel beside a function sends
  /// nothing: no ARP, no ICMP, no resets, nothing of IGMP, MLD or neighbour discovery.
  @Test func theKernelBesideAFunctionKeepsStill() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("still")
    func sent(_ reference: Reference) throws -> Int {
      let text = try reference.namespace.run { () throws(SystemError) in
        String(
          decoding: try readFile("/proc/thread-self/net/dev", limit: 1 << 14), as: UTF8.self)
      }
      let line = try #require(text.split(separator: "\n").first { $0.contains("eth0:") })
      let figures = line.split(whereSeparator: { $0 == " " || $0 == ":" })
      // Received octets and packets are the first two, sent ones the ninth and tenth.
      #expect(Int(figures[2])! >= Self.questions(for: [0, 0, 0, 0, 0, 0]).count, "\(line)")
      return try #require(Int(figures[10]))
    }
    for owner in [AddressOwner.function, .kernel] {
      var attachment = try fixture.attachment(
        VnfcID("\(owner)"), on: network, "10.9.0.5/24", mode: .bridge)
      attachment.addressOwner = owner
      let reference = try await fixture.attach(attachment)
      let name = attachment.interfaceName
      let mac = attachment.port.mac.octets
      func ask() async throws {
        try NetworkNamespace(path: "\(fixture.folder)/fabric/default").run {
          () throws(SystemError) in
          let link = try LinkSocket(interface: name)
          for frame in Self.questions(for: mac) { try link.send(frame) }
        }
        try await Task.sleep(for: .milliseconds(500))
      }
      try await ask()
      if owner == .kernel {
        #expect(try sent(reference) > 1)
      } else {
        #expect(try sent(reference) == 0)
        // It does not even look at them: what its packet sockets have seen is dropped.
        try reference.namespace.run { () throws(SystemError) in
          let route = try NetlinkSocket(.route)
          let index = try route.index(ofLinkNamed: "eth0")
          try route.request(
            [.addAddress([10, 9, 0, 5], prefixLength: 24, link: index)], subject: "an address")
        }
        try await ask()
        #expect(try sent(reference) == 0)
      }
      try await fixture.network.release([attachment])
      withExtendedLifetime(reference) {}
    }
    try await fixture.end()
  }

  /// What hosts answer: for the address 10.9.0.5, for broadcast and multicast, in IPv4 and IPv6.
  private static func questions(for mac: [UInt8]) -> [[UInt8]] {
    let own: [UInt8] = [2, 0, 0, 0, 0, 9]
    let broadcast = [UInt8](repeating: 255, count: 6)
    let (host, asker): ([UInt8], [UInt8]) = ([10, 9, 0, 5], [10, 9, 0, 9])
    func checksum(_ octets: [UInt8]) -> [UInt8] {
      var sum = stride(from: 0, to: octets.count, by: 2).reduce(UInt32(0)) {
        $0 + UInt32(octets[$1]) << 8 + ($1 + 1 < octets.count ? UInt32(octets[$1 + 1]) : 0)
      }
      while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
      return [UInt8(~sum >> 8 & 0xff), UInt8(~sum & 0xff)]
    }
    func ipv4(_ proto: UInt8, _ target: [UInt8], _ payload: [UInt8], to mac: [UInt8]) -> [UInt8] {
      var header: [UInt8] =
        [0x45, 0, 0, UInt8(20 + payload.count), 0, 0, 0, 0, 64, proto, 0, 0] + asker + target
      header.replaceSubrange(10..<12, with: checksum(header))
      return mac + own + [8, 0] + header + payload
    }
    func segment(_ target: [UInt8]) -> [UInt8] {
      var syn: [UInt8] = [
        0x9c, 0x40, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0,
      ]
      syn.replaceSubrange(16..<18, with: checksum(asker + target + [0, 6, 0, 20] + syn))
      return syn
    }
    /// ICMPv6, from fe80::9.
    func ipv6(_ target: [UInt8], _ payload: [UInt8], hops: UInt8, to mac: [UInt8]) -> [UInt8] {
      let source: [UInt8] = [0xfe, 0x80] + [UInt8](repeating: 0, count: 13) + [9]
      let pseudo = source + target + [0, 0, 0, UInt8(payload.count), 0, 0, 0, 58]
      var payload = payload
      payload.replaceSubrange(2..<4, with: checksum(pseudo + payload))
      return mac + own + [0x86, 0xdd, 0x60, 0, 0, 0, 0, UInt8(payload.count), 58, hops] + source
        + target + payload
    }
    let all: [UInt8] = [0xff, 2] + [UInt8](repeating: 0, count: 13) + [1]
    // From the MAC, as every interface has it (RFC 4291, appendix A).
    let local =
      [0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe] + mac[3...]
    var echo: [UInt8] = [8, 0, 0, 0, 0, 1, 0, 1]
    echo.replaceSubrange(2..<4, with: checksum(echo))
    let arp: [UInt8] = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1] + own + asker + [0, 0, 0, 0, 0, 0]
    let datagram: [UInt8] = [0x9c, 0x40, 0, 9, 0, 8, 0, 0]
    let limited: [UInt8] = [255, 255, 255, 255]
    return [
      broadcast + own + arp + host,
      broadcast + own + arp + [127, 0, 0, 1],
      ipv4(1, host, echo, to: mac), ipv4(1, limited, echo, to: broadcast),
      ipv4(1, [10, 9, 7, 7], echo, to: mac), ipv4(17, host, datagram, to: mac),
      ipv4(17, limited, datagram, to: broadcast), ipv4(17, [10, 9, 7, 7], datagram, to: mac),
      ipv4(6, host, segment(host), to: mac),
      ipv4(6, [127, 0, 0, 1], segment([127, 0, 0, 1]), to: mac),
      ipv4(132, host, datagram, to: mac),
      // IGMP: a general query.
      ipv4(2, [224, 0, 0, 1], [0x11, 1, 0xee, 0xfe, 0, 0, 0, 0], to: [1, 0, 0x5e, 0, 0, 1]),
      ipv6(
        all, [130, 0, 0, 0, 0, 1, 0, 0] + [UInt8](repeating: 0, count: 16), hops: 1,
        to: [0x33, 0x33, 0, 0, 0, 1]),
      ipv6(all, [128, 0, 0, 0, 0, 1, 0, 1], hops: 64, to: [0x33, 0x33, 0, 0, 0, 1]),
      ipv6(Array(local), [135, 0, 0, 0, 0, 0, 0, 0] + local + [1, 1] + own, hops: 255, to: mac),
      ipv6(Array(local), [128, 0, 0, 0, 0, 1, 0, 1], hops: 64, to: mac),
    ]
  }

  @Test("A tap is handed over once, is probed while parked, takes traffic when active, and goes")
  func taps() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("taps")
    let parked = try fixture.attachment("vm", on: network, "10.9.0.5/24")
    let guest = try Guest(parked.port)
    for _ in 0..<2 {
      try await fixture.network.attach(
        [parked], to: .taps(guest), forwards: false, isActive: false)
    }
    let other = try fixture.attachment("other", on: network, "10.9.0.6/24")
    let reference = try await fixture.attach(other)

    #expect(
      try await fixture.network.probe(
        .icmp, of: [parked], at: .taps(guest), timeout: .seconds(1)))
    #expect(try cannotReach("10.9.0.5", from: reference))
    let link = ObservedNetworks.Link(
      workload: parked.workload, port: parked.port.id, isActive: false, network: nil,
      addresses: parked.port.addresses.map(\.address))
    #expect(try await fixture.network.observe().links.contains(link))

    try await fixture.network.activate([parked])
    #expect(try reaches("10.9.0.5", from: reference, timeout: .seconds(1)))
    let counters = try await fixture.network.counters(of: [parked])
    #expect(try #require(counters[parked.port.id]).sentPackets > 0)

    try await fixture.network.release([parked])
    #expect(try cannotReach("10.9.0.5", from: reference))
    guest.end()
    // The last descriptor is closed when the guest's thread has seen it.
    for _ in 0..<300 {
      let links = try await fixture.network.observe().links
      if !links.contains(where: { $0.workload == parked.workload }) { break }
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(
      try await !fixture.network.observe().links.contains { $0.workload == parked.workload })
    try await fixture.network.release([other])
    withExtendedLifetime(reference) {}
    try await fixture.end()
  }

  @Test("A tap that waits is down and on no network, and becomes a port's with all that it has")
  func waitingTaps() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("taps")
    let claimed = try fixture.attachment("vm", on: network, "10.9.0.5/24")
    var member = claimed.workload
    member.vnfc = "waiting-1"
    let guest = try Guest(claimed.port, waiting: [claimed.port.id: member.interfaceName(of: "0")])
    try await fixture.network.attachWaiting(["0"], of: member, to: .taps(guest))
    var observed = try await fixture.network.observe().links
    #expect(observed == [.init(workload: member, port: "0", isActive: false)])

    for _ in 0..<2 {
      try await fixture.network.attach(
        [claimed], to: .taps(guest), forwards: false, isActive: true)
    }
    observed = try await fixture.network.observe().links
    #expect(
      observed == [
        .init(
          workload: claimed.workload, port: claimed.port.id, isActive: true,
          network: claimed.port.network, addresses: claimed.port.addresses.map(\.address))
      ])
    let other = try fixture.attachment("other", on: network, "10.9.0.6/24")
    let reference = try await fixture.attach(other)
    #expect(try reaches("10.9.0.5", from: reference, timeout: .seconds(1)))

    var stranger = member
    stranger.tenant = "nobody"
    let error = await #expect(throws: NFVError.self) {
      try await fixture.network.attachWaiting(["0"], of: stranger, to: .taps(guest))
    }
    #expect(error?.code == .notFound)
    guest.end()
    try await fixture.network.release([claimed, other])
    withExtendedLifetime(reference) {}
    try await fixture.end()
  }
}
