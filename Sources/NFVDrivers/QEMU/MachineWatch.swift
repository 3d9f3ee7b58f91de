import HoldProtocol
import LinuxSystem
public import NFVModel
import SystemPackage

extension QEMUDriver: Watching {
  public func watch() async {
    while (try? await Task.sleep(for: configuration.watchInterval)) != nil {
      await withDiscardingTaskGroup { group in
        for (id, machine) in machines.started {
          group.addTask { await self.endWhereHung(id, machine) }
        }
      }
    }
  }

  /// Kills a QEMU that has not answered twice; whoever waits for its end hears that it hung.
  private func endWhereHung(_ id: WorkloadID, _ machine: Machine) async {
    // Frozen by somebody who will thaw it.
    guard !workloads.group(id).isFrozen else { return }
    for _ in 0..<2 {
      do throws(MachineError) {
        _ = try await machine.execute("query-status", timeout: configuration.answerLimit)
        return
      } catch {
        guard case .timedOut = error, !Task.isCancelled else { return }
      }
    }
    guard let held = try? await hold.open(key: workloads.key(id)) else { return }
    defer { for descriptor in held.values { try? descriptor.close() } }
    guard let process = held[.process] else { return }
    workloads.folder(id).note(ended: .hung)
    try? HeldWorkloads.send(.kill, to: process)
  }
}
