internal import NFVClient
internal import NFVModel

/// The daemon as commands see it: JSON in and out, names resolved, failures in words.
struct Daemon: Sendable {
  let client: Client

  init(_ client: Client) { self.client = client }

  /// Sends a request; an empty answer is `.null`.
  @discardableResult
  func send(
    _ method: HTTPRequest.Method, _ target: String, _ body: JSONValue? = nil
  ) async throws(Failure) -> (value: JSONValue, headers: Headers) {
    var request = HTTPRequest(method, target)
    if let body { request = HTTPRequest(method, target, json: Array(body.compact.utf8)) }
    let response: HTTPResponse
    do throws(ClientError) {
      response = try await client.send(request)
    } catch {
      throw Failure(error)
    }
    guard !response.body.isEmpty else { return (.null, response.headers) }
    do {
      return (try JSONValue(parsing: response.body), response.headers)
    } catch {
      throw Failure(
        .failed, "the answer to \(method.rawValue) \(target) is not JSON: \(error)",
        advice: "check --socket or --url: another program may listen there")
    }
  }

  func get(_ target: String) async throws(Failure) -> JSONValue {
    try await send(.get, target).value
  }

  func get(_ kind: Kind, _ id: String) async throws(Failure) -> JSONValue {
    try await get("\(kind.collection)/\(percentEncoded(id))")
  }

  /// All pages of a collection.
  func list(_ kind: Kind, filter: String? = nil) async throws(Failure) -> [JSONValue] {
    var query: [String] = []
    if let selector = kind.listSelector { query.append(selector) }
    if let filter { query.append("filter=\(percentEncoded(filter))") }
    var target = kind.collection + (query.isEmpty ? "" : "?" + query.joined(separator: "&"))
    var result: [JSONValue] = []
    while true {
      let (page, headers) = try await send(.get, target)
      result += page.elements
      guard let next = headers["Link"].flatMap(nextPage) else { return result }
      target = next
    }
  }

  /// The identifier that a name, a whole identifier or the unique beginning of one stands for.
  func resolve(_ kind: Kind, _ reference: String) async throws(Failure) -> String {
    if isWholeIdentifier(reference) { return reference }
    let all = try await list(kind)
    return try match(reference, among: all, of: kind)
  }

  /// The resource that a reference stands for.
  func find(_ kind: Kind, _ reference: String) async throws(Failure) -> JSONValue {
    try await get(kind, try await resolve(kind, reference))
  }

  /// The answer of an operation request: the occurrence's identifier out of `Location`.
  func begin(
    _ target: String, _ body: JSONValue, by method: HTTPRequest.Method = .post
  ) async throws(Failure) -> String {
    let headers = try await send(method, target, body).headers
    guard let location = headers["Location"], let id = location.split(separator: "/").last else {
      throw Failure(.failed, "the answer to \(method.rawValue) \(target) has no Location header")
    }
    return String(id)
  }
}

/// The `next` of a Link header (RFC 8288), as path and query.
func nextPage(_ link: String) -> String? {
  for part in link.split(separator: ",") where part.contains("rel=\"next\"") {
    guard let open = part.firstIndex(of: "<"), let close = part.firstIndex(of: ">"), open < close
    else { continue }
    let target = part[part.index(after: open)..<close]
    // An absolute link names this same daemon.
    guard let scheme = target.range(of: "://") else { return String(target) }
    return target[scheme.upperBound...].firstIndex(of: "/").map { String(target[$0...]) }
  }
  return nil
}

extension Substring {
  /// Where `text` stands first.
  fileprivate func range(of text: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
      formIndex(after: &start)
    }
    return nil
  }
}

/// Whether it is a whole UUID, which needs no looking up.
func isWholeIdentifier(_ text: String) -> Bool {
  let parts = text.split(separator: "-", omittingEmptySubsequences: false)
  return parts.map(\.utf8.count) == [8, 4, 4, 4, 12] && parts.joined().allSatisfy(\.isHexDigit)
}

/// Of an identifier's beginning, at least: with one digit a name that is gone meant another thing.
private let leastBeginning = 4

/// Picks by identifier, by name, then by an identifier's beginning of at least four digits.
func match(
  _ reference: String, among all: [JSONValue], of kind: Kind
) throws(Failure) -> String {
  if all.contains(where: { $0["id"].text == reference }) { return reference }
  var found: [JSONValue] = []
  for attribute in kind.nameAttributes where found.isEmpty {
    found = all.filter { $0[attribute].text == reference }
  }
  if found.isEmpty, reference.utf8.count >= leastBeginning {
    found = all.filter { $0["id"].text.hasPrefix(reference) }
  }
  guard let first = found.first else {
    throw Failure(
      .notFound, "there is no \(kind.singular) '\(reference)'",
      advice:
        "`martlet get \(kind.rawValue)` lists what there is; the beginning of an identifier has "
        + "\(leastBeginning) digits at least")
  }
  guard found.count == 1 else {
    let ids = found.prefix(5).map { $0["id"].text }.joined(separator: ", ")
    throw Failure(
      .conflict, "'\(reference)' means \(found.count) \(kind.plural): \(ids)",
      advice: "give the identifier, or more of its beginning")
  }
  return first["id"].text
}
