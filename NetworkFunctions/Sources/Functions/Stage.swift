public import Packets

/// A packet on its way through the stages of a ``Forwarder``.
public struct Passage: Sendable {
  public enum Kind: Sendable {
    /// May be the first of its flow: a SYN alone, an ICMP query, a datagram.
    case opening
    /// Belongs to a flow, or to nothing.
    case following
    /// An ICMP error. Its key is that of an answer to the packet that it quotes (RFC 5508,
    /// section 4), so that it goes the way of such an answer.
    case error
    /// Of a protocol whose ports, if it has any, are not known here; its key has none.
    case portless
    /// Cut off, or an ICMP message that belongs to no flow.
    case senseless
  }

  /// Its endpoints, as they are here: who translates changes them.
  public var key: FlowKey
  public internal(set) var kind = Kind.senseless
  public internal(set) var segment: TCPHeader?
  /// The place of the port through which it came.
  public let port: Int
  /// The place of the port through which it leaves by its present destination.
  public let exit: Int?
  /// Comes from the outside port, or was turned around towards the inside.
  public var isInward: Bool
  /// The clock's seconds.
  public let now: UInt32

  /// Whether its key names ports, or an ICMP query's identifier.
  public var hasPorts: Bool { kind != .portless && kind != .senseless }
}

/// What a stage makes of a packet.
public enum Passing: Sendable {
  case pass
  case drop
  /// Its sender is told.
  case refuse(ICMPError)
  /// Its sender gets a TCP reset.
  case reset
  /// Its sender is told that nobody has that port, but not for some seconds (RFC 5382, REQ-4), and
  /// not at all where ``Stage/expects(_:)`` by then.
  case refuseLater
}

/// Decides on packets between their reception and their way to the next hop, and may translate their
/// endpoints. Forwarding functions are a ``Forwarder`` with a stage each, or several in a
/// ``Composition``.
public protocol Stage: ~Copyable {
  /// What it takes from a configuration.
  associatedtype Settings

  init()

  /// - Parameter outside: the place of the outside port.
  static func read(
    _ configuration: borrowing Configuration, outside: Int
  ) throws(ConfigurationError) -> Settings

  /// How much memory it takes to take settings over, in octets.
  borrowing func memory(for settings: Settings) -> Int

  /// Takes settings over; flows stay as far as they allow them.
  mutating func take<S: Surroundings & ~Copyable>(_ settings: Settings, in surroundings: inout S)

  /// Passes everything, whatever it is.
  var isTransparent: Bool { get }
  /// Who sends to the function itself gets no answer.
  var isSilent: Bool { get }

  /// Addresses that are the function's, besides its ports', and their ports.
  var addresses: [(port: Int, address: IPv6Address)] { get }

  /// Whether packets for this own address are for the stage.
  borrowing func takes(_ destination: IPv6Address, from port: Int) -> Bool

  mutating func pass(_ packet: inout Passage) -> Passing

  /// Whether a packet that was to be refused later would pass by now.
  borrowing func expects(_ key: FlowKey) -> Bool

  /// Forgets what is too old.
  mutating func expire(at now: UInt32)

  borrowing func readCounters(_ body: (StaticString, UInt64) -> Void)
}

extension Stage where Self: ~Copyable {
  public func memory(for settings: Settings) -> Int { 0 }
  public var isTransparent: Bool { false }
  public var isSilent: Bool { false }
  public var addresses: [(port: Int, address: IPv6Address)] { [] }
  public func takes(_ destination: IPv6Address, from port: Int) -> Bool { false }
  public func expects(_ key: FlowKey) -> Bool { true }
}

/// Ports of a transport, both ends included.
public struct PortRange: Sendable, Hashable {
  public let first: UInt16
  public let last: UInt16

  @inlinable
  public init(_ first: UInt16, _ last: UInt16) {
    self.first = first
    self.last = last
  }

  @inlinable
  public init(_ port: UInt16) { self.init(port, port) }

  @inlinable
  public func contains(_ port: UInt16) -> Bool { first <= port && port <= last }
}

extension Surroundings where Self: ~Copyable {
  /// The clock's seconds.
  var seconds: UInt32 { UInt32(truncatingIfNeeded: now / 1_000_000_000) }
}
