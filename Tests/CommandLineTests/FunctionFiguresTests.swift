import NFVBenchmark
import NFVModel
import Testing

@testable import martlet

/// What `martlet bench functions` reports, from the figures to JSON and table.
@Suite struct FunctionFiguresTests {
  private struct Broken: Error, CustomStringConvertible {
    var description: String { "1700 of 2000 came back" }
  }

  private static let responder: FunctionFigures = {
    var figures = FunctionFigures(
      name: "responder", form: "unikernel", accelerator: "tcg", imageBytes: 44_648,
      rst: Distribution([50.5, 47.1, 48.26]), memoryBytes: 12_940_000, forwards: false)
    figures.pooledRst = Distribution([9.64, 9.1, 12.25])
    figures.measure(.roundTrip, as: \.roundTrip) { Distribution([61.04]) }
    figures.measure(.rx, as: \.rx) { 5.874 }
    figures.measure(.tx, as: \.tx) { 12.926 }
    return figures
  }()

  private static let firewall: FunctionFigures = {
    var figures = FunctionFigures(
      name: "firewall", form: "container", accelerator: "none", imageBytes: 1_012_736,
      rst: Distribution([5.5]), memoryBytes: 11_350_000, forwards: true)
    figures.measure(.packetsPerSecond, as: \.packetsPerSecond) { 268_431.6 }
    figures.measure(.roundTrip, as: \.roundTrip) { Distribution([-0.25]) }
    return figures
  }()

  private func json(_ text: String) throws -> JSONValue {
    try JSONValue(parsing: Array(text.utf8))
  }

  @Test func everyFigureHasItsNameInTheReport() throws {
    #expect(
      Self.responder.json
        == (try json(
          """
          {"name":"responder","form":"unikernel","accelerator":"tcg","imageBytes":44648,\
          "rstMs":48.26,"pooledRstMs":9.64,"memoryBytes":12940000,"packetsPerSecond":null,\
          "rttUs":61.04,"rttIsAdded":false,"spread":{\
          "rstMs":{"count":3,"min":47.1,"p50":48.26,"p95":50.5,"p99":50.5,"max":50.5},\
          "pooledRstMs":{"count":3,"min":9.1,"p50":9.64,"p95":12.25,"p99":12.25,"max":12.25},\
          "rttUs":{"count":1,"min":61.04,"p50":61.04,"p95":61.04,"p99":61.04,"max":61.04}},\
          "rxGbps":5.874,"txGbps":12.926,"unmeasured":[]}
          """)))
    #expect(
      Self.firewall.json
        == (try json(
          """
          {"name":"firewall","form":"container","accelerator":"none","imageBytes":1012736,\
          "rstMs":5.5,"pooledRstMs":null,"memoryBytes":11350000,"packetsPerSecond":268431.6,\
          "rttUs":-0.25,"rttIsAdded":true,"spread":{\
          "rstMs":{"count":1,"min":5.5,"p50":5.5,"p95":5.5,"p99":5.5,"max":5.5},\
          "pooledRstMs":null,\
          "rttUs":{"count":1,"min":-0.25,"p50":-0.25,"p95":-0.25,"p99":-0.25,"max":-0.25}},\
          "rxGbps":null,"txGbps":null,"unmeasured":[]}
          """)))
  }

  @Test func theReportsTableHasThemInTheirColumns() throws {
    let report = JSONValue.object(["functions": .array([Self.responder.json, Self.firewall.json])])
    #expect(
      BenchReport(report).rendered() == """
        Network functions in Swift
        function   form       image KB  RST ms  most  from a pool  most  memory MB  packets/s  RTT µs  added  Rx Gbit/s  Tx Gbit/s
        responder  unikernel        45    48.3  50.5          9.6  12.3       12.9               61.0              5.87      12.93
        firewall   container      1013     5.5   5.5                          11.4     268432           -0.3

        """)
    try FunctionFigures.requireAll(report["functions"].elements)
  }

  /// A gap looks like a figure that does not apply: it has to be said, and scripts have to see it.
  @Test func whatCouldNotBeMeasuredIsInTheReportAndFails() throws {
    var figures = Self.responder
    figures.rx = nil
    figures.measure(.rx, as: \.rx) { throw Broken() }
    figures.pooledRst = nil
    figures.leaveOut(.pooledRst, Failure(.timeout, "the pools are not full after 20 s"))
    #expect(
      figures.json["unmeasured"]
        == (try json(
          """
          [{"figure":"rxGbps","reason":"1700 of 2000 came back"},\
          {"figure":"pooledRstMs","reason":"the pools are not full after 20 s"}]
          """)))
    #expect(figures.json["rxGbps"] == .null && figures.json["txGbps"] == .number(12.926))
    let entries = [figures.json, Self.firewall.json]
    #expect(
      FunctionFigures.table(entries).hasSuffix(
        """
          not measured: responder as unikernel, Rx: 1700 of 2000 came back
          not measured: responder as unikernel, RST from a pool: the pools are not full after 20 s

        """))
    let failure = #expect(throws: Failure.self) { try FunctionFigures.requireAll(entries) }
    #expect(failure?.code == .failed)
    #expect(
      failure?.message
        == "not measured: responder as unikernel, Rx; responder as unikernel, RST from a pool")
  }
}
