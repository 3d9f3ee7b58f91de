internal import ArgumentParser
internal import Glibc

struct ConsoleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "console",
    abstract: "Sit at the serial console of a virtual machine.",
    discussion: """
      Several may at once; all see what the machine writes, which `martlet logs` keeps as well. \
      Ctrl-] leaves and changes nothing. A container has no console: martlet exec -it.

      Examples:
        martlet console fw
        martlet console mixed --vnfc filter.0
      """)

  /// Ctrl-], as telnet(1) has it.
  static let leaveKey: UInt8 = 0x1D

  @Argument(help: "The instance.") var vnf: String
  @OptionGroup var one: VnfcOption
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let daemon = try connection.daemon()
    let instance = try await daemon.find(.vnf, vnf)
    let vnfc = try one.find(of: instance)
    let isTerminal = isatty(STDIN_FILENO) == 1
    let session = ExecSession(
      target: Daemon.path(instance["id"].text, vnfc.id, "console"), sendsInput: true,
      wantsTerminal: isTerminal, leaveKey: isTerminal ? Self.leaveKey : nil)
    if isTerminal { Console.current.note("The console of \(vnf); Ctrl-] leaves it.") }
    _ = try await session.run(daemon)
    if isTerminal { Console.current.note("\r\nThe console of \(vnf) is left.") }
  }
}
