internal import NFVModel

/// What all components of VNFs used up to a moment, as the daemon tells it.
struct UsageReading: Sendable, Hashable {
  struct Component: Sendable, Hashable {
    var vnf: String
    var vdu: String
    var ordinal: Int64
    var technology: String
    /// Another one has other counters.
    var workload: String
    var cpuNanoseconds: Int64
    /// Of a virtual machine alone.
    var guestCPUNanoseconds: Int64?
    var memoryBytes: Int64
    var memoryLimitBytes: Int64
    var processes: Int64
    var ports: [Port]
  }

  struct Port: Sendable, Hashable {
    var name: String
    var receivedPackets, receivedBytes, sentPackets, sentBytes, dropped: Int64
  }

  /// Of a clock that never goes back.
  var milliseconds: Int64
  var components: [Component]

  /// - Parameter answer: of `GET /martlet/v1/usage`.
  init(_ answer: JSONValue) {
    func number(_ value: JSONValue, _ name: String) -> Int64 { value[name].integer ?? 0 }
    milliseconds = number(answer, "monotonicMilliseconds")
    components = answer["vnfcs"].elements.map { vnfc in
      Component(
        vnf: vnfc["vnfInstanceName"].text, vdu: vnfc["vduId"].text,
        ordinal: number(vnfc, "ordinal"), technology: vnfc["technology"].text,
        workload: vnfc["workload"].text, cpuNanoseconds: number(vnfc, "cpuNanoseconds"),
        guestCPUNanoseconds: vnfc["guestCpuNanoseconds"].integer,
        memoryBytes: number(vnfc, "memoryBytes"),
        memoryLimitBytes: number(vnfc, "memoryLimitBytes"),
        processes: number(vnfc, "processes"),
        ports: vnfc["ports"].elements.map { port in
          Port(
            name: port["cpdId"].text, receivedPackets: number(port, "receivedPackets"),
            receivedBytes: number(port, "receivedBytes"),
            sentPackets: number(port, "sentPackets"), sentBytes: number(port, "sentBytes"),
            dropped: number(port, "dropped"))
        })
    }
  }
}

/// What a component uses now: rates between two readings, nil where it was not there before.
struct UsageRow: Sendable, Hashable {
  struct Port: Sendable, Hashable {
    /// Each a second.
    struct Rates: Sendable, Hashable {
      var receivedPackets, receivedBits, sentPackets, sentBits: Double
    }
    var name: String
    var rates: Rates?
    var dropped: Int64
  }

  var component: UsageReading.Component
  /// Hundredths of one processor.
  var cpuPercent: Double?
  /// What of that the guest's processors take.
  var guestCPUPercent: Double?
  var ports: [Port]

  var packets: Double {
    ports.reduce(0) { $0 + ($1.rates.map { $0.receivedPackets + $0.sentPackets } ?? 0) }
  }
  var bits: Double {
    ports.reduce(0) { $0 + ($1.rates.map { $0.receivedBits + $0.sentBits } ?? 0) }
  }

  static func rows(from before: UsageReading?, to now: UsageReading) -> [UsageRow] {
    let earlier = Dictionary(
      (before?.components ?? []).map { ($0.workload, $0) }, uniquingKeysWith: { $1 })
    let seconds = Double(now.milliseconds - (before?.milliseconds ?? 0)) / 1000
    return now.components.map { component in
      let old = seconds > 0 ? earlier[component.workload] : nil
      func rate(_ now: Int64, _ before: Int64) -> Double {
        Double(max(0, now - before)) / seconds
      }
      return UsageRow(
        component: component,
        cpuPercent: old.map { rate(component.cpuNanoseconds, $0.cpuNanoseconds) / 1e7 },
        guestCPUPercent: old?.guestCPUNanoseconds.flatMap { before in
          component.guestCPUNanoseconds.map { rate($0, before) / 1e7 }
        },
        ports: component.ports.map { port in
          let old = old?.ports.first { $0.name == port.name }
          return Port(
            name: port.name,
            rates: old.map {
              Port.Rates(
                receivedPackets: rate(port.receivedPackets, $0.receivedPackets),
                receivedBits: 8 * rate(port.receivedBytes, $0.receivedBytes),
                sentPackets: rate(port.sentPackets, $0.sentPackets),
                sentBits: 8 * rate(port.sentBytes, $0.sentBytes))
            }, dropped: port.dropped)
        })
    }
  }

  var document: JSONValue {
    func number(_ value: Double?) -> JSONValue {
      value.map { .number(($0 * 1000).rounded() / 1000) } ?? .null
    }
    return [
      "vnf": .string(component.vnf), "vdu": .string(component.vdu),
      "ordinal": .integer(component.ordinal), "technology": .string(component.technology),
      "cpuPercent": number(cpuPercent), "guestCpuPercent": number(guestCPUPercent),
      "memoryBytes": .integer(component.memoryBytes),
      "memoryLimitBytes": .integer(component.memoryLimitBytes),
      "processes": .integer(component.processes),
      "ports": .array(
        ports.map { port in
          [
            "port": .string(port.name), "droppedPackets": .integer(port.dropped),
            "receivedPacketsPerSecond": number(port.rates?.receivedPackets),
            "receivedBitsPerSecond": number(port.rates?.receivedBits),
            "sentPacketsPerSecond": number(port.rates?.sentPackets),
            "sentBitsPerSecond": number(port.rates?.sentBits),
          ]
        }),
    ]
  }
}

/// By what rows are sorted, the greatest first; names from the beginning of the alphabet.
enum UsageOrder: String, Sendable, CaseIterable {
  case cpu, memory, packets, bits, name

  /// The order that a key chooses.
  init?(key: Character) {
    guard let order = Self.allCases.first(where: { $0.rawValue.first == key }) else { return nil }
    self = order
  }

  func sorted(_ rows: [UsageRow]) -> [UsageRow] {
    func value(_ row: UsageRow) -> Double {
      switch self {
      case .cpu: row.cpuPercent ?? 0
      case .memory: Double(row.component.memoryBytes)
      case .packets: row.packets
      case .bits: row.bits
      case .name: 0
      }
    }
    return rows.sorted { left, right in
      if value(left) != value(right) { return value(left) > value(right) }
      let (left, right) = (left.component, right.component)
      return (left.vnf, left.vdu, left.ordinal) < (right.vnf, right.vdu, right.ordinal)
    }
  }
}

/// The table of `martlet top`: a line for each component, and one for each further port of it.
struct UsageTable {
  private static let titles = [
    "VNF", "VNFC", "KIND", "CPU", "GUEST", "MEMORY", "PORT", "RX pkt/s", "RX bit/s", "TX pkt/s",
    "TX bit/s", "DROPPED",
  ]

  /// Rates of packets go first: those of bits say more.
  private static let spare = [4, 2, 9, 7, 1]

  var rows: [UsageRow]

  /// - Parameter width: as of ``Table/rendered(color:indent:width:)``.
  func rendered(color: Bool = false, width: Int? = nil) -> String {
    Table(
      titles: Self.titles, alignedRight: [3, 4, 5, 7, 8, 9, 10, 11], spare: Self.spare,
      rows: rows.flatMap(Self.lines)
    ).rendered(color: color, width: width)
  }

  private static func lines(_ row: UsageRow) -> [[Cell]] {
    let component = row.component
    let name: [Cell] = [
      Cell(component.vnf), Cell("\(component.vdu).\(component.ordinal)"),
      Cell(component.technology),
      Cell(row.cpuPercent.map { "\(fixed($0, digits: 1)) %" } ?? "–"),
      Cell(row.guestCPUPercent.map { "\(fixed($0, digits: 1)) %" } ?? ""),
      Cell(
        octets(component.memoryBytes),
        tone: component.memoryBytes > component.memoryLimitBytes / 10 * 9 ? .bad : nil),
    ]
    let ports: [[Cell]] = row.ports.map { port in
      [Cell(port.name)]
        + [
          port.rates?.receivedPackets, port.rates?.receivedBits, port.rates?.sentPackets,
          port.rates?.sentBits,
        ].map { Cell($0.map(metric) ?? "–") }
        + [Cell(String(port.dropped), tone: port.dropped > 0 ? .busy : nil)]
    }
    let none = [Cell](repeating: "", count: 6)
    return [name + (ports.first ?? none)]
      + ports.dropFirst().map { [Cell](repeating: "", count: name.count) + $0 }
  }

  /// What stands on a terminal of this size: a line of sums, as many rows as there is room for, and
  /// the keys.
  /// - Parameter notice: takes the keys' place.
  func screen(
    order: UsageOrder, size: TerminalSize, notice: String? = nil, color: Bool = false
  ) -> [String] {
    let known = rows.compactMap(\.cpuPercent)
    let cpu = known.isEmpty ? "–" : "\(fixed(known.reduce(0, +), digits: 1)) %"
    let memory = rows.reduce(0) { $0 + $1.component.memoryBytes }
    let bits = rows.reduce(0) { $0 + $1.bits }
    var lines = [
      "\(rows.count) running  CPU \(cpu)  memory \(octets(memory))  "
        + "\(metric(bits)) bit/s  by \(order.rawValue)"
    ]
    let sorted = UsageTable(rows: order.sorted(rows)).rendered(width: size.columns)
    let table = sorted.split(separator: "\n").map(String.init)
    let room = max(0, size.rows - 2)
    lines += table.prefix(room)
    if table.count > room, room > 1 {
      lines[lines.count - 1] = "… and \(table.count - room + 1) lines more"
    }
    while lines.count < size.rows - 1 { lines.append("") }
    lines.append(notice ?? "c CPU  m memory  p packets  b bits  n name  q leave")
    lines = lines.prefix(max(1, size.rows)).map { $0.printable.truncated(to: size.columns) }
    if color {
      lines[0] = Tone.good.paint(lines[0])
      lines[lines.count - 1] = (notice == nil ? Tone.quiet : .bad).paint(lines[lines.count - 1])
    }
    return lines
  }
}

/// A number with a metric prefix, three significant digits at most: `1.2 M`.
func metric(_ value: Double) -> String {
  var value = value
  var prefix = 0
  let prefixes = ["", " k", " M", " G", " T"]
  while value >= 999.5, prefix < prefixes.count - 1 {
    value /= 1000
    prefix += 1
  }
  return fixed(value, digits: prefix > 0 && value < 99.95 ? 1 : 0) + prefixes[prefix]
}
