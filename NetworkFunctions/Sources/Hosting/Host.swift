import CHosted
import Functions
import Packets

/// The process around one function: its ports, its control channel, its signals, and the loop.
struct Host: ~Copyable, Surroundings {
  private static let budget = 64
  /// For how long the loop runs without a look at signals and control channel.
  private static let patience: Instant = 1_000_000
  private static let capacity = Configuration.maximumPorts

  // SAFETY: `capacity` places, of which those with a number in `isOpen` are initialised; until the
  // end of this value.
  private let sockets = UnsafeMutablePointer<HostedPort>.allocate(capacity: Host.capacity)
  private var isOpen = InlineArray<8, Bool>(repeating: false)
  /// The socket of each port of the configuration, the port of each socket; -1 is none.
  private var socketOf = InlineArray<8, Int>(repeating: -1)
  private var portOf = InlineArray<8, Int>(repeating: -1)
  /// What the next configuration's ports are.
  private var assigned = InlineArray<8, Int>(repeating: -1)
  private let signals = CHosted_signals()
  /// Of ports whose rings are open.
  private let opened = CHosted_event()
  private(set) var now: Instant = 0

  deinit {
    for index in 0..<Self.capacity where isOpen[index] { (sockets + index).deinitialize(count: 1) }
    sockets.deallocate()
    close(opened)
  }

  // MARK: The loop

  /// Runs until somebody asks for the end.
  ///
  /// - Parameter reload: is called at SIGHUP.
  /// - Throws: where an interface is gone.
  mutating func run<F: NetworkFunction & ~Copyable>(
    _ function: inout F, _ control: inout Control,
    reload: (inout F, inout Control, inout Host) -> Void
  ) throws(ConfigurationError) {
    var deadline: Instant = 0
    var poll = BusyPoll(longest: 100_000)
    var lookedAt: Instant = 0
    while true {
      now = CHosted_now()
      var works = false
      for index in 0..<Self.capacity where isOpen[index] {
        if receive(index, into: &function) { works = true }
      }
      flush()
      if works || now >= deadline {
        deadline = function.advance(in: &self)
        flush()
      }
      let start = now
      now = CHosted_now()
      if works {
        poll.found(at: start, until: now)
      } else if poll.lasts(at: now) {
        // Other functions have something to do, perhaps with what this one has just sent.
        let offered = now
        CHosted_yield()
        now = CHosted_now()
        poll.gaveWay(from: offered, to: now)
      } else {
        lookedAt = 0
      }
      guard now &- lookedAt >= Self.patience else { continue }
      let isAwake = works || poll.lasts(at: now)
      lookedAt = now
      let hasEvents = try wait(until: isAwake ? now : deadline, control)
      guard hasEvents else { continue }
      switch CHosted_nextSignal(signals) {
      case 0: break
      case SIGHUP: reload(&function, &control, &self)
      default: return
      }
      takeRings()
      control.serve(&function, &self)
      // A new document may have set an earlier one.
      deadline = 0
      if control.mustStop { return }
    }
  }

  private mutating func receive<F: NetworkFunction & ~Copyable>(
    _ index: Int, into function: inout F
  ) -> Bool {
    var left = Self.budget
    let port = portOf[index]
    while left > 0, let (octets, length, offload) = sockets[index].receive() {
      left -= 1
      sockets[index].isDown = false
      guard port >= 0 else { continue }
      var frame = Frame(octets.mutableBytes, length: length, offload: offload)
      if case .send(let target) = function.process(&frame, from: port, in: &self),
        0..<8 ~= target, socketOf[target] >= 0
      {
        let (sent, offload) = (frame.length, frame.offload)
        sockets[socketOf[target]].send(octets.baseAddress!, length: sent, offload)
      }
    }
    return left < Self.budget
  }

  /// Sends all that waits, then gives the slots back in which it stood.
  private func flush() {
    for index in 0..<Self.capacity where isOpen[index] { sockets[index].flush() }
    for index in 0..<Self.capacity where isOpen[index] { sockets[index].release() }
  }

  /// - Returns: whether there is a signal, something for the control channel, or rings are open.
  /// - Throws: where an interface is gone.
  private func wait(
    until deadline: Instant, _ control: borrowing Control
  ) throws(ConfigurationError) -> Bool {
    // A negative descriptor is passed over.
    var events = InlineArray<28, pollfd>(repeating: pollfd(fd: -1, events: 0, revents: 0))
    for index in 0..<Self.capacity where isOpen[index] {
      let (socket, small, large) = sockets[index].polled
      events[index] = socket
      events[8 + index] = small
      events[16 + index] = large
    }
    events[24] = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
    events[25] = control.wanted.listener
    events[26] = control.wanted.client
    events[27] = pollfd(fd: opened, events: Int16(POLLIN), revents: 0)
    // That an interface which was down is gone is told by nobody.
    var deadline = deadline
    for index in 0..<Self.capacity where isOpen[index] && sockets[index].isDown {
      deadline = min(deadline, now + 1_000_000_000)
    }
    var milliseconds: Int32 = -1
    if deadline != .max {
      milliseconds = Int32(min(deadline > now ? (deadline - now) / 1_000_000 + 1 : 0, 60_000))
    }
    var span = events.mutableSpan
    span.withUnsafeMutableBufferPointer { buffer in
      _ = poll(buffer.baseAddress, nfds_t(buffer.count), milliseconds)
    }
    for index in 0..<Self.capacity where isOpen[index] {
      let found =
        events[index].revents | events[8 + index].revents | events[16 + index].revents
      if Int32(found) & POLLERR != 0 { sockets[index].clearErrors() }
      // An interface that is only down comes back.
      guard !sockets[index].isDown || sockets[index].isThere else {
        throw ConfigurationError("a port's interface is gone")
      }
    }
    for index in 24..<28 where events[index].revents != 0 { return true }
    return false
  }

  /// Has ports receive by their rings, where these are open now.
  private func takeRings() {
    CHosted_clear(opened)
    for index in 0..<Self.capacity where isOpen[index] {
      let error = sockets[index].takeRings(at: now)
      if error != 0 { CHosted_tellWithoutRings(error) }
    }
  }

  /// Waits until the interfaces of a configuration exist, as they may come after the process.
  ///
  /// - Returns: false where somebody asked for the end.
  /// - Throws: where they did not come in 30 s.
  func waitForInterfaces(
    _ configuration: borrowing Configuration
  ) throws(ConfigurationError) -> Bool {
    let end = CHosted_now() + 30_000_000_000
    for index in 0..<configuration.ports.count {
      while withName(configuration.ports[index].interface, { CHosted_isPresent($0) }) == 0 {
        var event = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
        guard poll(&event, 1, 5) == 0 else { return false }
        guard CHosted_now() < end else {
          throw ConfigurationError("a port's interface does not exist")
        }
      }
    }
    return true
  }

  // MARK: Surroundings

  func random() -> UInt64 { CHosted_random() }

  /// Opens sockets for interfaces that have none yet.
  mutating func assign(_ configuration: borrowing Configuration) throws(ConfigurationError) {
    assigned = InlineArray(repeating: -1)
    for port in 0..<configuration.ports.count {
      let interface = configuration.ports[port].interface
      for index in 0..<Self.capacity where isOpen[index] && sockets[index].interface == interface {
        assigned[port] = index
      }
      guard assigned[port] < 0 else { continue }
      var free = 0
      while free < Self.capacity, isOpen[free] { free += 1 }
      guard free < Self.capacity else {
        throw ConfigurationError("a configuration may not replace so many ports at once")
      }
      (sockets + free).initialize(to: try HostedPort(interface, event: opened))
      isOpen[free] = true
      assigned[port] = free
    }
  }

  mutating func adopt(_ configuration: borrowing Configuration, isRouter: Bool) {
    flush()
    socketOf = assigned
    portOf = InlineArray(repeating: -1)
    for port in 0..<Self.capacity where socketOf[port] >= 0 { portOf[socketOf[port]] = port }
    for index in 0..<Self.capacity where isOpen[index] && portOf[index] < 0 {
      (sockets + index).deinitialize(count: 1)
      isOpen[index] = false
    }
    announce(configuration.ports, isRouter: isRouter)
    flush()
  }

  /// The kernel segments what the interface does not.
  func segments(port: Int) -> Bool { true }

  mutating func emit(
    on port: Int, payload: UnsafeRawBufferPointer?, _ fill: (inout Frame) -> Void
  ) -> Bool {
    guard 0..<8 ~= port, socketOf[port] >= 0 else { return true }
    sockets[socketOf[port]].send(payload: payload, fill)
    return true
  }
}
