import HTTPTypes
import NFVLifecycle
import NFVModel
import Testing

@testable import NFVAPI

@Suite struct SpeedTests {
  /// A page of a thousand instances. The bound of an optimised daemon is 20 ms (p99); a debug build
  /// on a busy machine gets more, so that the test sees another order of growth.
  @Test func pageOfAThousandInstances() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard(links: [])
      _ = try await fixture.call(
        .post, "/martlet/v1/networks",
        #"{"name":"left","subnets":[{"prefix":"10.128.0.0/16"}]}"#)
      for index in 0..<1000 {
        let response = try await fixture.lifecycle.submit(
          .createInstance(.init(vnfd: "vnfd-1", name: "vnf-\(index)")), actor: "test")
        guard index < 100 else { continue }
        guard case .instance(let instance) = response else { throw Fixture.Unexpected() }
        let request = InstantiateVnfRequest(connections: ["left": .init(network: "left")])
        _ = try await fixture.lifecycle.submit(.instantiate(instance.id, request), actor: "test")
      }
      let clock = ContinuousClock()
      for query in ["", "?all_fields"] {
        var times: [Duration] = []
        for _ in 0..<20 {
          times.append(
            try await clock.measure {
              let reply = try await fixture.call(.get, "/vnflcm/v2/vnf_instances\(query)")
              #expect(reply.status == 200)
            })
        }
        times.sort()
        #expect(times[10] < .milliseconds(200), "\(query)")
      }
    }
  }
}
