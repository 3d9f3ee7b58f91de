import NFVModel
import Testing

@testable import martlet

@Suite struct TopTests {
  /// What the daemon tells: `fw` has worked for `cpu` ms and passed `packets`, `rs` is at rest.
  private static func answer(
    at milliseconds: Int, cpu: Int = 0, packets: Int = 0, workload: String = "ma"
  ) -> String {
    """
    {"monotonicMilliseconds":\(milliseconds),"vnfcs":[{"vnfInstanceId":"i","vnfInstanceName":"fw",\
    "vnfcId":"c","vduId":"filter","ordinal":0,"technology":"container","memoryLimitBytes":1000000,\
    "incarnation":1,"workload":"\(workload)","cpuNanoseconds":\(cpu * 1_000_000),\
    "memoryBytes":950000,"processes":2,"ports":[{"id":"p","cpdId":"left","interface":"eth0",\
    "receivedPackets":\(packets),"receivedBytes":\(packets * 1000),"sentPackets":0,"sentBytes":0,\
    "dropped":3},{"id":"q","cpdId":"right","interface":"eth1","receivedPackets":0,\
    "receivedBytes":0,"sentPackets":\(packets),"sentBytes":\(packets * 1000),"dropped":0}]},\
    {"vnfInstanceId":"j","vnfInstanceName":"rs","vnfcId":"d","vduId":"server","ordinal":1,\
    "technology":"tinyx","memoryLimitBytes":99000000,"incarnation":1,"workload":"mb",\
    "cpuNanoseconds":\(cpu * 500_000),"guestCpuNanoseconds":\(cpu * 400_000),"memoryBytes":67108864,"processes":1,"ports":[]}]}
    """
  }

  private static func reading(_ text: String) throws -> UsageReading {
    UsageReading(try JSONValue(parsing: Array(text.utf8)))
  }

  private static func rows() throws -> [UsageRow] {
    UsageRow.rows(
      from: try reading(answer(at: 1000)),
      to: try reading(answer(at: 3000, cpu: 500, packets: 3000)))
  }

  @Test func ratesAreOfTheTimeBetweenReadings() throws {
    let table = UsageTable(rows: try Self.rows()).rendered()
    #expect(
      table == """
        VNF  VNFC      KIND          CPU   GUEST   MEMORY  PORT   RX pkt/s  RX bit/s  TX pkt/s  TX bit/s  DROPPED
        fw   filter.0  container  25.0 %          928 KiB  left      1.5 k    12.0 M         0         0        3
                                                           right         0         0     1.5 k    12.0 M        0
        rs   server.1  tinyx      12.5 %  10.0 %   64 MiB

        """)
  }

  @Test func aNewIncarnationHasNoRatesYet() throws {
    let rows = UsageRow.rows(
      from: try Self.reading(Self.answer(at: 0, cpu: 900)),
      to: try Self.reading(Self.answer(at: 1000, workload: "mc")))
    #expect(rows.map(\.cpuPercent) == [nil, 0])
    #expect(rows[0].ports.map(\.rates) == [nil, nil])
    #expect(UsageTable(rows: [rows[0]]).rendered().contains("left          –"))
  }

  @Test func keysSort() throws {
    let rows = try Self.rows()
    func names(_ key: Character) throws -> [String] {
      try #require(UsageOrder(key: key)).sorted(rows.reversed()).map(\.component.vnf)
    }
    for key in "cpbn" { #expect(try names(key) == ["fw", "rs"]) }
    #expect(try names("m") == ["rs", "fw"])
    #expect(UsageOrder(key: "q") == nil && UsageOrder(key: "\u{1B}") == nil)
  }

  @Test func aScreenFitsItsTerminal() throws {
    let table = UsageTable(rows: try Self.rows())
    let screen = table.screen(order: .memory, size: TerminalSize(rows: 6, columns: 60))
    #expect(
      screen == [
        "2 running  CPU 37.5 %  memory 64.9 MiB  24.0 M bit/s  by me…",
        "VNF     CPU   MEMORY  PORT   RX bit/s  TX bit/s  DROPPED",
        "rs   12.5 %   64 MiB",
        "fw   25.0 %  928 KiB  left     12.0 M         0        3",
        "                      right         0    12.0 M        0",
        "c CPU  m memory  p packets  b bits  n name  q leave",
      ])
    for rows in 1...10 {
      for columns in [1, 20, 80, 200] {
        let size = TerminalSize(rows: rows, columns: columns)
        let lines = table.screen(order: .cpu, size: size, notice: "no daemon\u{1B}[2J answers")
        #expect(lines.count == rows)
        #expect(lines.allSatisfy { $0.columns <= columns && !$0.contains("\u{1B}") })
      }
    }
  }

  private static let size = TerminalSize(rows: 5, columns: 60)

  /// The lines that stand on a terminal which is written over from its first place on.
  private static func lines(_ view: UsageView, _ size: TerminalSize = size) throws -> [String] {
    let drawn = view.drawing(size: size, color: false)
    let (begin, end) = ("\u{1B}[H", "\u{1B}[K\u{1B}[J")
    try #require(drawn.hasPrefix(begin) && drawn.hasSuffix(end))
    return drawn.dropFirst(begin.count).dropLast(end.count)
      .split(separator: "\u{1B}[K\r\n", omittingEmptySubsequences: false).map(String.init)
  }

  @Test func aReadingIsDrawnInTheLastOnesPlace() throws {
    var view = UsageView(try Self.reading(Self.answer(at: 1000)), order: .cpu)
    var lines = try Self.lines(view)
    #expect(lines.count == 5 && lines[0].hasPrefix("2 running  CPU –"), "\(lines)")
    #expect(lines[2].hasPrefix("fw     –  928 KiB  left          –"), "\(lines)")
    let next = try Self.reading(Self.answer(at: 3000, cpu: 500, packets: 3000))
    var goesOn = view.take(.reading(next))
    #expect(goesOn)
    lines = try Self.lines(view)
    #expect(lines.count == 5 && lines[0].hasPrefix("2 running  CPU 37.5 %"), "\(lines)")
    // Another size is another drawing of the same.
    goesOn = view.take(.resized)
    #expect(goesOn)
    let wide = try Self.lines(view, TerminalSize(rows: 9, columns: 200))
    #expect(wide.count == 9 && wide[0].hasPrefix(lines[0].prefix(20)))
  }

  @Test func aKeyChoosesTheOrder() throws {
    var view = UsageView(try Self.reading(Self.answer(at: 1000)), order: .cpu)
    _ = view.take(
      .reading(try Self.reading(Self.answer(at: 3000, cpu: 500, packets: 3000))))
    for (keys, order, first) in [
      ("m", "memory", "rs"), ("c", "cpu", "fw"), ("mp", "packets", "fw"), ("b", "bits", "fw"),
      ("m", "memory", "rs"), ("n", "name", "fw"), ("x\u{1B}[A", "name", "fw"),
    ] {
      let goesOn = view.take(.keys(Array(keys.utf8)))
      #expect(goesOn, "\(keys)")
      let lines = try Self.lines(view, TerminalSize(rows: 5, columns: 100))
      #expect(lines[0].hasSuffix("by \(order)") && lines[2].hasPrefix(first), "\(keys): \(lines)")
    }
  }

  @Test func aFailureIsShownUntilTheNextReading() throws {
    let reading = try Self.reading(Self.answer(at: 1000))
    var view = UsageView(reading, order: .cpu)
    _ = view.take(.failure(Failure(.unreachable, "no daemon answers")))
    #expect(try Self.lines(view).last == "no daemon answers")
    _ = view.take(.keys([UInt8(ascii: "n")]))
    #expect(try Self.lines(view).last == "no daemon answers")
    _ = view.take(.reading(reading))
    #expect(try Self.lines(view).last?.hasPrefix("c CPU  m memory") == true)
  }

  @Test func itIsLeftByQByAnInterruptAndWithTheTerminal() throws {
    let reading = try Self.reading(Self.answer(at: 1000))
    for last in [UsageView.Happening.keys(Array("mq".utf8)), .keys([3]), .ended] {
      var view = UsageView(reading, order: .cpu)
      let goesOn = view.take(last)
      #expect(!goesOn, "\(last)")
    }
  }

  @Test func aPipeGetsOneTableWithoutColours() async throws {
    try await StubServer({ request, number in
      request.target == "/martlet/v1/usage"
        ? .json(Self.answer(at: number * 2000, cpu: number * 500))
        : .problem(404, request.target)
    }).onSocket { server in
      let run = await CommandRun.run(["top", "--interval", "100ms"], on: server)
      #expect(run.code == 0)
      #expect(run.output.hasPrefix("VNF  VNFC") && run.output.contains("25.0 %"))
      #expect(!run.output.contains("\u{1B}"))
      let json = await CommandRun.run(
        ["top", "--interval", "100ms", "-o", "json"], on: server, terminal: true)
      let rows = try JSONValue(parsing: Array(json.output.utf8)).elements
      #expect(rows.map { $0["vnf"].text } == ["fw", "rs"])
      #expect(rows[0]["cpuPercent"].double == 25)
      #expect(rows[0]["ports"].elements[0]["droppedPackets"].integer == 3)
      #expect(await CommandRun.run(["top", "--interval", "1ms"], on: server).code == 64)
    }
  }
}
