internal import Glibc
internal import Hummingbird
internal import HummingbirdCore
internal import LinuxSystem
internal import Logging
public import NFVModel
internal import NIOCore
internal import NIOPosix
internal import ServiceLifecycle
internal import SystemPackage

/// Where calls are taken.
public enum ListenAddress: Sendable, Hashable {
  /// A unix socket: for root and the group `martlet`.
  case socket(path: String)
  case loopback(host: String, port: Int)

  /// `127.0.0.1:PORT`, `[::1]:PORT` or `localhost:PORT`.
  /// - Throws: `unprocessable` for another address, `malformed` for none.
  public init(loopback text: String) throws(NFVError) {
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...])
    else {
      throw NFVError(.malformed, "\(text) is no address; write 127.0.0.1:PORT")
    }
    switch text[..<colon] {
    case "127.0.0.1", "localhost": self = .loopback(host: "127.0.0.1", port: Int(port))
    case "[::1]": self = .loopback(host: "::1", port: Int(port))
    default:
      throw NFVError(
        .unprocessable,
        "\(text) is not a loopback address; Martlet listens on other ones when it has TLS and "
          + "users, until then reach it by a tunnel, such as ssh -L")
    }
  }
}

extension ListenAddress {
  /// Why nobody can listen there.
  func problem(_ cause: SystemError) -> NFVError {
    switch self {
    case .socket(let path):
      NFVError(
        .unavailable, "the socket \(path) cannot be made; name another one with --socket",
        cause: cause)
    case .loopback(let host, let port):
      NFVError(
        .unavailable,
        "nothing can listen on port \(port) of \(host); end the program that has it "
          + "(ss -ltnp shows it), or name another port with --listen", cause: cause)
    }
  }
}

/// One thread for all calls: connections and what answers them. With a pool beside the event loop a
/// call changed threads four times before it was asked of the lifecycle.
private final class HTTPThread: TaskExecutor {
  /// As long as the process, like what waits on it.
  static let shared = HTTPThread()

  let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let loop: any EventLoop

  private init() { loop = group.next() }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    loop.execute { [self] in job.runSynchronously(on: asUnownedTaskExecutor()) }
  }
}

/// An HTTP/1.1 server at one address, with bounds on all that a client can make it hold.
struct Listener<Responder: HTTPResponder>: Service where Responder.Context == CallContext {
  private static var maximumConnections: Int { 512 }
  /// A connection on which nothing is asked, or a request that does not come on, is closed.
  private static var idleTimeout: TimeAmount { .seconds(60) }

  let responder: Responder
  let address: ListenAddress
  let logger: Logger

  func run() async throws {
    let bind: BindAddress =
      switch address {
      case .socket(let path): .unixDomainSocket(path: path)
      case .loopback(let host, let port): .hostname(host, port: port)
      }
    var channel = HTTP1Channel.Configuration(idleTimeout: Self.idleTimeout)
    channel.httpDecoder = .init(
      maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 32 << 10, maxHeaderFieldCount: 64)
    let application = Application(
      responder: responder, server: .http1(configuration: channel),
      configuration: ApplicationConfiguration(
        address: bind, serverName: "martletd",
        availableConnectionsDelegate: .maximum(Self.maximumConnections, logger: logger)),
      onServerRunning: { _ in openSocket() },
      eventLoopGroupProvider: .shared(HTTPThread.shared.group), logger: logger)
    defer {
      if case .socket(let path) = address { try? removeFile(path) }
    }
    do {
      try await withTaskExecutorPreference(HTTPThread.shared) { try await application.run() }
    } catch let error as IOError {
      throw address.problem(SystemError(call: "listen", errno: Errno(rawValue: error.errnoCode)))
    }
  }

  /// Lets the group in. Until then only root may connect, whatever the umask: connecting needs the
  /// permission to write.
  private func openSocket() {
    guard case .socket(let path) = address else { return }
    do throws(SystemError) {
      if let group = martletGroup() {
        try systemCall("chown", path) { chown(path, uid_t.max, group) }
        try systemCall("chmod", path) { chmod(path, 0o660) }
      } else {
        try systemCall("chmod", path) { chmod(path, 0o600) }
      }
    } catch {
      logger.error(
        "The socket is not opened for the group martlet", metadata: ["error": "\(error)"])
    }
  }
}

/// The group whose members are the daemon's users; nil where the host has none.
public func martletGroup() -> UInt32? {
  var entry = group()
  var found: UnsafeMutablePointer<group>?
  var buffer = [CChar](repeating: 0, count: 64 << 10)
  // SAFETY: getgrnam_r(3) writes `entry`, whose pointers go into `buffer`; only gr_gid is used.
  return buffer.withUnsafeMutableBufferPointer { buffer in
    guard
      getgrnam_r("martlet", &entry, buffer.baseAddress!, buffer.count, &found) == 0, found != nil
    else { return nil }
    return entry.gr_gid
  }
}
