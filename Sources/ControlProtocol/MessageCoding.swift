public import Wire

extension ControlRequest {
  /// The frame of this request, with its length.
  ///
  /// - Throws: ``WireError/tooLong``.
  public func frame(id: UInt64) throws(WireError) -> [UInt8] {
    var writer = WireWriter()
    writer.put(id)
    switch self {
    case .hello(let version):
      writer.put(UInt16(1))
      for octet in ControlProtocol.greeting { writer.put(octet) }
      writer.put(version)
    case .stop: writer.put(UInt16(2))
    case .configure(let document):
      writer.put(UInt16(3))
      writer.put(block: document)
    case .execute(let command):
      writer.put(UInt16(4))
      command.write(to: &writer)
    case .input(let session, let data, let isLast):
      writer.put(UInt16(5))
      writer.put(session)
      writer.put(isLast)
      writer.put(block: data)
    case .resize(let session, let size):
      writer.put(UInt16(6))
      writer.put(session)
      size.write(to: &writer)
    case .signal(let session, let number):
      writer.put(UInt16(7))
      writer.put(session)
      writer.put(number)
    case .acknowledge(let session, let octets):
      writer.put(UInt16(8))
      writer.put(session)
      writer.put(octets)
    case .counters: writer.put(UInt16(9))
    case .functionCounters: writer.put(UInt16(10))
    case .file(let path, let content):
      writer.put(UInt16(11))
      writer.put(path)
      writer.put(block: content)
    }
    return try framed(writer)
  }

  /// Reads a frame's body; the id is told also where the rest makes no sense, to answer with it.
  public static func read(
    _ body: [UInt8]
  ) throws(WireError) -> (id: UInt64, Result<ControlRequest, WireError>) {
    var reader = WireReader(body)
    let id = try reader.get(UInt64.self)
    do throws(WireError) {
      let request = try ControlRequest(from: &reader)
      try reader.finish()
      return (id, .success(request))
    } catch {
      return (id, .failure(error))
    }
  }

  private init(from reader: inout WireReader) throws(WireError) {
    let kind = try reader.get(UInt16.self)
    switch kind {
    case 1:
      for octet in ControlProtocol.greeting where try reader.get(UInt8.self) != octet {
        throw .unknownTag(what: "greeting", tag: UInt16(octet))
      }
      self = .hello(version: try reader.get())
    case 2: self = .stop
    case 3: self = .configure(document: try reader.getBlock())
    case 4: self = .execute(try GuestCommand(from: &reader))
    case 5:
      let session = try reader.get(UInt64.self)
      let isLast = try reader.getBool()
      self = .input(session: session, try reader.getBlock(), isLast: isLast)
    case 6:
      let session = try reader.get(UInt64.self)
      self = .resize(session: session, try GuestCommand.TerminalSize(from: &reader))
    case 7: self = .signal(session: try reader.get(), number: try reader.get())
    case 8: self = .acknowledge(session: try reader.get(), octets: try reader.get())
    case 9: self = .counters
    case 10: self = .functionCounters
    case 11: self = .file(path: try reader.getString(), content: try reader.getBlock())
    default: throw .unknownTag(what: "request", tag: kind)
    }
  }
}

extension ControlMessage {
  /// The frame of this message, with its length.
  ///
  /// - Throws: ``WireError/tooLong``.
  public func frame() throws(WireError) -> [UInt8] {
    var writer = WireWriter()
    switch self {
    case .reply(let id, let reply):
      writer.put(id)
      switch reply {
      case .done: writer.put(UInt16(101))
      case .status(let version, let state):
        writer.put(UInt16(102))
        writer.put(version)
        state.write(to: &writer)
      case .counters(let counters):
        writer.put(UInt16(103))
        writer.put(counters.uptimeMilliseconds)
        writer.put(counters.processorMilliseconds)
        writer.put(counters.memoryTotal)
        writer.put(counters.memoryAvailable)
        writer.put(counters.processes)
      case .refused(let why):
        writer.put(UInt16(104))
        writer.put(text: why)
      case .functionCounters(let counters):
        writer.put(UInt16(105))
        writer.put(list: counters) { writer, counter in
          writer.put(counter.name)
          writer.put(counter.value)
        }
      }
    case .event(let event):
      writer.put(UInt64(0))
      switch event {
      case .state(let state):
        writer.put(UInt16(201))
        state.write(to: &writer)
      case .output(let session, let stream, let data):
        writer.put(UInt16(202))
        writer.put(session)
        writer.put(stream.rawValue)
        writer.put(block: data)
      case .exited(let session, let exit):
        writer.put(UInt16(203))
        writer.put(session)
        exit.write(to: &writer)
      }
    }
    return try framed(writer)
  }

  /// Reads a frame's body; what comes from a guest may be anything.
  public init(_ body: [UInt8]) throws(WireError) {
    var reader = WireReader(body)
    let id = try reader.get(UInt64.self)
    let kind = try reader.get(UInt16.self)
    switch (kind, id) {
    case (101, 1...): self = .reply(id: id, .done)
    case (102, 1...):
      let version = try reader.get(UInt16.self)
      self = .reply(id: id, .status(version: version, try GuestState(from: &reader)))
    case (103, 1...):
      self = .reply(
        id: id,
        .counters(
          GuestCounters(
            uptimeMilliseconds: try reader.get(), processorMilliseconds: try reader.get(),
            memoryTotal: try reader.get(), memoryAvailable: try reader.get(),
            processes: try reader.get())))
    case (104, 1...): self = .reply(id: id, .refused(try reader.getString()))
    case (105, 1...):
      let counters = try reader.getList { reader throws(WireError) in
        FunctionCount(name: try reader.getString(), value: try reader.get())
      }
      self = .reply(id: id, .functionCounters(counters))
    case (201, 0): self = .event(.state(try GuestState(from: &reader)))
    case (202, 0):
      let session = try reader.get(UInt64.self)
      let tag = try reader.get(UInt8.self)
      guard let stream = ControlEvent.Stream(rawValue: tag) else {
        throw .unknownTag(what: "stream", tag: UInt16(tag))
      }
      let data = try reader.getBlock()
      // Who could send as many as it likes is not bounded by the window of octets.
      guard !data.isEmpty else { throw .truncated }
      self = .event(.output(session: session, stream, data))
    case (203, 0):
      let session = try reader.get(UInt64.self)
      self = .event(.exited(session: session, try GuestExit(from: &reader)))
    default: throw .unknownTag(what: "message", tag: kind)
    }
    try reader.finish()
  }
}

/// Puts the length in front.
private func framed(_ writer: WireWriter) throws(WireError) -> [UInt8] {
  let body = try writer.finish(limit: ControlProtocol.maximumFrameSize)
  var frame = WireWriter()
  frame.put(UInt32(body.count))
  return frame.bytes + body
}

extension WireWriter {
  /// A message for people, cut to what is sensible.
  fileprivate mutating func put(text: String) {
    var kept = ""
    for scalar in text.unicodeScalars.prefix(1000) where scalar != "\0" {
      kept.unicodeScalars.append(scalar)
    }
    put(kept)
  }
}

extension GuestCommand: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(list: arguments) { $0.put($1) }
    writer.put(list: environment) { $0.put($1) }
    writer.put(optional: terminal) { $1.write(to: &$0) }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    arguments = try reader.getList { reader throws(WireError) in try reader.getString() }
    environment = try reader.getList { reader throws(WireError) in try reader.getString() }
    terminal = try reader.getOptional { reader throws(WireError) in
      try TerminalSize(from: &reader)
    }
  }
}

extension GuestCommand.TerminalSize: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(rows)
    writer.put(columns)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    rows = try reader.get()
    columns = try reader.get()
  }
}

extension GuestExit: WireValue {
  public func write(to writer: inout WireWriter) {
    switch self {
    case .exited(let code):
      writer.put(UInt8(1))
      writer.put(code)
    case .killed(let signal):
      writer.put(UInt8(2))
      writer.put(signal)
    }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    switch tag {
    case 1: self = .exited(code: try reader.get())
    case 2: self = .killed(signal: try reader.get())
    default: throw .unknownTag(what: "exit", tag: UInt16(tag))
    }
  }
}

extension GuestState: WireValue {
  public func write(to writer: inout WireWriter) {
    switch self {
    case .running(let pid):
      writer.put(UInt8(1))
      writer.put(pid)
    case .ended(let exit):
      writer.put(UInt8(2))
      exit.write(to: &writer)
    case .failed(let why):
      writer.put(UInt8(3))
      writer.put(text: why)
    }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    switch tag {
    case 1: self = .running(pid: try reader.get())
    case 2: self = .ended(try GuestExit(from: &reader))
    case 3: self = .failed(try reader.getString())
    default: throw .unknownTag(what: "state", tag: UInt16(tag))
    }
  }
}
