internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import NFVBenchmark
internal import NFVModel
internal import SystemPackage

/// Starts a function under a peer and measures it as Martlet's own.
final class PeerRunner: Sendable {
  let peer: Peer
  private let commands: PeerCommands
  private let image: String
  private let program: String
  /// The peer's commands are run by one thread, which is in the peer's namespaces.
  private let thread: BlockingExecutor
  private let probes = BlockingExecutor(threads: 2, name: "martlet-probe")
  private let namespace: NetworkNamespace
  private let bridge: String
  /// The first process of the peer's process namespace; 0 where it has none of its own.
  private let first: Int32

  /// The function's image in the forms that peers take.
  struct Image: Sendable {
    var archive, layer, root: String
    var entrypoint: [String]

    /// Unpacks an OCI archive of one layer.
    init(archive: String, in folder: String) throws {
      func unpack(_ file: String, into name: String) throws -> String {
        let target = "\(folder)/\(name)"
        try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
        let result = try runProgram("/usr/bin/tar", arguments: ["tar", "-xf", file, "-C", target])
        guard result.status == 0 else {
          throw Failure(.failed, "tar: \(String(decoding: result.output, as: UTF8.self))")
        }
        return target
      }
      let layout = try unpack(archive, into: "layout")
      func blob(_ descriptor: JSONValue) -> String {
        "\(layout)/blobs/\(descriptor["digest"].text.split(separator: ":").joined(separator: "/"))"
      }
      func read(_ path: String) throws -> JSONValue {
        try JSONValue(parsing: Array(try Data(contentsOf: URL(filePath: path))))
      }
      let index = try read("\(layout)/index.json")
      let manifest = try read(blob(index["manifests"].elements.first ?? .null))
      let configuration = try read(blob(manifest["config"]))["config"]
      self.archive = archive
      layer = blob(manifest["layers"].elements.first ?? .null)
      root = try unpack(layer, into: "root")
      entrypoint = (configuration["Entrypoint"].elements + configuration["Cmd"].elements)
        .map(\.text)
    }
  }

  /// Where a program is on this host.
  static func find(_ program: String) -> String? {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
      .map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
  }

  /// Prepares a peer and starts one container under it, to see that it works.
  /// - Throws: a `Failure` that says why it does not.
  static func prepared(
    _ peer: Peer, _ image: Image, label: String, folder: String
  ) async throws -> PeerRunner {
    guard let program = find(peer.program) else {
      throw Failure(.notFound, "\(peer.program) is not installed")
    }
    // Podman's default, crun, refuses some hosts' cgroups.
    let runtimes = peer == .podman ? ["crun", "runc"].filter { find($0) != nil } : [""]
    var reason = Failure(.notFound, "neither crun nor runc is installed")
    for runtime in runtimes {
      let commands = PeerCommands(
        peer: peer, label: label, folder: "\(folder)/\(peer.rawValue)\(runtime)",
        archive: image.archive, layer: image.layer, root: image.root,
        entrypoint: image.entrypoint, runtime: runtime)
      let runner = try await PeerRunner(commands, program)
      do {
        _ = try await runner.instantiationTimes(2)
        return runner
      } catch {
        await runner.end()
        if error is CancellationError { throw error }
        reason = error as? Failure ?? Failure(.failed, "\(error)")
      }
    }
    throw reason
  }

  private init(_ commands: PeerCommands, _ program: String) async throws {
    let thread = BlockingExecutor(threads: 1, name: "martlet-peer")
    try FileManager.default.createDirectory(
      atPath: commands.folder, withIntermediateDirectories: true)
    try commands.configuration.write(
      toFile: "\(commands.folder)/configuration", atomically: false, encoding: .utf8)
    let (first, namespace, image, bridge) = try await Self.on(thread) {
      let (first, namespace) =
        commands.peer.isPrivate
        ? try Self.enterOwnNamespaces()
        : (0, try NetworkNamespace(path: "/proc/thread-self/ns/net"))
      do {
        var image = commands.label
        var bridge = commands.bridge
        for command in commands.preparation {
          let output = try Self.run(program, command)
          // "Loaded image: NAME"
          if command.contains("load"), let name = output.split(separator: " ").last {
            image = String(name.filter { !$0.isWhitespace })
          }
        }
        if let inspection = commands.inspection {
          let found = try JSONValue(parsing: Array(try Self.run(program, inspection).utf8))
          bridge = found.elements.first?["network_interface"].text ?? bridge
        }
        if commands.peer.isPrivate { try Self.makeBridge(bridge, commands.peer.subnet) }
        return (first, namespace, image, bridge)
      } catch {
        Self.leave(first)
        throw error
      }
    }
    self.thread = thread
    self.commands = commands
    self.program = program
    self.image = image
    self.namespace = namespace
    self.bridge = bridge
    self.first = first
    peer = commands.peer
  }

  /// Ends what the peer left, and its namespaces with all that is in them.
  func end() async {
    let (commands, program, first) = (commands, program, first)
    try? await Self.on(thread) {
      for command in commands.ending { _ = try? Self.run(program, command) }
      Self.leave(first)
    }
  }

  // MARK: On the peer's thread

  private static func on<Value: Sendable>(
    _ thread: BlockingExecutor, _ body: @escaping @Sendable () throws -> Value
  ) async throws -> Value {
    try await withTaskExecutorPreference(thread) { try await Self.call(body) }
  }

  /// Runs on the preferred executor, as whatever is nonisolated and asynchronous does.
  private static func call<Value: Sendable>(
    _ body: @Sendable () throws -> Value
  ) async throws -> Value { try body() }

  /// Moves this thread into namespaces of its own.
  /// - Returns: the first process there; with it everything in them ends. It ends with this thread.
  private static func enterOwnNamespaces() throws -> (Int32, NetworkNamespace) {
    try unshareNamespaces([.newMount, .newNetwork, .newPID])
    // While /proc is the host's yet.
    let namespace = try NetworkNamespace(path: "/proc/thread-self/ns/net")
    let first = try spawnDetached(
      "/usr/bin/setpriv",
      arguments: ["setpriv", "--pdeathsig", "KILL", "/usr/bin/sleep", "infinity"],
      environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    do {
      _ = try run("/bin/sh", ["sh", "-c", PeerNamespaces.setup])
    } catch {
      leave(first)
      throw error
    }
    return (first, namespace)
  }

  private static func leave(_ first: Int32) {
    guard first > 0 else { return }
    kill(first, SIGKILL)
    var status: Int32 = 0
    waitpid(first, &status, 0)
  }

  /// The peer's bridge, made before it is wanted so that its MAC address stays.
  private static func makeBridge(_ name: String, _ subnet: [UInt8]) throws {
    let route = try NetlinkSocket(.route)
    try route.request([
      .setLinkUp(named: "lo"),
      .addBridge(name: name, mac: [0x02, 0x4D, 0x42] + subnet.prefix(3), mtu: 1500),
    ])
    let index = try route.index(ofLinkNamed: name)
    try route.request([
      .setLink(index, isUp: true),
      .addAddress(subnet.prefix(3) + [1], prefixLength: 24, link: index),
    ])
  }

  @discardableResult
  private static func run(_ program: String, _ command: [String]) throws -> String {
    let own = command.first.flatMap { program.hasSuffix("/\($0)") ? program : find($0) } ?? program
    let result = try runProgram(own, arguments: command, timeout: .seconds(60))
    let output = String(decoding: result.output, as: UTF8.self)
    guard result.status == 0 else {
      let words = output.split(separator: "\n").last { !$0.isEmpty } ?? ""
      let name = command.first ?? program
      throw Failure(
        .failed, words.hasPrefix(name) ? String(words) : "\(name) failed: \(words)")
    }
    return output
  }

  // MARK: Measuring

  /// Starts one container, measures it from outside, and removes it.
  /// - Parameter last: the last octet of its address.
  func instantiationTimes(_ last: UInt8) async throws -> Functions.InstantiationTimes {
    let address = peer.subnet.prefix(3) + [last]
    let name = "\(commands.label)-\(last)"
    let watch = Watch(.seconds(20))
    let processes = try ProcessEvents()
    let group = peer.isPrivate ? commands.label : peer.rawValue
    let (program, image, commands) = (program, image, commands)
    let (namespace, bridge, source) = (namespace, bridge, peer.subnet.prefix(3) + [1])
    let start = commands.start(
      name, address: address.map(String.init).joined(separator: "."), image: image)
    do {
      let times = try await withTaskCancellationHandler {
        try await withThrowingTaskGroup(
          of: (String, ContinuousClock.Instant?).self
        ) { measured in
          defer { watch.end() }
          measured.addTask(executorPreference: probes) {
            let rst = try SynProbe.firstAnswer(
              in: namespace, interface: bridge, source: Array(source), to: Array(address),
              port: SynProbe.closedPort, watch: watch)
            return ("rst", rst)
          }
          measured.addTask(executorPreference: probes) {
            let moment = try processes.firstExecution(watch) { pid in
              ProcessEvents.isFirstOfContainer(pid, inGroup: group)
            }
            return ("running", moment)
          }
          try await Task.sleep(for: .milliseconds(20))
          let began = ContinuousClock.now
          measured.addTask(executorPreference: thread) {
            _ = try Self.run(program, start)
            return ("returned", .now)
          }
          var times: [String: Double] = [:]
          for try await (name, moment) in measured {
            guard let moment else { continue }
            times[name] = (moment - began).milliseconds
            // Asked from the first answer on: before it an address that is not there would be
            // looked for once a second.
            if name == "rst" {
              measured.addTask(executorPreference: self.probes) {
                ("ready", try Self.accepts(Array(address), in: namespace, watch))
              }
            }
          }
          return times
        }
      } onCancel: {
        watch.end()
      }
      _ = try await Self.on(thread) { try Self.run(program, commands.removal(name)) }
      guard let rst = times["rst"], let running = times["running"], let ready = times["ready"]
      else {
        let missing = ["rst", "running", "ready"].filter { times[$0] == nil }
        throw Failure(
          .failed, "its container did not answer within 20 s (\(missing.joined(separator: ", ")))")
      }
      return .init(rst: rst, running: running, ready: ready, phases: [:])
    } catch {
      try? await Self.on(thread) { _ = try? Self.run(program, commands.removal(name)) }
      throw error
    }
  }

  private static func accepts(
    _ address: [UInt8], in namespace: NetworkNamespace, _ watch: Watch
  ) throws(SystemError) -> ContinuousClock.Instant? {
    try namespace.run { () throws(SystemError) in
      while !watch.isOver {
        if try acceptsConnection(address, port: 5001, timeout: .milliseconds(20)) {
          return ContinuousClock.now
        }
        pause(microseconds: 500)
      }
      return nil
    }
  }
}
