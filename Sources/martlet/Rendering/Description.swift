internal import NFVModel

/// A resource in sections for reading.
/// - Parameter usage: what the Vnfcs of a VNF use and count, by their identifiers.
func description(
  of value: JSONValue, _ kind: Kind, usage: [String: JSONValue] = [:], now: Timestamp, color: Bool
) -> String {
  var page = Page(color: color, now: now)
  switch kind {
  case .vnf: page.describeVnf(value, usage)
  case .op: page.describeOperation(value)
  case .package: page.describePackage(value)
  case .network: page.describeNetwork(value)
  }
  return page.text
}

/// What a daemon says about itself and its host (`/martlet/v1/info`), in sections for reading.
func hostDescription(_ info: JSONValue, color: Bool) -> String {
  var page = Page(color: color, now: .now)
  page.describeHost(info)
  return page.text
}

/// A text that grows by facts, headings and tables.
private struct Page {
  var color: Bool
  var now: Timestamp
  var text = ""

  /// Lines of `Label:  value`; those without a value are left out.
  mutating func facts(_ facts: [(String, Cell)]) {
    let present = facts.filter { !$0.1.text.isEmpty }
    let rows = present.map { [Cell($0.0 + ":"), $0.1] }
    text += Table(titles: ["", ""], rows: rows).rendered(color: color)
  }

  mutating func section(_ title: String, _ table: Table) {
    guard !table.rows.isEmpty else { return }
    text += "\n\(title)\n" + table.rendered(color: color, indent: 2)
  }

  func moment(_ value: JSONValue) -> Cell {
    guard let then = Timestamp(value.text) else { return Cell(value.text) }
    return Cell("\(value.text) (\(span(now - then)) ago)")
  }

  mutating func describeVnf(_ vnf: JSONValue, _ usage: [String: JSONValue]) {
    let info = vnf["instantiatedVnfInfo"]
    facts([
      ("Name", Cell(vnf["vnfInstanceName"].text)),
      ("Id", Cell(vnf["id"].text)),
      ("Description", Cell(vnf["vnfInstanceDescription"].text)),
      (
        "Product",
        Cell(
          "\(vnf["vnfProductName"].text) \(vnf["vnfSoftwareVersion"].text) by "
            + vnf["vnfProvider"].text)
      ),
      ("VNFD", Cell("\(vnf["vnfdId"].text), version \(vnf["vnfdVersion"].text)")),
      ("Package", Cell(vnf["org.martlet", "vnfPkgId"].text)),
      ("State", .state(vnfState(vnf))),
      ("Flavour", Cell(info["flavourId"].text)),
      ("Security profile", Cell(securityProfiles(info))),
      ("Open operation", Cell(vnf["org.martlet", "openOperation"].text)),
      ("Created", moment(vnf["org.martlet", "createdAt"])),
    ])
    for (title, attribute) in [
      ("Configurable properties", "vnfConfigurableProperties"), ("Extensions", "extensions"),
      ("Metadata", "metadata"),
    ] {
      section(title, members(vnf[attribute]))
    }
    section("Connection points", externalPoints(info))
    section("Vnfcs", vnfcs(info))
    section("Ports of the Vnfcs", ports(info))
    section("Counters of the functions", counters(info, usage))
    section(
      "Internal networks",
      Table(
        titles: ["VIRTUAL LINK", "NETWORK", "PORTS"], alignedRight: [2],
        rows: info["vnfVirtualLinkResourceInfo"].elements.map {
          [
            Cell($0["vnfVirtualLinkDescId"].text),
            Cell($0["networkResource", "resourceId"].text),
            Cell(String($0["vnfLinkPorts"].elements.count)),
          ]
        }))
    let most = Dictionary(
      info["maxScaleLevels"].elements.map { ($0["aspectId"].text, $0["scaleLevel"].text) },
      uniquingKeysWith: { first, _ in first })
    section(
      "Scaling",
      Table(
        titles: ["ASPECT", "LEVEL", "AT MOST"], alignedRight: [1, 2],
        rows: info["scaleStatus"].elements.map {
          let aspect = $0["aspectId"].text
          return [Cell(aspect), Cell($0["scaleLevel"].text), Cell(most[aspect] ?? "")]
        }))
  }

  /// What the host's mandatory access control does to the Vnfcs; each thing once.
  private func securityProfiles(_ info: JSONValue) -> String {
    Set(info["vnfcResourceInfo"].elements.map { $0["metadata", "securityProfile"].text })
      .filter { !$0.isEmpty }.sorted().joined(separator: "; ")
  }

  private func members(_ value: JSONValue) -> Table {
    Table(
      titles: ["KEY", "VALUE"],
      rows: value.members.sorted { $0.key < $1.key }.map {
        [Cell($0.key), Cell($0.value.string ?? $0.value.compact)]
      })
  }

  private func externalPoints(_ info: JSONValue) -> Table {
    var networks: [String: String] = [:]
    for link in info["extVirtualLinkInfo"].elements {
      for port in link["extLinkPorts"].elements {
        networks[port["cpInstanceId"].text] = link["resourceHandle", "resourceId"].text
      }
    }
    return Table(
      titles: ["POINT", "ADDRESSES", "MAC", "NETWORK"],
      rows: info["extCpInfo"].elements.map { point in
        [
          Cell(point["cpdId"].text), Cell(addresses(point).joined(separator: " ")),
          Cell(mac(point)), Cell(networks[point["id"].text] ?? ""),
        ]
      })
  }

  private func vnfcs(_ info: JSONValue) -> Table {
    Table(
      titles: ["ID", "VDU", "NO", "KIND", "STATE", "WORKLOAD", "STARTS", "FAILURES", "LAST EXIT"],
      alignedRight: [2, 6, 7],
      rows: info["vnfcResourceInfo"].elements.map { vnfc in
        let metadata = vnfc["metadata"]
        return [
          Cell(vnfc["id"].text), Cell(vnfc["vduId"].text), Cell(metadata["ordinal"].text),
          Cell(kind(metadata)), .state(metadata["state"].text),
          Cell(vnfc["computeResource", "resourceId"].text),
          Cell(metadata["incarnation"].text), Cell(metadata["failures"].text),
          Cell(metadata["lastExit"].text),
        ]
      })
  }

  /// What a Vnfc runs as; a virtual machine with what runs its instructions.
  private func kind(_ metadata: JSONValue) -> String {
    let accelerator = metadata["accelerator"].text
    return metadata["technology"].text
      + (accelerator.isEmpty ? "" : " (\(accelerator.uppercased()))")
  }

  private func counters(_ info: JSONValue, _ usage: [String: JSONValue]) -> Table {
    Table(
      titles: ["VNFC", "COUNTER", "VALUE"], alignedRight: [2],
      rows: info["vnfcResourceInfo"].elements.map { $0["id"].text }.flatMap { vnfc in
        (usage[vnfc] ?? .null)["functionCounters"].elements.map {
          [Cell(shortened(vnfc)), Cell($0["name"].text), Cell($0["value"].text)]
        }
      })
  }

  private func ports(_ info: JSONValue) -> Table {
    Table(
      titles: ["VNFC", "POINT", "INTERFACE", "ADDRESSES", "MAC", "MTU"], alignedRight: [5],
      rows: info["vnfcResourceInfo"].elements.flatMap { vnfc in
        vnfc["vnfcCpInfo"].elements.map { point in
          [
            Cell(shortened(vnfc["id"].text)), Cell(point["cpdId"].text),
            Cell(point["metadata", "interface"].text),
            Cell(addresses(point).joined(separator: " ")), Cell(mac(point)),
            Cell(point["metadata", "mtu"].text),
          ]
        }
      })
  }

  private func mac(_ point: JSONValue) -> String {
    point["cpProtocolInfo"].elements.map { $0["ipOverEthernet", "macAddress"].text }.first ?? ""
  }

  mutating func describeOperation(_ operation: JSONValue) {
    let isAutomatic = operation["isAutomaticInvocation"] == .bool(true)
    facts([
      ("Id", Cell(operation["id"].text)),
      ("Operation", Cell(operation["operation"].text)),
      ("State", .state(operation["operationState"].text)),
      ("VNF", Cell(operation["vnfInstanceId"].text)),
      (
        "Begun by",
        Cell(isAutomatic ? "martlet, by itself" : operation["org.martlet", "actor"].text)
      ),
      ("Started", moment(operation["startTime"])),
      ("State since", moment(operation["stateEnteredTime"])),
      ("Took", Cell(operationTime(operation).map { milliseconds($0) } ?? "")),
      ("Error", Cell(failureReason(operation), tone: .bad)),
    ])
    if operation["operationParams"].members.isEmpty == false {
      text += "\nParameters\n"
      for line in operation["operationParams"].yaml.split(separator: "\n") {
        text += "  \(String(line).printable)\n"
      }
    }
    section("Information changed", members(operation["changedInfo"]))
    section(
      "Changed",
      Table(
        titles: ["VNFC", "VDU", "CHANGE", "WORKLOAD"],
        rows: operation["resourceChanges", "affectedVnfcs"].elements.map {
          [
            Cell($0["id"].text), Cell($0["vduId"].text), Cell($0["changeType"].text),
            Cell($0["computeResource", "resourceId"].text),
          ]
        }))
    section("Phases (microseconds)", phases(operation["org.martlet", "phases"].elements))
  }

  private func phases(_ phases: [JSONValue]) -> Table {
    let spans = phases.map { phase in
      (
        start: phase["startMicroseconds"].integer ?? 0,
        duration: phase["durationMicroseconds"].integer
      )
    }
    let end = max(1, spans.map { $0.start + ($0.duration ?? 0) }.max() ?? 1)
    return Table(
      titles: ["PHASE", "OF", "START", "DURATION", "0 … \(microseconds(end))"],
      alignedRight: [2, 3],
      rows: zip(phases, spans).map { phase, span in
        [
          Cell(phase["name"].text), Cell(shortened(phase["subject"].text)),
          Cell(microseconds(span.start)),
          Cell(span.duration.map { microseconds($0) } ?? "runs"),
          Cell(plot(start: span.start, duration: span.duration ?? end - span.start, of: end)),
        ]
      })
  }

  mutating func describePackage(_ package: JSONValue) {
    facts([
      ("Product", Cell(package["vnfProductName"].text)),
      ("Version", Cell(package["vnfSoftwareVersion"].text)),
      ("Provider", Cell(package["vnfProvider"].text)),
      ("Id", Cell(package["id"].text)),
      ("VNFD", Cell(package["vnfdId"].text)),
      ("VNFD version", Cell(package["vnfdVersion"].text)),
      ("Onboarding", .state(package["onboardingState"].text)),
      ("Operational", .state(package["operationalState"].text)),
      ("Usage", Cell(package["usageState"].text)),
      (
        "Flavours",
        Cell(package["org.martlet", "flavours"].elements.map(\.text).joined(separator: ", "))
      ),
      ("Size", Cell(package["org.martlet", "size"].integer.map { octets($0) } ?? "")),
      (
        "Checksum",
        Cell(
          package["checksum"].members.isEmpty
            ? "" : "\(package["checksum", "algorithm"].text) \(package["checksum", "hash"].text)")
      ),
      ("Created", moment(package["org.martlet", "createdAt"])),
      ("Error", Cell(package["onboardingFailureDetails", "detail"].text, tone: .bad)),
    ])
    section(
      "Images",
      Table(
        titles: ["ID", "VERSION", "SIZE", "PATH", "CHECKSUM"], alignedRight: [2],
        rows: package["softwareImages"].elements.map {
          [
            Cell($0["id"].text), Cell($0["version"].text),
            Cell($0["size"].integer.map { octets($0) } ?? ""), Cell($0["imagePath"].text),
            Cell($0["checksum", "hash"].text.truncated(to: 17)),
          ]
        }))
    section("User's data", members(package["userDefinedData"]))
  }

  mutating func describeHost(_ info: JSONValue) {
    let technologies = info["technologies"].elements.map { technology in
      let accelerator = info["accelerators", technology.text].text
      return accelerator.isEmpty ? technology.text : "\(technology.text) (\(accelerator))"
    }
    let pools = info["pools"].elements
    let memory = pools.compactMap { $0["memoryBytes"].integer }.reduce(0, +)
    facts([
      ("Host", Cell(info["hostId"].text)),
      ("Daemon", Cell("martletd \(info["version"].text), process \(info["processId"].text)")),
      ("Store", Cell(info["storeId"].text)),
      ("Technologies", Cell(technologies.joined(separator: ", "))),
      ("Memory of pools", Cell(pools.isEmpty ? "" : octets(memory))),
    ])
    section(
      "Pools",
      Table(
        titles: [
          "TENANT", "TECHNOLOGY", "IMAGE", "PORTS", "MEMORY LIMIT", "WAITING", "OF", "MEMORY",
        ], alignedRight: [3, 4, 5, 6, 7],
        rows: pools.map {
          [
            Cell($0["tenant"].text), Cell($0["technology"].text),
            Cell($0["image"].text.truncated(to: 20)), Cell($0["ports"].text),
            Cell($0["memoryLimitBytes"].integer.map { octets($0) } ?? ""),
            Cell($0["waiting"].text), Cell($0["size"].text),
            Cell($0["memoryBytes"].integer.map { octets($0) } ?? ""),
          ]
        }))
  }

  mutating func describeNetwork(_ network: JSONValue) {
    facts([
      ("Name", Cell(network["name"].text)),
      ("Id", Cell(network["id"].text)),
      ("Uplink", Cell(network["uplink"].text)),
      ("MTU", Cell(network["mtu"].text)),
      ("Ports", Cell(network["ports"].text)),
      ("Host", Cell(network["hostId"].text)),
      ("Belongs to VNF", Cell(network["vnfInstanceId"].text)),
    ])
    section(
      "Subnets",
      Table(
        titles: ["PREFIX", "GATEWAY"],
        rows: network["subnets"].elements.map {
          [Cell($0["prefix"].text), Cell($0["gateway"].text)]
        }))
    section(
      "Routes",
      Table(
        titles: ["DESTINATION", "VIA"],
        rows: network["routes"].elements.map {
          [Cell($0["destination"].text), Cell($0["via"].text)]
        }))
  }
}

/// A bar at its place on a scale of forty characters; what is shorter than one is a dot's width.
func plot(start: Int64, duration: Int64, of end: Int64, width: Int = 40) -> String {
  let scale = Double(width) / Double(max(1, end))
  let left = min(width - 1, max(0, Int((Double(start) * scale).rounded(.down))))
  let length = Int((Double(duration) * scale).rounded())
  let bar = length < 1 ? "▏" : String(repeating: "█", count: min(length, width - left))
  return String(repeating: " ", count: left) + bar
}
