internal import Glibc
internal import LinuxSystem
public import NFVModel
internal import SystemPackage

/// The file with the token of TCP's clients: who can read it may do everything.
public enum TokenFile {
  private static let minimumLength = 16

  /// The file's token. A missing file is made, with a random token, for root and the group
  /// `martlet`.
  /// - Throws: `forbidden` where anyone else may read it, `malformed` where it holds no good token.
  public static func token(at path: String) throws(NFVError) -> String {
    do throws(SystemError) {
      do throws(SystemError) {
        try make(path)
      } catch  where error.errno == .fileExists {}
      guard let status = try? Stat(FilePath(path)), status.permissions.rawValue & 0o037 == 0 else {
        throw SystemError(call: "stat", errno: .permissionDenied, subject: path)
      }
      let bytes = try readFile(path, limit: 4096)
      let token = String(decoding: bytes, as: UTF8.self).split { $0.isWhitespace }
      guard token.count == 1, token[0].utf8.count >= minimumLength else {
        throw SystemError(call: "read", errno: .invalidArgument, subject: path)
      }
      return String(token[0])
    } catch  where error.errno == .permissionDenied && error.call == "stat" {
      throw NFVError(
        .forbidden,
        "the token file \(path) can be read or written by others; chmod 640 \(path), and make a "
          + "new token, for this one may be known")
    } catch  where error.errno == .invalidArgument && error.call == "read" {
      throw NFVError(
        .malformed,
        "the token file \(path) holds no single word of \(minimumLength) characters or more; "
          + "remove it and a new one is made")
    } catch {
      throw NFVError(.failed, "the token file \(path) cannot be used", cause: error)
    }
  }

  private static func make(_ path: String) throws(SystemError) {
    let descriptor = FileDescriptor(
      rawValue: try systemCall("open", path) {
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
      })
    defer { try? descriptor.close() }
    var generator = SystemRandomNumberGenerator()
    let digits = Array("0123456789abcdef".utf8)
    let token = (0..<64).map { _ in digits[Int.random(in: 0..<16, using: &generator)] }
    try writeAll(token + [0x0A], to: descriptor, path)
    if let group = martletGroup() {
      try systemCall("fchown", path) { fchown(descriptor.rawValue, uid_t.max, group) }
      try systemCall("fchmod", path) { fchmod(descriptor.rawValue, 0o640) }
    }
  }
}
