internal import HTTPTypes
internal import Hummingbird
internal import NFVModel

/// What a route takes and gives: for the OpenAPI document, and for what is checked before its
/// handler runs.
struct Endpoint: Sendable {
  /// A parameter of the query or a header field.
  struct Parameter: Sendable {
    enum Place: String, Sendable { case query, header }

    var name: String
    var place = Place.query
    var description: String
    /// Its JSON schema.
    var schema = #"{"type":"string"}"#
  }

  /// The body of a request.
  struct Body: Sendable {
    var types: [String]
    /// The name of its schema; nil where it is no JSON.
    var schema: String?
    /// An empty body of JSON is an empty object.
    var isRequired = true
  }

  /// What a call that succeeds gives.
  struct Answer: Sendable {
    var status: Int
    var description: String
    var types: [String] = []
    /// The name of its schema; nil where it is no JSON.
    var schema: String?
    var isList = false
    /// Header fields that it has, with what they say.
    var headers: [(name: String, description: String)] = []
  }

  var summary: String
  var parameters: [Parameter] = []
  var body: Body?
  var answers: [Answer]

  // MARK: Kinds

  private static let json = ["application/json"]
  private static let tag = ("ETag", "Changes with the representation.")
  private static let ifMatch = Parameter(
    name: "If-Match", place: .header,
    description: "The ETag that the resource must have; 412 where it has another.")

  static func list(_ schema: String, _ summary: String, isSelected: Bool = true) -> Endpoint {
    var parameters = [
      Parameter(
        name: "filter", description: "SOL013 5.2, such as (eq,attribute,value)."),
      Parameter(
        name: "nextpage_opaque_marker", description: "As the Link header of the page before has it."
      ),
    ]
    if isSelected {
      parameters += [
        Parameter(
          name: "all_fields", description: "With all complex attributes (SOL013 5.3)."),
        Parameter(
          name: "fields", description: "With these complex attributes, apart by commas."),
        Parameter(
          name: "exclude_fields", description: "Without these complex attributes only."),
        Parameter(
          name: "exclude_default", description: "Without the complex attributes, as by default."),
      ]
    }
    return Endpoint(
      summary: summary, parameters: parameters,
      answers: [
        Answer(
          status: 200, description: "A page of at most \(Listing.pageSize).", types: json,
          schema: schema, isList: true,
          headers: [("Link", "The next page, where there is one (RFC 8288).")])
      ])
  }

  static func get(_ schema: String, _ summary: String, hasTag: Bool = true) -> Endpoint {
    var endpoint = Endpoint(
      summary: summary,
      answers: [
        Answer(
          status: 200, description: "The representation.", types: json, schema: schema,
          headers: hasTag ? [tag] : [])
      ])
    guard hasTag else { return endpoint }
    endpoint.parameters = [
      Parameter(
        name: "If-None-Match", place: .header,
        description: "ETags that the caller has; 304 where one is current.")
    ]
    endpoint.answers.append(Answer(status: 304, description: "Not modified.", headers: [tag]))
    return endpoint
  }

  static func create(_ schema: String, by request: String, _ summary: String) -> Endpoint {
    Endpoint(
      summary: summary, body: Body(types: json, schema: request),
      answers: [
        Answer(
          status: 201, description: "Created.", types: json, schema: schema,
          headers: [("Location", "The new resource.")])
      ])
  }

  /// A merge patch; the answer is what `answer` is, or an operation occurrence's place.
  static func modify(by request: String, _ summary: String, answer: String? = nil) -> Endpoint {
    Endpoint(
      summary: summary, parameters: [ifMatch],
      body: Body(types: ["application/merge-patch+json"] + json, schema: request),
      answers: [
        answer.map {
          Answer(status: 200, description: "Modified.", types: json, schema: $0)
        } ?? Answer(status: 202, description: "Accepted.", headers: [occurrence])
      ])
  }

  static func delete(_ summary: String) -> Endpoint {
    Endpoint(
      summary: summary, parameters: [ifMatch],
      answers: [Answer(status: 204, description: "Deleted.")])
  }

  private static let occurrence = ("Location", "The operation occurrence.")

  /// A task that opens an operation.
  static func task(by request: String, _ summary: String) -> Endpoint {
    Endpoint(
      summary: summary, body: Body(types: json, schema: request),
      answers: [Answer(status: 202, description: "Accepted.", headers: [occurrence])])
  }

  /// A task of the standard that Martlet does not have.
  static func missing(_ name: String) -> Endpoint {
    Endpoint(
      summary: "\(name): not implemented, always 501.",
      body: Body(types: json, schema: "AnyObject", isRequired: false), answers: [])
  }

  /// Something that is no JSON.
  static func content(
    _ types: [String], _ summary: String, parameters: [Parameter] = []
  ) -> Endpoint {
    Endpoint(
      summary: summary, parameters: parameters,
      answers: [Answer(status: 200, description: "The content.", types: types)])
  }

  // MARK: Checks

  /// Refuses a body of another type, and a caller that takes no type that this gives.
  func check(_ call: Call) throws(Problem) {
    if let body, let type = call.headers[.contentType].map(Self.bare), !body.types.contains(type) {
      throw Problem(
        .unsupportedMediaType,
        "the body is \(type); send it as \(body.types.joined(separator: " or "))")
    }
    let given = answers.flatMap(\.types)
    guard !given.isEmpty, let accepted = call.headers[.accept] else { return }
    let problem = given.contains("application/json") ? ["application/problem+json"] : []
    guard (given + problem).contains(where: { Self.accepts(accepted, $0) }) else {
      throw Problem(
        .notAcceptable,
        "\(accepted) cannot be given here; accept \(given.joined(separator: " or "))"
      )
    }
  }

  /// A media type without its parameters.
  private static func bare(_ type: some StringProtocol) -> String {
    String(type.prefix { $0 != ";" }).lowercased().filter { $0 != " " && $0 != "\t" }
  }

  /// Whether an Accept header (RFC 9110, 12.5.1) takes a type.
  static func accepts(_ accept: String, _ type: String) -> Bool {
    accept.split(separator: ",").contains { item in
      let range = bare(item)
      let isRefused = item.split(separator: ";").dropFirst().contains { parameter in
        let text = parameter.filter { $0 != " " }.lowercased()
        return text.hasPrefix("q=") && Double(text.dropFirst(2)) == 0
      }
      guard !isRefused else { return false }
      return range == "*/*" || range == type
        || range.hasSuffix("/*") && type.hasPrefix(range.dropLast())
    }
  }
}
