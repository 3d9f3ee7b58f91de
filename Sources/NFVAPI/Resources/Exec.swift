internal import HTTPTypes
internal import Hummingbird
internal import NFVModel
internal import NIOCore

extension Vnfcs {
  /// A command inside a Vnfc: frames in by the request's body, frames out by the answer's, both at
  /// once.
  func exec(_ call: Call, _ context: CallContext) async throws -> Reply {
    try checkFrames(call, "martlet exec")
    let subject = try find(context)
    let workload = try subject.running()
    guard subject.capabilities.executesCommands else {
      throw Problem(
        .notImplemented, "commands cannot be run inside the Vnfc \(subject.vnfc.id)")
    }
    // Nothing in it would answer.
    if (try? await (subject.driver as? any Pausing)?.isPaused(workload)) == true {
      throw Problem(
        .conflict,
        "the Vnfc \(subject.vnfc.id) is paused and runs no commands; let it go on first: martlet vnf "
          + "continue \(subject.instanceName)")
    }
    return try stream(call, context) { frames throws in
      try await subject.driver.execute(try await frames.start(), in: workload)
    }
  }

  /// The console of a Vnfc that has one, shared with whoever else is there; frames as for a command,
  /// without a start frame.
  func console(_ call: Call, _ context: CallContext) async throws -> Reply {
    try checkFrames(call, "martlet console")
    let subject = try find(context)
    let workload = try subject.running()
    guard let driver = subject.driver as? any ConsoleServing else {
      throw Problem(
        .notImplemented,
        "the Vnfc \(subject.vnfc.id) has no console, as a virtual machine has one; run a shell in "
          + "it: martlet exec -it")
    }
    return try stream(call, context) { _ in try await driver.console(of: workload) }
  }

  private func checkFrames(_ call: Call, _ command: String) throws(Problem) {
    guard call.headers[.contentType] == ExecFrame.contentType else {
      throw Problem(
        .unsupportedMediaType,
        "the body is a stream of frames, \(ExecFrame.contentType); use: \(command)")
    }
  }

  private func stream(
    _ call: Call, _ context: CallContext,
    _ open: @escaping @Sendable (ExecFrameReader) async throws -> any ExecSession
  ) throws -> Reply {
    let place = try streams.take()
    return Reply(
      status: .ok, headers: [.contentType: ExecFrame.contentType],
      body: ResponseBody { writer in
        do {
          let (end, continuation) = AsyncStream.makeStream(of: Void.self)
          try await context.stream(call, at: place) {
            continuation.finish()
          } body: { body in
            let frames = ExecFrameReader(body)
            try await converse(frames, end, try await open(frames)) {
              try await writer.write($0)
            }
          }
        } catch let error where error is Problem || error is NFVError {
          try await writer.write(ExecFrame.encode(Problem(error)))
        }
        try await writer.finish(nil)
      })
  }

  private enum Step {
    case output(ExecOutput)
    case silence
    case end
    case other
  }

  /// - Parameters:
  ///   - end: finishes when the client is gone or the daemon ends.
  ///   - tell: writes to the client; its pace is that of the command's output.
  private func converse(
    _ frames: ExecFrameReader, _ end: AsyncStream<Void>, _ session: any ExecSession,
    _ tell: (ByteBuffer) async throws -> Void
  ) async throws {
    @Sendable func nextOutput() async -> Step {
      var iterator = session.output.makeAsyncIterator()
      return await iterator.next().map(Step.output) ?? .end
    }
    @Sendable func nextSilence() async throws -> Step {
      try await Task.sleep(for: streams.keepAlive)
      return .silence
    }
    try await withThrowingTaskGroup(of: Step.self) { group in
      group.addTask {
        await frames.feed(session)
        return .other
      }
      group.addTask {
        for await _ in end {}
        await session.cancel()
        return .other
      }
      group.addTask(operation: nextOutput)
      group.addTask(operation: nextSilence)
      do {
        loop: while let step = try await group.next() {
          switch step {
          case .output(let output):
            try await tell(ExecFrame.encode(output))
            group.addTask(operation: nextOutput)
          case .silence:
            try await tell(ExecFrame.keepAlive)
            group.addTask(operation: nextSilence)
          case .end: break loop
          case .other: break
          }
        }
      } catch {
        await session.cancel()
        throw error
      }
      group.cancelAll()
      // What is left of the group is cancelled, and says so.
      while await group.nextResult() != nil {}
    }
  }
}

/// Takes a client's frames off the request's body, one reader at a time.
actor ExecFrameReader {
  private var iterator: RequestBody.AsyncIterator
  private var buffer = ByteBuffer()

  init(_ body: RequestBody) { iterator = body.makeAsyncIterator() }

  private func next() async throws -> ExecFrame.Input? {
    while true {
      if let frame = try ExecFrame.next(from: &buffer) { return frame }
      var iterator = self.iterator
      let part = try await iterator.next(isolation: self)
      self.iterator = iterator
      guard var part else { return nil }
      buffer.writeBuffer(&part)
    }
  }

  /// The command that the client wants to run.
  func start() async throws -> ExecRequest {
    while let frame = try await next() {
      switch frame {
      case .keepAlive: continue
      case .start(let request): return request
      default: throw Problem(.badRequest, "the first frame must be a start frame")
      }
    }
    throw Problem(.badRequest, "the body ended before a start frame came")
  }

  /// Gives the command what the client sends, until it sends no more.
  func feed(_ session: any ExecSession) async {
    do {
      while let frame = try await next() {
        switch frame {
        case .keepAlive: break
        // A command that reads no more does not end the stream: its output goes on.
        case .bytes(let bytes): try? await session.write(bytes)
        case .endOfInput: await session.closeInput()
        case .resize(let size): await session.resize(size)
        case .start: throw Problem(.badRequest, "a second start frame came")
        }
      }
      await session.closeInput()
    } catch {
      await session.cancel()
    }
  }
}
