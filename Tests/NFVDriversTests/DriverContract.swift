import NFVModel
import Testing

/// What every driver keeps, whatever runs under it: called by the tests of each with workloads that
/// it can run.
struct DriverContract {
  var driver: any WorkloadDriver
  /// A workload that runs until it is stopped.
  var endless: WorkloadSpecification
  /// A workload that ends by itself with status 3, where the driver reports exits; else nil.
  var ending: WorkloadSpecification?
  /// Plugs in what a driver's workloads need to be started.
  var plug: (WorkloadSpecification, AttachmentPoint) async throws -> Void = { _, _ in }

  func check() async throws {
    try await keepsIdempotence()
    try await deletesWhatWasOnlyPrepared()
    let capabilities = try #require(driver.capabilities[endless.technology])
    #expect(!capabilities.pauses || driver is any Pausing)
    #expect(!capabilities.hasConsole || driver is any ConsoleServing)
    #expect(!capabilities.configures || driver is any Configuring)
    #expect(!capabilities.keepsVolumes || driver is any VolumeKeeping)
    if capabilities.pauses, let pausing = driver as? any Pausing { try await pauses(pausing) }
    if let ending, capabilities.reportsExitStatus { try await tellsExit(of: ending) }
  }

  private func phase(of id: WorkloadID) async throws -> ObservedWorkload.Phase? {
    try await driver.observe().first { $0.id == id }?.phase
  }

  /// Every method may be called again; a workload is observed in each phase and then no more.
  private func keepsIdempotence() async throws {
    let id = endless.id
    try await driver.stop(id, grace: .zero)
    try await driver.delete(id)
    #expect(try await phase(of: id) == nil)
    for _ in 0..<2 { try await plug(endless, try await driver.prepare(endless)) }
    #expect(try await phase(of: id) == .prepared)
    _ = try await driver.attachmentPoint(of: id)
    for _ in 0..<2 { try await driver.start(endless) }
    #expect(try await phase(of: id) == .running)
    _ = try await driver.attachmentPoint(of: id)
    _ = try await driver.usage(of: id)
    for _ in 0..<2 { try await driver.stop(id, grace: .milliseconds(1)) }
    guard case .exited? = try await phase(of: id) else {
      Issue.record("a stopped workload is observed as exited until it is deleted")
      return
    }
    for _ in 0..<2 { try await driver.delete(id) }
    #expect(try await phase(of: id) == nil)
    await #expect(throws: NFVError.self) { _ = try await driver.attachmentPoint(of: id) }
  }

  private func deletesWhatWasOnlyPrepared() async throws {
    var specification = endless
    specification.id.incarnation += 1
    _ = try await driver.prepare(specification)
    try await driver.delete(specification.id)
    #expect(try await phase(of: specification.id) == nil)
  }

  /// What is paused runs, as far as its phase goes, until it goes on or is ended.
  private func pauses(_ driver: any Pausing) async throws {
    var specification = endless
    specification.id.incarnation += 2
    let id = specification.id
    await #expect(throws: NFVError.self) { try await driver.pause(id) }
    try await plug(specification, try await self.driver.prepare(specification))
    try await driver.start(specification)
    #expect(try await !driver.isPaused(id))
    for _ in 0..<2 { try await driver.pause(id) }
    #expect(try await driver.isPaused(id))
    #expect(try await phase(of: id) == .running)
    for _ in 0..<2 { try await driver.resume(id) }
    #expect(try await !driver.isPaused(id))
    try await driver.pause(id)
    try await driver.stop(id, grace: .milliseconds(1))
    guard case .exited? = try await phase(of: id) else {
      Issue.record("a paused workload is stopped as any other")
      return
    }
    try await driver.delete(id)
  }

  private func tellsExit(of specification: WorkloadSpecification) async throws {
    _ = try await driver.prepare(specification)
    try await driver.start(specification)
    for await exit in driver.exits where exit.id == specification.id {
      #expect(exit.status == .exited(code: 3))
      break
    }
    #expect(try await phase(of: specification.id) == .exited(.exited(code: 3)))
    try await driver.delete(specification.id)
  }
}
