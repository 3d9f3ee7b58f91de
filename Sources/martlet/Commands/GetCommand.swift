internal import ArgumentParser
internal import NFVClient
internal import NFVModel

struct GetCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "get",
    abstract: "List resources, or show one.",
    discussion: """
      Kinds: vnf, op (operations of VNFs), package, network.

      Examples:
        martlet get vnf
        martlet get vnf fw -o yaml
        martlet get op --filter '(eq,operationState,FAILED_TEMP)'
      """)

  @Argument(help: "vnf, op, package or network.") var kind: Kind
  @Argument(help: "One of them.") var id: String?
  @Option(
    help: ArgumentHelp("Only what matches (SOL013 5.2).", valueName: "(op,attribute,value)"))
  var filter: String?
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    if id != nil, filter != nil { throw ValidationError("--filter is for lists.") }
  }

  func run() async throws {
    let daemon = try connection.daemon()
    if let id {
      output.write(try await daemon.find(kind, id), of: kind)
    } else {
      output.write(try await daemon.list(kind, filter: filter), of: kind)
    }
  }
}

/// What the `list` of a kind's own commands has.
struct ListOptions: ParsableArguments {
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func run(_ kind: Kind) async throws(Failure) {
    output.write(try await connection.daemon().list(kind), of: kind)
  }

  func show(_ kind: Kind, _ reference: String) async throws(Failure) {
    let daemon = try connection.daemon()
    let value = try await daemon.find(kind, reference)
    guard output.output == .table || output.output == .wide else {
      return output.write(value, of: kind)
    }
    var usage: [String: JSONValue] = [:]
    if kind == .vnf {
      for vnfc in value["instantiatedVnfInfo", "vnfcResourceInfo"].elements.map({ $0["id"].text }) {
        // What does not run uses nothing.
        usage[vnfc] = try? await daemon.get(Daemon.path(value["id"].text, vnfc, "usage"))
      }
    }
    Console.current.print(
      description(of: value, kind, usage: usage, now: .now, color: Console.current.colors))
  }
}

struct OpCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "op",
    abstract: "Decide about an operation that failed half-way (FAILED_TEMP).",
    discussion: """
      Example: martlet op retry 3f6c

      `martlet get op` lists operations, `martlet describe op ID` shows their phases.
      """,
    subcommands: [Retry.self, Rollback.self, Fail.self])

  struct Retry: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Try the rest of it again.", discussion: "Example: martlet op retry 3f6c")
    @Argument(help: "The operation.") var op: String
    @OptionGroup var operation: OperationOptions

    func run() async throws { try await operation.resume(op, "retry") }
  }

  struct Rollback: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Go back to the state before it.",
      discussion: "Example: martlet op rollback 3f6c\n\nEnds with 0 when it is rolled back.")
    @Argument(help: "The operation.") var op: String
    @OptionGroup var operation: OperationOptions

    func run() async throws { try await operation.resume(op, "rollback", wanted: "ROLLED_BACK") }
  }

  struct Fail: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Give it up: what was reached stays, the rest is swept away.",
      discussion: "Example: martlet op fail 3f6c")
    @Argument(help: "The operation.") var op: String
    @OptionGroup var output: OutputOptions
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      let daemon = try connection.daemon()
      let id = try await daemon.resolve(.op, op)
      output.write(
        try await daemon.send(.post, "\(Kind.op.collection)/\(id)/fail").value, of: .op)
    }
  }
}

extension OperationOptions {
  /// Sets a halted operation going again and waits until it stands in the wanted state.
  func resume(
    _ reference: String, _ task: String, wanted: String = "COMPLETED"
  ) async throws(Failure) {
    let daemon = try connection.daemon()
    let id = try await daemon.resolve(.op, reference)
    try await daemon.send(.post, "\(Kind.op.collection)/\(id)/\(task)")
    guard waiting.wait else { return try await showBegun(id, daemon) }
    let ended = try await finish(id, "\(task) \(reference)", daemon, wanted: wanted)
    output.write(ended, of: .op)
  }
}
