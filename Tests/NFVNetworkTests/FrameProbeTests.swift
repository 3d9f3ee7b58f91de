import LinuxSystem
import NFVModel
import SystemPackage
import Testing

@testable import NFVNetwork

@Suite struct FrameProbeTests {
  /// A guest that sends without a pause, and answers nothing.
  struct Flood: FrameSocket {
    let end = ContinuousClock.now + .seconds(3)

    func send(_ frame: [UInt8]) throws(SystemError) {}

    func receive(timeout: Duration) throws(SystemError) -> [UInt8]? {
      guard ContinuousClock.now < end else {
        throw SystemError(call: "recv", errno: .timedOut, subject: "still asked after 3 s")
      }
      return [UInt8](repeating: 2, count: 60)
    }
  }

  @Test func whoFloodsKeepsNobodyWaiting() throws {
    let probe = FrameProbe(
      on: Flood(), interface: "m0", mac: MACAddress(value: 2),
      address: try #require(IPPrefix("10.9.0.5/24")))
    #expect(try !probe.answers(.icmp, timeout: .milliseconds(50)))
  }
}
