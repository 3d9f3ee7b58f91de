import LinuxSystem
import Logging
import NFVModel

/// The host's copy of the store's generation, which rises at each start. It is newer than the store
/// where a backup was restored: then what is on the host may be wanted though the store does not
/// know it. It lies in the run folder, as after a reboot nothing is left to be kept.
struct HostGeneration {
  private let path: String

  init(runFolder: String) { path = "\(runFolder)/generation" }

  /// Compares the store with the host, and notes the store's generation.
  /// - Parameter isAccepted: the operator says that the store is to be taken as it is.
  /// - Returns: whether what the store does not know may be removed.
  func allowsSweeping(
    of stored: StoredState, isAccepted: Bool, _ logger: Logger
  ) throws(NFVError) -> Bool {
    let text = (try? readFile(path, limit: 64)).map { String(decoding: $0, as: UTF8.self) }
    if let noted = text.flatMap({ Int($0) }), noted > stored.generation, !isAccepted {
      logger.warning(
        """
        the store is older than what runs on this host, as after a restored backup: what it does \
        not know is left alone; start with --accept-store to remove it
        """, metadata: ["store": "\(stored.generation)", "host": "\(noted)"])
      return false
    }
    do throws(SystemError) {
      try replaceFile(path, Array(String(stored.generation).utf8), mode: 0o600)
    } catch {
      throw NFVError(.failed, "the host's generation \(path) cannot be written", cause: error)
    }
    return true
  }
}
