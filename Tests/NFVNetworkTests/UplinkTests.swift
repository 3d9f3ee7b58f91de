import LinuxSystem
import NFVModel
import NFVNetwork
import SystemPackage
import TestSupport
import Testing

/// Uplinks with real packets. The host, the network outside of it and the functions are namespaces.
@Suite(.needs(.root), .serialized)
struct UplinkTests {
  /// A machine on a network with the host, which knows no way but that network.
  final class Outside {
    let namespace: NetworkNamespace
    let host: NetworkNamespace
    private let frames: LinkSocket

    init(of host: NetworkNamespace) throws {
      let namespace = try NetworkNamespace.create()
      self.namespace = namespace
      self.host = host
      try host.run { () throws(SystemError) in
        let route = try NetlinkSocket(.route)
        try route.request([
          .setLinkUp(named: "lo"),
          .addVeth(
            name: "out0", mtu: 1500, master: nil,
            peer: .init(name: "eth0", mac: [], namespace: namespace.descriptor.rawValue)),
        ])
        try Self.number(route, "out0", 1)
      }
      frames = try namespace.run { () throws(SystemError) in
        let route = try NetlinkSocket(.route)
        try route.request([.setLinkUp(named: "eth0")])
        try Self.number(route, "eth0", 2)
        return try LinkSocket(interface: "eth0")
      }
    }

    private static func number(
      _ route: NetlinkSocket, _ name: String, _ last: UInt8
    ) throws(SystemError) {
      let link = try route.index(ofLinkNamed: name)
      try route.request([
        .addAddress([10, 200, 0, last], prefixLength: 24, link: link),
        .addAddress(
          [0xFD, 0, 2, 0] + [UInt8](repeating: 0, count: 11) + [last], prefixLength: 64, link: link),
      ])
    }

    /// Teaches the machine, or the host, a way.
    func addRoute(
      to prefix: String, by gateway: String, in namespace: NetworkNamespace? = nil,
      on name: String = "eth0"
    ) throws {
      let prefix = try #require(IPPrefix(prefix))
      let gateway = try #require(IPAddress(gateway)).octets
      try (namespace ?? self.namespace).run { () throws(SystemError) in
        let route = try NetlinkSocket(.route)
        try route.request([
          .addRoute(
            to: prefix.address.octets, prefixLength: prefix.length, gateway: gateway,
            link: try route.index(ofLinkNamed: name))
        ])
      }
    }

    /// Who sent the echo requests that have arrived since the last question.
    func askers() throws -> Set<String> {
      var askers: Set<String> = []
      while let frame = try frames.receive(timeout: .milliseconds(50)) {
        let source: [UInt8]
        switch (frame[12], frame[13]) {
        case (0x08, 0x00) where frame[23] == 1 && frame[34] == 8: source = Array(frame[26..<30])
        case (0x86, 0xDD) where frame[20] == 58 && frame[54] == 128: source = Array(frame[22..<38])
        default: continue
        }
        askers.insert(try #require(IPAddress(octets: source)).description)
      }
      return askers
    }
  }

  struct Family: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var subnet, subnet2, client, client2, outside, host: String

    static let v4 = Family(
      testDescription: "IPv4", subnet: "10.9.0.0/24", subnet2: "10.9.1.0/24",
      client: "10.9.0.2", client2: "10.9.1.2", outside: "10.200.0.2", host: "10.200.0.1")
    static let v6 = Family(
      testDescription: "IPv6", subnet: "fd00:9::/64", subnet2: "fd00:9:1::/64",
      client: "fd00:9::2", client2: "fd00:9:1::2", outside: "fd00:200::2", host: "fd00:200::1")

    var length: String { String(subnet.split(separator: "/")[1]) }
  }

  /// What a namespace has: links, addresses, routes, rules. Not the link-local ones of IPv6, which the
  /// kernel adds by itself some time after a link has its carrier.
  func inventory(_ namespace: NetworkNamespace) throws -> [String] {
    try namespace.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      let rules = try runProgram("/usr/sbin/nft", arguments: ["nft", "list", "ruleset"])
      func isLinkLocal(_ octets: [UInt8]) -> Bool { octets.count == 16 && octets[0] == 0xFE }
      return try route.links().map { "link \($0.name)" }
        + (try route.addresses().filter { !isLinkLocal($0.octets) }.map {
          "address \($0.octets) \($0.link)"
        })
        // A host that forwards has more routes of its own to anycast groups.
        + (try route.routes().filter { !$0.isForGroups && !isLinkLocal($0.destination) }.map {
          "route \($0.destination) \($0.prefixLength) \($0.link)"
        })
        + [String(decoding: rules.output, as: UTF8.self)]
    }
  }

  func transitAddress(of host: NetworkNamespace) throws -> [IPAddress] {
    try host.run { () throws(SystemError) in
      try NetlinkSocket(.route).addresses().compactMap { IPAddress(octets: $0.octets) }
        .filter { $0.description.hasPrefix("169.254.") }
    }
  }

  @Test(arguments: [Family.v4, .v6]) func natHidesFunctionsBehindTheHost(_ family: Family)
    async throws
  {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    let network = try await fixture.makeNetwork("u1", family.subnet, uplink: .nat)
    let client = try await fixture.attach(
      try fixture.attachment("a", on: network, "\(family.client)/\(family.length)"))
    #expect(try reaches(family.outside, from: client))
    #expect(try outside.askers() == [family.host])
    // The host's own stack is not for tenants.
    #expect(try cannotReach(family.host, from: client))
    // Not even who knows the way gets in.
    #expect(try cannotReach(family.client, from: outside.namespace))
    try outside.addRoute(to: family.subnet, by: family.host)
    #expect(try cannotReach(family.client, from: outside.namespace))
    let links = try fixture.host.run { () throws(SystemError) in
      try NetlinkSocket(.route).links()
    }
    let transit = try #require(links.first { $0.alias == "teststore/default/transit" })
    let ends = try fixture.host.run { () throws(SystemError) in
      try NetlinkSocket(.route).addresses().filter { $0.link == transit.index }
    }
    let end = try #require(
      ends.compactMap { IPAddress(octets: $0.octets) }.first {
        "\($0.family)" == (family.length == "24" ? "v4" : "v6") && !"\($0)".hasPrefix("fe80")
      })
    let fabric = IPAddress(family: end.family, value: end.value + 1)
    try outside.addRoute(
      to: family.subnet, by: "\(fabric)", in: fixture.host, on: transit.name)
    #expect(try cannotReach(family.client, from: outside.namespace))
    #expect(try cannotReach(family.client, from: fixture.host))
    withExtendedLifetime(client) {}
    try await fixture.end()
  }

  @Test func natDoesNotLeadToWhereCloudProvidersAnswer() async throws {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    try outside.namespace.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      let link = try route.index(ofLinkNamed: "eth0")
      try route.request([.addAddress([169, 254, 169, 254], prefixLength: 32, link: link)])
    }
    try outside.addRoute(
      to: "169.254.169.254/32", by: "10.200.0.2", in: fixture.host, on: "out0")
    let network = try await fixture.makeNetwork("u2", uplink: .nat)
    let client = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.200.0.2", from: client))
    #expect(try reaches("169.254.169.254", from: fixture.host))
    #expect(try cannotReach("169.254.169.254", from: client))
    withExtendedLifetime(client) {}
    try await fixture.end()
  }

  @Test(arguments: [Family.v4, .v6], [Network.Uplink.nat, .routed])
  func networksOfOneTenantStayApart(_ family: Family, _ uplink: Network.Uplink) async throws {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    try outside.addRoute(to: family.subnet2, by: family.host)
    let one = try await fixture.makeNetwork("u3", family.subnet, uplink: .nat)
    let two = try await fixture.makeNetwork("u4", family.subnet2, uplink: uplink)
    let a = try await fixture.attach(
      try fixture.attachment("a", on: one, "\(family.client)/\(family.length)"))
    let b = try await fixture.attach(
      try fixture.attachment("b", on: two, "\(family.client2)/\(family.length)"))
    #expect(try reaches(family.outside, from: a))
    #expect(try reaches(family.outside, from: b))
    #expect(try cannotReach(family.client2, from: a))
    #expect(try cannotReach(family.client, from: b))
    withExtendedLifetime((a, b)) {}
    try await fixture.end()
  }

  @Test func tenantsWithTheSameAddressesShareTheHost() async throws {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    try outside.addRoute(to: "10.9.7.0/24", by: "10.200.0.1")
    let one = try await fixture.makeNetwork("u5", tenant: "one", uplink: .nat)
    let two = try await fixture.makeNetwork("u6", tenant: "two", uplink: .nat)
    let open = try await fixture.makeNetwork(
      "u7", tenant: "two", "10.9.7.0/24", uplink: .routed)
    let a = try await fixture.attach(try fixture.attachment("a", on: one, "10.9.0.2/24"))
    let b = try await fixture.attach(try fixture.attachment("b", on: two, "10.9.0.2/24"))
    let c = try await fixture.attach(try fixture.attachment("c", on: open, "10.9.7.2/24"))
    for client in [a, b, c] {
      #expect(try reaches("10.200.0.2", from: client))
    }
    #expect(try outside.askers() == ["10.200.0.1", "10.9.7.2"])
    #expect(try reaches("10.9.7.2", from: outside.namespace))
    // What is routed is for the outside, not for other tenants.
    #expect(try cannotReach("10.9.7.2", from: a))
    #expect(Set(try transitAddress(of: fixture.host)).count == 2)
    // One tenant's end is not the other's.
    try await fixture.network.remove("u5", of: "one")
    #expect(try reaches("10.200.0.2", from: b))
    #expect(try transitAddress(of: fixture.host).count == 1)
    withExtendedLifetime((a, b, c)) {}
    try await fixture.end()
  }

  @Test(arguments: [Family.v4, .v6]) func routedWorksBothWays(_ family: Family) async throws {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    try outside.addRoute(to: family.subnet, by: family.host)
    let network = try await fixture.makeNetwork("u8", family.subnet, uplink: .routed)
    let a = try await fixture.attach(
      try fixture.attachment("a", on: network, "\(family.client)/\(family.length)", mode: .router))
    // The function has said nothing yet: who forwards must find it.
    #expect(try reaches(family.client, from: outside.namespace))
    _ = try outside.askers()
    #expect(try reaches(family.outside, from: a))
    #expect(try outside.askers() == [family.client])
    #expect(try reaches(family.client, from: fixture.host))
    #expect(try cannotReach(family.host, from: a))
    // A function that routes may send from any address, but only its network's go out.
    _ = try outside.askers()
    let forged = family.client2
    let width = family.length == "24" ? "32" : "128"
    let address = try #require(IPPrefix("\(forged)/\(width)"))
    let destination = family.outside
    try a.namespace.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      let link = try route.index(ofLinkNamed: "eth0")
      try route.request([
        .addAddress(address.address.octets, prefixLength: address.length, link: link)
      ])
      _ = try runProgram(
        "/bin/ping", arguments: ["ping", "-c", "1", "-W", "1", "-I", forged, destination])
    }
    #expect(try outside.askers() == [])
    withExtendedLifetime(a) {}
    try await fixture.end()
  }

  @Test func whatIsBehindAFunctionHasTheUplinkToo() async throws {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    let network = try await fixture.makeNetwork(
      "u9", uplink: .nat,
      routes: [
        .init(
          destination: try #require(IPPrefix("10.8.0.0/24")),
          via: try #require(IPAddress("10.9.0.2")))
      ])
    let router = try await fixture.attach(
      try fixture.attachment("r", on: network, "10.9.0.2/24", mode: .router), forwards: true)
    let inner = try NetworkNamespace.create()
    try router.namespace.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      try route.request([
        .addVeth(
          name: "in0", mtu: 1500, master: nil,
          peer: .init(name: "eth0", mac: [], namespace: inner.descriptor.rawValue))
      ])
      let link = try route.index(ofLinkNamed: "in0")
      try route.request([.addAddress([10, 8, 0, 1], prefixLength: 24, link: link)])
    }
    try inner.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      let link = try route.index(ofLinkNamed: "eth0")
      try route.request([
        .setLink(link, isUp: true), .addAddress([10, 8, 0, 2], prefixLength: 24, link: link),
        .addRoute(to: [0, 0, 0, 0], prefixLength: 0, gateway: [10, 8, 0, 1], link: link),
      ])
    }
    #expect(try reaches("10.200.0.2", from: inner))
    #expect(try outside.askers() == ["10.200.0.1"])
    withExtendedLifetime(router) {}
    try await fixture.end()
  }

  @Test func anOverlapWithTheHostIsRefused() async throws {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    let before = try inventory(fixture.host)
    for (prefix, named) in [
      ("10.200.0.0/16", "10.200.0.0/24 by out0"), ("10.200.0.128/25", "10.200.0.0/24 by out0"),
      ("fd00:200::/48", "fd00:200::/64 by out0"),
    ] {
      let network = try fixture.describeNetwork("u10", prefix, uplink: .routed)
      let error = await #expect(throws: NFVError.self) { try await fixture.network.ensure(network) }
      #expect(error?.code == .unprocessable)
      #expect(error?.message.contains("overlaps the host's route to \(named)") == true)
      let request = NetworkRequest(name: "u10", subnets: network.subnets, uplink: .routed)
      let early = await #expect(throws: NFVError.self) {
        try await fixture.network.check(request, of: .default)
      }
      #expect(early == error)
    }
    #expect(try listFolder(fixture.folder + "/fabric").isEmpty)
    #expect(try inventory(fixture.host) == before)
    // Behind nat nobody sees which addresses a network has.
    _ = try await fixture.makeNetwork("u11", "10.200.0.0/24", uplink: .nat)
    withExtendedLifetime(outside) {}
    try await fixture.end()
  }

  @Test func twoStoresDoNotRouteTheSame() async throws {
    let one = try Fixture(store: "storeone")
    let two = try Fixture(store: "storetwo", host: one.host)
    let outside = try Outside(of: one.host)
    _ = try await one.makeNetwork("u12", uplink: .routed)
    let clash = try two.describeNetwork("u13", "10.9.0.0/24", uplink: .routed)
    let error = await #expect(throws: NFVError.self) { try await two.network.ensure(clash) }
    #expect(error?.code == .unprocessable)
    let network = try await two.makeNetwork("u14", uplink: .nat)
    let a = try await two.attach(try two.attachment("a", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.200.0.2", from: a))
    // The first one's end does not disturb the second.
    try await one.end()
    #expect(try reaches("10.200.0.2", from: a))
    withExtendedLifetime((a, outside)) {}
    try await two.end()
  }

  @Test(arguments: [Family.v4, .v6]) func theLastNetworkLeavesNothing(_ family: Family)
    async throws
  {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    // Until the kernel has given the new links their own addresses of IPv6.
    var before = try inventory(fixture.host)
    for _ in 0..<30 {
      pause(microseconds: 100_000)
      let now = try inventory(fixture.host)
      if now == before { break }
      before = now
    }
    let one = try await fixture.makeNetwork("u15", family.subnet, uplink: .routed)
    _ = try await fixture.makeNetwork("u16", family.subnet2, uplink: .nat)
    let a = try await fixture.attach(
      try fixture.attachment("a", on: one, "\(family.client)/\(family.length)"))
    try await fixture.network.remove("u16", of: .default)
    #expect(try reaches(family.client, from: fixture.host))
    // A new daemon knows what the old one made.
    try fixture.restart()
    try await fixture.network.remove("u15", of: .default)
    #expect(try inventory(fixture.host) == before)
    // Forwarding stays: others may have come to rely on it.
    let forwards = try fixture.host.run { () throws(SystemError) in
      try readFile("/proc/sys/net/ipv4/ip_forward", limit: 2)[0]
    }
    #expect(forwards == UInt8(ascii: "1"))
    withExtendedLifetime((a, outside)) {}
    try await fixture.end()
  }

  @Test func whatIsDamagedIsMended() async throws {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    let network = try await fixture.makeNetwork("u17", uplink: .nat)
    let a = try await fixture.attach(try fixture.attachment("a", on: network, "10.9.0.2/24"))
    #expect(try reaches("10.200.0.2", from: a))
    let address = try transitAddress(of: fixture.host)
    try fixture.restart()
    #expect(try reaches("10.200.0.2", from: a))
    for damage in [
      "nft flush ruleset", "sysctl -qw net.ipv4.ip_forward=0",
      "ip link del $(ip -o link | sed -n 's/.*\\(m[a-z2-7]\\{12\\}\\)@.*/\\1/p')",
    ] {
      let result = try fixture.host.run { () throws(SystemError) in
        try runProgram("/bin/sh", arguments: ["sh", "-c", damage])
      }
      #expect(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
      try await fixture.network.ensure(network)
      _ = try outside.askers()
      #expect(try reaches("10.200.0.2", from: a), "after \(damage)")
      #expect(try outside.askers() == ["10.200.0.1"])
    }
    #expect(try transitAddress(of: fixture.host) == address)
    withExtendedLifetime(a) {}
    try await fixture.end()
  }

  @Test func aRemovalThatWasCutShortIsFinished() async throws {
    let fixture = try Fixture()
    _ = try await fixture.makeNetwork("u18", uplink: .nat)
    let fabric = try NetworkNamespace(path: fixture.folder + "/fabric/default")
    try fabric.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      for link in try route.links() where link.kind == "bridge" {
        try route.request([.deleteLink(link.index)])
      }
    }
    try fixture.restart()
    #expect(try listFolder(fixture.folder + "/fabric").isEmpty)
    #expect(try transitAddress(of: fixture.host).isEmpty)
    try await fixture.end()
  }

  @Test func aTransitTakesAPairThatNobodyHas() async throws {
    let fixture = try Fixture()
    _ = try await fixture.makeNetwork("u19", uplink: .nat)
    let preferred = try #require(try transitAddress(of: fixture.host).first)
    try await fixture.network.remove("u19", of: .default)
    // Somebody else has the pair's other address.
    let octets = IPAddress(family: .v4, value: preferred.value + 1).octets
    try fixture.host.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      let link = try route.index(ofLinkNamed: "lo")
      try route.request([.addAddress(octets, prefixLength: 32, link: link)])
    }
    _ = try await fixture.makeNetwork("u20", uplink: .nat)
    let all = try transitAddress(of: fixture.host)
    #expect(all.count == 2 && !all.contains(preferred))
    try await fixture.end()
  }

  @Test func aHostThatWouldForgetItsRouterIsLeftAsItIs() async throws {
    let fixture = try Fixture()
    let outside = try Outside(of: fixture.host)
    // As a router advertisement makes it: RTPROT_RA.
    let gateway: [UInt8] = [0xFD, 0, 2, 0] + [UInt8](repeating: 0, count: 11) + [2]
    try fixture.host.run { () throws(SystemError) in
      let route = try NetlinkSocket(.route)
      var message = NetlinkMessage(
        type: 24, flags: 0x500, fixed: [10, 0, 0, 0, 254, 9, 0, 1, 0, 0, 0, 0])
      message.attribute(5, gateway)
      message.attribute(4, try route.index(ofLinkNamed: "out0"))
      try route.request([message])
    }
    let network = try fixture.describeNetwork("u21", "fd00:9::/64", uplink: .nat)
    let error = await #expect(throws: NFVError.self) { try await fixture.network.ensure(network) }
    #expect(error?.code == .unprocessable)
    #expect(error?.message.contains("net.ipv6.conf.out0.accept_ra=2") == true)
    // IPv4 alone forwards only IPv4.
    _ = try await fixture.makeNetwork("u22", uplink: .nat)
    try fixture.host.run { () throws(SystemError) in
      try writeFile("/proc/sys/net/ipv6/conf/out0/accept_ra", "2")
    }
    _ = try await fixture.makeNetwork("u23", "fd00:9::/64", uplink: .nat)
    withExtendedLifetime(outside) {}
    try await fixture.end()
  }
}
