import ControlProtocol
import LinuxSystem
public import NFVModel
import SystemPackage

/// A unikernel takes its documents by its console; the init of a tiny Linux hands them on.
extension QEMUDriver: Configuring {
  private static var limit: Duration { .seconds(10) }

  public func configure(_ specification: WorkloadSpecification) async throws(NFVError) {
    let id = specification.id
    guard try MachineImage(specification.image).isControlled else { return }
    // What reads its files anew when it is told finds them.
    for file in specification.files {
      _ = try await ask(.file(path: file.path, content: file.content), of: id)
    }
    _ = try await ask(.configure(document: specification.document), of: id)
    try HeldWorkloads.onHost("cannot note the document of \(id)") { () throws(SystemError) in
      try workloads.folder(id).write(generation: specification.generation)
    }
  }

  public func counters(of workload: WorkloadID) async throws(NFVError) -> [FunctionCounter] {
    // Of one that cannot be told anything none was noted.
    guard workloads.folder(workload).generation != nil else { return [] }
    guard case .functionCounters(let counters) = try await ask(.functionCounters, of: workload)
    else { return [] }
    return counters.map { FunctionCounter(name: $0.name, value: $0.value) }
  }

  private func ask(
    _ request: ControlRequest, of id: WorkloadID
  ) async throws(NFVError) -> ControlReply {
    guard workloads.folder(id).process != nil else {
      throw NFVError(.notFound, "there is no running machine \(id) on this host")
    }
    do throws(MachineError) {
      return try await machines[id].request(request, timeout: Self.limit)
    } catch {
      var isPaused = false
      if case .timedOut = error { isPaused = (try? await self.isPaused(id)) == true }
      throw error.problem(of: id, isPaused: isPaused)
    }
  }
}
