public import NFVModel
internal import Synchronization

extension SimulatedHost: NetworkDriver {
  public func check(_ request: NetworkRequest, of tenant: TenantID) async throws(NFVError) {}

  public func ensure(_ network: Network) async throws(NFVError) {
    state.withLock { $0.networks[network.id] = network }
  }

  public func remove(_ network: NetworkID, of tenant: TenantID) async throws(NFVError) {
    state.withLock { $0.networks[network] = nil }
  }

  public func attach(
    _ attachments: [Attachment], to point: AttachmentPoint, forwards: Bool, isActive: Bool
  ) async throws(NFVError) {
    try check(.attach)
    try state.withLock { state throws(NFVError) in
      for attachment in attachments where state.networks[attachment.port.network] == nil {
        throw NFVError(
          .failed, "the network \(attachment.port.network) of \(attachment.alias) is not there")
      }
      for attachment in attachments {
        state.links[attachment.workload, default: [:]][attachment.port.id] = isActive
      }
    }
  }

  public func attachWaiting(
    _ places: [PortID], of workload: WorkloadID, to point: AttachmentPoint
  ) async throws(NFVError) {}

  public func activate(_ attachments: [Attachment]) async throws(NFVError) {
    state.withLock { state in
      for attachment in attachments {
        state.links[attachment.workload]?[attachment.port.id] = true
      }
    }
  }

  public func release(_ attachments: [Attachment]) async throws(NFVError) {
    state.withLock { state in
      for attachment in attachments {
        state.links[attachment.workload]?[attachment.port.id] = nil
      }
    }
  }

  public func probe(
    _ check: NetworkCheck, of attachments: [Attachment], at point: AttachmentPoint,
    timeout: Duration
  ) async throws(NFVError) -> Bool {
    state.withLock { state in
      attachments.allSatisfy { state.workloads[$0.workload]?.phase == .running }
    }
  }

  public func counters(
    of attachments: [Attachment]
  ) async throws(NFVError) -> [PortID: PortCounters] {
    // As much as the workload works: a packet of 1,000 octets either way for each millisecond.
    state.withLock { state in
      Dictionary(
        uniqueKeysWithValues: attachments.map { attachment in
          let packets = state.workloads[attachment.workload].map { $0.readings * $0.load * 10 } ?? 0
          return (
            attachment.port.id,
            PortCounters(
              receivedPackets: packets, receivedBytes: packets * 1000, sentPackets: packets,
              sentBytes: packets * 1000)
          )
        })
    }
  }

  public func observe() async throws(NFVError) -> ObservedNetworks {
    state.withLock { state in
      ObservedNetworks(
        networks: state.networks.mapValues(\.tenant),
        links: state.links.flatMap { workload, ports in
          ports.map { .init(workload: workload, port: $0.key, isActive: $0.value) }
        })
    }
  }

  public func sweep(_ link: ObservedNetworks.Link) async throws(NFVError) {
    state.withLock { $0.links[link.workload]?[link.port] = nil }
  }
}
