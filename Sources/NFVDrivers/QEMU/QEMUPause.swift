public import NFVModel

/// Pausing by QEMU: the guest's processors and clocks stand still.
extension QEMUDriver: Pausing {
  public func pause(_ workload: WorkloadID) async throws(NFVError) {
    _ = try await ask("stop", workload, "cannot pause \(workload)")
  }

  public func resume(_ workload: WorkloadID) async throws(NFVError) {
    _ = try await ask("cont", workload, "cannot continue \(workload)")
  }

  public func isPaused(_ workload: WorkloadID) async throws(NFVError) -> Bool {
    let answer = try await ask("query-status", workload, "cannot ask for the state of \(workload)")
    guard case .object(let members) = answer else { return false }
    return members["status"] == .string("paused")
  }

  func ask(
    _ command: String, _ workload: WorkloadID, _ what: String
  ) async throws(NFVError) -> JSONValue {
    guard workloads.folder(workload).process != nil else {
      throw NFVError(.notFound, "there is no running machine \(workload) on this host")
    }
    do throws(MachineError) {
      return try await machines[workload].execute(command, timeout: .seconds(5))
    } catch {
      if case .timedOut = error {
        throw NFVError(.timeout, "\(what): its QEMU does not answer by QMP", cause: error)
      }
      throw NFVError(.failed, what, cause: error)
    }
  }
}
