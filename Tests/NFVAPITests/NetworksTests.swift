import HTTPTypes
import NFVModel
import Testing

@testable import NFVAPI

@Suite struct NetworksTests {
  static let networks = "/martlet/v1/networks"

  @Test func lifeOfANetwork() async throws {
    try await Fixture.run { fixture in
      let body =
        #"{"name":"left","subnets":[{"prefix":"10.1.0.7/24"},{"prefix":"fd00::/64"}],"#
        + #""routes":[{"destination":"10.2.0.0/24","via":"10.1.0.2"}],"uplink":"nat","mtu":1400}"#
      let created = try await fixture.call(.post, Self.networks, body)
      #expect(created.status == 201, "\(created.text)")
      let network = try created.json
      let id = try network.member("id").text
      #expect(created.headers[.location] == "\(Self.networks)/\(id)")
      #expect(try network.at("subnets/0/prefix").text == "10.1.0.0/24")
      #expect(try network.at("subnets/0/gateway").text == "10.1.0.1")
      #expect(try network.at("subnets/1/prefix").text == "fd00::/64")
      #expect(try network.at("routes/0/via").text == "10.1.0.2")
      #expect(try network.member("uplink").text == "nat")
      #expect(try network.member("mtu").integer == 1400)
      #expect(try await fixture.call(.get, "\(Self.networks)/\(id)").json == network)
      #expect(try await fixture.call(.get, "\(Self.networks)/left").json == network)
      #expect(try await fixture.call(.get, Self.networks).json == .array([network]))
      let none = try await fixture.call(.get, "\(Self.networks)?filter=(eq,name,right)")
      #expect(try none.json == .array([]))
      #expect(try await fixture.call(.delete, "\(Self.networks)/left").status == 204)
      #expect(try await fixture.call(.get, "\(Self.networks)/\(id)").status == 404)
    }
  }

  @Test func aNetworkInUseStays() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      _ = try await fixture.call(.post, Self.networks, #"{"name":"left"}"#)
      _ = try await fixture.instantiated()
      let shown = try await fixture.call(.get, "\(Self.networks)/left").json
      #expect(try shown.member("ports").integer == 1)
      let reply = try await fixture.call(.delete, "\(Self.networks)/left")
      #expect(reply.status == 409 && reply.detail.contains("fw"), "\(reply.text)")
      let inner = try await fixture.call(.get, "\(Self.networks)/fw.internal").json
      #expect(!(try inner.member("vnfInstanceId").text.isEmpty))
    }
  }

  @Test(arguments: [
    ("{}", 400, "name is missing"),
    (#"{"name":"a","subnets":[{"prefix":"10.1.0.0"}]}"#, 400, "subnets[0].prefix"),
    (#"{"name":"a","subnets":{}}"#, 400, "subnets must be an array"),
    (#"{"name":"a","uplink":"wifi"}"#, 400, "uplink must be none, nat, routed"),
    (#"{"name":"a","mtu":1.5}"#, 400, "mtu must be a whole number"),
    (#"{"name":"a","mtu":12}"#, 400, "MTU 12"),
    (#"{"name":"a","uplink":"device:eth0"}"#, 422, "device:eth0"),
    (#"{"name":"a","uplink":"routed"}"#, 422, "the host has a route there"),
    (#"{"name":"left"}"#, 409, "network left already"),
    (#"{"name":"b","subnets":[{"prefix":"10.9.0.0/16"}]}"#, 409, "overlaps"),
  ])
  func refusals(body: String, status: Int, part: String) async throws {
    try await Fixture.run { fixture in
      let left = #"{"name":"left","subnets":[{"prefix":"10.9.1.0/24"}]}"#
      #expect(try await fixture.call(.post, Self.networks, left).status == 201)
      let reply = try await fixture.call(.post, Self.networks, body)
      #expect(reply.status == status && reply.detail.contains(part), "\(reply.text)")
      #expect(try await fixture.call(.get, Self.networks).json.items.count == 1)
    }
  }
}
