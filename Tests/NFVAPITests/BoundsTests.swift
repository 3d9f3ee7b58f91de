import HTTPTypes
import Hummingbird
import NFVLifecycle
import NFVModel
import Synchronization
import TestSupport
import Testing

@testable import NFVAPI

/// What may wait in the daemon at once.
@Suite struct BoundsTests {
  private static let instances = "/vnflcm/v2/vnf_instances"

  /// Asks for a new instance.
  private func create(_ fixture: Fixture, _ name: String) async throws -> TestReply {
    try await fixture.call(
      .post, Self.instances, #"{"vnfdId":"vnfd-1","vnfInstanceName":"\#(name)"}"#)
  }

  private func expectOverload(_ reply: TestReply, _ part: String) {
    #expect(reply.status == 503)
    #expect(reply.headers[.retryAfter] == "1")
    #expect(reply.detail.contains(part) && reply.detail.contains("ask again"), "\(reply.text)")
  }

  /// An instance's start, which the host does not do until it may.
  private func heldStart(_ fixture: Fixture) async throws -> TestReply {
    _ = try await fixture.onboard()
    _ = try await fixture.call(.post, "/martlet/v1/networks", #"{"name":"left"}"#)
    let id = try await create(fixture, "first").json.member("id").text
    fixture.fake.isStartHeld.withLock { $0 = true }
    let accepted = try await fixture.call(
      .post, "\(Self.instances)/\(id)/instantiate",
      #"{"flavourId":"container","extVirtualLinks":[{"id":"link-1","resourceId":"left","#
        + #""extCps":[{"cpdId":"left","cpConfig":{}}]}]}"#)
    #expect(accepted.status == 202)
    return accepted
  }

  @Test func actionsThatWaitHoldNewRequestsBack() async throws {
    var bounds = Lifecycle.Bounds()
    bounds.actions = 1
    try await Fixture.run(bounds: bounds) { fixture in
      let accepted = try await heldStart(fixture)
      expectOverload(try await create(fixture, "second"), "things to do")
      // What is known is told all the same.
      #expect(try await fixture.call(.get, Self.instances).json.items.count == 1)
      fixture.fake.isStartHeld.withLock { $0 = false }
      try await fixture.completed(accepted)
      try await eventually("the host has done all") {
        try await create(fixture, "third").status == 201
      }
    }
  }

  /// What the daemon asks of itself waits its turn.
  @Test func archiveIsReadWhenThereIsPlaceAgain() async throws {
    var bounds = Lifecycle.Bounds()
    bounds.actions = 1
    try await Fixture.run(bounds: bounds) { fixture in
      var packages: [String] = []
      for _ in 0..<2 {
        let made = try await fixture.call(.post, "/vnfpkgm/v2/vnf_packages", "{}")
        packages.append("/vnfpkgm/v2/vnf_packages/\(try made.json.member("id").text)")
      }
      let accepted = try await heldStart(fixture)
      for (path, archive) in zip(packages, ["vnfd 9", "rubbish"]) {
        let taken = try await fixture.call(
          .put, "\(path)/package_content", archive,
          headers: [.contentType: "application/zip"])
        #expect(taken.status == 202, "\(taken.text)")
      }
      try await Task.sleep(for: .milliseconds(300))
      fixture.fake.isStartHeld.withLock { $0 = false }
      try await fixture.completed(accepted)
      for (path, state) in zip(packages, ["ONBOARDED", "ERROR"]) {
        try await eventually("the package is \(state)") {
          try await fixture.call(.get, path).json.member("onboardingState").text == state
        }
      }
    }
  }

  @Test func requestsThatWaitHoldNewOnesBack() async throws {
    var bounds = Lifecycle.Bounds()
    bounds.requests = 0
    try await Fixture.run(bounds: bounds) { fixture in
      expectOverload(
        try await fixture.call(.post, "/martlet/v1/networks", #"{"name":"left"}"#),
        "0 requests wait")
      #expect(try await fixture.call(.get, "/martlet/v1/networks").status == 200)
    }
  }

  @Test func streamsHavePlaces() async throws {
    try await Fixture.run(streams: 1) { fixture in
      let events = "/martlet/v1/events"
      let request = Hummingbird.Request(
        head: HTTPRequest(method: .get, scheme: "http", authority: "localhost", path: events),
        body: RequestBody(buffer: .init()))
      _ = try await fixture.onboard()
      _ = try await fixture.call(.post, "/martlet/v1/networks", #"{"name":"left"}"#)
      let id = try await fixture.instantiated()
      let vnfc = try await fixture.call(.get, "\(Self.instances)/\(id)").json
        .at("instantiatedVnfInfo/vnfcResourceInfo/0/id").text
      let path = "/martlet/v1/vnf_instances/\(id)/vnfcs/\(vnfc)"
      try await holdStream(fixture, request) {
        expectOverload(try await fixture.call(.get, events), "1 streams")
        expectOverload(try await fixture.call(.get, "\(path)/log?follow=true"), "1 streams")
        let frames: HTTPFields = [.contentType: "application/vnd.martlet.exec"]
        expectOverload(
          try await fixture.call(.post, "\(path)/exec", "", headers: frames), "1 streams")
        // What ends by itself takes no place.
        #expect(try await fixture.call(.get, "\(events)?since=0&follow=false").status == 200)
        #expect(try await fixture.call(.get, "\(path)/log").status == 200)
      }
      try await holdStream(fixture, request) {}
    }
  }

  /// Has a stream open while `body` runs.
  private func holdStream(
    _ fixture: Fixture, _ request: Hummingbird.Request, _ body: () async throws -> Void
  ) async throws {
    let reply = try await fixture.send(request)
    #expect(reply.status == .ok)
    let collector = Collector()
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try? await reply.body.write(collector) }
      try await collector.wait(for: "id: ")
      try await body()
      group.cancelAll()
    }
  }
}
