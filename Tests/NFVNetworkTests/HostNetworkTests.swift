import LinuxSystem
import NFVModel
import NFVNetwork
import SystemPackage
import TestSupport
import Testing

@Suite(.needs(.root), .serialized)
struct HostNetworkTests {
  @Test func portsOnOneNetworkReachEachOther() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n1")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    let b = try await fixture.attach(try fixture.attachment("b", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.9.0.2", from: a))
    #expect(try reaches("10.9.0.1", from: b))
    let counters = try await fixture.network.counters(
      of: [try fixture.attachment("a", on: network, "10.9.0.1/24")])
    #expect((counters["port-a"]?.sentPackets ?? 0) >= 2)
    let observed = try await fixture.network.observe()
    #expect(observed.networks == ["n1": .default])
    #expect(observed.links.count == 2 && observed.links.allSatisfy(\.isActive))
    #expect(observed.links.allSatisfy { $0.network == "n1" })
    #expect(
      Set(observed.links.map { "\($0.port) \($0.addresses)" })
        == ["port-a [10.9.0.1]", "port-b [10.9.0.2]"])
    withExtendedLifetime((a, b)) {}
    try await fixture.end()
  }

  @Test func portsOnOneNetworkReachEachOtherByIPv6() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n6", "fd00:9::/64")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "fd00:9::1/64"))
    let b = try await fixture.attach(try fixture.attachment("b", on: network, "fd00:9::2/64"))
    #expect(try reaches("fd00:9::2", from: a))
    withExtendedLifetime((a, b)) {}
    try await fixture.end()
  }

  /// A host port sends from its own MAC and address only; a router port from any address.
  @Test(arguments: [PortMode.host, .router]) func spoofedSourcesAreDropped(mode: PortMode)
    async throws
  {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n2")
    let liar = try await fixture.attach(
      try fixture.attachment("a", on: network, "10.9.0.1/24", mode: mode))
    let b = try await fixture.attach(try fixture.attachment("b", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.9.0.2", from: liar))
    // Another address of the same interface, its MAC unchanged.
    try liar.namespace.run { () throws(SystemError) in
      let socket = try NetlinkSocket(.route)
      let index = try socket.index(ofLinkNamed: "eth0")
      try socket.request([.addAddress([10, 9, 0, 77], prefixLength: 32, link: index)])
    }
    let passed = try liar.namespace.run { () throws(SystemError) in
      try runProgram(
        "/bin/ping", arguments: ["ping", "-c", "1", "-W", "1", "-I", "10.9.0.77", "10.9.0.2"]
      )
      .status == 0
    }
    // The answer to a router's packet needs a neighbour entry, which ARP of that address gives.
    #expect(passed == (mode == .router))
    withExtendedLifetime((liar, b)) {}
    try await fixture.end()
  }

  /// Also where no processor is idle: the first frames for a port are not lost.
  @Test func aPortWorksAtOnce() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n5")
    let a = try await fixture.attach(
      try fixture.attachment("a", on: network, "10.9.0.1/24", mode: .bridge))
    #expect(try cannotReach("10.9.0.99", from: a))
    let sender = try a.namespace.run { () throws(SystemError) in
      try LinkSocket(interface: "eth0", receives: false)
    }
    let end = ContinuousClock.now + .seconds(2)
    for _ in 0..<4 { startThread(name: "busy") { while ContinuousClock.now < end {} } }
    for index in 2...21 {
      let attachment = try fixture.attachment(
        VnfcID("f\(index)"), on: network, "10.9.0.\(index)/24")
      let port = try await fixture.attach(attachment)
      // An Ethernet type for experiments.
      let frame =
        attachment.port.mac.octets + [2, 0, 0, 0, 0, 1, 0x88, 0xB5]
        + [UInt8](repeating: 0, count: 46)
      for _ in 0..<10 { try sender.send(frame) }
      try await Task.sleep(for: .milliseconds(20))
      let received = try await fixture.network.counters(of: [attachment])[attachment.port.id]
      #expect((received?.receivedPackets ?? 0) >= 10, "\(index)")
      withExtendedLifetime(port) {}
    }
    withExtendedLifetime(a) {}
    try await fixture.end()
  }

  @Test func aParkedPortCarriesNothingUntilItIsActivated() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n3")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    let old = try await fixture.attach(try fixture.attachment("b", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.9.0.2", from: a))
    // The successor has the same MAC and address and waits aside.
    let successor = try fixture.attachment("b", on: network, "10.9.0.2/24", incarnation: 2)
    let new = try await fixture.attach(successor, isActive: false)
    #expect(try reaches("10.9.0.2", from: a))
    #expect(try cannotReach("10.9.0.1", from: new))
    try await fixture.network.activate([successor])
    try await fixture.network.release([
      try fixture.attachment("b", on: network, "10.9.0.2/24")
    ])
    // The successor has asked for its neighbour in vain before; ARP asks again once a second.
    #expect(try reaches("10.9.0.1", from: new, timeout: .seconds(3)))
    #expect(try reaches("10.9.0.2", from: a))
    #expect(try cannotReach("10.9.0.1", from: old))
    withExtendedLifetime((a, old, new)) {}
    try await fixture.end()
  }

  @Test func tenantsAreApartAndMayHaveTheSameAddresses() async throws {
    let fixture = try Fixture()
    let one = try await fixture.makeNetwork("n4", tenant: "one")
    let two = try await fixture.makeNetwork("n5", tenant: "two")
    let a = try await fixture.attach(try fixture.attachment("a", on: one, "10.9.0.1/24"))
    let b = try await fixture.attach(try fixture.attachment("b", on: two, "10.9.0.2/24"))
    #expect(try cannotReach("10.9.0.2", from: a))
    let c = try await fixture.attach(try fixture.attachment("c", on: two, "10.9.0.1/24"))
    #expect(try reaches("10.9.0.2", from: c))
    withExtendedLifetime((a, b, c)) {}
    try await fixture.end()
  }

  @Test func aNewDaemonTakesTheFabricBack() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n7")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    try fixture.restart()
    let b = try await fixture.attach(try fixture.attachment("b", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.9.0.2", from: a))
    #expect(try await fixture.network.observe().links.count == 2)
    withExtendedLifetime((a, b)) {}
    try await fixture.end()
  }

  /// New namespaces have what the host has, and a host with uplinks forwards.
  @Test(arguments: [true, false]) func onlyAFunctionThatRoutesForwards(forwards: Bool) async throws
  {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n12")
    let reference = try Reference()
    try reference.namespace.run { () throws(SystemError) in
      try writeFile("/proc/sys/net/ipv4/ip_forward", forwards ? "0" : "1")
    }
    try await fixture.network.attach(
      [try fixture.attachment("a", on: network, "10.9.0.1/24")],
      to: .networkNamespace(reference), forwards: forwards, isActive: true)
    let value = try reference.namespace.run { () throws(SystemError) in
      try readFile("/proc/sys/net/ipv4/ip_forward", limit: 4)
    }
    #expect(value.first == UInt8(ascii: forwards ? "1" : "0"))
    try await fixture.end()
  }

  @Test func aSweptLinkIsGone() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n8")
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.1/24"))
    let link = try #require(try await fixture.network.observe().links.first)
    try await fixture.network.sweep(link)
    try await fixture.network.sweep(link)
    #expect(try await fixture.network.observe().links.isEmpty)
    withExtendedLifetime(a) {}
    try await fixture.end()
  }

  @Test func probesAskInsideTheNamespace() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n9")
    let attachment = try fixture.attachment("a", on: network, "10.9.0.1/24")
    let a = try await fixture.attach(attachment)
    let point = AttachmentPoint.networkNamespace(a)
    #expect(
      try await fixture.network.probe(.icmp, of: [attachment], at: point, timeout: .seconds(1)))
    #expect(
      try await !fixture.network.probe(
        .tcp(7), of: [attachment], at: point, timeout: .milliseconds(200)))
    try await fixture.end()
  }

  @Test func anUplinkThatCannotBeHadIsRefused() async throws {
    let fixture = try Fixture()
    var network = try await fixture.makeNetwork("n10")
    network.uplink = .device("eth9")
    let error = await #expect(throws: NFVError.self) { try await fixture.network.ensure(network) }
    #expect(error?.code == .unprocessable)
    try await fixture.end()
  }

  /// Prints how long a port takes, for the record; a time is no assertion.
  @Test func portsAreCheapAlsoAmongMany() async throws {
    let fixture = try Fixture()
    let network = try await fixture.makeNetwork("n11", "10.9.0.0/16")
    var kept: [Reference] = []
    var times: [Duration] = []
    for index in 0..<150 {
      let attachment = try fixture.attachment(
        VnfcID("v\(index)"), on: network, "10.9.1.\(index + 1)/16")
      let reference = try Reference()
      let start = ContinuousClock.now
      try await fixture.network.attach(
        [attachment], to: .networkNamespace(reference), forwards: false, isActive: true)
      times.append(ContinuousClock.now - start)
      kept.append(reference)
    }
    func median(_ part: ArraySlice<Duration>) -> Duration { part.sorted()[part.count / 2] }
    print("attach: first 50 \(median(times[0..<50])), last 50 \(median(times[100..<150]))")
    #expect(try reaches("10.9.1.150", from: kept[0]))
    kept = []
    try await fixture.end()
  }
}
