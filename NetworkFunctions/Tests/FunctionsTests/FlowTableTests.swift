import Functions
import Packets
import Testing

@Suite struct FlowTableTests {
  static func key(_ number: Int) -> FlowKey {
    FlowKey(
      source: IPv6Address(IPv4Address(UInt32(0x0a00_0000 + number / 60000))),
      destination: IPv6Address(IPv4Address(10, 1, 0, 1)), sourcePort: UInt16(number % 60000),
      destinationPort: 80, protocol: .tcp)
  }

  static func table(_ capacity: Int) -> FlowTable<Int> {
    FlowTable(capacity: capacity, secret: Secret(7, 7), idleLimits: (10, 100, 50))
  }

  @Test func aFlowIsFoundByItsPacketsAndTheirAnswers() {
    var table = Self.table(4)
    let key = Self.key(1)
    let index = table.add(key, answers: key.reversed, 5, .established, at: 0) { _, _, _ in }
    #expect(table.find(key)?.index == index)
    #expect(table.find(key)?.isAnswer == false)
    #expect(table.find(key.reversed)?.isAnswer == true)
    #expect(table.find(Self.key(2)) == nil)
    #expect(index.map { table[$0] } == 5)
  }

  @Test func anEchosAnswerHasItsIdentifier() {
    let echo = FlowKey(
      source: IPv6Address(1, 1), destination: IPv6Address(1, 2), sourcePort: 77,
      destinationPort: 0, protocol: .icmpv6)
    #expect(echo.reversed.sourcePort == 77)
    #expect(echo.reversed.reversed == echo)
  }

  @Test func idleFlowsAreForgottenByTheirLifetime() {
    var table = Self.table(8)
    let lifetimes: [FlowLifetime] = [.transitory, .established, .datagrams]
    for (number, lifetime) in lifetimes.enumerated() {
      let key = Self.key(number)
      _ = table.add(key, answers: key.reversed, number, lifetime, at: 0) { _, _, _ in }
    }
    var gone: [Int] = []
    for now in [9, 10, 49, 50, 99, 100] as [UInt32] {
      table.expire(at: now) { _, _, value in gone.append(value * 1000 + Int(now)) }
    }
    #expect(gone == [10, 2050, 1100])
    #expect(table.count == 0)
    #expect(table.find(Self.key(0)) == nil)
  }

  @Test func useKeepsAFlow() throws {
    var table = Self.table(2)
    let key = Self.key(1)
    let added = table.add(key, answers: key.reversed, 1, .transitory, at: 0) { _, _, _ in }
    let index = try #require(added)
    table.use(index, .established, at: 9)
    table.expire(at: 108) { _, _, _ in Issue.record("it was used") }
    #expect(table.count == 1)
    table.expire(at: 109) { _, _, _ in }
    #expect(table.count == 0)
  }

  @Test func aFullTableGivesUpWhatIsNotEstablished() {
    var table = Self.table(3)
    var gone: [Int] = []
    func add(_ number: Int, _ lifetime: FlowLifetime) -> Bool {
      let key = Self.key(number)
      return table.add(key, answers: key.reversed, number, lifetime, at: UInt32(number)) {
        gone.append($2)
      } != nil
    }
    #expect(add(0, .established))
    #expect(add(1, .transitory))
    #expect(add(2, .transitory))
    #expect(add(3, .established))
    #expect(gone == [1])
    #expect(add(4, .established))
    #expect(gone == [1, 2])
    #expect(!add(5, .established))
    #expect(table.find(Self.key(0)) != nil)
  }

  @Test func whatOneSideAloneSaidMakesRoomTheOldestFirst() {
    var table = Self.table(3)
    var gone: [Int] = []
    func add(_ number: Int, _ lifetime: FlowLifetime) -> Bool {
      let key = Self.key(number)
      return table.add(key, answers: key.reversed, number, lifetime, at: UInt32(number)) {
        gone.append($2)
      } != nil
    }
    #expect(add(0, .unanswered))
    #expect(add(1, .transitory))
    #expect(add(2, .unanswered))
    #expect(add(3, .datagrams))
    #expect(add(4, .datagrams))
    #expect(add(5, .datagrams))
    #expect(gone == [0, 1, 2])
    // An answered datagram keeps its place.
    #expect(!add(6, .unanswered))
    // It lives as long as one that is answered.
    var other = Self.table(1)
    let key = Self.key(1)
    _ = other.add(key, answers: key.reversed, 1, .unanswered, at: 0) { _, _, _ in }
    other.expire(at: 49) { _, _, _ in Issue.record("too early") }
    other.expire(at: 50) { _, _, _ in }
    #expect(other.count == 0)
  }

  /// Against a dictionary, with every operation in random order.
  @Test func itAgreesWithADictionary() {
    var generator = SystemRandomNumberGenerator()
    var table = Self.table(500)
    var known: [FlowKey: Int] = [:]
    for step in 0..<50_000 {
      let key = Self.key(Int.random(in: 0..<700, using: &generator))
      let found = table.find(key)
      #expect(found.map { table[$0.index] } == known[key])
      if let found {
        #expect(!found.isAnswer)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0:
          table.remove(found.index)
          known[key] = nil
        case 1: table.use(found.index, .datagrams, at: UInt32(step))
        default: table.use(found.index, .established, at: UInt32(step))
        }
      } else if known.count < 500 {
        let added = table.add(key, answers: key.reversed, step, .transitory, at: UInt32(step)) {
          known[$0] = nil
          #expect($2 >= 0)
        }
        #expect(added != nil)
        known[key] = step
      }
      if step % 100 == 0 {
        table.expire(at: UInt32(step)) { gone, _, _ in known[gone] = nil }
      }
      #expect(table.count == known.count)
    }
  }
}
