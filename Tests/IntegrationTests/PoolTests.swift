import FoundationEssentials
import Glibc
import LinuxSystem
import NFVBenchmark
import NFVClient
import TestSupport
import Testing

/// Unikernels that wait are claimed by starts, under a daemon that is killed at any moment.
@Suite(.needs(.root, .qemu), .serialized, .timeLimit(.minutes(5)))
struct PoolTests {
  private static let threads = BlockingExecutor(threads: 1, name: "martlet-test")

  private struct Info: Decodable {
    struct Pool: Decodable {
      var technology, image: String
      var ports, size, waiting, memoryBytes: Int
    }
    var pools: [Pool]
  }

  private struct Usage: Decodable {
    struct Port: Decodable { var receivedPacketsPerSecond: Double? }
    var technology: String
    var cpuPercent: Double?
    var memoryBytes: Int64
    var ports: [Port]
  }

  private func pools(_ platform: Platform) async throws -> [Info.Pool] {
    let client = Client(.unixSocket(platform.socket))
    defer { client.close() }
    let answer = try await client.send(HTTPRequest(.get, "/martlet/v1/info"))
    return try JSONDecoder().decode(Info.self, from: Data(answer.body)).pools
  }

  private func awaitWaiting(_ count: Int, _ platform: Platform) async throws {
    try await eventually("\(count) wait", within: .seconds(20), every: .milliseconds(20)) {
      try await pools(platform).map(\.waiting).reduce(0, +) == count
    }
  }

  @Test func aPoolIsClaimedAndSwept() async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform(options: ["--pool-size", "2"])
      defer { platform.cleanUp() }
      try await use(platform)
      let left = try await platform.end()
      #expect(left == [])
    }
  }

  private func use(_ platform: Platform) async throws {
    let package = try package(in: platform.state)
    try await platform.runResponder("u1", "network=lan,10.9.0.10", package: package)
    #expect(try platform.connects(to: 10))
    // From its control group the others' are known.
    #expect(try !platform.processes(of: platform.instance("u1").workloads[0]).isEmpty)
    try await awaitWaiting(2, platform)
    let pool = try #require(try await pools(platform).first)
    #expect(pool.technology == "unikernel" && pool.size == 2 && pool.ports == 2)
    #expect(pool.memoryBytes > 8 << 20 && pool.memoryBytes < 128 << 20)
    let client = Client(.unixSocket(platform.socket))
    let metrics = String(
      decoding: try await client.send(HTTPRequest(.get, "/metrics")).body, as: UTF8.self)
    client.close()
    #expect(try platform.martlet(["describe", "host"]).contains("Memory of pools:"))
    #expect(metrics.contains("martlet_pool_waiting{") && metrics.contains("martlet_pool_memory"))

    try await platform.runResponder("u2", "network=lan,10.9.0.11")
    #expect(try platform.connects(to: 11))
    try await awaitWaiting(2, platform)
    let claimed = try platform.instance("u2")
    #expect(try platform.martlet(["logs", "u2"]).contains("ready"))

    // The next daemon finds what was claimed by its own name; what waited is nobody's.
    platform.endDaemon(SIGKILL)
    #expect(try platform.connects(to: 11))
    try await platform.startDaemon()
    #expect(try platform.instance("u2").workloads == claimed.workloads)
    #expect(try platform.connects(to: 11))
    // By the name that it had while it waited, its output, figures and links are the member's.
    #expect(try platform.martlet(["logs", "u2"]).contains("ready"))
    let pings = try platform.join("lan", name: "mtest-pool", address: [10, 9, 0, 101])
    _ = try pings.run(
      "/bin/sh", ["-c", "ping -q -i 0.01 -c 300 -W 1 10.9.0.11 >/dev/null 2>&1 &"])
    let text = try platform.martlet(["top", "u2", "--once", "-o", "json"])
    let usage = try JSONDecoder().decode([Usage].self, from: Data(text.utf8))
    #expect(usage.count == 1 && usage.first?.technology == "unikernel", "\(text)")
    #expect((usage.first?.cpuPercent ?? 0) > 0 && (usage.first?.memoryBytes ?? 0) > 4 << 20)
    #expect((usage.first?.ports.first?.receivedPacketsPerSecond ?? 0) > 10, "\(text)")
    // What the benchmark measures by: resets of the function's, and of a host's.
    _ = try platform.join("lan", name: "mtest-other", address: [10, 9, 0, 102])
    for last: UInt8 in [11, 102] {
      let time = try pings.roundTrip(
        from: [10, 9, 0, 101], to: [10, 9, 0, last], port: 1, count: 100)
      #expect(time > 1 && time < 100_000)
    }
    #expect(throws: (any Error).self) {
      try pings.roundTrip(from: [10, 9, 0, 101], to: [10, 9, 0, 11], port: 7, count: 10)
    }
    // What runs says what waits again, beside nothing else.
    try await awaitWaiting(2, platform)
    try await eventually("what waited before is gone", within: .seconds(10)) {
      try platform.runningGroups() == 4
    }

    try platform.martlet(["vnf", "heal", "u1"])
    #expect(try platform.connects(to: 10))
    try await awaitWaiting(2, platform)
    try platform.martlet(["vnf", "heal", "u2"])
    let healed = try platform.instance("u2")
    #expect(healed.workloads != claimed.workloads && healed.addresses == claimed.addresses)
    #expect(try platform.connects(to: 11))

    // Killed while a start claims, and while pools are filled.
    for (index, pause) in [20, 40, 60, 90, 150].enumerated() {
      let last = UInt8(20 + index)
      try await awaitWaiting(2, platform)
      let (socket, name) = (platform.socket, "k\(index)")
      let command = Task.detached {
        _ = try? runProgram(
          Built.program("martlet"),
          arguments: [
            "martlet", "vnf", "run", "responder", "--name", name, "--connect",
            "network=lan,10.9.0.\(last)", "--socket", socket,
          ], timeout: .seconds(20))
      }
      usleep(useconds_t(pause * 1000))
      platform.endDaemon(SIGKILL)
      try await platform.startDaemon()
      await command.value
      // Where the request was lost with the daemon it is asked for again.
      if try platform.martlet(["get", "vnf", "-o", "name"]).contains("/\(name)\n"),
        try platform.instance(name).instantiationState == "NOT_INSTANTIATED"
      {
        _ = try? platform.martlet([
          "vnf", "instantiate", name, "--connect", "network=lan,10.9.0.\(last)",
        ])
      }
      guard try platform.martlet(["get", "vnf", "-o", "name"]).contains("/\(name)\n") else {
        try platform.martlet(["vnf", "heal", "u1"])
        continue
      }
      try await eventually("\(name) answers", within: .seconds(20)) {
        try platform.connects(to: last, within: .milliseconds(200))
      }
      try platform.martlet(["vnf", "heal", "u1"])
    }
    try await awaitWaiting(2, platform)
    #expect(try platform.connects(to: 10))
    #expect(try platform.connects(to: 11))
  }

  /// The responder as a unikernel, built of this checkout.
  private func package(in parent: String) throws -> String {
    let folder = parent + "/package"
    func write(_ name: String, _ text: String) throws {
      try FileManager.default.createDirectory(
        atPath: "\(folder)/\(name.split(separator: "/").dropLast().joined(separator: "/"))",
        withIntermediateDirectories: true)
      try replaceFile("\(folder)/\(name)", Array(text.utf8), mode: 0o644)
    }
    try write(
      "TOSCA-Metadata/TOSCA.meta",
      """
      TOSCA-Meta-File-Version: 1.0
      CSAR-Version: 1.1
      Created-by: Martlet
      Entry-Definitions: Definitions/responder.yaml
      ETSI-Entry-Manifest: responder.mf

      """)
    try write("responder.mf", "# Written anew by: martlet package build\n")
    try write("Files/responder.yaml", "name: responder\nfunction: responder\n")
    try write("Definitions/responder.yaml", Self.definition)
    let csar = parent + "/responder.csar"
    let result = try runProgram(
      Built.program("martlet"),
      arguments: [
        "martlet", "package", "build", folder, "-o", csar, "--source",
        "\(Built.project)/NetworkFunctions",
      ], timeout: .seconds(200))
    guard result.status == 0 else { throw Failed(String(decoding: result.output, as: UTF8.self)) }
    return csar
  }

  private static let definition = """
    tosca_definitions_version: tosca_simple_yaml_1_3
    imports:
      - etsi_nfv_sol001_common_types.yaml
      - etsi_nfv_sol001_vnfd_types.yaml
    node_types:
      org.martlet.tests.Responder:
        derived_from: tosca.nodes.nfv.VNF
    topology_template:
      substitution_mappings:
        node_type: org.martlet.tests.Responder
        requirements:
          network: [ network, virtual_link ]
      node_templates:
        VNF:
          type: org.martlet.tests.Responder
          properties:
            descriptor_id: responder
            provider: Martlet
            product_name: Responder
            software_version: '1.0'
            descriptor_version: '1.0'
            flavour_id: unikernel
            flavour_description: a unikernel
            vnfm_info: [ Martlet ]
        server:
          type: tosca.nodes.nfv.Vdu.Compute
          properties:
            name: server
            description: A server
            vdu_profile:
              min_number_of_instances: 1
              max_number_of_instances: 1
          capabilities:
            virtual_compute:
              properties:
                virtual_cpu:
                  num_virtual_cpu: 1
                virtual_memory:
                  virtual_mem_size: 4 MiB
                requested_additional_capabilities:
                  technology:
                    requested_additional_capability_name: org.martlet.technology
                    support_mandatory: true
                    target_performance_parameters:
                      technology: unikernel
          artifacts:
            image:
              type: tosca.artifacts.nfv.SwImage
              file: ../Files/responder.unikernel.tar
        network:
          type: tosca.nodes.nfv.VduCp
          properties:
            layer_protocols: [ ipv4 ]
            order: 0
          requirements:
            - virtual_binding: server
        # Which of its cards is which a machine that waits cannot know by their addresses.
        second:
          type: tosca.nodes.nfv.VduCp
          properties:
            layer_protocols: [ ipv4 ]
            order: 1
          requirements:
            - virtual_binding: server
            - virtual_link: inside
        inside:
          type: tosca.nodes.nfv.VnfVirtualLink
          properties:
            connectivity_type:
              layer_protocols: [ ipv4 ]
            vl_profile: {}

    """
}
