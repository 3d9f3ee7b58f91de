import HoldProtocol
import LinuxSystem
import SystemPackage

/// The hold: everything it keeps, and the one loop that serves it. Nothing in it blocks except
/// clone, open and the few writes to /proc; what may take long happens in children.
final class Hold {
  /// What a descriptor in the loop belongs to.
  enum Source {
    case listener
    case childSignals
    case connection(UInt64)
    /// A launching child's pipe.
    case launch(key: String)
    /// The pidfd of a process that is no child of ours.
    case stranger(key: String)
  }

  let epoll: Epoll
  let listener: Listener
  let childSignals: FileDescriptor
  let nullDevice: FileDescriptor
  /// What children get; our own limit is raised, as every holding takes a descriptor or more.
  let descriptorLimit: (soft: UInt64, hard: UInt64)
  let bootID: String
  var upgrades: UInt32 = 0

  var sources: [Int32: Source] = [:]
  var kept: [String: Kept] = [:]
  /// Children by pid.
  var children: [Int32: String] = [:]
  /// Ended processes that were nobody's when they were reaped, while a runtime runs whose pid file
  /// may name one of them.
  var orphans: [Int32: ExitStatus] = [:]
  var runtimes = 0
  var waiters: [String: [Waiter]] = [:]
  /// When to kill, in milliseconds of the boot clock.
  var deadlines: [String: UInt64] = [:]
  var files: [String: BoundedFile] = [:]
  var nextBounding: UInt64 = 0
  var connections: [UInt64: Connection] = [:]
  var lastConnection: UInt64 = 0
  var finished = false
  /// When to look for connections again, in milliseconds of the boot clock; nil: it is done.
  private var listeningAgain: UInt64?
  var zygotes: [Zygote.Kind: Zygote] = [:]
  /// One that a request has missed.
  var wantedZygote: Zygote.Kind?
  var failedZygotes = 0

  init(
    listener: Listener, descriptorLimit: (soft: UInt64, hard: UInt64)
  ) throws(SystemError) {
    self.listener = listener
    self.descriptorLimit = descriptorLimit
    epoll = try Epoll()
    childSignals = try ProcessAttributes.childSignals()
    nullDevice = try openFile("/dev/null", .append)
    let boot = try readFile("/proc/sys/kernel/random/boot_id", limit: 64)
    bootID = String(decoding: boot.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    try ProcessAttributes.becomeSubreaper()
    try watch(listener.socket, .listener)
    try watch(childSignals, .childSignals)
  }

  convenience init(listener: Listener) throws(SystemError) {
    let limit = try ProcessAttributes.descriptorLimit()
    // As high as the hard limit allows, but not above 65,536 where that is not limited.
    let soft = max(limit.soft, min(limit.hard, 65_536))
    try ProcessAttributes.setDescriptorLimit(soft: soft, hard: limit.hard)
    try self.init(listener: listener, descriptorLimit: limit)
  }

  func watch(_ descriptor: FileDescriptor, _ source: Source) throws(SystemError) {
    try epoll.add(descriptor, .readable)
    sources[descriptor.rawValue] = source
  }

  func unwatch(_ descriptor: FileDescriptor) {
    sources[descriptor.rawValue] = nil
    try? epoll.remove(descriptor)
  }

  /// Serves until asked to end.
  func run() throws(SystemError) {
    while !finished {
      let events = try epoll.wait(milliseconds: timeout())
      if events.isEmpty { startZygote() }
      for ready in events {
        guard let source = sources[ready.descriptor.rawValue] else { continue }
        switch source {
        case .listener: acceptConnections()
        case .childSignals: try reap()
        case .connection(let id): serve(id)
        case .launch(let key): launched(key)
        case .stranger(let key):
          if ready.events.contains(.hangUp) { strangerEnded(key) } else { strangerDying(key) }
        }
      }
      tick()
    }
    listener.remove()
  }

  /// Nobody asked for anything for so long, in milliseconds, before a zygote is started.
  private static let idleTime: Int32 = 5

  private func timeout() -> Int32 {
    var next = deadlines.values.min()
    if !files.isEmpty { next = min(next ?? .max, nextBounding) }
    if let listeningAgain { next = min(next ?? .max, listeningAgain) }
    let idle = wantedZygote != nil ? Self.idleTime : -1
    guard let next else { return idle }
    let now = monotonicMilliseconds()
    let due = next <= now ? 0 : Int32(clamping: next - now)
    return idle < 0 ? due : min(due, idle)
  }

  /// What time brings: processes that take too long, files that have grown.
  private func tick() {
    guard !deadlines.isEmpty || !files.isEmpty || listeningAgain != nil else { return }
    let now = monotonicMilliseconds()
    if let again = listeningAgain, again <= now {
      listeningAgain = nil
      do throws(SystemError) {
        try watch(listener.socket, .listener)
      } catch {
        pauseListening(error)
      }
    }
    for (key, deadline) in deadlines where deadline <= now {
      deadlines[key] = nil
      guard case .process(var record)? = kept[key], record.exit == nil else { continue }
      record.timedOut = true
      kept[key] = .process(record)
      // It leads a session and so a group of its own, unless it has not come so far.
      try? sendSignal(9, to: record.pidfd)
      killProcessGroup(record.pid)
    }
    if !files.isEmpty, nextBounding <= now {
      var grown = false
      for path in files.keys.sorted() {
        do throws(SystemError) {
          if try files[path]?.bound() == true { grown = true }
        } catch {
          complain("\(path) can't be bounded: \(error)")
          files[path]?.limit = .max
        }
      }
      nextBounding = now + (grown ? 100 : 1000)
    }
  }

  // MARK: Connections

  private func acceptConnections() {
    do throws(SystemError) {
      while let socket = try PacketSocket.accept(listener.socket) { greet(socket) }
    } catch {
      pauseListening(error)
    }
  }

  private func greet(_ socket: FileDescriptor) {
    do throws(SystemError) {
      let peer = try PacketSocket.peer(of: socket)
      guard peer.uid == 0 || peer.uid == ProcessAttributes.effectiveUser else {
        complain("a connection of uid \(peer.uid) was refused")
        try? socket.close()
        return
      }
      try watch(socket, .connection(lastConnection + 1))
      lastConnection += 1
      connections[lastConnection] = Connection(socket: socket)
    } catch {
      complain("a connection is closed: \(error)")
      try? socket.close()
    }
  }

  /// Who connects waits until there is a descriptor or memory for it: a listener from which
  /// nobody can be taken stays ready, and the loop would never sleep.
  private func pauseListening(_ error: SystemError) {
    complain("no connection can be taken for 1 s: \(error)")
    unwatch(listener.socket)
    listeningAgain = monotonicMilliseconds() + 1000
  }

  private func serve(_ id: UInt64) {
    flush(id)
    // Who does not take its answers is not heard until it does.
    for _ in 0..<16 {
      guard let connection = connections[id], connection.queue.isEmpty else { return }
      let received: PacketSocket.Received
      do throws(SystemError) {
        received = try PacketSocket.receive(
          on: connection.socket, limit: HoldProtocol.maximumMessageSize,
          descriptorLimit: HoldProtocol.maximumDescriptors)
      } catch {
        return close(id)
      }
      switch received {
      case .wouldBlock: return
      case .closed: return close(id)
      case .oversized:
        complain("an oversized message: its connection is closed")
        return close(id)
      case .packet(let bytes, let descriptors):
        handle(bytes, descriptors, id)
      }
    }
  }

  func close(_ id: UInt64) {
    guard let connection = connections.removeValue(forKey: id) else { return }
    unwatch(connection.socket)
    try? connection.socket.close()
    for packet in connection.queue {
      for descriptor in packet.descriptors { try? descriptor.close() }
    }
    for (key, list) in waiters {
      let rest = list.filter { $0.connection != id }
      waiters[key] = rest.isEmpty ? nil : rest
    }
  }

  /// Answers; nobody is there any more: says nothing, the state is kept.
  func reply(_ waiter: Waiter?, _ reply: HoldReply, _ descriptors: [FileDescriptor] = []) {
    guard let waiter else { return }
    send(waiter.connection, .reply(id: waiter.request, reply), descriptors)
  }

  func broadcast(_ event: HoldEvent) {
    for (id, connection) in connections where connection.greeted { send(id, .event(event)) }
  }

  private func send(
    _ id: UInt64, _ message: HoldMessage, _ descriptors: [FileDescriptor] = []
  ) {
    guard let connection = connections[id] else { return }
    do {
      let bytes = try message.encoded()
      if connection.queue.isEmpty,
        try PacketSocket.send(bytes, descriptors, on: connection.socket)
      {
        return
      }
      // Enough for the events of a thousand workloads that end at once.
      guard connection.queue.count < 4096 else { return close(id) }
      var copies: [FileDescriptor] = []
      for descriptor in descriptors { copies.append(try duplicate(descriptor)) }
      connections[id]?.queue.append((bytes, copies))
      try epoll.modify(connection.socket, .writable)
    } catch {
      complain("a connection is closed: \(error)")
      close(id)
    }
  }

  private func flush(_ id: UInt64) {
    guard let connection = connections[id], !connection.queue.isEmpty else { return }
    var sent = 0
    do throws(SystemError) {
      for packet in connection.queue {
        guard try PacketSocket.send(packet.bytes, packet.descriptors, on: connection.socket)
        else { break }
        for descriptor in packet.descriptors { try? descriptor.close() }
        sent += 1
      }
      connections[id]?.queue.removeFirst(sent)
      if sent == connection.queue.count { try epoll.modify(connection.socket, .readable) }
    } catch {
      connections[id]?.queue.removeFirst(sent)
      close(id)
    }
  }
}
