/// An IP datagram of either version, as a function looks at it: where its transport begins.
public struct Datagram: Sendable, Hashable {
  /// How many extension headers are passed over; more make it nil.
  private static let maximumExtensions = 8

  public enum Version: Sendable { case ipv4, ipv6 }

  public var version: Version
  /// Of the IP header in the frame.
  public var offset: Int
  /// Mapped where it is IPv4.
  public var source: IPv6Address
  public var destination: IPv6Address
  /// Time to live, or hop limit.
  public var hopLimit: UInt8
  /// Of the transport, after extension headers.
  public var `protocol`: IPProtocol
  /// Of what comes after the IP header and its extensions, in the frame.
  public var transport: Int
  /// The transport's header and payload, in octets.
  public var transportLength: Int
  /// Whether the transport is in several datagrams, and whether this is not the first of them.
  public var isFragment: Bool
  /// Where in the whole transport this part of it begins, in octets.
  public var fragmentOffset: Int
  /// What of the whole transport, with the extension headers before it, is in this part, in octets.
  public var fragmentLength: Int
  /// The same for all fragments of a datagram; 0 where it is whole.
  public var identification: UInt32
  /// Whether the header has options or extension headers.
  public var hasOptions: Bool
  /// Whether its sender says by which way it is to go.
  public var isSourceRouted: Bool
  /// Where the options of an IPv4 header stop making sense, in octets of the header; 0 where all do.
  public var malformedOption: UInt8

  /// Of nothing yet.
  public init() {
    version = .ipv4
    offset = 0
    source = .unspecified
    destination = .unspecified
    hopLimit = 0
    `protocol` = IPProtocol(0)
    transport = 0
    transportLength = 0
    isFragment = false
    fragmentOffset = 0
    fragmentLength = 0
    identification = 0
    hasOptions = false
    isSourceRouted = false
    malformedOption = 0
  }

  /// nil where headers are cut off or contradict themselves; IPv4's checksum is looked at.
  public init?(in frame: borrowing Frame, _ ethernet: EthernetHeader) {
    self.init()
    guard read(frame, ethernet) else { return nil }
  }

  /// As the initialiser, in place: a copy takes as long as reading does.
  /// - Returns: false where it is nothing; where ``malformedOption`` says why, all else was read.
  public mutating func read(_ frame: borrowing Frame, _ ethernet: EthernetHeader) -> Bool {
    offset = ethernet.length
    malformedOption = 0
    switch ethernet.type {
    case .ipv4:
      guard let header = IPv4Header(in: frame, at: offset), header.isRight(in: frame, at: offset)
      else { return false }
      version = .ipv4
      source = IPv6Address(header.source)
      destination = IPv6Address(header.destination)
      hopLimit = header.timeToLive
      `protocol` = header.protocol
      transport = offset + header.headerLength
      transportLength = header.totalLength - header.headerLength
      isFragment = header.isFragment
      fragmentOffset = Int(header.fragment & 0x1fff) * 8
      fragmentLength = transportLength
      identification = isFragment ? UInt32(header.identification) : 0
      hasOptions = header.headerLength > IPv4Header.minimumLength
      isSourceRouted = false
      if hasOptions, !readOptions(frame) { return false }
    case .ipv6:
      guard let header = IPv6Header(in: frame, at: offset) else { return false }
      version = .ipv6
      source = header.source
      destination = header.destination
      // What only looks like IPv4 would be taken for it.
      guard source.ipv4 == nil, destination.ipv4 == nil else { return false }
      hopLimit = header.hopLimit
      `protocol` = header.nextHeader
      transport = offset + IPv6Header.length
      transportLength = header.payloadLength
      isFragment = false
      fragmentOffset = 0
      fragmentLength = transportLength
      identification = 0
      hasOptions = false
      isSourceRouted = false
      var extensions = 0
      while true {
        let length: Int
        switch `protocol`.rawValue {
        // Hop-by-hop options, routing, destination options.
        case 0, 43, 60:
          guard frame.head - transport >= 8 else { return false }
          length = (Int(frame.u8(at: transport + 1)) + 1) * 8
          // Routing of type 0, with something left of it.
          if `protocol`.rawValue == 43, frame.u8(at: transport + 2) == 0,
            frame.u8(at: transport + 3) > 0
          {
            isSourceRouted = true
          }
        case 44:
          guard frame.head - transport >= 8 else { return false }
          length = 8
          let fragment = frame.u16(at: transport + 2)
          isFragment = fragment & 0xfff9 != 0
          fragmentOffset = Int(fragment & 0xfff8)
          fragmentLength = transportLength - length
          identification = frame.u32(at: transport + 4)
        default: return true
        }
        guard transportLength >= length, extensions < Self.maximumExtensions else { return false }
        // In what follows a later fragment's header there is no header.
        if isLaterFragment {
          `protocol` = IPProtocol(frame.u8(at: transport))
          transport += length
          transportLength -= length
          hasOptions = true
          return true
        }
        `protocol` = IPProtocol(frame.u8(at: transport))
        transport += length
        transportLength -= length
        extensions += 1
        hasOptions = true
      }
    default: return false
    }
    return true
  }

  /// - Returns: false where an option is cut off or contradicts itself.
  private mutating func readOptions(_ frame: borrowing Frame) -> Bool {
    var option = offset + IPv4Header.minimumLength
    while option < transport {
      switch frame.u8(at: option) {
      case 0: return true
      case 1: option += 1
      case let kind:
        guard option + 2 <= transport else {
          malformedOption = UInt8(truncatingIfNeeded: option - offset)
          return false
        }
        let length = Int(frame.u8(at: option + 1))
        guard length >= 2, option + length <= transport else {
          malformedOption = UInt8(truncatingIfNeeded: option + 1 - offset)
          return false
        }
        // Loose and strict source route.
        if kind == 131 || kind == 137 { isSourceRouted = true }
        option += length
      }
    }
    return true
  }

  /// Whether it is a part without the transport's header.
  @inlinable
  public var isLaterFragment: Bool { fragmentOffset > 0 }

  /// How many octets of the transport are in the frame's head.
  @inlinable
  public func present(in frame: borrowing Frame) -> Int {
    min(transportLength, frame.head - transport)
  }

  /// Whether the transport's checksum is right, or was found so; false also where not all of it is
  /// in the frame's head.
  public func isTransportRight(in frame: borrowing Frame) -> Bool {
    if frame.offload.trusts(transport) { return true }
    guard present(in: frame) == transportLength else { return false }
    var sum = frame.sum(from: transport, count: transportLength)
    if `protocol` != .icmp {
      sum.add(
        Checksum.pseudoHeader(
          source, destination, protocol: `protocol`, length: transportLength))
    }
    return sum.isRight
  }
}
