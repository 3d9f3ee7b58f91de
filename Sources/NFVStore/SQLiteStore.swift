internal import FoundationEssentials
internal import GRDB
internal import Glibc
public import NFVModel
internal import Synchronization

/// The durable store: SQLite in WAL mode, one writer.
///
/// A commit is one transaction, however many changes it holds. With `synchronous=NORMAL` it has been
/// written to the log when it returns, and ``sync()`` has the log on disk as `FULL` would at the end of
/// each. Reads run beside the writer. Every value stands as a JSON document beside the columns that are
/// searched by or must be unique.
public final class SQLiteStore: Store, Sendable {
  private let pool: DatabasePool
  /// SQLite's log, which it writes to as long as the pool is open. Not the database's own file: to close
  /// another descriptor of that one would give up SQLite's locks.
  private let log: Int32
  private let path: String
  /// How many outbox entries are kept at least.
  private let retention: Int64
  private let sinceTrim = Mutex<Int64>(0)
  private let noteGeneration: @Sendable (Int) -> Void
  /// Not on disk yet.
  private let raisedGeneration = Mutex<Int?>(nil)

  /// Opens the database, or makes it; only the owner may read it.
  /// - Parameters:
  ///   - path: the database's file; its folder must exist.
  ///   - retention: how many notifications the outbox keeps.
  ///   - noteGeneration: is told each new ``StoredState/generation`` when it is on disk, by ``sync()``.
  /// - Throws: `failed` where it is no database of ours or of a newer Martlet.
  public init(
    path: String, retention: Int = 100_000,
    noteGeneration: @escaping @Sendable (Int) -> Void = { _ in }
  ) throws(NFVError) {
    self.path = path
    self.noteGeneration = noteGeneration
    self.retention = Int64(retention)
    var configuration = Configuration()
    configuration.journalMode = .wal
    configuration.maximumReaderCount = 4
    do {
      pool = try DatabasePool(path: path, configuration: configuration)
      let migrator = Schema.migrator
      if try pool.read(migrator.hasBeenSuperseded) {
        throw NFVError(
          .failed,
          "the store \(path) was written by a newer Martlet; run that one, or name another folder "
            + "with --state")
      }
      try migrator.migrate(pool)
      log = try Self.openLog(of: path)
    } catch let error as NFVError {
      throw error
    } catch {
      throw Self.error(error, path)
    }
  }

  deinit { close(log) }

  public func load() throws(NFVError) -> StoredState {
    try read { database in
      guard let row = try Row.fetchOne(database, sql: "SELECT id, generation FROM store") else {
        throw NFVError(.failed, "the store \(self.path) has no identity; restore a backup")
      }
      return StoredState(
        store: StoreID(row["id"]), generation: row["generation"],
        packages: try Self.all(database, "SELECT document FROM vnf_package ORDER BY id"),
        instances: try Self.all(database, "SELECT document FROM vnf_instance ORDER BY id"),
        vnfcs: try Self.all(database, "SELECT document FROM vnfc ORDER BY id"),
        networks: try Self.all(database, "SELECT document FROM network ORDER BY id"),
        openOperations: try Self.all(
          database, "SELECT document FROM vnf_lcm_op_occ WHERE is_open ORDER BY id"),
        lastSequence: try Self.lastSequence(database))
    }
  }

  public func commit(_ changes: [Change]) throws(NFVError) -> [OutboxEntry] {
    let (entries, generation) = try write { database in
      let encoder = JSONEncoder()
      var entries: [OutboxEntry] = []
      var isRaised = false
      for change in changes {
        if let entry = try Self.apply(change, database, encoder, &isRaised) {
          entries.append(entry)
        }
      }
      if let last = entries.last { try self.trim(database, upTo: last.sequence, entries.count) }
      return (entries, isRaised ? try Self.raiseGeneration(database) : nil)
    }
    if let generation { raisedGeneration.withLock { $0 = generation } }
    return entries
  }

  public func sync() throws(NFVError) {
    try Self.sync(log, path)
    if let generation = raisedGeneration.withLock({ $0.take() }) { noteGeneration(generation) }
  }

  public func operation(_ id: VnfLcmOpOccID) throws(NFVError) -> VnfLcmOpOcc? {
    try read { database in
      let found: [VnfLcmOpOcc] = try Self.all(
        database, "SELECT document FROM vnf_lcm_op_occ WHERE id = ?", [id.rawValue])
      return found.first
    }
  }

  public func operations(
    of instance: VnfInstanceID?, before: VnfLcmOpOccID?, limit: Int
  ) throws(NFVError) -> [VnfLcmOpOcc] {
    try read { database in
      var sql = "SELECT document FROM vnf_lcm_op_occ WHERE 1"
      var arguments: StatementArguments = []
      if let instance {
        sql += " AND vnf_instance_id = ?"
        arguments += [instance.rawValue]
      }
      if let before {
        sql += " AND sequence < (SELECT sequence FROM vnf_lcm_op_occ WHERE id = ?)"
        arguments += [before.rawValue]
      }
      sql += " ORDER BY sequence DESC LIMIT ?"
      arguments += [limit]
      return try Self.all(database, sql, arguments)
    }
  }

  public func outbox(after sequence: Int64, limit: Int) throws(NFVError) -> [OutboxEntry] {
    try read { database in
      // Subscribers ask at each commit: preparing the statements took most of 0.9 ms.
      let oldest = try Int64.fetchOne(
        database.cachedStatement(sql: "SELECT MIN(sequence) FROM outbox"))
      let last = try Self.lastSequence(database)
      let first = oldest ?? last + 1
      guard sequence >= first - 1 else {
        throw NFVError(
          .notFound, "the events after \(sequence) are gone; the oldest kept one is \(first)")
      }
      let rows = try Row.fetchAll(
        database.cachedStatement(
          sql: "SELECT sequence, document FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?"),
        arguments: [sequence, limit])
      let decoder = JSONDecoder()
      return try rows.map { row in
        OutboxEntry(
          sequence: row["sequence"],
          notification: try decoder.decode(
            Notification.self, from: Data((row["document"] as String).utf8)))
      }
    }
  }

  // MARK: The log

  /// Its name in the folder is on disk as well.
  private static func openLog(of path: String) throws(NFVError) -> Int32 {
    let parent = path[..<(path.lastIndex(of: "/") ?? path.startIndex)]
    let folder = open(
      path.hasPrefix("/") ? parent + "/" : "./" + parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    defer { close(folder) }
    try sync(folder, path)
    let log = open(path + "-wal", O_RDONLY | O_CLOEXEC)
    guard log >= 0 else { throw failure("open", path) }
    return log
  }

  private static func sync(_ descriptor: Int32, _ path: String) throws(NFVError) {
    while fdatasync(descriptor) != 0 {
      guard errno == EINTR else { throw failure("fdatasync", path) }
    }
  }

  private static func failure(_ call: String, _ path: String) -> NFVError {
    NFVError(
      errno == ENOSPC ? .exhausted : .failed, "the store \(path) cannot be put on disk",
      cause: "\(call): \(String(cString: strerror(errno)))")
  }

  // MARK: Statements

  private static func apply(
    _ change: Change, _ database: Database, _ encoder: JSONEncoder, _ isRaised: inout Bool
  ) throws -> OutboxEntry? {
    func document(_ value: some Encodable) throws -> String {
      String(decoding: try encoder.encode(value), as: UTF8.self)
    }
    func run(_ sql: String, _ arguments: StatementArguments) throws {
      try database.cachedStatement(sql: sql).execute(arguments: arguments)
    }
    switch change {
    case .putPackage(let package):
      try run(
        """
        INSERT INTO vnf_package (id, tenant_id, document) VALUES (?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET document = excluded.document
        """, [package.id.rawValue, package.tenant.rawValue, document(package)])
    case .removePackage(let id):
      try run("DELETE FROM vnf_package WHERE id = ?", [id.rawValue])
    case .putInstance(let instance):
      try run(
        """
        INSERT INTO vnf_instance (id, tenant_id, name, document) VALUES (?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, document = excluded.document
        """,
        [instance.id.rawValue, instance.tenant.rawValue, instance.name, document(instance)])
    case .removeInstance(let id):
      try run("DELETE FROM vnf_instance WHERE id = ?", [id.rawValue])
    case .putVnfc(let vnfc):
      if try put(vnfc, document(vnfc), database) { isRaised = true }
    case .removeVnfc(let id):
      try run("DELETE FROM vnfc WHERE id = ?", [id.rawValue])
    case .putNetwork(let network):
      isRaised = true
      try run(
        """
        INSERT INTO network (id, tenant_id, host_id, name, document) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, document = excluded.document
        """,
        [
          network.id.rawValue, network.tenant.rawValue, network.host.rawValue, network.name,
          document(network),
        ])
    case .removeNetwork(let id):
      try run("DELETE FROM network WHERE id = ?", [id.rawValue])
    case .putOperation(let operation):
      try run(
        """
        INSERT INTO vnf_lcm_op_occ (id, tenant_id, vnf_instance_id, is_open, document)
        VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET is_open = excluded.is_open, document = excluded.document
        """,
        [
          operation.id.rawValue, operation.tenant.rawValue, operation.instance.rawValue,
          !operation.state.isEnded, document(operation),
        ])
    case .notify(let notification):
      try run("INSERT INTO outbox (document) VALUES (?)", [document(notification)])
      return OutboxEntry(sequence: database.lastInsertedRowID, notification: notification)
    }
    return nil
  }

  private static func raiseGeneration(_ database: Database) throws -> Int? {
    try Int.fetchOne(
      database.cachedStatement(
        sql: "UPDATE store SET generation = generation + 1 RETURNING generation"))
  }

  /// - Returns: whether it is new, or has another incarnation.
  private static func put(
    _ vnfc: Vnfc, _ document: String, _ database: Database
  ) throws -> Bool {
    let known = try Int.fetchOne(
      database.cachedStatement(sql: "SELECT incarnation FROM vnfc WHERE id = ?"),
      arguments: [vnfc.id.rawValue])
    try database.cachedStatement(
      sql: """
        INSERT INTO vnfc (id, tenant_id, host_id, vnf_instance_id, incarnation, document)
        VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET incarnation = excluded.incarnation,
          document = excluded.document
        """
    ).execute(arguments: [
      vnfc.id.rawValue, vnfc.tenant.rawValue, vnfc.host.rawValue, vnfc.instance.rawValue,
      vnfc.incarnation, document,
    ])
    // Ports never change after their Vnfc was made.
    if let known { return known != vnfc.incarnation }
    for port in vnfc.ports {
      try database.cachedStatement(
        sql: """
          INSERT INTO port (id, tenant_id, host_id, vnfc_id, network_id, mac) VALUES (?, ?, ?, ?, ?, ?)
          """
      ).execute(arguments: [
        port.id.rawValue, vnfc.tenant.rawValue, port.host.rawValue, vnfc.id.rawValue,
        port.network.rawValue, port.mac.description,
      ])
      for address in port.addresses {
        try database.cachedStatement(
          sql: "INSERT INTO port_address (port_id, network_id, address) VALUES (?, ?, ?)"
        ).execute(arguments: [
          port.id.rawValue, port.network.rawValue, address.address.description,
        ])
      }
    }
    return true
  }

  /// Drops the oldest entries, not at every commit: a tenth more than promised may be kept.
  private func trim(_ database: Database, upTo last: Int64, _ added: Int) throws {
    let isDue = sinceTrim.withLock { count in
      count += Int64(added)
      guard count > retention / 10 else { return false }
      count = 0
      return true
    }
    guard isDue else { return }
    try database.execute(
      sql: "DELETE FROM outbox WHERE sequence <= ?", arguments: [last - retention])
  }

  private static func lastSequence(_ database: Database) throws -> Int64 {
    try Int64.fetchOne(
      database.cachedStatement(sql: "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")) ?? 0
  }

  private static func all<Value: Decodable>(
    _ database: Database, _ sql: String, _ arguments: StatementArguments = []
  ) throws -> [Value] {
    let decoder = JSONDecoder()
    return try String.fetchAll(database.cachedStatement(sql: sql), arguments: arguments).map {
      try decoder.decode(Value.self, from: Data($0.utf8))
    }
  }

  // MARK: Errors

  private func write<Value>(_ body: (Database) throws -> Value) throws(NFVError) -> Value {
    do {
      return try pool.write(body)
    } catch {
      throw Self.error(error, path)
    }
  }

  private func read<Value>(_ body: (Database) throws -> Value) throws(NFVError) -> Value {
    do {
      return try pool.read(body)
    } catch {
      throw Self.error(error, path)
    }
  }

  private static func error(_ error: any Error, _ path: String) -> NFVError {
    if let error = error as? NFVError { return error }
    guard let error = error as? DatabaseError else {
      return NFVError(.failed, "the store \(path) cannot be read", cause: error)
    }
    switch error.resultCode {
    case .SQLITE_FULL:
      return NFVError(
        .exhausted, "the disk of the store \(path) is full; free some space", cause: error)
    case .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_READONLY:
      return NFVError(
        .failed, "the store \(path) cannot be opened; martletd needs to own its folder",
        cause: error)
    case .SQLITE_CORRUPT, .SQLITE_NOTADB:
      return NFVError(
        .failed, "the store \(path) is damaged; restore a backup or move it away", cause: error)
    case .SQLITE_CONSTRAINT:
      return NFVError(.conflict, "the store refuses a change", cause: error)
    default: return NFVError(.failed, "the store \(path) failed", cause: error)
    }
  }
}
