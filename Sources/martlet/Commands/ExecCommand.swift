internal import ArgumentParser

struct ExecCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exec",
    abstract: "Run a command inside a Vnfc.",
    discussion: """
      Ends with the command's exit code, 128 + N where signal N ended it, 125 where martlet \
      itself failed.

      Examples:
        martlet exec fw -- nft list ruleset
        martlet exec -it fw -- sh
        tar -c site | martlet exec -i web -- tar -x -C /srv
      """)

  @Argument(help: "The instance.") var vnf: String
  @Flag(name: .short, help: "Send it standard input.") var interactive = false
  @Flag(name: .short, help: "Give it a terminal.") var terminal = false
  @OptionGroup var one: VnfcOption
  @Option(name: .customLong("env"), help: ArgumentHelp("Repeatable.", valueName: "name=value"))
  var environment: [String] = []
  @Argument(
    parsing: .postTerminator,
    help: ArgumentHelp("After `--`: the command and its arguments.", valueName: "command"))
  var command: [String]
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    if command.isEmpty { throw ValidationError("The command stands after --.") }
    if environment.contains(where: { !$0.contains("=") }) {
      throw ValidationError("--env is NAME=VALUE.")
    }
  }

  func run() async throws {
    do {
      let code = try await execute()
      if code != 0 { throw ExitCode(code) }
    } catch let failure as Failure {
      Console.current.note(failure.rendered)
      throw ExitCode(125)
    }
  }

  private func execute() async throws(Failure) -> Int32 {
    let daemon = try connection.daemon()
    let instance = try await daemon.find(.vnf, vnf)
    let vnfc = try one.find(of: instance)
    let session = ExecSession(
      target: Daemon.path(instance["id"].text, vnfc.id, "exec"), command: command,
      environment: environment, sendsInput: interactive, wantsTerminal: terminal)
    return try await session.run(daemon)
  }
}
