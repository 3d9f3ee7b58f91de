import HTTPTypes
import Hummingbird
import NFVLifecycle
import NFVModel
import NIOCore
import Synchronization
import Testing

import class LinuxSystem.BlockingExecutor

@testable import NFVAPI

@Suite struct VnfcsTests {
  /// A daemon with a running instance.
  private func run(
    keepAlive: Duration = .seconds(10),
    _ body: @Sendable @escaping (Fixture, _ path: String, WorkloadID) async throws -> Void
  ) async throws {
    try await Fixture.run(keepAlive: keepAlive) { fixture in
      _ = try await fixture.onboard()
      _ = try await fixture.call(.post, "/martlet/v1/networks", #"{"name":"left"}"#)
      let instance = try await fixture.instantiated()
      let workload = try fixture.lifecycle.read {
        (state: borrowing State) throws(NFVError) -> WorkloadID? in
        state.serving(state.vnfcs(of: VnfInstanceID(instance))[0].id)
      }
      let serving = try #require(workload)
      try await body(
        fixture, "/martlet/v1/vnf_instances/\(instance)/vnfcs/\(serving.vnfc)", serving)
    }
  }

  @Test func usage() async throws {
    try await run { fixture, path, workload in
      let usage = try await fixture.call(.get, "\(path)/usage").json
      #expect(try usage.member("memoryBytes").integer == 4096)
      #expect(try usage.member("workload").text == workload.name)
      #expect(try usage.at("ports/0/receivedPackets").integer == 3)
      #expect(try usage.at("ports/1/interface").text == "eth1")
      let reply = try await fixture.call(
        .get, path.replacing(workload.vnfc.rawValue, with: "none") + "/usage")
      #expect(reply.status == 404 && reply.detail.contains("no Vnfc none"))
    }
  }

  @Test func usageTellsWhatTheFunctionCounts() async throws {
    try await run { fixture, path, _ in
      func counters() async throws -> JSONValue? {
        let reply = try await fixture.call(.get, "\(path)/usage")
        #expect(reply.status == 200, "\(reply.text)")
        #expect(try reply.json.member("memoryBytes").integer == 4096)
        return try? reply.json.member("functionCounters")
      }
      let none = try await counters()
      #expect(none == nil)
      fixture.fake.functionCounters.withLock {
        $0 = [.init(name: "refused", value: 7), .init(name: "accepted", value: 1 << 40)]
      }
      let counted = try await counters()
      #expect(
        counted
          == .array([
            .object(["name": .string("refused"), "value": .integer(7)]),
            .object(["name": .string("accepted"), "value": .integer(1 << 40)]),
          ]))
      // One that does not answer uses all the same.
      fixture.fake.functionCounters.withLock { $0 = nil }
      let unanswered = try await counters()
      #expect(unanswered == nil)
    }
  }

  @Test func usageOfAll() async throws {
    try await run { fixture, path, workload in
      let usage = try await fixture.call(.get, "/martlet/v1/usage").json
      #expect(try usage.member("monotonicMilliseconds").integer > 0)
      #expect(try usage.at("vnfcs/0/workload").text == workload.name)
      #expect(try usage.at("vnfcs/0/technology").text == "container")
      #expect(try usage.at("vnfcs/0/memoryBytes").integer == 4096)
      #expect(try usage.at("vnfcs/0/ports/1/receivedPackets").integer == 3)
      let instance = path.split(separator: "/")[3]
      let own = try await fixture.call(.get, "/martlet/v1/usage?vnfInstanceId=\(instance)").json
      #expect(try own.at("vnfcs/0/vnfcId").text == workload.vnfc.rawValue)
      #expect(try await fixture.call(.get, "/martlet/v1/usage?vnfInstanceId=none").status == 404)
      let metrics = try await fixture.call(.get, "/metrics").text
      let labels = "vnfc=\"\(workload.vnfc)\""
      let lines = metrics.split(separator: "\n").filter { $0.contains(labels) }
      // Five of the component, five of each of its two ports.
      #expect(lines.count == 15)
      #expect(
        lines.contains {
          $0.hasPrefix("martlet_vnfc_cpu_seconds_total{") && $0.hasSuffix(" 0.000000007")
        })
      #expect(
        lines.contains {
          $0.hasPrefix("martlet_vnfc_guest_cpu_seconds_total{") && $0.hasSuffix(" 0.000000005")
        })
      #expect(lines.contains { $0.contains("port_received_packets_total{") && $0.hasSuffix(" 3") })
    }
  }

  @Test func logByCursor() async throws {
    try await run { fixture, path, workload in
      fixture.fake.write("one\ntwo\n", by: workload)
      let first = try await fixture.call(.get, "\(path)/log?limit=4")
      #expect(first.text == "one\n")
      #expect(first.headers[.logOffset] == "0")
      #expect(first.headers[.incarnation] == "1")
      let second = try await fixture.call(.get, "\(path)/log?offset=4")
      #expect(second.text == "two\n" && second.headers[.logOffset] == "4")
      #expect(try await fixture.call(.get, "\(path)/log?offset=x").status == 400)
      #expect(try await fixture.call(.get, "\(path)/log?limit=99999999").status == 400)
      #expect(try await fixture.call(.get, "\(path)/log?follow=maybe").status == 400)
      #expect(try await fixture.call(.get, "\(path)/log?incarnation=9").text.isEmpty)
    }
  }

  @Test func followedLogEndsWithItsWorkload() async throws {
    try await run { fixture, path, workload in
      fixture.fake.write("one\n", by: workload)
      let request = Hummingbird.Request(
        head: HTTPRequest(
          method: .get, scheme: "http", authority: "localhost", path: "\(path)/log?follow"),
        body: RequestBody(buffer: .init()))
      let reply = try await fixture.send(request)
      let collector = Collector()
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await reply.body.write(collector) }
        try await collector.wait(for: "one\n")
        fixture.fake.write("two\n", by: workload)
        try await collector.wait(for: "two\n")
        #expect(!collector.isEnded)
        fixture.fake.write("last\n", by: workload)
        fixture.fake.end(workload, .exited(code: 3))
        try await group.waitForAll()
      }
      #expect(collector.isEnded && collector.text == "one\ntwo\nlast\n")
    }
  }

  // MARK: exec

  private func frame(_ type: UInt8, _ payload: some Collection<UInt8>) -> [UInt8] {
    let count = UInt32(payload.count)
    return [type] + (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) } + payload
  }

  private func exec(
    _ fixture: Fixture, _ path: String, _ octets: [UInt8], stays: Duration = .zero
  ) async throws -> [(type: UInt8, payload: String)] {
    let parts = stride(from: 0, to: octets.count, by: 7).map {
      ByteBuffer(bytes: octets[$0..<min($0 + 7, octets.count)])
    }
    let (body, source) = RequestBody.makeStream()
    let request = Hummingbird.Request(
      head: HTTPRequest(
        method: .post, scheme: "http", authority: "localhost", path: "\(path)/exec",
        headerFields: [.contentType: "application/vnd.martlet.exec"]), body: body)
    let reply = try await fixture.send(request)
    #expect(reply.status == .ok)
    let collector = FrameCollector()
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await reply.body.write(collector) }
      for part in parts { await source.yield(part) }
      try await Task.sleep(for: stays)
      source.finish()
      try await group.waitForAll()
    }
    return collector.frames
  }

  @Test func commandTalksBothWays() async throws {
    try await run { fixture, path, _ in
      let octets =
        frame(0x00, [])
        + frame(0x01, #"{"arguments":["cat"],"terminal":{"rows":24,"columns":80}}"#.utf8)
        + frame(0x02, "hello".utf8) + frame(0x04, [0, 30, 0, 100]) + frame(0x02, "world".utf8)
        + frame(0x03, [])
      let frames = try await exec(fixture, path, octets)
      #expect(frames.map(\.type) == [0x11, 0x11, 0x13])
      #expect(frames.map(\.payload) == ["hello", "world", #"{"code":1}"#])
    }
  }

  /// Who waits for a silent command, or sits at a console, is told that the daemon is there.
  @Test func silenceIsBroken() async throws {
    try await run(keepAlive: .milliseconds(20)) { fixture, path, _ in
      let octets = frame(0x01, #"{"arguments":["cat"]}"#.utf8) + frame(0x02, "hello".utf8)
      let frames = try await exec(fixture, path, octets, stays: .milliseconds(200))
      #expect(frames.first?.type == 0x11 && frames.last?.type == 0x13)
      let between = frames.dropFirst().dropLast()
      #expect(between.count >= 2 && between.allSatisfy { $0.type == 0 && $0.payload.isEmpty })
    }
  }

  @Test func largeOutputIsCutIntoFrames() throws {
    let bytes = [UInt8](repeating: 65, count: 65_536 + 1)
    var buffer = ExecFrame.encode(.standardError(bytes))
    #expect(buffer.readBytes(length: 5) == [0x12, 0, 1, 0, 0])
    buffer.moveReaderIndex(forwardBy: 65_536)
    #expect(buffer.readBytes(length: 6) == [0x12, 0, 0, 0, 1, 65])
    #expect(buffer.readableBytes == 0)
  }

  @Test func commandThatCannotStartIsAProblem() async throws {
    try await run { fixture, path, _ in
      for (octets, part) in [
        (frame(0x01, #"{"arguments":["nope"]}"#.utf8), "no command nope"),
        (frame(0x01, #"{"arguments":[]}"#.utf8), "arguments is empty"),
        (frame(0x01, "{".utf8), "not JSON"),
        (frame(0x02, "x".utf8), "start frame"),
        (frame(0x77, []), "type 119"),
        ([0x02, 0xFF, 0, 0, 0], "65536"),
        ([], "start frame"),
      ] {
        let frames = try await exec(fixture, path, octets)
        #expect(frames.map(\.type) == [0x14])
        #expect(frames[0].payload.contains(part), "\(frames)")
      }
      let wrong = try await fixture.call(.post, "\(path)/exec", "{}")
      #expect(wrong.status == 415)
      fixture.fake.commandDenied.withLock { $0 = true }
      let denied = try await fixture.call(
        .post, "\(path)/exec", "", headers: [.contentType: "application/vnd.martlet.exec"])
      #expect(denied.status == 501)
    }
  }

  @Test func whatTheDriverCannotDoIsRefused() async throws {
    try await run { fixture, path, _ in
      let frames: HTTPFields = [.contentType: "application/vnd.martlet.exec"]
      let console = try await fixture.call(.post, "\(path)/console", "", headers: frames)
      #expect(console.status == 501 && console.detail.contains("martlet exec"))
      #expect(try await fixture.call(.post, "\(path)/console", "{}").status == 415)
      #expect(try await fixture.call(.get, "\(path)/console").status == 405)
      for name in ["pause", "continue"] {
        let reply = try await fixture.call(.post, "\(path)/\(name)")
        #expect(reply.status == 501 && reply.detail.contains("cannot be paused"))
      }
    }
  }

  @Test func aPausedOneRunsNoCommands() async throws {
    try await run { fixture, path, workload in
      fixture.fake.paused.withLock { $0 = [] }
      let frames: HTTPFields = [.contentType: "application/vnd.martlet.exec"]
      #expect(try await fixture.call(.post, "\(path)/pause").status == 204)
      #expect(try await fixture.call(.get, "\(path)/usage").text.contains(#""isPaused":true"#))
      let reply = try await fixture.call(.post, "\(path)/exec", "", headers: frames)
      #expect(reply.status == 409 && reply.detail.contains("martlet vnf continue"))
      let instance = path.split(separator: "/")[3]
      let change = try await fixture.call(
        .patch, "/vnflcm/v2/vnf_instances/\(instance)", #"{"vnfConfigurableProperties":{"a":1}}"#,
        headers: [.contentType: "application/merge-patch+json"])
      #expect(
        change.status == 409 && change.detail.contains("martlet vnf continue"), "\(change.text)")
      #expect(try await fixture.call(.post, "\(path)/continue").status == 204)
      let start = frame(0x01, #"{"arguments":["cat"]}"#.utf8)
      #expect(try await exec(fixture, path, start).last?.type == 0x13)
    }
  }

  @Test func aPausedOneIsShownSo() async throws {
    try await run { fixture, path, workload in
      fixture.fake.paused.withLock { $0 = [] }
      func states() async throws -> [String] {
        let id = try #require(path.split(separator: "/").dropFirst(3).first)
        let list = try await fixture.call(.get, "\(VnfInstancesTests.instances)?all_fields")
        let one = try await fixture.call(.get, "\(VnfInstancesTests.instances)/\(id)").json
        let state = "instantiatedVnfInfo/vnfcResourceInfo/0/metadata/state"
        return [try list.json.at("0/" + state).text, try one.at(state).text]
      }
      let before = try await states()
      #expect(before == ["RUNNING", "RUNNING"])
      #expect(try await fixture.call(.post, "\(path)/pause").status == 204)
      #expect(try await states() == ["PAUSED", "PAUSED"])
      #expect(try await fixture.call(.post, "\(path)/continue").status == 204)
      #expect(try await states() == ["RUNNING", "RUNNING"])
      // The next daemon asks, once.
      fixture.fake.paused.withLock { $0 = [workload] }
      let pauses = Pauses(
        lifecycle: fixture.lifecycle, threads: BlockingExecutor(threads: 1, name: "pauses"))
      for _ in 0..<2 {
        #expect(await pauses.paused(among: [(workload, fixture.fake)]) == [workload])
        fixture.fake.paused.withLock { $0 = [] }
      }
    }
  }

  @Test func badFrameLaterKillsTheCommand() async throws {
    try await run { fixture, path, _ in
      let octets = frame(0x01, #"{"arguments":["cat"]}"#.utf8) + frame(0x66, [])
      let frames = try await exec(fixture, path, octets)
      #expect(frames.last?.payload == #"{"signal":9}"#)
    }
  }
}

/// Takes the daemon's frames apart.
final class FrameCollector: ResponseBodyWriter, Sendable {
  private let bytes = Mutex<[UInt8]>([])

  func write(_ buffer: ByteBuffer) async throws {
    bytes.withLock { $0 += Array(buffer.readableBytesView) }
  }

  func finish(_ trailingHeaders: HTTPFields?) async throws {}

  var frames: [(type: UInt8, payload: String)] {
    var rest = bytes.withLock { $0 }[...]
    var frames: [(type: UInt8, payload: String)] = []
    while let type = rest.popFirst() {
      let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
      let payload = rest.dropFirst(4).prefix(length)
      frames.append((type, String(decoding: payload, as: UTF8.self)))
      rest = rest.dropFirst(4 + length)
    }
    return frames
  }
}
