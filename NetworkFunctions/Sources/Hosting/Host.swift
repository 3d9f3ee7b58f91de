import CHosted
import Functions
import Packets

/// Runs one function on Linux for ever.
struct Host: ~Copyable, Surroundings {
  private static let budget = 64

  private var ports: InlineArray<8, HostedPort?>
  private var count = 0
  private(set) var now: Instant = 0
  private var isWaiting = false

  init() { ports = InlineArray<8, HostedPort?> { _ in nil } }

  /// - Throws: where a port has no interface.
  mutating func assign(_ configuration: borrowing Configuration) throws(ConfigurationError) {
    count = configuration.ports.count
    for index in 0..<configuration.ports.count {
      var name: [CChar] = []
      for octet in configuration.ports[index].interface { name.append(CChar(bitPattern: octet)) }
      name.append(0)
      ports[index] = try HostedPort(interface: name)
    }
  }

  /// Runs until a port fails, and tells why.
  mutating func run<F: NetworkFunction & ~Copyable>(
    _ function: inout F
  ) -> ConfigurationError {
    var deadline = Instant.max
    while true {
      now = CHosted_now()
      var works = false
      for index in 0..<count where receive(index, into: &function) { works = true }
      for index in 0..<count { ports[index]!.flush() }
      if works || isWaiting || now >= deadline {
        isWaiting = false
        deadline = function.advance(in: &self)
        for index in 0..<count { ports[index]!.flush() }
      }
      if !works, !wait(until: deadline) {
        return ConfigurationError("a port's interface is gone")
      }
    }
  }

  private mutating func receive<F: NetworkFunction & ~Copyable>(
    _ index: Int, into function: inout F
  ) -> Bool {
    var left = Self.budget
    while left > 0, let slot = ports[index]!.received() {
      left -= 1
      // SAFETY: the slot is ours until it is released below.
      let (octets, length, offload) = HostedPort.content(of: slot)
      var frame = Frame(octets.mutableBytes, length: length, offload: offload)
      if case .send(let port) = function.process(&frame, from: index, in: &self),
        port >= 0, port < count
      {
        let (sent, offload) = (frame.length, frame.offload)
        if let target = ports[port]!.sendable(), sent <= target.count {
          target.copyMemory(from: UnsafeRawBufferPointer(rebasing: octets[..<sent]))
          ports[port]!.send(sent, offload)
        }
      }
      ports[index]!.release(slot)
    }
    return left < Self.budget
  }

  /// - Returns: false where an interface is gone.
  private func wait(until deadline: Instant) -> Bool {
    var descriptors = InlineArray<8, pollfd>(repeating: pollfd())
    for index in 0..<count {
      descriptors[index].fd = ports[index]!.descriptor
      // A ring that is full is waited for as well.
      descriptors[index].events = Int16(POLLIN) | (isWaiting ? Int16(POLLOUT) : 0)
    }
    var milliseconds: Int32 = -1
    if deadline != .max {
      milliseconds = Int32(min((deadline > now ? deadline - now : 0) / 1_000_000 + 1, 60_000))
    }
    var span = descriptors.mutableSpan
    span.withUnsafeMutableBufferPointer { buffer in
      _ = poll(buffer.baseAddress, nfds_t(count), milliseconds)
    }
    for index in 0..<count where Int32(descriptors[index].revents) & POLLERR != 0 { return false }
    return true
  }

  // MARK: Surroundings

  func random() -> UInt64 { CHosted_random() }

  /// The kernel segments what the interface does not.
  func segments(port: Int) -> Bool { true }

  mutating func emit(
    on port: Int, payload: UnsafeRawBufferPointer?, _ fill: (inout Frame) -> Void
  ) -> Bool {
    guard port >= 0, port < count else { return true }
    guard let octets = ports[port]!.sendable() else {
      isWaiting = true
      return false
    }
    var frame = Frame(octets.mutableBytes, length: 0)
    fill(&frame)
    var (length, offload) = (frame.length, frame.offload)
    if let payload, payload.count <= octets.count - length {
      UnsafeMutableRawBufferPointer(rebasing: octets[length...]).copyMemory(from: payload)
      length += payload.count
    }
    if offload.segmentation == 0 { offload.segmentSize = 0 }
    ports[port]!.send(length, offload)
    return true
  }
}
