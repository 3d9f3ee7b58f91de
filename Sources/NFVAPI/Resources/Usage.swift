internal import HTTPTypes
internal import Hummingbird
internal import LinuxSystem
internal import NFVLifecycle
internal import NFVModel

/// What all components of VNFs use, in one answer: what `martlet top` and Prometheus read.
///
/// Counters, not rates: whoever reads twice divides by the difference of the two readings' times.
struct Usage: Sendable {
  let lifecycle: Lifecycle
  /// Where the host is asked: its calls block.
  let threads: BlockingExecutor

  /// A component that serves, and what it uses.
  struct Entry: Sendable {
    var vnfc: Vnfc
    var instanceName: String
    var technology: Technology
    var memoryLimit: UInt64
    var workload: WorkloadID
    var usage: WorkloadUsage
    var counters: [PortID: PortCounters]
  }

  /// What is asked of the host, in the order of the answer.
  private struct Subject: Sendable {
    var vnfc: Vnfc
    var instanceName: String
    var technology: Technology
    var memoryLimit: UInt64
    var workload: WorkloadID
  }

  func register(on routes: inout Routes) {
    var endpoint = Endpoint.get(
      "UsageOfAll", "Shows what the workloads of all Vnfcs use, or of one instance's.",
      hasTag: false)
    endpoint.parameters = [.init(name: "vnfInstanceId", description: "Only of this instance.")]
    routes.on(.get, "/martlet/v1/usage", endpoint, usage)
  }

  private func usage(_ call: Call, _ context: CallContext) async throws -> Reply {
    let instance = call.query("vnfInstanceId").map { VnfInstanceID($0) }
    let entries = try await read(of: context.tenant, instance: instance)
    let moment = monotonicMilliseconds()
    return .json {
      $0.object {
        $0.field("monotonicMilliseconds", moment)
        $0.objects("vnfcs", entries) { json, entry in
          json.field("vnfInstanceId", entry.vnfc.instance)
          json.field("vnfInstanceName", entry.instanceName)
          json.field("vnfcId", entry.vnfc.id)
          json.field("vduId", entry.vnfc.vdu)
          json.field("ordinal", entry.vnfc.ordinal)
          json.field("technology", entry.technology.rawValue)
          json.field("memoryLimitBytes", entry.memoryLimit)
          json.fields(of: entry.usage, of: entry.workload)
          json.ports(entry.vnfc.ports, entry.counters)
        }
      }
    }
  }

  /// Everything that serves, by the instances' names.
  /// - Parameters:
  ///   - tenant: nil is all of them.
  ///   - instance: nil is all of them.
  func read(
    of tenant: TenantID?, instance: VnfInstanceID? = nil
  ) async throws(NFVError) -> [Entry] {
    let subjects = try subjects(tenant, instance)
    let host = lifecycle.host
    let result: Result<[Entry], NFVError> = await withTaskExecutorPreference(threads) {
      do throws(NFVError) {
        let counters = try await host.network.counters(
          of: subjects.flatMap { subject in
            subject.vnfc.ports.map { Attachment(port: $0, workload: subject.workload) }
          })
        var entries: [Entry] = []
        for subject in subjects {
          // What has ended since uses nothing.
          guard let driver = host.driver(for: subject.technology),
            let usage = try? await driver.usage(of: subject.workload)
          else { continue }
          entries.append(
            Entry(
              vnfc: subject.vnfc, instanceName: subject.instanceName,
              technology: subject.technology, memoryLimit: subject.memoryLimit,
              workload: subject.workload, usage: usage, counters: counters))
        }
        return .success(entries)
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  private func subjects(
    _ tenant: TenantID?, _ wanted: VnfInstanceID?
  ) throws(NFVError) -> [Subject] {
    let subjects = try lifecycle.read { (state: borrowing State) throws(NFVError) in
      if let tenant, let wanted { _ = try state.instance(wanted, of: tenant) }
      var subjects: [Subject] = []
      for instance in state.instances.values
      where (tenant == nil || instance.tenant == tenant)
        && (wanted == nil || instance.id == wanted)
      {
        let descriptor = state.packages[instance.package]?.content?.descriptor
        for vnfc in state.vnfcs(of: instance.id) {
          guard let workload = state.serving(vnfc.id),
            let vdu = descriptor?.flavour(vnfc.flavour)?.vdu(vnfc.vdu)
          else { continue }
          subjects.append(
            Subject(
              vnfc: vnfc, instanceName: instance.name, technology: vdu.technology,
              memoryLimit: vdu.memoryBytes, workload: workload))
        }
      }
      return subjects
    }
    return subjects.sorted {
      ($0.instanceName, $0.vnfc.instance.rawValue, $0.vnfc.vdu, $0.vnfc.ordinal)
        < ($1.instanceName, $1.vnfc.instance.rawValue, $1.vnfc.vdu, $1.vnfc.ordinal)
    }
  }
}

extension JSONWriter {
  mutating func fields(of usage: WorkloadUsage, of workload: WorkloadID) {
    field("incarnation", workload.incarnation)
    field("workload", workload.name)
    field("cpuNanoseconds", usage.cpuNanoseconds)
    field("guestCpuNanoseconds", usage.guestCPUNanoseconds)
    field("memoryBytes", usage.memoryBytes)
    field("processes", usage.processes)
  }

  mutating func ports(_ ports: [Port], _ counters: [PortID: PortCounters]) {
    objects("ports", ports) { json, port in
      let counters = counters[port.id] ?? PortCounters()
      json.field("id", port.id)
      json.field("cpdId", port.cpd)
      json.field("interface", port.interface)
      json.field("receivedPackets", counters.receivedPackets)
      json.field("receivedBytes", counters.receivedBytes)
      json.field("sentPackets", counters.sentPackets)
      json.field("sentBytes", counters.sentBytes)
      json.field("dropped", counters.dropped)
    }
  }
}

extension PrometheusText {
  /// Up to five series for each component that serves, and five for each of its ports.
  mutating func usage(_ entries: [Usage.Entry]) {
    func labels(_ entry: Usage.Entry) -> [(String, String)] {
      [
        ("vnf", entry.instanceName), ("vnfc", entry.vnfc.id.rawValue), ("vdu", entry.vnfc.vdu),
        ("technology", entry.technology.rawValue),
      ]
    }
    func ports(_ value: (PortCounters) -> UInt64) {
      for entry in entries {
        for port in entry.vnfc.ports {
          let counters = entry.counters[port.id] ?? PortCounters()
          sample(Int(clamping: value(counters)), labels(entry) + [("port", port.cpd)])
        }
      }
    }
    family(
      "martlet_vnfc_cpu_seconds_total", "counter",
      "Processor time of the component's workload since its start.")
    for entry in entries { sample(nanoseconds: entry.usage.cpuNanoseconds, labels(entry)) }
    family(
      "martlet_vnfc_guest_cpu_seconds_total", "counter",
      "What the guest's processors took of that, of a virtual machine.")
    for entry in entries {
      if let time = entry.usage.guestCPUNanoseconds { sample(nanoseconds: time, labels(entry)) }
    }
    family(
      "martlet_vnfc_memory_bytes", "gauge",
      "Memory of the component's workload, without page cache that can be dropped.")
    for entry in entries { sample(Int(clamping: entry.usage.memoryBytes), labels(entry)) }
    family("martlet_vnfc_memory_limit_bytes", "gauge", "The most that it may have.")
    for entry in entries { sample(Int(clamping: entry.memoryLimit), labels(entry)) }
    family("martlet_vnfc_processes", "gauge", "Processes of the component's workload.")
    for entry in entries { sample(entry.usage.processes, labels(entry)) }
    for (name, help, value) in [
      (
        "received_packets", "Packets that the port gave to the component.",
        \PortCounters.receivedPackets
      ),
      ("received_bytes", "Octets that the port gave to the component.", \.receivedBytes),
      ("sent_packets", "Packets that the component sent by the port.", \.sentPackets),
      ("sent_bytes", "Octets that the component sent by the port.", \.sentBytes),
      ("dropped_packets", "Packets that the port dropped.", \.dropped),
    ] {
      family("martlet_vnfc_port_\(name)_total", "counter", help)
      ports { $0[keyPath: value] }
    }
  }

  /// What waits to be claimed.
  mutating func pools(_ pools: [WorkloadPool]) {
    func labels(_ pool: WorkloadPool) -> [(String, String)] {
      [
        ("tenant", pool.tenant.rawValue), ("technology", pool.technology.rawValue),
        ("image", pool.image.rawValue), ("ports", String(pool.ports)),
        ("memory_limit_bytes", String(pool.memoryLimit)),
      ]
    }
    family("martlet_pool_waiting", "gauge", "Workloads that wait, started, to be claimed.")
    for pool in pools { sample(pool.waiting, labels(pool)) }
    family("martlet_pool_memory_bytes", "gauge", "Memory of the workloads that wait.")
    for pool in pools { sample(Int(clamping: pool.memoryBytes), labels(pool)) }
  }
}
