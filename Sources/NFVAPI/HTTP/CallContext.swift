internal import Hummingbird
internal import Logging
internal import NFVModel
internal import NIOCore

/// What is known of a call beside its request.
struct CallContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  /// nil where a call comes over no network, as in tests.
  let channel: (any Channel)?
  /// Who asks; set where the call is admitted.
  var actor = "unknown"
  /// There is one tenant until identities bring others.
  var tenant: TenantID { .default }

  init(source: ApplicationRequestContextSource) {
    coreContext = .init(source: source)
    channel = source.channel
  }

  /// A call over no network.
  init(logger: Logger) {
    coreContext = .init(source: Unconnected(logger: logger))
    channel = nil
  }

  private struct Unconnected: RequestContextSource {
    let logger: Logger
  }

  /// The path's part of that name.
  func parameter(_ name: String) -> String {
    parameters.get(name)?.removingPercentEncoding ?? ""
  }

  func identifier<Subject>(
    _ name: String, _: Identifier<Subject>.Type = Identifier<Subject>.self
  ) -> Identifier<Subject> {
    Identifier(parameter(name))
  }
}

extension String {
  /// RFC 3986, 2.1; nil where it is not well formed or not UTF-8.
  var removingPercentEncoding: String? {
    guard utf8.contains(0x25) else { return self }
    var octets: [UInt8] = []
    var rest = utf8[...]
    while let byte = rest.popFirst() {
      guard byte == 0x25 else {
        octets.append(byte)
        continue
      }
      guard rest.count >= 2, let code = UInt8(String(Substring(rest.prefix(2))), radix: 16)
      else { return nil }
      octets.append(code)
      rest = rest.dropFirst(2)
    }
    return String(validating: octets, as: UTF8.self)
  }
}
