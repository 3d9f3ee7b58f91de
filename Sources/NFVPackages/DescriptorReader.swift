internal import NFVModel

/// Reads SOL001 documents into a `VnfDescriptor`.
struct DescriptorReader {
  let templates: ToscaTemplates
  let files: PackageFiles
  let findings: Findings

  /// A node of a template, its type known.
  struct NodeTemplate {
    var name: String
    var type: String
    /// ETSI's type.
    var base: String
    var node: ToscaNode

    func property(_ name: String) -> ToscaNode? { node["properties", name] }

    /// The targets of a requirement; a requirement is a name or a mapping with `node`.
    func requirements(_ name: String) -> [ToscaNode] {
      (node["requirements"]?.elements ?? []).compactMap { $0[name] }
    }

    func requirement(_ name: String) -> String? {
      requirements(name).first.flatMap { $0.text ?? $0["node"]?.text }
    }
  }

  func read() -> VnfDescriptor? {
    guard let entry = templates.documents.first else { return nil }
    let all = templates.documents.map { ($0.root, nodes(of: $0.root)) }
    for case (_, let nodes) in all { checkTypes(nodes) }
    // A flavour is a template with VDUs; the top one only chooses where there are several.
    let described = all.filter { pair in pair.1.contains { Self.isVdu($0.base) } }
    guard let top = all.flatMap(\.1).first(where: { $0.base == "tosca.nodes.nfv.VNF" }) else {
      findings.add(.error, entry.root, "no node of a type derived from tosca.nodes.nfv.VNF")
      return nil
    }
    var flavours: [DeploymentFlavour] = []
    for (root, nodes) in described {
      guard let flavour = self.flavour(root, nodes, top) else { continue }
      if flavours.contains(where: { $0.id == flavour.id }) {
        findings.add(.error, root, "the flavour \(flavour.id) is described twice")
      } else {
        flavours.append(flavour)
      }
    }
    if flavours.isEmpty, !findings.hasErrors {
      findings.add(.error, entry.root, "it describes no deployment flavour: no VDU anywhere")
    }
    checkSameConnectionPoints(flavours, top.node)
    func text(_ property: String) -> String {
      if let value = top.property(property)?.text
        ?? templates.defaultValue(of: property, in: top.type)?.text
      {
        return value
      }
      findings.add(.error, top.node, "the property \(property) of the VNF is missing")
      return ""
    }
    var modifiable = ModifiableReader(templates: templates, findings: findings)
    return VnfDescriptor(
      id: text("descriptor_id"), provider: text("provider"), productName: text("product_name"),
      softwareVersion: text("software_version"), descriptorVersion: text("descriptor_version"),
      flavours: flavours, parameters: parameters(of: top, in: all.flatMap(\.1)),
      modifiable: modifiable.read(top))
  }

  private func nodes(of root: ToscaNode) -> [NodeTemplate] {
    (root["topology_template", "node_templates"]?.entries ?? []).compactMap { name, node in
      guard let type = node["type"]?.text else {
        findings.add(.error, node, "the node \(name) has no type")
        return nil
      }
      return NodeTemplate(name: name, type: type, base: templates.base(of: type), node: node)
    }
  }

  static func isVdu(_ base: String) -> Bool {
    base == "tosca.nodes.nfv.Vdu.Compute" || base == "tosca.nodes.nfv.Vdu.OsContainerDeployableUnit"
  }

  private static let known: Set<String> = [
    "VNF", "VnfExtCp", "VduCp", "VirtualCp", "VnfVirtualLink", "Vdu.Compute", "Vdu.OsContainer",
    "Vdu.OsContainerDeployableUnit", "Vdu.VirtualBlockStorage", "Vdu.VirtualObjectStorage",
    "Vdu.VirtualFileStorage", "VduSubCp", "VipCp", "Mciop",
  ]

  private func checkTypes(_ nodes: [NodeTemplate]) {
    for node in nodes {
      let short = node.base.hasPrefix("tosca.nodes.nfv.") ? String(node.base.dropFirst(16)) : ""
      if !Self.known.contains(short) {
        findings.add(
          .error, node.node,
          "the node \(node.name) is of the unknown type \(node.type); derive it from a type of "
            + "SOL001 in node_types, or correct the name")
      } else if [
        "VduSubCp", "VipCp", "Mciop", "Vdu.VirtualObjectStorage", "Vdu.VirtualFileStorage",
      ]
      .contains(short) {
        findings.add(.warning, node.node, "\(node.name): \(short) has no effect here")
      }
    }
  }

  private func checkSameConnectionPoints(_ flavours: [DeploymentFlavour], _ node: ToscaNode) {
    guard let first = flavours.first else { return }
    let expected = Set(first.externalCpds.map(\.id))
    for other in flavours.dropFirst() where Set(other.externalCpds.map(\.id)) != expected {
      findings.add(
        .error, node,
        "the flavours \(first.id) and \(other.id) expose different external connection points; "
          + "changing the flavour needs the same ones")
    }
  }

  // MARK: Flavours

  private func flavour(
    _ root: ToscaNode, _ nodes: [NodeTemplate], _ top: NodeTemplate
  ) -> DeploymentFlavour? {
    let own = nodes.first { $0.base == "tosca.nodes.nfv.VNF" }
    let mapped = root["topology_template", "substitution_mappings"]
    let id =
      mapped?["properties", "flavour_id"]?.text ?? own?.property("flavour_id")?.text
      ?? templates.defaultValue(of: "flavour_id", in: own?.type ?? top.type)?.text
    guard let id, !id.isEmpty else {
      findings.add(
        .error, mapped ?? own?.node ?? root,
        "the flavour has no flavour_id: set it in substitution_mappings or in the VNF's properties")
      return nil
    }
    let policies = Policies(root, templates, findings)
    var flavour = DeploymentFlavour(
      id: id, description: own?.property("flavour_description")?.text ?? "",
      vdus: nodes.filter { Self.isVdu($0.base) }.map { vdu($0, nodes, policies) })
    flavour.virtualLinks = nodes.filter { $0.base == "tosca.nodes.nfv.VnfVirtualLink" }.map(link)
    flavour.externalCpds = externalPoints(mapped, nodes, flavour)
    flavour.scalingAspects = policies.aspects
    flavour.instantiationLevels = policies.levels
    flavour.defaultInstantiationLevel = policies.defaultLevel
    flavour.affinityRules = policies.affinity
    checkLevels(flavour, root)
    return flavour
  }

  /// Levels name aspects and VDUs that are there, and the default level is one of them.
  private func checkLevels(_ flavour: DeploymentFlavour, _ root: ToscaNode) {
    let node = root["topology_template", "policies"] ?? root
    let maximum = Dictionary(flavour.scalingAspects.map { ($0.id, $0.maximumLevel) }) { first, _ in
      first
    }
    if maximum.count < flavour.scalingAspects.count {
      findings.add(.error, node, "a scaling aspect is described twice")
    }
    for (id, level) in flavour.instantiationLevels.sorted(by: { $0.key < $1.key }) {
      for (aspect, value) in level.scale.sorted(by: { $0.key < $1.key }) {
        guard let highest = maximum[aspect] else {
          findings.add(
            .error, node, "the level \(id) names the scaling aspect \(aspect), which is not there")
          continue
        }
        if value > highest {
          findings.add(.error, node, "the level \(id) is beyond the \(highest) levels of \(aspect)")
        }
      }
      for vdu in level.instances.keys.sorted() where flavour.vdu(vdu) == nil {
        findings.add(.error, node, "the level \(id) names the VDU \(vdu), which is not there")
      }
    }
    for aspect in flavour.scalingAspects {
      for vdu in aspect.deltas.keys.sorted() where flavour.vdu(vdu) == nil {
        findings.add(
          .error, node, "the scaling aspect \(aspect.id) names the VDU \(vdu), which is not there")
      }
    }
    if let level = flavour.defaultInstantiationLevel, flavour.instantiationLevels[level] == nil {
      findings.add(.error, node, "the default level \(level) is none of the instantiation levels")
    }
  }

  private func link(_ node: NodeTemplate) -> VirtualLinkDescriptor {
    var link = VirtualLinkDescriptor(id: node.name)
    let data = node.node["properties", "vl_profile", "virtual_link_protocol_data"]
    for protocolData in data?.elements ?? [] {
      if let cidr = protocolData["l3_protocol_data", "cidr"] {
        if let prefix = cidr.text.flatMap(IPPrefix.init) {
          link.subnets.append(prefix.network)
        } else {
          findings.add(.error, cidr, "\(cidr.text ?? "") is no address prefix such as 10.1.0.0/24")
        }
      }
      if let mtu = findings.count(protocolData["l2_protocol_data", "mtu"]) { link.mtu = mtu }
    }
    return link
  }

  /// The connection points that the VNF shows: those that the substitution maps, VnfExtCps, and those
  /// that no internal link takes.
  private func externalPoints(
    _ mapped: ToscaNode?, _ nodes: [NodeTemplate], _ flavour: DeploymentFlavour
  ) -> [ExternalCpd] {
    let targets =
      (mapped?["requirements"]?.entries ?? []).compactMap {
        $0.value.elements.first?.text
      }
      + (mapped?["requirements"]?.elements ?? []).flatMap {
        $0.entries.compactMap { $0.value.elements.first?.text }
      }
    var points: [ExternalCpd] = []
    for node in nodes {
      switch node.base {
      case "tosca.nodes.nfv.VduCp":
        guard let vdu = node.requirement("virtual_binding"),
          nodes.contains(where: { $0.name == vdu && Self.isVdu($0.base) })
        else {
          findings.add(.error, node.node, "\(node.name) is bound to no VDU (virtual_binding)")
          continue
        }
        let isInternal = node.requirement("virtual_link") != nil
        guard targets.contains(node.name) || !isInternal else { continue }
        points.append(.init(id: node.name, exposes: .vduCpd(vdu: vdu, cpd: node.name)))
      case "tosca.nodes.nfv.VnfExtCp":
        guard let link = node.requirement("internal_virtual_link") else {
          findings.add(.error, node.node, "\(node.name) has no internal_virtual_link")
          continue
        }
        if !flavour.virtualLinks.contains(where: { $0.id == link }) {
          findings.add(.error, node.node, "\(node.name) exposes \(link), which is no virtual link")
        }
        points.append(.init(id: node.name, exposes: .virtualLink(link)))
      case "tosca.nodes.nfv.VirtualCp":
        let isInternal = node.requirement("virtual_link") != nil
        guard targets.contains(node.name) || !isInternal else { continue }
        points.append(.init(id: node.name, exposes: .virtualCp(node.name)))
      default: continue
      }
    }
    for name in targets where !points.contains(where: { $0.id == name }) {
      findings.add(
        .error, mapped ?? nodes[0].node, "substitution_mappings expose \(name), which is not there")
    }
    return points
  }

  // MARK: Parameters

  /// What instantiation can be told: the properties of the type of its `additional_parameters`.
  private func parameters(
    of top: NodeTemplate, in nodes: [NodeTemplate]
  ) -> [String: VnfDescriptor.Parameter] {
    var parameters: [String: VnfDescriptor.Parameter] = [:]
    var schemas = SchemaReader(templates: templates, findings: findings)
    let sources =
      [templates.nodeTypes[top.type]].compactMap(\.self)
      + nodes.filter { $0.base == "tosca.nodes.nfv.VNF" }.map(\.node)
    for source in sources {
      let operation =
        source["interfaces", "Vnflcm", "operations", "instantiate"]
        ?? source["interfaces", "Vnflcm", "instantiate"]
      guard let type = operation?["inputs", "additional_parameters", "type"] else { continue }
      guard let definition = type.text.flatMap({ templates.dataTypes[$0] }) else {
        findings.add(.error, type, "the data type \(type.text ?? "") is defined nowhere")
        continue
      }
      for (name, property) in definition["properties"]?.entries ?? [] {
        parameters[name] = schemas.parameter(name, property, value: nil)
      }
    }
    return parameters
  }
}
