import Glibc
import HTTPTypes
import Logging
import NFVAPI
import NFVClient
import NFVLifecycle
import NFVModel
import ServiceLifecycle
import TestSupport
import Testing

private typealias ClientRequest = NFVClient.HTTPRequest

/// What only a connection shows: the socket's mode, who asks, streams in both directions, ends.
@Suite struct ListenerTests {
  /// A daemon on a unix socket, with a running instance.
  private func run(
    _ body:
      @Sendable @escaping (Fixture, Client, _ socket: String, ServiceGroup) async throws ->
      Void
  ) async throws {
    try await Fixture.run { fixture in
      let socket = "\(fixture.folder)/s"
      let listener = fixture.api.listener(at: .socket(path: socket), access: .socket)
      let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
      let group = ServiceGroup(
        configuration: .init(services: [listener], logger: logger))
      try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try await group.run() }
        let client = Client(.unixSocket(socket))
        defer { client.close() }
        try await eventually("the socket is there") {
          (try? await client.send(ClientRequest(.get, "/readyz"))) != nil
        }
        try await body(fixture, client, socket, group)
        await group.triggerGracefulShutdown()
        try await tasks.waitForAll()
      }
      #expect(access(socket, F_OK) != 0)
    }
  }

  private func instance(_ fixture: Fixture) async throws -> (id: String, vnfc: String) {
    _ = try await fixture.onboard()
    _ = try await fixture.call(.post, "/martlet/v1/networks", #"{"name":"left"}"#)
    let id = try await fixture.instantiated()
    let shown = try await fixture.call(.get, "/vnflcm/v2/vnf_instances/\(id)").json
    return (id, try shown.at("instantiatedVnfInfo/vnfcResourceInfo/0/id").text)
  }

  @Test func socketIsForItsGroupOnly() async throws {
    try await run { _, client, socket, _ in
      let reply = try await client.send(ClientRequest(.get, "/livez"))
      #expect(reply.status == 200)
      var status = Glibc.stat()
      #expect(stat(socket, &status) == 0)
      let mode = status.st_mode & 0o777
      #expect(mode == 0o660 || mode == 0o600)
      #expect(mode & 0o007 == 0)
    }
  }

  @Test func actorIsThePeersUser() async throws {
    try await run { fixture, client, _, _ in
      let (id, _) = try await instance(fixture)
      let reply = try await client.send(
        ClientRequest(.post, "/vnflcm/v2/vnf_instances/\(id)/heal", json: Array("{}".utf8)))
      let path = try #require(reply.headers["Location"])
      let user = try #require(getpwuid(getuid()))
      let shown = try await fixture.call(.get, path).json
      #expect(try shown.at("org.martlet/actor").text == String(cString: user.pointee.pw_name))
    }
  }

  @Test func commandTalksBothWaysAtOnce() async throws {
    try await run { fixture, client, _, _ in
      let (id, vnfc) = try await instance(fixture)
      let talk = try await client.converse(
        ClientRequest(
          .post, "/martlet/v1/vnf_instances/\(id)/vnfcs/\(vnfc)/exec",
          headers: ["Content-Type": "application/vnd.martlet.exec"]))
      let start = Array(#"{"arguments":["cat"]}"#.utf8)
      try await talk.write([0x01, 0, 0, 0, UInt8(start.count)] + start)
      var answers = talk.response.body.makeAsyncIterator()
      for word in ["one", "two"] {
        try await talk.write([0x02, 0, 0, 0, 3] + Array(word.utf8))
        #expect(try await answers.next() == [0x11, 0, 0, 0, 3] + Array(word.utf8))
      }
      try await talk.write([0x03, 0, 0, 0, 0])
      #expect(try await answers.next() == [0x13, 0, 0, 0, 10] + Array(#"{"code":0}"#.utf8))
      talk.end()
      #expect(try await answers.next() == nil)
    }
  }

  @Test func streamsEndWithTheDaemon() async throws {
    try await run { fixture, client, _, group in
      let (id, vnfc) = try await instance(fixture)
      let events = try await client.stream(ClientRequest(.get, "/martlet/v1/events"))
      let log = try await client.stream(
        ClientRequest(.get, "/martlet/v1/vnf_instances/\(id)/vnfcs/\(vnfc)/log?follow"))
      var first = events.body.makeAsyncIterator()
      #expect(try await first.next()?.starts(with: Array("id: ".utf8)) == true)
      await group.triggerGracefulShutdown()
      while try await first.next() != nil {}
      #expect(try await log.body.collected(limit: 100).isEmpty)
    }
  }

  @Test func largeHeadersAreRefused() async throws {
    try await run { _, client, _, _ in
      await #expect(throws: ClientError.self) {
        _ = try await client.send(
          ClientRequest(
            .get, "/livez", headers: ["X-Large": String(repeating: "a", count: 40_000)]))
      }
      let reply = try await client.send(ClientRequest(.get, "/livez"))
      #expect(reply.status == 200)
    }
  }
}
