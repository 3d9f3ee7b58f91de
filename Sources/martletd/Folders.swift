import Glibc
import LinuxSystem
import NFVAPI
import NFVModel
import SystemPackage

/// The folders of one daemon, which no other daemon uses at the same time.
struct Folders: Sendable {
  let state: String
  let run: String
  /// Held for the process' life.
  private let locks: [FileDescriptor]

  /// Makes and locks them.
  /// - Throws: `conflict` where another daemon has one of them, `failed` where one can't be made.
  init(state: String, run: String) throws(NFVError) {
    self.state = state
    self.run = run
    var locks: [FileDescriptor] = []
    // The group `martlet` may pass through the state's folder: the token is in it.
    for (path, mode) in [(state, mode_t(0o710)), (run, mode_t(0o755))] {
      do throws(SystemError) {
        if try Self.make(path, mode), mode == 0o710, let group = martletGroup() {
          try systemCall("chown", path) { chown(path, uid_t.max, group) }
        }
        let lock = try openFile("\(path)/martletd.lock", .append)
        guard try tryLock(lock) else {
          throw SystemError(call: "flock", errno: .wouldBlock, subject: path)
        }
        locks.append(lock)
      } catch  where error.call == "flock" {
        throw NFVError(
          .conflict,
          "another martletd uses \(path); end it, or name other folders with --state and --run")
      } catch {
        throw NFVError(
          .failed,
          "the folder \(path) cannot be used; are you root? (--state and --run name others)",
          cause: error)
      }
    }
    self.locks = locks
  }

  /// Makes a folder and those above it.
  /// - Returns: whether it was not there.
  private static func make(_ path: String, _ mode: mode_t) throws(SystemError) -> Bool {
    var made = ""
    var isNew = false
    let parts = path.split(separator: "/")
    for (index, part) in parts.enumerated() {
      made += "/\(part)"
      do throws(SystemError) {
        try systemCall("mkdir", made) { mkdir(made, index == parts.count - 1 ? mode : 0o755) }
        isNew = true
      } catch  where error.errno == .fileExists {
        isNew = false
      }
    }
    return isNew
  }
}
