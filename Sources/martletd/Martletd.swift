import ArgumentParser
import LinuxSystem
import Logging
import NFVAPI
import NFVModel

@main
struct Martletd: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "martletd",
    abstract: "The NFV platform's daemon: keeps VNFs as they are wanted and serves the HTTP API.",
    discussion: """
      Without options it needs root, keeps its state in /var/lib/martlet and listens on the unix \
      socket /run/martlet/martletd.sock, which root and the members of the group martlet may use: \
      whoever may use it may do everything root may.

      To look around without root:
        martletd --host simulated --state /tmp/m/state --run /tmp/m/run
        martlet get vnf --socket /tmp/m/run/martletd.sock

      SIGTERM ends the daemon and nothing else: VNFs and their traffic go on, and the next start \
      takes them back.
      """,
    version: Release.version)

  enum HostKind: String, ExpressibleByArgument, CaseIterable {
    case local, simulated
  }

  enum Runtime: String, ExpressibleByArgument, CaseIterable {
    case crun, runc
  }

  enum Level: String, ExpressibleByArgument, CaseIterable {
    case trace, debug, info, notice, warning, error, critical
  }

  @Option(help: "Where the state is kept: the store, packages, images. Made where it is missing.")
  var state = "/var/lib/martlet"

  @Option(
    name: .customLong("run"),
    help: "Where sockets and what lives until the next boot are. Made where it is missing.")
  var runFolder = "/run/martlet"

  @Option(help: "The unix socket of the API. (default: martletd.sock in the --run folder)")
  var socket: String?

  @Option(
    help: ArgumentHelp(
      "Take calls on TCP as well, on loopback only, from whoever has the token.",
      valueName: "127.0.0.1:PORT"))
  var listen: String?

  @Option(
    help: """
      The file with TCP's token; one is made where it is missing. (default: token in the --state \
      folder)
      """)
  var tokenFile: String?

  @Flag(help: "Take calls on TCP without a token: every local user is root then. For tests.")
  var insecureLoopback = false

  @Option(help: "What carries the VNFs: this machine, or nothing but memory (needs no root).")
  var host = HostKind.local

  @Option(help: "The OCI runtime that starts containers.")
  var runtime = Runtime.crun

  @Option(
    help: """
      How many unikernels wait, booted, for each image that a tenant has used: the next is up in some \
      milliseconds. Each takes some 13 MiB beside its own memory.
      """)
  var poolSize = 0

  @Flag(
    inversion: .prefixedNo,
    help: """
      Set the host's cgroup option favordynmods: a start then need not wait for a grace period of \
      13 to 15 ms. It holds for the whole host; on cgroup v2 until the next boot.
      """)
  var favordynmods = true

  @Flag(
    help: """
      Take the store as it is though it is older than what runs on the host, as after a restored \
      backup: what it does not know is ended. Without, that is left alone.
      """)
  var acceptStore = false

  @Option(
    help: ArgumentHelp(
      "The program martlet-hold. (default: the one beside this program)", valueName: "path"))
  var hold: String?

  @Option(help: "The largest package that is taken, in MiB.")
  var packageLimit = 2048

  @Option(help: "What is logged, to standard error: trace, debug, info, notice, warning, error.")
  var logLevel = Level.info

  /// Where the API's unix socket is.
  var socketPath: String { socket ?? "\(runFolder)/martletd.sock" }

  func validate() throws {
    for (name, path) in [("--state", state), ("--run", runFolder)] where !path.hasPrefix("/") {
      throw ValidationError("\(name) is \(path); give an absolute path.")
    }
    guard (1...(1 << 20)).contains(packageLimit) else {
      throw ValidationError("--package-limit is \(packageLimit); it is in MiB, from 1.")
    }
    guard (0...64).contains(poolSize) else {
      throw ValidationError("--pool-size is \(poolSize); it is from 0 to 64.")
    }
    guard socketPath.utf8.count < 108 else {
      throw ValidationError("The socket's path \(socketPath) has more than 107 octets (unix(7)).")
    }
    if insecureLoopback, listen == nil {
      throw ValidationError("--insecure-loopback is about --listen; give that too.")
    }
    if let listen {
      do throws(NFVError) {
        _ = try ListenAddress(loopback: listen)
      } catch {
        throw ValidationError("--listen: \(error.message)")
      }
    }
  }

  func run() async throws {
    // 4.5 of 52 MB when idle.
    ProcessAttributes.limitHeaps(to: 2)
    let level = Logger.Level(rawValue: logLevel.rawValue) ?? .info
    LoggingSystem.bootstrap { label in
      var handler = StreamLogHandler.standardError(label: label)
      handler.logLevel = level
      return handler
    }
    let logger = Logger(label: "martletd")
    do {
      let composition = try await Composition(self, logger: logger)
      try await composition.run()
    } catch let error as NFVError {
      logger.critical("\(error)")
      throw ExitCode.failure
    }
  }
}
