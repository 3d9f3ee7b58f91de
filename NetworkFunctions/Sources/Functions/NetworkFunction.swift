public import Packets

/// Nanoseconds of a clock that only rises.
public typealias Instant = UInt64

/// What becomes of a frame.
public enum Verdict: Sendable, Hashable {
  case drop
  /// It goes out of that port as the function left it.
  case send(port: Int)
}

/// Buffers for a function's own frames.
public enum OwnFrame {
  /// How much each has room for at least, in octets.
  public static var room: Int { 2048 }
}

/// Where a function runs: time, and a way for frames of its own.
public protocol Surroundings: ~Copyable {
  var now: Instant { get }

  /// Memory that can still be had, in octets.
  var freeMemory: Int { get }

  /// A number that the network cannot foresee; asked for rarely.
  mutating func random() -> UInt64

  /// Finds the ports of a configuration, before the function is configured.
  ///
  /// - Throws: where one of them is not there. All is as before in any case, until ``adopt(_:isRouter:)``.
  mutating func assign(_ configuration: borrowing Configuration) throws(ConfigurationError)

  /// The function has taken the configuration over: the ports that ``assign(_:)`` found are its own.
  ///
  /// - Parameter isRouter: it forwards, and says so where it announces its addresses.
  mutating func adopt(_ configuration: borrowing Configuration, isRouter: Bool)

  /// Whether the port's card segments TCP and completes partial checksums, up to 64 KiB a frame.
  func segments(port: Int) -> Bool

  /// Sends a frame that `fill` writes into an empty buffer of at least ``OwnFrame/room``. Its content
  /// is undefined; `fill` sets length and offload.
  ///
  /// - Parameter payload: follows what `fill` wrote, without being copied where the driver can. It
  ///   stays where it is and as it is for the program's life.
  /// - Returns: false where no buffer is free: `fill` was not called, and the function's `advance`
  ///   is called when there is one.
  mutating func emit(
    on port: Int, payload: UnsafeRawBufferPointer?, _ fill: (inout Frame) -> Void
  ) -> Bool
}

extension Surroundings where Self: ~Copyable {
  /// Without a bound of its own.
  public var freeMemory: Int { .max }
}

/// A network function: a value with its configuration, its state and its counters.
///
/// The same source is compiled for a process on Linux and for a machine without an operating
/// system; nothing here knows which.
public protocol NetworkFunction: ~Copyable {
  init()

  /// Takes over what the platform tells, first or anew; flows stay as far as it allows them.
  ///
  /// - Throws: where it makes no sense; then all is as before.
  mutating func configure<S: Surroundings & ~Copyable>(
    _ configuration: borrowing Configuration, in surroundings: inout S
  ) throws(ConfigurationError)

  /// Whether it forwards what is not for itself (RFC 4861, section 6.2.2).
  var isRouter: Bool { get }

  /// Decides on a frame that came from a port, and may change it in place.
  @_lifetime(frame: copy frame)
  mutating func process<S: Surroundings & ~Copyable>(
    _ frame: inout Frame, from port: Int, in surroundings: inout S
  ) -> Verdict

  /// Does what time demands, and what had to wait for a buffer.
  ///
  /// - Returns: when to be called again at the latest.
  mutating func advance<S: Surroundings & ~Copyable>(in surroundings: inout S) -> Instant

  /// Tells each counter by name; the order is always the same.
  borrowing func readCounters(_ body: (StaticString, UInt64) -> Void)
}

/// Why a configuration was not taken over.
public struct ConfigurationError: Error, Sendable {
  /// What is wrong, in words.
  public let reason: StaticString
  /// Where in the document it is, such as `parameters.rules[2].action`; empty where it is nowhere.
  public let place: [UInt8]

  public init(_ reason: StaticString, at place: [UInt8] = []) {
    self.reason = reason
    self.place = place
  }

  /// Place and reason, in UTF-8.
  public var text: [UInt8] {
    var text = place
    if !text.isEmpty { text += [0x3a, 0x20] }
    return text + [UInt8](reason)
  }
}
