internal import ArgumentParser
internal import NFVModel

struct DescribeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "describe",
    abstract: "Tell all about one resource, for reading.",
    discussion: """
      Of an operation it shows each phase with its start and duration in microseconds, of the host \
      what waits in pools and the memory that it costs.

      Examples:
        martlet describe vnf fw
        martlet describe op 3f6c
        martlet describe host
      """)

  /// What can be told of.
  enum Subject: ExpressibleByArgument, Sendable {
    case resource(Kind)
    case host

    init?(argument: String) {
      if argument.lowercased() == "host" {
        self = .host
      } else if let kind = Kind(argument: argument) {
        self = .resource(kind)
      } else {
        return nil
      }
    }

    static var allValueStrings: [String] { Kind.allCases.map(\.rawValue) + ["host"] }
  }

  @Argument(help: "vnf, op, package, network or host.") var subject: Subject
  @Argument(help: "Which; not of the host.") var id: String?
  @OptionGroup var options: ListOptions

  func validate() throws {
    switch (subject, id) {
    case (.resource(let kind), nil):
      throw ValidationError("Which \(kind.singular)? Its name or identifier stands behind.")
    case (.host, .some): throw ValidationError("There is one host; it has no name here.")
    default: break
    }
  }

  func run() async throws {
    if case .resource(let kind) = subject, let id { return try await options.show(kind, id) }
    let info = try await options.connection.daemon().get("/martlet/v1/info")
    let console = Console.current
    switch options.output.output {
    case .json: console.print(info.pretty)
    case .yaml: console.print(info.yaml)
    case .name: console.print(info["hostId"].text)
    case .table, .wide: console.print(hostDescription(info, color: console.colors))
    }
  }
}
