import HTTPTypes
import NFVModel
import TestSupport
import Testing

@testable import NFVAPI

/// What HTTP itself asks for: versions of representations, and types of content.
@Suite struct ExchangeTests {
  static let instances = "/vnflcm/v2/vnf_instances"

  private func run(
    _ body: @Sendable @escaping (Fixture, _ instance: String) async throws -> Void
  ) async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      _ = try await fixture.call(.post, "/martlet/v1/networks", #"{"name":"left"}"#)
      let id = try await fixture.instantiated()
      try await body(fixture, "\(Self.instances)/\(id)")
    }
  }

  @Test func singleResourcesHaveAVersion() async throws {
    try await run { fixture, instance in
      let operation = try await fixture.call(.get, "/vnflcm/v2/vnf_lcm_op_occs").json.at("0/id")
      let package = try await fixture.call(.get, "/vnfpkgm/v2/vnf_packages").json.at("0/id").text
      for path in [
        instance, "/vnflcm/v2/vnf_lcm_op_occs/\(operation.text)", "/martlet/v1/networks/left",
        "/vnfpkgm/v2/vnf_packages/\(package)", "/vnfpkgm/v2/onboarded_vnf_packages/vnfd-1",
      ] {
        let reply = try await fixture.call(.get, path)
        let tag = try #require(reply.headers[.eTag], "\(path)")
        #expect(tag.count == 34 && tag.hasPrefix("\"") && tag.hasSuffix("\""))
        for known in [tag, "W/\(tag)", "\"x\", \(tag)", "*"] {
          let again = try await fixture.call(.get, path, headers: [.ifNoneMatch: known])
          #expect(again.status == 304 && again.text.isEmpty, "\(path) \(known): \(again.text)")
          #expect(again.headers[.eTag] == tag)
        }
        let other = try await fixture.call(.get, path, headers: [.ifNoneMatch: "\"x\""])
        #expect(other.status == 200 && other.text == reply.text)
      }
    }
  }

  @Test func aChangeOfAnotherVersionIsRefused() async throws {
    try await run { fixture, instance in
      let tag = try #require(try await fixture.call(.get, instance).headers[.eTag])
      let first = try await fixture.call(
        .patch, instance, #"{"metadata":{"a":1}}"#, headers: [.ifMatch: tag])
      try await fixture.completed(first)
      for (method, body) in [(HTTPRequest.Method.patch, #"{"metadata":{"a":2}}"#), (.delete, nil)] {
        let second = try await fixture.call(method, instance, body, headers: [.ifMatch: tag])
        #expect(second.status == 412 && second.detail.contains("read it again"), "\(second.text)")
        let current = try #require(second.headers[.eTag])
        #expect(current != tag)
        #expect(try await fixture.call(.get, instance).headers[.eTag] == current)
      }
      #expect(try await fixture.call(.get, instance).json.at("metadata/a").integer == 1)
      try await fixture.completed(
        fixture.call(.patch, instance, #"{"metadata":{"a":3}}"#, headers: [.ifMatch: "*"]))

      let network = try await fixture.call(
        .delete, "/martlet/v1/networks/left", headers: [.ifMatch: "\"old\""])
      #expect(network.status == 412)
      let id = try await fixture.call(.get, "/vnfpkgm/v2/vnf_packages").json.at("0/id").text
      for (method, body) in [
        (HTTPRequest.Method.patch, #"{"operationalState":"DISABLED"}"#), (.delete, nil),
      ] {
        let reply = try await fixture.call(
          method, "/vnfpkgm/v2/vnf_packages/\(id)", body, headers: [.ifMatch: "\"old\""])
        #expect(reply.status == 412, "\(reply.text)")
      }
    }
  }

  @Test(arguments: [
    ("application/json", 200), ("application/problem+json", 200), ("*/*", 200),
    ("application/*", 200), ("text/html, application/json;q=0.5", 200), ("Application/JSON", 200),
    ("text/html", 406), ("text/*", 406), ("application/json;q=0", 406), ("application/xml", 406),
  ])
  func onlyAcceptableContentIsGiven(accept: String, status: Int) async throws {
    try await run { fixture, instance in
      for path in [instance, Self.instances, "/martlet/v1/info", "/martlet/v1/openapi.json"] {
        let reply = try await fixture.call(.get, path, headers: [.accept: accept])
        #expect(reply.status == status, "\(path) \(accept): \(reply.text)")
        if status == 406 { #expect(reply.detail.contains("accept application/json")) }
      }
      let removal = try await fixture.call(
        .post, "\(instance)/heal", "{}", headers: [.accept: accept])
      #expect(removal.status == 202, "what has no content is always acceptable")
    }
  }

  @Test func contentOfAnotherTypeIsRefused() async throws {
    try await run { fixture, instance in
      let package = try await fixture.call(.get, "/vnfpkgm/v2/vnf_packages").json.at("0/id").text
      for (method, path, type, isTaken) in [
        (HTTPRequest.Method.post, Self.instances, "application/xml", false),
        (.post, Self.instances, "text/plain", false),
        (.post, Self.instances, "application/merge-patch+json", false),
        (.post, Self.instances, "application/json; charset=utf-8", true),
        (.post, "\(instance)/heal", "application/json-seq", false),
        (.patch, instance, "application/json-patch+json", false),
        (.patch, instance, "application/merge-patch+json", true),
        (.put, "/vnfpkgm/v2/vnf_packages/\(package)/package_content", "application/json", false),
        (.put, "/vnfpkgm/v2/vnf_packages/\(package)/package_content", "Application/Zip", true),
        (.post, "/martlet/v1/networks", "application/x-www-form-urlencoded", false),
      ] {
        let reply = try await fixture.call(method, path, "{}", headers: [.contentType: type])
        #expect((reply.status != 415) == isTaken, "\(method) \(path) \(type): \(reply.text)")
        if !isTaken { #expect(reply.detail.contains("send it as application/"), "\(reply.text)") }
      }
    }
  }

  // MARK: The document

  @Test func everyRouteIsInTheDocumentAndTheOtherWayRound() async throws {
    try await run { fixture, _ in
      let reply = try await fixture.call(.get, "/martlet/v1/openapi.json")
      #expect(reply.status == 200 && reply.headers[.contentType] == "application/json")
      let document = try reply.json
      #expect(try document.member("openapi").text == "3.0.3")
      guard case .object(let paths) = try document.member("paths") else { throw Failed("paths") }
      var described: Set<String> = []
      var identifiers: [String] = []
      for (path, item) in paths {
        for method in item.names where method != "parameters" {
          described.insert("\(method.uppercased()) \(path)")
          identifiers.append(try item.at(method).member("operationId").text)
          // The router has it: what it says is not that there is nothing.
          let target = path.split(separator: "/").map { $0.hasPrefix("{") ? "x" : $0 }
            .joined(separator: "/")
          guard method != "get" || path != "/martlet/v1/events" else { continue }
          let answer = try await fixture.call(
            try #require(HTTPRequest.Method(rawValue: method.uppercased())), "/\(target)")
          #expect(answer.status != 405, "\(method) \(path)")
          #expect(!answer.detail.contains("there is nothing at"), "\(method) \(path)")
        }
      }
      let routes = fixture.api.routes(.open).table
      #expect(described == Set(routes.map { "\($0.method.rawValue) \(OpenAPI.path(of: $0))" }))
      #expect(routes.count == described.count && routes.count > 40)
      #expect(Set(identifiers).count == identifiers.count)
      // What is referred to is there, and nothing else is.
      let schemas = try document.at("components").member("schemas").names
      #expect(references(in: document) == schemas)
    }
  }

  private func references(in value: JSONValue) -> Set<String> {
    switch value {
    case .object(let members):
      members.reduce(into: []) { found, member in
        if member.key == "$ref" {
          found.insert(String(member.value.text.dropFirst("#/components/schemas/".count)))
        } else {
          found.formUnion(references(in: member.value))
        }
      }
    case .array(let items): items.reduce(into: []) { $0.formUnion(references(in: $1)) }
    default: []
    }
  }
}
