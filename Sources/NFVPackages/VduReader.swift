internal import FoundationEssentials
internal import NFVModel

extension DescriptorReader {
  func vdu(_ node: NodeTemplate, _ nodes: [NodeTemplate], _ policies: Policies) -> Vdu {
    let isUnit = node.base == "tosca.nodes.nfv.Vdu.OsContainerDeployableUnit"
    var vdu = Vdu(
      id: node.name, name: node.property("name")?.text ?? node.name,
      technology: isUnit ? .container : .standardvm)
    let capabilities: ToscaNode?
    if isUnit {
      capabilities = node.property("requested_additional_capabilities")
      container(of: node, nodes, &vdu)
    } else {
      let compute = node.node["capabilities", "virtual_compute", "properties"]
      capabilities = compute?["requested_additional_capabilities"]
      if let count = findings.count(compute?["virtual_cpu", "num_virtual_cpu"]) {
        vdu.cpuMillicores = count * 1000
      }
      if let memory = compute?["virtual_memory", "virtual_mem_size"] {
        vdu.memoryBytes = size(memory) ?? vdu.memoryBytes
      }
      image(of: node, &vdu)
    }
    for (_, entry) in capabilities?.entries ?? [] { apply(entry, to: &vdu) }
    if vdu.technology == .unikernel { vdu.addressOwner = vdu.addressOwner ?? .function }
    checkAddressOwner(of: vdu, node)
    let profile = node.property("vdu_profile")
    vdu.minimumInstances = findings.count(profile?["min_number_of_instances"]) ?? 0
    vdu.maximumInstances = findings.count(profile?["max_number_of_instances"]) ?? 1
    vdu.initialInstances =
      policies.initialInstances[node.name] ?? max(1, vdu.minimumInstances)
    vdu.storages = storages(of: node, nodes)
    vdu.cpds = points(of: node, nodes, modes: Self.modes(capabilities))
    return vdu
  }

  private func size(_ node: ToscaNode) -> UInt64? {
    if let bytes = node.bytes { return bytes }
    findings.add(.error, node, "\(node.text ?? "") is no size such as 64 MB")
    return nil
  }

  private func storages(of node: NodeTemplate, _ nodes: [NodeTemplate]) -> [VirtualBlockStorage] {
    node.requirements("virtual_storage").compactMap { target in
      guard let name = target.text ?? target["node"]?.text,
        let storage = nodes.first(where: { $0.name == name })
      else {
        findings.add(.error, target, "\(node.name) needs a virtual storage that is not there")
        return nil
      }
      guard storage.base == "tosca.nodes.nfv.Vdu.VirtualBlockStorage",
        let size = storage.node["properties", "virtual_block_storage_data", "size_of_storage"]
      else { return nil }
      return self.size(size).map { VirtualBlockStorage(id: name, sizeBytes: $0) }
    }
  }

  // MARK: Images

  private func image(of node: NodeTemplate, _ vdu: inout Vdu) {
    let format = node.node["properties", "sw_image_data", "container_format"]?.text
    if format?.lowercased() == "docker" { vdu.technology = .container }
    for (_, artifact) in node.node["artifacts"]?.entries ?? []
    where artifact["type"]?.text.map(templates.base) == "tosca.artifacts.nfv.SwImage" {
      if artifact["properties", "container_format"]?.text?.lowercased() == "docker" {
        vdu.technology = .container
      }
      guard let file = artifact["file"]?.text else {
        findings.add(.error, artifact, "a software image names its file")
        continue
      }
      let path = templates.resolve(file, from: node.node.file)
      vdu.imagePath = path
      if files.files[path] == nil, files.recipe(of: path) == nil {
        findings.add(
          .warning, artifact,
          "the image \(file) is not in the package; the VDU \(node.name) cannot be instantiated")
      }
    }
  }

  private func container(of node: NodeTemplate, _ nodes: [NodeTemplate], _ vdu: inout Vdu) {
    let names = node.requirements("container").compactMap { $0.text ?? $0["node"]?.text }
    let found = names.compactMap { name in nodes.first { $0.name == name } }
    guard let container = found.first else {
      return findings.add(.error, node.node, "\(node.name) has no OsContainer (`container`)")
    }
    if found.count > 1 {
      findings.add(
        .error, node.node, "\(node.name) has \(found.count) containers; one a unit can be run")
    }
    vdu.cpuMillicores =
      findings.count(
        container.property("cpu_resource_limit") ?? container.property("requested_cpu_resources"))
    if let memory = container.property("memory_resource_limit")
      ?? container.property("requested_memory_resources")
    {
      vdu.memoryBytes = size(memory) ?? vdu.memoryBytes
    }
    if let layer = container.property("ephemeral_storage_resource_limit")
      ?? container.property("requested_ephemeral_storage_resources")
    {
      vdu.writableLayerBytes = size(layer) ?? vdu.writableLayerBytes
    }
    image(of: container, &vdu)
  }

  // MARK: Connection points

  private func points(
    of node: NodeTemplate, _ nodes: [NodeTemplate], modes: [String: ToscaNode]
  ) -> [VduCpd] {
    let mine = nodes.filter {
      $0.base == "tosca.nodes.nfv.VduCp" && $0.requirement("virtual_binding") == node.name
    }
    let ordered = mine.enumerated().sorted {
      ($0.element.property("order")?.integer ?? 1000, $0.offset)
        < ($1.element.property("order")?.integer ?? 1000, $1.offset)
    }
    for (name, value) in modes where !mine.contains(where: { $0.name == name }) {
      findings.add(.error, value, "\(node.name) has no connection point \(name)")
    }
    return ordered.map { _, point in
      let link = point.requirement("virtual_link")
      if let link, !nodes.contains(where: { $0.name == link }) {
        findings.add(.error, point.node, "\(point.name) is on \(link), which is not there")
      }
      var mode = PortMode.host
      if let value = modes[point.name] {
        if let known = value.text.flatMap(PortMode.init) {
          mode = known
        } else {
          findings.add(
            .error, value, "\(value.text ?? "") is no port mode: host, router or bridge")
        }
      }
      return VduCpd(id: point.name, virtualLink: link, mode: mode)
    }
  }

  private static func modes(_ capabilities: ToscaNode?) -> [String: ToscaNode] {
    for (_, entry) in capabilities?.entries ?? []
    where entry["requested_additional_capability_name"]?.text == "org.martlet.ports" {
      let modes = entry["target_performance_parameters"]?.entries ?? []
      return Dictionary(modes.map { ($0.key, $0.value) }) { first, _ in first }
    }
    return [:]
  }

  // MARK: org.martlet

  private static let allowedCapabilities: Set<String> = [
    "NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE",
  ]

  /// One entry of `requested_additional_capabilities`; those of others have no effect.
  private func apply(_ entry: ToscaNode, to vdu: inout Vdu) {
    guard let name = entry["requested_additional_capability_name"]?.text,
      name.hasPrefix("org.martlet.")
    else { return }
    let values = entry["target_performance_parameters"]
    switch name.dropFirst(12) {
    case "technology":
      guard let technology = values?["technology"]?.text.flatMap(Technology.init) else {
        return findings.add(
          .error, entry, "technology is container, tinyx, unikernel or standardvm")
      }
      vdu.technology = technology
    case "readiness": vdu.readiness = readiness(entry, values)
    case "linux_capabilities":
      let names = words(values?["add"])
      for name in names where !Self.allowedCapabilities.contains(name) {
        findings.add(
          .error, entry,
          "the Linux capability \(name) cannot be asked for; allowed are "
            + Self.allowedCapabilities.sorted().joined(separator: ", "))
      }
      vdu.linuxCapabilities = names
    // Read with the connection points.
    case "ports": break
    case "forwarding": vdu.forwards = values?["enabled"]?.boolean ?? true
    case "addresses":
      guard let owner = values?["owner"]?.text.flatMap(AddressOwner.init) else {
        return findings.add(.error, entry, "the owner of addresses is kernel or function")
      }
      vdu.addressOwner = owner
    case "command": vdu.command = arguments(values?["argv"])
    case "environment":
      vdu.environment = (values?.entries ?? []).map { "\($0.key)=\($0.value.text ?? "")" }
    case "writable_layer":
      if let value = values?["size"] { vdu.writableLayerBytes = size(value) ?? 0 }
    case "files":
      for (target, source) in values?.entries ?? [] {
        let path = templates.resolve(source.text ?? "", from: entry.file)
        if files.text(path) == nil {
          findings.add(.error, source, "the template \(path) is not in the package")
        }
        if !target.hasPrefix("/") || target.contains("..") {
          findings.add(.error, source, "\(target) is no absolute path inside the function")
        }
        vdu.files.append(TemplateFile(source: path, path: target))
      }
    default:
      findings.add(
        .error, entry,
        "\(name) is unknown; there are org.martlet.technology, readiness, linux_capabilities, "
          + "ports, forwarding, addresses, command, environment, writable_layer and files")
    }
  }

  /// Nobody but a kernel sets addresses, and frames are not everybody's.
  private func checkAddressOwner(of vdu: Vdu, _ node: NodeTemplate) {
    switch (vdu.technology, vdu.addressOwner ?? .kernel) {
    case (.unikernel, .kernel):
      findings.add(
        .error, node.node,
        "\(vdu.id) is a unikernel: the owner of its addresses is the function")
    case (.container, .function) where !vdu.linuxCapabilities.contains("NET_RAW"):
      findings.add(
        .error, node.node,
        "\(vdu.id) owns its addresses, and so reads and writes frames: it needs the Linux "
          + "capability NET_RAW (org.martlet.linux_capabilities)")
    default: break
    }
  }

  private func readiness(_ entry: ToscaNode, _ values: ToscaNode?) -> Readiness {
    var readiness = Readiness()
    switch values?["check"]?.text {
    case "running": readiness.check = .running
    case "icmp": readiness.check = .network(.icmp)
    case "tcp":
      guard let port = values?["port"]?.integer, (1...65535).contains(port) else {
        findings.add(.error, entry, "a readiness check by tcp needs a port from 1 to 65535")
        break
      }
      readiness.check = .network(.tcp(port))
    case "command":
      let arguments = arguments(values?["argv"]) ?? []
      if arguments.isEmpty { findings.add(.error, entry, "a readiness command needs argv") }
      readiness.check = .command(arguments)
    default: findings.add(.error, entry, "check is running, icmp, tcp or command")
    }
    if let interval = values?["interval_ms"]?.integer {
      readiness.intervalMilliseconds = min(max(interval, 1), 60_000)
    }
    if let timeout = values?["timeout_ms"]?.integer {
      readiness.timeoutMilliseconds = min(max(timeout, 1), 600_000)
    }
    return readiness
  }

  private func words(_ node: ToscaNode?) -> [String] {
    if let elements = node?.elements, !elements.isEmpty { return elements.compactMap(\.text) }
    return (node?.text ?? "").split { $0 == "," || $0 == " " }.map(String.init)
  }

  /// Arguments as a YAML list, or, as SOL001 has strings there, a JSON list in a string.
  private func arguments(_ node: ToscaNode?) -> [String]? {
    guard let node else { return nil }
    if !node.elements.isEmpty { return node.elements.compactMap(\.text) }
    guard let text = node.text else { return nil }
    if let list = try? JSONDecoder().decode([String].self, from: Data(text.utf8)) { return list }
    findings.add(.error, node, "argv is a list of strings, such as '[\"nft\", \"list\"]'")
    return nil
  }
}
