internal import Hummingbird
internal import LinuxSystem
public import Logging
public import NFVLifecycle
internal import NFVModel
public import ServiceLifecycle

/// The HTTP interface: SOL003's and SOL005's resources, and Martlet's own beside them.
public struct API: Sendable {
  private let lifecycle: Lifecycle
  private let catalogue: Catalogue
  private let version: String
  private let logger: Logger
  private let traffic = Traffic()
  private let streams: Streams
  private let operations: OperationCounts
  /// Where the store and the host are read: their calls block.
  private let threads: BlockingExecutor
  private let pauses: Pauses

  /// - Parameter version: the daemon's, as it tells it.
  public init(lifecycle: Lifecycle, catalogue: Catalogue, version: String, logger: Logger) {
    self.init(
      lifecycle: lifecycle, catalogue: catalogue, version: version, streams: Streams(),
      logger: logger)
  }

  init(
    lifecycle: Lifecycle, catalogue: Catalogue, version: String, streams: Streams, logger: Logger
  ) {
    self.streams = streams
    self.lifecycle = lifecycle
    self.catalogue = catalogue
    self.version = version
    self.logger = logger
    threads = BlockingExecutor(threads: 2, name: "martlet-read")
    pauses = Pauses(lifecycle: lifecycle, threads: threads)
    operations = OperationCounts(lifecycle)
  }

  /// What has to run beside the listeners.
  public var services: [any Service] { [catalogue, operations] }

  /// Takes calls at an address until the daemon ends.
  public func listener(at address: ListenAddress, access: Access) -> some Service {
    Listener(responder: responder(access), address: address, logger: logger)
  }

  /// Answers calls that were admitted by `access`.
  func responder(_ access: Access) -> RouterResponder<CallContext> {
    routes(access).router.buildResponder()
  }

  func routes(_ access: Access) -> Routes {
    var known = Routes()
    register(on: &known)
    var routes = Routes()
    routes.document = OpenAPI.document(of: known.table, version: version)
    routes.router.add(
      middleware: Boundary(
        access: access, paths: KnownPaths(table: known.table), traffic: traffic))
    register(on: &routes)
    return routes
  }

  private func register(on routes: inout Routes) {
    VnfPackages(lifecycle: lifecycle, catalogue: catalogue).register(on: &routes)
    VnfInstances(lifecycle: lifecycle, pauses: pauses).register(on: &routes)
    VnfLcmOpOccs(lifecycle: lifecycle, threads: threads).register(on: &routes)
    Vnfcs(lifecycle: lifecycle, streams: streams, pauses: pauses).register(on: &routes)
    Networks(lifecycle: lifecycle).register(on: &routes)
    Events(lifecycle: lifecycle, streams: streams, threads: threads).register(on: &routes)
    let usage = Usage(lifecycle: lifecycle, threads: threads)
    usage.register(on: &routes)
    Daemon(
      lifecycle: lifecycle, traffic: traffic, operations: operations, usage: usage,
      version: version
    ).register(on: &routes)
  }
}
