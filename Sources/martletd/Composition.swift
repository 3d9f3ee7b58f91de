import Glibc
import LinuxSystem
import Logging
import NFVAPI
import NFVDrivers
import NFVLifecycle
import NFVModel
import NFVPackages
import NFVStore
import ServiceLifecycle
import UnixSignals

/// The one place that knows which store, drivers and interfaces a daemon is made of.
struct Composition {
  private let folders: Folders
  private let lifecycle: Lifecycle
  private let api: API
  private let listeners: [any Service]
  private let logger: Logger
  /// Holds for as long as the daemon runs.
  private let favor: FavorDynamicModifications?

  /// Opens everything; nothing runs yet.
  /// - Throws: what is missing, and what to do about it.
  init(_ options: Martletd, logger: Logger) async throws(NFVError) {
    // Whoever reads our log may go away.
    signal(SIGPIPE, SIG_IGN)
    ProcessAttributes.setFileModeMask(0o022)
    self.logger = logger
    folders = try Folders(state: options.state, run: options.runFolder)
    if (try? isInMemory(options.runFolder)) == false {
      logger.notice(
        """
        the run folder is not in memory: containers start 2 ms later, and what stands in it outlives \
        the host's boot; name one in a tmpfs with --run
        """, metadata: ["folder": "\(options.runFolder)"])
    }
    favor =
      options.host == .local && options.favordynmods
      ? Self.favorDynamicModifications(logger) : nil
    let generation = HostGeneration(stateFolder: options.state, runFolder: options.runFolder)
    let store = try SQLiteStore(
      path: "\(options.state)/martlet.db", noteGeneration: generation.note)
    let stored = try store.load()
    let host: NFVLifecycle.Host
    var sweepsStrays = true
    switch options.host {
    case .local:
      sweepsStrays = try generation.allowsSweeping(
        of: stored, isAccepted: options.acceptStore, logger)
      host = try await Self.localHost(options, store: stored.store, logger)
    case .simulated:
      let simulated = SimulatedHost()
      host = NFVLifecycle.Host(workloads: [simulated], network: simulated, images: simulated)
    }
    lifecycle = Lifecycle(
      store: store, stored: stored, host: host, sweepsStrays: sweepsStrays, logger: logger
    ) {
      (templates, document) throws(NFVError) in try PackageReader.render(templates, document)
    }
    let catalogue = try Catalogue(
      directory: "\(options.state)/packages", limit: UInt64(options.packageLimit) << 20,
      lifecycle: lifecycle, logger: logger)
    api = API(
      lifecycle: lifecycle, catalogue: catalogue, version: Release.version, logger: logger)
    listeners = try Self.listeners(options, api, logger)
  }

  private static func listeners(
    _ options: Martletd, _ api: API, _ logger: Logger
  ) throws(NFVError) -> [any Service] {
    var listeners: [any Service] = [
      api.listener(at: .socket(path: options.socketPath), access: .socket)
    ]
    guard let text = options.listen else { return listeners }
    let address = try ListenAddress(loopback: text)
    if options.insecureLoopback {
      logger.warning(
        "TCP is open without a token: every user of this machine can do what root can",
        metadata: ["address": "\(text)"])
      listeners.append(api.listener(at: address, access: .open))
    } else {
      let token = try TokenFile.token(at: options.tokenFile ?? "\(options.state)/token")
      listeners.append(api.listener(at: address, access: .token(token)))
    }
    return listeners
  }

  /// Runs until SIGTERM or SIGINT. What the host carries goes on without the daemon.
  func run() async throws {
    var services = [ServiceGroupConfiguration.ServiceConfiguration(service: lifecycle)]
    services += api.services.map { .init(service: $0) }
    services.append(
      .init(
        service: DefaultNetwork(lifecycle: lifecycle, logger: logger),
        successTerminationBehavior: .ignore))
    services += listeners.map { .init(service: $0) }
    var configuration = ServiceGroupConfiguration(
      services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
    configuration.maximumGracefulShutdownDuration = .seconds(10)
    try await ServiceGroup(configuration: configuration).run()
    for driver in lifecycle.host.workloads {
      switch driver {
      case let containers as ContainerDriver: try await containers.leaveHost()
      case let machines as QEMUDriver: machines.leaveHost()
      default: break
      }
    }
  }
}
