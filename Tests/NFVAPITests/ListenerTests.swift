import Archive
import Glibc
import HTTPTypes
import LinuxSystem
import Logging
import NFVAPI
import NFVClient
import NFVLifecycle
import NFVModel
import ServiceLifecycle
import Synchronization
import SystemPackage
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

  @Test func aPortThatIsTakenIsNamed() async throws {
    let taken = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(taken) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    // SAFETY: both calls use the address within its own length, and it lives during them.
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(taken, $0, length) == 0 && listen(taken, 1) == 0
          && getsockname(taken, $0, &length) == 0
      }
    }
    #expect(isBound)
    let port = Int(UInt16(bigEndian: address.sin_port))
    try await Fixture.run { fixture in
      let cases: [(ListenAddress, [String])] = [
        (.loopback(host: "127.0.0.1", port: port), ["port \(port)", "--listen"]),
        (.socket(path: "/nowhere/s"), ["/nowhere/s", "--socket"]),
      ]
      for (address, parts) in cases {
        let listener = fixture.api.listener(at: address, access: .open)
        let error = await #expect(throws: NFVError.self) { try await listener.run() }
        #expect(error?.code == .unavailable && error?.cause != nil)
        for part in parts { #expect(error?.message.contains(part) == true) }
      }
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

  /// A body whose length is not told beforehand, and that does not end: it is refused when it has
  /// become too large, the connection is closed, and nothing of it is kept.
  @Test func aChunkedBodyIsBounded() async throws {
    try await run { _, client, socket, _ in
      let before = try residentBytes()
      let outcome = try await withTaskExecutorPreference(BlockingExecutor(threads: 1, name: "t")) {
        try sendWithoutEnd(to: socket)
      }
      #expect(outcome.answer.hasPrefix("HTTP/1.1 413 "), "\(outcome.answer)")
      #expect(outcome.answer.lowercased().contains("connection: close"))
      #expect(outcome.answer.contains("1048576"))
      #expect(outcome.isClosed, "\(outcome.sent) octets were taken")
      #expect(try residentBytes() < before + 24 << 20)
      let reply = try await client.send(ClientRequest(.get, "/livez"))
      #expect(reply.status == 200)
    }
  }

  /// Sends chunks until the connection ends, for ten seconds at most.
  private func sendWithoutEnd(
    to path: String
  ) throws -> (answer: String, isClosed: Bool, sent: Int) {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(O_NONBLOCK), 0)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let size = socklen_t(MemoryLayout<sockaddr_un>.size)
    // SAFETY: the address outlives the call, and is of the size that is given.
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
    }
    try #require(status == 0)
    let head =
      "POST /vnflcm/v2/vnf_instances HTTP/1.1\r\nHost: localhost\r\n"
      + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    let chunk = Array("10000\r\n".utf8) + [UInt8](repeating: 0x20, count: 0x10000) + [13, 10]
    var waiting = Array(head.utf8)[...]
    var answer = ""
    var sent = 0
    let end = ContinuousClock.now + .seconds(10)
    while ContinuousClock.now < end {
      var state = pollfd(fd: descriptor, events: Int16(POLLIN | POLLOUT), revents: 0)
      _ = poll(&state, 1, 1000)
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = recv(descriptor, &buffer, buffer.count, 0)
      if count > 0 { answer += String(decoding: buffer.prefix(count), as: UTF8.self) }
      if count == 0 { return (answer, true, sent) }
      if waiting.isEmpty { waiting = chunk[...] }
      let written = waiting.withUnsafeBytes {
        send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if written > 0 {
        sent += written
        waiting = waiting.dropFirst(written)
      } else if errno == EPIPE || errno == ECONNRESET {
        return (answer, true, sent)
      }
    }
    return (answer, false, sent)
  }

  private func residentBytes() throws -> Int {
    let text = try String(decoding: readFile("/proc/self/statm", limit: 256), as: UTF8.self)
    return (Int(text.split(separator: " ")[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  /// The archive is a pipe here, which opens when there is a writer: all that reads it waits.
  @Test func othersAreAnsweredWhileAnArchiveIsRead() async throws {
    try await run { fixture, client, _, _ in
      let id = try await fixture.onboard()
      let archive = "\(fixture.folder)/archive.tar"
      let writer = try ArchiveWriter(path: archive, format: .tar)
      try writer.add(file: "Files/a", content: Array("content".utf8))
      try writer.finish()
      let bytes = try readFile(archive, limit: 1 << 20)
      let pipe = "\(fixture.folder)/packages/\(id).csar"
      #expect(mkfifo(pipe, 0o600) == 0)
      // Its writer comes when somebody reads.
      @Sendable func feed() async throws {
        var end: FileDescriptor?
        try await eventually("the archive is opened") {
          end = try? openFile(pipe, .writeNonBlocking)
          return end != nil
        }
        try writeAll(bytes, to: end!)
        try end!.close()
      }
      async let answer = client.send(
        ClientRequest(.get, "/vnfpkgm/v2/vnf_packages/\(id)/artifacts/Files/a"))
      // First it is looked whether it is there, then it is sent.
      for _ in 0..<2 {
        try await Task.sleep(for: .milliseconds(100))
        let other = Client(
          .unixSocket("\(fixture.folder)/s"), limits: .init(answer: .seconds(5)))
        defer { other.close() }
        let reply = try? await other.send(ClientRequest(.get, "/livez"))
        #expect(reply?.status == 200)
        try await feed()
      }
      #expect(try await answer.body == Array("content".utf8))
    }
  }

  @Test func othersAreAnsweredWhileAFunctionIsPaused() async throws {
    try await run { fixture, client, socket, _ in
      let (id, vnfc) = try await instance(fixture)
      fixture.fake.paused.withLock { $0 = [] }
      fixture.fake.isPauseHeld.withLock { $0 = true }
      async let paused = client.send(
        ClientRequest(.post, "/martlet/v1/vnf_instances/\(id)/vnfcs/\(vnfc)/pause"))
      try await Task.sleep(for: .milliseconds(100))
      let other = Client(.unixSocket(socket), limits: .init(answer: .seconds(5)))
      defer { other.close() }
      let reply = try? await other.send(ClientRequest(.get, "/livez"))
      #expect(reply?.status == 200)
      fixture.fake.isPauseHeld.withLock { $0 = false }
      #expect(try await paused.status == 204)
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
