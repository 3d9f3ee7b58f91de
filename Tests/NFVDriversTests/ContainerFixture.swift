import Glibc
import HoldProtocol
import LinuxSystem
import NFVDrivers
import NFVModel
import SystemPackage
import TestSupport
import Testing

/// A container driver with a hold, folders and an image of its own; `end` removes them all.
final class ContainerFixture: Sendable {
  private let temporary: TemporaryFolder
  let hold: HoldClient
  let driver: ContainerDriver
  let configuration: ContainerDriver.Configuration
  let store: StoreID
  private let imageRoot: String

  init(
    runtime: OCIRuntime = .crun, runtimePath: String = "/usr/bin/crun",
    startLimit: Duration = .seconds(10)
  ) async throws {
    temporary = try TemporaryFolder(mode: 0o711)
    let folder = temporary.path
    store = StoreID("test-\(folder.suffix(6))")
    try Mount.makeDirectory(folder + "/run", mode: 0o711)
    try Mount.tmpfs(at: folder + "/run", size: 64 << 20, mode: 0o711)
    hold = try await HoldClient.connect(
      socket: folder + "/hold.socket", program: Built.program("martlet-hold"))
    configuration = ContainerDriver.Configuration(
      store: store, runFolder: folder + "/run", logFolder: folder + "/log", runtime: runtime,
      runtimePath: runtimePath, startLimit: startLimit)
    driver = try ContainerDriver(configuration, hold: hold)
    imageRoot = try TestImage.root.get()
  }

  var folder: String { temporary.path }

  var image: PreparedImage {
    PreparedImage(
      digest: "sha256:test", root: imageRoot, configuration: ImageConfiguration(), size: 0)
  }

  func specification(
    _ name: String, _ command: [String], incarnation: Int = 1, memory: UInt64 = 64 << 20,
    writable: UInt64 = 8 << 20, capabilities: [String] = [],
    files: [WorkloadSpecification.File] = []
  ) -> WorkloadSpecification {
    WorkloadSpecification(
      id: WorkloadID(
        store: store, tenant: .default, vnfc: VnfcID(name), incarnation: incarnation),
      technology: .container, hostName: name, image: image, command: command,
      environment: ["GIVEN=yes"], cpuMillicores: 500, memoryBytes: memory,
      writableLayerBytes: writable, maximumProcesses: 64, linuxCapabilities: capabilities,
      document: Array(#"{"generation":1}"#.utf8), files: files)
  }

  /// Prepares and starts `script` under the image's shell.
  func run(
    _ name: String, _ script: String, memory: UInt64 = 64 << 20, writable: UInt64 = 8 << 20,
    capabilities: [String] = [], files: [WorkloadSpecification.File] = []
  ) async throws -> WorkloadID {
    let specification = specification(
      name, ["/bin/sh", "-c", script], memory: memory, writable: writable,
      capabilities: capabilities, files: files)
    _ = try await driver.prepare(specification)
    try await driver.start(specification)
    return specification.id
  }

  /// How it ended, and all that it wrote.
  func finish(_ id: WorkloadID) async throws -> (status: NFVModel.ExitStatus, output: String) {
    _ = try await hold.wait(key: "workload:\(id)").value()
    let observed = try await driver.observe().first { $0.id == id }
    guard case .exited(let status)? = observed?.phase else {
      throw NFVError(.failed, "\(id) did not exit: \(String(describing: observed))")
    }
    let log = try await driver.log(of: id, from: 0, limit: 1 << 20)
    return (status, String(decoding: log.bytes, as: UTF8.self))
  }

  /// Runs `script` to its end and removes it.
  func output(
    _ script: String, memory: UInt64 = 64 << 20, writable: UInt64 = 8 << 20,
    capabilities: [String] = [], files: [WorkloadSpecification.File] = []
  ) async throws -> (status: NFVModel.ExitStatus, output: String) {
    let id = try await run(
      "script", script, memory: memory, writable: writable, capabilities: capabilities,
      files: files)
    let result = try await finish(id)
    try await driver.delete(id)
    return result
  }

  /// What is left on the host of this fixture's workloads.
  func leftovers() async throws -> [String] {
    var left: [String] = []
    for holding in try await hold.list() { left.append("holding \(holding.key)") }
    for name in ["run/workloads", "run/runtime", "run/stage", "log"] {
      left += try listFolder("\(folder)/\(name)").map { "\(name)/\($0)" }
    }
    let hierarchies = try CgroupHierarchies.detect()
    for group in hierarchies.allFolders(of: "martlet/\(store)") {
      if access(group, F_OK) == 0 { left.append(group) }
    }
    return left
  }

  func end() async throws {
    for workload in (try? await driver.observe()) ?? [] {
      try? await driver.delete(workload.id)
    }
    try? driver.removeSecurityProfile()
    for holding in (try? await hold.list()) ?? [] { try? await hold.release(key: holding.key) }
    let process = try openPidfd(try await hold.status().pid)
    defer { try? process.close() }
    // Closed first: the client would start another hold.
    hold.close()
    try sendSignal(SIGKILL, to: process)
    _ = try waitReadable(process, milliseconds: 5000)
    try Mount.unmount(folder + "/run")
    temporary.remove()
  }
}

/// Gives `body` a fixture that ends with it, whatever happens.
func withContainers(
  runtime: OCIRuntime = .crun, runtimePath: String = "/usr/bin/crun",
  startLimit: Duration = .seconds(10), _ body: (ContainerFixture) async throws -> Void
) async throws {
  let fixture = try await ContainerFixture(
    runtime: runtime, runtimePath: runtimePath, startLimit: startLimit)
  let result: Result<Void, any Error>
  do {
    result = .success(try await body(fixture))
  } catch {
    result = .failure(error)
  }
  try await fixture.end()
  try result.get()
}

/// A root file system of the host's own programs and their libraries. As images are, it is one for
/// all that runs.
enum TestImage {
  private static let programs = [
    "/bin/sh", "/bin/sleep", "/bin/cat", "/bin/ls", "/bin/mount", "/bin/touch", "/bin/chown",
    "/bin/stty", "/usr/bin/id", "/usr/bin/unshare", "/usr/bin/head", "/usr/bin/tail",
    "/usr/sbin/nft",
  ]

  static let root = Result { try build() }

  private static func build() throws -> String {
    let root = try TemporaryFolder.ofRun.get().path + "/image"
    try Mount.makeDirectory(root, mode: 0o755)
    for folder in ["proc", "sys", "dev", "run", "tmp", "etc", "root"] {
      try Mount.makeDirectory("\(root)/\(folder)", mode: 0o755)
    }
    try copyPrograms(programs.filter { access($0, X_OK) == 0 }, into: root)
    return root
  }
}
