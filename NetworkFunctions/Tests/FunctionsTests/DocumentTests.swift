import Functions
import Packets
import Testing

@Suite struct DocumentTests {
  static let text = """
    {"identity": {"vnfInstanceName": "a \\"b\\" \\u00e9\\ud83d\\ude00"}, "generation": 7,
     "ports": [{"name": "network", "interface": "eth0", "mac": "02:19:50:92:4c:f7", "mtu": 1400,
       "addresses": ["10.2.0.1/24", "fd00::1:2/64"], "owner": "function",
       "routes": [{"destination": "0.0.0.0/0", "via": "10.2.0.254"}]}],
     "parameters": {"x": [1, -2.5e3, true, null, {}]}}
    """

  @Test func `the platform's document`() throws {
    let configuration = try Configuration(document: Array(Self.text.utf8))
    #expect(configuration.generation == 7)
    try #require(configuration.ports.count == 1)
    let port = configuration.ports[0]
    #expect(port.interface == Array("eth0".utf8))
    #expect(port.mac == MACAddress(0x0219_5092_4cf7))
    #expect(port.mtu == 1400)
    #expect(
      port.addresses == [
        Prefix(IPv4Address(10, 2, 0, 1), length: 24),
        Prefix(IPv6Address(0xfd00_0000_0000_0000, 0x1_0002), length: 64),
      ])
    #expect(
      port.routes == [
        Configuration.Route(
          destination: Prefix(IPv4Address(0, 0, 0, 0), length: 0),
          via: IPv6Address(IPv4Address(10, 2, 0, 254)))
      ])
  }

  @Test(arguments: [
    "", "[]", "{", #"{"generation": -1}"#, #"{"generation": 1} x"#, #"{"generation": 01}"#,
    #"{"ports": [{}]}"#, #"{"ports": [{"mac": "02:19:50:92:4c:f"}]}"#,
    #"{"ports": [{"mac": "02:19:50:92:4c:f7", "addresses": ["10.2.0.256/24"]}]}"#,
    #"{"ports": [{"mac": "02:19:50:92:4c:f7", "addresses": ["10.2.0.1/33"]}]}"#,
    #"{"ports": [{"mac": "02:19:50:92:4c:f7", "addresses": ["fd00:::1/64"]}]}"#,
    #"{"ports": [{"mac": "02:19:50:92:4c:f7", "addresses": ["1:2:3:4:5:6:7/64"]}]}"#,
    #"{"a": "\u12"}"#, #"{"a": tru}"#, #"{"a": 1.}"#, #"{"a" 1}"#,
    String(repeating: #"{"a":"#, count: 40),
  ])
  func `what makes no sense is refused`(text: String) {
    var isRefused = false
    do throws(ConfigurationError) {
      _ = try Configuration(document: Array(text.utf8))
    } catch {
      isRefused = true
    }
    #expect(isRefused)
  }

  @Test func `damaged documents are read without a trap`() {
    var random = SystemRandomNumberGenerator()
    let whole = Array(Self.text.utf8)
    for _ in 0..<20_000 {
      var damaged = whole
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let place = Int.random(in: 0..<damaged.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: damaged[place] = UInt8.random(in: 0...255, using: &random)
        case 1: damaged.remove(at: place)
        case 2: damaged.insert(whole.randomElement(using: &random)!, at: place)
        default: damaged.removeLast(min(damaged.count - 1, place / 4))
        }
      }
      do throws(ConfigurationError) { _ = try Configuration(document: damaged) } catch {}
    }
  }
}

@Suite struct ControlChannelTests {
  static let greeting: [UInt8] = [
    0x4d, 0x61, 0x72, 0x74, 0x6c, 0x65, 0x74, 0xf5, 0x1b, 0x8e, 0xd0, 0xff, 0x93, 0xa6, 0xc1, 0xfe,
  ]
  /// Length 28, id 1, kind 1, the greeting, version 1.
  static let hello: [UInt8] = [28, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0] + greeting + [1, 0]

  static func configure(_ document: String) -> [UInt8] {
    let octets = Array(document.utf8)
    func number(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(value >> (8 * $0) & 255) } }
    return number(14 + octets.count) + [2, 0, 0, 0, 0, 0, 0, 0, 3, 0] + number(octets.count)
      + octets
  }

  @Test func `hello, then the document`() {
    var channel = ControlChannel()
    var function = Responder()
    var surroundings = TestSurroundings()
    func give(_ octets: [UInt8]) -> [UInt8] {
      for octet in octets { channel.receive(octet, for: &function, in: &surroundings) }
      defer { channel.output = [] }
      return channel.output
    }
    // Kind 102: version 1, running, process 0 as nothing is configured.
    let waiting: [UInt8] = [17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 102, 0, 1, 0, 1, 0, 0, 0, 0]
    #expect(give(Self.hello) == waiting)
    #expect(
      give(Self.configure(DocumentTests.text)) == [10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 101, 0])
    let isConfigured = channel.isConfigured
    #expect(isConfigured)
    // A connection that ended within a frame: the next hello is found.
    #expect(give(Array(Self.configure(DocumentTests.text).prefix(50))) == [])
    var running = waiting
    running[17] = 1
    #expect(give(Self.hello) == running)
    let refusal = give(Self.configure("{}"))
    #expect(refusal.count > 14 && refusal[12] == 104)
    let isStillConfigured = channel.isConfigured
    #expect(isStillConfigured)
  }

  /// Whatever comes, no trap, no growing without end; and the next `hello` is answered.
  @Test func `damaged requests are read without a trap`() {
    var numbers = FuzzTests.Numbers(state: 5)
    var channel = ControlChannel()
    var function = Pipeline()
    var surroundings = TestSurroundings()
    let requests = [
      Self.hello, Self.configure(DocumentTests.text), Self.configure("{}"),
      Self.configure(
        #"{"ports": [{"mac": "02:19:50:92:4c:f7"}], "parameters": {"pipeline": "router"}}"#),
      [10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 10, 0],
    ]
    for step in 0..<20_000 {
      var octets = requests.randomElement(using: &numbers)!
      for _ in 0..<Int.random(in: 0...3, using: &numbers) {
        let place = Int.random(in: 0..<octets.count, using: &numbers)
        switch Int.random(in: 0..<3, using: &numbers) {
        case 0: octets[place] = UInt8.random(in: 0...255, using: &numbers)
        case 1 where octets.count > 1: octets.remove(at: place)
        default: octets.insert(UInt8.random(in: 0...255, using: &numbers), at: place)
        }
      }
      for octet in octets { channel.receive(octet, for: &function, in: &surroundings) }
      channel.output = []
      surroundings.emitted = []
      guard step % 100 == 0 else { continue }
      for octet in Self.hello { channel.receive(octet, for: &function, in: &surroundings) }
      #expect(channel.output.count >= 21 && channel.output[channel.output.count - 9] == 102)
      channel.output = []
    }
  }
}

/// Documents that a small machine has no memory for, which would be its end.
@Suite struct LongDocumentTests {
  private static let port = #"{"mac": "02:19:50:92:4c:f7", "addresses": ["10.0.0.1/24"#

  private static func ports(_ rest: String) -> String { #"{"ports": [\#(port)"\#(rest)}]"# }

  /// What a firewall with so much memory says to a document; nil where it takes it over.
  private static func refusal(_ document: String, memory: Int) -> String? {
    var channel = ControlChannel()
    var function = Firewall()
    var surroundings = TestSurroundings()
    surroundings.freeMemory = memory
    func give(_ octets: [UInt8]) -> [UInt8] {
      channel.output = []
      for octet in octets { channel.receive(octet, for: &function, in: &surroundings) }
      return channel.output
    }
    _ = give(ControlChannelTests.hello)
    let answer = give(ControlChannelTests.configure(document))
    // Whatever it was, the next one is answered, and taken over.
    #expect(give(ControlChannelTests.hello)[12] == 102)
    let next = give(
      ControlChannelTests.configure(ports("]") + #", "parameters": {"flows": 1}}"#))
    #expect(next.count == 14 && next[12] == 101)
    guard answer.count > 16, answer[12] == 104, answer[4] == 2 else {
      #expect(answer.count == 14 && answer[12] == 101)
      return nil
    }
    return String(decoding: answer[16...], as: UTF8.self)
  }

  private static func list(_ element: String, _ count: Int) -> String {
    Array(repeating: element, count: count).joined(separator: ",")
  }

  private static let small = 128 << 10
  private static let large = 8 << 20

  @Test func `what is long is refused before memory is taken for it`() {
    let long = Self.ports("]") + #", "x": "\#(String(repeating: "x", count: 200_000))"}"#
    #expect(Self.refusal(long, memory: Self.small) == "there is no memory for so long a document")
    #expect(Self.refusal(long, memory: Self.large) == nil)
    let longer = Self.ports("]") + #", "x": "\#(String(repeating: "x", count: 600_000))"}"#
    #expect(Self.refusal(longer, memory: .max) == "the document is longer than 512 KiB")
  }

  @Test(arguments: [
    (
      ports("," + list(#""::""#, 300) + "]") + "}",
      "ports[0].addresses[117]: there is no memory for so many of these"
    ),
    (
      ports(#"], "routes": [\#(list(#"{"destination": "::", "via": "::"}"#, 400))]"#) + "}",
      "ports[0].routes[117]: there is no memory for so many of these"
    ),
    (
      ports("]")
        + #", "parameters": {"flows": 1, "rules": [\#(list(#"{"action": "drop"}"#, 900))]}}"#,
      "parameters.rules: there is no memory for so many of these"
    ),
  ])
  func `lists take memory as far as there is some`(document: String, text: String) {
    let said = Self.refusal(document, memory: Self.small)
    #expect(said?.replacing(/\[\d+\]:/, with: ":") == text.replacing(/\[\d+\]:/, with: ":"))
    #expect(Self.refusal(document, memory: Self.large) == nil)
  }

  @Test func `strings that are kept are short`() {
    let document =
      #"{"ports": [{"name": "\#(String(repeating: "x", count: 2000))", "mac": 1}]}"#
    #expect(
      Self.refusal(document, memory: .max)
        == "ports[0].name: a string has more than 1024 octets")
  }
}
