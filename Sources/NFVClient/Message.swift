/// Header fields in their order; names are compared without regard to case.
public struct Headers: Sendable, Hashable, ExpressibleByDictionaryLiteral {
  public struct Field: Sendable, Hashable {
    public var name: String
    public var value: String
  }

  public var fields: [Field] = []

  public init() {}
  public init(dictionaryLiteral elements: (String, String)...) {
    fields = elements.map { Field(name: $0.0, value: $0.1) }
  }

  /// The first value of that name. Setting replaces all of that name.
  public subscript(name: String) -> String? {
    get { fields.first { Self.equal($0.name, name) }?.value }
    set {
      fields.removeAll { Self.equal($0.name, name) }
      if let newValue { fields.append(Field(name: name, value: newValue)) }
    }
  }

  private static func equal(_ left: String, _ right: String) -> Bool {
    left.utf8.count == right.utf8.count && left.lowercased() == right.lowercased()
  }
}

/// What is asked of the daemon, all but a streamed body.
public struct HTTPRequest: Sendable {
  public enum Method: String, Sendable {
    case get = "GET"
    case post = "POST"
    case put = "PUT"
    case patch = "PATCH"
    case delete = "DELETE"
  }

  public var method: Method
  /// Path and query, percent-encoded.
  public var target: String
  public var headers: Headers
  public var body: [UInt8]?

  public init(_ method: Method, _ target: String, headers: Headers = [:], body: [UInt8]? = nil) {
    self.method = method
    self.target = target
    self.headers = headers
    self.body = body
  }

  /// A request whose body is JSON that stands in `json`.
  public init(_ method: Method, _ target: String, json: [UInt8]) {
    self.init(method, target, headers: ["Content-Type": "application/json"], body: json)
  }
}

/// An answer's status and header fields.
public struct ResponseHead: Sendable, Hashable {
  public var status: Int
  public var headers: Headers
}

/// A whole answer.
public struct HTTPResponse: Sendable, Hashable {
  public var head: ResponseHead
  public var body: [UInt8]

  public var status: Int { head.status }
  public var headers: Headers { head.headers }
}

/// A percent-encoded path or query component (RFC 3986: all but the unreserved is encoded).
public func percentEncoded(_ text: String) -> String {
  var result = ""
  for octet in text.utf8 {
    switch octet {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "_"), UInt8(ascii: "~"):
      result.unicodeScalars.append(Unicode.Scalar(octet))
    default:
      let digits = String(octet, radix: 16, uppercase: true)
      result += digits.utf8.count == 1 ? "%0\(digits)" : "%\(digits)"
    }
  }
  return result
}
