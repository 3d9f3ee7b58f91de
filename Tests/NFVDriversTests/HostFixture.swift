import Glibc
import HoldProtocol
import LinuxSystem
import NFVDrivers
import NFVModel
import Synchronization
import SystemPackage
import TestSupport

/// What a driver's tests have of this host: a hold, folders and a store of their own.
final class HostFixture: Sendable {
  private let temporary: TemporaryFolder
  let hold: HoldClient
  private let holdProcess = Mutex<Int32?>(nil)
  let store: StoreID

  var folder: String { temporary.path }
  var runFolder: String { folder + "/run" }
  var logFolder: String { folder + "/log" }

  init() async throws {
    temporary = try TemporaryFolder(mode: 0o711)
    store = StoreID("test-\(temporary.path.suffix(6))")
    try Mount.makeDirectory(temporary.path + "/run", mode: 0o711)
    try Mount.tmpfs(at: temporary.path + "/run", size: 64 << 20, mode: 0o711)
    hold = try await Self.connect(temporary.path)
    try await untilHoldAnswers()
  }

  /// Runs `body`, whose suite's time limit cancels it: then its workloads and the hold are killed, so
  /// that waits end which are not cancelled.
  func limited(_ body: () async throws -> Void) async throws {
    try await withTaskCancellationHandler {
      try await body()
    } onCancel: {
      startThread(name: "test-limit") { [self] in
        for name in (try? listFolder(runFolder + "/workloads")) ?? [] {
          guard let groups = try? CgroupHierarchies.detect() else { continue }
          try? groups.group("martlet/\(store)/\(name)").kill()
        }
        if let hold = holdProcess.withLock(\.self) { kill(hold, SIGKILL) }
      }
    }
  }

  /// A hold that was killed is started again by its client.
  func untilHoldAnswers() async throws {
    try await eventually("the hold answers") {
      guard let status = try? await hold.status() else { return false }
      holdProcess.withLock { $0 = status.pid }
      return true
    }
  }

  /// Kills the hold and waits until it is gone; its client starts another.
  func killHold() async throws {
    let process = try openPidfd(try await hold.status().pid)
    defer { try? process.close() }
    try sendSignal(SIGKILL, to: process)
    _ = try waitReadable(process, milliseconds: 5000)
  }

  /// Another connection to the hold.
  func connect() async throws -> HoldClient { try await Self.connect(folder) }

  private static func connect(_ folder: String) async throws -> HoldClient {
    try await HoldClient.connect(
      socket: folder + "/hold.socket", program: Built.program("martlet-hold"))
  }

  /// What is left on the host of the store's workloads.
  /// - Parameter folders: which are empty where none is left.
  func leftovers(in folders: [String]) async throws -> [String] {
    var left: [String] = []
    // The driver's stock stays as long as it does.
    for holding in try await hold.list() where !holding.key.hasPrefix("spare:") {
      left.append("holding \(holding.key)")
    }
    for name in folders { left += try listFolder("\(folder)/\(name)").map { "\(name)/\($0)" } }
    for group in try CgroupHierarchies.detect().allFolders(of: "martlet/\(store)") {
      guard access(group, F_OK) == 0 else { continue }
      left += try listFolder(group).filter { access("\(group)/\($0)/cgroup.procs", F_OK) == 0 }.map
      { "\(group)/\($0)" }
    }
    return left
  }

  /// Removes the driver's workloads and all else.
  /// - Parameter finish: what the driver still does in the folders, once nothing of it runs.
  func end(_ driver: any WorkloadDriver, finish: () async -> Void) async throws {
    for workload in (try? await driver.observe()) ?? [] {
      try? await driver.delete(workload.id)
    }
    for holding in (try? await hold.list()) ?? [] { try? await hold.release(key: holding.key) }
    try await untilHoldAnswers()
    let process = try openPidfd(try await hold.status().pid)
    defer { try? process.close() }
    // Closed first: the client would start another hold.
    hold.close()
    try sendSignal(SIGKILL, to: process)
    _ = try waitReadable(process, milliseconds: 5000)
    await finish()
    try CgroupHierarchies.detect().removeEmptyParents(of: "martlet/\(store)/any")
    try Mount.unmount(runFolder)
    temporary.remove()
  }
}

/// A driver on a host of its own.
protocol DriverFixture: Sendable {
  associatedtype Driver: WorkloadDriver
  var host: HostFixture { get }
  var driver: Driver { get }
  func end() async throws
}

extension DriverFixture {
  var folder: String { host.folder }
  var hold: HoldClient { host.hold }
  var store: StoreID { host.store }

  /// Gives `body` the fixture, which ends with it, whatever happens.
  func use(_ body: (Self) async throws -> Void) async throws {
    let result: Result<Void, any Error>
    do {
      result = .success(try await host.limited { try await body(self) })
    } catch {
      result = .failure(error)
    }
    // A task of its own, as this one may be cancelled.
    try await Task { try await end() }.value
    try result.get()
  }
}

extension WorkloadDriver {
  /// Prepares without ports.
  /// - Returns: where they would be plugged in.
  func prepare(
    _ specification: WorkloadSpecification
  ) async throws(NFVError) -> AttachmentPoint {
    let place = Mutex<AttachmentPoint?>(nil)
    try await prepare(specification) { (point) in place.withLock { $0 = point } }
    guard let point = place.withLock(\.self) else {
      throw NFVError(.failed, "nothing was plugged in")
    }
    return point
  }
}
