internal import ControlProtocol
internal import LinuxSystem
internal import SystemPackage

/// A command that runs beside the function for somebody at the control channel.
struct Session {
  /// Input that the command has not taken yet.
  struct PendingInput {
    var request: UInt64
    var bytes: [UInt8]
    var taken = 0
    var isLast: Bool
  }

  let child: Child
  /// nil once it is closed; with a terminal its master, as is the output's.
  private(set) var input: FileDescriptor?
  private(set) var outputs: [(stream: ControlEvent.Stream, descriptor: FileDescriptor)]
  let isTerminal: Bool
  /// How much output may be sent before the host acknowledges some.
  var window = ControlProtocol.outputWindow
  var pending: PendingInput?
  var exit: GuestExit?

  init(_ command: GuestCommand, environment: [String]) throws(GuestFailure) {
    var inside: [FileDescriptor] = []
    var outside: [FileDescriptor] = []
    isTerminal = command.terminal != nil
    do throws(GuestFailure) {
      try naming("the command cannot be started") { () throws(SystemError) in
        if let size = command.terminal {
          let ends = try makeTerminal(rows: Int(size.rows), columns: Int(size.columns))
          inside.append(ends.terminal)
          outside.append(ends.master)
        } else {
          for number in 0..<3 {
            let ends = try makePipe()
            inside.append(number == 0 ? ends.read : ends.write)
            outside.append(number == 0 ? ends.write : ends.read)
          }
        }
        for descriptor in outside { try setWaiting(false, descriptor) }
      }
      let terminal = isTerminal ? ["TERM=xterm"] : []
      child = try Child(
        arguments: command.arguments, environment: terminal + environment + command.environment,
        workingDirectory: "/",
        streams: isTerminal ? [inside[0], inside[0], inside[0]] : inside, isTerminal: isTerminal)
    } catch {
      for descriptor in inside + outside { try? descriptor.close() }
      throw error
    }
    for descriptor in inside { try? descriptor.close() }
    input = outside[0]
    outputs =
      isTerminal ? [(.output, outside[0])] : [(.output, outside[1]), (.error, outside[2])]
  }

  /// What has to be waited for.
  var interest: [FileDescriptor: Epoll.Events] {
    var result: [FileDescriptor: Epoll.Events] = [:]
    if window > 0 { for output in outputs { result[output.descriptor] = .readable } }
    if pending != nil, let input { result[input, default: []].insert(.writable) }
    return result
  }

  /// Reads output that is there, within the window.
  /// - Parameter send: is given each piece.
  mutating func read(_ send: (ControlEvent.Stream, [UInt8]) -> Void) {
    for (stream, descriptor) in outputs {
      while window > 0 {
        do throws(SystemError) {
          let bytes = try readSome(of: descriptor, limit: min(window, 32 << 10))
          if bytes.isEmpty {
            closeOutput(descriptor)
            break
          }
          window -= bytes.count
          send(stream, bytes)
        } catch {
          // A terminal's master says EIO when nobody has the terminal any more.
          if error.errno != .wouldBlock { closeOutput(descriptor) }
          break
        }
      }
    }
  }

  /// Whether the command has ended and its output was sent; what others that it left behind may
  /// still write is not waited for.
  var isOver: Bool { exit != nil && (window > 0 || outputs.isEmpty) }

  /// Writes input as far as it is taken.
  /// - Returns: the answer to the request that brought it; nil where some is left.
  mutating func write() -> (request: UInt64, ControlReply)? {
    guard var pending else { return nil }
    guard let input else {
      self.pending = nil
      return (pending.request, .refused("the command's input is closed"))
    }
    do throws(SystemError) {
      while pending.taken < pending.bytes.count {
        let count = try writeSome(pending.bytes, from: pending.taken, to: input)
        pending.taken += count
        if count == 0 {
          self.pending = pending
          return nil
        }
      }
    } catch {
      self.pending = nil
      closeInput()
      return (pending.request, .refused("the command takes no more input"))
    }
    self.pending = nil
    if pending.isLast {
      // A terminal's end of input is the octet VEOF.
      if isTerminal { _ = try? writeSome([4], from: 0, to: input) } else { closeInput() }
    }
    return (pending.request, .done)
  }

  /// Closes what it has open; a command that still runs is killed.
  mutating func end() {
    if exit == nil { killProcessGroup(child.pid) }
    closeInput()
    for (_, descriptor) in outputs { closeOutput(descriptor) }
    try? child.pidfd.close()
  }

  private mutating func closeInput() {
    guard let input else { return }
    self.input = nil
    if !isTerminal { try? input.close() }
  }

  private mutating func closeOutput(_ descriptor: FileDescriptor) {
    outputs.removeAll { $0.descriptor == descriptor }
    if isTerminal { input = nil }
    try? descriptor.close()
  }
}
