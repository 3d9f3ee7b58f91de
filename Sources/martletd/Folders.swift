import Glibc
import LinuxSystem
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
    for (path, mode) in [(state, mode_t(0o700)), (run, mode_t(0o755))] {
      do throws(SystemError) {
        try Self.make(path, mode)
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
  private static func make(_ path: String, _ mode: mode_t) throws(SystemError) {
    var made = ""
    let parts = path.split(separator: "/")
    for (index, part) in parts.enumerated() {
      made += "/\(part)"
      do throws(SystemError) {
        try systemCall("mkdir", made) { mkdir(made, index == parts.count - 1 ? mode : 0o755) }
      } catch  where error.errno == .fileExists {}
    }
  }
}
