import Packets

/// Forwards between its ports by the longest prefix; its routes are its ports' networks and those
/// that the platform gives them.
public typealias Router = Forwarder<NoStage>

/// Passes everything.
public struct NoStage: Stage, ~Copyable {
  public init() {}

  public static func read(
    _ configuration: borrowing Configuration, outside: Int
  ) throws(ConfigurationError) {}

  public mutating func take<S: Surroundings & ~Copyable>(
    _ settings: Void, in surroundings: inout S
  ) {}

  public var isTransparent: Bool { true }

  public mutating func pass(_ packet: inout Passage) -> Passing { .pass }

  public mutating func expire(at now: UInt32) {}

  public borrowing func readCounters(_ body: (StaticString, UInt64) -> Void) {}
}
