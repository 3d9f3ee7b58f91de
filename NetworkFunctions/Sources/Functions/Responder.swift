public import Packets

/// Answers: ARP, neighbour solicitations, pings, and over TCP the services of ``TCPService``; other
/// TCP ports are closed by RST, other UDP ports by ICMP. UDP port 7 echoes, 5001 is iperf 2's.
public struct Responder: NetworkFunction, ~Copyable {
  var stack = LocalStack()
  var server = TCPServer()
  var iperf = IperfServer()
  var generation: UInt64 = 0

  public init() {}

  public var isRouter: Bool { false }

  public mutating func configure<S: Surroundings & ~Copyable>(
    _ configuration: borrowing Configuration, in surroundings: inout S
  ) throws(ConfigurationError) {
    guard !configuration.ports.isEmpty else { throw ConfigurationError("there is no port") }
    guard configuration.ports.count <= Configuration.maximumPorts else {
      throw ConfigurationError("there are more than 8 ports")
    }
    stack.ports = configuration.ports
    generation = configuration.generation
    server.prepare(in: &surroundings)
    iperf.prepare()
  }

  @_lifetime(frame: copy frame)
  public mutating func process<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout S
  ) -> Verdict {
    var headers = Headers()
    switch stack.receive(&frame, from: port, into: &headers) {
    case .done(let verdict): return verdict
    case .malformed: return .drop
    case .transit:
      stack.counters.ignored &+= 1
      return .drop
    case .local:
      let (ethernet, datagram) = (headers.ethernet, headers.datagram)
      guard !datagram.isFragment else { return .drop }
      switch datagram.protocol {
      case .tcp:
        return server.receive(
          &frame, from: port, ethernet, datagram, mtu: stack.ports[port].mtu, in: &surroundings)
      case .udp:
        return receiveUDP(&frame, from: port, ethernet, datagram, at: surroundings.now)
      default:
        stack.counters.ignored &+= 1
        return .drop
      }
    }
  }

  @_lifetime(frame: copy frame)
  private mutating func receiveUDP(
    _ frame: inout Frame, from port: Int, _ ethernet: EthernetHeader, _ datagram: Datagram,
    at now: Instant
  ) -> Verdict {
    guard let udp = UDPHeader(in: frame, datagram) else {
      stack.counters.malformed &+= 1
      return .drop
    }
    if udp.destination == IperfServer.port, frame.offload.segmentation == 0 {
      guard iperf.receive(&frame, ethernet, datagram, udp, at: now) else { return .drop }
      stack.counters.answered &+= 1
      return .send(port: port)
    }
    // Two that echo would never end.
    guard udp.destination == 7, udp.source > 1023, frame.offload.segmentation == 0 else {
      return stack.refuseDatagram(&frame, from: port, ethernet, datagram, at: now)
    }
    frame.turnAround(ethernet, datagram)
    frame.set(udp.destination, at: datagram.transport)
    frame.set(udp.source, at: datagram.transport + 2)
    // The sum is the same; a partial one is completed by the card as it came.
    frame.offload.flags &= Offload.needsChecksum
    stack.counters.answered &+= 1
    return .send(port: port)
  }

  public mutating func advance<S: Surroundings & ~Copyable>(
    in surroundings: inout S
  ) -> Instant {
    server.advance(in: &surroundings)
  }

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {
    body("received", stack.counters.received)
    body("malformed", stack.counters.malformed)
    body("ignored", stack.counters.ignored)
    body("answered", stack.counters.answered)
    body("refused", stack.counters.refused)
    body("tcpAccepted", server.counters.accepted)
    body("tcpRefused", server.counters.refused)
    body("tcpOctetsReceived", server.counters.octetsReceived)
    body("tcpOctetsSent", server.counters.octetsSent)
    body("tcpRetransmissions", server.counters.retransmissions)
  }
}
