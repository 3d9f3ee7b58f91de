import Synchronization
import TestSupport
import Testing

@testable import NFVClient

@Suite struct ClientTests {
  @Test func oneConnectionServesRequestsOneAfterAnother() async throws {
    try await StubServer({ _, number in .json("[\(number)]") }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      for number in 1...5 {
        let response = try await client.send(HTTPRequest(.get, "/a"))
        #expect(response.body == Array("[\(number)]".utf8))
      }
      #expect(server.connections == 1)
      #expect(server.received[0].headers["host"] == "localhost")
      #expect(server.received[0].headers["authorization"] == nil)
    }
  }

  @Test func loopbackGetsHostAndToken() async throws {
    try await StubServer({ _, _ in .json("{}") }).onLoopback { server in
      let client = Client(.tcp(host: "127.0.0.1", port: server.port), token: "secret")
      _ = try await client.send(HTTPRequest(.post, "/a", json: Array("{}".utf8)))
      let request = server.received[0]
      #expect(request.headers["host"] == "127.0.0.1:\(server.port)")
      #expect(request.headers["authorization"] == "Bearer secret")
      #expect(request.headers["content-type"] == "application/json")
      #expect(request.headers["content-length"] == "2")
    }
  }

  @Test func anErrorStatusIsThrownAsItsProblem() async throws {
    try await StubServer({ request, _ in
      request.target == "/plain"
        ? .init(status: 500, pieces: [Array("it broke".utf8)]) : .problem(409, "busy")
    }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      await #expect(throws: ClientError.problem(.init(title: "T", status: 409, detail: "busy"))) {
        try await client.send(HTTPRequest(.get, "/a"))
      }
      await #expect(throws: ClientError.problem(.init(status: 500, detail: "it broke"))) {
        try await client.send(HTTPRequest(.get, "/plain"))
      }
      await #expect(throws: ClientError.problem(.init(title: "T", status: 409, detail: "busy"))) {
        try await client.stream(HTTPRequest(.get, "/a"))
      }
      // A problem is an answer as good as any: the connection goes on. A stream has one of its own.
      #expect(server.connections == 2)
    }
  }

  /// Who watches the events, and then asks for an instantiation, does so without connecting first.
  @Test func aStreamLeavesTheKeptConnectionToTheNextRequest() async throws {
    try await StubServer({ _, _ in .json("{}") }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      _ = try await client.send(HTTPRequest(.get, "/a"))
      let stream = try await client.stream(HTTPRequest(.get, "/events"))
      #expect(server.connections == 2)
      _ = try await client.send(HTTPRequest(.post, "/b"))
      #expect(server.connections == 2)
      _ = try await stream.body.collected(limit: 16)
    }
  }

  @Test func nobodyThere() async {
    let endpoint = Endpoint.unixSocket("/tmp/martlet-nobody.sock")
    await #expect(
      throws: ClientError.unreachable(endpoint, reason: "No such file or directory")
    ) {
      try await Client(endpoint).send(HTTPRequest(.get, "/"))
    }
  }

  @Test func silenceEndsInATimeout() async throws {
    try await StubServer({ _, _ in .silence }).onSocket { server in
      let limits = Client.Limits(answer: .milliseconds(50))
      let client = Client(.unixSocket(server.path), limits: limits)
      await #expect(throws: ClientError.timeout(what: "GET /slow")) {
        try await client.send(HTTPRequest(.get, "/slow"))
      }
    }
  }

  @Test func aStreamThatFallsSilentEndsInATimeout() async throws {
    try await StubServer({ _, _ in .stream(["a"], .silence) }).onSocket { server in
      let limits = Client.Limits(silence: .milliseconds(50))
      let client = Client(.unixSocket(server.path), limits: limits)
      let stream = try await client.stream(HTTPRequest(.get, "/s"))
      await #expect(throws: ClientError.timeout(what: "GET /s")) {
        _ = try await stream.body.collected(limit: 10)
      }
    }
  }

  @Test func answersAreBounded() async throws {
    try await StubServer({ _, _ in .json(String(repeating: "1", count: 2000)) }).onSocket {
      server in
      let client = Client(.unixSocket(server.path), limits: Client.Limits(body: 1000))
      await #expect(throws: ClientError.tooLarge(what: "GET /a", limit: 1000)) {
        try await client.send(HTTPRequest(.get, "/a"))
      }
    }
  }

  @Test func aBrokenOffAnswerIsNoAnswer() async throws {
    try await StubServer({ _, _ in .stream(["half"], .dropped) }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      await #expect(throws: ClientError.disconnected(what: "POST /a")) {
        try await client.send(HTTPRequest(.post, "/a"))
      }
    }
  }

  @Test func aSlowReaderLosesNothing() async throws {
    let pieces = (0..<500).map { String(repeating: String($0 % 10), count: 4096) }
    try await StubServer({ _, _ in .stream(pieces) }).onSocket { server in
      let limits = Client.Limits(silence: .milliseconds(200))
      let client = Client(.unixSocket(server.path), limits: limits)
      let stream = try await client.stream(HTTPRequest(.get, "/large"))
      // The reader is silent, not the daemon.
      try await Task.sleep(for: .milliseconds(500))
      let body = try await stream.body.collected(limit: 4 << 20)
      #expect(body == pieces.flatMap { Array($0.utf8) })
      _ = try await client.send(HTTPRequest(.get, "/again"))
      #expect(server.connections == 1)
    }
  }

  @Test func anUploadIsStreamedWithItsLengthAndProgress() async throws {
    try await StubServer({ _, _ in .empty(202) }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      var pieces = ["abc", "de", "f"][...]
      var seen: [Int] = []
      let response = try await client.upload(
        HTTPRequest(.put, "/content"), length: 6,
        next: { pieces.popFirst().map { Array($0.utf8) } }, progress: { seen.append($0) })
      #expect(response.status == 202)
      #expect(seen == [3, 5, 6])
      #expect(server.received[0].text == "abcdef")
      #expect(server.received[0].headers["content-length"] == "6")
    }
  }

  @Test func anUploadThatComesShortIsNotCompleted() async throws {
    try await StubServer({ _, _ in .empty(202) }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      var pieces = ["abc"][...]
      await #expect(
        throws: ClientError.source("it became shorter while it was sent")
      ) {
        try await client.upload(
          HTTPRequest(.put, "/content"), length: 6,
          next: { pieces.popFirst().map { Array($0.utf8) } })
      }
      #expect(server.received.isEmpty)
    }
  }

  @Test func aCancelledRequestEnds() async throws {
    try await StubServer({ _, _ in .silence }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      let task = Task { try await client.send(HTTPRequest(.get, "/a")) }
      try await eventually("the request came") { !server.received.isEmpty }
      task.cancel()
      await #expect(throws: ClientError.cancelled) { try await task.value }
    }
  }

  @Test func endpointsFromAddresses() {
    #expect(Endpoint(url: "http://127.0.0.1:80") == .tcp(host: "127.0.0.1", port: 80))
    #expect(Endpoint(url: "http://[::1]:8080/") == .tcp(host: "::1", port: 8080))
    #expect(Endpoint.tcp(host: "::1", port: 80).description == "http://[::1]:80")
    for wrong in [
      "https://127.0.0.1:80", "http://127.0.0.1", "http://a:0", "http://a:80/x", "http://::1:80",
      "http://u@a:80", "http://:80",
    ] {
      #expect(Endpoint(url: wrong) == nil, "\(wrong)")
    }
  }

  @Test func percentEncoding() {
    #expect(percentEncoded("(eq,a,é b)") == "%28eq%2Ca%2C%C3%A9%20b%29")
    #expect(percentEncoded("a-Z_0.~") == "a-Z_0.~")
  }
}

@Suite struct EventTests {
  @Test(arguments: [1, 2, 3, 7, 1000])
  func eventsHoweverTheyAreCut(_ size: Int) throws {
    let text =
      ": hello\nid: 41\n\nid:42\r\nevent: A\r\ndata: {\"a\":\ndata: 1}\n\n: keep-alive\n\nid: 43\n"
    var parser = ServerSentEventParser()
    let octets = Array(text.utf8)
    var events: [ServerSentEvent] = []
    for start in stride(from: 0, to: octets.count, by: size) {
      events += try parser.parse(Array(octets[start..<min(start + size, octets.count)]))
    }
    #expect(
      events == [
        .init(id: "41", name: nil, data: ""), .init(id: "42", name: "A", data: "{\"a\":\n1}"),
      ])
  }

  @Test func anEventWithoutAnEndIsRefused() throws {
    var parser = ServerSentEventParser()
    #expect(throws: ClientError.tooLarge(what: "an event", limit: 1 << 20)) {
      for _ in 0..<20 { _ = try parser.parse(Array(repeating: 0x61, count: 65536)) }
    }
  }

  @Test func aBrokenStreamResumesAfterItsLastEvent() async throws {
    try await StubServer({ _, number in
      switch number {
      case 1: .stream(["id: 5\n\n", "id: 6\ndata: six\n\n", "id: 7\ndata: half"], .dropped)
      case 2: .problem(503, "recovering")
      default: .stream(["id: 6\n\nid: 7\ndata: seven\n\n"], .silence)
      }
    }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      var data: [String] = []
      for try await event in client.events(vnfInstanceID: "v") where !event.data.isEmpty {
        data.append(event.data)
        if data.count == 2 { break }
      }
      #expect(data == ["six", "seven"])
      #expect(server.received.map { $0.headers["last-event-id"] } == [nil, "6", "6"])
      #expect(server.received[0].target == "/martlet/v1/events?vnfInstanceId=v")
    }
  }

  @Test func eventsTooOldAreToldAtOnce() async throws {
    try await StubServer({ _, _ in .problem(410, "gone") }).onSocket { server in
      let client = Client(.unixSocket(server.path))
      await #expect(throws: ClientError.problem(.init(title: "T", status: 410, detail: "gone"))) {
        for try await _ in client.events(since: "1") {}
      }
      #expect(server.received.count == 1)
    }
  }
}
