import Glibc
import Logging
import NFVModel
import TestSupport
import Testing

@testable import martletd

/// Whether a restored backup of the store is noticed, whatever else was restored, lost or done since.
@Suite struct HostGenerationTests {
  private let state: TemporaryFolder
  private let run: TemporaryFolder

  init() throws {
    state = try TemporaryFolder()
    run = try TemporaryFolder()
  }

  /// A start of the daemon.
  private func start(
    _ generation: Int, store: StoreID = "s", isAccepted: Bool = false
  ) throws -> (allows: Bool, noted: HostGeneration) {
    let noted = HostGeneration(stateFolder: state.path, runFolder: run.path)
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let stored = StoredState(store: store, generation: generation)
    return (try noted.allowsSweeping(of: stored, isAccepted: isAccepted, logger), noted)
  }

  @Test func aStoreThatGoesOnIsTheHosts() throws {
    #expect(try start(0).allows)
    let second = try start(0)
    #expect(second.allows)
    second.noted.note(1)
    #expect(try start(1).allows)
    // Killed between a commit and its note.
    #expect(try start(2).allows)
  }

  @Test func aBackupOfTheSameRunIsNoticedUntilItIsAccepted() throws {
    let first = try start(3)
    first.noted.note(4)
    first.noted.note(1000)
    let second = try start(999)
    #expect(!second.allows)
    // What it commits is no sign that it is the host's.
    second.noted.note(2000)
    #expect(try !start(2000).allows)
    #expect(try start(2000, isAccepted: true).allows)
    #expect(try start(2000).allows)
  }

  @Test(arguments: [true, false]) func eitherCopyTells(isRunFolderLost: Bool) throws {
    let first = try start(3)
    first.noted.note(5)
    let lost = isRunFolderLost ? run : state
    #expect(unlink(lost.path + "/generation") == 0)
    #expect(try !start(4).allows)
  }

  @Test func anotherStoreHasNothingHere() throws {
    #expect(try start(9).allows)
    #expect(try start(0, store: "t").allows)
  }
}
