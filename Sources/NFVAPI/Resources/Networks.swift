internal import HTTPTypes
internal import Hummingbird
internal import NFVLifecycle
internal import NFVModel

/// Networks as resources: what external connection points are plugged into.
struct Networks: Sendable {
  let lifecycle: Lifecycle

  /// A network with the number of the ports on it.
  private struct View: Sendable {
    var network: Network
    var ports: Int
  }

  func register(on routes: inout Routes) {
    let all = RouterPath(Path.networks)
    let one = RouterPath("\(Path.networks)/{network}")
    routes.on(.get, all, .list("Network", "Lists the networks.", isSelected: false), list)
    routes.on(
      .post, all, .create("Network", by: "NetworkRequest", "Makes a network.")
    ) { call, context in
      let request = try NetworkRequest(try await call.json())
      let response = try await lifecycle.submit(
        .createNetwork(request), tenant: context.tenant, actor: context.actor)
      guard case .network(let network) = response else { throw Problem(unexpected: response) }
      return .json(status: .created, headers: [.location: Path.network(network.id)]) {
        $0.network(network, ports: 0)
      }
    }
    routes.on(
      .get, one, .get("Network", "Shows a network, by its identifier or name.")
    ) { call, context in
      let view = try find(context.parameter("network"), context.tenant)
      return call.resource(capacity: 512) { $0.network(view.network, ports: view.ports) }
    }
    routes.on(.delete, one, .delete("Removes a network that nothing uses.")) { call, context in
      let view = try find(context.parameter("network"), context.tenant)
      try call.checkMatch { $0.network(view.network, ports: view.ports) }
      _ = try await lifecycle.submit(
        .deleteNetwork(view.network.id), tenant: context.tenant, actor: context.actor)
      return .empty(.noContent)
    }
  }

  private func list(_ call: Call, _ context: CallContext) async throws -> Reply {
    let listing = try Listing(call, attributes: ["id", "name", "uplink"])
    let (views, next) = try lifecycle.read {
      (state: borrowing State) throws(NFVError) -> ([View], String?) in
      var items: [Listing.Item<Network>] = []
      for (id, network) in state.networks where network.tenant == context.tenant {
        // Networks have no time of creation: they are listed by identifier.
        items.append(.init(created: Timestamp(microseconds: 0), id: id))
      }
      let counts = Self.ports(in: state)
      var views: [View] = []
      let next = try listing.page(of: items) { id in
        guard let network = state.networks[id], listing.filter.matches(network.attribute) else {
          return false
        }
        views.append(View(network: network, ports: counts[id] ?? 0))
        return true
      }
      return (views, next)
    }
    return listing.reply(views, next: next) { $0.network($1.network, ports: $1.ports) }
  }

  /// By identifier, else by name.
  private func find(_ reference: String, _ tenant: TenantID) throws(NFVError) -> View {
    try lifecycle.read { (state: borrowing State) throws(NFVError) -> View in
      var found = state.networks[NetworkID(reference)]
      if found == nil {
        found = state.networks.values.first { $0.name == reference && $0.tenant == tenant }
      }
      guard let found, found.tenant == tenant else {
        throw NFVError(.notFound, "there is no network \(reference)")
      }
      return View(network: found, ports: Self.ports(in: state)[found.id] ?? 0)
    }
  }

  private static func ports(in state: borrowing State) -> [NetworkID: Int] {
    var counts: [NetworkID: Int] = [:]
    for vnfc in state.vnfcs.values {
      for port in vnfc.ports { counts[port.network, default: 0] += 1 }
    }
    return counts
  }
}

extension NetworkRequest {
  init(_ body: JSONBody) throws(Problem) {
    var subnets: [Network.Subnet] = []
    for item in try body.items("subnets") {
      let prefix = try item.required("prefix")
        .parsed("a prefix such as 10.1.0.0/24", { text in IPPrefix(text) })
      let gateway = try item.member("gateway")?
        .parsed("an IP address", { text in IPAddress(text) })
      subnets.append(.init(prefix: prefix, gateway: gateway))
    }
    var routes: [Network.Route] = []
    for item in try body.items("routes") {
      routes.append(
        .init(
          destination: try item.required("destination")
            .parsed("a prefix such as 10.2.0.0/24", { text in IPPrefix(text) }),
          via: try item.required("via").parsed("an IP address", { text in IPAddress(text) })))
    }
    let uplink = try body.member("uplink")?
      .parsed("none, nat, routed or device:IFNAME", { text in Network.Uplink(text) })
    self.init(
      name: try body.required("name").text(), subnets: subnets, routes: routes,
      uplink: uplink ?? .none, mtu: try body.integer("mtu") ?? 1500)
  }
}

extension Network {
  fileprivate func attribute(_ name: String) -> String? {
    switch name {
    case "id": id.rawValue
    case "name": self.name
    case "uplink": uplink.description
    default: nil
    }
  }
}

extension JSONWriter {
  fileprivate mutating func network(_ network: Network, ports: Int) {
    object {
      $0.field("id", network.id)
      $0.field("name", network.name)
      $0.field("hostId", network.host)
      $0.field("mtu", network.mtu)
      $0.objects("subnets", network.subnets) {
        $0.field("prefix", $1.prefix.description)
        $0.field("gateway", $1.gateway?.description)
      }
      $0.objects("routes", network.routes) {
        $0.field("destination", $1.destination.description)
        $0.field("via", $1.via.description)
      }
      $0.field("uplink", network.uplink.description)
      $0.field("vnfInstanceId", network.owner)
      $0.field("ports", ports)
    }
  }
}
