import Glibc
import LinuxSystem
import NFVClient
import TestSupport
import Testing

/// The daemon's program with a host in memory, and the command line on it: for whoever wants to look
/// around, without root and without anything installed.
@Suite(.timeLimit(.minutes(3)))
struct SimulatedTests {
  private let folder: TemporaryFolder
  /// What makes root somebody else, where that one may read the programs.
  private let nobody: [String]

  init() throws {
    folder = try TemporaryFolder(mode: 0o777)
    let other = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    let reads = try? runProgram(
      other[0], arguments: other + ["test", "-x", Built.program("martletd")])
    nobody = geteuid() == 0 && reads?.status == 0 ? other : []
  }

  private var socket: String { "\(folder.path)/run/martletd.sock" }

  @discardableResult
  private func martlet(_ line: String, status: Int32 = 0) throws -> String {
    let result = try runProgram(
      "/usr/bin/env",
      arguments: ["env", "-C", folder.path, "MARTLET_SOCKET=\(socket)"] + nobody
        + [Built.program("martlet")] + line.split(separator: " ").map(String.init))
    let text = String(decoding: result.output, as: UTF8.self)
    #expect(result.status == status, "martlet \(line): \(text)")
    return text
  }

  @Test func everythingCanBeTriedWithoutRoot() async throws {
    let program = nobody + [Built.program("martletd")]
    let daemon = try spawnDetached(
      program[0],
      arguments: program + [
        "--host", "simulated", "--state", "\(folder.path)/state", "--run", "\(folder.path)/run",
        "--log-level", "error",
      ], environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    var isOver = false
    defer {
      if !isOver {
        kill(daemon, SIGKILL)
        _ = try? waitForChild(daemon)
      }
    }
    let client = Client(.unixSocket(socket))
    defer { client.close() }
    try await eventually("the daemon is ready", within: .seconds(20)) {
      (try? await client.send(HTTPRequest(.get, "/readyz")))?.status == 200
    }
    try use()
    kill(daemon, SIGTERM)
    isOver = true
    #expect(try waitForChild(daemon, milliseconds: 20_000) == .exited(code: 0))
    #expect(!fileExists(socket))
  }

  private func use() throws {
    #expect(try martlet("get vnf").contains("No VNF instances"))
    try martlet("network create lan --subnet 10.9.0.0/24")
    try martlet("package init hello")
    try martlet("package lint hello")
    try martlet("package build hello -o hello.csar")
    try martlet("vnf run hello.csar --name h --connect network=lan,10.9.0.7")
    #expect(try martlet("get vnf").contains("network=10.9.0.7"))
    let described = try martlet("describe vnf h")
    #expect(described.contains("RUNNING") && described.contains("Counters of the functions"))
    #expect(try martlet("exec h -- ls /").contains("ls /"))
    try martlet("logs h")
    #expect(try martlet("top --once").contains("network"))
    try martlet("vnf operate h stop")
    #expect(try martlet("get vnf h").contains("STOPPED"))
    try martlet("vnf operate h start")
    try martlet("vnf heal h")
    try martlet("wait vnf h")
    let operations = try martlet("get op -o name").split(separator: "\n")
    #expect(operations.count == 4)
    #expect(try martlet("describe op \(operations[0])").contains("startWorkload"))
    #expect(try martlet("events").contains("HEAL"))
    #expect(try martlet("describe host").contains("container"))
    #expect(try martlet("network delete lan", status: 4).contains("used by h"))
    try martlet("vnf terminate h")
    try martlet("vnf delete h")
    try martlet("package delete hello")
    try martlet("network delete lan")
    #expect(try martlet("get package").contains("No packages"))
  }
}
