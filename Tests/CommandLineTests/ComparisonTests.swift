import NFVBenchmark
import Synchronization
import Testing

@testable import martlet

/// Figures of a form, with the flavour's place in `Form.all`.
func figures(_ flavour: String, accelerator: String, rst: Double, tx: Double) throws -> FormFigures
{
  let form = try #require(Form.all.first { $0.flavour == flavour })
  return FormFigures(
    form: form, accelerator: accelerator, rst: Distribution([rst]),
    running: Distribution([2 * rst]), ready: Distribution([3 * rst]), tx: Distribution([tx]),
    rx: Distribution([tx / 2]), roundTrip: Distribution([4]), imageBytes: 10_944_794,
    memoryBytes: 2_400_000)
}

@Suite struct ComparisonTests {
  @Test func formsStandBesideTheDraft() throws {
    let text = Comparison([
      try figures("container", accelerator: "none", rst: 6.04, tx: 13.13),
      try figures("tinyx", accelerator: "tcg", rst: 3675.4, tx: 2),
    ]).rendered()
    #expect(
      text == """
                                         container here  draft's Container  tinyx (tcg) here  draft's tinyx.kvm
        instantiation: first RST                 6.0 ms           1,711 ms          3,675 ms           1,081 ms
        instantiation: its process runs         12.1 ms                             7,351 ms
        instantiation: COMPLETED                18.1 ms                            11,026 ms
        throughput Tx                       13.1 Gbit/s        45.1 Gbit/s        2.0 Gbit/s        21.5 Gbit/s
        throughput Rx                        6.6 Gbit/s        43.8 Gbit/s        1.0 Gbit/s        37.9 Gbit/s
        RTT, ping flood                          4.0 µs               4 ms            4.0 µs              19 ms
        image size                              10.9 MB              61 MB           10.9 MB             3.5 MB
        memory                                   2.4 MB             3.8 MB            2.4 MB              30 MB

        """)
  }

  @Test func theDraftsTables() throws {
    var container = try figures("container", accelerator: "none", rst: 6, tx: 13)
    container.tx = Distribution([11, 13, 14])
    let text = DraftTables([
      container, try figures("tinyx", accelerator: "tcg", rst: 3675, tx: 2),
    ]).rendered()
    let tables = text.split(separator: "\n\n")
    #expect(tables.count == 5)
    #expect(
      tables[1] == """
        4.3 Throughput, Gbit/s (medians, and least to most)
          DRAFT'S FORM           HERE           Tx              Rx           draft Tx    Rx
          standardvm.xen         –               –               –               23.1  24.5
          standardvm.kvm         –               –               –               20.1  38.9
          Container              container    13.0  11.0–14.0  6.5  6.5–6.5      45.1  43.8
          tinyx.kvm              tinyx (tcg)   2.0    2.0–2.0  1.0  1.0–1.0      21.5  37.9
          tinyx.xen              –               –               –               28.6  24.9
          unikernel.osv.kvm      –               –               –               47.9  47.7
          unikernels.minios.xen  –               –               –               49.5  32.6
        """)
  }

  @Test func inAPipeEachStepIsToldOnce() {
    let told = Mutex<[String]>([])
    let console = Console(
      output: { _ in },
      error: { bytes in
        told.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) }
      }, environment: [:], outputIsTerminal: false, errorIsTerminal: false, width: { 80 })
    Console.$current.withValue(console) {
      let progress = BenchProgress()
      progress.expect(50)
      for label in ["router as container", "router as tinyx", "router as container"] {
        progress.began(label)
        progress.did(5)
      }
      progress.end()
    }
    #expect(
      told.withLock { $0 } == [
        "router as container (about 50s left)\n", "router as tinyx (about 45s left)\n",
      ])
  }

  @Test func theTimeIsDividedByWhatFormsTake() throws {
    func plan(_ flavour: String, _ instantiations: Int) throws -> DraftPlan {
      DraftPlan(
        try #require(Form.all.first { $0.flavour == flavour }), instantiations: instantiations,
        trafficRounds: 3)
    }
    let container = try plan("container", 20)
    let tinyx = try plan("tinyx", 3)
    // 0.1 + 20 * 0.2 + 3 * 5.5, and 5 + 3 * 5 + 3 * 5.5.
    #expect(container.seconds == 20.6 && tinyx.seconds == 36.5)
    let share = container.share(of: .seconds(57.1), before: [tinyx])
    #expect(abs(share.milliseconds - 20_600) < 1)
    #expect(abs(tinyx.share(of: .seconds(30), before: []).milliseconds - 30_000) < 1)
    let limits = try #require(tinyx.effort(within: .seconds(31.5)).limits)
    #expect(abs(limits.instantiations.milliseconds - 15_000) < 1)
    #expect(abs(limits.traffic.milliseconds - 16_500) < 1)
    #expect(tinyx.effort(within: nil).limits == nil)
  }

  @Test func theTimeLeftIsTold() {
    var pace = Pace(expected: 60)
    pace.add(30)
    #expect(
      BenchProgress.bar("tinyx: traffic", pace, elapsed: .seconds(45)).rendered(width: 80)
        == "tinyx: traffic [==============>               ] 50%  about 45s left  45.0s")
  }
}

@Suite struct RestartFiguresTests {
  @Test func whatARestartDidIsTold() {
    let figures = RestartFigures(
      flavour: "tinyx", accelerator: "tcg", count: 20, readyMilliseconds: 151.6, adopted: 20,
      packetsSent: 20_000, packetsReceived: 19_999,
      privateBytes: Distribution([150e6, 160.04e6, 170e6]))
    #expect(
      figures.rendered() == """
        functions that ran: tinyx (tcg)          20
        taken back by the next daemon            20
        its start until it was ready         152 ms
        packets sent to them meanwhile        20000
        packets lost                              1
        private memory of one's processes  160.0 MB

        """)
    #expect(figures.json["packetsLost"].integer == 1 && figures.json["adopted"].integer == 20)
    #expect(figures.json["privateBytes", "p50"].double == 160.04e6)
  }
}
