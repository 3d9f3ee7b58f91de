internal import NIOCore

/// An answer whose body arrives while it is read.
public struct ResponseStream: Sendable {
  public let head: ResponseHead
  public let body: ResponseBody
}

/// A body in pieces as they came. It has one reader; where that stops before the end, the
/// connection is closed. A reader that is slow makes the daemon wait.
public struct ResponseBody: AsyncSequence, Sendable {
  public typealias Element = [UInt8]
  public typealias Failure = ClientError

  let producer: BodyProducer

  public func makeAsyncIterator() -> Iterator { Iterator(inner: producer.makeAsyncIterator()) }

  public struct Iterator: AsyncIteratorProtocol {
    var inner: BodyProducer.AsyncIterator

    public mutating func next() async throws(ClientError) -> [UInt8]? {
      let piece: [UInt8]?
      do {
        piece = try await inner.next()
      } catch {
        throw ClientError(error)
      }
      // A cancelled reader is told the end, which it must not take for the body's.
      if piece == nil, Task.isCancelled { throw .cancelled }
      return piece
    }
  }

  /// The whole body.
  public func collected(limit: Int) async throws(ClientError) -> [UInt8] {
    var whole: [UInt8] = []
    for try await piece in self {
      guard whole.count + piece.count <= limit else {
        throw .tooLarge(what: "the answer", limit: limit)
      }
      whole += piece
    }
    return whole
  }
}

/// A request and its answer, both open at once.
public struct Conversation: Sendable {
  public let response: ResponseStream
  let connection: Connection

  /// Sends a piece, and returns when the socket took it.
  public func write(_ piece: [UInt8]) async throws(ClientError) {
    guard await connection.write(piece) else { throw .disconnected(what: "the request") }
  }

  /// Ends the request; the answer may go on.
  public func end() { connection.run { $0.endRequest(answerWithin: nil) } }

  /// Ends both at once.
  public func close() { connection.run { $0.abort(.cancelled) } }
}
