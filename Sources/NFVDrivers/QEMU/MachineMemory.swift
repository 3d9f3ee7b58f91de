import HoldProtocol
import LinuxSystem
import NFVModel

/// What a machine may come to take of the host's memory: its guest may use all that it was given, and
/// unlike a program it gives nothing back.
struct MachineMemory: Sendable, Hashable {
  var guestBytes: UInt64
  /// Of QEMU itself; less than its limit, which leaves room for what is rare.
  var emulatorBytes: UInt64

  var bytes: UInt64 { guestBytes + emulatorBytes }

  /// - Parameter accelerator: nil where it is not known yet: as under TCG, which takes more.
  init(
    of specification: WorkloadSpecification, _ image: MachineImage, under accelerator: Accelerator?
  ) {
    guestBytes = UInt64(Self.mebibytes(of: specification)) << 20
    let translation = QEMUCommandLine.translationMiB(isUnikernel: image.technology == .unikernel)
    emulatorBytes = UInt64(12 + (accelerator == .kvm ? 0 : translation)) << 20
  }

  /// Of the guest. QEMU gives whole ones: what a descriptor calls 4 MB are 3.8 of them, and 4 here.
  static func mebibytes(of specification: WorkloadSpecification) -> Int {
    Int((specification.memoryBytes + (1 << 20) - 1) >> 20)
  }

  /// What the host has, in bytes (`MemTotal` of /proc/meminfo); nil where that is not told.
  static let host: UInt64? = {
    let text = String(
      decoding: (try? readFile("/proc/meminfo", limit: 4096)) ?? [], as: UTF8.self)
    let words = text.split(separator: "\n").first?.split(separator: " ") ?? []
    return words.count > 1 ? UInt64(words[1]).map { $0 << 10 } : nil
  }()
}

/// What of the host is promised to machines: users and memory. Each machine's folder has it as well,
/// for the next daemon.
struct MachinePromises: Sendable {
  var users: UserRanges
  /// In bytes.
  private var memory: [WorkloadID: UInt64] = [:]

  init(store: StoreID, workloads: HeldWorkloads) throws(NFVError) {
    let records = try workloads.records()
    users = .machines(store: store, used: records)
    for record in records { memory[record.id] = workloads.folder(record.id).memory }
  }

  /// Promises a machine its memory.
  ///
  /// Its predecessor's is not counted, which goes when it runs: a heal must not fail for want of memory
  /// that it gives back.
  /// - Throws: `exhausted` where the host's does not do for it beside those that are there.
  mutating func take(_ wanted: MachineMemory, for id: WorkloadID, of host: UInt64?) throws(NFVError)
  {
    guard fits(wanted, for: id, of: host) else {
      let others = memory.filter { $0.key.vnfc != id.vnfc }.values
      let (taken, host) = (others.reduce(0, +), host ?? 0)
      let what =
        "\(id) wants \(wanted.guestBytes >> 20) MiB of memory and its QEMU "
        + "\(wanted.emulatorBytes >> 20) MiB beside it; this host has \(host >> 20) MiB"
      let advice =
        others.isEmpty
        ? " altogether: give the VDU less memory"
        : ", of which \(others.count) other machines may take \(taken >> 20) MiB: give the VDU less "
          + "memory, or terminate VNFs or scale them in"
      throw NFVError(.exhausted, what + advice)
    }
    memory[id] = wanted.bytes
  }

  /// Whether the host has a machine's memory beside that of the others.
  /// - Parameter waiting: machines whose memory is not counted.
  func fits(
    _ wanted: MachineMemory, for id: WorkloadID, of host: UInt64?,
    without waiting: Set<WorkloadID> = []
  ) -> Bool {
    guard let host else { return true }
    let others = memory.filter { $0.key.vnfc != id.vnfc && !waiting.contains($0.key) }.values
    let (sum, isTooMuch) = others.reduce(0, +).addingReportingOverflow(wanted.bytes)
    return !isTooMuch && sum <= host
  }

  /// One that waited is another's from now on.
  mutating func rename(_ old: WorkloadID, to id: WorkloadID) {
    memory[id] = memory.removeValue(forKey: old)
  }

  mutating func giveBack(_ id: WorkloadID, _ user: UserRange?) {
    memory[id] = nil
    if let user { users.giveBack(user) }
  }
}

extension RunFolder {
  /// What its machine may come to take of the host's memory, in bytes; nil where nobody noted it.
  var memory: UInt64? {
    (try? readFile(path + "/memory", limit: 64))
      .flatMap { UInt64(String(decoding: $0, as: UTF8.self)) }
  }

  func write(memory: MachineMemory) throws(SystemError) {
    try Mount.makeDirectory(path, mode: 0o711)
    try replaceFile(path + "/memory", Array("\(memory.bytes)".utf8), mode: 0o600)
  }
}
