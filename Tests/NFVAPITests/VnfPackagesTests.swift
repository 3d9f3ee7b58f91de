import Archive
import Glibc
import HTTPTypes
import Hummingbird
import Logging
import NFVModel
import NIOCore
import ServiceLifecycle
import Synchronization
import TestSupport
import Testing

@testable import NFVAPI

@Suite struct VnfPackagesTests {
  static let packages = "/vnfpkgm/v2/vnf_packages"

  private func create(_ fixture: Fixture, _ body: String? = nil) async throws -> String {
    let reply = try await fixture.call(.post, Self.packages, body)
    guard reply.status == 201, let path = reply.headers[.location] else {
      throw Failed(reply.text)
    }
    return path
  }

  private func upload(_ fixture: Fixture, _ path: String, _ text: String) async throws -> TestReply
  {
    try await fixture.call(
      .put, "\(path)/package_content", text, headers: [.contentType: "application/zip"])
  }

  private func wait(_ fixture: Fixture, _ path: String, for state: String) async throws -> JSONValue
  {
    var package = JSONValue.null
    try await eventually("\(path) is \(state): \(package)") {
      package = try await fixture.call(.get, path).json
      return try package.member("onboardingState").text == state
    }
    return package
  }

  @Test func onboarding() async throws {
    try await Fixture.run { fixture in
      let path = try await create(fixture, #"{"userDefinedData":{"a":[1,true,null]}}"#)
      let created = try await fixture.call(.get, path).json
      #expect(
        created.names.isSuperset(of: [
          "id", "packageSecurityOption", "onboardingState", "operationalState", "usageState",
          "vnfmInfo", "_links",
        ]))
      #expect(try created.member("onboardingState").text == "CREATED")
      #expect(try created.at("userDefinedData/a/1") == .bool(true))
      #expect(!created.names.contains("vnfdId"))
      let reply = try await upload(fixture, path, "vnfd one")
      #expect(reply.status == 202 && reply.text.isEmpty, "\(reply.text)")
      let package = try await wait(fixture, path, for: "ONBOARDED")
      #expect(try package.member("vnfdId").text == "one")
      #expect(try package.member("operationalState").text == "ENABLED")
      #expect(try package.at("checksum/algorithm").text == "SHA-256")
      #expect(try package.at("checksum/hash").text == String(repeating: "ab", count: 32))
      let image = try package.at("softwareImages/0")
      #expect(
        image.names.isSuperset(of: [
          "id", "name", "provider", "version", "checksum", "isEncrypted", "containerFormat",
          "diskFormat", "createdAt", "minDisk", "minRam", "size",
        ]))
      #expect(try package.at("_links/packageContent/href").text == "\(path)/package_content")
      let content = try await fixture.call(.get, "\(path)/package_content")
      #expect(content.text == "vnfd one")
      #expect(content.headers[.contentType] == "application/zip")
      let onboarded = "/vnfpkgm/v2/onboarded_vnf_packages"
      #expect(try await fixture.call(.get, "\(onboarded)/one").json == package)
      #expect(
        try await fixture.call(.get, "\(onboarded)/one/package_content").text == "vnfd one")
      #expect(try await fixture.call(.get, "\(onboarded)/two").status == 404)
      _ = try await create(fixture)
      #expect(try await fixture.call(.get, onboarded).json.items.count == 1)
      #expect(try await fixture.call(.get, Self.packages).json.items.count == 2)
      let brief = try await fixture.call(.get, Self.packages).json.at("0")
      #expect(!brief.names.contains("softwareImages") && brief.names.contains("vnfdId"))
      #expect(try await upload(fixture, path, "vnfd two").status == 409)
      #expect(try await fixture.call(.delete, path).status == 204)
      #expect(fixture.archives.isEmpty)
      #expect(try await fixture.call(.get, path).status == 404)
    }
  }

  @Test func damagedArchiveIsRefusedAndCanBeSentAgain() async throws {
    try await Fixture.run { fixture in
      let path = try await create(fixture)
      #expect(try await upload(fixture, path, "rubbish").status == 202)
      let package = try await wait(fixture, path, for: "ERROR")
      #expect(try package.at("onboardingFailureDetails/status").integer == 422)
      #expect(
        try package.at("onboardingFailureDetails/detail").text
          == "the archive is damaged; build it again")
      #expect(fixture.archives.isEmpty)
      #expect(try await upload(fixture, path, "vnfd one").status == 202)
      let mended = try await wait(fixture, path, for: "ONBOARDED")
      #expect(!mended.names.contains("onboardingFailureDetails"))
    }
  }

  @Test func largeArchiveIsRefusedAndLeavesNothing() async throws {
    try await Fixture.run(packageBound: 1000) { fixture in
      let path = try await create(fixture)
      let reply = try await upload(fixture, path, String(repeating: "x", count: 1001))
      #expect(reply.status == 413 && reply.detail.contains("1000 octets"), "\(reply.text)")
      #expect(try await upload(fixture, path, "").status == 400)
      #expect(fixture.archives.isEmpty)
      #expect(try await upload(fixture, path, "vnfd one").status == 202)
    }
  }

  @Test func packageInUseIsDisabledButNotDeleted() async throws {
    try await Fixture.run { fixture in
      let id = try await fixture.onboard()
      let path = "\(Self.packages)/\(id)"
      let instance = try await fixture.call(
        .post, "/vnflcm/v2/vnf_instances", #"{"vnfdId":"vnfd-1"}"#)
      #expect(instance.status == 201)
      #expect(try await fixture.call(.get, path).json.member("usageState").text == "IN_USE")
      #expect(try await fixture.call(.delete, path).status == 409)
      let disabled = try await fixture.call(.patch, path, #"{"operationalState":"DISABLED"}"#)
      #expect(disabled.status == 200, "\(disabled.text)")
      #expect(try disabled.json == .object(["operationalState": .string("DISABLED")]))
      #expect(
        try await fixture.call(.patch, path, #"{"operationalState":"DISABLED"}"#).status == 409)
      #expect(try await fixture.call(.patch, path, #"{"operationalState":"X"}"#).status == 400)
      #expect(try await fixture.call(.patch, path, "{}").status == 422)
      let other = try await fixture.call(.patch, path, #"{"vnfdId":"x"}"#)
      #expect(other.status == 422 && other.detail.contains("vnfdId"))
      let refused = try await fixture.call(
        .post, "/vnflcm/v2/vnf_instances", #"{"vnfdId":"vnfd-1"}"#)
      #expect(refused.status == 409 && refused.detail.contains("DISABLED"))
      let list = try await fixture.call(
        .get, "\(Self.packages)?filter=(eq,vnfdId,vnfd-1);(eq,usageState,IN_USE)")
      #expect(try list.json.items.count == 1)
    }
  }

  /// RFC 7396's rules: null removes, objects are merged, arrays are replaced.
  @Test func userDefinedDataIsMerged() async throws {
    try await Fixture.run { fixture in
      let path = try await create(
        fixture, #"{"userDefinedData":{"a":{"b":1,"c":2},"d":[1],"e":"x"}}"#)
      let patch = #"{"userDefinedData":{"a":{"b":null,"f":{"g":null}},"d":[2],"e":null}}"#
      let reply = try await fixture.call(
        .patch, path, patch, headers: [.contentType: "application/merge-patch+json"])
      #expect(reply.status == 200, "\(reply.text)")
      let data = try await fixture.call(.get, path).json.member("userDefinedData")
      #expect(
        data
          == .object([
            "a": .object(["c": .integer(2), "f": .object([:])]), "d": .array([.integer(2)]),
          ]))
      let both = #"{"operationalState":"ENABLED","userDefinedData":{"h":1}}"#
      #expect(try await fixture.call(.patch, path, both).status == 409)
      #expect(try await fixture.call(.get, path).json.member("userDefinedData") == data)
    }
  }

  /// Looks at a package as soon as an event of its tells of a change.
  private final class Looking: ResponseBodyWriter, Sendable {
    let fixture: Fixture
    let states = Mutex<[String]>([])

    init(_ fixture: Fixture) { self.fixture = fixture }

    func write(_ buffer: ByteBuffer) async throws {
      for line in String(buffer: buffer).split(separator: "\n")
      where line.hasPrefix("data: ") && line.contains("VnfPackageChange") {
        let event = try JSONReader.read(Array(line.dropFirst("data: ".count).utf8))
        let path = "\(VnfPackagesTests.packages)/\(try event.member("vnfPkgId").text)"
        let state = try await fixture.call(.get, path).json.member("onboardingState").text
        states.withLock { $0.append(state) }
      }
    }

    func finish(_ trailingHeaders: HTTPFields?) async throws {}
  }

  /// A client that waits looks at each event, of which no other follows.
  @Test func whoeverHearsThatAPackageIsRefusedFindsItSo() async throws {
    try await Fixture.run { fixture in
      let request = Hummingbird.Request(
        head: HTTPRequest(
          method: .get, scheme: "http", authority: "localhost", path: EventsTests.events),
        body: RequestBody(buffer: .init()))
      let events = try await fixture.send(request)
      let looking = Looking(fixture)
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try? await events.body.write(looking) }
        let path = try await create(fixture)
        // What is refused can be sent again, at once.
        for count in 1...20 {
          #expect(try await upload(fixture, path, "rubbish \(count)").status == 202)
          try await eventually("the package is refused for the \(count)th time") {
            looking.states.withLock { $0.count } == count
          }
        }
        group.cancelAll()
      }
      #expect(looking.states.withLock { $0 } == Array(repeating: "ERROR", count: 20))
    }
  }

  @Test func acknowledgedArchiveSurvivesTheDaemon() async throws {
    try await Fixture.run { fixture in
      let path = try await create(fixture)
      let id = try #require(path.split(separator: "/").last)
      let folder = "\(fixture.folder)/packages"
      for (name, text) in [
        ("\(id).csar", "vnfd one"), ("\(id).part", "vn"), ("deleted.csar", "vnfd two"),
      ] {
        let file = try #require(fopen("\(folder)/\(name)", "w"))
        fputs(text, file)
        fclose(file)
      }
      let next = try Catalogue(
        directory: folder, lifecycle: fixture.lifecycle, logger: Logger(label: "test")
      ) { path throws(NFVError) in try await Fixture.content(of: path) }
      #expect(fixture.archives == ["\(id).csar"])
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await next.run() }
        _ = try await wait(fixture, path, for: "ONBOARDED")
        group.cancelAll()
      }
    }
  }

  /// A catalogue that starts in the place of a daemon which went, with archives that this one left.
  private func restarted(
    _ fixture: Fixture, _ body: (Catalogue) async throws -> Void
  ) async throws {
    let next = try Catalogue(
      directory: "\(fixture.folder)/packages", lifecycle: fixture.lifecycle,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    ) { path throws(NFVError) in
      // That reading was begun is known to whoever comes next.
      let attempts = path.replacing(".csar", with: ".attempts")
      guard access(attempts, F_OK) == 0 else { throw NFVError(.failed, "\(attempts) is missing") }
      return try await Fixture.content(of: path)
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await next.run() }
      try await body(next)
      group.cancelAll()
    }
  }

  private func write(_ fixture: Fixture, _ name: String, _ text: String) throws {
    let file = try #require(fopen("\(fixture.folder)/packages/\(name)", "w"))
    fputs(text, file)
    fclose(file)
  }

  @Test func archiveSentAgainSurvivesTheDaemon() async throws {
    try await Fixture.run { fixture in
      let path = try await create(fixture)
      let id = try #require(path.split(separator: "/").last)
      #expect(try await upload(fixture, path, "rubbish").status == 202)
      _ = try await wait(fixture, path, for: "ERROR")
      try write(fixture, "\(id).csar", "vnfd one")
      try await restarted(fixture) { _ in _ = try await wait(fixture, path, for: "ONBOARDED") }
    }
  }

  /// More than the queue takes.
  @Test func allUnreadArchivesAreReadAtTheStart() async throws {
    try await Fixture.run { fixture in
      var paths: [String] = []
      for index in 0..<70 {
        let path = try await create(fixture)
        let id = try #require(path.split(separator: "/").last)
        try write(fixture, "\(id).csar", "vnfd \(index)")
        paths.append(path)
      }
      try await restarted(fixture) { next in
        for path in paths { _ = try await wait(fixture, path, for: "ONBOARDED") }
        let id = try #require(paths.last?.split(separator: "/").last)
        try await eventually("nothing is processed") {
          next.progress(of: VnfPackageID(String(id))) == nil
        }
      }
    }
  }

  @Test func archiveThatEndedTheDaemonTwiceIsRefused() async throws {
    try await Fixture.run { fixture in
      var paths: [String] = []
      for (index, attempts) in ["", "1", "12"].enumerated() {
        let path = try await create(fixture)
        let id = try #require(path.split(separator: "/").last)
        try write(fixture, "\(id).csar", "vnfd \(index)")
        if !attempts.isEmpty { try write(fixture, "\(id).attempts", attempts) }
        paths.append(path)
      }
      try write(fixture, "deleted.attempts", "1")
      try await restarted(fixture) { _ in
        for path in paths.prefix(2) { _ = try await wait(fixture, path, for: "ONBOARDED") }
        let refused = try await wait(fixture, paths[2], for: "ERROR")
        #expect(
          try refused.at("onboardingFailureDetails/detail").text.contains("ended twice"),
          "\(refused)")
        try await eventually("only what was onboarded is left: \(fixture.archives)") {
          fixture.archives.count == 2
        }
        #expect(fixture.archives.allSatisfy { $0.hasSuffix(".csar") })
        // It can be sent again, and is read once more.
      }
      #expect(try await upload(fixture, paths[2], "vnfd 2").status == 202)
      _ = try await wait(fixture, paths[2], for: "ONBOARDED")
    }
  }

  /// Nobody reads here: an upload that finds no place leaves the package as it was.
  @Test func uploadThatFindsNoPlaceCanBeSentAgain() async throws {
    try await Fixture.run { fixture in
      let folder = "\(fixture.folder)/others"
      let idle = try Catalogue(
        directory: folder, lifecycle: fixture.lifecycle, logger: Logger(label: "test")
      ) { path throws(NFVError) in try await Fixture.content(of: path) }
      func receive(_ id: String) async throws {
        try await idle.receive(
          RequestBody(buffer: ByteBuffer(string: "vnfd \(id)")),
          for: VnfPackage(
            id: VnfPackageID(id), tenant: "default", createdAt: Timestamp(microseconds: 0)))
      }
      for index in 0..<64 { try await receive("\(index)") }
      let error = await #expect(throws: NFVError.self) { try await receive("64") }
      #expect(error?.code == .overloaded)
      #expect(idle.progress(of: "63") == .waiting && idle.progress(of: "64") == nil)
      #expect(access(idle.path(of: "63"), F_OK) == 0 && access(idle.path(of: "64"), F_OK) != 0)
    }
  }

  @Test(arguments: ["vnfd", "manifest"])
  func contentsThatAreTooLargeAreRefused(what: String) async throws {
    try await Fixture.run { fixture in
      let id = try await fixture.onboard()
      let writer = try ArchiveWriter(
        path: "\(fixture.folder)/packages/\(id).csar", format: .tar)
      for index in 0..<33 {
        try writer.add(
          file: "\(index).\(what == "vnfd" ? "yaml" : "mf")",
          content: [UInt8](repeating: 0x20, count: 1 << 20))
      }
      try writer.finish()
      let reply = try await fixture.call(.get, "\(Self.packages)/\(id)/\(what)")
      #expect(reply.status == 413 && reply.detail.contains("32 MiB"), "\(reply.detail)")
    }
  }

  /// An archive of two files beside its manifest, in the place of an onboarded package's.
  @Test func contentsOfAnArchive() async throws {
    try await Fixture.run { fixture in
      let id = try await fixture.onboard()
      let path = "\(Self.packages)/\(id)"
      let archive = "\(fixture.folder)/packages/\(id).csar"
      let writer = try ArchiveWriter(path: archive, format: .zip)
      try writer.add(file: "vnfd.yaml", content: Array("tosca: 1\n".utf8))
      try writer.add(file: "vnfd.mf", content: Array("metadata:\n".utf8))
      try writer.add(file: "images/a b.tar", content: Array("image".utf8))
      try writer.finish()
      #expect(try await fixture.call(.get, "\(path)/vnfd").text == "tosca: 1\n")
      #expect(try await fixture.call(.get, "\(path)/manifest").text == "metadata:\n")
      let artifact = try await fixture.call(.get, "\(path)/artifacts/images/a%20b.tar")
      #expect(artifact.status == 200 && artifact.text == "image", "\(artifact.text)")
      let none = try await fixture.call(.get, "\(path)/artifacts/images/b.tar")
      #expect(none.status == 404 && none.detail.contains("images/b.tar"))
      let zip = try await fixture.call(
        .get, "\(path)/vnfd", headers: [.accept: "application/zip"])
      #expect(zip.headers[.contentType] == "application/zip" && zip.text.hasPrefix("PK"))
      #expect(fixture.archives == ["\(id).csar"])
      let created = try await create(fixture)
      #expect(try await fixture.call(.get, "\(created)/vnfd").status == 409)
    }
  }
}
