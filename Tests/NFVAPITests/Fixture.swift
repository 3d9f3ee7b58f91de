import Glibc
import HTTPTypes
import Hummingbird
import Logging
import NFVLifecycle
import NFVModel
import NIOCore
import ServiceLifecycle
import Synchronization
import TestSupport

@testable import NFVAPI

/// A whole daemon without a network: the store in memory, a fake host, and the router.
struct Fixture: Sendable {
  let fake: FakeHost
  let store: any Store
  let lifecycle: Lifecycle
  let api: API
  let responder: RouterResponder<CallContext>
  private let temporary: TemporaryFolder

  var folder: String { temporary.path }

  /// Runs `body` against a daemon that ends with it.
  /// - Parameters:
  ///   - retention: how many events are kept.
  ///   - packageBound: the largest archive, in octets.
  ///   - streams: how many streams may be open.
  ///   - fake: the host, as it is when the daemon starts.
  ///   - store: another one than an empty one in memory.
  ///   - logger: another one than one that nobody reads.
  ///   - images: where archives are read as the daemon does, and their images imported; nil: their
  ///     text says what stands in for them.
  static func run(
    _ access: Access = .open, retention: Int = 10_000, packageBound: UInt64 = 1 << 20,
    bounds: Lifecycle.Bounds = .init(), streams: Int = 256,
    keepAlive: Duration = .seconds(10), fake: FakeHost = FakeHost(),
    store: (any Store)? = nil, images: (any ImageStore)? = nil,
    logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
    _ body: @Sendable @escaping (Fixture) async throws -> Void
  ) async throws {
    let store = store ?? MemoryStore(id: "test", retention: retention)
    let lifecycle = Lifecycle(
      store: store, stored: try store.load(), host: fake.host, bounds: bounds, logger: logger
    ) {
      (templates, _) throws(NFVError) in templates
    }
    let temporary = try TemporaryFolder()
    let catalogue = try Catalogue(
      directory: "\(temporary.path)/packages", limit: packageBound, lifecycle: lifecycle,
      logger: logger
    ) { path throws(NFVError) in
      if let images { return try await importPackage(path, into: images) }
      return try await content(of: path)
    }
    let api = API(
      lifecycle: lifecycle, catalogue: catalogue, version: "0.0.1",
      streams: Streams(limit: streams, keepAlive: keepAlive), logger: logger)
    let fixture = Fixture(
      fake: fake, store: store, lifecycle: lifecycle, api: api,
      responder: api.responder(access), temporary: temporary)
    defer { temporary.remove() }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await lifecycle.run() }
      for service in api.services { group.addTask { try await service.run() } }
      try await eventually("the daemon is ready") { lifecycle.isReady }
      try await body(fixture)
      group.cancelAll()
      while (try? await group.next()) != nil {}
    }
  }

  /// The names of the files in the packages' folder.
  var archives: [String] { (try? temporary.names("packages")) ?? [] }

  // MARK: A package

  /// What stands for reading an archive: the file's text names the descriptor, or says what to do.
  static func content(of path: String) async throws(NFVError) -> VnfPackage.Content {
    var buffer = [UInt8](repeating: 0, count: 4096)
    guard let file = fopen(path, "r") else { throw NFVError(.failed, "no file") }
    let count = fread(&buffer, 1, buffer.count, file)
    fclose(file)
    let text = String(decoding: buffer.prefix(count), as: UTF8.self)
    guard text.hasPrefix("vnfd ") else {
      throw NFVError(.unprocessable, "the archive is damaged; build it again")
    }
    return VnfPackage.Content(
      descriptor: descriptor(String(text.dropFirst(5))),
      digest: "sha256:" + String(repeating: "ab", count: 32), size: UInt64(count),
      images: ["images/fw.tar": ImageDigest("sha256:" + String(repeating: "cd", count: 32))],
      templates: [:])
  }

  /// - Parameter links: the internal virtual links.
  static func descriptor(_ id: String, links: [String] = ["internal"]) -> VnfDescriptor {
    let cpds =
      [VduCpd(id: "cp0")] + links.map { VduCpd(id: "cp-\($0)", virtualLink: $0) }
    let vdu = Vdu(
      id: "fw", name: "Firewall", technology: .container, imagePath: "images/fw.tar", cpds: cpds,
      maximumInstances: 5)
    let flavour = DeploymentFlavour(
      id: "container", vdus: [vdu], virtualLinks: links.map { VirtualLinkDescriptor(id: $0) },
      externalCpds: [ExternalCpd(id: "left", exposes: .vduCpd(vdu: "fw", cpd: "cp0"))],
      scalingAspects: [
        ScalingAspect(id: "workers", name: "Workers", maximumLevel: 4, deltas: ["fw": [1]])
      ])
    return VnfDescriptor(
      id: id, provider: "Martlet", productName: "firewall", softwareVersion: "1.0",
      descriptorVersion: "1.1", flavours: [flavour],
      parameters: ["port": .init(default: .integer(5001))])
  }

  /// Onboards a package without an archive.
  func onboard(links: [String] = ["internal"]) async throws -> VnfPackageID {
    let response = try await lifecycle.submit(.createPackage(userDefinedData: [:]), actor: "test")
    guard case .package(let package) = response else { throw Unexpected() }
    let content = VnfPackage.Content(
      descriptor: Self.descriptor("vnfd-1", links: links), digest: "sha256:00", size: 1,
      images: ["images/fw.tar": "sha256:cd"], templates: [:])
    _ = try await lifecycle.submit(.onboardPackage(package.id, content), actor: "test")
    return package.id
  }

  struct Unexpected: Error {}

  /// An instance that runs, on a network `left`.
  func instantiated(_ name: String = "fw") async throws -> String {
    let created = try await call(
      .post, "/vnflcm/v2/vnf_instances",
      #"{"vnfdId":"vnfd-1","vnfInstanceName":"\#(name)"}"#)
    let id = try created.json.member("id").text
    let accepted = try await call(
      .post, "/vnflcm/v2/vnf_instances/\(id)/instantiate",
      #"{"flavourId":"container","extVirtualLinks":[{"id":"link-1","resourceId":"left","#
        + #""extCps":[{"cpdId":"left","cpConfig":{}}]}]}"#)
    try await completed(accepted)
    return id
  }

  /// Waits until the operation of an accepted request is COMPLETED.
  func completed(_ accepted: TestReply, _ state: String = "COMPLETED") async throws {
    guard accepted.status == 202, let path = accepted.headers[.location] else {
      throw Failed(accepted.text)
    }
    try await eventually("\(path) is \(state)") {
      try await call(.get, path).json.member("operationState").text == state
    }
  }

  // MARK: Calls

  func call(
    _ method: HTTPRequest.Method, _ path: String, _ body: String? = nil,
    headers: HTTPFields = [:], authority: String? = "localhost"
  ) async throws -> TestReply {
    var headers = headers
    if body != nil, headers[.contentType] == nil { headers[.contentType] = "application/json" }
    let request = Hummingbird.Request(
      head: HTTPRequest(
        method: method, scheme: "http", authority: authority, path: path, headerFields: headers),
      body: RequestBody(buffer: ByteBuffer(string: body ?? "")))
    return try await TestReply(send(request))
  }

  func send(_ request: Hummingbird.Request) async throws -> Hummingbird.Response {
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    return try await responder.respond(to: request, context: CallContext(logger: logger))
  }
}

/// An answer with its whole body.
struct TestReply {
  let status: Int
  let headers: HTTPFields
  let text: String

  init(_ response: Hummingbird.Response) async throws {
    let writer = Collector()
    try await response.body.write(writer)
    status = response.status.code
    headers = response.headers
    text = writer.text
  }

  var json: JSONValue {
    get throws { try JSONReader.read(Array(text.utf8)) }
  }

  /// The detail of a problem; empty where the answer is none.
  var detail: String {
    guard headers[.contentType] == "application/problem+json" else { return "" }
    return (try? json.member("detail").text) ?? ""
  }
}

/// Keeps what is written to it; whoever wants to may wait for it.
final class Collector: ResponseBodyWriter, Sendable {
  private let bytes = Mutex<[UInt8]>([])
  private let ended = Mutex(false)

  var text: String { String(decoding: bytes.withLock { $0 }, as: UTF8.self) }
  var isEnded: Bool { ended.withLock { $0 } }

  func write(_ buffer: ByteBuffer) async throws {
    bytes.withLock { $0 += Array(buffer.readableBytesView) }
  }

  func finish(_ trailingHeaders: HTTPFields?) async throws { ended.withLock { $0 = true } }

  /// Waits until what was written holds `part`.
  func wait(for part: String) async throws {
    try await eventually("\(part) came; this did: \(text)") { text.contains(part) }
  }
}

extension JSONValue {
  func member(_ name: String) throws -> JSONValue {
    guard case .object(let members) = self, let value = members[name] else {
      throw Failed("there is no member \(name) in \(self)")
    }
    return value
  }

  /// A member of members, and of arrays' items: `a/b/0/c`.
  func at(_ path: String) throws -> JSONValue {
    var value = self
    for part in path.split(separator: "/") {
      if let index = Int(part), case .array(let items) = value {
        guard index < items.count else { throw Failed("no item \(index) in \(value)") }
        value = items[index]
      } else {
        value = try value.member(String(part))
      }
    }
    return value
  }

  var names: Set<String> {
    guard case .object(let members) = self else { return [] }
    return Set(members.keys)
  }

  var items: [JSONValue] {
    guard case .array(let items) = self else { return [] }
    return items
  }

  var text: String {
    guard case .string(let text) = self else { return "" }
    return text
  }

  var integer: Int64 {
    guard case .integer(let number) = self else { return -1 }
    return number
  }
}
