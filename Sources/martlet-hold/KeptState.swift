import HoldProtocol
import LinuxSystem
import SystemPackage
import Wire

/// What this process leaves to the program that replaces it: descriptors by number, which stay
/// open over the exec, and what they mean.
struct KeptState {
  /// Raised with every change of the form below.
  static let version: UInt16 = 1
  /// Thousands of holdings take a few hundred bytes each.
  private static let limit = 64 << 20

  var listener: Listener
  var descriptorLimit: (soft: UInt64, hard: UInt64)
  var upgrades: UInt32
  var lastConnection: UInt64
  var kept: [String: Kept]
  var files: [String: BoundedFile]
  var connections: [UInt64: Connection]
  var waiters: [String: [Waiter]]
  var deadlines: [String: UInt64]
  var orphans: [Int32: ExitStatus]
  /// Who asked for the replacement and is answered by the new program.
  var asker: Waiter

  /// Every descriptor that has to stay open.
  var descriptors: [FileDescriptor] {
    var all = [listener.socket, listener.lock]
    for holding in kept.values {
      all += holding.descriptors.map(\.descriptor)
      if case .process(let record) = holding, let pipe = record.launchPipe { all.append(pipe) }
    }
    all += files.values.map(\.descriptor)
    all += connections.values.map(\.socket)
    return all
  }

  func encoded() throws(WireError) -> [UInt8] {
    var writer = WireWriter()
    writer.put(Self.version)
    writer.put(listener.path)
    writer.put(listener.socket)
    writer.put(listener.lock)
    writer.put(descriptorLimit.soft)
    writer.put(descriptorLimit.hard)
    writer.put(upgrades)
    writer.put(lastConnection)
    writer.put(list: Array(kept)) { writer, entry in
      writer.put(entry.key)
      entry.value.write(to: &writer)
    }
    writer.put(list: Array(files)) { writer, entry in
      writer.put(entry.key)
      writer.put(entry.value.descriptor)
      writer.put(entry.value.limit)
      writer.put(list: Array(entry.value.owners)) { $0.put($1) }
      writer.put(entry.value.length)
    }
    writer.put(list: Array(connections)) { writer, entry in
      writer.put(entry.key)
      writer.put(entry.value.socket)
      writer.put(entry.value.greeted)
    }
    writer.put(list: Array(waiters)) { writer, entry in
      writer.put(entry.key)
      writer.put(list: entry.value) { $1.write(to: &$0) }
    }
    writer.put(list: Array(deadlines)) { writer, entry in
      writer.put(entry.key)
      writer.put(entry.value)
    }
    writer.put(list: Array(orphans)) { writer, entry in
      writer.put(entry.key)
      entry.value.write(to: &writer)
    }
    asker.write(to: &writer)
    return try writer.finish(limit: Self.limit)
  }

  init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    let version = try reader.get(UInt16.self)
    guard version == Self.version else { throw .unknownTag(what: "state", tag: version) }
    listener = Listener(
      path: try reader.getString(), socket: try reader.getDescriptor(),
      lock: try reader.getDescriptor())
    descriptorLimit = (try reader.get(), try reader.get())
    upgrades = try reader.get()
    lastConnection = try reader.get()
    kept = try reader.getDictionary { (reader) throws(WireError) in
      (try reader.getString(), try Kept(from: &reader))
    }
    files = try reader.getDictionary { (reader) throws(WireError) in
      (
        try reader.getString(),
        BoundedFile(
          descriptor: try reader.getDescriptor(), limit: try reader.get(),
          owners: Set(
            try reader.getList { (reader) throws(WireError) in try reader.getString() }),
          length: try reader.get())
      )
    }
    connections = try reader.getDictionary { (reader) throws(WireError) in
      (
        try reader.get(UInt64.self),
        Connection(socket: try reader.getDescriptor(), greeted: try reader.getBool())
      )
    }
    waiters = try reader.getDictionary { (reader) throws(WireError) in
      (
        try reader.getString(),
        try reader.getList { (reader) throws(WireError) in try Waiter(from: &reader) }
      )
    }
    deadlines = try reader.getDictionary { (reader) throws(WireError) in
      (try reader.getString(), try reader.get(UInt64.self))
    }
    orphans = try reader.getDictionary { (reader) throws(WireError) in
      (try reader.get(Int32.self), try ExitStatus(from: &reader))
    }
    asker = try Waiter(from: &reader)
    try reader.finish()
  }

  init(of hold: Hold, asker: Waiter) {
    listener = hold.listener
    descriptorLimit = hold.descriptorLimit
    upgrades = hold.upgrades + 1
    lastConnection = hold.lastConnection
    kept = hold.kept
    files = hold.files
    connections = hold.connections
    waiters = hold.waiters
    deadlines = hold.deadlines
    orphans = hold.orphans
    self.asker = asker
  }
}

extension WireWriter {
  fileprivate mutating func put(_ descriptor: FileDescriptor) { put(descriptor.rawValue) }
}

extension WireReader {
  fileprivate mutating func getDescriptor() throws(WireError) -> FileDescriptor {
    FileDescriptor(rawValue: try get(Int32.self))
  }

  fileprivate mutating func getDictionary<Key: Hashable, Value>(
    _ body: (inout WireReader) throws(WireError) -> (Key, Value)
  ) throws(WireError) -> [Key: Value] {
    Dictionary(try getList(body)) { first, _ in first }
  }
}

extension Waiter: WireValue {
  func write(to writer: inout WireWriter) {
    writer.put(connection)
    writer.put(request)
  }

  init(from reader: inout WireReader) throws(WireError) {
    self.init(connection: try reader.get(), request: try reader.get())
  }
}

extension Kept: WireValue {
  func write(to writer: inout WireWriter) {
    switch self {
    case .namespaces(let user, let network):
      writer.put(UInt8(1))
      writer.put(optional: user) { $0.put($1) }
      writer.put(optional: network) { $0.put($1) }
    case .stored(let descriptor):
      writer.put(UInt8(2))
      writer.put(descriptor)
    case .process(let record):
      writer.put(UInt8(3))
      record.write(to: &writer)
    }
  }

  init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    switch tag {
    case 1:
      self = .namespaces(
        user: try reader.getOptional { (reader) throws(WireError) in
          try reader.getDescriptor()
        },
        network: try reader.getOptional { (reader) throws(WireError) in
          try reader.getDescriptor()
        })
    case 2: self = .stored(try reader.getDescriptor())
    case 3: self = .process(try ProcessRecord(from: &reader))
    default: throw .unknownTag(what: "kept", tag: UInt16(tag))
    }
  }
}

extension ProcessRecord: WireValue {
  func write(to writer: inout WireWriter) {
    writer.put(phase.rawValue)
    writer.put(pid)
    writer.put(pidfd)
    writer.put(optional: identity) { $1.write(to: &$0) }
    writer.put(isChild)
    writer.put(optional: exit) { $1.write(to: &$0) }
    writer.put(optional: launchPipe) { $0.put($1) }
    writer.put(waitForExit)
    writer.put(optional: adoptPidFile) { $0.put($1) }
    writer.put(optional: requester) { $1.write(to: &$0) }
    writer.put(timedOut)
    writer.put(optional: errorFile) { writer, file in
      writer.put(file.path)
      writer.put(file.start)
    }
  }

  init(from reader: inout WireReader) throws(WireError) {
    let tag = try reader.get(UInt8.self)
    guard let phase = Phase(rawValue: tag) else {
      throw .unknownTag(what: "phase", tag: UInt16(tag))
    }
    self.init(phase: phase, pid: try reader.get(), pidfd: try reader.getDescriptor())
    identity = try reader.getOptional { (reader) throws(WireError) in
      try ProcessIdentity(from: &reader)
    }
    isChild = try reader.getBool()
    exit = try reader.getOptional { (reader) throws(WireError) in try ExitStatus(from: &reader) }
    launchPipe = try reader.getOptional { (reader) throws(WireError) in
      try reader.getDescriptor()
    }
    waitForExit = try reader.getBool()
    adoptPidFile = try reader.getOptional { (reader) throws(WireError) in
      try reader.getString()
    }
    requester = try reader.getOptional { (reader) throws(WireError) in try Waiter(from: &reader) }
    timedOut = try reader.getBool()
    errorFile = try reader.getOptional { (reader) throws(WireError) in
      (try reader.getString(), try reader.get(UInt64.self))
    }
  }
}
