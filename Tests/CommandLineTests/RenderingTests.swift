import NFVModel
import Testing

@testable import martlet

private func json(_ text: String) throws -> JSONValue { try JSONValue(parsing: Array(text.utf8)) }

@Suite struct RenderingTests {
  @Test func columnsAreAsWideAsTheirWidestCell() {
    let table = Table(
      titles: ["NAME", "N", "STATE"], alignedRight: [1],
      rows: [["a", "1", .state("STARTED")], ["防火墙", "12", ""]])
    #expect(
      table.rendered() == """
        NAME     N  STATE
        a        1  STARTED
        防火墙  12

        """)
    #expect(
      table.rendered(color: true) == """
        NAME     N  STATE
        a        1  \u{1B}[32mSTARTED\u{1B}[0m
        防火墙  12

        """)
  }

  @Test("A table too wide for its terminal loses the ends of its widest cells, and nothing else")
  func cutTable() {
    let table = Table(
      titles: ["NAME", "PRODUCT", "ADDRESSES", "AGE"], alignedRight: [3],
      rows: [
        ["fw", "Firewall 1.0", "left=10.77.0.1 right=10.78.0.1", "1m2s"],
        ["防火墙防火墙防", "Responder 1.0", "network=10.77.0.4", .state("3s")],
      ])
    let whole = table.rendered()
    #expect(table.rendered(width: 67) == whole && table.rendered(width: 400) == whole)
    #expect(
      table.rendered(width: 48) == """
        NAME           PRODUCT        ADDRESSES      AGE
        fw             Firewall 1.0   left=10.77.…  1m2s
        防火墙防火墙…  Responder 1.0  network=10.…    3s

        """)
    var spare = table
    spare.spare = [1, 3]
    #expect(spare.rendered(width: 67) == whole)
    #expect(
      spare.rendered(width: 52) == """
        NAME            ADDRESSES                        AGE
        fw              left=10.77.0.1 right=10.78.0.1  1m2s
        防火墙防火墙防  network=10.77.0.4                 3s

        """)
    #expect(
      spare.rendered(width: 40) == """
        NAME            ADDRESSES
        fw              left=10.77.0.1 right=10…
        防火墙防火墙防  network=10.77.0.4

        """)
    // No narrower than its titles.
    #expect(
      table.rendered(width: 10) == """
        NAME  PRODUCT  ADDRESSES  AGE
        fw    Firewa…  left=10.…  1m…
        防…   Respon…  network=…   3s

        """)
  }

  @Test func aVnfSaysWhatConfinesIt() throws {
    let vnfcs = ["AppArmor: martlet-s", "none: no AppArmor", "none: no AppArmor", nil].map {
      #"{"metadata":{\#($0.map { #""securityProfile":"\#($0)""# } ?? "")}}"#
    }
    let vnf = try json(
      #"{"instantiatedVnfInfo":{"vnfcResourceInfo":[\#(vnfcs.joined(separator: ","))]}}"#)
    let page = description(of: vnf, .vnf, now: Timestamp(microseconds: 0), color: false)
    #expect(
      page.contains("Security profile:  AppArmor: martlet-s; none: no AppArmor\n"), "\(page)")
    let other = description(of: try json("{}"), .vnf, now: Timestamp(microseconds: 0), color: false)
    #expect(!other.contains("Security"))
  }

  @Test func aVnfSaysWhatRunsItsMachines() throws {
    let vnfcs = [("tinyx", "tcg"), ("unikernel", "kvm"), ("tinyx", nil)].map {
      (technology: String, accelerator: String?) in
      #"{"metadata":{"technology":"\#(technology)""#
        + (accelerator.map { #","accelerator":"\#($0)""# } ?? "") + "}}"
    }
    let vnf = try json(
      #"{"instantiatedVnfInfo":{"vnfcResourceInfo":[\#(vnfcs.joined(separator: ","))]}}"#)
    let page = description(of: vnf, .vnf, now: Timestamp(microseconds: 0), color: false)
    #expect(page.contains("tinyx (TCG)") && page.contains("unikernel (KVM)"), "\(page)")
    // Of the third it is not known yet.
    #expect(page.count { $0 == "(" } == 2, "\(page)")
  }

  @Test func widths() {
    #expect("abc".columns == 3)
    #expect("防火墙".columns == 6)
    #expect("e\u{301}".columns == 1)
    #expect("🔥".columns == 2)
    #expect("防火墙".truncated(to: 5) == "防火…")
    #expect("防火墙".truncated(to: 4) == "防…")
    #expect("abc".truncated(to: 3) == "abc")
  }

  @Test func aNameCannotSteerTheTerminal() {
    #expect(Cell("a\u{1B}[31mb\n").text == "a\u{FFFD}[31mb\u{FFFD}")
  }

  @Test func progress() {
    var bar = ProgressBar(label: "upload", fraction: 0.5, detail: "1 MiB", elapsed: .seconds(2))
    #expect(bar.rendered(width: 80) == "upload [==============>               ] 50%  1 MiB  2.0s")
    #expect(bar.rendered(width: 40) == "upload [======>       ] 50%  1 MiB  2.0s")
    #expect(bar.rendered(width: 20) == "upload 50%  1 MiB  …")
    bar.fraction = 1
    #expect(
      bar.rendered(width: 80) == "upload [==============================] 100%  1 MiB  2.0s")
    bar = ProgressBar(label: "start", elapsed: .milliseconds(300))
    #expect(bar.rendered(width: 25) == "start [   <=>     ]  0.3s")
    for width in 10...100 { #expect(bar.rendered(width: width).columns <= width) }
  }

  @Test func quantities() {
    #expect(octets(0) == "0 B")
    #expect(octets(1023) == "1023 B")
    #expect(octets(1536) == "1.5 KiB")
    #expect(octets(1 << 20) == "1 MiB")
    #expect(octets(123 << 20) == "123 MiB")
    #expect(microseconds(0) == "0")
    #expect(microseconds(1_234_567) == "1,234,567")
    #expect(milliseconds(12_345) == "12.3 ms")
    #expect(span(.seconds(59)) == "59s")
    #expect(span(.seconds(3661)) == "1h1m")
    #expect(span(.seconds(90000)) == "1d1h")
    #expect(
      Timestamp("2026-11-21T06:19:31.123Z") == Timestamp(microseconds: 1_795_241_971_123_000))
    #expect(Timestamp("2026-11-21T06:19:31Z") == Timestamp(microseconds: 1_795_241_971_000_000))
    #expect(Timestamp("yesterday") == nil)
  }

  @Test func yamlKeepsStringsStrings() throws {
    let value = try json(
      #"{"b":"yes","a":1,"c":["1","x",null,true,1.5],"d":{},"e":"10.0","f":"two\nlines","g":""}"#)
    #expect(
      value.yaml == """
        a: 1
        b: "yes"
        c:
        - "1"
        - x
        - null
        - true
        - 1.5
        d: {}
        e: "10.0"
        f: |-
          two
          lines
        g: ""

        """)
  }

  @Test func anInstanceInSections() throws {
    let text = description(
      of: try json(Samples.vnfJSON), .vnf, now: Timestamp(microseconds: 0), color: false)
    #expect(
      text == """
        Name:     fw
        Id:       5f000000-0000-4000-8000-000000000002
        Product:  firewall 1.0 by Martlet
        VNFD:     b1bb0ce7, version 1.0
        Package:  0b1e0000-0000-4000-8000-000000000001
        State:    STARTED
        Flavour:  container

        Connection points
          POINT  ADDRESSES  MAC                NETWORK
          left   10.1.0.5   02:00:00:00:00:01  c4000000-0000-4000-8000-000000000004

        Vnfcs
          ID                                    VDU  NO  KIND       STATE    WORKLOAD       STARTS  FAILURES  LAST EXIT
          d7000000-0000-4000-8000-000000000005  fw    0  container  RUNNING  mabcdefghijkl       2         1  signal 9

        Ports of the Vnfcs
          VNFC      POINT  INTERFACE  ADDRESSES  MAC                 MTU
          d7000000  cp0    eth0       10.1.0.5   02:00:00:00:00:01  1500

        Scaling
          ASPECT   LEVEL  AT MOST
          workers      1        4

        """)
  }

  @Test func aPausedVnfcIsToldApartFromOneThatRuns() throws {
    for isPaused in [false, true] {
      let vnf = try json(
        isPaused ? Samples.vnfJSON.replacing("RUNNING", with: "PAUSED") : Samples.vnfJSON)
      let text = description(
        of: vnf, .vnf, usage: [:], now: Timestamp(microseconds: 0), color: false)
      #expect(text.contains("  PAUSED  ") == isPaused && text.contains("  RUNNING  ") != isPaused)
      let list = Kind.vnf.table([vnf], wide: false, now: Timestamp(microseconds: 0))
      #expect(list.rows[0].map(\.text).contains("PAUSED") == isPaused)
      #expect(list.rows[0].map(\.text).contains(isPaused ? "0/1" : "1/1"))
    }
  }

  @Test func whatFunctionsCountIsATable() throws {
    let counts = #"[{"name":"accepted","value":12},{"name":"refused","value":1099511627776}]"#
    let text = description(
      of: try json(Samples.vnfJSON), .vnf,
      usage: [Samples.vnfc: try json(#"{"functionCounters":\#(counts)}"#), "other": .null],
      now: Timestamp(microseconds: 0), color: false)
    #expect(
      text.contains(
        """

        Counters of the functions
          VNFC      COUNTER           VALUE
          d7000000  accepted             12
          d7000000  refused   1099511627776

        """), "\(text)")
    for usage in ["{}", #"{"functionCounters":[]}"#] {
      let page = description(
        of: try json(Samples.vnfJSON), .vnf, usage: [Samples.vnfc: try json(usage)],
        now: Timestamp(microseconds: 0), color: false)
      #expect(!page.contains("Counters"))
    }
  }

  @Test func anOperationWithItsPhases() throws {
    let text = description(
      of: try json(Samples.operationJSON), .op, now: Timestamp(microseconds: 0), color: false)
    #expect(
      text == """
        Id:         a1000000-0000-4000-8000-000000000003
        Operation:  INSTANTIATE
        State:      COMPLETED
        VNF:        5f000000-0000-4000-8000-000000000002
        Begun by:   root
        Took:       5.0 ms

        Parameters
          flavourId: container

        Changed
          VNFC                                  VDU  CHANGE  WORKLOAD
          d7000000-0000-4000-8000-000000000005  fw   ADDED   mabcdefghijkl

        Phases (microseconds)
          PHASE          OF        START  DURATION  0 … 5,000
          ensureNetwork  c4000000     12     1,000  ████████
          startWorkload  d7000000  1,012     3,988          ████████████████████████████████

        """)
  }

  @Test func theHostWithItsPools() throws {
    let info = try json(
      """
      {"version":"0.1","storeId":"s1","hostId":"local","processId":42,\
      "technologies":["container","unikernel"],"accelerators":{"unikernel":"tcg"},"pools":[\
      {"tenant":"default","technology":"unikernel","image":"sha256:0123456789abcdef","ports":2,\
      "memoryLimitBytes":4194304,"size":3,"waiting":2,"memoryBytes":25165824},\
      {"tenant":"other","technology":"unikernel","image":"sha256:1","ports":1,\
      "memoryLimitBytes":8388608,"size":3,"waiting":0,"memoryBytes":0}]}
      """)
    #expect(
      hostDescription(info, color: false) == """
        Host:             local
        Daemon:           martletd 0.1, process 42
        Store:            s1
        Technologies:     container, unikernel (tcg)
        Memory of pools:  24 MiB

        Pools
          TENANT   TECHNOLOGY  IMAGE                 PORTS  MEMORY LIMIT  WAITING  OF  MEMORY
          default  unikernel   sha256:0123456789ab…      2         4 MiB        2   3  24 MiB
          other    unikernel   sha256:1                  1         8 MiB        0   3     0 B

        """)
    let none = try json(#"{"hostId":"local","technologies":["container"],"pools":[]}"#)
    #expect(!hostDescription(none, color: false).contains("ools"))
  }

  @Test func plots() {
    #expect(plot(start: 0, duration: 100, of: 100, width: 4) == "████")
    #expect(plot(start: 50, duration: 1, of: 100, width: 4) == "  ▏")
    #expect(plot(start: 100, duration: 0, of: 100, width: 4) == "   ▏")
  }

  @Test func eventLines() throws {
    let event = try json(
      """
      {"sequence":42,"notificationType":"VnfLcmOperationOccurrenceNotification",\
      "timeStamp":"2026-11-21T06:19:31.123Z","vnfInstanceId":"\(Samples.vnf)",\
      "vnfLcmOpOccId":"\(Samples.operation)","operation":"INSTANTIATE","operationState":"COMPLETED"}
      """)
    #expect(
      eventLine(event)
        == "2026-11-21T06:19:31.123Z      42  VnfLcmOperationOccurrence  INSTANTIATE  COMPLETED  vnf=5f000000  op=a1000000"
    )
  }

  @Test func pagesAreLinked() {
    #expect(nextPage("</a?x=1&y=2>; rel=\"next\"") == "/a?x=1&y=2")
    #expect(nextPage("</p>; rel=\"prev\", <http://localhost/n?m>; rel=\"next\"") == "/n?m")
    #expect(nextPage("</p>; rel=\"prev\"") == nil)
  }
}

@Suite struct BenchReportTests {
  @Test func theFiguresOfAReport() throws {
    let text = """
      {"instantiate": [{"flavour": "container", "accelerator": "none", "count": 3,
        "draftRstMs": 1711,
        "rstMs": {"p50": 4.04, "p95": 5, "p99": 6.96},
        "runningMs": {"p50": 10, "p95": 11, "p99": 12},
        "readyMs": {"p50": 15, "p95": 16, "p99": 17.25},
        "terminateMs": {"p50": 3.25, "p95": 4, "p99": 5},
        "phasesUs": {
          "startWorkload": {"p50": 5000.4, "p95": 6000, "p99": 7000},
          "prepareAttachment": {"p50": 900, "p95": 1000, "p99": 1100}}}],
       "peers": [{"flavour": "podman", "accelerator": "none", "count": 3,
        "rstMs": {"p50": 165, "p95": 170, "p99": 170},
        "runningMs": {"p50": 250, "p95": 251, "p99": 252},
        "readyMs": {"p50": 255, "p95": 256, "p99": 257}}],
       "firstInstruction": [{"machine": "microvm", "accelerator": "tcg", "count": 20,
        "ms": {"p50": 38.94, "p95": 41, "p99": 45}}],
       "leftOut": [{"name": "docker", "reason": "docker: no engine"}],
       "terminate": {"oneMs": 4.5, "allSeconds": 0.273, "count": 199}}
      """
    #expect(
      try BenchReport(JSONValue(parsing: Array(text.utf8))).rendered() == """
        From the request until, ms
                     COUNT  FIRST RST    p95  PROCESS RUNS    p95  COMPLETED    p95  TERMINATED  DRAFT'S RST
          container      3        4.0    5.0          10.0   11.0       15.0   16.0         3.3         1711
          podman         3      165.0  170.0         250.0  251.0      255.0  256.0
          without docker: docker: no engine

        From the request until a guest's first instruction, ms
                         COUNT  median   p95   p99
          microvm (tcg)     20    38.9  41.0  45.0

        Phases of the daemon, container
          µs                 median   p95   p99
          startWorkload        5000  6000  7000
          prepareAttachment     900  1000  1100

        terminate one          4.5 ms
        terminate 199 at once  0.27 s

        """)
  }
}
