import CHosted
import Functions

/// The control channel as a unix socket: one client at a time, others wait until it is gone.
struct Control: ~Copyable {
  private static let piece = 4096
  /// While so much waits to be read by the client, it is not listened to.
  private static let maximumOutput = 1 << 16

  private let listener: Int32
  private var client: Int32 = -1
  private var channel = ControlChannel()
  private var buffer = [UInt8](repeating: 0, count: Control.piece)

  /// Without one where the path can't be listened at; ``isListening`` tells.
  init(path: UnsafePointer<CChar>) { listener = CHosted_listen(path) }

  deinit {
    if client >= 0 { close(client) }
    if listener >= 0 { close(listener) }
  }

  var isListening: Bool { listener >= 0 }

  /// The client asked for the end and was answered.
  var mustStop: Bool { channel.mustStop && (client < 0 || channel.output.isEmpty) }

  /// What it waits for.
  var wanted: (listener: pollfd, client: pollfd) {
    var events: Int32 = 0
    if channel.output.count < Self.maximumOutput { events |= POLLIN }
    if !channel.output.isEmpty { events |= POLLOUT }
    return (
      pollfd(fd: client < 0 ? listener : -1, events: Int16(POLLIN), revents: 0),
      pollfd(fd: client, events: Int16(events), revents: 0)
    )
  }

  mutating func configure<F: NetworkFunction & ~Copyable>(
    document: [UInt8], _ function: inout F, _ host: inout Host
  ) throws(ConfigurationError) {
    try channel.configure(document: document, for: &function, in: &host)
  }

  /// Takes what the client sent, and sends what it can take.
  mutating func serve<F: NetworkFunction & ~Copyable>(_ function: inout F, _ host: inout Host) {
    if client < 0, listener >= 0 {
      client = CHosted_accept(listener)
      channel.output = []
    }
    guard client >= 0 else { return }
    if channel.output.count < Self.maximumOutput {
      let count = buffer.withUnsafeMutableBufferPointer {
        CHosted_receive(client, $0.baseAddress, Self.piece)
      }
      guard count > 0 || count == -Int(EAGAIN) else { return end() }
      for index in 0..<max(0, count) {
        channel.receive(buffer[index], for: &function, in: &host)
      }
    }
    guard !channel.output.isEmpty else { return }
    let sent = channel.output.withUnsafeBufferPointer {
      CHosted_put(client, $0.baseAddress, $0.count)
    }
    guard sent > 0 || sent == -Int(EAGAIN) else { return end() }
    channel.output.removeFirst(max(0, sent))
  }

  private mutating func end() {
    close(client)
    client = -1
    channel.output = []
  }
}
