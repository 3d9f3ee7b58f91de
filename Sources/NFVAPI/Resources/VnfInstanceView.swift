internal import NFVLifecycle
internal import NFVModel

/// A VNF instance as SOL003 5.5.2.2 shows it: taken from the state at one moment, written later.
struct VnfInstanceView: Sendable {
  let instance: VnfInstance
  let descriptor: VnfDescriptor?
  /// Empty where `instantiatedVnfInfo` is not asked for.
  private(set) var vnfcs: [VnfcView]

  /// A Vnfc with the workload that runs for it.
  struct VnfcView: Sendable {
    let vnfc: Vnfc
    /// The one that serves; else the last one that was asked for.
    let workload: WorkloadID
    let isServing: Bool
    /// Who can tell whether it is paused.
    let pausing: (any Pausing)?
    fileprivate(set) var isPaused = false
    let technology: Technology?
    /// What runs its instructions, where that is told.
    let accelerator: String?
    /// What of the host's mandatory access control holds it, where that is told.
    let securityProfile: SecurityProfile?
  }

  static let complex: Set<String> = [
    "vnfConfigurableProperties", "vimConnectionInfo", "instantiatedVnfInfo", "metadata",
    "extensions",
  ]

  static let attributes: Set<String> = [
    "id", "vnfInstanceName", "vnfdId", "vnfProvider", "vnfProductName", "vnfSoftwareVersion",
    "vnfdVersion", "instantiationState", "instantiatedVnfInfo/flavourId",
    "instantiatedVnfInfo/vnfState",
  ]

  init(
    _ instance: VnfInstance, in state: borrowing State, on host: NFVLifecycle.Host, withInfo: Bool
  ) {
    self.instance = instance
    descriptor = state.packages[instance.package]?.content?.descriptor
    var views: [VnfcView] = []
    if withInfo {
      // What was removed is in the state until the host has let go of it.
      for vnfc in state.vnfcs(of: instance.id)
      where instance.settled.vnfcs[vnfc.id] != nil || instance.target?.vnfcs[vnfc.id] != nil {
        let serving = state.serving(vnfc.id)
        let workload = serving ?? state.workload(vnfc, incarnation: vnfc.incarnation)
        let technology = descriptor?.flavour(vnfc.flavour)?.vdu(vnfc.vdu)?.technology
        let driver = technology.flatMap { host.driver(for: $0) }
        views.append(
          VnfcView(
            vnfc: vnfc,
            workload: workload,
            isServing: serving != nil,
            pausing: driver as? any Pausing,
            technology: technology,
            accelerator: driver?.accelerator,
            securityProfile: (driver as? any Confining)?.securityProfile(of: workload)))
      }
    }
    vnfcs = views
  }

  func showing(paused: Set<WorkloadID>) -> VnfInstanceView {
    var view = self
    for index in vnfcs.indices {
      view.vnfcs[index].isPaused = paused.contains(vnfcs[index].workload)
    }
    return view
  }

  /// The value of an attribute that can be filtered by.
  static func attribute(
    _ name: String, of instance: VnfInstance, in state: borrowing State
  ) -> String? {
    let descriptor = state.packages[instance.package]?.content?.descriptor
    return switch name {
    case "id": instance.id.rawValue
    case "vnfInstanceName": instance.name
    case "vnfdId": descriptor?.id
    case "vnfProvider": descriptor?.provider
    case "vnfProductName": descriptor?.productName
    case "vnfSoftwareVersion": descriptor?.softwareVersion
    case "vnfdVersion": descriptor?.descriptorVersion
    case "instantiationState": instance.instantiationState
    case "instantiatedVnfInfo/flavourId": instance.settled.flavour
    case "instantiatedVnfInfo/vnfState":
      instance.settled.isInstantiated ? instance.settled.operational.rawValue : nil
    default: nil
    }
  }

  /// What it is, or while it is instantiated for the first time, what it becomes.
  private var shown: VnfState? {
    if instance.settled.isInstantiated { return instance.settled }
    return instance.target.flatMap { $0.isInstantiated ? $0 : nil }
  }

  func write(to json: inout JSONWriter, _ selection: Selection = .all) {
    json.object {
      $0.field("id", instance.id)
      $0.field("vnfInstanceName", instance.name)
      $0.field("vnfInstanceDescription", instance.description)
      $0.field("vnfdId", descriptor?.id ?? "")
      $0.field("vnfProvider", descriptor?.provider ?? "")
      $0.field("vnfProductName", descriptor?.productName ?? "")
      $0.field("vnfSoftwareVersion", descriptor?.softwareVersion ?? "")
      $0.field("vnfdVersion", descriptor?.descriptorVersion ?? "")
      $0.field("instantiationState", instance.instantiationState)
      for (name, values) in [
        ("vnfConfigurableProperties", instance.info.configurableProperties),
        ("metadata", instance.info.metadata), ("extensions", instance.info.extensions),
      ] where !values.isEmpty && selection.includes(name) {
        $0.field(name, .object(values))
      }
      if selection.includes("instantiatedVnfInfo"), let shown { writeInfo(shown, to: &$0) }
      $0.object("org.martlet") {
        $0.field("vnfPkgId", instance.package)
        $0.field("createdAt", instance.createdAt)
        $0.field("openOperation", instance.openOperation)
      }
      writeLinks(to: &$0)
    }
  }

  private func writeLinks(to json: inout JSONWriter) {
    let path = Path.instance(instance.id)
    let actions =
      instance.settled.isInstantiated
      ? [
        ("terminate", "terminate"), ("scale", "scale"), ("scaleToLevel", "scale_to_level"),
        ("heal", "heal"), ("operate", "operate"),
      ] : [("instantiate", "instantiate")]
    json.object("_links") {
      $0.object("self") { $0.field("href", path) }
      for (name, task) in actions {
        $0.object(name) { $0.field("href", "\(path)/\(task)") }
      }
    }
  }

  // MARK: instantiatedVnfInfo

  private func writeInfo(_ state: VnfState, to json: inout JSONWriter) {
    let flavour = state.flavour.flatMap { descriptor?.flavour($0) }
    json.object("instantiatedVnfInfo") {
      $0.field("flavourId", state.flavour)
      $0.field("vnfState", state.operational.rawValue)
      if !state.scale.isEmpty {
        $0.objects("scaleStatus", state.scale.sorted { $0.key < $1.key }) {
          $0.field("aspectId", $1.key)
          $0.field("scaleLevel", $1.value)
        }
      }
      if let aspects = flavour?.scalingAspects, !aspects.isEmpty {
        $0.objects("maxScaleLevels", aspects) {
          $0.field("aspectId", $1.id)
          $0.field("scaleLevel", $1.maximumLevel)
        }
      }
      let ports = vnfcs.flatMap(\.vnfc.ports)
      $0.objects("extCpInfo", ports.filter { $0.externalCpd != nil }) {
        writeExternal($1, to: &$0)
      }
      writeExternalLinks(state, ports, to: &$0)
      $0.objects("vnfcResourceInfo", vnfcs) { write($1, state, flavour, to: &$0) }
      $0.objects(
        "vnfVirtualLinkResourceInfo", state.virtualLinks.sorted { $0.key < $1.key }
      ) { json, link in
        json.field("id", link.value)
        json.field("vnfVirtualLinkDescId", link.key)
        json.handle("networkResource", link.value.rawValue, type: "network")
        json.objects("vnfLinkPorts", ports.filter { $0.network == link.value }) {
          $0.field("id", $1.id)
          $0.handle("resourceHandle", $1.id.rawValue, type: "port")
          $0.field("cpInstanceId", $1.id)
          $0.field("cpInstanceType", "VNFC_CP")
        }
      }
    }
  }

  private func writeExternal(_ port: Port, to json: inout JSONWriter) {
    json.field("id", port.id)
    json.field("cpdId", port.externalCpd)
    json.field("cpConfigId", "default")
    write(protocolsOf: port, to: &json)
    json.field("extLinkPortId", port.id)
    json.field("associatedVnfcCpId", port.id)
  }

  private func writeExternalLinks(
    _ state: VnfState, _ ports: [Port], to json: inout JSONWriter
  ) {
    // Two connection points of one network may come by two virtual links, or by one.
    let links = Dictionary(grouping: state.external) {
      $0.value.virtualLinkID ?? $0.value.network.rawValue
    }
    json.objects("extVirtualLinkInfo", links.sorted { $0.key < $1.key }) { json, link in
      let cpds = link.value.map(\.key).sorted()
      json.field("id", link.key)
      json.handle("resourceHandle", link.value[0].value.network.rawValue, type: "network")
      json.objects(
        "extLinkPorts", ports.filter { $0.externalCpd.map(cpds.contains) ?? false }
      ) {
        $0.field("id", $1.id)
        $0.handle("resourceHandle", $1.id.rawValue, type: "port")
        $0.field("cpInstanceId", $1.id)
      }
      json.objects("currentVnfExtCpData", cpds) { $0.field("cpdId", $1) }
    }
  }

  private func write(
    _ view: VnfcView, _ state: VnfState, _ flavour: DeploymentFlavour?, to json: inout JSONWriter
  ) {
    let vnfc = view.vnfc
    json.field("id", vnfc.id)
    json.field("vduId", vnfc.vdu)
    json.handle(
      "computeResource", view.workload.name,
      type: flavour?.vdu(vnfc.vdu)?.technology.rawValue ?? Technology.container.rawValue)
    json.objects("vnfcCpInfo", vnfc.ports) { json, port in
      json.field("id", port.id)
      json.field("cpdId", port.cpd)
      if port.externalCpd != nil {
        json.field("vnfExtCpId", port.id)
      } else {
        json.field("vnfLinkPortId", port.id)
      }
      write(protocolsOf: port, to: &json)
      json.object("metadata") {
        $0.field("interface", port.interface)
        $0.field("networkId", port.network)
        $0.field("mtu", port.mtu)
        $0.field("mode", port.mode.rawValue)
      }
    }
    json.object("metadata") {
      $0.field("ordinal", vnfc.ordinal)
      $0.field("incarnation", view.workload.incarnation)
      $0.field("state", status(of: view, state))
      $0.field("hostId", vnfc.host)
      $0.field("technology", view.technology?.rawValue)
      $0.field("accelerator", view.accelerator)
      $0.field("securityProfile", view.securityProfile?.description)
      $0.field("failures", vnfc.restart?.failures ?? 0)
      if let restart = vnfc.restart {
        $0.field("notBefore", restart.notBefore)
        $0.field("lastExit", restart.lastExit?.description)
      }
    }
  }

  private func status(of view: VnfcView, _ state: VnfState) -> String {
    if view.isServing { return view.isPaused ? "PAUSED" : "RUNNING" }
    if state.operational == .stopped { return "STOPPED" }
    guard let restart = view.vnfc.restart else { return "STARTING" }
    if restart.isExhausted { return "FAILED" }
    return restart.outageSince == nil ? "STARTING" : "BACKING_OFF"
  }

  private func write(protocolsOf port: Port, to json: inout JSONWriter) {
    json.objects("cpProtocolInfo", CollectionOfOne(port)) { json, port in
      json.field("layerProtocol", "IP_OVER_ETHERNET")
      json.object("ipOverEthernet") { json in
        json.field("macAddress", port.mac.description)
        json.objects("ipAddresses", port.addresses) { json, prefix in
          json.field("type", prefix.address.family == .v4 ? "IPV4" : "IPV6")
          json.array("addresses") { $0.value(prefix.address.description) }
          json.field("isDynamic", false)
        }
      }
    }
  }
}

extension VnfInstance {
  /// SOL003 5.5.2.2.
  var instantiationState: String { settled.isInstantiated ? "INSTANTIATED" : "NOT_INSTANTIATED" }
}

extension JSONWriter {
  /// A ResourceHandle (SOL003 4.4.1.7).
  mutating func handle(_ name: String, _ resource: String, type: String) {
    object(name) {
      $0.field("resourceId", resource)
      $0.field("vimLevelResourceType", type)
    }
  }
}

/// Where resources stand.
enum Path {
  static let packages = "/vnfpkgm/v2/vnf_packages"
  static let instances = "/vnflcm/v2/vnf_instances"
  static let occurrences = "/vnflcm/v2/vnf_lcm_op_occs"
  static let networks = "/martlet/v1/networks"

  static func package(_ id: VnfPackageID) -> String { "\(packages)/\(id)" }
  static func instance(_ id: VnfInstanceID) -> String { "\(instances)/\(id)" }
  static func occurrence(_ id: VnfLcmOpOccID) -> String { "\(occurrences)/\(id)" }
  static func network(_ id: NetworkID) -> String { "\(networks)/\(id)" }
}
