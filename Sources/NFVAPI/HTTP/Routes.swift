internal import HTTPTypes
internal import Hummingbird
internal import Synchronization

/// The routes of the API. It keeps a list of them, so that a known path with another method is
/// answered 405 and not 404.
struct Routes {
  let router = Router(context: CallContext.self)
  private(set) var table: [(path: RouterPath, method: HTTPRequest.Method)] = []

  mutating func on(
    _ method: HTTPRequest.Method, _ path: RouterPath,
    _ handler: @escaping @Sendable (Call, CallContext) async throws -> Reply
  ) {
    router.on(path, method: method) { call, context in try await handler(call, context) }
    table.append((path, method))
  }
}

/// Which methods a path has.
struct KnownPaths: Sendable {
  let table: [(path: RouterPath, method: HTTPRequest.Method)]

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
