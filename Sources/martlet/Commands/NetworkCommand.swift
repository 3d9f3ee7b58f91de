internal import ArgumentParser
internal import NFVClient
internal import NFVModel

struct NetworkCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "network",
    abstract: "Make and remove the networks that functions are connected to.",
    discussion: """
      Examples:
        martlet network create lan --subnet 10.1.0.0/24
        martlet network create wan --subnet 192.0.2.0/24 --uplink nat
        martlet network list
      """,
    subcommands: [Create.self, List.self, Show.self, Delete.self])

  struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a network.",
      discussion: """
        Addresses are allotted from its subnets, one of IPv4 and one of IPv6 at most. The uplink \
        decides what it reaches outside: none (nothing); nat (its functions reach out behind the \
        host's address, nobody reaches in); routed (both ways, by a route of this host, which must \
        have none that overlaps). With an uplink the gateway is this host's: the subnet's first \
        address, or the one that is given.

        Examples:
          martlet network create lan --subnet 10.1.0.0/24 --subnet fd00:1::/64
          martlet network create wan --subnet 10.2.0.0/24,10.2.0.254 --uplink nat --mtu 1400
          martlet network create lan2 --subnet 10.3.0.0/24 --route 10.4.0.0/16=10.3.0.2
        """)

    @Argument(help: "Its name.") var name: String
    @Option(
      help: ArgumentHelp(
        "A subnet, with the gateway's address where there is one; repeatable.",
        valueName: "prefix[,gateway]"))
    var subnet: [SubnetArgument] = []
    @Option(
      help: ArgumentHelp(
        "A route that its functions get; repeatable.", valueName: "prefix=address"))
    var route: [RouteArgument] = []
    @Option(help: "none, nat or routed (default: none).") var uplink: String?
    @Option(help: ArgumentHelp("The largest packet.", valueName: "octets")) var mtu: Int?
    @OptionGroup var output: OutputOptions
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      var request: [String: JSONValue] = ["name": .string(name)]
      if !subnet.isEmpty { request["subnets"] = .array(subnet.map(\.value)) }
      if !route.isEmpty { request["routes"] = .array(route.map(\.value)) }
      if let uplink { request["uplink"] = .string(uplink) }
      if let mtu { request["mtu"] = .integer(Int64(mtu)) }
      let daemon = try connection.daemon()
      let created = try await daemon.send(.post, Kind.network.collection, .object(request))
      output.write(created.value, of: .network)
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List networks.", discussion: "Example: martlet network list -o wide")
    @OptionGroup var options: ListOptions

    func run() async throws { try await options.run(.network) }
  }

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show a network.", discussion: "Example: martlet network show lan")
    @Argument(help: "The network.") var network: String
    @OptionGroup var options: ListOptions

    func run() async throws { try await options.show(.network, network) }
  }

  struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Remove a network that nothing is connected to.",
      discussion: "Example: martlet network delete lan")
    @Argument(help: "The network.") var network: String
    @OptionGroup var connection: ConnectionOptions

    func run() async throws { try await connection.daemon().delete(.network, network) }
  }
}

/// `10.1.0.0/24,10.1.0.254`.
struct SubnetArgument: ExpressibleByArgument, Sendable, Hashable {
  var value: JSONValue

  init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let prefix = IPPrefix(String(parts[0])) else { return nil }
    var subnet: [String: JSONValue] = ["prefix": .string(prefix.description)]
    if parts.count == 2 {
      guard let gateway = IPAddress(String(parts[1])) else { return nil }
      subnet["gateway"] = .string(gateway.description)
    }
    value = .object(subnet)
  }
}

/// `10.4.0.0/16=10.3.0.2`.
struct RouteArgument: ExpressibleByArgument, Sendable, Hashable {
  var value: JSONValue

  init?(argument: String) {
    let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
    guard parts.count == 2, let destination = IPPrefix(String(parts[0])),
      let via = IPAddress(String(parts[1]))
    else { return nil }
    value = ["destination": .string(destination.description), "via": .string(via.description)]
  }
}
