import HoldProtocol
import LinuxSystem
import NFVModel
import Synchronization
import SystemPackage

/// The uids of containers, and namespaces that were made ahead for some of them: nothing in a pair
/// depends on whose it will be, and to have the hold make one takes 2 ms of a start. A pair takes 190 KB
/// of the kernel.
final class NamespaceStock: Sendable {
  /// A user namespace and a network namespace of it, kept by the hold.
  struct Pair: Sendable {
    var key: String
    var users: UserRange
    var network: HeldNamespace
  }

  private struct State {
    var ranges: UserRanges
    var pairs: [Pair] = []
    var lastNumber = 0
    var isFilling = false
    var isClosed = false
  }

  private static let size = 4

  private let hold: HoldClient
  private let state: Mutex<State>
  /// Of the keys of all stocks of the store, and of this one's.
  private let anyPrefix, prefix: String

  /// - Parameter users: the ranges, of which those of the workloads on the host are taken.
  init(store: StoreID, users: UserRanges, hold: HoldClient) {
    self.hold = hold
    state = Mutex(State(ranges: users))
    anyPrefix = "spare:\(store)/"
    prefix = anyPrefix + IdentifierSource.system.uuid() + "/"
  }

  /// uids of which no others are taken; nil where none are left.
  func takeUsers() -> UserRange? { state.withLock { $0.ranges.take() } }

  func giveBack(_ users: UserRange) { state.withLock { $0.ranges.giveBack(users) } }

  /// A pair, to be kept under a key of the taker's; nil where there is none yet.
  func take() -> Pair? { state.withLock { $0.pairs.popLast() } }

  func giveBack(_ pair: Pair) async {
    try? await hold.release(key: pair.key)
    giveBack(pair.users)
  }

  /// Makes what is missing, in the background.
  func fill() {
    let begins = state.withLock { state in
      guard !state.isFilling, !state.isClosed else { return false }
      state.isFilling = true
      return true
    }
    guard begins else { return }
    Task {
      // Not beside the start that took one.
      try? await Task.sleep(for: .milliseconds(20))
      while let (key, users) = next() {
        // Without one a start makes its own, and says what is wrong.
        guard
          let made = try? await hold.makeNamespaces(key: key, users: users, network: true).value()
        else {
          giveBack(users)
          break
        }
        for (role, descriptor) in made where role != .network { try? descriptor.close() }
        guard let network = made[.network] else {
          giveBack(users)
          break
        }
        let pair = Pair(key: key, users: users, network: HeldNamespace(network))
        let isWanted = state.withLock { state in
          if !state.isClosed { state.pairs.append(pair) }
          return !state.isClosed
        }
        if !isWanted { await giveBack(pair) }
      }
      state.withLock { $0.isFilling = false }
    }
  }

  private func next() -> (key: String, users: UserRange)? {
    state.withLock { state in
      guard !state.isClosed, state.pairs.count < Self.size, let users = state.ranges.take() else {
        return nil
      }
      state.lastNumber += 1
      return ("\(prefix)\(state.lastNumber)", users)
    }
  }

  /// Gives up what an earlier daemon had in stock, and what a hold had that is there no more.
  func adjust() async {
    let before = state.withLock { Set($0.pairs.map(\.key)) }
    guard let keys = try? await hold.list().map(\.key) else { return }
    for key in keys where key.hasPrefix(anyPrefix) && !key.hasPrefix(prefix) {
      try? await hold.release(key: key)
    }
    let gone = before.subtracting(keys)
    state.withLock { state in
      for pair in state.pairs where gone.contains(pair.key) { state.ranges.giveBack(pair.users) }
      state.pairs.removeAll { gone.contains($0.key) }
    }
  }

  /// Gives everything up.
  func close() async {
    let pairs = state.withLock { state in
      state.isClosed = true
      defer { state.pairs = [] }
      return state.pairs
    }
    for pair in pairs { await giveBack(pair) }
  }
}
