internal import FoundationEssentials
internal import Glibc
internal import NFVBenchmark
internal import NFVImages
internal import NFVModel
internal import NFVPackages

/// QEMU's and the platform's own part of a machine's start: from the request until the guest's first
/// instruction, by packages of a guest that writes one octet.
struct FirstInstruction: Sendable {
  let functions: Functions
  /// The daemon's folder of what its functions wrote.
  let logs: String

  static func name(_ machine: String) -> String { "first-\(machine)" }

  /// Writes the package of one of QEMU's machines and returns its path.
  static func package(_ machine: String, in folder: String) throws -> String {
    let name = name(machine)
    let project = "\(folder)/\(name)"
    for (path, text) in [
      ("TOSCA-Metadata/TOSCA.meta", meta(name)), ("Definitions/\(name).yaml", descriptor(name)),
    ] {
      let file = URL(filePath: "\(project)/\(path)")
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: file)
    }
    let archive = "\(folder)/\(name).csar"
    do throws(NFVError) {
      _ = try ImageBuilder.buildFirstInstruction(
        machine: machine, to: "\(project)/image.tar")
      try PackageProject(folder: project).build(to: archive) { _, _, _ in }
    } catch {
      throw Failure(error)
    }
    return archive
  }

  private static let limit: Duration = .seconds(20)

  /// Instantiates an onboarded package, waits for its guest's octet, and removes it again.
  /// - Returns: milliseconds.
  /// - Throws: a `Failure` where there is no such moment, as of a guest that was started twice; what
  ///   is left of the instance then, `giveUp` removes.
  func measure(_ machine: String) async throws -> Double {
    let daemon = functions.daemon
    let id = try await daemon.create(
      vnfdID: Self.name(machine), name: Self.name(machine), description: nil)["id"].text
    let start = ContinuousClock.now
    let operation = try await daemon.begin(
      "\(Kind.vnf.collection)/\(id)/instantiate", ["flavourId": "tinyx"])
    let first = try await functions.workload(Self.name(machine))
    var workload = first
    var asked = start
    var moment: Duration?
    while moment == nil, .now - start < Self.limit {
      // By the file: to ask the daemon all the time would keep a processor from QEMU.
      if Self.isWritten("\(logs)/\(workload).log") {
        moment = .now - start
      } else if .now - asked > .milliseconds(250) {
        // Each start has a name of its own: one that failed, and what waits for its image.
        workload = try await functions.workload(Self.name(machine))
        asked = .now
      } else {
        try await Task.sleep(for: .microseconds(200))
      }
    }
    _ = try await functions.ended(operation)
    try await functions.remove(id)
    guard let moment else {
      throw Failure(
        .timeout, "a guest on \(machine) executed nothing within \(span(Self.limit))")
    }
    guard workload == first else {
      throw Failure(.failed, "a guest on \(machine) was not started at once, or twice")
    }
    return moment.milliseconds
  }

  private static func isWritten(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_size > 0
  }

  private static func meta(_ name: String) -> String {
    """
    TOSCA-Meta-File-Version: 1.0
    CSAR-Version: 1.1
    Created-by: martlet bench
    Entry-Definitions: Definitions/\(name).yaml

    """
  }

  private static func descriptor(_ name: String) -> String {
    """
    tosca_definitions_version: tosca_simple_yaml_1_3
    imports: [ etsi_nfv_sol001_common_types.yaml, etsi_nfv_sol001_vnfd_types.yaml ]
    node_types:
      org.martlet.bench.First:
        derived_from: tosca.nodes.nfv.VNF
    topology_template:
      substitution_mappings:
        node_type: org.martlet.bench.First
      node_templates:
        VNF:
          type: org.martlet.bench.First
          properties:
            descriptor_id: \(name)
            provider: Martlet
            product_name: \(name)
            software_version: '1.0'
            descriptor_version: '1.0'
            flavour_id: tinyx
            flavour_description: A guest of one octet
            vnfm_info: [ Martlet ]
        guest:
          type: tosca.nodes.nfv.Vdu.Compute
          properties:
            name: guest
            description: Writes one octet
            vdu_profile:
              min_number_of_instances: 1
              max_number_of_instances: 1
          capabilities:
            virtual_compute:
              properties:
                virtual_cpu:
                  num_virtual_cpu: 1
                virtual_memory:
                  virtual_mem_size: 32 MiB
                requested_additional_capabilities:
                  technology:
                    requested_additional_capability_name: org.martlet.technology
                    support_mandatory: true
                    target_performance_parameters:
                      technology: tinyx
                  readiness:
                    requested_additional_capability_name: org.martlet.readiness
                    support_mandatory: true
                    target_performance_parameters:
                      check: running
          artifacts:
            image:
              type: tosca.artifacts.nfv.SwImage
              file: ../image.tar

    """
  }
}

extension Bench {
  private static let machineRounds = 20

  /// The first instructions of guests on each of QEMU's machines in turn; none where QEMU is not.
  func firstInstructions() async throws -> JSONValue {
    let daemon = functions.daemon
    let info = try await daemon.get("/martlet/v1/info")
    guard info["technologies"].elements.contains("tinyx") else { return .array([]) }
    let machines = ImageBuilder.firstInstructionMachines
    for machine in machines {
      let package = try FirstInstruction.package(machine, in: host.state)
      _ = try await daemon.onboarded(try await daemon.upload(package), .seconds(30))
    }
    let measured = FirstInstruction(functions: functions, logs: host.logs)
    let rounds = min(settings.count, Self.machineRounds)
    progress.expect(Double((rounds + 1) * machines.count) * BenchProgress.firstInstruction)
    var all: [String: [Double]] = [:]
    for round in 0...rounds {
      for machine in machines {
        progress.began("first instructions: \(machine)")
        do {
          let time = try await measured.measure(machine)
          // The first one has its image unpacked.
          if round > 0 { all[machine, default: []].append(time) }
        } catch let failure as Failure where !Task.isCancelled {
          if round > 0 {
            Console.current.note("a first instruction is left out: \(failure.message)")
          }
          let names = try await daemon.list(.vnf).map { Kind.vnf.name(of: $0) }
          if names.contains(FirstInstruction.name(machine)) {
            try await functions.giveUp(FirstInstruction.name(machine))
          }
        }
        progress.did(BenchProgress.firstInstruction)
      }
    }
    progress.end()
    let accelerator = info["accelerators", "tinyx"].string ?? "none"
    return .array(
      machines.map { machine in
        let times = all[machine] ?? []
        return [
          "machine": .string(machine), "accelerator": .string(accelerator),
          "count": .integer(Int64(times.count)), "ms": Distribution(times).json,
        ]
      })
  }
}
