import Functions
import Packets
import Testing

@Suite struct TableTests {
  static func address(_ bits: UInt32) -> IPv6Address { IPv6Address(IPv4Address(bits)) }

  @Test func theFirstRuleThatFitsDecides() {
    let rules = FirewallRules(
      [
        .init(
          port: 0, protocol: .tcp, destination: Prefix(IPv4Address(10, 0, 0, 0), length: 8),
          ports: .init(5000, 5001), action: .accept),
        .init(protocol: .tcp, action: .reject),
        .init(source: Prefix(IPv6Address(0x2001_0db8_0000_0000, 0), length: 32), action: .accept),
        .init(protocol: .icmp, action: .accept),
        .init(protocol: .udp, ports: .init(53), sourcePorts: .init(1024, 1033), action: .accept),
      ])
    func decide(
      _ port: UInt8, _ `protocol`: IPProtocol, to destination: IPv6Address, _ number: UInt16,
      from source: IPv6Address = IPv6Address(IPv4Address(192, 0, 2, 1)), sourcePort: UInt16 = 1234
    ) -> FirewallRules.Action {
      rules.decide(
        FlowKey(
          source: source, destination: destination, sourcePort: sourcePort, destinationPort: number,
          protocol: `protocol`), from: port)
    }
    let inside = Self.address(0x0a01_0203)
    #expect(decide(0, .tcp, to: inside, 5001) == .accept)
    #expect(decide(0, .tcp, to: inside, 5002) == .reject)
    #expect(decide(0, .tcp, to: inside, 4999) == .reject)
    #expect(decide(1, .tcp, to: inside, 5001) == .reject)
    #expect(decide(0, .tcp, to: Self.address(0x0b01_0203), 5001) == .reject)
    #expect(decide(0, .udp, to: inside, 5001) == .drop)
    // Both versions'.
    #expect(decide(0, .icmp, to: inside, 0) == .accept)
    #expect(decide(0, .icmpv6, to: inside, 0) == .accept)
    #expect(
      decide(0, .udp, to: inside, 5001, from: IPv6Address(0x2001_0db8_0001_0000, 9)) == .accept)
    // Both ports count, each at its own end.
    for (sourcePort, port) in [(1024, 53), (1033, 53)] as [(UInt16, UInt16)] {
      #expect(decide(0, .udp, to: inside, port, sourcePort: sourcePort) == .accept)
    }
    for (sourcePort, port) in [(1023, 53), (1034, 53), (53, 1024), (1024, 54)]
      as [(UInt16, UInt16)]
    {
      #expect(decide(0, .udp, to: inside, port, sourcePort: sourcePort) == .drop)
    }
  }

  @Test func theLongestPrefixDecides() {
    var table = RouteTable<Int>()
    #expect(table.find(Self.address(1)) == nil)
    table.set(Prefix(IPv4Address(0, 0, 0, 0), length: 0), to: 1)
    table.set(Prefix(IPv4Address(10, 0, 0, 0), length: 8), to: 2)
    table.set(Prefix(IPv4Address(10, 1, 0, 0), length: 16), to: 3)
    table.set(Prefix(IPv4Address(10, 1, 0, 7), length: 32), to: 4)
    table.set(Prefix(IPv6Address(0x2001_0db8_0000_0000, 0), length: 32), to: 5)
    #expect(table.find(Self.address(0x0a01_0007)) == 4)
    #expect(table.find(Self.address(0x0a01_0008)) == 3)
    #expect(table.find(Self.address(0x0a02_0008)) == 2)
    #expect(table.find(Self.address(0x0b02_0008)) == 1)
    #expect(table.find(IPv6Address(0x2001_0db8_ffff_0000, 1)) == 5)
    #expect(table.find(IPv6Address(0x2001_0db9_ffff_0000, 1)) == nil)
    table.set(Prefix(IPv4Address(10, 1, 255, 255), length: 16), to: 6)
    #expect(table.find(Self.address(0x0a01_0008)) == 6)
    #expect(table.count == 5)
  }

  /// Against looking at every route.
  @Test func manyRoutes() {
    var table = RouteTable<Int>()
    var routes: [(Prefix, Int)] = []
    for number in 0..<2000 {
      let prefix = Prefix(
        IPv4Address(UInt32.random(in: 0...0xffff) << 16), length: Int.random(in: 4...16))
      table.set(prefix, to: number)
      routes.append((prefix, number))
    }
    for _ in 0..<2000 {
      let address = Self.address(UInt32.random(in: 0...UInt32.max))
      let fitting = routes.filter { $0.0.contains(address) }
      let longest = fitting.map(\.0.length).max()
      #expect(table.find(address) == fitting.last { $0.0.length == longest }?.1)
    }
  }

  @Test func backendsGetEqualSharesAndKeepTheirFlows() {
    let names: [UInt64] = (1...10).map { UInt64($0) }
    let all = MaglevTable(names: names, isServing: names.map { _ in true })
    let without = MaglevTable(names: names, isServing: names.map { $0 != 4 })
    var shares = [Int](repeating: 0, count: 10)
    var moved = 0
    for hash in 0..<UInt64(MaglevTable.size) {
      let backend = all.backend(for: hash)!
      shares[backend] += 1
      let other = without.backend(for: hash)!
      #expect(other != 3)
      if backend != 3 && other != backend { moved += 1 }
    }
    #expect(shares.max()! - shares.min()! <= 1)
    // The paper's measurement for such a table: some percent of the others' flows.
    #expect(moved < MaglevTable.size / 10)
    #expect(MaglevTable(names: names, isServing: names.map { _ in false }).backend(for: 1) == nil)
  }
}
