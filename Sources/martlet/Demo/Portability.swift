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
  /// What became of each packet that was sent, in their order.
  var verdicts: [PacketVerdict]
  /// Of which something else became than had to, in words.
  var differences: [String]
  /// By firewall and NAT together, microseconds.
  var addedRoundTrip: Double

  /// Answered from behind the NAT.
  var passed: Int { verdicts.count { $0 == .passed } }
  /// By a reset or an ICMP error of the firewall's.
  var refused: Int { verdicts.count { $0 == .refused } }
  var dropped: Int { verdicts.count { $0 == .dropped } }
  /// At the firewall or the NAT, which told so.
  var expired: Int { verdicts.count - passed - refused - dropped }

  var json: JSONValue {
    [
      "chain": .array(forms.map { .string($0) }), "passed": .integer(Int64(passed)),
      "refused": .integer(Int64(refused)), "dropped": .integer(Int64(dropped)),
      "expired": .integer(Int64(expired)),
      "differences": .array(differences.map { .string($0) }),
      "addedRttUs": .number(addedRoundTrip),
    ]
  }

  static func table(_ results: [ChainResult]) -> String {
    Table(
      titles: FunctionChain.packages + ["passed", "refused", "dropped", "expired", "added RTT"],
      alignedRight: [3, 4, 5, 6, 7],
      rows: results.map { result in
        result.forms.map { Cell($0) } + [
          Cell("\(result.passed)"), Cell("\(result.refused)"), Cell("\(result.dropped)"),
          Cell("\(result.expired)"), Cell("\(fixed(result.addedRoundTrip, digits: 0)) µs"),
        ]
      }
    ).rendered()
  }
}

/// The same packets for every chain.
struct ChainTraffic: Sendable {
  private static let floods = 500

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

  /// What is sent, and what has to become of it by ``FirewallExample/rules``, whatever the forms are. Where packets
  /// end that live too short is told by its address, which the chains have each their own.
  var trials: [PacketTrial] {
    var trials = (0..<100).map { PacketTrial(.echo(octets: $0 * 14), expected: .passed) }
    for _ in 0..<20 {
      trials.append(PacketTrial(.connection(port: FirewallExample.allowed), expected: .passed))
      // Something behind the firewall accepts on each: the discard service, or iperf3.
      for port: UInt16 in [5201, 9] {
        trials.append(PacketTrial(.connection(port: port), expected: .refused))
      }
    }
    for _ in 0..<10 {
      trials.append(PacketTrial(.stray(port: FirewallExample.allowed), expected: .dropped))
      trials.append(PacketTrial(.datagram(port: 53), expected: .dropped))
    }
    // A kernel tells a host of no more than six errors at once, and of one a second (icmp(7)).
    for _ in 0..<2 {
      trials.append(PacketTrial(.datagram(port: FirewallExample.rejected), expected: .refused))
    }
    trials.append(
      PacketTrial(
        .echo(octets: 8), hops: 1, expected: .expired(at: chain.address(0, chain.firewall))))
    trials.append(
      PacketTrial(
        .echo(octets: 8), hops: 2, expected: .expired(at: chain.address(1, chain.translator))))
    return trials
  }

  /// Sends it all, and waits for what comes back. Blocks as long.
  func send() throws -> ChainResult {
    let text = chain.text(2, chain.responder)
    // Until everybody knows his neighbours, the first packets wait.
    let deadline = ContinuousClock.now + .seconds(10)
    while try client.pings(to: text, count: 1, milliseconds: 10).received == 0,
      ContinuousClock.now < deadline
    {}
    let trials = trials
    let verdicts = try client.verdicts(
      of: trials, from: chain.address(0, FunctionChain.client),
      to: chain.address(2, chain.responder), through: chain.address(0, chain.firewall))
    let whole = try client.roundTrip(to: text, count: Self.floods)
    let direct = try neighbour.roundTrip(to: text, count: Self.floods)
    return ChainResult(
      forms: chain.forms, verdicts: verdicts,
      differences: zip(trials, verdicts).filter { $0.expected != $1 }.map { trial, verdict in
        "\(trial): \(verdict) instead of \(trial.expected)"
      }, addedRoundTrip: whole - direct)
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
