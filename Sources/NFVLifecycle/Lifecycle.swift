public import NFVModel

/// The drivers and stores that a lifecycle works with; wired by the composition root only.
public struct Host: Sendable {
  public var workloads: [any WorkloadDriver]
  public var network: any NetworkDriver
  public var images: any ImageStore

  public init(
    workloads: [any WorkloadDriver], network: any NetworkDriver, images: any ImageStore
  ) {
    self.workloads = workloads
    self.network = network
    self.images = images
  }
}
