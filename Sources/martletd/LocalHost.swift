import Glibc
import LinuxSystem
import Logging
import NFVDrivers
import NFVImages
import NFVLifecycle
import NFVModel
import NFVNetwork
import SystemPackage

extension Composition {
  /// This machine: its containers, virtual machines, networks and images.
  /// - Throws: `unavailable` where something that it needs is missing.
  static func localHost(
    _ options: Martletd, store: StoreID, _ logger: Logger
  ) async throws(NFVError) -> NFVLifecycle.Host {
    let hold = try await connect(options)
    let containers = try ContainerDriver(
      .init(
        store: store, runFolder: "\(options.runFolder)/containers",
        logFolder: "\(options.state)/logs", runtime: options.runtime == .crun ? .crun : .runc,
        runtimePath: try path(of: options.runtime)), hold: hold)
    if case .none(let reason) = containers.securityProfile {
      logger.notice("containers have no security profile", metadata: ["reason": "\(reason)"])
    }
    var workloads: [any WorkloadDriver] = [containers]
    do throws(NFVError) {
      workloads.append(try await machines(options, store))
    } catch {
      logger.notice("this host runs no virtual machines", metadata: ["error": "\(error)"])
    }
    let network = try HostNetwork(store: store, runDirectory: options.runFolder)
    let images = try ContentStore(folder: "\(options.state)/images")
    return NFVLifecycle.Host(workloads: workloads, network: network, images: images)
  }

  private static func machines(
    _ options: Martletd, _ store: StoreID
  ) async throws(NFVError) -> QEMUDriver {
    // A connection of its own: the events of one have one reader.
    try QEMUDriver(
      .init(
        store: store, runFolder: "\(options.runFolder)/machines",
        logFolder: "\(options.state)/logs", volumeFolder: "\(options.state)/volumes",
        poolSize: options.poolSize),
      hold: try await connect(options))
  }

  /// Sets the option where it may be set, and says so.
  static func favorDynamicModifications(_ logger: Logger) -> FavorDynamicModifications? {
    do throws(SystemError) {
      let favor = try FavorDynamicModifications(try CgroupHierarchies.detect())
      logger.info(
        "favordynmods is set for this host's control groups (--no-favordynmods leaves it)")
      return favor
    } catch {
      logger.notice(
        "favordynmods cannot be set: a start after an idle moment takes some 15 ms longer",
        metadata: ["error": "\(error)"])
      return nil
    }
  }

  /// Where processes are born and remembered; it is started where it does not run yet.
  private static func connect(_ options: Martletd) async throws(NFVError) -> HoldClient {
    let program: String
    if let given = options.hold {
      program = given
    } else {
      guard let own = ownPath(), let slash = own.lastIndex(of: "/") else {
        throw NFVError(.unavailable, "this program's folder is not known; name --hold")
      }
      program = own[..<slash] + "/martlet-hold"
    }
    do {
      return try await HoldClient.connect(
        socket: "\(options.runFolder)/hold.sock", program: program)
    } catch {
      throw NFVError(
        .unavailable,
        "martlet-hold (\(program)) does not run and cannot be started; --hold names it",
        cause: error)
    }
  }

  private static func ownPath() -> String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink("/proc/self/exe", &buffer, buffer.count)
    guard count > 0, count < buffer.count else { return nil }
    return String(
      decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func path(of runtime: Martletd.Runtime) throws(NFVError) -> String {
    let folders = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"]
    for folder in folders {
      let path = "\(folder)/\(runtime.rawValue)"
      if let file = try? openFile(path, .path) {
        try? file.close()
        return path
      }
    }
    throw NFVError(
      .unavailable,
      "the runtime \(runtime.rawValue) is not installed (apt-get install \(runtime.rawValue)); "
        + "without containers: --host simulated")
  }
}
