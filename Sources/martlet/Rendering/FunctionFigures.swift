internal import NFVBenchmark
internal import NFVModel

/// What was measured of a function in one form; nil where it does not apply, or where it is among what
/// could not be measured.
struct FunctionFigures: Sendable {
  var name: String
  var form: String
  var accelerator: String
  var imageBytes: Int64
  /// From the request until the first RST, milliseconds, of its own or, of what forwards, of a host
  /// behind it; started cold, and from a waiting pool.
  var rst: Distribution
  var pooledRst: Distribution?
  /// As its control group counts, and the rings of its packet sockets.
  var memoryBytes: Int64
  /// Frames of 60 octets that came through.
  var packetsPerSecond: Double?
  /// Of SYNs that are refused: by it, or, of what forwards, what it adds between two hosts; µs.
  var roundTrip: Distribution?
  /// Whether that is what it adds.
  var forwards = false
  /// TCP into it and out of it, Gbit/s.
  var rx, tx: Double?
  private var unmeasured: [(figure: Figure, reason: String)] = []

  /// What may fail while the rest is measured all the same, by its name in the report.
  enum Figure: String, Sendable {
    case pooledRst = "pooledRstMs"
    case packetsPerSecond
    case roundTrip = "rttUs"
    case rx = "rxGbps"
    case tx = "txGbps"

    fileprivate var words: String {
      switch self {
      case .pooledRst: "RST from a pool"
      case .packetsPerSecond: "packets/s"
      case .roundTrip: "round trip"
      case .rx: "Rx"
      case .tx: "Tx"
      }
    }
  }

  init(
    name: String, form: String, accelerator: String, imageBytes: Int64, rst: Distribution,
    memoryBytes: Int64, forwards: Bool
  ) {
    self.name = name
    self.form = form
    self.accelerator = accelerator
    self.imageBytes = imageBytes
    self.rst = rst
    self.memoryBytes = memoryBytes
    self.forwards = forwards
  }

  /// Takes a figure over, or why there is none.
  mutating func measure<Value>(
    _ figure: Figure, as place: WritableKeyPath<Self, Value?>, _ measurement: () throws -> Value
  ) {
    do {
      self[keyPath: place] = try measurement()
    } catch {
      leaveOut(figure, error)
    }
  }

  /// A figure could not be measured, which is said at once and in the report.
  mutating func leaveOut(_ figure: Figure, _ error: any Error) {
    let reason = (error as? Failure)?.message ?? "\(error)"
    unmeasured.append((figure, reason))
    Console.current.note("\(name) as \(form), \(figure.words): \(reason)")
  }

  var json: JSONValue {
    func number(_ value: Double?) -> JSONValue { value.map { .number($0) } ?? .null }
    return [
      "name": .string(name), "form": .string(form), "accelerator": .string(accelerator),
      "imageBytes": .integer(imageBytes), "rstMs": .number(rst.p50),
      "pooledRstMs": number(pooledRst?.p50), "memoryBytes": .integer(memoryBytes),
      "packetsPerSecond": number(packetsPerSecond), "rttUs": number(roundTrip?.p50),
      "rttIsAdded": .bool(forwards),
      "spread": [
        "rstMs": rst.json, "pooledRstMs": pooledRst?.json ?? .null,
        "rttUs": roundTrip?.json ?? .null,
      ],
      "rxGbps": number(rx), "txGbps": number(tx),
      "unmeasured": .array(
        unmeasured.map {
          ["figure": .string($0.figure.rawValue), "reason": .string($0.reason)]
        }),
    ]
  }

  /// A report's entries as a table, and below it what could not be measured.
  static func table(_ entries: [JSONValue]) -> String {
    func cell(_ value: JSONValue, _ digits: Int) -> Cell {
      value.double.map { Cell(fixed($0, digits: digits)) } ?? Cell("")
    }
    return Table(
      titles: [
        "function", "form", "image KB", "RST ms", "most", "from a pool", "most", "memory MB",
        "packets/s", "RTT µs", "added", "Rx Gbit/s", "Tx Gbit/s",
      ], alignedRight: Set(2...12),
      rows: entries.map { entry in
        [
          Cell(entry["name"].text), Cell(entry["form"].text),
          Cell(fixed((entry["imageBytes"].double ?? 0) / 1000, digits: 0)),
          cell(entry["rstMs"], 1), cell(entry["spread", "rstMs", "max"], 1),
          cell(entry["pooledRstMs"], 1), cell(entry["spread", "pooledRstMs", "max"], 1),
          Cell(fixed((entry["memoryBytes"].double ?? 0) / 1e6, digits: 1)),
          cell(entry["packetsPerSecond"], 0),
          cell(entry["rttIsAdded"] == .bool(true) ? .null : entry["rttUs"], 1),
          cell(entry["rttIsAdded"] == .bool(true) ? entry["rttUs"] : .null, 1),
          cell(entry["rxGbps"], 2),
          cell(entry["txGbps"], 2),
        ]
      }
    ).rendered()
      + missing(entries).map { "  not measured: \($0.subject): \($0.reason.printable)\n" }.joined()
  }

  private static func missing(_ entries: [JSONValue]) -> [(subject: String, reason: String)] {
    entries.flatMap { entry in
      entry["unmeasured"].elements.map { left in
        let figure = Figure(rawValue: left["figure"].text)?.words ?? left["figure"].text
        return (
          "\(entry["name"].text) as \(entry["form"].text), \(figure)", left["reason"].text
        )
      }
    }
  }

  /// - Throws: where something of these entries was to be measured and could not be: who compares
  ///   reports has to know by the command's end.
  static func requireAll(_ entries: [JSONValue]) throws(Failure) {
    let missing = missing(entries).map(\.subject)
    guard !missing.isEmpty else { return }
    throw Failure(
      .failed, "not measured: \(missing.joined(separator: "; "))",
      advice: "the report has the other figures, and says why")
  }
}
