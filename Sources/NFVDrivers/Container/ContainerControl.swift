import ControlProtocol
import HoldProtocol
import LinuxSystem
public import NFVModel
import SystemPackage

/// A function in a container listens on a unix socket beside its document, or not at all: then it is told
/// by its document and its files, and by SIGHUP if it catches that.
extension ContainerDriver: Configuring {
  /// How long a function may take to answer.
  private static var limit: Duration { .seconds(5) }

  public func configure(_ specification: WorkloadSpecification) async throws(NFVError) {
    let id = specification.id
    let hasChannel = try await ask(.configure(document: specification.document), of: id) != nil
    let folder = folder(id)
    guard let record = folder.record else { return }
    let user = try imageUser(specification.image)
    let owner = Mount.Owner(
      user: record.users.hostStart + user.uid, group: record.users.hostStart + user.gid)
    try HeldWorkloads.onHost("cannot write the document of \(id)") { () throws(SystemError) in
      let document = folder.documents + "/config.json"
      switch specification.addressOwner {
      case .kernel:
        try replaceFile(document, specification.document, mode: 0o400, owner: owner)
      case .function:
        // Mounted by itself: another file at this path would not be seen inside.
        try overwriteFile(document, specification.document)
      }
      // Mounted by themselves as well.
      for (index, file) in specification.files.enumerated() {
        try overwriteFile("\(folder.path)/file-\(index)", file.content)
      }
      try folder.write(generation: specification.generation)
      if !hasChannel { try hangUp(id) }
    }
  }

  private func hangUp(_ id: WorkloadID) throws(SystemError) {
    guard let process = folder(id).process else { return }
    let pidfd = try process.open()
    defer { try? pidfd.close() }
    if catchesHangUp(process.pid) { try sendSignal(1, to: pidfd) }
  }

  public func counters(of workload: WorkloadID) async throws(NFVError) -> [FunctionCounter] {
    guard case .functionCounters(let counters)? = try await ask(.functionCounters, of: workload)
    else { return [] }
    return counters.map { FunctionCounter(name: $0.name, value: $0.value) }
  }

  /// - Returns: nil where it has no control channel.
  private func ask(
    _ request: ControlRequest, of id: WorkloadID
  ) async throws(NFVError) -> ControlReply? {
    guard let socket = try connect(to: id) else { return nil }
    do throws(MachineError) {
      let client = try await ControlClient.connect(.connected(socket.rawValue)) { _ in }
      defer { client.close() }
      return try await client.request(request, timeout: Self.limit)
    } catch {
      throw error.problem(of: id, isPaused: group(id).isFrozen)
    }
  }

  private func connect(to id: WorkloadID) throws(NFVError) -> FileDescriptor? {
    guard let process = folder(id).process else {
      throw NFVError(.notFound, "there is no running container \(id) on this host")
    }
    return try HeldWorkloads.onHost("cannot reach the function of \(id)") {
      () throws(SystemError) in
      let pidfd = try process.open()
      defer { try? pidfd.close() }
      let root = try openFile("/proc/\(process.pid)/root", .path)
      defer { try? root.close() }
      // The pid was the process's own as long as its pidfd tells no end.
      guard try !waitReadable(pidfd, milliseconds: 0) else {
        throw SystemError(call: "open", errno: .noSuchProcess, subject: "\(id)")
      }
      return try StreamSocket.connect(ControlProtocol.Place.control, in: root)
    }
  }
}

extension MachineError {
  /// Why a function, or its machine's init, did not do what it was asked.
  func problem(of id: WorkloadID, isPaused: Bool) -> NFVError {
    switch self {
    case .refused(let words):
      NFVError(.unprocessable, "the function of the Vnfc \(id.vnfc) refuses it: \(words)")
    case .timedOut where isPaused:
      NFVError(.conflict, "\(id) is paused; continue it first: martlet vnf continue")
    case .timedOut:
      NFVError(
        .timeout, "the function of \(id) does not answer on its control channel", cause: self)
    case .closed, .malformed:
      NFVError(.failed, "the function of \(id) cannot be asked", cause: self)
    }
  }
}
