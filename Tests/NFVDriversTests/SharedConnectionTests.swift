import Synchronization
import Testing

@testable import NFVDrivers

private final class Counter: Sendable {
  private let count = Mutex(0)

  func next() -> Int {
    count.withLock { count in
      count += 1
      return count
    }
  }
}

@Suite struct SharedConnectionTests {
  @Test func oneCallerMakesItAndAllHaveIt() async throws {
    let shared = SharedConnection<Int>()
    let made = Counter()
    let all = await withTaskGroup(of: Int?.self) { group in
      for _ in 0..<20 {
        group.addTask {
          try? await shared.get { () async throws(MachineError) in
            try? await Task.sleep(for: .milliseconds(20))
            return made.next()
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(all == Array(repeating: 1, count: 20))
    shared.forget()
    #expect(try await shared.get { () async throws(MachineError) in 7 } == 7)
  }

  @Test func afterAFailureTheNextOneTries() async throws {
    let shared = SharedConnection<Int>()
    let attempts = Counter()
    let all = await withTaskGroup(of: Int?.self) { group in
      for _ in 0..<5 {
        group.addTask {
          try? await shared.get { () async throws(MachineError) in
            let attempt = attempts.next()
            try? await Task.sleep(for: .milliseconds(10))
            if attempt == 1 { throw .closed("first") }
            return attempt
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(all.count { $0 == nil } == 1)
    #expect(all.count { $0 == 2 } == 4)
  }
}
