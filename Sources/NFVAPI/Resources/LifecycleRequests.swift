internal import HTTPTypes
internal import NFVModel

// SOL003's request bodies as the core's requests. Attributes that Martlet does not use are taken
// and kept in `operationParams`.

extension CreateVnfRequest {
  init(_ body: JSONBody) throws(Problem) {
    self.init(
      vnfd: try body.required("vnfdId").text(), name: try body.text("vnfInstanceName"),
      description: try body.text("vnfInstanceDescription"),
      metadata: try body.object("metadata"))
  }
}

extension InstantiateVnfRequest {
  init(_ body: JSONBody) throws(Problem) {
    var connections: [String: Connection] = [:]
    for link in try body.items("extVirtualLinks") {
      let network = try link.required("resourceId").text()
      let identifier = try link.text("id")
      for point in try link.required("extCps").items() {
        let cpd = try point.required("cpdId")
        let name = try cpd.text()
        let connection = Connection(
          network: network, addresses: try Self.addresses(of: point), virtualLinkID: identifier)
        guard connections.updateValue(connection, forKey: name) == nil else {
          throw Problem(
            .badRequest, "\(cpd.path): the connection point \(name) is connected twice")
        }
      }
    }
    self.init(
      flavour: try body.text("flavourId"),
      instantiationLevel: try body.text("instantiationLevelId"), connections: connections,
      parameters: try body.object("additionalParams"),
      configurableProperties: try body.object("vnfConfigurableProperties"),
      extensions: try body.object("extensions"), body: body.withoutSecrets)
  }

  /// The fixed addresses of a VnfExtCpData (SOL003 4.4.1.10).
  private static func addresses(of point: JSONBody) throws(Problem) -> [IPAddress] {
    var addresses: [IPAddress] = []
    guard let configurations = try point.member("cpConfig") else { return [] }
    for (_, configuration) in try configurations.entries() {
      for data in try configuration.items("cpProtocolData") {
        guard let ethernet = try data.member("ipOverEthernet") else { continue }
        for item in try ethernet.items("ipAddresses") {
          for address in try item.items("fixedAddresses") {
            addresses.append(
              try address.parsed("an IP address", { text in IPAddress(text) }))
          }
        }
      }
    }
    return addresses
  }
}

extension ScaleVnfRequest {
  init(_ body: JSONBody) throws(Problem) {
    self.init(
      direction: try body.required("type").oneOf(), aspect: try body.required("aspectId").text(),
      steps: try body.integer("numberOfSteps") ?? 1, body: body.withoutSecrets)
  }
}

extension ScaleVnfRequest.Direction: CaseIterable {
  static var allCases: [Self] { [.out, .in] }
}

extension ScaleVnfToLevelRequest {
  init(_ body: JSONBody) throws(Problem) {
    let name = try body.text("instantiationLevelId")
    var levels: [String: Int] = [:]
    for item in try body.items("scaleInfo") {
      levels[try item.required("aspectId").text()] = try item.required("scaleLevel").integer()
    }
    guard (name == nil) != levels.isEmpty else {
      throw Problem(
        .badRequest, "give either instantiationLevelId or scaleInfo (SOL003 5.5.2.6)")
    }
    self.init(instantiationLevel: name, levels: levels, body: body.withoutSecrets)
  }
}

extension OperateVnfRequest {
  init(_ body: JSONBody) throws(Problem) {
    _ = try body.member("stopType")?.oneOf(TerminationType.self)
    self.init(state: try body.required("changeStateTo").oneOf(), body: body.withoutSecrets)
  }
}

extension VnfState.OperationalState: CaseIterable {
  static var allCases: [Self] { [.started, .stopped] }
}

extension HealVnfRequest {
  /// `vnfcInstanceId` is SOL002's (5.5.2.9): SOL003's heals them all.
  init(_ body: JSONBody) throws(Problem) {
    var vnfcs: [VnfcID] = []
    for item in try body.items("vnfcInstanceId") { vnfcs.append(VnfcID(try item.text())) }
    self.init(vnfcs: vnfcs, cause: try body.text("cause"), body: body.withoutSecrets)
  }
}

/// How politely processes are ended (SOL003 5.5.2.8).
enum TerminationType: String, CaseIterable {
  case forceful = "FORCEFUL"
  case graceful = "GRACEFUL"
}

extension TerminateVnfRequest {
  /// Where a graceful termination names no time, in seconds.
  private static let usualGrace = 10

  init(_ body: JSONBody) throws(Problem) {
    let type: TerminationType = try body.required("terminationType").oneOf()
    let timeout = try body.member("gracefulTerminationTimeout")
    let seconds = try timeout?.integer() ?? Self.usualGrace
    guard (0...3600).contains(seconds) else {
      throw Problem(
        .badRequest, "\(timeout?.path ?? "") is \(seconds); it is in seconds, 0 to 3600")
    }
    self.init(grace: type == .graceful ? .seconds(seconds) : nil, body: body.withoutSecrets)
  }
}

extension JSONBody {
  /// The body as it is kept with the occurrence: how to log in to a VIM is nobody else's business.
  fileprivate var withoutSecrets: JSONValue { Self.withoutSecrets(value) }

  private static func withoutSecrets(_ value: JSONValue) -> JSONValue {
    switch value {
    case .object(let members):
      .object(
        members.reduce(into: [:]) { kept, member in
          kept[member.key] =
            member.key == "accessInfo" ? .object([:]) : withoutSecrets(member.value)
        })
    case .array(let items): .array(items.map(withoutSecrets))
    default: value
    }
  }
}
