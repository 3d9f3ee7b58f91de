import LinuxSystem
import Logging
import NFVModel
import Synchronization
import SystemPackage

/// The host's copies of the store's generation. One that is newer than the store tells that a backup
/// was restored: then what is on the host may be wanted though the store does not know it.
///
/// One copy lies beside the volumes, in the state folder, and one in the run folder with what goes at
/// the next boot: a backup of the whole state folder brings an old copy along. They are written after
/// the commit that raises the generation and before anything that it asks for is done, and are not
/// synchronised: after a loss of power they may be older than the store, never newer.
final class HostGeneration: Sendable {
  private struct Note {
    var generation: Int
    /// A restored store was not accepted; its own commits may have come to any number since.
    var isRestored: Bool
  }

  private let paths: [String]
  /// Open where the store is the host's; with its identity.
  private let copies = Mutex<(files: [FileDescriptor], store: StoreID)?>(nil)

  init(stateFolder: String, runFolder: String) {
    paths = [stateFolder, runFolder].map { "\($0)/generation" }
  }

  deinit {
    copies.withLock { copies in for file in copies?.files ?? [] { try? file.close() } }
  }

  /// Compares the store with the host; where they belong together, notes what follows as well.
  /// - Parameter isAccepted: the operator says that the store is to be taken as it is.
  /// - Returns: whether what the store does not know may be removed.
  func allowsSweeping(
    of stored: StoredState, isAccepted: Bool, _ logger: Logger
  ) throws(NFVError) -> Bool {
    let notes = paths.compactMap { note(at: $0, of: stored.store) }
    let newest = notes.map(\.generation).max() ?? stored.generation
    let isOlder = newest > stored.generation || notes.contains(where: \.isRestored)
    let allows = !isOlder || isAccepted
    if !allows {
      logger.warning(
        """
        the store is older than what runs on this host, as after a restored backup: what it does \
        not know is left alone; start with --accept-store to remove it
        """, metadata: ["store": "\(stored.generation)", "host": "\(newest)"])
    }
    var files: [FileDescriptor] = []
    for path in paths {
      do throws(SystemError) {
        let text =
          allows
          ? Self.text(stored.store, stored.generation)
          : Self.text(stored.store, newest) + " restored"
        try replaceFile(path, Array(text.utf8), mode: 0o600)
        if allows { files.append(try openFile(path, .write)) }
      } catch {
        for file in files { try? file.close() }
        throw NFVError(.failed, "the host's generation \(path) cannot be written", cause: error)
      }
    }
    let opened = files
    if allows { copies.withLock { $0 = (opened, stored.store) } }
    return allows
  }

  /// Notes a generation that is on disk in the store. Takes some microseconds.
  func note(_ generation: Int) {
    copies.withLock { copies in
      guard let copies else { return }
      let bytes = Array(Self.text(copies.store, generation).utf8)
      // One that cannot be written stays older, which hides a backup and invents none.
      for file in copies.files { _ = try? file.writeAll(toAbsoluteOffset: 0, bytes) }
    }
  }

  /// Always of one length, so that a later one can be written over it at once.
  private static func text(_ store: StoreID, _ generation: Int) -> String {
    let digits = String(generation)
    return "\(store) " + String(repeating: "0", count: max(0, 19 - digits.count)) + digits
  }

  /// nil: there is none of this store.
  private func note(at path: String, of store: StoreID) -> Note? {
    guard let bytes = try? readFile(path, limit: 256) else { return nil }
    let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
    guard words.count >= 2, words[0] == store.rawValue, let generation = Int(words[1]) else {
      return nil
    }
    return Note(generation: generation, isRestored: words.last == "restored")
  }
}
