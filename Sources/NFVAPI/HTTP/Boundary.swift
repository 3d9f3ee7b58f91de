internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import NFVModel

/// What every call goes through: it is admitted, its version is checked, its outcome counted, and
/// whatever is thrown becomes a problem document.
struct Boundary: RouterMiddleware {
  let access: Access
  let paths: KnownPaths
  let traffic: Traffic

  func handle(
    _ call: Call, context: CallContext, next: (Call, CallContext) async throws -> Reply
  ) async throws -> Reply {
    let path = call.uri.path
    let version = StandardInterface.all.first { path.hasPrefix("/\($0.name)/") }?.version
    var reply: Reply
    do {
      var context = context
      context.actor = try await access.admit(call, context)
      if let version { try checkVersion(call, version) }
      reply = try await next(call, context)
    } catch let error as HTTPError where error.status == .notFound {
      reply = unknown(call).response(to: path)
    } catch {
      let problem = Problem(error)
      // What does not exist yet is no failure of ours.
      if problem.status.kind == .serverError, problem.status != .notImplemented {
        context.logger.log(
          // Later it may be answered: after the start, or with fewer others.
          level: problem.status == .serviceUnavailable ? .notice : .error, "A request failed",
          metadata: [
            "method": "\(call.method)", "path": "\(path)", "status": "\(problem.status.code)",
            "error": "\(error)",
          ])
      }
      reply = problem.response(to: path)
      if problem.status == .contentTooLarge, let channel = context.channel {
        reply.closeAfterwards(channel)
      }
    }
    if let version { reply.headers[.version] = version }
    traffic.count(reply.status)
    return reply
  }

  private func checkVersion(_ call: Call, _ version: String) throws(Problem) {
    guard let wanted = call.headers[.version] else { return }
    guard wanted.split(separator: ".").first == "2" else {
      throw Problem(
        .notAcceptable, "version \(wanted) is not served; \(version) is")
    }
  }

  /// No route was found: is it the path or only the method?
  private func unknown(_ call: Call) -> Problem {
    let methods = Set(paths.methods(of: call.uri.path).map(\.rawValue)).sorted()
    guard !methods.isEmpty else {
      return Problem(.notFound, "there is nothing at \(call.uri.path)")
    }
    let allowed = methods.joined(separator: ", ")
    return Problem(
      .methodNotAllowed, "\(call.method.rawValue) is not possible here; \(allowed) is",
      headers: [.allow: allowed])
  }
}

/// An interface of SOL003 and SOL005 v3.3.1, with its version there.
struct StandardInterface: Sendable {
  let name: String
  let version: String

  static let all = [
    StandardInterface(name: "vnflcm", version: "2.0.0"),
    StandardInterface(name: "vnfpkgm", version: "2.1.0"),
  ]
}

extension HTTPField.Name {
  /// SOL013 4.2.2.
  static let version = Self("Version")!
  /// RFC 8288.
  static let link = Self("Link")!
  static let logOffset = Self("Martlet-Log-Offset")!
  static let incarnation = Self("Martlet-Incarnation")!
  static let lastEventID = Self("Last-Event-ID")!
}
