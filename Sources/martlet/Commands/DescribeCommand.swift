internal import ArgumentParser
internal import NFVModel

struct DescribeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "describe",
    abstract: "Tell all about one resource, for reading.",
    discussion: """
      Of an operation it shows each phase with its start and duration in microseconds.

      Examples:
        martlet describe vnf fw
        martlet describe op 3f6c
      """)

  @Argument(help: "vnf, op, package or network.") var kind: Kind
  @Argument(help: "Which.") var id: String
  @OptionGroup var options: ListOptions

  func run() async throws { try await options.show(kind, id) }
}
