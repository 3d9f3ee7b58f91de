import FoundationEssentials
import Glibc
import LinuxSystem
import NFVBenchmark
import NFVClient
import TestSupport
import Testing

/// An instance, as far as the tests look at it (SOL003 5.5.2.2).
struct Instance: Decodable {
  struct Info: Decodable {
    struct Vnfc: Decodable {
      struct Compute: Decodable { var resourceId: String }
      var id: String
      var computeResource: Compute
    }
    struct Point: Decodable {
      struct Layers: Decodable { var ipOverEthernet: Ethernet }
      struct Ethernet: Decodable {
        struct Addresses: Decodable { var addresses: [String] }
        var macAddress: String
        var ipAddresses: [Addresses]
      }
      var cpProtocolInfo: [Layers]
    }
    var vnfState: String
    var vnfcResourceInfo: [Vnfc]?
    var extCpInfo: [Point]
  }
  var id: String
  var vnfdId: String
  var instantiationState: String
  var instantiatedVnfInfo: Info?

  var workloads: [String] {
    (instantiatedVnfInfo?.vnfcResourceInfo ?? []).map(\.computeResource.resourceId)
  }

  /// MAC and IP addresses of all external points.
  var addresses: Set<String> {
    Set(
      (instantiatedVnfInfo?.extCpInfo ?? []).flatMap(\.cpProtocolInfo).map {
        "\($0.ipOverEthernet.macAddress) "
          + $0.ipOverEthernet.ipAddresses.flatMap(\.addresses).joined(separator: " ")
      })
  }
}

/// A real daemon with its hold on folders of its own, the package `responder` and the network
/// `lan` (10.9.0.0/24), with a client at 10.9.0.100 once a function is there.
final class Platform {
  private let runFolder: TemporaryFolder
  private let stateFolder: TemporaryFolder
  var run: String { runFolder.path }
  var state: String { stateFolder.path }
  private(set) var daemon: Int32 = 0
  private let host: NetworkNamespace
  private let options: [String]
  /// The store's part of every workload's control group, once one was seen.
  private var groups: Set<String> = []
  private var client: ClientNamespace?
  private var others: [ClientNamespace] = []

  /// - Parameters:
  ///   - host: the network namespace that the daemon takes for the host's.
  ///   - options: more of the daemon's.
  init(host: NetworkNamespace? = nil, options: [String] = []) async throws {
    self.options = options
    self.host = try host ?? NetworkNamespace(path: "/proc/self/ns/net")
    runFolder = try TemporaryFolder(in: "/run", mode: 0o711)
    stateFolder = try TemporaryFolder(mode: 0o711)
    try await startDaemon()
    try martlet(["network", "create", "lan", "--subnet", "10.9.0.0/24"])
  }

  var socket: String { "\(run)/martletd.sock" }
  /// The responder's package: MARTLET_TEST_RESPONDER, or made once for all tests of a run.
  static let responder = Result {
    if let given = getenv("MARTLET_TEST_RESPONDER") { return String(cString: given) }
    let path = try TemporaryFolder.ofRun.get().path + "/responder.csar"
    let result = try runProgram(
      Built.program("martlet"),
      arguments: [
        "martlet", "package", "build", "\(Built.project)/examples/responder", "-o", path,
      ])
    guard result.status == 0 else { throw Failed(String(decoding: result.output, as: UTF8.self)) }
    return path
  }

  func startDaemon() async throws {
    let program = Built.program("martletd")
    let arguments =
      [
        "martletd", "--state", "\(state)/state", "--run", run, "--log-level", "error",
      ] + options
    daemon = try host.run { () throws(SystemError) in
      try spawnDetached(
        program, arguments: arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    }
    let client = Client(.unixSocket(socket))
    defer { client.close() }
    try await eventually("the daemon is ready", within: .seconds(20)) {
      (try? await client.send(HTTPRequest(.get, "/readyz")))?.status == 200
    }
  }

  func endDaemon(_ signal: Int32) {
    guard daemon > 0 else { return }
    kill(daemon, signal)
    var status: Int32 = 0
    waitpid(daemon, &status, 0)
    daemon = 0
  }

  /// Runs the command line; gives back its standard output.
  @discardableResult
  func martlet(_ arguments: [String]) throws -> String {
    let errors = "\(state)/errors"
    let result = try runProgram(
      "/bin/sh",
      arguments: [
        "sh", "-c", #"file=$1; export MARTLET_SOCKET=$2; shift 2; exec "$@" 2>"$file""#, "sh",
        errors, socket, Built.program("martlet"),
      ] + arguments)
    guard result.status == 0 else {
      let text = String(decoding: try readFile(errors, limit: 1 << 16), as: UTF8.self)
      throw Failed("martlet \(arguments.joined(separator: " ")): \(text)")
    }
    return String(decoding: result.output, as: UTF8.self)
  }

  /// Asks the daemon itself, without a program in between.
  func ask<Answer: Decodable>(
    _ method: HTTPRequest.Method, _ path: String, _ body: String? = nil
  ) async throws -> Answer {
    let client = Client(.unixSocket(socket))
    defer { client.close() }
    let request =
      body.map { HTTPRequest(method, path, json: Array($0.utf8)) } ?? HTTPRequest(method, path)
    let answer = try await client.send(request)
    guard (200..<300).contains(answer.status) else {
      throw Failed("\(path): \(answer.status) \(String(decoding: answer.body, as: UTF8.self))")
    }
    return try JSONDecoder().decode(Answer.self, from: Data(answer.body))
  }

  func instance(_ name: String) throws -> Instance {
    try JSONDecoder().decode(
      Instance.self, from: Data(try martlet(["get", "vnf", name, "-o", "json"]).utf8))
  }

  /// Runs a responder; the first brings its package and the client with it.
  func runResponder(
    _ name: String, _ connection: String, package archive: String? = nil
  ) async throws {
    let package = client == nil ? try archive ?? Self.responder.get() : "responder"
    try martlet(["vnf", "run", package, "--name", name, "--connect", connection])
    if client == nil {
      client = try client(on: "lan", name: "mtest-lan", address: [10, 9, 0, 100], routes: [])
    }
  }

  private func client(
    on network: String, name: String, address: [UInt8], routes: [ClientNamespace.Route]
  ) throws -> ClientNamespace {
    struct Network: Decodable { var id: String }
    let found = try JSONDecoder().decode(
      Network.self, from: Data(try martlet(["get", "network", network, "-o", "json"]).utf8))
    return try ClientNamespace(
      fabric: "\(run)/fabric/default", network: found.id, name: name, address: address,
      prefixLength: 24, routes: routes)
  }

  /// A client more, on a network that a function is on; it goes with the platform.
  func join(
    _ network: String, name: String, address: [UInt8], routes: [ClientNamespace.Route] = []
  ) throws -> ClientNamespace {
    let joined = try client(on: network, name: name, address: address, routes: routes)
    others.append(joined)
    return joined
  }

  func connects(to last: UInt8, within time: Duration = .seconds(5)) throws -> Bool {
    try #require(client).firstConnection(
      to: [10, 9, 0, last], port: 5001, until: .now + time * slowness) != nil
  }

  /// Begins pings 1 ms apart that end by themselves.
  func beginPings(_ count: Int, to last: UInt8) throws {
    let command = "ping -q -i 0.001 -c \(count) -W 1 10.9.0.\(last) >\(state)/pings 2>&1 &"
    _ = try #require(client).run("/bin/sh", ["-c", command])
  }

  /// Waits for their end; how many found no answer.
  func lostPings(of count: Int) async throws -> Int {
    var numbers: [Int] = []
    try await eventually("\(count) pings have ended", within: .seconds(30)) {
      let text = String(
        decoding: (try? readFile("\(state)/pings", limit: 1 << 16)) ?? [], as: UTF8.self)
      numbers =
        text.split(separator: "\n").first { $0.contains("packets transmitted") }?
        .split(separator: " ").compactMap { Int($0) } ?? []
      return numbers.count >= 2
    }
    #expect(numbers[0] == count)
    return numbers[0] - numbers[1]
  }

  /// The processes of a workload, its first one first.
  func processes(of workload: String) -> [Int32] {
    allProcesses().filter { pid in
      let text = String(
        decoding: (try? readFile("/proc/\(pid)/cgroup", limit: 1 << 16)) ?? [], as: UTF8.self)
      guard let line = text.split(separator: "\n").first(where: { $0.contains(workload) }),
        let start = line.firstRange(of: "/martlet/")
      else { return false }
      // `martlet/STORE`, whatever lies above and below.
      let below = line[start.upperBound...].split(separator: "/")
      groups.insert("martlet/\(below[0])")
      return true
    }
  }

  /// How many control groups of workloads there are.
  func runningGroups() throws -> Int {
    let names = try groups.flatMap { group -> [String] in
      guard let folder = try CgroupHierarchies.detect().group(group).folders.first else {
        return []
      }
      return try listFolder(folder).filter {
        access("\(folder)/\($0)/cgroup.procs", F_OK) == 0
      }
    }
    return names.count
  }

  /// The hold, which outlives daemons.
  var hold: Int32? { ownProcesses().first { commandLine($0).contains("martlet-hold") } }

  /// Removes all functions and networks by the API, ends daemon and hold, and says what is left.
  func end() async throws -> [String] {
    for name in try names("vnf") {
      if try instance(name).instantiationState == "INSTANTIATED" {
        for workload in try instance(name).workloads { _ = processes(of: workload) }
        try martlet(["vnf", "terminate", name])
      }
      try martlet(["vnf", "delete", name])
    }
    client?.remove()
    client = nil
    for other in others { other.remove() }
    others = []
    for name in try names("network") { try martlet(["network", "delete", name]) }
    try await eventually("the fabric is gone", within: .seconds(5)) {
      access("\(run)/fabric/default", F_OK) != 0
    }
    endDaemon(SIGTERM)
    var left: [String] = []
    let hierarchies = try CgroupHierarchies.detect()
    for group in groups {
      left += hierarchies.allFolders(of: group).filter { access($0, F_OK) == 0 }
    }
    left += try listFolder("\(run)/fabric").map { "fabric \($0)" }
    return left
  }

  /// Ends what is still there, however far the test came.
  func cleanUp() {
    endDaemon(SIGKILL)
    client?.remove()
    for other in others { other.remove() }
    let hierarchies = try? CgroupHierarchies.detect()
    for group in groups {
      for folder in hierarchies?.allFolders(of: group) ?? [] {
        for name in (try? listFolder(folder)) ?? [] {
          let members = (try? readFile("\(folder)/\(name)/cgroup.procs", limit: 1 << 16)) ?? []
          for line in String(decoding: members, as: UTF8.self).split(separator: "\n") {
            if let pid = Int32(line) { kill(pid, SIGKILL) }
          }
        }
      }
    }
    for pid in ownProcesses() { kill(pid, SIGKILL) }
    for _ in 0..<200 where !ownProcesses().isEmpty { usleep(5000) }
    let mounts = (try? readFile("/proc/self/mountinfo", limit: 1 << 22)) ?? []
    for line in String(decoding: mounts, as: UTF8.self).split(separator: "\n").reversed() {
      let fields = line.split(separator: " ")
      if fields.count > 4, fields[4].hasPrefix(run) { try? Mount.unmount(String(fields[4])) }
    }
    for group in groups {
      for folder in hierarchies?.allFolders(of: group) ?? [] {
        for name in (try? listFolder(folder)) ?? [] { rmdir("\(folder)/\(name)") }
        rmdir(folder)
      }
      hierarchies?.removeEmptyParents(of: group)
    }
    for folder in [runFolder, stateFolder] { folder.remove() }
  }

  private func names(_ kind: String) throws -> [String] {
    try martlet(["get", kind, "-o", "name"]).split(separator: "\n").map {
      String($0.split(separator: "/").last ?? $0)
    }
  }

  private func allProcesses() -> [Int32] {
    ((try? listFolder("/proc")) ?? []).compactMap { Int32($0) }.sorted()
  }

  private func commandLine(_ pid: Int32) -> String {
    String(decoding: (try? readFile("/proc/\(pid)/cmdline", limit: 1 << 16)) ?? [], as: UTF8.self)
  }

  private func ownProcesses() -> [Int32] {
    allProcesses().filter { $0 != getpid() && commandLine($0).contains(run) }
  }
}
