internal import ControlProtocol
internal import LinuxSystem
internal import SystemPackage
internal import Wire

/// A request that is handed to the function by its own control channel, on a connection of its own.
struct FunctionQuestion {
  /// In milliseconds.
  private static let limit: UInt64 = 5000

  let request: ControlRequest
  let descriptor: FileDescriptor
  private let id: UInt64
  private let deadline = monotonicMilliseconds() + limit
  private var outgoing: [UInt8]
  private var sent = 0
  private var reader = FrameReader(findsGreetings: false)

  /// - Returns: nil where the function has no control channel.
  /// - Throws: EAGAIN where it is not answered on it.
  init?(_ request: ControlRequest, _ id: UInt64) throws(SystemError) {
    guard
      let hello = try? ControlRequest.hello(version: ControlProtocol.version).frame(id: id),
      let question = try? request.frame(id: id)
    else { return nil }
    let root = try openFile("/", .path)
    defer { try? root.close() }
    guard let socket = try StreamSocket.connect(ControlProtocol.Place.control, in: root) else {
      return nil
    }
    descriptor = socket
    self.request = request
    self.id = id
    outgoing = hello + question
  }

  /// What has to be waited for.
  var interest: Epoll.Events { sent < outgoing.count ? [.readable, .writable] : .readable }

  /// Sends and receives what is possible now.
  /// - Returns: what the host is answered, once that is known.
  mutating func proceed() -> ControlReply? {
    do throws(SystemError) {
      while sent < outgoing.count {
        let count = try writeSome(outgoing, from: sent, to: descriptor)
        if count == 0 { break }
        sent += count
      }
      while true {
        let bytes = try readSome(of: descriptor, limit: 64 << 10)
        if bytes.isEmpty { return .refused("the function has ended its control channel") }
        reader.append(bytes)
        if let reply = answer() { return reply }
      }
    } catch {
      if error.errno != .wouldBlock { return .refused("the function's control channel: \(error)") }
    }
    return monotonicMilliseconds() < deadline
      ? nil : .refused("the function does not answer on its control channel")
  }

  private mutating func answer() -> ControlReply? {
    do throws(WireError) {
      while let body = try reader.next() {
        switch try ControlMessage(body) {
        case .reply(id, .status): continue
        case .reply(id, let reply): return reply
        default: return .refused("the function answers what was not asked")
        }
      }
      return nil
    } catch {
      return .refused("the function's answer makes no sense: \(error)")
    }
  }

  func end() { try? descriptor.close() }
}
