internal import ArgumentParser
internal import NFVModel

/// The kinds of resources that have a name or an identifier.
enum Kind: String, CaseIterable, ExpressibleByArgument, Sendable {
  case vnf
  case op
  case package
  case network

  /// Takes plurals and ETSI's words too.
  init?(argument: String) {
    switch argument.lowercased() {
    case "vnf", "vnfs", "vnf-instance", "vnf-instances": self = .vnf
    case "op", "ops", "operation", "operations", "vnf-lcm-op-occ", "vnf-lcm-op-occs": self = .op
    case "package", "packages", "pkg", "pkgs", "vnf-package", "vnf-packages": self = .package
    case "network", "networks", "net", "nets": self = .network
    default: return nil
    }
  }

  var collection: String {
    switch self {
    case .vnf: "/vnflcm/v2/vnf_instances"
    case .op: "/vnflcm/v2/vnf_lcm_op_occs"
    case .package: "/vnfpkgm/v2/vnf_packages"
    case .network: "/martlet/v1/networks"
    }
  }

  /// The complex attributes that the tables need and that default lists leave out.
  var listSelector: String? {
    switch self {
    case .vnf, .op: "all_fields"
    case .package, .network: nil
    }
  }

  var plural: String {
    switch self {
    case .vnf: "VNF instances"
    case .op: "operations"
    case .package: "packages"
    case .network: "networks"
    }
  }

  var singular: String {
    switch self {
    case .vnf: "VNF instance"
    case .op: "operation"
    case .package: "package"
    case .network: "network"
    }
  }

  /// The attributes by which people call it, besides its identifier.
  var nameAttributes: [String] {
    switch self {
    case .vnf: ["vnfInstanceName"]
    case .op: []
    case .package: ["vnfdId", "vnfProductName"]
    case .network: ["name"]
    }
  }

  /// What to call it: its name where it has one, else its identifier.
  func name(of value: JSONValue) -> String {
    let name =
      switch self {
      case .vnf: value["vnfInstanceName"].text
      case .network: value["name"].text
      case .op, .package: ""
      }
    return name.isEmpty ? value["id"].text : name
  }

  func table(_ values: [JSONValue], wide: Bool, now: Timestamp) -> Table {
    let columns = columns.filter { wide || !$0.onlyWide }
    return Table(
      titles: columns.map(\.title),
      alignedRight: Set(columns.indices.filter { columns[$0].isNumber }),
      spare: columns.indices.filter { columns[$0].isSpare },
      rows: values.map { value in columns.map { $0.cell(value, now) } })
  }
}

/// One column of a kind's table.
struct Column: Sendable {
  var title: String
  var onlyWide = false
  var isNumber = false
  /// Whether it goes where a terminal is too narrow for all.
  var isSpare = false
  var cell: @Sendable (JSONValue, _ now: Timestamp) -> Cell

  /// What stands at a path.
  static func path(
    _ title: String, _ keys: String..., onlyWide: Bool = false, isNumber: Bool = false,
    isSpare: Bool = false
  ) -> Column {
    Column(title: title, onlyWide: onlyWide, isNumber: isNumber, isSpare: isSpare) { value, _ in
      Cell(keys.reduce(value) { $0[$1] }.text)
    }
  }

  /// The identifier: its first part, whole in wide tables.
  static let shortID = Column(title: "ID") { value, _ in Cell(shortened(value["id"].text)) }
  static let fullID = Column.path("FULL ID", "id", onlyWide: true)

  static func age(_ keys: String...) -> Column {
    Column(title: "AGE", isNumber: true) { value, now in
      guard let then = Timestamp(keys.reduce(value) { $0[$1] }.text) else { return "" }
      return Cell(span(now - then))
    }
  }
}

/// The first part of a UUID, which is enough to call it by.
func shortened(_ id: String) -> String { String(id.prefix { $0 != "-" }.prefix(12)) }

func tone(ofState state: String) -> Tone? {
  switch state {
  case "COMPLETED", "ONBOARDED", "ENABLED", "RUNNING", "STARTED": .good
  case "STARTING", "PROCESSING", "ROLLING_BACK", "BACKING_OFF", "UPLOADING", "CREATED",
    "INSTANTIATING", "PAUSED":
    .busy
  case "FAILED", "FAILED_TEMP", "ERROR", "DISABLED": .bad
  case "NOT_INSTANTIATED", "STOPPED", "ROLLED_BACK": .quiet
  default: nil
  }
}

extension Cell {
  static func state(_ text: String) -> Cell { Cell(text, tone: martlet.tone(ofState: text)) }
}

extension Kind {
  private var columns: [Column] {
    switch self {
    case .vnf:
      [
        .path("NAME", "vnfInstanceName"), .shortID,
        Column(title: "PRODUCT", isSpare: true) { value, _ in
          Cell("\(value["vnfProductName"].text) \(value["vnfSoftwareVersion"].text)")
        },
        Column(title: "STATE") { value, _ in .state(vnfState(value)) },
        .path("FLAVOUR", "instantiatedVnfInfo", "flavourId"),
        Column(title: "READY", isNumber: true) { value, _ in Cell(readiness(value)) },
        Column(title: "ADDRESSES") { value, _ in
          let points = value["instantiatedVnfInfo", "extCpInfo"].elements.map { point in
            ([point["cpdId"].text + "="] + addresses(point).prefix(1)).joined()
          }
          return Cell(points.joined(separator: " "))
        },
        .age("org.martlet", "createdAt"),
        .path("VNFD", "vnfdId", onlyWide: true),
        .path("OPERATION", "org.martlet", "openOperation", onlyWide: true), .fullID,
      ]
    case .op:
      [
        .shortID, .path("OPERATION", "operation"),
        Column(title: "STATE") { value, _ in .state(value["operationState"].text) },
        Column(title: "VNF") { value, _ in Cell(shortened(value["vnfInstanceId"].text)) },
        Column(title: "BY", isSpare: true) { value, _ in
          Cell(
            value["isAutomaticInvocation"] == .bool(true)
              ? "martlet" : value["org.martlet", "actor"].text)
        },
        Column(title: "TOOK", isNumber: true) { value, _ in
          Cell(operationTime(value).map { milliseconds($0) } ?? "")
        },
        .age("startTime"),
        Column(title: "ERROR", onlyWide: true) { value, _ in Cell(value["error", "detail"].text) },
        .fullID,
      ]
    case .package:
      [
        .path("PRODUCT", "vnfProductName"), .shortID, .path("VERSION", "vnfSoftwareVersion"),
        .path("PROVIDER", "vnfProvider", isSpare: true),
        Column(title: "STATE") { value, _ in .state(value["onboardingState"].text) },
        Column(title: "OPERATIONAL", isSpare: true) { value, _ in
          .state(value["operationalState"].text)
        },
        .path("USAGE", "usageState"),
        Column(title: "SIZE", isNumber: true) { value, _ in
          Cell(value["org.martlet", "size"].integer.map { octets($0) } ?? "")
        },
        .age("org.martlet", "createdAt"), .path("VNFD", "vnfdId", onlyWide: true),
        Column(title: "FLAVOURS", onlyWide: true) { value, _ in
          Cell(value["org.martlet", "flavours"].elements.map(\.text).joined(separator: ","))
        },
        .fullID,
      ]
    case .network:
      [
        .path("NAME", "name"), .shortID,
        Column(title: "SUBNETS") { value, _ in
          Cell(value["subnets"].elements.map { $0["prefix"].text }.joined(separator: " "))
        },
        .path("UPLINK", "uplink"), .path("MTU", "mtu", isNumber: true, isSpare: true),
        .path("PORTS", "ports", isNumber: true),
        Column(title: "ROUTES", onlyWide: true) { value, _ in
          Cell(
            value["routes"].elements.map { "\($0["destination"].text) via \($0["via"].text)" }
              .joined(separator: ", "))
        },
        Column(title: "VNF") { value, _ in Cell(shortened(value["vnfInstanceId"].text)) },
        .fullID,
      ]
    }
  }
}

/// The state in one word: ETSI's two states, what an open operation is about to change, and that nothing
/// of it runs because it is paused.
func vnfState(_ value: JSONValue) -> String {
  let isInstantiated = value["instantiationState"].text == "INSTANTIATED"
  let isBusy = !value["org.martlet", "openOperation"].text.isEmpty
  if isInstantiated {
    let states = Set(
      value["instantiatedVnfInfo", "vnfcResourceInfo"].elements.map { $0["metadata", "state"].text }
    )
    if states.contains("PAUSED"), !states.contains("RUNNING") { return "PAUSED" }
    return value["instantiatedVnfInfo", "vnfState"].text
  }
  return isBusy ? "INSTANTIATING" : "NOT_INSTANTIATED"
}

/// How many of the Vnfcs run: `2/3`.
func readiness(_ value: JSONValue) -> String {
  let vnfcs = value["instantiatedVnfInfo", "vnfcResourceInfo"].elements
  guard !vnfcs.isEmpty else { return "" }
  return "\(vnfcs.count { $0["metadata", "state"].text == "RUNNING" })/\(vnfcs.count)"
}

/// The addresses of a connection point.
func addresses(_ point: JSONValue) -> [String] {
  point["cpProtocolInfo"].elements.flatMap { protocolInfo in
    protocolInfo["ipOverEthernet", "ipAddresses"].elements.flatMap {
      $0["addresses"].elements.map(\.text)
    }
  }
}

/// From an ended operation's start to its end, in microseconds.
func operationTime(_ value: JSONValue) -> Int64? {
  let phases = value["org.martlet", "phases"].elements
  guard
    let end = phases.compactMap({ phase in
      phase["startMicroseconds"].integer.flatMap { start in
        phase["durationMicroseconds"].integer.map { start + $0 }
      }
    }).max()
  else { return nil }
  return end
}

/// Microseconds as milliseconds: `12.3 ms`.
func milliseconds(_ value: Int64) -> String {
  let tenths = (value + 50) / 100
  return "\(microseconds(tenths / 10)).\(tenths % 10) ms"
}
