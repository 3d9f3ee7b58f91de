internal import Crypto
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// The version of a representation (RFC 9110, 8.8.3; SOL013 4.2): a hash of its octets.
struct EntityTag: Sendable, Hashable {
  let text: String

  init(_ bytes: [UInt8]) {
    let digits = Array("0123456789abcdef")
    var text = "\""
    for byte in SHA256.hash(data: bytes).prefix(16) {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    self.text = text + "\""
  }

  init(_ body: (inout JSONWriter) -> Void) {
    var json = JSONWriter(capacity: 4096)
    body(&json)
    self.init(json.bytes)
  }

  /// Whether a list of tags names this one; a weak one does where `isWeak` is enough.
  fileprivate func isNamed(by list: String, isWeak: Bool) -> Bool {
    list.split(separator: ",").contains { item in
      var tag = item.drop { $0 == " " || $0 == "\t" }
      while let last = tag.last, last == " " || last == "\t" { tag.removeLast() }
      if tag == "*" { return true }
      if isWeak, tag.hasPrefix("W/") { tag = tag.dropFirst(2) }
      return tag == text
    }
  }
}

extension Call {
  /// The answer with one resource: 304 where the caller has it already.
  func resource(
    headers: HTTPFields = [:], capacity: Int = 4096, _ body: (inout JSONWriter) -> Void
  ) -> Reply {
    var json = JSONWriter(capacity: capacity)
    body(&json)
    let tag = EntityTag(json.bytes)
    var headers = headers
    headers[.eTag] = tag.text
    if let known = self.headers[.ifNoneMatch], tag.isNamed(by: known, isWeak: true) {
      return Reply(status: .notModified, headers: headers)
    }
    headers[.contentType] = "application/json"
    return Reply(
      status: .ok, headers: headers,
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: json.bytes)))
  }

  /// Whether the caller named the version that is to be changed.
  var isConditional: Bool { headers[.ifMatch] != nil }

  /// Refuses to change another version than the caller has seen.
  /// - Parameter body: writes the representation as it is now.
  func checkMatch(_ body: (inout JSONWriter) -> Void) throws(Problem) {
    guard let wanted = headers[.ifMatch] else { return }
    let tag = EntityTag(body)
    guard tag.isNamed(by: wanted, isWeak: false) else {
      throw Problem(
        .preconditionFailed,
        "the resource has changed: its ETag is \(tag.text), not \(wanted); read it again",
        headers: [.eTag: tag.text])
    }
  }
}
