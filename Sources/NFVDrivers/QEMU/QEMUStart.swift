import ControlProtocol
import Glibc
import HoldProtocol
import LinuxSystem
public import NFVModel
import SystemPackage

extension QEMUDriver {
  public func start(_ specification: WorkloadSpecification) async throws(NFVError) {
    let id = specification.id
    guard let record = workloads.folder(id).record, record.id == id else {
      throw NFVError(.conflict, "\(id) is not prepared; start it anew")
    }
    let image = try MachineImage(specification.image)
    if image.isControlled {
      try HeldWorkloads.onHost("cannot note the document of \(id)") { () throws(SystemError) in
        try workloads.folder(id).write(generation: specification.generation)
      }
    }
    let accelerator = await probe.value
    let commandLine = commandLine(specification, image, accelerator)
    machines.beginStart(of: id)
    do throws(NFVError) {
      try await start(specification, image, commandLine, record)
      machines.endStart(of: id, isFailed: false)
    } catch {
      machines.endStart(of: id, isFailed: true)
      throw error
    }
  }

  private func start(
    _ specification: WorkloadSpecification, _ image: MachineImage,
    _ commandLine: QEMUCommandLine, _ record: RunFolder.Record
  ) async throws(NFVError) {
    if image.technology == .unikernel {
      return try await startUnikernel(specification, image, commandLine, record)
    }
    let id = specification.id
    guard try await spawn(specification, image, commandLine, record) else { return }
    // From here on they live as long as QEMU does.
    try await taps(of: specification).release()
    var stage = StartStage.emulator
    do throws(MachineError) {
      try await awaitStart(of: id, image, &stage)
    } catch {
      try await explain(error, stage, of: id, image)
    }
  }

  /// Starts a unikernel, unless it has waited, and tells it its document, unless it is to wait.
  private func startUnikernel(
    _ specification: WorkloadSpecification, _ image: MachineImage,
    _ commandLine: QEMUCommandLine, _ record: RunFolder.Record
  ) async throws(NFVError) {
    let id = specification.id
    let waits = waitingRoom.isMaking(id)
    var hasStarted = false
    // Also where it has refused its document: the one that it took is gone.
    defer {
      if !waits, hasStarted || record.origin != nil { waitingRoom.fill(after: specification) }
    }
    if record.origin == nil, try await spawn(specification, image, commandLine, record) {
      try await taps(of: specification).release()
    }
    if image.isControlled {
      do throws(MachineError) {
        let limit = configuration.unikernelLimit
        if waits {
          _ = try await machines[id].request(.functionCounters, timeout: limit)
          // Without a document it rehearses 10 ms after its boot, and answers when it has.
          try? await Task.sleep(for: .milliseconds(25))
          _ = try await machines[id].request(.functionCounters, timeout: limit)
        } else {
          try await machines[id].configure(document: specification.document, timeout: limit)
        }
      } catch {
        try await explain(error, .configuration, of: id, image)
      }
    }
    if waits { return }
    try HeldWorkloads.onHost("cannot note the start of \(id)") { () throws(SystemError) in
      try workloads.folder(id).set(isWaiting: false)
    }
    hasStarted = true
  }

  // MARK: What is asked

  /// Refuses what cannot run here, before anything is made for it.
  func check(
    _ specification: WorkloadSpecification, _ image: MachineImage
  ) throws(NFVError) {
    let id = specification.id
    let memory = MachineMemory.mebibytes(of: specification)
    guard memory >= image.minimumMemoryMiB else {
      throw NFVError(
        .unprocessable,
        "\(id) has \(memory) MiB of memory, its image \(specification.image.digest) needs "
          + "\(image.minimumMemoryMiB); give the VDU more memory")
    }
    guard specification.document.count <= ControlProtocol.maximumDocument else {
      throw NFVError(
        .tooLarge,
        "the document of \(id) has \(specification.document.count) octets, a virtual machine takes "
          + "\(ControlProtocol.maximumDocument); shorten what the VNF is given: its configurable "
          + "properties, extensions and metadata")
    }
    if image.technology == .unikernel {
      try checkUnikernel(specification)
    }
    let ports = QEMUCommandLine.maximumPorts(of: image.board)
    guard specification.ports.count + specification.volumes.count <= ports else {
      throw NFVError(
        .unprocessable,
        "\(id) has \(specification.ports.count) ports and \(specification.volumes.count) volumes; a "
          + "machine \(image.board.rawValue) has room for \(ports)")
    }
  }

  /// A unikernel is one program with its document, and has nothing of a file system.
  private func checkUnikernel(_ specification: WorkloadSpecification) throws(NFVError) {
    func refuse(_ what: String) -> NFVError {
      NFVError(
        .unprocessable,
        "\(specification.id) is a unikernel and has no \(what); give its function parameters, or run "
          + "it as a tinyx or container")
    }
    if specification.command != nil { throw refuse("commands, the VDU names one") }
    if !specification.files.isEmpty { throw refuse("files, the VDU has some") }
    if !specification.volumes.isEmpty { throw refuse("block devices, the VDU has some") }
  }

  private func commandLine(
    _ specification: WorkloadSpecification, _ image: MachineImage, _ accelerator: Accelerator
  ) -> QEMUCommandLine {
    let memory = MachineMemory.mebibytes(of: specification)
    let hasVhost = fileExists(Self.vhost)
    return QEMUCommandLine(
      board: image.board, accelerator: accelerator, memoryMiB: memory,
      processors: image.technology == .unikernel
        ? 1 : min(max(1, ((specification.cpuMillicores ?? 1000) + 999) / 1000), 64),
      isUnikernel: image.technology == .unikernel,
      commandLine: image.commandLine,
      networks: specification.ports.map {
        .init(mac: $0.mac, mtu: $0.mtu, usesVhost: hasVhost)
      }, volumes: specification.volumes.count)
  }

  private static let vhost = "/dev/vhost-net"

  // MARK: QEMU's birth

  /// - Returns: false where it was born already.
  private func spawn(
    _ specification: WorkloadSpecification, _ image: MachineImage,
    _ commandLine: QEMUCommandLine, _ record: RunFolder.Record
  ) async throws(NFVError) -> Bool {
    let id = specification.id
    let folder = workloads.folder(id)
    var passed: [FileDescriptor] = []
    // Ours only until QEMU has them: a socket that nobody serves must not go on listening.
    defer { for descriptor in passed { try? descriptor.close() } }
    var mappings: [DescriptorMapping] = []
    func pass(_ descriptor: FileDescriptor, _ target: Int32) {
      mappings.append(DescriptorMapping(source: .passed(UInt16(passed.count)), target: target))
      passed.append(descriptor)
    }
    if image.technology != .unikernel {
      let documents = try GuestDocuments(specification: specification, image: image).archive()
      let file = try HeldWorkloads.onHost("cannot start \(id)") { () throws(SystemError) in
        try initramfs(image, documents)
      }
      pass(file, QEMUCommandLine.Descriptor.initramfs)
    }
    try HeldWorkloads.onHost("cannot start \(id)") { () throws(SystemError) in
      func listen(_ path: String, _ target: Int32) throws(SystemError) {
        try removeFile(path)
        pass(try StreamSocket.listen(path), target)
      }
      try workloads.group(id).create(
        CgroupLimits(
          cpuMillicores: specification.cpuMillicores,
          // Its main thread serves the devices while the guest's processors run: a machine with one
          // would stand still for the rest of each 100 ms in which both have worked for 100 ms.
          overheadMillicores: 1000,
          memoryBytes: UInt64(commandLine.memoryMiB) << 20 + commandLine.overhead,
          maximumProcesses: specification.maximumProcesses,
          devices: commandLine.accelerator == .kvm ? ["c 10:232 rw"] : []))
      try removeFile(folder.path + "/ended")
      if image.technology == .unikernel { try folder.set(isWaiting: true) }
      pass(try openFile(image.kernelPath, .read), QEMUCommandLine.Descriptor.kernel)
      pass(
        try openFile(workloads.logPath(id), .appendOnly), QEMUCommandLine.Descriptor.log)
      if commandLine.hasFirmware {
        pass(try makeMemoryFile("firmware"), QEMUCommandLine.Descriptor.firmware)
        try writeAll(Firmware.image, to: passed[passed.count - 1], "firmware")
      }
      try listen(folder.qmpSocket, QEMUCommandLine.Descriptor.qmp)
      try listen(folder.consoleSocket, QEMUCommandLine.Descriptor.console)
      try listen(folder.controlSocket, QEMUCommandLine.Descriptor.control)
      for (index, volume) in specification.volumes.enumerated() {
        pass(try volumes.open(volume, of: id.vnfc), QEMUCommandLine.Descriptor.volume(index))
      }
      for (index, network) in commandLine.networks.enumerated() where network.usesVhost {
        pass(
          try openFile(Self.vhost, .readWrite), QEMUCommandLine.Descriptor.vhost(index))
      }
    }
    for (index, port) in specification.ports.enumerated() {
      mappings.append(
        DescriptorMapping(
          source: .held(key: HeldTaps.key(id, port.id), .stored),
          target: QEMUCommandLine.Descriptor.tap(index)))
    }
    let result: SpawnResult
    do throws(HoldError) {
      result = try await hold.spawn(
        request(id, commandLine, mappings, record), descriptors: passed
      ).value()
    } catch {
      if case .refused(let refusal) = error, refusal.code == .exists { return false }
      throw HeldWorkloads.problem("cannot start \(configuration.program) for \(id)", error)
    }
    try HeldWorkloads.onHost("cannot note the process of \(id)") { () throws(SystemError) in
      try folder.write(result.process)
    }
    return true
  }

  /// The image's initramfs and the guest's documents, in memory that goes with QEMU.
  private func initramfs(
    _ image: MachineImage, _ documents: [UInt8]
  ) throws(SystemError) -> FileDescriptor {
    let file = try makeMemoryFile("initramfs")
    do throws(SystemError) {
      if let path = image.initramfsPath {
        let source = try openFile(path, .read)
        defer { try? source.close() }
        try copyAll(of: source, to: file)
        let length = Int(try fileSize(file).length)
        // Linux looks for the next archive at a multiple of four.
        try writeAll([UInt8](repeating: 0, count: (4 - length % 4) % 4), to: file)
      }
      try writeAll(documents, to: file)
      return file
    } catch {
      try? file.close()
      throw error
    }
  }

  private func request(
    _ id: WorkloadID, _ commandLine: QEMUCommandLine, _ mappings: [DescriptorMapping],
    _ record: RunFolder.Record
  ) -> SpawnRequest {
    let log = StandardStream.log(path: workloads.logPath(id), limit: configuration.logBytes)
    let user = record.users.hostStart
    let masks = masks
    return SpawnRequest(
      key: workloads.key(id), executable: configuration.program,
      arguments: commandLine.arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
      output: log, error: log, descriptors: mappings, cgroups: workloads.group(id).folders,
      mounts: masks + [.processes(target: "/proc")], unshare: [.network, .ipc, .uts, .pid],
      user: UserIdentity(
        uid: user, gid: user,
        groups: commandLine.accelerator == .kvm ? AcceleratorProbe.kvmGroups() ?? [] : []),
      // No memory of a guest in a core file.
      limits: [ResourceLimit(resource: 4, soft: 0, hard: 0)],
      noNewPrivileges: true,
      timeoutMilliseconds: UInt32(configuration.answerLimit.milliseconds),
      sharedMounts: UInt32(masks.count))
  }

  /// What holds others' things is empty for QEMU; what it needs beside its descriptors is its own
  /// program, libraries and firmware.
  private var masks: [MountOperation] {
    ["/boot", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/sys", "/tmp", "/var"]
      .filter { fileExists($0) && !configuration.program.hasPrefix($0 + "/") }
      .map { .tmpfs(target: $0, size: 4096, mode: 0o555, owner: nil) }
  }

  // MARK: The guest's start

  /// Whom a start waits for.
  private enum StartStage {
    case emulator, guest
    /// The guest is a unikernel.
    case configuration
  }

  private func awaitStart(
    of id: WorkloadID, _ image: MachineImage, _ stage: inout StartStage
  ) async throws(MachineError) {
    let machine = machines[id]
    // Connected before the guest is there: nothing that it says is missed.
    let control = image.isControlled ? try await machine.control() : nil
    _ = try await machine.qmp(timeout: configuration.answerLimit)
    stage = .guest
    try await control?.waitForStart(timeout: configuration.startLimit)
  }

  /// Says why a start has failed: a QEMU that ended, one that hangs, a guest that did not come so far.
  /// - Throws: unless nothing has failed: a guest without control channel has ended by itself.
  private func explain(
    _ error: MachineError, _ stage: StartStage, of id: WorkloadID, _ image: MachineImage
  ) async throws(NFVError) {
    switch (error, stage) {
    case (.closed, _):
      guard let status = await endStatus(of: id) else { break }
      if status == .exited(code: 1) {
        throw NFVError(
          .failed,
          "\(configuration.program) did not run \(id); see whether it is of version 7.2 or later "
            + "and knows the options named", cause: workloads.lastWords(of: id))
      }
      if !image.isControlled || hasTold(status, stage) { return }
      let reason =
        if case .exited = status {
          "the guest of \(id) ended\(machines[id].shutdownReason.map { " (\($0))" } ?? "") before "
            + "its function ran; look at its output: martlet logs"
        } else {
          "QEMU of \(id) ended before the guest's function ran: it "
            + "\(ExitSource.status(status, of: workloads.group(id)))"
        }
      throw NFVError(.failed, reason, cause: workloads.lastWords(of: id))
    case (.timedOut, .emulator):
      throw NFVError(
        .timeout,
        "QEMU of \(id) runs, but does not answer by QMP within \(configuration.answerLimit); see "
          + "whether the host is overloaded", cause: workloads.lastWords(of: id))
    case (.timedOut, .guest):
      throw NFVError(
        .timeout,
        "the guest of \(id) did not start its function within \(configuration.startLimit); look at "
          + "its output: martlet logs", cause: workloads.lastWords(of: id))
    case (.timedOut, .configuration):
      throw NFVError(
        .timeout,
        "the unikernel of \(id) did not boot and take its document within "
          + "\(configuration.unikernelLimit); look at its output: martlet logs",
        cause: workloads.lastWords(of: id))
    case (.refused(let words), .configuration):
      throw NFVError(.failed, "the unikernel of \(id) refuses its document", cause: words)
    case (.refused(let words), .guest):
      throw NFVError(.failed, "the guest of \(id) could not start its function", cause: words)
    case (.refused, .emulator), (.malformed, _): break
    }
    let whom =
      switch stage {
      case .emulator: "QEMU"
      case .guest: "the init of the guest"
      case .configuration: "the unikernel"
      }
    throw NFVError(.failed, "\(whom) of \(id) answers what makes no sense", cause: error)
  }

  /// Whether the guest's init has ended the machine with its function's status: it ran, and was over
  /// before anybody could hear of its start.
  private func hasTold(_ status: LinuxSystem.ExitStatus, _ stage: StartStage) -> Bool {
    if case .configuration = stage { return false }
    guard case .exited(let code) = status else { return false }
    return DebugExit(status: code) != nil
  }

  /// How QEMU has ended; nil where it goes on.
  private func endStatus(of id: WorkloadID) async -> LinuxSystem.ExitStatus? {
    guard let process = try? await hold.open(key: workloads.key(id))[.process] else { return nil }
    defer { try? process.close() }
    // Its sockets close before it is gone.
    guard (try? waitReadable(process, milliseconds: 2000)) == true else { return nil }
    return try? await hold.wait(key: workloads.key(id)).value()
  }
}
