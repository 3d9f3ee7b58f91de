import Glibc
import HTTPTypes
import Hummingbird
import LinuxSystem
import Logging
import NFVLifecycle
import NFVModel
import NFVStore
import NIOCore
import Synchronization
import TestSupport
import Testing

@testable import NFVAPI

/// Requests that cannot be met: refused with the reason, and everything stays as it was.
@Suite struct BadRequestTests {
  private static let instances = VnfInstancesTests.instances
  private static let connection =
    #"{"extVirtualLinks":[{"resourceId":"left","extCps":[{"cpdId":"left"}]}]}"#

  /// What the store holds, as the API tells it.
  private func all(_ fixture: Fixture) async throws -> [JSONValue] {
    var lists: [JSONValue] = []
    for path in [
      VnfPackagesTests.packages, Self.instances, NetworksTests.networks,
      "/vnflcm/v2/vnf_lcm_op_occs",
    ] {
      lists.append(try await fixture.call(.get, "\(path)?all_fields").json)
    }
    return lists
  }

  private func create(_ fixture: Fixture, _ name: String) async throws -> String {
    let reply = try await fixture.call(
      .post, Self.instances, #"{"vnfdId":"vnfd-1","vnfInstanceName":"\#(name)"}"#)
    return try #require(reply.headers[.location], "\(reply.text)")
  }

  @Test func whenNoAddressIsFreeNothingBegins() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard(links: [])
      _ = try await fixture.call(
        .post, NetworksTests.networks, #"{"name":"left","subnets":[{"prefix":"10.9.0.0/30"}]}"#)
      var refused: TestReply?
      for index in 0..<4 where refused == nil {
        let path = try await create(fixture, "vnf-\(index)")
        let before = try await all(fixture)
        let reply = try await fixture.call(.post, "\(path)/instantiate", Self.connection)
        if reply.status == 202 {
          try await fixture.completed(reply)
        } else {
          refused = reply
          #expect(try await all(fixture) == before)
        }
      }
      let reply = try #require(refused)
      #expect(reply.status == 507 || reply.status == 409, "\(reply.text)")
      #expect(reply.detail.contains("left") && reply.detail.contains("10.9.0.0/30"))
    }
  }

  @Test(arguments: [
    ("POST", NetworksTests.networks, #"{"name":"left"}"#, 409),
    (
      "POST", NetworksTests.networks, #"{"name":"x","subnets":[{"prefix":"10.9.0.128/25"}]}"#, 409
    ),
    ("POST", instances, #"{"vnfdId":"vnfd-1","vnfInstanceName":"fw"}"#, 409),
    ("POST", "ONE/instantiate", "{}", 409),
    ("POST", "ONE/scale", #"{"type":"SCALE_OUT","aspectId":"workers","numberOfSteps":9}"#, 422),
    ("POST", "ONE/operate", #"{"changeStateTo":"STARTED"}"#, 409),
    ("DELETE", "ONE", "", 409),
    ("POST", "ONE/terminate", "{\"terminationType\":", 400),
    ("POST", "ONE/heal", "[", 400),
  ])
  func refusedRequestsChangeNothing(
    method: String, path: String, body: String, status: Int
  ) async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      _ = try await fixture.call(
        .post, NetworksTests.networks, #"{"name":"left","subnets":[{"prefix":"10.9.0.0/24"}]}"#)
      let id = try await fixture.instantiated()
      let before = try await all(fixture)
      let newest = try fixture.store.load().lastSequence
      let reply = try await fixture.call(
        try #require(HTTPRequest.Method(method)),
        path.replacing("ONE", with: "\(Self.instances)/\(id)"), body)
      #expect(reply.status == status && !reply.detail.isEmpty, "\(reply.text)")
      #expect(try await all(fixture) == before)
      #expect(try fixture.store.load().lastSequence == newest)
    }
  }

  /// The driver's contract says of a runtime that hangs that its start ends by `timeout`.
  @Test(
    arguments: [
      (.failed, 500), (.timeout, 504), (.exhausted, 507),
    ] as [(NFVError.Code, Int64)])
  func aRuntimeThatFailsIsToldByItsOccurrence(code: NFVError.Code, status: Int64) async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      _ = try await fixture.call(.post, NetworksTests.networks, #"{"name":"left"}"#)
      let path = try await create(fixture, "fw")
      let before = try await fixture.call(.get, path).json
      fixture.fake.startFailure.withLock { $0 = NFVError(code, "crun did not answer within 10 s") }
      let accepted = try await fixture.call(.post, "\(path)/instantiate", Self.connection)
      try await fixture.completed(accepted, "FAILED_TEMP")
      let occurrence = try #require(accepted.headers[.location])
      let error = try await fixture.call(.get, occurrence).json.member("error")
      #expect(try error.member("status").integer == status)
      #expect(try error.member("detail").text.contains("crun did not answer"))
      #expect(try await fixture.call(.post, "\(occurrence)/rollback").status == 202)
      try await fixture.completed(accepted, "ROLLED_BACK")
      #expect(try await fixture.call(.get, path).json == before)
    }
  }

  private func onboard(_ vdus: [Vdu], by fixture: Fixture) async throws -> String {
    let content = VnfPackage.Content(
      descriptor: VnfDescriptor(
        id: "other", provider: "Martlet", productName: "other", softwareVersion: "1.0",
        descriptorVersion: "1.0",
        flavours: [
          DeploymentFlavour(
            id: "other", vdus: vdus,
            externalCpds: [ExternalCpd(id: "left", exposes: .vduCpd(vdu: "a", cpd: "cp0"))],
            scalingAspects: [
              ScalingAspect(id: "more", name: "More", maximumLevel: 2, deltas: ["b": [1]])
            ])
        ]),
      digest: "sha256:00", size: 1, images: ["image": "sha256:01"], templates: [:])
    let response = try await fixture.lifecycle.submit(
      .createPackage(userDefinedData: [:]), actor: "t")
    guard case .package(let package) = response else { throw Failed("a package is made") }
    _ = try await fixture.lifecycle.submit(.onboardPackage(package.id, content), actor: "t")
    let created = try await fixture.call(.post, Self.instances, #"{"vnfdId":"other"}"#)
    return try #require(created.headers[.location])
  }

  /// A container, and of another VDU none at first.
  private static func vdus(_ change: (inout Vdu) -> Void) -> [Vdu] {
    let a = Vdu(
      id: "a", name: "a", technology: .container, imagePath: "image", cpds: [VduCpd(id: "cp0")])
    var b = Vdu(
      id: "b", name: "b", technology: .container, imagePath: "image", initialInstances: 0,
      maximumInstances: 2)
    change(&b)
    return [a, b]
  }

  @Test("What no driver of the host can run is refused by the request, and opens no operation")
  func whatTheHostCannotRunIsRefused() async throws {
    let commandless = FakeHost()
    commandless.commandDenied.withLock { $0 = true }
    for (fake, vdus, words) in [
      (FakeHost(), Self.vdus { $0.technology = .tinyx }, "cannot run tinyx"),
      (FakeHost(), Self.vdus { $0.storages = [.init(id: "s", sizeBytes: 1)] }, "block devices"),
      (commandless, Self.vdus { $0.readiness = .init(check: .command(["true"])) }, "no command"),
    ] as [(FakeHost, [Vdu], String)] {
      try await Fixture.run(fake: fake) { fixture in
        _ = try await fixture.call(.post, NetworksTests.networks, #"{"name":"left"}"#)
        let path = try await onboard(vdus, by: fixture)
        // None of the other VDU is to start.
        try await fixture.completed(
          try await fixture.call(.post, "\(path)/instantiate", Self.connection))
        let before = try await all(fixture)
        let refused = try await fixture.call(
          .post, "\(path)/scale", #"{"type":"SCALE_OUT","aspectId":"more"}"#)
        #expect(refused.status == 422 && refused.detail.contains(words), "\(refused.text)")
        #expect(try await all(fixture) == before)
      }
    }
    let bare = FakeHost()
    bare.hasRuntime.withLock { $0 = false }
    try await Fixture.run(fake: bare) { fixture in
      _ = try await fixture.call(.post, NetworksTests.networks, #"{"name":"left"}"#)
      let path = try await onboard(Self.vdus { _ in }, by: fixture)
      let before = try await all(fixture)
      let refused = try await fixture.call(.post, "\(path)/instantiate", Self.connection)
      #expect(refused.status == 422, "\(refused.text)")
      #expect(refused.detail.contains("cannot run container"))
      #expect(refused.detail.contains("martlet describe host"))
      #expect(try await all(fixture) == before)
    }
  }

  @Test func aReadinessCommandThatHangsIsOverAtItsLimit() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.call(.post, NetworksTests.networks, #"{"name":"left"}"#)
      // The fake host's command waits for input.
      var vdus = Self.vdus { _ in }
      vdus[0].readiness = .init(check: .command(["cat"]), timeoutMilliseconds: 100)
      let path = try await onboard(vdus, by: fixture)
      let accepted = try await fixture.call(.post, "\(path)/instantiate", Self.connection)
      try await fixture.completed(accepted, "FAILED_TEMP")
      let occurrence = try #require(accepted.headers[.location])
      let error = try await fixture.call(.get, occurrence).json.member("error")
      #expect(try error.member("detail").text.contains("was not ready within 100 ms"))
    }
  }

  /// A VNF that an earlier daemon ran, on a host with less.
  private func onBareHost(
    isStopped: Bool, _ body: @escaping @Sendable (Fixture, String) async throws -> Void
  ) async throws {
    let store = MemoryStore(id: "test")
    let path = Mutex("")
    try await Fixture.run(store: store) { fixture in
      _ = try await fixture.call(.post, NetworksTests.networks, #"{"name":"left"}"#)
      let made = try await onboard(Self.vdus { _ in }, by: fixture)
      path.withLock { $0 = made }
      try await fixture.completed(
        try await fixture.call(.post, "\(made)/instantiate", Self.connection))
      if isStopped {
        try await fixture.completed(
          try await fixture.call(.post, "\(made)/operate", #"{"changeStateTo":"STOPPED"}"#))
      }
    }
    let bare = FakeHost()
    bare.hasRuntime.withLock { $0 = false }
    try await Fixture.run(fake: bare, store: store) { fixture in
      try await body(fixture, path.withLock(\.self))
    }
  }

  @Test func aStartOfWhatTheHostLacksIsRefused() async throws {
    try await onBareHost(isStopped: true) { fixture, path in
      let start = try await fixture.call(.post, "\(path)/operate", #"{"changeStateTo":"STARTED"}"#)
      #expect(start.status == 422 && start.detail.contains("cannot run container"), "\(start.text)")
      try await fixture.completed(
        try await fixture.call(.post, "\(path)/terminate", #"{"terminationType":"FORCEFUL"}"#))
    }
  }

  @Test func aHealOfWhatTheHostLacksIsRefused() async throws {
    try await onBareHost(isStopped: false) { fixture, path in
      // Not the instance: what this host lacks it goes on trying to restore.
      let operations = "/vnflcm/v2/vnf_lcm_op_occs"
      let before = try await fixture.call(.get, operations).json
      let heal = try await fixture.call(.post, "\(path)/heal", "{}")
      #expect(heal.status == 422 && heal.detail.contains("cannot run container"), "\(heal.text)")
      #expect(try await fixture.call(.get, operations).json == before)
    }
  }

  /// A host that is not ready, or has too much to do, is no failure of the daemon's.
  @Test(arguments: [
    (EventsTests.events, 503, Logger.Level.notice), (VnfPackagesTests.packages, 500, .error),
  ])
  func whatIsRefusedForNowIsNoError(path: String, status: Int, level: Logger.Level) async throws {
    try await Fixture.run(streams: 0) { fixture in
      var path = path
      // Its archive is missing.
      if status == 500 { path += "/\(try await fixture.onboard())/manifest" }
      let log = LevelLog()
      let context = CallContext(logger: Logger(label: "test") { _ in log })
      let reply = try await fixture.responder.respond(
        to: Hummingbird.Request(
          head: HTTPRequest(method: .get, scheme: "http", authority: "localhost", path: path),
          body: RequestBody(buffer: ByteBuffer())), context: context)
      #expect(reply.status.code == status)
      #expect(log.levels.withLock { $0 } == [level])
    }
  }

  /// Keeps the levels of what is logged.
  private final class LevelLog: LogHandler, Sendable {
    let levels = Mutex<[Logger.Level]>([])
    var metadata: Logger.Metadata {
      get { [:] }
      set {}
    }
    var logLevel: Logger.Level {
      get { .trace }
      set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { nil }
      set {}
    }

    func log(event: LogEvent) { levels.withLock { $0.append(event.level) } }
  }

  /// What went away since the daemon began.
  @Test func aTechnologyThatTheHostLacksIsTold() async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      _ = try await fixture.call(.post, NetworksTests.networks, #"{"name":"left"}"#)
      let path = try await create(fixture, "fw")
      fixture.fake.hasRuntime.withLock { $0 = false }
      let accepted = try await fixture.call(.post, "\(path)/instantiate", Self.connection)
      try await fixture.completed(accepted, "FAILED_TEMP")
      let occurrence = try #require(accepted.headers[.location])
      let error = try await fixture.call(.get, occurrence).json.member("error")
      #expect(try error.member("status").integer == 422)
      let detail = try error.member("detail").text
      #expect(detail.contains("cannot run container") && detail.contains("martlet describe host"))
      // Once it is there, a retry goes through.
      fixture.fake.hasRuntime.withLock { $0 = true }
      #expect(try await fixture.call(.post, "\(occurrence)/retry").status == 202)
      try await fixture.completed(accepted)
    }
  }

  /// The store's disk, a small file system of the test's own, is filled and freed again.
  @Test(.needs(.root))
  func aFullStoreRefusesAndGoesOnLater() async throws {
    let folder = try TemporaryFolder()
    let disk = folder.path + "/state"
    try Mount.makeDirectory(disk, mode: 0o700)
    try Mount.tmpfs(at: disk, size: 2 << 20, mode: 0o700)
    defer { try? Mount.unmount(disk) }
    let store = try SQLiteStore(path: disk + "/store.sqlite")
    try await Fixture.run(store: store) { fixture in
      _ = try await fixture.onboard()
      _ = try await create(fixture, "before")
      let before = try await all(fixture)
      let filler = open(disk + "/filler", O_WRONLY | O_CREAT, 0o600)
      let block = [UInt8](repeating: 1, count: 1024)
      while write(filler, block, block.count) == block.count {}
      close(filler)
      let name = String(repeating: "n", count: 200)
      var refused: TestReply?
      for index in 0..<200 {
        let reply = try await fixture.call(
          .post, NetworksTests.networks, #"{"name":"\#(name.prefix(40))-\#(index)"}"#)
        if reply.status != 201 {
          refused = reply
          break
        }
        _ = try await fixture.call(
          .delete, "\(NetworksTests.networks)/\(name.prefix(40))-\(index)")
      }
      let reply = try #require(refused)
      #expect(reply.status == 507 && reply.detail.contains("full"), "\(reply.text)")
      unlink(disk + "/filler")
      #expect(try await all(fixture) == before)
      #expect(try await fixture.call(.get, "/readyz").status == 200)
      _ = try await create(fixture, "after")
      #expect(try store.load().instances.map(\.name).sorted() == ["after", "before"])
    }
  }
}
