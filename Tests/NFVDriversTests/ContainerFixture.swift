import Glibc
import HoldProtocol
import LinuxSystem
import NFVDrivers
import NFVModel
import SystemPackage
import TestSupport
import Testing

/// A container driver with an image of its own.
final class ContainerFixture: DriverFixture {
  let host: HostFixture
  let driver: ContainerDriver
  let configuration: ContainerDriver.Configuration
  private let imageRoot: String

  init(
    runtime: OCIRuntime = .crun, runtimePath: String = "/usr/bin/crun",
    startLimit: Duration = .seconds(10) * slowness
  ) async throws {
    host = try await HostFixture()
    configuration = ContainerDriver.Configuration(
      store: host.store, runFolder: host.runFolder, logFolder: host.logFolder, runtime: runtime,
      runtimePath: runtimePath, startLimit: startLimit)
    driver = try ContainerDriver(configuration, hold: host.hold)
    imageRoot = try TestImage.root.get()
  }

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
    try await host.leftovers(in: ["run/workloads", "run/runtime", "run/stage", "log"])
  }

  func end() async throws {
    try await host.end(driver) { try? await driver.leaveHost() }
  }
}

/// Gives `body` a fixture that ends with it, whatever happens.
func withContainers(
  runtime: OCIRuntime = .crun, runtimePath: String = "/usr/bin/crun",
  startLimit: Duration = .seconds(10) * slowness, _ body: (ContainerFixture) async throws -> Void
) async throws {
  try await ContainerFixture(
    runtime: runtime, runtimePath: runtimePath, startLimit: startLimit
  ).use(body)
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
