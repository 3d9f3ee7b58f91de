import NIOCore
import NIOPosix

/// Why a conversation over one of a machine's sockets failed.
enum MachineError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Nobody listens there, or not any more.
  case closed(String)
  /// No answer came in time; the other side may be hung.
  case timedOut(String)
  /// What came is not of the protocol; the connection is closed.
  case malformed(String)
  /// The other side's own words.
  case refused(String)

  var description: String {
    switch self {
    case .closed(let what): "the connection is closed: \(what)"
    case .timedOut(let what): "no answer came in time to \(what)"
    case .malformed(let what): "what came makes no sense: \(what)"
    case .refused(let words): words
    }
  }
}

/// How messages stand in a stream of octets.
enum MessageFraming: Sendable {
  /// Each ends with a newline.
  case lines
  /// A 32-bit little-endian length stands before each.
  case lengthPrefixed
  /// Octets as they come.
  case none

  /// Takes the next whole message; nil where it has not come yet.
  func next(_ buffer: inout ByteBuffer, limit: Int) throws(MachineError) -> [UInt8]? {
    switch self {
    case .none:
      return buffer.readableBytes == 0 ? nil : buffer.readBytes(length: buffer.readableBytes)
    case .lines:
      guard let end = buffer.readableBytesView.firstIndex(of: UInt8(ascii: "\n")) else {
        guard buffer.readableBytes <= limit else {
          throw .malformed("a line of more than \(limit) octets")
        }
        return nil
      }
      let line = buffer.readBytes(length: end - buffer.readerIndex)
      buffer.moveReaderIndex(forwardBy: 1)
      return line
    case .lengthPrefixed:
      guard
        let length = buffer.getInteger(
          at: buffer.readerIndex, endianness: .little, as: UInt32.self)
      else { return nil }
      guard length <= limit else {
        throw .malformed("a message of \(length) octets; \(limit) are allowed")
      }
      guard buffer.readableBytes >= 4 + Int(length) else { return nil }
      buffer.moveReaderIndex(forwardBy: 4)
      return buffer.readBytes(length: Int(length))
    }
  }
}

/// A connection to a unix socket that brings whole messages, in order, to one receiver; what is not
/// of its framing ends it. Safe from any task.
final class MachineConnection: Sendable {
  /// Whom to talk to.
  enum Peer: Sendable, CustomStringConvertible {
    /// Who listens there.
    case path(String)
    /// Who is connected already; the descriptor is the connection's from now on.
    case connected(Int32)

    var description: String {
      switch self {
      case .path(let path): path
      case .connected: "the function"
      }
    }
  }

  private let channel: any Channel

  private init(_ channel: any Channel) { self.channel = channel }

  /// - Parameters:
  ///   - limit: what one message may have, in octets.
  ///   - onMessage: called for one message after another; must not block.
  ///   - onEnd: called once, after the last message.
  static func open(
    _ peer: Peer, framing: MessageFraming, limit: Int,
    onMessage: @escaping @Sendable ([UInt8]) throws(MachineError) -> Void,
    onEnd: @escaping @Sendable (MachineError) -> Void
  ) async throws(MachineError) -> MachineConnection {
    do {
      let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(
              MessageReader(framing: framing, limit: limit, onMessage: onMessage, onEnd: onEnd))
          }
        }
      let channel =
        switch peer {
        case .path(let path): try await bootstrap.connect(unixDomainSocketPath: path).get()
        case .connected(let socket):
          try await bootstrap.withConnectedSocket(socket).get()
        }
      return MachineConnection(channel)
    } catch {
      throw .closed("\(peer): \(error)")
    }
  }

  /// Sends a message in its framing, without waiting.
  func send(_ frame: [UInt8], onFailure: @escaping @Sendable (MachineError) -> Void) {
    channel.writeAndFlush(ByteBuffer(bytes: frame)).whenFailure { onFailure(.closed("\($0)")) }
  }

  /// Says that nothing more is sent; what comes is still received.
  func finishSending() { channel.close(mode: .output, promise: nil) }

  func close() { channel.close(promise: nil) }
}

/// Cuts messages out of what comes.
private final class MessageReader: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let framing: MessageFraming
  private let limit: Int
  private let onMessage: @Sendable ([UInt8]) throws(MachineError) -> Void
  private let onEnd: @Sendable (MachineError) -> Void
  private var unread = ByteBuffer()
  private var end = MachineError.closed("the other side ended it")

  init(
    framing: MessageFraming, limit: Int,
    onMessage: @escaping @Sendable ([UInt8]) throws(MachineError) -> Void,
    onEnd: @escaping @Sendable (MachineError) -> Void
  ) {
    self.framing = framing
    self.limit = limit
    self.onMessage = onMessage
    self.onEnd = onEnd
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var come = unwrapInboundIn(data)
    unread.writeBuffer(&come)
    do throws(MachineError) {
      while let message = try framing.next(&unread, limit: limit) { try onMessage(message) }
      unread.discardReadBytes()
    } catch {
      end = error
      unread.clear()
      context.close(promise: nil)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    end = .closed("\(error)")
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) { onEnd(end) }
}
