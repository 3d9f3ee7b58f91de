import Glibc
import NFVLifecycle
import NFVModel
import Synchronization

/// A host on which everything works at once, with a command that echoes.
final class FakeHost: Confining, Configuring, Pausing, VolumeKeeping, NetworkDriver, ImageStore,
  Sendable
{
  let exits: AsyncStream<WorkloadExit>
  private let exitContinuation: AsyncStream<WorkloadExit>.Continuation
  private let logs = Mutex<[WorkloadID: [UInt8]]>([:])
  let startFailure = Mutex<NFVError?>(nil)
  /// How many workloads were prepared.
  let preparations = Mutex(0)
  let commandDenied = Mutex(false)
  /// Whether it runs anything.
  let hasRuntime = Mutex(true)
  /// What runs machines' instructions; nil where it runs none.
  let knownAccelerator = Mutex<String?>(nil)
  /// What functions count; nil where they do not answer.
  let functionCounters = Mutex<[FunctionCounter]?>([])
  /// Those that are paused; nil where it cannot be done.
  let paused = Mutex<Set<WorkloadID>?>(nil)
  /// The Vnfcs that have volumes; nil where none can have any.
  let volumes = Mutex<Set<VnfcID>?>(nil)
  /// Pausing blocks its thread as long as this is set.
  let isPauseHeld = Mutex(false)
  /// Starts do not end as long as this is set.
  let isStartHeld = Mutex(false)
  /// Nor do deletions.
  let isDeletionHeld = Mutex(false)
  /// Whether functions answer when they are asked over the network.
  let answersProbes = Mutex(true)

  init() {
    (exits, exitContinuation) = AsyncStream.makeStream(of: WorkloadExit.self)
  }

  var host: NFVLifecycle.Host { .init(workloads: [self], network: self, images: self) }

  func end(_ workload: WorkloadID, _ status: ExitStatus) {
    exitContinuation.yield(WorkloadExit(id: workload, status: status))
  }

  func write(_ text: String, by workload: WorkloadID) {
    logs.withLock { $0[workload, default: []] += Array(text.utf8) }
  }

  // MARK: Workloads

  var accelerator: String? { knownAccelerator.withLock { $0 } }
  func securityProfile(of workload: WorkloadID) -> SecurityProfile {
    .appArmor("fake \(workload.incarnation)")
  }

  var capabilities: [Technology: DriverCapabilities] {
    guard hasRuntime.withLock({ $0 }) else { return [:] }
    return [
      .container: DriverCapabilities(
        attachmentKinds: [.networkNamespace], reportsExitStatus: true, reportsOutOfMemory: true,
        executesCommands: !commandDenied.withLock { $0 }, hasConsole: false,
        pauses: paused.withLock { $0 != nil }, keepsVolumes: volumes.withLock { $0 != nil })
    ]
  }

  func prepare(
    _ specification: WorkloadSpecification,
    plug: @Sendable (AttachmentPoint) async throws(NFVError) -> Void
  ) async throws(NFVError) {
    preparations.withLock { $0 += 1 }
    if !specification.volumes.isEmpty {
      _ = volumes.withLock { $0?.insert(specification.id.vnfc) }
    }
    try await plug(.simulated)
  }

  func start(_ specification: WorkloadSpecification) async throws(NFVError) {
    if let error = startFailure.withLock({ $0 }) { throw error }
    while isStartHeld.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(2)) }
  }

  func stop(_ workload: WorkloadID, grace: Duration) async throws(NFVError) {}
  func delete(_ workload: WorkloadID) async throws(NFVError) {
    while isDeletionHeld.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(2)) }
  }
  func observe() async throws(NFVError) -> [ObservedWorkload] { [] }

  func attachmentPoint(of workload: WorkloadID) async throws(NFVError) -> AttachmentPoint {
    .simulated
  }

  func usage(of workload: WorkloadID) async throws(NFVError) -> WorkloadUsage {
    WorkloadUsage(cpuNanoseconds: 7, guestCPUNanoseconds: 5, memoryBytes: 4096, processes: 1)
  }

  func execute(
    _ request: ExecRequest, in workload: WorkloadID
  ) async throws(NFVError) -> any ExecSession {
    guard request.arguments == ["cat"] else {
      throw NFVError(.unprocessable, "there is no command \(request.arguments[0])")
    }
    return EchoSession()
  }

  func configure(_ specification: WorkloadSpecification) async throws(NFVError) {}
  func counters(of workload: WorkloadID) async throws(NFVError) -> [FunctionCounter] {
    guard let counters = functionCounters.withLock({ $0 }) else {
      throw NFVError(.timeout, "the function does not answer")
    }
    return counters
  }

  func vnfcsWithVolumes() async throws(NFVError) -> Set<VnfcID> {
    volumes.withLock { $0 ?? [] }
  }
  func removeVolumes(of vnfc: VnfcID) async throws(NFVError) {
    _ = volumes.withLock { $0?.remove(vnfc) }
  }

  func pause(_ workload: WorkloadID) async throws(NFVError) {
    // As a control group's freezer does.
    while isPauseHeld.withLock({ $0 }) { usleep(2000) }
    _ = paused.withLock { $0?.insert(workload) }
  }
  func resume(_ workload: WorkloadID) async throws(NFVError) {
    _ = paused.withLock { $0?.remove(workload) }
  }
  func isPaused(_ workload: WorkloadID) async throws(NFVError) -> Bool {
    paused.withLock { $0?.contains(workload) ?? false }
  }

  func log(
    of workload: WorkloadID, from offset: UInt64, limit: Int
  ) async throws(NFVError) -> LogChunk {
    let all = logs.withLock { $0[workload] ?? [] }
    let start = min(Int(offset), all.count)
    return LogChunk(offset: UInt64(start), bytes: Array(all[start...].prefix(limit)))
  }

  // MARK: Networks

  func check(_ request: NetworkRequest, of tenant: TenantID) async throws(NFVError) {
    if request.uplink == .routed { throw NFVError(.unprocessable, "the host has a route there") }
  }
  func ensure(_ network: Network) async throws(NFVError) {}
  func remove(_ network: NetworkID, of tenant: TenantID) async throws(NFVError) {}
  func attach(
    _ attachments: [Attachment], to point: AttachmentPoint, forwards: Bool, isActive: Bool
  ) async throws(NFVError) {}
  func attachWaiting(
    _ places: [PortID], of workload: WorkloadID, to point: AttachmentPoint
  ) async throws(NFVError) {}

  func activate(_ attachments: [Attachment]) async throws(NFVError) {}
  func release(_ attachments: [Attachment]) async throws(NFVError) {}
  func probe(
    _ check: NetworkCheck, of attachments: [Attachment], at point: AttachmentPoint,
    timeout: Duration
  ) async throws(NFVError) -> Bool { answersProbes.withLock { $0 } }
  func counters(
    of attachments: [Attachment]
  ) async throws(NFVError) -> [PortID: PortCounters] {
    Dictionary(
      uniqueKeysWithValues: attachments.map { ($0.port.id, PortCounters(receivedPackets: 3)) })
  }
  func observe() async throws(NFVError) -> ObservedNetworks { ObservedNetworks() }
  func sweep(_ link: ObservedNetworks.Link) async throws(NFVError) {}

  // MARK: Images

  func ensure(_ digest: ImageDigest) async throws(NFVError) -> PreparedImage {
    PreparedImage(digest: digest, root: "", configuration: ImageConfiguration(), size: 1)
  }
  func importArchive(at path: String) async throws(NFVError) -> ImageDigest { "sha256:0" }
  func removeUnused(keeping used: Set<ImageDigest>) async throws(NFVError) {}
}

/// Gives back what it is given; its exit code is the number of resizes.
final class EchoSession: ExecSession, Sendable {
  let output: AsyncStream<ExecOutput>
  private let continuation: AsyncStream<ExecOutput>.Continuation
  private let resizes = Mutex<Int32>(0)

  init() { (output, continuation) = AsyncStream.makeStream(of: ExecOutput.self) }

  func write(_ bytes: [UInt8]) async throws(NFVError) {
    continuation.yield(.standardOutput(bytes))
  }

  func closeInput() async {
    continuation.yield(.exited(.exited(code: resizes.withLock { $0 })))
    continuation.finish()
  }

  func resize(_ size: ExecRequest.TerminalSize) async { resizes.withLock { $0 += 1 } }

  func cancel() async {
    continuation.yield(.exited(.killed(signal: 9)))
    continuation.finish()
  }
}
