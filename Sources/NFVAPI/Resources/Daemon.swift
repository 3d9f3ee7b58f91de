internal import HTTPTypes
internal import Hummingbird
internal import NFVLifecycle
internal import NFVModel
internal import NIOCore

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

/// What the daemon says about itself.
struct Daemon: Sendable {
  let lifecycle: Lifecycle
  let traffic: Traffic
  let operations: OperationCounts
  let usage: Usage
  let version: String

  func register(on routes: inout Routes) {
    routes.on(
      .get, "/livez", .content(["text/plain"], "Says that the daemon lives.")
    ) { _, _ in .text("ok\n") }
    routes.on(
      .get, "/readyz", .content(["text/plain"], "Says whether requests are carried out.")
    ) { _, _ in
      guard lifecycle.isReady else {
        throw Problem(
          .serviceUnavailable, "the host is being observed; nothing is carried out until then")
      }
      return .text("ready\n")
    }
    routes.on(
      .get, "/metrics", .content(["text/plain"], "Gives counters, as Prometheus reads them.")
    ) { _, _ in
      .text(try await metrics(), contentType: "text/plain; version=0.0.4; charset=utf-8")
    }
    routes.on(
      .get, "/martlet/v1/info", .get("Info", "Shows what this daemon is.", hasTag: false)
    ) { _, _ in try await info() }
    let document = routes.document
    routes.on(
      .get, "/martlet/v1/openapi.json",
      .get("AnyObject", "Gives this document (OpenAPI 3.0).", hasTag: false)
    ) { _, _ in
      Reply(
        status: .ok, headers: [.contentType: "application/json"],
        body: ResponseBody(byteBuffer: ByteBuffer(bytes: document)))
    }
    for interface in StandardInterface.all {
      let name = interface.name
      for path in ["/\(name)/api_versions", "/\(name)/v2/api_versions"] {
        routes.on(
          .get, RouterPath(path),
          .get("ApiVersionInformation", "Shows the interface's versions.", hasTag: false)
        ) { _, _ in
          .json {
            $0.object {
              $0.field("uriPrefix", "/\(name)/v2")
              $0.objects("apiVersions", CollectionOfOne(interface.version)) {
                $0.field("version", $1)
                $0.field("isDeprecated", false)
              }
            }
          }
        }
      }
    }
  }

  private func info() async throws -> Reply {
    let pools = await readPools()
    let store = try lifecycle.read { (state: borrowing State) throws(NFVError) in state.store }
    let technologies = lifecycle.host.workloads.flatMap(\.capabilities.keys)
    return .json {
      $0.object {
        $0.field("version", version)
        $0.field("storeId", store)
        $0.field("hostId", HostID.local)
        $0.field("processId", getpid())
        $0.array("technologies") {
          for technology in Set(technologies.map(\.rawValue)).sorted() { $0.value(technology) }
        }
        $0.object("accelerators") {
          for technology in Set(technologies).sorted(by: { $0.rawValue < $1.rawValue }) {
            $0.field(technology.rawValue, lifecycle.host.driver(for: technology)?.accelerator)
          }
        }
        $0.objects("pools", pools) { json, pool in
          json.field("tenant", pool.tenant)
          json.field("technology", pool.technology.rawValue)
          json.field("image", pool.image)
          json.field("ports", pool.ports)
          json.field("memoryLimitBytes", pool.memoryLimit)
          json.field("size", pool.size)
          json.field("waiting", pool.waiting)
          json.field("memoryBytes", pool.memoryBytes)
        }
      }
    }
  }

  /// The pools, asked where calls of the host block.
  private func readPools() async -> [WorkloadPool] {
    await withTaskExecutorPreference(usage.threads) { lifecycle.pools }
  }

  // MARK: Metrics

  /// What the state holds, counted.
  private struct Counts: Sendable {
    var packages: [String: Int] = [:]
    var instances: [String: Int] = [:]
    var operations: [String: Int] = [:]
    var vnfcs = 0
    var serving = 0
    var networks = 0
  }

  private func metrics() async throws(NFVError) -> String {
    let counts = try lifecycle.read { (state: borrowing State) throws(NFVError) -> Counts in
      var counts = Counts()
      for package in state.packages.values {
        counts.packages[package.onboarding.rawValue, default: 0] += 1
      }
      for instance in state.instances.values {
        counts.instances[instance.instantiationState, default: 0] += 1
      }
      for operation in state.openOperations.values {
        counts.operations[operation.state.rawValue, default: 0] += 1
      }
      counts.vnfcs = state.vnfcs.count
      counts.serving = state.vnfcs.keys.count { state.serving($0) != nil }
      counts.networks = state.networks.count
      return counts
    }
    var text = PrometheusText()
    text.family("martlet_vnf_packages", "gauge", "VNF packages by onboarding state.")
    text.samples(counts.packages, label: "onboarding_state")
    text.family("martlet_vnf_instances", "gauge", "VNF instances by instantiation state.")
    text.samples(counts.instances, label: "instantiation_state")
    text.family("martlet_open_operations", "gauge", "Lifecycle operations that have not ended.")
    text.samples(counts.operations, label: "operation_state")
    text.family("martlet_vnfcs", "gauge", "Components of VNF instances.")
    text.sample(counts.vnfcs)
    text.family("martlet_vnfcs_running", "gauge", "Components with a workload that serves.")
    text.sample(counts.serving)
    text.family("martlet_networks", "gauge", "Networks.")
    text.sample(counts.networks)
    text.family(
      "martlet_operations_total", "counter",
      "Lifecycle operations that ended since the daemon's start.")
    for (key, count) in operations.ended.sorted(by: { $0.key < $1.key }) {
      text.sample(
        count,
        [
          ("operation", key.operation), ("state", key.state),
          ("automatic", String(key.isAutomatic)),
        ])
    }
    text.family(
      "martlet_workload_failures_total", "counter",
      "Workloads that ended by themselves since the daemon's start.")
    text.sample(operations.failures)
    text.family("martlet_http_responses_total", "counter", "Answers of the API by status.")
    for (status, count) in traffic.answers.sorted(by: { $0.key < $1.key }) {
      text.sample(count, [("code", String(status))])
    }
    text.usage(try await usage.read(of: nil))
    text.pools(await readPools())
    if let resident = Self.residentBytes() {
      text.family(
        "process_resident_memory_bytes", "gauge", "The daemon's resident memory in octets.")
      text.sample(resident)
    }
    return text.text
  }

  /// proc_pid_statm(5): the second number, in pages.
  private static func residentBytes() -> Int? {
    guard let file = fopen("/proc/self/statm", "r") else { return nil }
    defer { fclose(file) }
    var buffer = [CChar](repeating: 0, count: 128)
    guard fgets(&buffer, Int32(buffer.count), file) != nil else { return nil }
    let text = String(
      decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let numbers = text.split(separator: " ")
    guard numbers.count > 1, let pages = Int(numbers[1]) else { return nil }
    return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
  }
}

/// Prometheus' text format 0.0.4.
struct PrometheusText {
  private(set) var text = ""
  private var name = ""

  mutating func family(_ name: String, _ type: String, _ help: String) {
    self.name = name
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
  }

  mutating func sample(_ value: Int, _ labels: [(String, String)] = []) {
    sample(String(value), labels)
  }

  private mutating func sample(_ value: String, _ labels: [(String, String)]) {
    let joined = labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
    text += joined.isEmpty ? "\(name) \(value)\n" : "\(name){\(joined)} \(value)\n"
  }

  /// A time in seconds.
  mutating func sample(nanoseconds: UInt64, _ labels: [(String, String)]) {
    let fraction = String(nanoseconds % 1_000_000_000)
    let zeros = String(repeating: "0", count: 9 - fraction.utf8.count)
    sample("\(nanoseconds / 1_000_000_000).\(zeros)\(fraction)", labels)
  }

  mutating func samples(_ values: [String: Int], label: String) {
    for (key, value) in values.sorted(by: { $0.key < $1.key }) { sample(value, [(label, key)]) }
  }

  private static func escaped(_ text: String) -> String {
    text.reduce(into: "") { escaped, character in
      switch character {
      case "\\": escaped += "\\\\"
      case "\"": escaped += "\\\""
      case "\n": escaped += "\\n"
      default: escaped.append(character)
      }
    }
  }
}
