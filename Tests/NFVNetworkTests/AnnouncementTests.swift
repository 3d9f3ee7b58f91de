import Glibc
import LinuxSystem
import NFVModel
import NFVNetwork
import TestSupport
import Testing

/// What neighbours see and learn when a port takes traffic.
@Suite(.needs(.root), .serialized)
struct AnnouncementTests {
  func bytes(_ text: String) -> [UInt8] {
    text.split(separator: "\n").flatMap { line in
      line.prefix { $0 != ";" }.split(separator: " ").compactMap { UInt8($0, radix: 16) }
    }
  }

  static let mac: UInt64 = 0x0200_0000_0009

  static let arp = """
    ff ff ff ff ff ff  02 00 00 00 00 09  08 06  ; to all, from the port, ARP
    00 01 08 00 06 04  00 01                     ; Ethernet, IPv4, a request
    02 00 00 00 00 09  0a 09 00 02               ; the port's MAC and address
    00 00 00 00 00 00  0a 09 00 02               ; who has the same address?
    """

  static func advertisement(flags: String, sum: String) -> String {
    """
    33 33 00 00 00 01  02 00 00 00 00 09  86 dd  ; to all nodes, from the port, IPv6
    60 00 00 00  00 20 3a ff                     ; 32 octets, ICMPv6, hop limit 255
    fd 00 00 09 00 00 00 00 00 00 00 00 00 00 00 02
    ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 01
    88 00 \(sum)  \(flags) 00 00 00                ; neighbour advertisement, checksum, flags
    fd 00 00 09 00 00 00 00 00 00 00 00 00 00 00 02
    02 01 02 00 00 00 00 09                      ; target link-layer address
    """
  }

  /// Whether a frame arrives at a socket within half a second.
  func sees(_ wanted: [UInt8], _ socket: LinkSocket) throws -> Bool {
    let deadline = ContinuousClock.now + .milliseconds(500)
    while ContinuousClock.now < deadline {
      if try socket.receive(timeout: .milliseconds(100)) == wanted { return true }
    }
    return false
  }

  @Test(arguments: [
    ("10.9.0.0/24", "10.9.0", PortMode.host, arp),
    ("fd00:9::/64", "fd00:9:", .host, advertisement(flags: "20", sum: "5a 7f")),
    ("fd00:9::/64", "fd00:9:", .router, advertisement(flags: "a0", sum: "da 7e")),
  ])
  func neighboursHearOfAPort(
    subnet: String, start: String, mode: PortMode, frame: String
  ) async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("a1", subnet)
    let dot = subnet.contains(":") ? ":" : "."
    let length = subnet.suffix(2)
    let neighbour = try await fixture.attach(
      try fixture.attachment("n", on: network, "\(start)\(dot)1/\(length)"))
    let socket = try neighbour.namespace.run { () throws(SystemError) in
      try LinkSocket(interface: "eth0")
    }
    func made(_ incarnation: Int, _ mac: UInt64) throws -> NFVModel.Attachment {
      try fixture.attachment(
        "p", on: network, "\(start)\(dot)2/\(length)", mode: mode, incarnation: incarnation,
        mac: mac)
    }
    // Nobody can know an address wrongly that nobody had before.
    let zero = try await fixture.attach(try made(1, Self.mac + 1))
    #expect(try !sees(bytes(frame), socket))
    // Now it has another MAC.
    let one = try await fixture.attach(try made(2, Self.mac))
    #expect(try sees(bytes(frame), socket))
    // A successor is silent until it takes over.
    let successor = try made(3, Self.mac)
    let two = try await fixture.attach(successor, isActive: false)
    #expect(try !sees(bytes(frame), socket))
    try await fixture.network.activate([successor])
    #expect(try sees(bytes(frame), socket))
    // What an earlier daemon gave to whom is not known.
    try fixture.restart()
    let three = try await fixture.attach(try made(4, Self.mac))
    #expect(try sees(bytes(frame), socket))
    withExtendedLifetime((neighbour, zero, one, two, three)) {}
    try await fixture.end()
  }

  /// ARP and advertisements are frames that a function can write itself.
  @Test(arguments: [
    ("10.9.0.0/24", "10.9.0.", arp, 31),
    ("fd00:9::/64", "fd00:9::", advertisement(flags: "20", sum: "5a 7f"), 77),
  ])
  func aHostSpeaksForItselfOnly(
    subnet: String, start: String, frame: String, lastOctet: Int
  ) async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("a4", subnet)
    let length = subnet.suffix(2)
    let neighbour = try await fixture.attach(
      try fixture.attachment("n", on: network, "\(start)1/\(length)"))
    let liar = try await fixture.attach(
      try fixture.attachment("l", on: network, "\(start)2/\(length)", mac: Self.mac))
    #expect(try reaches("\(start)2", from: neighbour))
    let hears = try neighbour.namespace.run { () throws(SystemError) in
      try LinkSocket(interface: "eth0")
    }
    let says = try liar.namespace.run { () throws(SystemError) in
      try LinkSocket(interface: "eth0", receives: false)
    }
    let truth = bytes(frame)
    var lie = truth
    lie[lastOctet] = 3
    try says.send(lie)
    #expect(try !sees(lie, hears))
    try says.send(truth)
    #expect(try sees(truth, hears))
    withExtendedLifetime((neighbour, liar)) {}
    try await fixture.end()
  }

  /// They are closed by another thread, as that takes 10 to 20 ms each; but they are closed.
  @Test func packetSocketsAreClosedBehindOnesBack() async throws {
    let namespace = try NetworkNamespace.create()
    func sockets() -> Set<ino_t> {
      Set(
        (0..<Int32(1024)).compactMap { descriptor -> ino_t? in
          var status = stat()
          guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
            return nil
          }
          return status.st_ino
        })
    }
    let before = sockets()
    var opened: [LinkSocket] = []
    for _ in 0..<20 {
      opened.append(try namespace.run { () throws(SystemError) in try LinkSocket(interface: "lo") })
    }
    #expect(sockets().subtracting(before).count == 20)
    opened = []
    let deadline = ContinuousClock.now + .seconds(10)
    while !sockets().subtracting(before).isEmpty, .now < deadline {
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(sockets().subtracting(before).isEmpty)
  }

  /// An address that came back with another MAC is reached at once, not when entries have aged.
  @Test func neighboursLearnAnAddressThatMoved() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("a2")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    let old = try fixture.attachment("b", on: network, "10.9.0.2/24", mac: Self.mac)
    let b = try await fixture.attach(old)
    #expect(try reaches("10.9.0.2", from: a))
    try await fixture.network.release([old])
    let c = try await fixture.attach(
      try fixture.attachment("c", on: network, "10.9.0.2/24", mac: Self.mac + 1))
    #expect(try reaches("10.9.0.2", from: a))
    withExtendedLifetime((a, b, c)) {}
    try await fixture.end()
  }

  /// The predecessor's link is still there, as its namespace is not gone yet.
  @Test func aRestartIsReachedThoughItHasSaidNothing() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("a3")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    let old = try fixture.attachment("b", on: network, "10.9.0.2/24")
    let predecessor = try await fixture.attach(old)
    #expect(try reaches("10.9.0.2", from: a))
    try await fixture.network.release([old])
    #expect(try cannotReach("10.9.0.2", from: a))
    let new = try fixture.attachment("b", on: network, "10.9.0.2/24", incarnation: 2)
    let successor = try await fixture.attach(new)
    #expect(try reaches("10.9.0.2", from: a))
    let counters = try await fixture.network.counters(of: [new])
    #expect((counters[new.port.id]?.receivedPackets ?? 0) >= 1)
    withExtendedLifetime((a, predecessor, successor)) {}
    try await fixture.end()
  }
}
