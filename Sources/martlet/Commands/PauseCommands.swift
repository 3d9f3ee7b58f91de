internal import ArgumentParser
internal import NFVClient
internal import NFVModel

extension VnfCommand {
  struct Pause: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Stop an instance's workloads in the middle of what they do.",
      discussion: """
        They keep their memory and addresses, answer nothing, and are not healed; `continue` lets \
        them go on.

        Example: martlet vnf pause fw
        """)

    @OptionGroup var vnfcs: VnfcsOptions

    func run() async throws { try await vnfcs.post("pause", "Paused") }
  }

  struct Continue: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Let an instance's paused workloads go on.",
      discussion: "Example: martlet vnf continue fw")

    @OptionGroup var vnfcs: VnfcsOptions

    func run() async throws { try await vnfcs.post("continue", "Continued") }
  }
}

/// All Vnfcs of an instance, or one.
struct VnfcsOptions: ParsableArguments {
  @Argument(help: "The instance.") var vnf: String
  @Option(
    help: ArgumentHelp("Only this one: its identifier, or VDU.NUMBER.", valueName: "vnfc"))
  var vnfc: String?
  @OptionGroup var connection: ConnectionOptions

  /// Asks something of each, one after another, and says so.
  func post(_ leaf: String, _ done: String) async throws(Failure) {
    let daemon = try connection.daemon()
    let instance = try await daemon.find(.vnf, vnf)
    var ids = instance["instantiatedVnfInfo", "vnfcResourceInfo"].elements.map { $0["id"].text }
    // Also says so where there is none.
    if vnfc != nil || ids.isEmpty { ids = [try findVnfc(vnfc, of: instance).id] }
    for id in ids {
      try await daemon.send(.post, Daemon.path(instance["id"].text, id, leaf))
    }
    Console.current.note("\(done) \(instance["vnfInstanceName"].string ?? vnf).")
  }
}
