import Testing

@testable import NFVBenchmark

@Suite struct TrafficTests {
  @Test func theRateOfIperf() {
    let report = "19700101000000,10.2.0.100,38612,10.2.0.1,5001,1,0.0-3.0,258474044,680034015\n"
    #expect(gigabits(ofIperf: report) == 0.680034015)
    #expect(gigabits(ofIperf: "tcp connect failed: Connection refused\n") == nil)
    #expect(gigabits(ofIperf: "a,b,1,c,2,3,0.0-0.0,0,0\n") == nil)
    #expect(gigabits(ofIperf: "") == nil)
  }

  @Test func theAverageOfPing() {
    let report = """
      5000 packets transmitted, 5000 received, 0% packet loss, time 1ms
      rtt min/avg/max/mdev = 0.063/0.116/5.878/0.111 ms, ipg/ewma 0.128/0.076 ms
      """
    #expect(microseconds(ofPing: report) == 116)
    #expect(microseconds(ofPing: "5000 packets transmitted, 0 received\n") == nil)
  }

  @Test func everyFormHasARowOfTheDraft() {
    #expect(DraftResult.all.count == 7)
    #expect(Form.all.map(\.flavour) == ["container", "unikernel", "tinyx", "standardvm"])
    #expect(Form.all.first?.draft.instantiationMilliseconds == 1711)
  }
}
