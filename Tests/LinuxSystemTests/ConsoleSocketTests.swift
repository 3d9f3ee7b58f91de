import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct ConsoleSocketTests {
  /// The runtime here is this process, which connects to no socket.
  @Test("Who waits for a terminal that does not come keeps nobody from the thread")
  func waitingHoldsNobodyUp() async throws {
    let folder = try TemporaryFolder()
    let console = try ConsoleSocket(folder.path + "/console")
    let (never, end) = try makePipe()
    defer {
      try? never.close()
      try? end.close()
    }
    let start = ContinuousClock.now
    let (master, other) = try await withTaskExecutorPreference(
      BlockingExecutor(threads: 1, name: "one")
    ) {
      async let master = console.receive(unlessEnded: never, milliseconds: 3000)
      // Behind what waits.
      async let other = ContinuousClock.now
      return (try await master, await other)
    }
    #expect(master == nil && other - start < .seconds(2))
    #expect(ContinuousClock.now - start >= .seconds(3))
  }
}
