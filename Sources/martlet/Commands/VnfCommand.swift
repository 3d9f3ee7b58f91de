internal import ArgumentParser
internal import NFVClient
internal import NFVModel

struct VnfCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vnf",
    abstract: "Create, start, change and remove VNF instances.",
    discussion: """
      `run` does it in one go. Step by step it is:

        martlet vnf create firewall --name fw
        martlet vnf instantiate fw --connect left=lan --connect right=wan
        martlet vnf scale fw --out 1
        martlet vnf terminate fw
        martlet vnf delete fw
      """,
    subcommands: [
      Run.self, Create.self, Instantiate.self, Scale.self, Heal.self, Operate.self, Pause.self,
      Continue.self, Modify.self, Terminate.self, Delete.self,
    ])

  struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Create an instance of a package, without starting anything.",
      discussion: "Example: martlet vnf create firewall --name fw")

    @Argument(help: "An onboarded package: its VNFD's id, product name, or identifier.")
    var package: String
    @Option(help: "What to call the instance.") var name: String?
    @Option(help: "What it is for.") var description: String?
    @OptionGroup var output: OutputOptions
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      let daemon = try connection.daemon()
      let found = try await daemon.find(.package, package)
      let created = try await daemon.create(
        vnfdID: found["vnfdId"].text, name: name, description: description)
      output.write(created, of: .vnf)
    }
  }

  struct Instantiate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Start an instance: its workloads, connected to networks.",
      discussion: """
        Example: martlet vnf instantiate fw --flavour container --connect left=lan,10.1.0.1 \
        --param allowedPort=5001
        """)

    @Argument(help: "The instance.") var vnf: String
    @OptionGroup var options: InstantiationOptions
    @OptionGroup var operation: OperationOptions

    func run() async throws {
      try await operation.perform("instantiate", on: vnf, options.request)
    }
  }

  struct Scale: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Change how many Vnfcs an instance has.",
      discussion: """
        One step out or in of an aspect, or to a level. The aspect may be left out where the \
        instance has one only.

        Examples:
          martlet vnf scale web --out 2
          martlet vnf scale web --aspect workers --in 1
          martlet vnf scale web --level big
          martlet vnf scale web --to workers=3
        """)

    @Argument(help: "The instance.") var vnf: String
    @Option(help: "The scaling aspect, for --out and --in.") var aspect: String?
    @Option(help: ArgumentHelp("Steps outwards.", valueName: "steps")) var out: Int?
    @Option(name: .customLong("in"), help: ArgumentHelp("Steps inwards.", valueName: "steps"))
    var inwards: Int?
    @Option(help: ArgumentHelp("An instantiation level of the package.", valueName: "id"))
    var level: String?
    @Option(help: ArgumentHelp("A level of an aspect; repeatable.", valueName: "aspect=level"))
    var to: [AspectLevel] = []
    @OptionGroup var operation: OperationOptions

    func validate() throws {
      let ways = [out != nil, inwards != nil, level != nil, !to.isEmpty].count { $0 }
      guard ways == 1 else {
        throw ValidationError("Say one of --out, --in, --level and --to.")
      }
      guard (out ?? inwards ?? 1) > 0 else { throw ValidationError("Steps are 1 or more.") }
      guard aspect == nil || out != nil || inwards != nil else {
        throw ValidationError("--aspect goes with --out or --in.")
      }
    }

    func run() async throws {
      if let level {
        try await operation.perform(
          "scale_to_level", on: vnf, ["instantiationLevelId": .string(level)])
      } else if !to.isEmpty {
        let levels = to.map { level -> JSONValue in
          ["aspectId": .string(level.aspect), "scaleLevel": .integer(Int64(level.level))]
        }
        try await operation.perform("scale_to_level", on: vnf, ["scaleInfo": .array(levels)])
      } else {
        let steps = Int64(out ?? inwards ?? 1)
        let aspect = try await aspectToScale()
        try await operation.perform(
          "scale", on: vnf,
          [
            "type": .string(out != nil ? "SCALE_OUT" : "SCALE_IN"), "aspectId": .string(aspect),
            "numberOfSteps": .integer(steps),
          ])
      }
    }

    private func aspectToScale() async throws(Failure) -> String {
      if let aspect { return aspect }
      let instance = try await operation.connection.daemon().find(.vnf, vnf)
      let info = instance["instantiatedVnfInfo"]
      guard info != .null else {
        throw Failure(
          .conflict, "'\(vnf)' is not instantiated",
          advice: "`martlet vnf instantiate \(vnf)` starts it")
      }
      let aspects = info["scaleStatus"].elements.map { $0["aspectId"].text }
      guard let only = aspects.first else {
        throw Failure(
          .conflict, "'\(vnf)' has no scaling aspect: its package gives it none",
          advice: "`martlet describe vnf \(vnf)` shows what it has")
      }
      guard aspects.count == 1 else {
        throw Failure(
          .refused, "'\(vnf)' has the aspects \(aspects.joined(separator: ", "))",
          advice: "choose one with --aspect")
      }
      return only
    }
  }

  struct Heal: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Replace an instance's Vnfcs by new ones, keeping their addresses.",
      discussion: "Example: martlet vnf heal fw --cause 'it does not forward'")

    @Argument(help: "The instance.") var vnf: String
    @Option(help: ArgumentHelp("Only this Vnfc; repeatable.", valueName: "id"))
    var vnfc: [String] = []
    @Option(help: "Why, for the record.") var cause: String?
    @OptionGroup var operation: OperationOptions

    func run() async throws {
      var request: [String: JSONValue] = [:]
      if let cause { request["cause"] = .string(cause) }
      if !vnfc.isEmpty {
        let instance = try await operation.connection.daemon().find(.vnf, vnf)
        var ids: [JSONValue] = []
        for reference in vnfc { ids.append(.string(try findVnfc(reference, of: instance).id)) }
        request["vnfcInstanceId"] = .array(ids)
      }
      try await operation.perform("heal", on: vnf, .object(request))
    }
  }

  struct Operate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Stop an instance's workloads, or start them again; it keeps its addresses.",
      discussion: """
        Examples:
          martlet vnf operate fw stop --graceful 10
          martlet vnf operate fw start
        """)

    enum Change: String, ExpressibleByArgument, CaseIterable {
      case start, stop
    }

    @Argument(help: "The instance.") var vnf: String
    @Argument(help: "start or stop.") var change: Change
    @Option(help: ArgumentHelp("Seconds that it has to end by itself.", valueName: "seconds"))
    var graceful: Int?
    @OptionGroup var operation: OperationOptions

    func validate() throws {
      if graceful != nil, change == .start {
        throw ValidationError("--graceful goes with stop.")
      }
    }

    func run() async throws {
      var request: [String: JSONValue] = [
        "changeStateTo": .string(change == .start ? "STARTED" : "STOPPED")
      ]
      if change == .stop {
        request["stopType"] = .string(graceful == nil ? "FORCEFUL" : "GRACEFUL")
        if let graceful { request["gracefulStopTimeout"] = .integer(Int64(graceful)) }
      }
      try await operation.perform("operate", on: vnf, .object(request))
    }
  }

  struct Modify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Change what is kept with an instance: name, description, metadata and the like.",
      discussion: """
        What is not named stays; KEY=null removes a key, and values are JSON, or else text. Any key \
        can be metadata; extensions and configurable properties are those that the package's \
        descriptor declares.

        Configurable properties are parameters of the functions: those that run and have a control \
        channel take them over as they run, or refuse them, and then all is as before; others get \
        them with their next start. Nothing else touches what runs.

        Examples:
          martlet vnf modify fw --name edge-firewall --description 'between lan and wan'
          martlet vnf modify fw --metadata owner=ann --metadata 'sites=["a","b"]'
          martlet vnf modify fw --metadata owner=null
          martlet vnf modify fw --property maximumSessions=5000
          martlet vnf modify fw --property 'rules=[{"protocol":"icmp","action":"accept"}]'
          martlet vnf modify fw --property rules=@rules.json
        """)

    @Argument(help: "The instance.") var vnf: String
    @Option(help: "What to call it from now on.") var name: String?
    @Option(help: "What it is for.") var description: String?
    @Option(
      help: ArgumentHelp("Anything that clients keep; repeatable.", valueName: "key=value"),
      transform: Parameter.init(_:))
    var metadata: [Parameter] = []
    @Option(
      name: .customLong("extension"),
      help: ArgumentHelp("A declared extension; repeatable.", valueName: "key=value"),
      transform: Parameter.init(_:))
    var extensions: [Parameter] = []
    @Option(
      help: ArgumentHelp(
        "A declared configurable property; @FILE has it from a file; repeatable.",
        valueName: "key=value"), transform: Parameter.init(orFileIn:))
    var property: [Parameter] = []
    @OptionGroup var operation: OperationOptions

    func validate() throws {
      guard case .object(let members) = request, !members.isEmpty else {
        throw ValidationError("Say what to change, such as --name or --metadata.")
      }
      for given in [metadata, extensions, property]
      where Set(given.map(\.key)).count < given.count {
        throw ValidationError("A key is given twice.")
      }
    }

    private var request: JSONValue {
      var request: [String: JSONValue] = [:]
      if let name { request["vnfInstanceName"] = .string(name) }
      if let description { request["vnfInstanceDescription"] = .string(description) }
      for (attribute, given) in [
        ("metadata", metadata), ("extensions", extensions), ("vnfConfigurableProperties", property),
      ] where !given.isEmpty {
        request[attribute] = .object(
          Dictionary(given.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 }))
      }
      return .object(request)
    }

    func run() async throws {
      try await operation.perform(nil, on: vnf, request)
    }
  }

  struct Terminate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "End an instance's workloads and give its addresses back; the instance stays.",
      discussion: "Example: martlet vnf terminate fw --graceful 10")

    @Argument(help: "The instance.") var vnf: String
    @Option(help: ArgumentHelp("Seconds that it has to end by itself.", valueName: "seconds"))
    var graceful: Int?
    @OptionGroup var operation: OperationOptions

    func run() async throws {
      var request: [String: JSONValue] = [
        "terminationType": .string(graceful == nil ? "FORCEFUL" : "GRACEFUL")
      ]
      if let graceful { request["gracefulTerminationTimeout"] = .integer(Int64(graceful)) }
      try await operation.perform("terminate", on: vnf, .object(request))
    }
  }

  struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Remove an instance that is not instantiated.",
      discussion: "Example: martlet vnf terminate fw && martlet vnf delete fw")

    @Argument(help: "The instance.") var vnf: String
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      try await connection.daemon().delete(.vnf, vnf)
    }
  }
}

/// `workers=3`.
struct AspectLevel: ExpressibleByArgument, Sendable, Hashable {
  var aspect: String
  var level: Int

  init?(argument: String) {
    guard let equals = argument.lastIndex(of: "="),
      let level = Int(argument[argument.index(after: equals)...]), level >= 0,
      equals != argument.startIndex
    else { return nil }
    aspect = String(argument[..<equals])
    self.level = level
  }
}

extension Daemon {
  /// Creates an instance and returns it.
  func create(
    vnfdID: String, name: String?, description: String?
  ) async throws(Failure) -> JSONValue {
    var request: [String: JSONValue] = ["vnfdId": .string(vnfdID)]
    if let name { request["vnfInstanceName"] = .string(name) }
    if let description { request["vnfInstanceDescription"] = .string(description) }
    return try await send(.post, Kind.vnf.collection, .object(request)).value
  }

  /// Deletes a resource and says so.
  func delete(_ kind: Kind, _ reference: String) async throws(Failure) {
    let id = try await resolve(kind, reference)
    try await send(.delete, "\(kind.collection)/\(id)")
    Console.current.note("Deleted \(kind.singular) \(reference).")
  }
}
