import HTTPTypes
import Hummingbird
import NFVLifecycle
import NFVModel
import NIOCore
import Synchronization
import Testing

@testable import NFVAPI

@Suite struct EventsTests {
  static let events = "/martlet/v1/events"

  /// Opens a live stream and ends it after `body`.
  private func listen(
    _ fixture: Fixture, _ path: String, headers: HTTPFields = [:],
    _ body: (Collector) async throws -> Void
  ) async throws {
    let request = Hummingbird.Request(
      head: HTTPRequest(
        method: .get, scheme: "http", authority: "localhost", path: path, headerFields: headers),
      body: RequestBody(buffer: .init()))
    let reply = try await fixture.send(request)
    #expect(reply.status == .ok)
    #expect(reply.headers[.contentType] == "text/event-stream")
    let collector = Collector()
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try? await reply.body.write(collector) }
      try await body(collector)
      group.cancelAll()
    }
  }

  @Test func liveStreamStartsWithItsPlace() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      let newest = fixture.lifecycle.lastSequence
      try await listen(fixture, Self.events) { collector in
        try await collector.wait(for: "id: \(newest)\n\n")
        _ = try await fixture.call(
          .post, "/vnflcm/v2/vnf_instances", #"{"vnfdId":"vnfd-1","vnfInstanceName":"a"}"#)
        try await collector.wait(for: "id: \(newest + 1)\n")
        let lines = collector.text.split(separator: "\n")
        #expect(lines[2] == "event: VnfIdentifierCreationNotification")
        let data = try JSONReader.read(Array(lines[3].dropFirst("data: ".count).utf8))
        #expect(try data.member("sequence").integer == newest + 1)
        #expect(try data.member("notificationType").text == "VnfIdentifierCreationNotification")
        #expect(!(try data.member("vnfInstanceId").text.isEmpty))
        #expect(collector.text.hasSuffix("\n\n"))
      }
    }
  }

  @Test func streamResumesAndFilters() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      for name in ["a", "b"] {
        _ = try await fixture.call(
          .post, "/vnflcm/v2/vnf_instances", #"{"vnfdId":"vnfd-1","vnfInstanceName":"\#(name)"}"#)
      }
      let all = try await fixture.call(.get, "\(Self.events)?since=0&follow=false")
      #expect(all.text.split(separator: "\n\n").count == 4, "\(all.text)")
      let id = try await fixture.call(
        .get, "/vnflcm/v2/vnf_instances?filter=(eq,vnfInstanceName,b)"
      ).json.at("0/id").text
      let one = try await fixture.call(
        .get, "\(Self.events)?since=0&follow=false&vnfInstanceId=\(id)")
      #expect(one.text.split(separator: "\n\n").count == 2, "\(one.text)")
      let rest = try await fixture.call(
        .get, "\(Self.events)?since=0&follow=false", headers: [.lastEventID: "2"])
      #expect(rest.text.hasPrefix("id: 2\n\nid: 3\n"), "\(rest.text)")
      try await listen(fixture, "\(Self.events)?since=1") { collector in
        try await collector.wait(for: "id: 3\n")
      }
    }
  }

  @Test func tooOldIsGone() async throws {
    try await Fixture.run(retention: 2) { fixture in
      _ = try await fixture.onboard()
      for index in 0..<10 {
        _ = try await fixture.call(
          .post, "/vnflcm/v2/vnf_instances",
          #"{"vnfdId":"vnfd-1","vnfInstanceName":"\#(index)"}"#)
      }
      let reply = try await fixture.call(.get, "\(Self.events)?since=0")
      #expect(reply.status == 410)
      #expect(reply.detail.contains("go on from 11"), "\(reply.text)")
      for bad in ["x", "-1"] {
        #expect(try await fixture.call(.get, "\(Self.events)?since=\(bad)").status == 400)
      }
    }
  }

  /// Takes nothing until it is let.
  private final class SlowReader: ResponseBodyWriter, Sendable {
    let collector = Collector()
    let isLet = Mutex(false)

    func write(_ buffer: ByteBuffer) async throws {
      while !isLet.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(2)) }
      try await collector.write(buffer)
    }

    func finish(_ trailingHeaders: HTTPFields?) async throws {
      try await collector.finish(trailingHeaders)
    }
  }

  @Test(.timeLimit(.minutes(1))) func whoReadsSlowlyGetsAll() async throws {
    let notification = NFVModel.Notification(
      kind: .packageChange, tenant: .default, time: Timestamp(microseconds: 0))
    let (store, count) = (MemoryStore(id: "test"), 6_000)
    _ = try store.commit(Array(repeating: .notify(notification), count: count))
    try await Fixture.run(store: store) { fixture in
      let reply = try await fixture.send(
        Hummingbird.Request(
          head: HTTPRequest(
            method: .get, scheme: "http", authority: "localhost", path: "\(Self.events)?since=0"),
          body: RequestBody(buffer: .init())))
      let reader = SlowReader()
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try? await reply.body.write(reader) }
        // Time enough to read the store ahead.
        try await Task.sleep(for: .seconds(1))
        #expect(!reader.collector.isEnded)
        reader.isLet.withLock { $0 = true }
        try await reader.collector.wait(for: "id: \(count)\n")
        #expect(!reader.collector.isEnded)
        group.cancelAll()
      }
    }
  }

  @Test func whoLetsManyEventsGoByMissesNone() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      let newest = fixture.lifecycle.lastSequence
      var entries = fixture.lifecycle.notifications(after: newest).makeAsyncIterator()
      func make(_ names: Range<Int>) async throws {
        for name in names {
          _ = try await fixture.call(
            .post, "/vnflcm/v2/vnf_instances",
            #"{"vnfdId":"vnfd-1","vnfInstanceName":"a\#(name)"}"#)
        }
      }
      var expected = newest
      func take(_ count: Int) async throws {
        for _ in 0..<count {
          expected += 1
          #expect(try await entries.next()?.sequence == expected)
        }
      }
      // Read as they come, then more at once than are kept for a reader, then as they come again.
      try await make(0..<1)
      try await take(1)
      try await make(1..<150)
      try await take(149)
      try await make(150..<151)
      try await take(1)
    }
  }
}
