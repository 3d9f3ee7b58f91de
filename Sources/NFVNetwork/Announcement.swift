internal import NFVModel

/// The frames by which a port's addresses make themselves known to the neighbours on its network.
enum Announcement {
  /// For each IPv4 address an ARP announcement (RFC 5227 3), for each IPv6 address an unsolicited
  /// neighbour advertisement (RFC 4861 7.2.6).
  static func frames(of port: Port) -> [[UInt8]] {
    port.addresses.map { prefix in
      let octets = prefix.address.octets
      return prefix.address.family == .v4
        ? arp(port.mac.octets, octets)
        : advertisement(port.mac.octets, octets, isRouter: port.mode == .router)
    }
  }

  private static func arp(_ mac: [UInt8], _ address: [UInt8]) -> [UInt8] {
    // Ethernet: to all, ARP. Then hardware Ethernet, protocol IPv4, lengths 6 and 4, a request.
    [UInt8](repeating: 0xFF, count: 6) + mac + [0x08, 0x06]
      + [0, 1, 0x08, 0, 6, 4, 0, 1] + mac + address + [UInt8](repeating: 0, count: 6) + address
  }

  private static func advertisement(
    _ mac: [UInt8], _ address: [UInt8], isRouter: Bool
  ) -> [UInt8] {
    // All nodes of the link, ff02::1.
    let group: [UInt8] = [0xFF, 0x02] + [UInt8](repeating: 0, count: 13) + [1]
    // Type 136, code, checksum; flags Override and perhaps Router; the target; the option target
    // link-layer address.
    var message: [UInt8] =
      [136, 0, 0, 0, isRouter ? 0xA0 : 0x20, 0, 0, 0] + address + [2, 1] + mac
    let length = UInt8(message.count)
    let sum = checksum(address + group + [0, 0, 0, length, 0, 0, 0, 58] + message)
    message[2] = UInt8(sum >> 8)
    message[3] = UInt8(sum & 0xFF)
    // IPv6 with a hop limit of 255, without which neighbours would ignore it.
    return [0x33, 0x33, 0, 0, 0, 1] + mac + [0x86, 0xDD]
      + [0x60, 0, 0, 0, 0, length, 58, 255] + address + group + message
  }

  /// The Internet checksum (RFC 1071) of an even number of octets.
  private static func checksum(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) {
      sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
    }
    while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
    return ~UInt16(sum)
  }
}
