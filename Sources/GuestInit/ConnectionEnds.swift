/// Whose end it is that a port tells.
///
/// Linux's virtio_console learns by a work queue that the host has gone and come, and by an interrupt of
/// octets: the next connection's greeting may be read before the last one's end, or while the port still
/// says that nobody is there. Who took that for the end of the new connection would drop what is asked
/// by it for ever.
struct ConnectionEnds {
  /// The work queue is late by less, in milliseconds, even where a busy host emulates the machine.
  private static let patience: UInt64 = 2000

  /// Until when an end may be that of the connection before.
  private var lateUntil: UInt64 = 0

  /// An end was told that may be of the connection before: to be asked for again.
  private(set) var isInDoubt = false

  /// A connection has been greeted.
  mutating func greeted(at now: UInt64) { lateUntil = now + Self.patience }

  /// The port says that nobody is there.
  /// - Returns: whether the connection that was greeted last has ended.
  mutating func isEnd(at now: UInt64) -> Bool {
    isInDoubt = now < lateUntil
    return !isInDoubt
  }

  /// The port says that somebody is there.
  mutating func goesOn() { isInDoubt = false }
}
