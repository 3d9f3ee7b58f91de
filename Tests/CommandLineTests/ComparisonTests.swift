import NFVBenchmark
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
}
