import NFVModel
import Testing

@Suite struct AddressTests {
  @Test(arguments: [
    "0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "::1", "2001:db8::1:0:0:1", "fe80::1",
  ])
  func roundTrip(text: String) throws {
    #expect(try #require(IPAddress(text)).description == text)
  }

  @Test(arguments: [
    "", "1.2.3", "01.2.3.4", "1.2.3.256", "1:2", ":::", "1::2::3", "g::", "1.2.3.4.5",
  ])
  func refused(text: String) { #expect(IPAddress(text) == nil) }

  @Test func prefix() throws {
    let prefix = try #require(IPPrefix("10.1.2.3/24"))
    #expect(prefix.network.description == "10.1.2.0/24")
    #expect(prefix.last.description == "10.1.2.255")
    #expect(prefix.contains(try #require(IPAddress("10.1.2.77"))))
    #expect(!prefix.contains(try #require(IPAddress("10.1.3.1"))))
    #expect(prefix.overlaps(try #require(IPPrefix("10.0.0.0/8"))))
    #expect(!prefix.overlaps(try #require(IPPrefix("fd00::/8"))))
    #expect(try #require(IPPrefix("fd00::5/0")).network.description == "::/0")
  }

  @Test func mac() throws {
    let mac = try #require(MACAddress("02:00:0a:ff:00:10"))
    #expect(mac.description == "02:00:0a:ff:00:10")
    #expect(mac.octets == [2, 0, 10, 255, 0, 16])
    #expect(MACAddress("2:0:0:0:0:0") == nil)
  }

  @Test func identityIsReadBack() throws {
    let id = WorkloadID(store: "s", tenant: "t", vnfc: "v", incarnation: 7)
    #expect(WorkloadID("\(id)") == id)
    #expect(WorkloadID("s/t/v/0") == nil)
    #expect(id.name.utf8.count == 13)
    #expect(id.name != WorkloadID(store: "s", tenant: "t", vnfc: "v", incarnation: 8).name)
  }

  @Test func timestampText() {
    #expect(
      Timestamp(microseconds: 1_700_000_000_123_456).description == "2023-11-14T22:13:20.123Z")
  }
}
