internal import HTTPTypes
internal import Hummingbird

/// A route as it is known: for the answers to other methods, and for the OpenAPI document.
struct Route: Sendable {
  var method: HTTPRequest.Method
  var path: RouterPath
  var endpoint: Endpoint
}

/// The routes of the API, each with what it takes and gives. There is no route without.
struct Routes {
  let router = Router(context: CallContext.self)
  private(set) var table: [Route] = []
  /// What describes all of them.
  var document: [UInt8] = []

  mutating func on(
    _ method: HTTPRequest.Method, _ path: RouterPath, _ endpoint: Endpoint,
    _ handler: @escaping @Sendable (Call, CallContext) async throws -> Reply
  ) {
    router.on(path, method: method) { call, context in
      try endpoint.check(call)
      return try await handler(call, context)
    }
    table.append(Route(method: method, path: path, endpoint: endpoint))
  }
}

/// Which methods a path has.
struct KnownPaths: Sendable {
  let table: [Route]

  func methods(of path: String) -> [HTTPRequest.Method] {
    let parts = path.split(separator: "/")
    return table.filter { matches($0.path, parts) }.map(\.method)
  }

  private func matches(_ path: RouterPath, _ parts: [Substring]) -> Bool {
    for (index, element) in path.components.enumerated() {
      if element.description == "**" { return parts.count > index }
      guard index < parts.count, element ~= parts[index] else { return false }
    }
    return path.components.count == parts.count
  }
}
