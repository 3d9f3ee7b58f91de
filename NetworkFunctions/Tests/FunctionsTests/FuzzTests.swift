import Foundation
import Functions
import Packets
import TestFrames
import Testing

/// Damaged and invented frames: nothing traps, what is sent is well-formed, its transport's checksum as
/// well if that of what came was right or left to the card, and the function goes on serving.
/// `MARTLET_FUZZ` says how many frames each function gets; `swift test --sanitize=address` looks for
/// accesses beside the buffers as well.
@Suite struct FuzzTests {
  static let count =
    ProcessInfo.processInfo.environment["MARTLET_FUZZ"].flatMap(Int.init) ?? 20_000

  /// Numbers that a seed determines (SplitMix64), so that a failure can be repeated.
  struct Numbers: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var value = state
      value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
      value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
      return value ^ value >> 31
    }
  }

  static let seeds: [[UInt8]] = [
    Sample.udp(), Sample.udp(to: Sample.left), Sample.udp(payload: []), Sample.udp(hopLimit: 1),
    Sample.tcp(flags: .syn), Sample.tcp(flags: [.fin, .ack]),
    Sample.tcp(to: Sample.left, flags: .syn),
    Sample.echo(), Sample.echo(to: Sample.left), Sample.udp(fragment: 0x2000),
    Sample.udp(fragment: 0x0001),
    Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC),
    Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC),
    NAT44Tests.error(
      about: Sample.udp(), from: Sample.server, to: Sample.right, NAT44Tests.back),
    // Answers to a NAT, what goes in parts or back by its port, options.
    Sample.udp(from: Sample.server, to: Sample.right, ports: (53, 4000), macs: NAT44Tests.back),
    Sample.tcp(
      from: Sample.server, to: Sample.right, ports: (80, 4000), flags: [.syn, .ack],
      macs: NAT44Tests.back),
    Sample.echo(0, from: Sample.server, to: Sample.right, macs: NAT44Tests.back),
    Sample.udp(payload: [UInt8](repeating: 7, count: 1400), fragment: 0),
    Sample.udp(to: IPv4Address(10, 0, 1, 7)),
    RouterRequirementTests.datagram([7, 7, 4, 0, 0, 0, 0, 1]),
    withFrame([]) { frame in
      let source = IPv6Address(0xfe80_0000_0000_0000, 9)
      frame.setLength(86)
      EthernetHeader(destination: Sample.leftMAC, source: Sample.clientMAC, type: .ipv6)
        .write(to: &frame)
      IPv6Header(
        source: source, destination: IPv6Address.linkLocal(Sample.leftMAC), nextHeader: .icmpv6,
        payload: 32, hopLimit: 255
      ).write(to: &frame, at: 14)
      NeighbourMessage(
        .solicitation, target: IPv6Address.linkLocal(Sample.leftMAC),
        linkAddress: Sample.clientMAC
      ).write(to: &frame, at: 54)
    },
  ]

  static let mtus = [576, 1280, 1500, 9000, 65_535]

  /// A seed with some octets changed, cut off, or followed by others; sometimes with its checksum
  /// set right, so that what is behind it is reached.
  static func frame(_ numbers: inout Numbers) -> [UInt8] {
    var octets = seeds.randomElement(using: &numbers)!
    for _ in 0..<Int.random(in: 0...4, using: &numbers) {
      octets[Int.random(in: 0..<octets.count, using: &numbers)] = UInt8.random(
        in: 0...255, using: &numbers)
    }
    switch Int.random(in: 0..<6, using: &numbers) {
    case 0: octets.removeLast(Int.random(in: 0..<octets.count, using: &numbers))
    case 1:
      octets += (0..<Int.random(in: 0...1400, using: &numbers)).map {
        UInt8(truncatingIfNeeded: $0)
      }
    default: break
    }
    if octets.count >= 34, octets[12] == 8, octets[13] == 0, Bool.random(using: &numbers) {
      octets[24] = 0
      octets[25] = 0
      let header = Int(octets[14] & 15) * 4
      if header >= 20, octets.count >= 14 + header {
        octets = withFrame(octets) { frame in
          frame.set(frame.sum(from: 14, count: header).value, at: 24)
        }
      }
    }
    return octets
  }

  /// First frames whose transport's checksum may be wrong, then such that it never is: what waits for a
  /// while before it is sent is to be right as well.
  static func fuzz<Function: NetworkFunction & ~Copyable>(
    _ make: () -> Function, _ seed: UInt64, _ parameters: String = "{}"
  ) throws {
    try fuzz(make(), seed, parameters, isSound: false)
    try fuzz(make(), seed, parameters, isSound: true)
  }

  private static func fuzz<Function: NetworkFunction & ~Copyable>(
    _ function: consuming Function, _ seed: UInt64, _ parameters: String, isSound: Bool
  ) throws {
    var numbers = Numbers(state: seed)
    var surroundings = TestSurroundings()
    // Of those that were sent, whose checksum had to be right.
    var sound = 0
    let macs = Sample.configuration.ports.map(\.mac)
    for step in 0..<count {
      if step % 1024 == 0 {
        var configuration = Sample.configuration(parameters)
        for port in configuration.ports.indices {
          configuration.ports[port].mtu = mtus.randomElement(using: &numbers)!
        }
        try function.configure(configuration, in: &surroundings)
      }
      var came = SentFrame(frame(&numbers))
      if isSound {
        came = came.mended(isPartial: step % 5 == 0)
      } else if step % 5 == 0 {
        var offload = Offload.partial(
          start: Int.random(in: 0...100, using: &numbers),
          offset: Int.random(in: 0...40, using: &numbers))
        offload.segmentation = UInt8.random(in: 0...4, using: &numbers)
        offload.segmentSize = UInt16.random(in: 0...1500, using: &numbers)
        offload.headerLength = UInt16.random(in: 0...UInt16.max, using: &numbers)
        came.offload = offload
      }
      // The last port is none.
      let port = Int.random(in: 0...2, using: &numbers)
      var verdict = Verdict.drop
      var sent = came
      sent.octets = withFrame(came.octets, offload: came.offload) { frame in
        verdict = function.process(&frame, from: port, in: &surroundings)
        sent.offload = frame.offload
      }
      if case .send(let target) = verdict {
        let isSound = isSound || came.isTransportRight == true
        if isSound, sent.isTransportRight != nil { sound += 1 }
        expect(sent, on: target, macs, isSound: isSound, "step \(step), of \(came)")
      }
      surroundings.now += UInt64.random(in: 0...20_000_000, using: &numbers)
      if step % 64 == 0 { _ = function.advance(in: &surroundings) }
      for emitted in surroundings.emitted {
        expect(
          SentFrame(emitted.octets, emitted.offload), on: emitted.port, macs, isSound: isSound,
          "step \(step)")
      }
      surroundings.emitted = []
    }
    #expect(sound > count / 100)
    // It still answers.
    let arp = withFrame([]) { frame in
      frame.setLength(42)
      EthernetHeader(destination: .broadcast, source: Sample.clientMAC, type: .arp)
        .write(to: &frame)
      ARPPacket(
        .request, senderMAC: Sample.clientMAC, sender: Sample.client, target: Sample.left
      ).write(to: &frame, at: 14)
    }
    #expect(function.process(arp, from: 0, &surroundings).verdict == .send(port: 0))
  }

  private static func expect(
    _ sent: SentFrame, on port: Int, _ macs: [MACAddress], isSound: Bool,
    _ place: @autoclosure () -> String
  ) {
    guard macs.indices.contains(port) else {
      Issue.record("\(place()): port \(port)")
      return
    }
    if let flaw = sent.flaw(from: macs[port], isSound: isSound) {
      Issue.record("\(place()): \(flaw) in \(sent)")
    }
  }

  @Test func router() throws { try Self.fuzz({ Router() }, 1) }

  @Test func firewall() throws { try Self.fuzz({ Firewall() }, 2, Self.rules) }

  @Test func nat44() throws { try Self.fuzz({ NAT44() }, 3, #"{"flows": 64}"#) }

  @Test func loadBalancer() throws { try Self.fuzz({ LoadBalancer() }, 4, Self.services) }

  @Test(arguments: [
    #""pipeline": "firewall | nat44""#, #""pipeline": "firewall|loadbalancer""#,
    #""pipeline": "router""#, #""pipeline": "responder""#,
  ])
  func pipeline(text: String) throws {
    try Self.fuzz(
      { Pipeline() }, 5,
      "{\(text), \(Self.rules.dropFirst().dropLast()), "
        + Self.services.dropFirst())
  }

  static let rules =
    #"{"flows": 64, "rules": [{"protocol": "tcp", "action": "reject"}, {"action": "accept"}]}"#
  static let services = """
    {"flows": 64, "services": [{}, {"address": "192.0.2.80", "port": 80, "protocol": "tcp"}],
     "backends": [{"address": "10.0.2.2"}, {"address": "10.0.2.3", "state": "drain"}]}
    """
}
