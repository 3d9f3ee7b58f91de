import LinuxSystem
public import NFVModel
import SystemPackage

/// The block devices of machines: one sparse file each, in a folder per Vnfc. Only QEMU reads and
/// writes them, by descriptors; the host never looks into one.
struct Volumes: Sendable {
  /// In a file system that outlives the host's boot.
  let folder: String

  private func folder(of vnfc: VnfcID) -> String { "\(folder)/\(vnfc.rawValue)" }

  private func path(_ volume: WorkloadSpecification.Volume, of vnfc: VnfcID) -> String {
    "\(folder(of: vnfc))/\(HostName.derived(from: volume.id))"
  }

  /// Makes what is missing. One that has grown in the descriptor grows; none shrinks.
  func make(_ volumes: [WorkloadSpecification.Volume], of vnfc: VnfcID) throws(SystemError) {
    guard !volumes.isEmpty else { return }
    for path in [folder, folder(of: vnfc)] { try Mount.makeDirectory(path, mode: 0o700) }
    for volume in volumes {
      // Whole sectors.
      try makeSparseFile(
        path(volume, of: vnfc), length: (max(volume.sizeBytes, 1) + 511) / 512 * 512)
    }
  }

  func open(
    _ volume: WorkloadSpecification.Volume, of vnfc: VnfcID
  ) throws(SystemError) -> FileDescriptor {
    try openFile(path(volume, of: vnfc), .readWrite)
  }

  func vnfcs() throws(SystemError) -> Set<VnfcID> {
    fileExists(folder) ? Set(try listFolder(folder).map { VnfcID($0) }) : []
  }

  func remove(of vnfc: VnfcID) throws(SystemError) {
    guard fileExists(folder(of: vnfc)) else { return }
    try RunFolder.remove(vnfc.rawValue, in: folder)
  }
}

extension QEMUDriver: VolumeKeeping {
  public func vnfcsWithVolumes() async throws(NFVError) -> Set<VnfcID> {
    try HeldWorkloads.onHost("cannot list the volumes in \(volumes.folder)") {
      () throws(SystemError) in try volumes.vnfcs()
    }
  }

  public func removeVolumes(of vnfc: VnfcID) async throws(NFVError) {
    try HeldWorkloads.onHost("cannot remove the volumes of \(vnfc)") { () throws(SystemError) in
      try volumes.remove(of: vnfc)
    }
  }
}
