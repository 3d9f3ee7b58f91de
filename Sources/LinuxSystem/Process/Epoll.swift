internal import CLinux
internal import Glibc
public import SystemPackage

/// An `epoll(7)` instance, level-triggered. Not to be shared between threads.
public struct Epoll: Sendable {
  /// What a descriptor is ready for.
  public struct Events: OptionSet, Sendable, Hashable {
    public var rawValue: UInt32

    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let readable = Events(rawValue: EPOLLIN.rawValue)
    public static let writable = Events(rawValue: EPOLLOUT.rawValue)
    /// Tells of changes only, once each.
    public static let onChange = Events(rawValue: 1 << 31)
    /// Reported whether asked for or not.
    public static let hangUp = Events(rawValue: EPOLLHUP.rawValue)
    /// Reported whether asked for or not.
    public static let failure = Events(rawValue: EPOLLERR.rawValue)
  }

  public struct Ready: Sendable, Hashable {
    public var descriptor: FileDescriptor
    public var events: Events
  }

  private let descriptor: FileDescriptor

  public init() throws(SystemError) {
    descriptor = FileDescriptor(
      rawValue: try systemCall("epoll_create1") { epoll_create1(O_CLOEXEC) })
  }

  public func add(_ other: FileDescriptor, _ events: Events) throws(SystemError) {
    try control(EPOLL_CTL_ADD, other, events)
  }

  public func modify(_ other: FileDescriptor, _ events: Events) throws(SystemError) {
    try control(EPOLL_CTL_MOD, other, events)
  }

  public func remove(_ other: FileDescriptor) throws(SystemError) {
    try control(EPOLL_CTL_DEL, other, [])
  }

  /// Waits until something is ready or `milliseconds` have passed (negative: for ever).
  public func wait(milliseconds: Int32) throws(SystemError) -> [Ready] {
    var events = [epoll_event](repeating: epoll_event(), count: 32)
    // SAFETY: the kernel writes at most as many events as the array holds.
    let count = try systemCall("epoll_wait") {
      epoll_wait(descriptor.rawValue, &events, Int32(events.count), milliseconds)
    }
    return events[..<Int(count)].map {
      Ready(
        descriptor: FileDescriptor(rawValue: $0.data.fd), events: Events(rawValue: $0.events))
    }
  }

  private func control(
    _ operation: Int32, _ other: FileDescriptor, _ events: Events
  ) throws(SystemError) {
    var event = epoll_event(events: events.rawValue, data: epoll_data_t(fd: other.rawValue))
    try systemCall("epoll_ctl", "descriptor \(other.rawValue)") {
      epoll_ctl(descriptor.rawValue, operation, other.rawValue, &event)
    }
  }
}

/// Waits until `descriptor` is readable or has hung up (`poll(2)`).
///
/// - Parameter milliseconds: negative: for ever.
/// - Returns: false where the time has passed.
public func waitReadable(
  _ descriptor: FileDescriptor, milliseconds: Int32
) throws(SystemError) -> Bool {
  var entry = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
  return try systemCall("poll") { poll(&entry, 1, milliseconds) } > 0
}

/// Milliseconds of the clock that never goes back (`CLOCK_BOOTTIME`).
public func monotonicMilliseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_BOOTTIME, &time)
  return UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000
}
