public import LinuxSystem
public import Wire

extension HoldRequest {
  /// The packet of this request.
  ///
  /// - Throws: ``WireError/tooLong``.
  public func encoded(id: UInt64) throws(WireError) -> [UInt8] {
    var writer = WireWriter()
    writer.put(id)
    switch self {
    case .hello(let version):
      writer.put(UInt16(1))
      writer.put(version)
    case .status: writer.put(UInt16(2))
    case .makeNamespaces(let key, let users, let network):
      writer.put(UInt16(3))
      writer.put(key)
      writer.put(optionalValue: users)
      writer.put(network)
    case .spawn(let request):
      writer.put(UInt16(4))
      request.write(to: &writer)
    case .wait(let key):
      writer.put(UInt16(5))
      writer.put(key)
    case .signal(let key, let number):
      writer.put(UInt16(6))
      writer.put(key)
      writer.put(number)
    case .release(let key):
      writer.put(UInt16(7))
      writer.put(key)
    case .acknowledge(let key):
      writer.put(UInt16(8))
      writer.put(key)
    case .list(let after):
      writer.put(UInt16(9))
      writer.put(after)
    case .open(let key):
      writer.put(UInt16(10))
      writer.put(key)
    case .store(let key):
      writer.put(UInt16(11))
      writer.put(key)
    case .adopt(let key, let identity):
      writer.put(UInt16(12))
      writer.put(key)
      identity.write(to: &writer)
    case .keepLog(let key, let path, let limit):
      writer.put(UInt16(13))
      writer.put(key)
      writer.put(path)
      writer.put(limit)
    case .upgrade(let path):
      writer.put(UInt16(14))
      writer.put(path)
    case .shutdown: writer.put(UInt16(15))
    case .rename(let key, let newKey):
      writer.put(UInt16(16))
      writer.put(key)
      writer.put(newKey)
    }
    return try writer.finish(limit: HoldProtocol.maximumMessageSize)
  }

  /// The id of a packet whose kind or values may be unknown, so that it can be refused by id.
  public static func id(of packet: [UInt8]) throws(WireError) -> UInt64 {
    var reader = WireReader(packet)
    return try reader.get()
  }

  /// - Throws: ``WireError``; `unknownTag(what: "request", …)` where only the kind is not known.
  public init(packet: [UInt8]) throws(WireError) {
    guard packet.count <= HoldProtocol.maximumMessageSize else { throw .tooLong }
    var reader = WireReader(packet)
    _ = try reader.get(UInt64.self)
    let kind = try reader.get(UInt16.self)
    switch kind {
    case 1: self = .hello(version: try reader.get())
    case 2: self = .status
    case 3:
      self = .makeNamespaces(
        key: try reader.getString(), users: try reader.getOptionalValue(),
        network: try reader.getBool())
    case 4: self = .spawn(try SpawnRequest(from: &reader))
    case 5: self = .wait(key: try reader.getString())
    case 6: self = .signal(key: try reader.getString(), number: try reader.get())
    case 7: self = .release(key: try reader.getString())
    case 8: self = .acknowledge(key: try reader.getString())
    case 9: self = .list(after: try reader.getString())
    case 10: self = .open(key: try reader.getString())
    case 11: self = .store(key: try reader.getString())
    case 12: self = .adopt(key: try reader.getString(), try ProcessIdentity(from: &reader))
    case 13:
      self = .keepLog(
        key: try reader.getString(), path: try reader.getString(), limit: try reader.get())
    case 14: self = .upgrade(path: try reader.getString())
    case 15: self = .shutdown
    case 16: self = .rename(key: try reader.getString(), to: try reader.getString())
    default: throw .unknownTag(what: "request", tag: kind)
    }
    try reader.finish()
  }
}

extension HoldMessage {
  /// - Throws: ``WireError/tooLong``.
  public func encoded() throws(WireError) -> [UInt8] {
    var writer = WireWriter()
    switch self {
    case .reply(let id, let reply):
      writer.put(id)
      reply.write(to: &writer)
    case .event(.exited(let key, let status)):
      writer.put(UInt64(0))
      writer.put(UInt16(1))
      writer.put(key)
      status.write(to: &writer)
    }
    return try writer.finish(limit: HoldProtocol.maximumMessageSize)
  }

  public init(packet: [UInt8]) throws(WireError) {
    guard packet.count <= HoldProtocol.maximumMessageSize else { throw .tooLong }
    var reader = WireReader(packet)
    let id = try reader.get(UInt64.self)
    if id == 0 {
      let kind = try reader.get(UInt16.self)
      guard kind == 1 else { throw .unknownTag(what: "event", tag: kind) }
      self = .event(.exited(key: try reader.getString(), try ExitStatus(from: &reader)))
    } else {
      self = .reply(id: id, try HoldReply(from: &reader))
    }
    try reader.finish()
  }
}

extension HoldReply: WireValue {
  public func write(to writer: inout WireWriter) {
    switch self {
    case .done: writer.put(UInt16(1))
    case .status(let status):
      writer.put(UInt16(2))
      status.write(to: &writer)
    case .descriptors(let roles):
      writer.put(UInt16(3))
      writer.put(values: roles)
    case .spawned(let result):
      writer.put(UInt16(4))
      result.write(to: &writer)
    case .exited(let status):
      writer.put(UInt16(5))
      status.write(to: &writer)
    case .holdings(let list, let more):
      writer.put(UInt16(6))
      writer.put(values: list)
      writer.put(more)
    case .refused(let refusal):
      writer.put(UInt16(7))
      refusal.write(to: &writer)
    }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let kind = try reader.get(UInt16.self)
    switch kind {
    case 1: self = .done
    case 2: self = .status(try HoldStatus(from: &reader))
    case 3: self = .descriptors(try reader.getValues())
    case 4: self = .spawned(try SpawnResult(from: &reader))
    case 5: self = .exited(try ExitStatus(from: &reader))
    case 6: self = .holdings(try reader.getValues(), more: try reader.getBool())
    case 7: self = .refused(try HoldRefusal(from: &reader))
    default: throw .unknownTag(what: "reply", tag: kind)
    }
  }
}

extension UserRange: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(hostStart)
    writer.put(count)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(hostStart: try reader.get(), count: try reader.get())
  }
}

extension ExitStatus: WireValue {
  public func write(to writer: inout WireWriter) {
    switch self {
    case .exited(let code):
      writer.put(UInt8(1))
      writer.put(code)
    case .killed(let signal):
      writer.put(UInt8(2))
      writer.put(signal)
    case .unknown: writer.put(UInt8(3))
    }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    switch tag {
    case 1: self = .exited(code: try reader.get())
    case 2: self = .killed(signal: try reader.get())
    case 3: self = .unknown
    default: throw .unknownTag(what: "exit status", tag: UInt16(tag))
    }
  }
}

extension ProcessIdentity: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(pid)
    writer.put(startTicks)
    writer.put(data: handle)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(
      pid: try reader.get(), startTicks: try reader.get(), handle: try reader.getData())
  }
}

extension SpawnResult: WireValue {
  public func write(to writer: inout WireWriter) {
    process.write(to: &writer)
    writer.put(optionalValue: exit)
    writer.put(errorTail)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(
      process: try ProcessIdentity(from: &reader), exit: try reader.getOptionalValue(),
      errorTail: try reader.getString())
  }
}

extension HoldStatus: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(version)
    writer.put(pid)
    writer.put(upgrades)
    writer.put(holdings)
    writer.put(residentBytes)
    writer.put(bootID)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    self.init(
      version: try reader.get(), pid: try reader.get(), upgrades: try reader.get(),
      holdings: try reader.get(), residentBytes: try reader.get(),
      bootID: try reader.getString())
  }
}

extension Holding: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(key)
    switch state {
    case .namespaces(let user, let network):
      writer.put(UInt8(1))
      writer.put(user)
      writer.put(network)
    case .stored: writer.put(UInt8(2))
    case .starting: writer.put(UInt8(3))
    case .running(let process):
      writer.put(UInt8(4))
      process.write(to: &writer)
    case .exited(let process, let status):
      writer.put(UInt8(5))
      process.write(to: &writer)
      status.write(to: &writer)
    }
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let key = try reader.getString()
    let tag = try reader.get(UInt8.self)
    let state: State
    switch tag {
    case 1: state = .namespaces(user: try reader.getBool(), network: try reader.getBool())
    case 2: state = .stored
    case 3: state = .starting
    case 4: state = .running(try ProcessIdentity(from: &reader))
    case 5: state = .exited(try ProcessIdentity(from: &reader), try ExitStatus(from: &reader))
    default: throw .unknownTag(what: "holding", tag: UInt16(tag))
    }
    self.init(key: key, state: state)
  }
}

extension HoldRefusal: WireValue {
  public func write(to writer: inout WireWriter) {
    writer.put(code.rawValue)
    writer.put(errno)
    writer.put(message)
    writer.put(optionalValue: exit)
  }

  public init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt16.self)
    guard let code = Code(rawValue: tag) else {
      throw .unknownTag(what: "refusal", tag: tag)
    }
    self.init(
      code: code, errno: try reader.get(), message: try reader.getString(),
      exit: try reader.getOptionalValue())
  }
}
