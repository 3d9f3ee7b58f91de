internal import ArgumentParser
internal import NFVClient
internal import NFVModel
internal import SystemPackage

/// Where the daemon is.
struct ConnectionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The daemon's unix socket (default: MARTLET_SOCKET, else /run/martlet/martletd.sock).",
      valueName: "path"), completion: .file())
  var socket: String?

  @Option(
    help: ArgumentHelp(
      "The daemon's address where it listens on TCP: http://127.0.0.1:PORT (default: MARTLET_URL).",
      valueName: "url"))
  var url: String?

  @Option(
    help: ArgumentHelp(
      "A file that holds the daemon's token, for --url (default: MARTLET_TOKEN_FILE).",
      valueName: "path"), completion: .file())
  var tokenFile: String?

  func validate() throws {
    if socket != nil, url != nil {
      throw ValidationError("--socket and --url exclude each other.")
    }
    if let url, Endpoint(url: url) == nil {
      throw ValidationError("--url is http://HOST:PORT, such as http://127.0.0.1:8888.")
    }
  }

  func daemon(_ limits: Client.Limits = Client.Limits()) throws(Failure) -> Daemon {
    let environment = Console.current.environment
    var endpoint = Endpoint.standard
    if let socket {
      endpoint = .unixSocket(socket)
    } else if url == nil, let socket = environment["MARTLET_SOCKET"] {
      endpoint = .unixSocket(socket)
    } else if let url = url ?? environment["MARTLET_URL"] {
      guard let parsed = Endpoint(url: url) else {
        throw Failure(
          .refused, "MARTLET_URL is '\(url)'", advice: "it is http://HOST:PORT")
      }
      endpoint = parsed
    }
    var token: String?
    if case .tcp = endpoint, let path = tokenFile ?? environment["MARTLET_TOKEN_FILE"] {
      token = try readToken(path)
    }
    return Daemon(Client(endpoint, token: token, limits: limits))
  }

  private func readToken(_ path: String) throws(Failure) -> String {
    let octets: [UInt8]
    do {
      octets = try readFile(path, limit: 4096)
    } catch {
      throw Failure(
        .forbidden, "the token file \(path) cannot be read: \(error)",
        advice: "the daemon's is `token` in its state folder, for root and the group martlet")
    }
    let text = String(decoding: octets, as: UTF8.self)
    return String(text.prefix { !$0.isWhitespace })
  }
}

/// Reads a small file whole.
func readFile(_ path: String, limit: Int) throws -> [UInt8] {
  let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
  return try file.closeAfter {
    var result: [UInt8] = []
    while result.count < limit {
      let piece = try [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
        // SAFETY: read(2) fills `count` octets of the buffer, which are then initialised.
        count = try file.read(into: UnsafeMutableRawBufferPointer(buffer))
      }
      guard !piece.isEmpty else { break }
      result += piece
    }
    return result
  }
}

/// How results are written.
struct OutputOptions: ParsableArguments {
  enum Format: String, ExpressibleByArgument, CaseIterable, Sendable {
    case table, wide, json, yaml, name
  }

  @Option(
    name: [.short, .long],
    help: "How to write the result: table, wide (more columns), json, yaml or name.")
  var output = Format.table

  /// Writes several resources of one kind.
  func write(_ values: [JSONValue], of kind: Kind) {
    let console = Console.current
    switch output {
    case .json: console.print(JSONValue.array(values).pretty)
    case .yaml: console.print(JSONValue.array(values).yaml)
    case .name: for value in values { console.print(kind.name(of: value)) }
    case .table, .wide:
      guard !values.isEmpty else { return console.note("No \(kind.plural).") }
      let table = kind.table(values, wide: output == .wide, now: .now)
      // What is asked for wide is whole, and what a script reads.
      let width = console.outputIsTerminal && output == .table ? console.width() : nil
      console.output(Array(table.rendered(color: console.colors, width: width).utf8))
    }
  }

  /// Writes one resource.
  func write(_ value: JSONValue, of kind: Kind) {
    switch output {
    case .json: Console.current.print(value.pretty)
    case .yaml: Console.current.print(value.yaml)
    case .table, .wide, .name: write([value], of: kind)
    }
  }
}

/// Whether to stay until the end of what was begun.
struct WaitOptions: ParsableArguments {
  @Flag(inversion: .prefixedNo, help: "Stay until the operation has ended.")
  var wait = true

  @Option(
    help: ArgumentHelp(
      "How long to wait at most: 90, 90s, 5m, 500ms. The operation itself goes on.",
      valueName: "time"))
  var timeout = TimeLimit(duration: .seconds(300))
}

/// A duration as people write it: `90` or `90s`, `5m`, `2h`, `500ms`.
struct TimeLimit: ExpressibleByArgument, Sendable, Hashable {
  var duration: Duration

  init(duration: Duration) { self.duration = duration }

  init?(argument: String) {
    let digits = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    guard let value = Double(digits), value >= 0, value < 1e9 else { return nil }
    switch argument.dropFirst(digits.count) {
    case "", "s": duration = .seconds(value)
    case "ms": duration = .milliseconds(value)
    case "m": duration = .seconds(value * 60)
    case "h": duration = .seconds(value * 3600)
    default: return nil
    }
  }

  var defaultValueDescription: String { span(duration) }
}
