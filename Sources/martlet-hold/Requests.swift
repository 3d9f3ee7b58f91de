import HoldProtocol
import LinuxSystem
import SystemPackage
import Wire

extension Hold {
  /// Does what a packet asks for. Its descriptors are closed here unless they are kept.
  func handle(_ packet: [UInt8], _ descriptors: [FileDescriptor], _ connection: UInt64) {
    var passed = descriptors
    defer { for descriptor in passed { try? descriptor.close() } }
    guard let id = try? HoldRequest.id(of: packet), id != 0 else {
      complain("a packet without an id: its connection is closed")
      return close(connection)
    }
    let waiter = Waiter(connection: connection, request: id)
    let request: HoldRequest
    do throws(WireError) {
      request = try HoldRequest(packet: packet)
    } catch {
      let code: HoldRefusal.Code =
        if case .unknownTag("request", _) = error { .unknownRequest } else { .malformed }
      return reply(waiter, .refused(HoldRefusal(code: code, message: "\(error)")))
    }
    do throws(HoldRefusal) {
      try perform(request, &passed, waiter)
    } catch {
      reply(waiter, .refused(error))
    }
  }

  private func perform(
    _ request: HoldRequest, _ passed: inout [FileDescriptor], _ waiter: Waiter
  ) throws(HoldRefusal) {
    switch request {
    case .hello(let version):
      guard version == HoldProtocol.version else {
        throw HoldRefusal(
          code: .unsupportedVersion,
          message: "this hold speaks version \(HoldProtocol.version), not \(version)")
      }
      connections[waiter.connection]?.greeted = true
      reply(waiter, .status(status))
    case .status: reply(waiter, .status(status))
    case .makeNamespaces(let key, let users, let network):
      try makeNamespaces(key, users, network)
      replyDescriptors(of: key, waiter)
    case .spawn(let request): try spawn(request, passed, waiter)
    case .wait(let key):
      let record = try process(key)
      if let exit = record.exit {
        reply(waiter, .exited(exit))
      } else {
        waiters[key, default: []].append(waiter)
      }
    case .signal(let key, let number):
      let record = try process(key)
      guard record.exit == nil else {
        throw HoldRefusal(code: .wrongState, message: "\(key) has ended")
      }
      try system { () throws(SystemError) in try sendSignal(number, to: record.pidfd) }
      reply(waiter, .done)
    case .release(let key):
      guard let holding = kept[key] else { throw notFound(key) }
      if case .process(let record) = holding, record.phase == .launching || record.phase == .runtime
      {
        throw HoldRefusal(code: .wrongState, message: "\(key) is starting")
      }
      forget(key)
      reply(waiter, .done)
    case .rename(let key, let newKey):
      guard let holding = kept[key] else { throw notFound(key) }
      if case .process = holding {
        throw HoldRefusal(code: .wrongState, message: "\(key) is a process, which has one name")
      }
      try check(newKey: newKey)
      kept[newKey] = kept.removeValue(forKey: key)
      reply(waiter, .done)
    case .acknowledge(let key):
      let record = try process(key)
      guard record.exit != nil else {
        throw HoldRefusal(code: .wrongState, message: "\(key) has not ended")
      }
      forget(key)
      reply(waiter, .done)
    case .list(let after): list(after: after, waiter)
    case .open(let key):
      guard kept[key] != nil else { throw notFound(key) }
      replyDescriptors(of: key, waiter)
    case .store(let key):
      try check(newKey: key)
      guard passed.count == 1 else {
        throw HoldRefusal(
          code: .malformed, message: "store takes one descriptor, \(passed.count) came")
      }
      kept[key] = .stored(passed.removeLast())
      reply(waiter, .done)
    case .adopt(let key, let identity): try adopt(key, identity, waiter)
    case .keepLog(let key, let path, let limit):
      guard kept[key] != nil else { throw notFound(key) }
      try system { () throws(SystemError) in try keepFile(path, limit: limit, owner: key) }
      reply(waiter, .done)
    case .upgrade(let path): try upgrade(path, waiter)
    case .shutdown:
      guard kept.isEmpty else {
        throw HoldRefusal(code: .wrongState, message: "\(kept.count) holdings are kept")
      }
      finished = true
      reply(waiter, .done)
    }
  }

  var status: HoldStatus {
    HoldStatus(
      version: HoldProtocol.version, pid: currentProcessID(), upgrades: upgrades,
      holdings: UInt32(kept.count), residentBytes: ProcessAttributes.residentBytes(),
      bootID: bootID)
  }

  // MARK: Holdings

  func check(newKey key: String) throws(HoldRefusal) {
    guard !key.isEmpty, key.utf8.count <= HoldProtocol.maximumKeyLength else {
      throw HoldRefusal(
        code: .malformed,
        message: "a key has 1 to \(HoldProtocol.maximumKeyLength) bytes, not \(key.utf8.count)")
    }
    guard kept[key] == nil else {
      throw HoldRefusal(code: .exists, message: "\(key) is kept already")
    }
  }

  func notFound(_ key: String) -> HoldRefusal {
    HoldRefusal(code: .notFound, message: "nothing is kept under \(key)")
  }

  private func process(_ key: String) throws(HoldRefusal) -> ProcessRecord {
    guard let holding = kept[key] else { throw notFound(key) }
    guard case .process(let record) = holding else {
      throw HoldRefusal(code: .wrongState, message: "\(key) is no process")
    }
    return record
  }

  func system<Value>(
    _ body: () throws(SystemError) -> Value
  ) throws(HoldRefusal) -> Value {
    do throws(SystemError) {
      return try body()
    } catch {
      throw HoldRefusal(code: .system, errno: error.errno.rawValue, message: "\(error)")
    }
  }

  private func replyDescriptors(of key: String, _ waiter: Waiter) {
    let list = kept[key]?.descriptors ?? []
    reply(waiter, .descriptors(list.map(\.role)), list.map(\.descriptor))
  }

  private func list(after: String, _ waiter: Waiter) {
    // Whoever saw a process's end by its pidfd may ask before the signal has come.
    do throws(SystemError) { try reap() } catch { complain("cannot reap: \(error)") }
    // 128 entries of at most 400 bytes each fit into one message.
    let keys = kept.keys.filter { $0 > after }.sorted()
    let page = keys.prefix(128).map { key in Holding(key: key, state: kept[key]!.state) }
    reply(waiter, .holdings(page, more: keys.count > page.count))
  }

  /// Closes what is kept under the key; a process runs on.
  func forget(_ key: String) {
    // A spawn that fails before its child is born has files and nothing else.
    releaseFiles(of: key)
    guard let holding = kept.removeValue(forKey: key) else { return }
    for (_, descriptor) in holding.descriptors {
      unwatch(descriptor)
      try? descriptor.close()
    }
    if case .process(let record) = holding {
      if let pipe = record.launchPipe {
        unwatch(pipe)
        try? pipe.close()
      }
      if children[record.pid] == key { children[record.pid] = nil }
      if record.phase == .runtime { runtimeEnded() }
    }
    deadlines[key] = nil
    for waiter in waiters.removeValue(forKey: key) ?? [] { reply(waiter, .refused(notFound(key))) }
  }

  private func releaseFiles(of key: String) {
    for (path, file) in files where file.owners.contains(key) {
      files[path]?.owners.remove(key)
      if file.owners.count == 1 {
        try? file.descriptor.close()
        files[path] = nil
      }
    }
  }

  /// Bounds the file at `path`, made where it is missing, as long as `owner` is held.
  func keepFile(_ path: String, limit: UInt64, owner: String) throws(SystemError) {
    if files[path] == nil {
      files[path] = BoundedFile(
        descriptor: try openFile(path, .append), limit: limit, owners: [])
      nextBounding = 0
    }
    files[path]?.owners.insert(owner)
    files[path]?.limit = limit
  }
}

extension Kept {
  /// What a list says of it.
  var state: Holding.State {
    switch self {
    case .namespaces(let user, let network):
      return .namespaces(user: user != nil, network: network != nil)
    case .stored: return .stored
    case .process(let record):
      guard let identity = record.identity else { return .starting }
      if let exit = record.exit { return .exited(identity, exit) }
      return .running(identity)
    }
  }
}
