import LinuxSystem
import Testing

/// The bytes that the kernel is sent, field by field (little-endian machines). Length, sequence
/// number and the flags of the transport are filled in when a message is sent.
@Suite struct NetlinkTests {
  func bytes(_ text: String) -> [UInt8] {
    text.split(separator: "\n").flatMap { line in
      line.prefix { $0 != ";" }.split(separator: " ").compactMap { UInt8($0, radix: 16) }
    }
  }

  @Test func aVethIsBornInItsNamespace() {
    let message = NetlinkMessage.addVeth(
      name: "mab", mtu: 1500, master: 5,
      peer: .init(name: "eth0", mac: [2, 0, 0, 0, 0, 9], namespace: 7))
    #expect(
      message.bytes
        == bytes(
          """
          00 00 00 00  10 00  01 06              ; length, RTM_NEWLINK, REQUEST|CREATE|EXCL
          00 00 00 00  00 00 00 00               ; sequence, port
          00 00 00 00  00 00 00 00               ; ifinfomsg: family, type, index
          01 00 00 00  01 00 00 00               ; flags and change: IFF_UP
          08 00 03 00  6d 61 62 00               ; IFLA_IFNAME "mab"
          08 00 04 00  dc 05 00 00               ; IFLA_MTU 1500
          08 00 1f 00  01 00 00 00               ; IFLA_NUM_TX_QUEUES 1
          08 00 20 00  01 00 00 00               ; IFLA_NUM_RX_QUEUES 1
          08 00 0a 00  05 00 00 00               ; IFLA_MASTER 5
          60 00 12 00                            ; IFLA_LINKINFO, 96 octets
          09 00 01 00  76 65 74 68  00 00 00 00  ;   IFLA_INFO_KIND "veth"
          50 00 02 00                            ;   IFLA_INFO_DATA
          4c 00 01 00                            ;     VETH_INFO_PEER
          00 00 00 00  00 00 00 00               ;       ifinfomsg
          00 00 00 00  00 00 00 00               ;       not up: ENOTCONN otherwise
          09 00 03 00  65 74 68 30  00 00 00 00  ;       IFLA_IFNAME "eth0"
          0a 00 01 00  02 00 00 00  00 09 00 00  ;       IFLA_ADDRESS
          08 00 04 00  dc 05 00 00               ;       IFLA_MTU
          08 00 1f 00  01 00 00 00               ;       IFLA_NUM_TX_QUEUES 1
          08 00 20 00  01 00 00 00               ;       IFLA_NUM_RX_QUEUES 1
          08 00 1c 00  07 00 00 00               ;       IFLA_NET_NS_FD 7
          """))
  }

  @Test func anAddressWorksAtOnce() {
    #expect(
      NetlinkMessage.addAddress([10, 1, 0, 2], prefixLength: 24, link: 3).bytes
        == bytes(
          """
          00 00 00 00  14 00  01 05   ; RTM_NEWADDR, REQUEST|CREATE|REPLACE
          00 00 00 00  00 00 00 00
          02 18 02 00  03 00 00 00    ; ifaddrmsg: AF_INET, /24, IFA_F_NODAD, universe, index
          08 00 02 00  0a 01 00 02    ; IFA_LOCAL
          08 00 01 00  0a 01 00 02    ; IFA_ADDRESS
          08 00 08 00  02 00 00 00    ; IFA_FLAGS: IFA_F_NODAD
          """))
  }

  @Test func aRoute() {
    #expect(
      NetlinkMessage.addRoute(
        to: [10, 2, 0, 0], prefixLength: 24, gateway: [10, 1, 0, 1], link: 3
      ).bytes
        == bytes(
          """
          00 00 00 00  18 00  01 05   ; RTM_NEWROUTE, REQUEST|CREATE|REPLACE
          00 00 00 00  00 00 00 00
          02 18 00 00                 ; rtmsg: AF_INET, destination /24, source /0, TOS
          fe 04 00 01                 ; table main, RTPROT_STATIC, universe, RTN_UNICAST
          00 00 00 00                 ; flags
          08 00 01 00  0a 02 00 00    ; RTA_DST
          08 00 05 00  0a 01 00 01    ; RTA_GATEWAY
          08 00 04 00  03 00 00 00    ; RTA_OIF
          """))
  }

  @Test func aDefaultRouteOfIPv6WithAMetric() {
    #expect(
      NetlinkMessage.addRoute(
        to: [UInt8](repeating: 0, count: 16), prefixLength: 0,
        gateway: [0xFE, 0x80] + [UInt8](repeating: 0, count: 13) + [1], link: 3, metric: 1024
      ).bytes
        == bytes(
          """
          00 00 00 00  18 00  01 05   ; RTM_NEWROUTE, REQUEST|CREATE|REPLACE
          00 00 00 00  00 00 00 00
          0a 00 00 00                 ; rtmsg: AF_INET6, no destination
          fe 04 00 01                 ; table main, RTPROT_STATIC, universe, RTN_UNICAST
          00 00 00 00                 ; flags
          14 00 05 00                 ; RTA_GATEWAY
          fe 80 00 00  00 00 00 00  00 00 00 00  00 00 00 01
          08 00 04 00  03 00 00 00    ; RTA_OIF
          08 00 06 00  00 04 00 00    ; RTA_PRIORITY 1024
          """))
  }

  @Test func aRouteIsDeletedByItsLink() {
    #expect(
      NetlinkMessage.deleteRoute(to: [10, 2, 0, 0], prefixLength: 24, link: 3).bytes
        == bytes(
          """
          00 00 00 00  19 00  01 00   ; RTM_DELROUTE, REQUEST
          00 00 00 00  00 00 00 00
          02 18 00 00                 ; rtmsg: AF_INET, destination /24
          fe 04 00 01                 ; table main, RTPROT_STATIC, universe, RTN_UNICAST
          00 00 00 00
          08 00 01 00  0a 02 00 00    ; RTA_DST
          08 00 04 00  03 00 00 00    ; RTA_OIF
          """))
  }

  @Test func aForwardingEntryDoesNotAge() {
    #expect(
      NetlinkMessage.setForwarding(of: [2, 0, 0, 0, 0, 9], to: 5).bytes
        == bytes(
          """
          00 00 00 00  1c 00  01 05   ; RTM_NEWNEIGH, REQUEST|CREATE|REPLACE
          00 00 00 00  00 00 00 00
          07 00 00 00  05 00 00 00    ; ndmsg: AF_BRIDGE, index
          40 00 04 00                 ; NUD_NOARP, NTF_MASTER
          0a 00 02 00  02 00 00 00  00 09 00 00  ; NDA_LLADDR
          """))
  }

  @Test func aBatchOfSetElementsHasItsBrackets() {
    let batch = NetlinkMessage.setElements(
      [(.init(family: 7, table: "t", name: "s"), [1, 2, 3, 4])], isDeletion: false)
    #expect(batch.count == 3)
    #expect(
      batch[1].bytes
        == bytes(
          """
          00 00 00 00  0c 0a  01 04   ; NFNL_SUBSYS_NFTABLES, NEWSETELEM, REQUEST|CREATE
          00 00 00 00  00 00 00 00
          07 00 00 00                 ; nfgenmsg: NFPROTO_BRIDGE
          06 00 01 00  74 00 00 00    ; table "t"
          06 00 02 00  73 00 00 00    ; set "s"
          14 00 03 80                 ; elements, nested
          10 00 01 80                 ;   element
          0c 00 01 80                 ;     key
          08 00 01 00  01 02 03 04    ;       NFTA_DATA_VALUE
          """))
    #expect(Array(batch[0].bytes[16..<20]) == [0, 0, 0, 10])
  }

  @Test func attributesThatDoNotFitAreTheEnd() {
    let good: [UInt8] = [8, 0, 1, 0, 5, 0, 0, 0]
    let attributes = NetlinkAttributes((good + [200, 0, 2, 0, 1])[...])
    #expect(attributes.integer(1, as: UInt32.self) == 5)
    #expect(attributes[2] == nil)
    #expect(NetlinkAttributes([3, 0, 1, 0][...])[1] == nil)
    #expect(attributes.integer(1, as: UInt64.self) == nil)
  }
}
