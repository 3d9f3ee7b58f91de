internal import Glibc
internal import Hummingbird
internal import LinuxSystem
public import Logging
public import NFVLifecycle
public import NFVModel
internal import NIOCore
public import ServiceLifecycle
internal import Synchronization
internal import SystemPackage

/// The packages' archives, and their way into the catalogue.
///
/// An upload is on disk before it is acknowledged; reading the archive and importing its images
/// comes after. An archive whose package was neither onboarded nor refused when the daemon went is
/// read again at the next start; one that has ended the daemon twice is refused.
public final class Catalogue: Service, Sendable {
  /// What a package goes through before its archive is being read, which its state tells; it is
  /// CREATED or ERROR meanwhile.
  enum Progress: Sendable { case uploading, waiting }

  private enum Job: Sendable {
    case onboard(VnfPackageID, TenantID)
    case removeUnusedImages
  }

  private let directory: String
  /// The largest archive that is taken, in octets.
  private let limit: UInt64
  private let lifecycle: Lifecycle
  private let read: @Sendable (_ archive: String) async throws(NFVError) -> VnfPackage.Content
  private let logger: Logger
  /// Archives are written and read here: it blocks.
  private let threads = BlockingExecutor(threads: 2, name: "martlet-package")
  private let progress = Mutex<[VnfPackageID: Progress]>([:])
  private let jobs: AsyncStream<Job>
  private let continuation: AsyncStream<Job>.Continuation

  /// - Parameters:
  ///   - directory: where the archives are kept; made where it is missing.
  ///   - limit: the largest archive that is taken, in octets.
  /// - Throws: `failed` where the directory cannot be made or read.
  public convenience init(
    directory: String, limit: UInt64 = 2 << 30, lifecycle: Lifecycle, logger: Logger
  ) throws(NFVError) {
    try self.init(directory: directory, limit: limit, lifecycle: lifecycle, logger: logger) {
      archive throws(NFVError) in
      try await importPackage(archive, into: lifecycle.host.images)
    }
  }

  /// - Parameter read: reads an archive and imports its images; may block its thread.
  init(
    directory: String, limit: UInt64 = 2 << 30, lifecycle: Lifecycle, logger: Logger,
    read: @escaping @Sendable (_ archive: String) async throws(NFVError) -> VnfPackage.Content
  ) throws(NFVError) {
    self.directory = directory
    self.limit = limit
    self.lifecycle = lifecycle
    self.logger = logger
    self.read = read
    (jobs, continuation) = AsyncStream.makeStream(
      of: Job.self, bufferingPolicy: .bufferingOldest(64))
    do throws(SystemError) {
      do throws(SystemError) {
        try systemCall("mkdir", directory) { mkdir(directory, 0o700) }
      } catch  where error.errno == .fileExists {}
      try tidy()
    } catch {
      throw NFVError(.failed, "the packages' folder \(directory) cannot be used", cause: error)
    }
  }

  /// Where a package's archive is.
  func path(of package: VnfPackageID) -> String { "\(directory)/\(package).csar" }

  func progress(of package: VnfPackageID) -> Progress? { progress.withLock { $0[package] } }

  /// Does something with an archive where it may block.
  func blocking<Value: Sendable>(_ body: () async throws -> Value) async throws -> Value {
    try await withTaskExecutorPreference(threads) { try await body() }
  }

  /// Removes what no package has: uploads that were broken off, archives of deleted packages.
  private func tidy() throws(SystemError) {
    let known = try? lifecycle.read { (state: borrowing State) throws(NFVError) in
      Set(state.packages.keys.flatMap { ["\($0).csar", "\($0).attempts"] })
    }
    for name in try listFolder(directory)
    where [".part", ".csar", ".attempts"].contains(where: name.hasSuffix) {
      if known?.contains(name) == false { try removeFile("\(directory)/\(name)") }
    }
  }

  // MARK: Uploading

  /// Takes a package's archive; it is on disk when this returns, and read later.
  /// - Throws: `conflict` where the package has one already, `tooLarge`, `exhausted`.
  func receive(_ body: RequestBody, for package: VnfPackage) async throws {
    let isFirst = progress.withLock { progress in
      guard progress[package.id] == nil else { return false }
      progress[package.id] = .uploading
      return true
    }
    guard isFirst else {
      throw NFVError(.conflict, "an archive of the package \(package.id) is being taken already")
    }
    do {
      let state = try lifecycle.read { (state: borrowing State) throws(NFVError) in
        (state.packages[package.id] ?? package).onboarding
      }
      guard state == .created || state == .error else {
        throw NFVError(
          .conflict, "the package \(package.id) is \(state.rawValue); make another one")
      }
      try await withTaskExecutorPreference(threads) {
        try await write(body, package.id)
        progress.withLock { $0[package.id] = .waiting }
        guard case .enqueued = continuation.yield(.onboard(package.id, package.tenant)) else {
          try removeFile(path(of: package.id))
          throw NFVError(.overloaded, "too many packages wait to be read; ask again later")
        }
      }
    } catch {
      progress.withLock { $0[package.id] = nil }
      throw error
    }
  }

  private func write(_ body: RequestBody, _ package: VnfPackageID) async throws {
    let part = "\(directory)/\(package).part"
    do {
      try removeFile(part)
      let file = try openFile(part, .appendOnly)
      defer { try? file.close() }
      var size: UInt64 = 0
      for try await buffer in body {
        size += UInt64(buffer.readableBytes)
        guard size <= limit else {
          throw NFVError(
            .tooLarge, "the archive has more than \(limit) octets, which is the daemon's bound")
        }
        try writeAll(Array(buffer.readableBytesView), to: file, part)
      }
      guard size > 0 else { throw NFVError(.malformed, "the body is empty; send the archive") }
      try systemCall("fsync", part) { fsync(file.rawValue) }
      try systemCall("rename", part) { rename(part, path(of: package)) }
      let folder = try openFile(directory, .read)
      defer { try? folder.close() }
      try systemCall("fsync", directory) { fsync(folder.rawValue) }
    } catch {
      try? removeFile(part)
      guard let failure = error as? SystemError else { throw error }
      throw NFVError(
        failure.errno == .noSpace ? .exhausted : .failed,
        "the archive could not be written to disk", cause: failure)
    }
  }

  /// Removes a deleted package's archive, and later the images that no other package has.
  func remove(_ package: VnfPackageID) {
    // Where the queue is full, or the daemon ends, the next deletion removes them.
    continuation.yield(.removeUnusedImages)
    do {
      try removeFile(path(of: package))
      try removeFile(attempts(of: package))
    } catch {
      logger.warning("An archive stays until the next start", metadata: ["error": "\(error)"])
    }
  }

  // MARK: Reading

  /// Reads archives one after another until the daemon ends. Images are removed in the same order,
  /// so that none is removed between its import and its package's onboarding.
  public func run() async throws {
    let unread = try claimUnread()
    await withTaskExecutorPreference(threads) {
      for package in unread where !Task.isShuttingDownGracefully && !Task.isCancelled {
        await onboard(package.id, package.tenant)
      }
      await withGracefulShutdownHandler {
        // What waits then is read at the next start.
        for await job in jobs where !Task.isShuttingDownGracefully {
          switch job {
          case .onboard(let package, let tenant): await onboard(package, tenant)
          case .removeUnusedImages: await removeUnusedImages()
          }
        }
      } onGracefulShutdown: {
        self.continuation.finish()
      }
    }
  }

  /// The packages whose archive was taken and not read, those that were refused before among them.
  private func claimUnread() throws(NFVError) -> [VnfPackage] {
    let unread = try lifecycle.read { (state: borrowing State) throws(NFVError) -> [VnfPackage] in
      state.packages.values.filter { $0.content == nil }.sorted { $0.createdAt < $1.createdAt }
    }
    return progress.withLock { progress in
      // One that is being taken now comes by the queue.
      let left = unread.filter {
        progress[$0.id] == nil && ($0.onboarding == .processing || fileExists(path(of: $0.id)))
      }
      for package in left { progress[package.id] = .waiting }
      return left
    }
  }

  /// Reads the archive of a package that waits for it.
  private func onboard(_ package: VnfPackageID, _ tenant: TenantID) async {
    do throws(NFVError) {
      do {
        // From then on its state alone tells: whoever hears of its end finds it ended.
        defer { progress.withLock { $0[package] = nil } }
        try await submit(.processPackage(package), tenant)
      }
      do throws(NFVError) {
        let content = try await attempt(package)
        try await submit(.onboardPackage(package, content), tenant)
      } catch  where error.code != .unavailable && error.code != .overloaded {
        // Before it is told: the next archive that is sent has the same name.
        remove(package)
        try await submit(.failPackage(package, error), tenant)
      }
    } catch  where error.code == .notFound {
      // It was deleted meanwhile.
      remove(package)
    } catch {
      logger.error(
        "A package was not onboarded; its archive is read again at the next start",
        metadata: ["package": "\(package)", "error": "\(error)"])
    }
  }

  /// Asks for something until it is taken: where too much waits, who asks for himself goes first.
  @discardableResult
  private func submit(
    _ request: NFVModel.Request, _ tenant: TenantID
  ) async throws(NFVError) -> NFVModel.Response {
    while true {
      do throws(NFVError) {
        return try await lifecycle.submit(request, tenant: tenant, actor: "martlet")
      } catch {
        guard error.code == .overloaded, !Task.isShuttingDownGracefully, !Task.isCancelled else {
          throw error
        }
        try? await Task.sleep(for: .milliseconds(200))
      }
    }
  }

  /// How often reading a package's archive was begun and not ended: an octet for each.
  private func attempts(of package: VnfPackageID) -> String { "\(directory)/\(package).attempts" }

  /// Reads an archive; that it was begun is on disk meanwhile, as what ended the daemon would do so
  /// at each start.
  private func attempt(_ package: VnfPackageID) async throws(NFVError) -> VnfPackage.Content {
    let path = attempts(of: package)
    let count: UInt64
    do throws(SystemError) {
      let file = try openFile(path, .appendOnly)
      defer { try? file.close() }
      count = try fileSize(file).length
      try writeAll([1], to: file, path)
      try systemCall("fsync", path) { fsync(file.rawValue) }
    } catch {
      throw NFVError(
        error.errno == .noSpace ? .exhausted : .failed, "\(path) could not be written to disk",
        cause: error)
    }
    defer { try? removeFile(path) }
    guard count < 2 else {
      throw NFVError(
        .failed,
        "the daemon ended twice while it read the package; its log says by what. Send the archive "
          + "again to have it read once more")
    }
    return try await read(self.path(of: package))
  }

  private func removeUnusedImages() async {
    do throws(NFVError) {
      let used = try lifecycle.read {
        (state: borrowing State) throws(NFVError) -> Set<ImageDigest> in
        Set(state.packages.values.flatMap { ($0.content?.images ?? [:]).values })
      }
      lifecycle.drainPools(keeping: used)
      try await lifecycle.host.images.removeUnused(keeping: used)
    } catch {
      logger.warning("Unused images stay for now", metadata: ["error": "\(error)"])
    }
  }
}
