internal import ArgumentParser
internal import Glibc
internal import NFVModel

@main
struct Martlet: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "martlet",
    abstract: "Run network functions on this host.",
    discussion: """
      The daemon, martletd, does the work; this talks to it. A first function:

        martlet network create left --subnet 10.1.0.0/24
        martlet vnf run ./responder.csar --name echo --connect eth0=left
        martlet get vnf
        martlet describe vnf echo
        martlet vnf terminate echo && martlet vnf delete echo

      A resource is called by its name, its identifier, or the beginning of that, four digits at least.

      \(Failure.documentation)
      """,
    version: Release.version,
    subcommands: [
      VnfCommand.self, OpCommand.self, PackageCommand.self, ImageCommand.self,
      FunctionCommand.self, NetworkCommand.self, GetCommand.self, DescribeCommand.self,
      LogsCommand.self, ExecCommand.self,
      ConsoleCommand.self, EventsCommand.self, TopCommand.self, WaitCommand.self,
      DemoCommand.self, BenchCommand.self,
    ])

  static func main() async {
    Glibc.exit(await run(Array(CommandLine.arguments.dropFirst())))
  }

  /// Runs a command line and returns its exit code.
  static func run(_ arguments: [String]) async -> Int32 {
    let console = Console.current
    do {
      var command = try parseAsRoot(arguments)
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
      return 0
    } catch let failure as Failure {
      console.note(failure.rendered)
      return failure.code.rawValue
    } catch let status as ExitCode {
      return status.rawValue
    } catch {
      let message = fullMessage(for: error)
      let code = exitCode(for: error).rawValue
      if !message.isEmpty { code == 0 ? console.print(message) : console.note(message) }
      return code
    }
  }
}
