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
/// read again at the next start.
public final class Catalogue: Service, Sendable {
  /// What a package is going through; its state in the store is CREATED or ERROR meanwhile.
  enum Progress: Sendable { case uploading, processing }

  private struct Job: Sendable {
    var package: VnfPackageID
    var tenant: TenantID
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
  ///   - read: reads an archive and imports its images; may block its thread.
  /// - Throws: `failed` where the directory cannot be made or read.
  public init(
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

  /// Removes what no package has: uploads that were broken off, archives of deleted packages.
  private func tidy() throws(SystemError) {
    guard let listing = opendir(directory) else { throw SystemError.last("opendir", directory) }
    defer { closedir(listing) }
    var names: [String] = []
    while let entry = readdir(listing) {
      // SAFETY: d_name ends with a 0 octet within its array (readdir(3)).
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      names.append(name)
    }
    let known = try? lifecycle.read { (state: borrowing State) throws(NFVError) in
      Set(state.packages.keys.map { "\($0).csar" })
    }
    for name in names where name.hasSuffix(".part") || name.hasSuffix(".csar") {
      if known?.contains(name) == false { try removeFile("\(directory)/\(name)") }
    }
  }

  // MARK: Uploading

  /// Takes a package's archive; it is on disk when this returns, and read later.
  /// - Throws: `conflict` where the package has one already, `tooLarge`, `exhausted`.
  func receive(_ body: RequestBody, for package: VnfPackage) async throws {
    guard package.onboarding == .created || package.onboarding == .error else {
      throw NFVError(
        .conflict, "the package \(package.id) is \(package.onboarding.rawValue); make another one")
    }
    let isFirst = progress.withLock { progress in
      guard progress[package.id] == nil else { return false }
      progress[package.id] = .uploading
      return true
    }
    guard isFirst else {
      throw NFVError(.conflict, "an archive of the package \(package.id) is being taken already")
    }
    do {
      try await withTaskExecutorPreference(threads) { try await write(body, package.id) }
      try enqueue(Job(package: package.id, tenant: package.tenant))
    } catch {
      progress.withLock { $0[package.id] = nil }
      throw error
    }
  }

  private func enqueue(_ job: Job) throws(NFVError) {
    progress.withLock { $0[job.package] = .processing }
    guard case .enqueued = continuation.yield(job) else {
      throw NFVError(.unavailable, "too many packages wait to be read; try again later")
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

  /// Removes a deleted package's archive.
  func remove(_ package: VnfPackageID) {
    do {
      try removeFile(path(of: package))
    } catch {
      logger.warning("An archive stays until the next start", metadata: ["error": "\(error)"])
    }
  }

  // MARK: Reading

  /// Reads archives one after another until the daemon ends.
  public func run() async throws {
    let unread = try lifecycle.read { (state: borrowing State) throws(NFVError) -> [Job] in
      state.packages.values.filter { $0.onboarding == .created }
        .map { Job(package: $0.id, tenant: $0.tenant) }
    }
    for job in unread where access(path(of: job.package), R_OK) == 0 { try? enqueue(job) }
    await withTaskExecutorPreference(threads) {
      for await job in jobs.cancelOnGracefulShutdown() {
        await onboard(job)
        progress.withLock { $0[job.package] = nil }
      }
    }
  }

  private func onboard(_ job: Job) async {
    let archive = path(of: job.package)
    do throws(NFVError) {
      do throws(NFVError) {
        let content = try await read(archive)
        _ = try await lifecycle.submit(
          .onboardPackage(job.package, content), tenant: job.tenant, actor: "martlet")
      } catch  where error.code != .unavailable {
        _ = try await lifecycle.submit(
          .failPackage(job.package, error), tenant: job.tenant, actor: "martlet")
        remove(job.package)
      }
    } catch  where error.code == .notFound {
      // It was deleted meanwhile.
      remove(job.package)
    } catch {
      logger.error(
        "A package was not onboarded; its archive is read again at the next start",
        metadata: ["package": "\(job.package)", "error": "\(error)"])
    }
  }
}
