internal import LinuxSystem
internal import NFVBenchmark
internal import NFVClient
internal import NFVModel

/// A client before firewall, nat44 and responder, each in a form of its own.
///
/// A firewall serves both chains that begin with its form, and a responder both that end with its;
/// each chain has a NAT of its own between them.
struct FunctionChain: Sendable {
  static let packages = ["firewall", "nat44", "responder"]

  /// The forms of the packages, in their order.
  let forms: [String]
  /// The places of those forms in the list of all: they tell instances and addresses apart.
  let places: [UInt8]

  /// Every assignment of the forms to the functions.
  static func all(of forms: [String]) -> [FunctionChain] {
    permutations(of: Array(forms.indices)).map { places in
      FunctionChain(forms: places.map { forms[$0] }, places: places.map(UInt8.init))
    }
  }

  private static func permutations(of places: [Int]) -> [[Int]] {
    if places.count < 2 { return [places] }
    return places.indices.flatMap { index -> [[Int]] in
      var rest = places
      let first = rest.remove(at: index)
      return permutations(of: rest).map { [first] + $0 }
    }
  }

  static let client: UInt8 = 100

  /// The networks before the firewall, behind it, and behind the NAT.
  var networks: [String] { ["before-\(forms[0])", "between-\(forms[0])", "behind-\(forms[2])"] }

  /// An address on the network of that place.
  func address(_ place: Int, _ last: UInt8) -> [UInt8] {
    [10, 20 + UInt8(place), places[place < 2 ? 0 : 2], last]
  }

  func text(_ place: Int, _ last: UInt8) -> String {
    address(place, last).map(String.init).joined(separator: ".")
  }

  var firewall: UInt8 { 2 }
  /// Of the NAT on both its networks.
  var translator: UInt8 { 10 + places[1] }
  var responder: UInt8 { 2 }

  /// An instance that is in the chain.
  struct Member: Sendable {
    var name, package, form: String
    var points: [(point: String, network: String, address: String)]
  }

  var members: [Member] {
    [
      Member(
        name: "firewall-\(forms[0])", package: "firewall", form: forms[0],
        points: [
          ("left", networks[0], text(0, firewall)), ("right", networks[1], text(1, firewall)),
        ]),
      Member(
        name: "nat44-\(forms[0])-\(forms[2])", package: "nat44", form: forms[1],
        points: [
          ("inside", networks[1], text(1, translator)),
          ("outside", networks[2], text(2, translator)),
        ]),
      Member(
        name: "responder-\(forms[2])", package: "responder", form: forms[2],
        points: [("network", networks[2], text(2, responder))]),
    ]
  }
}

/// What went through a chain.
struct ChainResult: Sendable, Hashable {
  var forms: [String]
  /// Packets and connections that were answered from behind the NAT.
  var passed: Int
  /// Connections that the firewall refused.
  var refused: Int
  /// By firewall and NAT together, microseconds.
  var addedRoundTrip: Double

  var json: JSONValue {
    [
      "chain": .array(forms.map { .string($0) }), "passed": .integer(Int64(passed)),
      "refused": .integer(Int64(refused)), "addedRttUs": .number(addedRoundTrip),
    ]
  }

  static func table(_ results: [ChainResult]) -> String {
    Table(
      titles: FunctionChain.packages + ["passed", "refused", "added RTT"], alignedRight: [3, 4, 5],
      rows: results.map { result in
        result.forms.map { Cell($0) } + [
          Cell("\(result.passed)"), Cell("\(result.refused)"),
          Cell("\(fixed(result.addedRoundTrip, digits: 0)) µs"),
        ]
      }
    ).rendered()
  }
}

/// The same packets for every chain.
struct ChainTraffic: Sendable {
  static let echoes = 100
  static let connections = 20
  /// The firewall lets the first pass, and no other; somewhere behind it something accepts on each.
  static let allowed: UInt16 = 5001
  static let forbidden: [UInt16] = [5201, 9]
  private static let floods = 500

  /// What has to come of it.
  static let expected = (passed: echoes + connections, refused: connections * forbidden.count)

  let chain: FunctionChain
  /// Before the firewall, and beside the responder.
  let client, neighbour: ClientNamespace

  init(_ chain: FunctionChain, fabric: String, networks: [String: String]) throws {
    self.chain = chain
    client = try ClientNamespace(
      fabric: fabric, network: networks[chain.networks[0]] ?? "", name: "mdemo-client",
      address: chain.address(0, FunctionChain.client), prefixLength: 24,
      routes: [
        .init(
          destination: chain.address(2, 0), prefixLength: 24,
          gateway: chain.address(0, chain.firewall))
      ])
    do {
      neighbour = try ClientNamespace(
        fabric: fabric, network: networks[chain.networks[2]] ?? "", name: "mdemo-beside",
        address: chain.address(2, FunctionChain.client), prefixLength: 24)
    } catch {
      client.remove()
      throw error
    }
  }

  func remove() {
    client.remove()
    neighbour.remove()
  }

  /// Sends it all, and waits for what comes back. Blocks as long.
  func send() throws -> ChainResult {
    let target = chain.address(2, chain.responder)
    let text = chain.text(2, chain.responder)
    // Until everybody knows his neighbours, the first packets wait.
    let deadline = ContinuousClock.now + .seconds(10)
    while try client.pings(to: text, count: 1, milliseconds: 10).received == 0,
      ContinuousClock.now < deadline
    {}
    var passed = try client.pings(to: text, count: Self.echoes, milliseconds: 2).received
    var refused = 0
    for _ in 0..<Self.connections {
      if try client.connects(to: target, port: Self.allowed, timeout: .seconds(1)) { passed += 1 }
      for port in Self.forbidden {
        let begin = ContinuousClock.now
        let isOpen = try client.connects(to: target, port: port, timeout: .seconds(1))
        // Without an answer the time would have passed.
        if !isOpen, ContinuousClock.now - begin < .milliseconds(900) { refused += 1 }
      }
    }
    let whole = try client.roundTrip(to: text, count: Self.floods)
    let direct = try neighbour.roundTrip(to: text, count: Self.floods)
    return ChainResult(
      forms: chain.forms, passed: passed, refused: refused, addedRoundTrip: whole - direct)
  }
}

extension Functions {
  /// Runs chains side by side, sends each its packets one after another, and removes them.
  /// - Parameters:
  ///   - fabric: the path at which the tenant's fabric is pinned.
  ///   - rules: of the firewall.
  ///   - step: is told what begins.
  func results(
    of chains: [FunctionChain], fabric: String, rules: JSONValue, step: (String) -> Void
  ) async throws -> [ChainResult] {
    var members: [String: FunctionChain.Member] = [:]
    var routes: [String: [(destination: String, via: String)]] = [:]
    var prefixes: [String: String] = [:]
    for chain in chains {
      for member in chain.members { members[member.name] = member }
      for (place, name) in chain.networks.enumerated() {
        prefixes[name] = chain.text(place, 0) + "/24"
      }
      // Whom a firewall asks for a responder follows from where that is.
      routes[
        chain.networks[1], default: [(chain.text(0, 0) + "/24", chain.text(1, chain.firewall))]
      ]
      .append((chain.text(2, 0) + "/24", chain.text(1, chain.translator)))
    }
    var networks: [String: String] = [:]
    for (name, prefix) in prefixes.sorted(by: { $0.key < $1.key }) {
      networks[name] = try await network(name, prefix, routes: routes[name] ?? [])
    }
    try await withThrowingTaskGroup { group in
      for member in members.values {
        group.addTask {
          try await instantiate(
            member.name, member.package, as: member.form, member.points,
            member.package == "firewall" ? ["rules": rules] : [:], asked: .milliseconds(50))
        }
      }
      try await group.waitForAll()
    }
    step("send the same packets through each")
    var results: [ChainResult] = []
    for chain in chains {
      try Task.checkCancellation()
      let traffic = try ChainTraffic(chain, fabric: fabric, networks: networks)
      defer { traffic.remove() }
      results.append(try traffic.send())
    }
    try await withThrowingTaskGroup { group in
      for vnf in try await daemon.list(.vnf) {
        group.addTask { try await remove(vnf["id"].text, asked: .milliseconds(20)) }
      }
      try await group.waitForAll()
    }
    for network in networks.values {
      try await awaitRelease(of: network)
      try await daemon.send(.delete, "\(Kind.network.collection)/\(network)")
    }
    return results
  }
}
