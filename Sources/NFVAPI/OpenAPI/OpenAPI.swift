internal import HTTPTypes
internal import Hummingbird
internal import NFVModel

/// The document that describes the whole API (OpenAPI 3.0.3), made of the routes themselves.
enum OpenAPI {
  static func document(of routes: [Route], version: String) -> [UInt8] {
    var json = JSONWriter(capacity: 64 << 10)
    json.object {
      $0.field("openapi", "3.0.3")
      $0.object("info") {
        $0.field("title", "Martlet")
        $0.field(
          "description",
          "VNF packages (SOL005, SOL003 10), VNF lifecycle management v2 (SOL003 5), and Martlet's "
            + "own resources under /martlet/v1. Errors are application/problem+json.")
        $0.field("version", version)
        $0.object("license") { $0.field("name", "Apache-2.0") }
      }
      $0.array("security") {
        $0.object { $0.array("token") { _ in } }
        $0.object { _ in }
      }
      let paths = Dictionary(grouping: routes) { path(of: $0) }
      $0.object("paths") {
        for (path, routes) in paths.sorted(by: { $0.key < $1.key }) {
          $0.object(path) { item in
            writeParameters(of: path, to: &item)
            for route in routes.sorted(by: { $0.method.rawValue < $1.method.rawValue }) {
              item.object(route.method.rawValue.lowercased()) { write(route, path, to: &$0) }
            }
          }
        }
      }
      $0.object("components") {
        $0.field("schemas", OpenAPISchemas.all)
        $0.object("securitySchemes") {
          $0.object("token") {
            $0.field("type", "http")
            $0.field("scheme", "bearer")
            $0.field("description", "Over TCP; the unix socket needs none.")
          }
        }
      }
    }
    return json.bytes
  }

  /// The path as OpenAPI writes it, which knows no rest of a path.
  static func path(of route: Route) -> String {
    let path = route.path.description
    return path.hasSuffix("/**") ? path.dropLast(2) + "{artifactPath}" : path
  }

  private static func names(in path: String) -> [String] {
    path.split(separator: "/").filter { $0.hasPrefix("{") }.map {
      String($0.dropFirst().dropLast())
    }
  }

  private static func writeParameters(of path: String, to json: inout JSONWriter) {
    let names = names(in: path)
    guard !names.isEmpty else { return }
    json.objects("parameters", names) {
      $0.field("name", $1)
      $0.field("in", "path")
      $0.field("required", true)
      $0.object("schema") { $0.field("type", "string") }
    }
  }

  private static func write(_ route: Route, _ path: String, to json: inout JSONWriter) {
    let endpoint = route.endpoint
    let words = path.split(separator: "/").map { $0.filter { $0 != "{" && $0 != "}" } }
    json.field("operationId", ([route.method.rawValue.lowercased()] + words).joined(separator: "_"))
    json.field("summary", endpoint.summary)
    json.array("tags") { $0.value(String(words.first ?? "")) }
    if !endpoint.parameters.isEmpty {
      json.objects("parameters", endpoint.parameters) {
        $0.field("name", $1.name)
        $0.field("in", $1.place.rawValue)
        $0.field("description", $1.description)
        $0.field("schema", OpenAPISchemas.parsed($1.schema))
      }
    }
    if let body = endpoint.body {
      json.object("requestBody") {
        $0.field("required", body.isRequired)
        writeContent(body.types, body.schema, isList: false, to: &$0)
      }
    }
    json.object("responses") { responses in
      for answer in endpoint.answers {
        responses.object(String(answer.status)) { response in
          response.field("description", answer.description)
          if !answer.headers.isEmpty {
            response.object("headers") { headers in
              for (name, description) in answer.headers {
                headers.object(name) {
                  $0.field("description", description)
                  $0.object("schema") { $0.field("type", "string") }
                }
              }
            }
          }
          guard !answer.types.isEmpty else { return }
          writeContent(answer.types, answer.schema, isList: answer.isList, to: &response)
        }
      }
      for (status, description) in [("4XX", "Refused."), ("5XX", "Failed.")] {
        responses.object(status) {
          $0.field("description", description)
          writeContent(["application/problem+json"], "ProblemDetails", isList: false, to: &$0)
        }
      }
    }
  }

  private static func writeContent(
    _ types: [String], _ schema: String?, isList: Bool, to json: inout JSONWriter
  ) {
    json.object("content") { content in
      for type in types {
        content.object(type) {
          $0.object("schema") {
            guard let schema else {
              $0.field("type", "string")
              if !type.hasPrefix("text/") { $0.field("format", "binary") }
              return
            }
            let reference = "#/components/schemas/\(schema)"
            guard isList else { return $0.field("$ref", reference) }
            $0.field("type", "array")
            $0.object("items") { $0.field("$ref", reference) }
          }
        }
      }
    }
  }
}
