import ArgumentParser

@main
struct Martlet: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "martlet", abstract: "Run network functions on this host.")
}
