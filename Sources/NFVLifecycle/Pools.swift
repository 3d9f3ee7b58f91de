import Logging
public import NFVModel

extension Lifecycle {
  /// The pools of workloads that wait on this host.
  public var pools: [WorkloadPool] {
    host.workloads.flatMap { ($0 as? any Pooling)?.pools ?? [] }
  }

  /// Ends what waits of images that no package has any more.
  public func drainPools(keeping images: Set<ImageDigest>) {
    drainPools { (_, image) in !images.contains(image) }
  }

  func drainPools(where isUnneeded: (TenantID, ImageDigest) -> Bool) {
    for case let driver as any Pooling in host.workloads {
      driver.drainPools(where: isUnneeded)
    }
  }

  /// What waited for an earlier daemon is swept; what it left running says what shall wait again.
  func refillPools(for workloads: [ObservedWorkload]) async {
    for workload in workloads where workload.phase == .running {
      guard let driver = driver(of: workload.id) as? any Pooling,
        let vdu = subject(of: workload.id)?.vdu, driver.pooledTechnologies.contains(vdu.technology),
        let specification = try? await run(workload.id).specification
      else { continue }
      driver.noteUse(specification)
    }
  }

  /// Fills a driver's pools, one workload after another, until the daemon ends; then empties them.
  /// What is still left is swept when the host is observed the next time.
  func keepPools(of driver: any Pooling) async {
    for await work in driver.poolWork {
      switch work {
      case .make(let specification):
        // The one that was claimed shall answer first: a guest's boot takes a processor.
        try? await Task.sleep(for: .milliseconds(50))
        await make(specification, by: driver)
      case .discard(let id): await discard(id, by: driver)
      }
    }
    for id in driver.closePools() { await discard(id, by: driver) }
  }

  private func make(_ specification: WorkloadSpecification, by driver: any Pooling) async {
    let id = specification.id
    do throws(NFVError) {
      try await driver.prepare(specification) { (point) async throws(NFVError) in
        try await host.network.attachWaiting(specification.ports.map(\.id), of: id, to: point)
      }
      try await driver.start(specification)
      driver.noteWaiting(specification)
    } catch {
      logger.warning(
        "A workload cannot be kept waiting; starts do without it",
        metadata: ["workload": "\(id)", "error": "\(error)"])
      await discard(id, by: driver)
    }
  }

  private func discard(_ id: WorkloadID, by driver: any Pooling) async {
    do throws(NFVError) {
      try await driver.delete(id)
    } catch {
      logger.warning(
        "What waited is not removed; the next start of the daemon does it",
        metadata: ["workload": "\(id)", "error": "\(error)"])
    }
  }
}
