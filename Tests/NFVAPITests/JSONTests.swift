import HTTPTypes
import NFVModel
import Testing

@testable import NFVAPI

@Suite struct JSONTests {
  @Test(arguments: [
    ("null", JSONValue.null), ("true", .bool(true)), (" [ ] ", .array([])), ("{}", .object([:])),
    ("0", .integer(0)), ("-12", .integer(-12)), ("1.5e1", .number(15)),
    ("9223372036854775807", .integer(.max)), ("9223372036854775808", .number(0x1p63)),
    (#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00ü""#, .string("a\"\\/\u{8}\u{c}\n\r\té😀ü")),
    (
      #"{"a":[1,{"b":null}],"c":""}"#,
      .object(["a": .array([.integer(1), .object(["b": .null])]), "c": .string("")])
    ),
  ])
  func reads(text: String, value: JSONValue) throws {
    #expect(try JSONReader.read(Array(text.utf8)) == value)
  }

  @Test(arguments: [
    ("", "it ends where a value is expected at line 1, column 1"),
    ("{\n  \"a\": x\n}", "'x' stands where a value is expected at line 2, column 8"),
    ("{\"a\":1,}", "a member's name in \"\" is expected at line 1, column 8"),
    ("[1 2]", "'2' stands where ',' or ']' is expected at line 1, column 4"),
    ("{\"a\" 1}", "':' is expected"), ("[1] x", "something follows"), ("01", "begins with 0"),
    ("1.", "a digit is expected"), ("-", "a digit"), ("1e999", "too large"),
    ("tru", "a value is expected"), ("\"a", "ends within a string"),
    ("\"\n\"", "control character"),
    (#""\x""#, "after a backslash"), (#""\u12""#, "four hexadecimal digits"),
    (#""\ud800""#, "surrogate"), (#""\ud800\u0041""#, "surrogate"), (#""\udc00""#, "surrogate"),
    (#"{"a":1,"a":2}"#, "the member a stands there twice"),
    (String(repeating: "[", count: 65), "nested deeper than 64"),
  ])
  func refuses(text: String, part: String) {
    let problem = #expect(throws: Problem.self) { try JSONReader.read(Array(text.utf8)) }
    #expect(problem?.detail.contains(part) == true, "\(problem?.detail ?? "")")
    #expect(problem?.status == .badRequest)
  }

  @Test func invalidUTF8IsRefused() {
    #expect(throws: Problem.self) { try JSONReader.read([0x22, 0xFF, 0x22]) }
  }

  @Test func writesWhatItReads() throws {
    let text = #"{"a":[1,-2.5,true,null,"x\"\\\n\u0001é"],"b":{"c":{}}}"#
    var json = JSONWriter()
    json.value(try JSONReader.read(Array(text.utf8)))
    #expect(String(decoding: json.bytes, as: UTF8.self) == text)
  }

  /// Damaged texts neither crash the reader nor get through it changed.
  @Test func fuzz() throws {
    let seed = Array(
      #"{"a":[1,-2.5e3,true,null,"x\"\\\n\u0001\ud83d\ude00é"],"b":{"c":{},"d":[[]]}}"#.utf8)
    var generator = SplitMix(state: 7)
    for _ in 0..<20_000 {
      var bytes = seed
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let index = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: bytes[index] = UInt8.random(in: 0...255, using: &generator)
        case 1: bytes.remove(at: index)
        default: bytes.insert(seed.randomElement(using: &generator)!, at: index)
        }
      }
      guard let value = try? JSONReader.read(bytes) else { continue }
      var json = JSONWriter()
      json.value(value)
      #expect(try JSONReader.read(json.bytes) == value)
    }
  }
}

struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
  }
}
