import HTTPTypes
import TestSupport
import Testing

@testable import NFVAPI

@Suite struct DaemonTests {
  @Test func healthAndVersions() async throws {
    try await Fixture.run { fixture in
      #expect(try await fixture.call(.get, "/livez").text == "ok\n")
      #expect(try await fixture.call(.get, "/readyz").text == "ready\n")
      let info = try await fixture.call(.get, "/martlet/v1/info").json
      #expect(try info.member("storeId").text == "test")
      #expect(try info.at("technologies/0").text == "container")
      for path in ["/vnflcm/api_versions", "/vnflcm/v2/api_versions"] {
        let versions = try await fixture.call(.get, path).json
        #expect(try versions.member("uriPrefix").text == "/vnflcm/v2")
        #expect(try versions.at("apiVersions/0/version").text == "2.0.0")
      }
      let packages = try await fixture.call(.get, "/vnfpkgm/v2/api_versions").json
      #expect(try packages.at("apiVersions/0/version").text == "2.1.0")
    }
  }

  @Test func metrics() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      _ = try await fixture.call(.post, "/martlet/v1/networks", #"{"name":"left"}"#)
      _ = try await fixture.instantiated()
      _ = try await fixture.call(.get, "/nothing")
      var text = ""
      try await eventually("an operation is counted") {
        let reply = try await fixture.call(.get, "/metrics")
        #expect(reply.headers[.contentType] == "text/plain; version=0.0.4; charset=utf-8")
        text = reply.text
        return text.contains("martlet_operations_total{")
      }
      for line in [
        "martlet_vnf_packages{onboarding_state=\"ONBOARDED\"} 1",
        "martlet_vnf_instances{instantiation_state=\"INSTANTIATED\"} 1", "martlet_vnfcs_running 1",
        "martlet_networks 2", "martlet_http_responses_total{code=\"404\"} 1",
        "martlet_operations_total{operation=\"INSTANTIATE\",state=\"COMPLETED\",automatic=\"false\"} 1",
        "# TYPE process_resident_memory_bytes gauge",
      ] {
        #expect(text.contains(line + "\n"), "\(line) is not in\n\(text)")
      }
    }
  }

  @Test func versionHeader() async throws {
    try await Fixture.run { fixture in
      let path = "/vnflcm/v2/vnf_instances"
      #expect(try await fixture.call(.get, path, headers: [.version: "2.0.0"]).status == 200)
      let reply = try await fixture.call(.get, path, headers: [.version: "1.3.0"])
      #expect(reply.status == 406 && reply.headers[.version] == "2.0.0")
      #expect(try await fixture.call(.get, "/livez").headers[.version] == nil)
    }
  }

  @Test func bodiesAreBounded() async throws {
    try await Fixture.run { fixture in
      let path = "/martlet/v1/networks"
      let large = "{\"name\":\"" + String(repeating: "a", count: 1 << 20) + "\"}"
      let reply = try await fixture.call(.post, path, large)
      #expect(reply.status == 413 && reply.detail.contains("1048576"), "\(reply.text)")
      let said = try await fixture.call(
        .post, path, "{}", headers: [.contentLength: "1048577"])
      #expect(said.status == 413)
      let type = try await fixture.call(.post, path, "{}", headers: [.contentType: "text/xml"])
      #expect(type.status == 415)
      let broken = try await fixture.call(.post, path, "{\"name\":\n\"a\",}")
      #expect(broken.status == 400)
      #expect(broken.detail.contains("line 2, column 5"), "\(broken.text)")
      let array = try await fixture.call(.post, path, "[]")
      #expect(array.status == 400 && array.detail == "the body must be an object")
    }
  }
}
