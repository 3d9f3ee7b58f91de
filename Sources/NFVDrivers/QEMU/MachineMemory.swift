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
    guestBytes = specification.memoryBytes
    let translation = QEMUCommandLine.translationMiB(isUnikernel: image.technology == .unikernel)
    emulatorBytes = UInt64(12 + (accelerator == .kvm ? 0 : translation)) << 20
  }

  /// What the host has, in bytes (`MemTotal` of /proc/meminfo); nil where that is not told.
  static let host: UInt64? = {
    let text = String(
      decoding: (try? readFile("/proc/meminfo", limit: 4096)) ?? [], as: UTF8.self)
    let words = text.split(separator: "\n").first?.split(separator: " ") ?? []
    return words.count > 1 ? UInt64(words[1]).map { $0 << 10 } : nil
  }()
}

extension QEMUDriver {
  /// Refuses a machine that the host's memory does not do for beside those that are there.
  ///
  /// Its predecessor is not counted, which goes when it runs: a heal must not fail for want of memory
  /// that it gives back.
  func checkMemory(of id: WorkloadID, _ wanted: MachineMemory) throws(NFVError) {
    guard let host = configuration.hostMemory else { return }
    let others = try workloads.records().filter { $0.id.vnfc != id.vnfc }
      .compactMap { workloads.folder($0.id).memory }
    let taken = others.reduce(0) { $0 + $1 }
    let (sum, isTooMuch) = taken.addingReportingOverflow(wanted.bytes)
    guard isTooMuch || sum > host else { return }
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
