internal import Glibc
internal import NIOCore
internal import Synchronization

/// Who is at the other end of a unix socket.
enum PeerCredentials {
  /// `struct ucred` of unix(7), which Glibc's module does not show.
  private struct Credentials: Sendable {
    var process: Int32
    var user: UInt32
    var group: UInt32
  }

  private static let names = Mutex<[uid_t: String]>([:])

  /// The peer's user name, `uid 1000` where it has none; nil where it cannot be told.
  static func user(of channel: any Channel) async -> String? {
    guard let provider = channel as? any SocketOptionProvider else { return nil }
    // SAFETY: SO_PEERCRED (unix(7)) fills three integers of 32 bits, as the type has them.
    let future: EventLoopFuture<Credentials> = provider.unsafeGetSocketOption(
      level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED))
    guard let peer = try? await future.get() else { return nil }
    return names.withLock { names in
      if let name = names[peer.user] { return name }
      let name = name(of: peer.user) ?? "uid \(peer.user)"
      names[peer.user] = name
      return name
    }
  }

  private static func name(of user: uid_t) -> String? {
    var entry = passwd()
    var found: UnsafeMutablePointer<passwd>?
    var buffer = [CChar](repeating: 0, count: 4096)
    // SAFETY: getpwuid_r(3) writes `entry`, whose pointers go into `buffer`; both outlive the use.
    return buffer.withUnsafeMutableBufferPointer { buffer in
      guard getpwuid_r(user, &entry, buffer.baseAddress!, buffer.count, &found) == 0,
        found != nil, let name = entry.pw_name
      else { return nil }
      return String(cString: name)
    }
  }
}
