@preconcurrency internal import Dispatch
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// A terminal that passes every key on, until it is restored.
final class RawTerminal: Sendable {
  private let descriptor: CInt
  private let before: termios

  /// Nil where the descriptor is no terminal.
  init?(_ descriptor: CInt) {
    var attributes = termios()
    guard tcgetattr(descriptor, &attributes) == 0 else { return nil }
    self.descriptor = descriptor
    before = attributes
    cfmakeraw(&attributes)
    tcsetattr(descriptor, TCSADRAIN, &attributes)
  }

  func restore() {
    var attributes = before
    tcsetattr(descriptor, TCSADRAIN, &attributes)
  }
}

/// Changes of the terminal's size (SIGWINCH), for as long as somebody listens.
func windowChanges() -> AsyncStream<Void> {
  AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
    let source = DispatchSource.makeSignalSource(signal: SIGWINCH)
    source.setEventHandler { continuation.yield() }
    continuation.onTermination = { _ in source.cancel() }
    source.resume()
  }
}

/// Signals that end a command (SIGINT, SIGTERM, SIGHUP), for as long as somebody listens: then the
/// terminal is restored before it ends.
func endings() -> AsyncStream<Void> {
  AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
    let sources = [SIGINT, SIGTERM, SIGHUP].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number)
      source.setEventHandler { continuation.yield() }
      source.resume()
      return source
    }
    continuation.onTermination = { _ in for source in sources { source.cancel() } }
  }
}

/// Standard input, read only as fast as it is wanted, and left alone at any moment.
///
/// Reading blocks a thread of its own; a pipe ends that when the command ends first.
final class StandardInput: Sendable {
  private let stopReader: FileDescriptor
  private let stopWriter: FileDescriptor
  private let queue = DispatchQueue(label: "standard input")

  init() throws { (stopReader, stopWriter) = try FileDescriptor.pipe() }

  deinit {
    try? stopReader.close()
    try? stopWriter.close()
  }

  /// Makes `next` return nil from now on.
  func stop() { _ = try? stopWriter.writeAll([0]) }

  /// The next octets; nil at the end, after an error and once stopped.
  func next() async -> [UInt8]? {
    await withCheckedContinuation { continuation in
      queue.async { continuation.resume(returning: self.read()) }
    }
  }

  private func read() -> [UInt8]? {
    var waiting = [
      pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
      pollfd(fd: stopReader.rawValue, events: Int16(POLLIN), revents: 0),
    ]
    // SAFETY: poll(2) writes into as many entries as it is told.
    guard (try? systemCall("poll") { poll(&waiting, nfds_t(waiting.count), -1) }) != nil,
      waiting[1].revents == 0
    else { return nil }
    let piece = [UInt8](unsafeUninitializedCapacity: 32768) { buffer, count in
      // SAFETY: read(2) fills `count` octets of the buffer, which are then initialised.
      count =
        (try? systemCall("read") { Glibc.read(STDIN_FILENO, buffer.baseAddress, buffer.count) })
        ?? 0
    }
    return piece.isEmpty ? nil : piece
  }
}
