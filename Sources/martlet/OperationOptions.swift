internal import ArgumentParser
internal import LinuxSystem
internal import NFVClient
internal import NFVModel

/// What all commands have in common that begin an operation.
struct OperationOptions: ParsableArguments {
  @OptionGroup var waiting: WaitOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  /// Begins an operation of an instance, waits for its end where that is wanted, and writes the
  /// instance; without waiting, the operation.
  /// - Parameter task: the task resource; nil modifies the instance itself.
  func perform(_ task: String?, on vnf: String, _ request: JSONValue) async throws(Failure) {
    let daemon = try connection.daemon()
    let id = try await daemon.resolve(.vnf, vnf)
    let instance = "\(Kind.vnf.collection)/\(id)"
    let operation =
      if let task {
        try await daemon.begin("\(instance)/\(task)", request)
      } else {
        try await daemon.begin(instance, request, by: .patch)
      }
    guard waiting.wait else { return try await showBegun(operation, daemon) }
    try await finish(operation, "\(task ?? "modify") \(vnf)", daemon)
    output.write(try await daemon.get(.vnf, id), of: .vnf)
  }

  /// Writes an operation that goes on by itself.
  func showBegun(_ operation: String, _ daemon: Daemon) async throws(Failure) {
    output.write(try await daemon.get(.op, operation), of: .op)
    Console.current.note("It goes on; `martlet wait op \(shortened(operation))` waits for it.")
  }

  /// Waits for an operation's end, with progress.
  @discardableResult
  func finish(
    _ operation: String, _ label: String, _ daemon: Daemon, wanted: String = "COMPLETED"
  ) async throws(Failure) -> JSONValue {
    try await within(
      waiting.timeout.duration, label,
      advice: """
        it goes on: `martlet wait op \(shortened(operation))` waits on, \
        `martlet describe op \(shortened(operation))` shows how far it is
        """
    ) { () async throws(Failure) in
      try await Progress.show(label) { (progress) async throws(Failure) in
        try await daemon.awaitEnd(ofOperation: operation, as: wanted, progress)
      }
    }
  }
}

/// What an instance is started with.
struct InstantiationOptions: ParsableArguments {
  @Option(help: "The deployment flavour (default: the package's).") var flavour: String?
  @Option(help: "The instantiation level (default: the flavour's).") var level: String?

  @Option(
    help: ArgumentHelp(
      """
      Put an external connection point on a network, with fixed addresses or allotted ones; \
      repeatable. A function with one point and no --connect is put on the network 'default'.
      """, valueName: "point=network[,address]"))
  var connect: [PointConnection] = []

  @Option(
    help: ArgumentHelp(
      "A parameter of the function: JSON, or else text; @FILE has it from a file, '\"@…\"' is text; repeatable.",
      valueName: "key=value"), transform: Parameter.init(orFileIn:))
  var param: [Parameter] = []

  func validate() throws {
    let keys = param.map(\.key)
    if Set(keys).count < keys.count { throw ValidationError("A --param is given twice.") }
    let points = connect.map(\.point)
    if Set(points).count < points.count {
      throw ValidationError("A connection point is given to --connect twice.")
    }
  }

  /// SOL003's InstantiateVnfRequest; points on the same network share an external virtual link.
  var request: JSONValue {
    var request: [String: JSONValue] = [:]
    if let flavour { request["flavourId"] = .string(flavour) }
    if let level { request["instantiationLevelId"] = .string(level) }
    var networks: [String] = []
    for connection in connect where !networks.contains(connection.network) {
      networks.append(connection.network)
    }
    if !networks.isEmpty {
      request["extVirtualLinks"] = .array(
        networks.enumerated().map { index, network in
          .object([
            "id": .string("link-\(index + 1)"), "resourceId": .string(network),
            "extCps": .array(connect.filter { $0.network == network }.map(\.extCp)),
          ])
        })
    }
    if !param.isEmpty {
      request["additionalParams"] = .object(
        Dictionary(uniqueKeysWithValues: param.map { ($0.key, $0.value) }))
    }
    return .object(request)
  }
}

/// `left=lan,10.1.0.5,fd00::5`.
struct PointConnection: ExpressibleByArgument, Sendable, Hashable {
  var point: String
  var network: String
  var addresses: [IPAddress]

  init?(argument: String) {
    guard let equals = argument.firstIndex(of: "="), equals != argument.startIndex else {
      return nil
    }
    let parts = argument[argument.index(after: equals)...]
      .split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard !parts.contains("") else { return nil }
    addresses = parts.dropFirst().compactMap(IPAddress.init)
    guard addresses.count == parts.count - 1 else { return nil }
    point = String(argument[..<equals])
    network = parts[0]
  }

  fileprivate var extCp: JSONValue {
    guard !addresses.isEmpty else { return ["cpdId": .string(point)] }
    let listed = addresses.map { address -> JSONValue in
      [
        "type": .string(address.family == .v6 ? "IPV6" : "IPV4"),
        "fixedAddresses": .array([.string(address.description)]),
      ]
    }
    return [
      "cpdId": .string(point),
      "cpConfig": [
        "default": [
          "cpProtocolData": .array([
            [
              "layerProtocol": .string("IP_OVER_ETHERNET"),
              "ipOverEthernet": ["ipAddresses": .array(listed)],
            ]
          ])
        ]
      ],
    ]
  }
}

/// `allowedPort=5001`.
struct Parameter: Sendable, Hashable {
  /// Of a file, in octets; a request has at most so many.
  private static let limit = 1 << 20

  var key: String
  var value: JSONValue

  /// `key=value`.
  init(_ argument: String) throws(ValidationError) {
    let (key, text) = try Self.parts(argument)
    self.key = key
    value = (try? JSONValue(parsing: Array(text.utf8))) ?? .string(text)
  }

  /// `key=value`, or `key=@FILE`.
  /// - Throws: where a value begins as a list or an object of JSON and is none, and where the file cannot
  ///   be read.
  init(orFileIn argument: String) throws(ValidationError) {
    let (key, text) = try Self.parts(argument)
    self.key = key
    guard text.hasPrefix("@") else {
      value = try Self.value(text, "what is given for \(key)")
      return
    }
    let path = String(text.dropFirst())
    do {
      let octets = try readFile(path, limit: Self.limit)
      guard var text = String(validating: octets, as: UTF8.self) else {
        throw ValidationError("\(path), which \(key) is to be read from, is no text (UTF-8)")
      }
      // An editor's.
      if text.hasSuffix("\n") { text.removeLast() }
      value = try Self.value(text, path)
    } catch let error as ValidationError {
      throw error
    } catch {
      throw ValidationError(
        "\(path), which \(key) is to be read from: \(error); text that begins with @ is given as "
          + "\(key)='\"@…\"'")
    }
  }

  private static func parts(_ argument: String) throws(ValidationError) -> (String, String) {
    guard let equals = argument.firstIndex(of: "="), equals != argument.startIndex else {
      throw ValidationError("'\(argument)' is not of the form key=value")
    }
    return (
      String(argument[..<equals]), String(argument[argument.index(after: equals)...])
    )
  }

  private static func value(_ text: String, _ what: String) throws(ValidationError) -> JSONValue {
    if let value = try? JSONValue(parsing: Array(text.utf8)) { return value }
    let beginning = text.first { !$0.isWhitespace }
    guard beginning != "[", beginning != "{" else {
      throw ValidationError(
        "\(what) begins like JSON and is none: \(text.prefix(60)); look for brackets, commas and "
          + "quotation marks that are missing, or give text as '\"\(text.prefix(1))…\"'")
    }
    return .string(text)
  }
}
