import LinuxSystem
public import NFVModel

/// Pausing by the control group's freezer: who is stopped does not notice, and nothing in it can
/// prevent it.
extension ContainerDriver: Pausing {
  public func pause(_ workload: WorkloadID) async throws(NFVError) {
    try onGroup("cannot pause \(workload)", workload) { (group) throws(SystemError) in
      try group.freeze()
    }
  }

  public func resume(_ workload: WorkloadID) async throws(NFVError) {
    try onGroup("cannot continue \(workload)", workload) { (group) throws(SystemError) in
      try group.thaw()
    }
  }

  public func isPaused(_ workload: WorkloadID) async throws(NFVError) -> Bool {
    group(workload).isFrozen
  }

  private func onGroup(
    _ what: String, _ workload: WorkloadID, _ body: (Cgroup) throws(SystemError) -> Void
  ) throws(NFVError) {
    guard folder(workload).process != nil else {
      throw NFVError(.notFound, "there is no running container \(workload) on this host")
    }
    try HeldWorkloads.onHost(what) { () throws(SystemError) in try body(group(workload)) }
  }
}
