import Archive
import FoundationEssentials
import NFVModel
import NFVPackages
import TestSupport
import Testing

/// A package as SOL001 2.6.1 and SOL004's second form have it: manifest in the root, a top template
/// and one template a flavour.
@Suite struct DescriptorBreadthTests {
  static let top = """
    tosca_definitions_version: tosca_simple_yaml_1_2
    imports:
      - https://forge.etsi.org/rep/nfv/SOL001/raw/v2.6.1/etsi_nfv_sol001_vnfd_types.yaml
      - definitions/types.yaml
      - flavours/small.yaml
      - flavours/large.yaml
    topology_template:
      inputs:
        selected_flavour: { type: string }
      node_templates:
        VNF:
          type: org.example.Router
          properties:
            flavour_id: { get_input: selected_flavour }
            provider: Example
            product_name: Router
            software_version: '2'
            descriptor_version: '3'
            vnfm_info: [ any ]

    """

  static let types = """
    tosca_definitions_version: tosca_simple_yaml_1_2
    node_types:
      org.example.Router:
        derived_from: tosca.nodes.nfv.VNF
        properties:
          descriptor_id: { type: string, default: router-1 }
          flavour_id: { type: string, default: small }
      org.example.Worker:
        derived_from: tosca.nodes.nfv.Vdu.Compute

    """

  static let small = """
    tosca_definitions_version: tosca_simple_yaml_1_2
    topology_template:
      substitution_mappings:
        node_type: org.example.Router
        properties: { flavour_id: small }
        requirements:
          - virtual_link_external: [ wan, virtual_link ]
          - virtual_link_service: [ service, virtual_link ]
      node_templates:
        VNF:
          type: org.example.Router
          properties: { flavour_description: small one }
        worker:
          type: org.example.Worker
          properties:
            name: worker
            vdu_profile: { min_number_of_instances: 1, max_number_of_instances: 3 }
            sw_image_data: { container_format: docker }
          artifacts:
            image: { type: tosca.artifacts.nfv.SwImage, file: ../images/worker.tar }
          capabilities:
            virtual_compute:
              properties:
                virtual_memory: { virtual_mem_size: 128 MiB }
                virtual_cpu: { num_virtual_cpu: 2 }
                requested_additional_capabilities:
                  readiness:
                    requested_additional_capability_name: org.martlet.readiness
                    support_mandatory: true
                    target_performance_parameters: { check: icmp, interval_ms: '10' }
          requirements:
            - virtual_storage: disk
        kernel:
          type: org.example.Worker
          properties:
            name: kernel
            vdu_profile: { min_number_of_instances: 1, max_number_of_instances: 1 }
          capabilities:
            virtual_compute:
              properties:
                virtual_memory: { virtual_mem_size: 8 MiB }
                virtual_cpu: { num_virtual_cpu: 1 }
                requested_additional_capabilities:
                  technology:
                    requested_additional_capability_name: org.martlet.technology
                    support_mandatory: true
                    target_performance_parameters: { technology: unikernel }
        disk:
          type: tosca.nodes.nfv.Vdu.VirtualBlockStorage
          properties:
            virtual_block_storage_data: { size_of_storage: 10 MB }
        wan:
          type: tosca.nodes.nfv.VduCp
          properties: { layer_protocols: [ ipv4 ], order: 1 }
          requirements: [ { virtual_binding: worker } ]
        inside:
          type: tosca.nodes.nfv.VduCp
          properties: { layer_protocols: [ ipv4 ], order: 0 }
          requirements: [ { virtual_binding: worker }, { virtual_link: backplane } ]
        kernel_port:
          type: tosca.nodes.nfv.VduCp
          properties: { layer_protocols: [ ipv4 ], order: 0 }
          requirements: [ { virtual_binding: { node: kernel } }, { virtual_link: backplane } ]
        service:
          type: tosca.nodes.nfv.VirtualCp
          properties: { layer_protocols: [ ipv4 ] }
          requirements: [ { target: worker } ]
        shared:
          type: tosca.nodes.nfv.VirtualCp
          properties: { layer_protocols: [ ipv4 ] }
          requirements: [ { target: worker }, { virtual_link: backplane } ]
        management:
          type: tosca.nodes.nfv.VnfExtCp
          properties: { layer_protocols: [ ipv4 ] }
          requirements: [ { internal_virtual_link: backplane } ]
        backplane:
          type: tosca.nodes.nfv.VnfVirtualLink
          properties:
            vl_profile:
              virtual_link_protocol_data:
                - associated_layer_protocol: ipv4
                  l2_protocol_data: { mtu: 1400 }
                  l3_protocol_data: { cidr: 10.9.8.7/24, ip_version: ipv4 }
      policies:
        - aspects:
            type: tosca.policies.nfv.ScalingAspects
            properties:
              aspects:
                workers:
                  name: workers
                  max_scale_level: 2
                  step_deltas: [ first, further ]
        - initial:
            type: tosca.policies.nfv.VduInitialDelta
            properties: { initial_delta: { number_of_instances: 1 } }
            targets: [ worker ]
        - deltas:
            type: tosca.policies.nfv.VduScalingAspectDeltas
            properties:
              aspect: workers
              deltas:
                further: { number_of_instances: 2 }
                first: { number_of_instances: 1 }
            targets: [ worker ]
        - apart:
            type: tosca.policies.nfv.AntiAffinityRule
            properties: { scope: nfvi_node }
            targets: [ worker ]
        - levels:
            type: tosca.policies.nfv.InstantiationLevels
            properties:
              levels:
                low: { scale_info: { workers: { scale_level: 0 } } }
                high: { scale_info: { workers: { scale_level: 2 } } }
              default_level: low

    """

  /// The large flavour is the small one under another name, so that both expose the same points.
  static let large = small.replacing("flavour_id: small", with: "flavour_id: large")

  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func read(
    top: String = Self.top, small: String = Self.small, large: String = Self.large,
    types: String = Self.types
  ) throws -> ReadPackage {
    let path = "\(folder.path)/router.csar"
    let writer = try ArchiveWriter(path: path, format: .zip)
    // SHA-512 of "image", as sha512sum(1) gives it.
    let manifest = """
      metadata:
        vnf_product_name: Router

      Source: images/worker.tar
      Algorithm: SHA-512
      Hash: \(Self.imageHash)

      """
    for (name, text) in [
      ("router.yaml", top), ("router.mf", manifest), ("definitions/types.yaml", types),
      ("flavours/small.yaml", small), ("flavours/large.yaml", large),
      ("images/worker.tar", "image"),
    ] {
      try writer.add(file: name, content: Array(text.utf8))
    }
    try writer.finish()
    return try PackageReader.read(try PackageFiles(archive: path))
  }

  private func refusal(
    small: String = Self.small, large: String = Self.large, types: String = Self.types
  ) throws -> [PackageDiagnostic] {
    do {
      _ = try read(small: small, large: large, types: types)
      return []
    } catch let error as PackageError {
      return error.diagnostics.filter { $0.severity == .error }
    }
  }

  static let imageHash =
    "eb31d04da633dc9f49dfbd66cdb92fbb9b4f9c9be67914c0209b5dd31cc65a13"
    + "6e1cdce7d0db88112e3a759131b9d970cfaac7ee77ccd620c3dd49043f88958e"

  /// ETSI's own types are built in under every name that they have been published by.
  @Test(arguments: [
    "etsi_nfv_sol001_vnfd_types.yaml",
    "https://forge.etsi.org/rep/nfv/SOL001/raw/v4.4.1/etsi_nfv_sol001_vnfd_types.yaml",
    "https://forge.etsi.org/rep/nfv/SOL001/raw/v4.4.1/etsi_nfv_sol001_common_types.yaml",
  ])
  func typesOfBothVersionsAreKnown(name: String) throws {
    let old = "https://forge.etsi.org/rep/nfv/SOL001/raw/v2.6.1/etsi_nfv_sol001_vnfd_types.yaml"
    #expect(Self.top.contains(old))
    let package = try read(top: Self.top.replacing(old, with: name))
    #expect(package.descriptor == (try read().descriptor))
  }

  @Test func filesWithoutAHashAreTold() throws {
    let warnings = try read().diagnostics.filter { $0.message.contains("no manifest lists") }
    #expect(warnings.map(\.severity) == [.warning])
    #expect(warnings.first?.message.contains("and 3 more") == true, "\(warnings)")
  }

  @Test func everythingIsRead() throws {
    let package = try read()
    let descriptor = package.descriptor
    #expect(descriptor.id == "router-1")
    #expect(descriptor.flavours.map(\.id) == ["small", "large"])
    let flavour = descriptor.flavours[0]
    #expect(flavour.description == "small one")
    let worker = try #require(flavour.vdu("worker"))
    #expect(worker.technology == .container)
    #expect(worker.imagePath == "images/worker.tar")
    #expect(worker.cpuMillicores == 2000)
    #expect(worker.memoryBytes == 128 << 20)
    #expect(worker.storages == [.init(id: "disk", sizeBytes: 10_000_000)])
    #expect(worker.cpds.map(\.id) == ["inside", "wan"])
    #expect(worker.cpds.map(\.virtualLink) == ["backplane", nil])
    #expect(worker.readiness.check == .network(.icmp))
    #expect(worker.readiness.intervalMilliseconds == 10)
    #expect(worker.minimumInstances == 1 && worker.maximumInstances == 3)
    #expect(flavour.vdu("kernel")?.technology == .unikernel)
    #expect(flavour.vdu("kernel")?.cpds.map(\.id) == ["kernel_port"])
    #expect(
      flavour.externalCpds == [
        .init(id: "wan", exposes: .vduCpd(vdu: "worker", cpd: "wan")),
        .init(id: "service", exposes: .virtualCp("service")),
        .init(id: "management", exposes: .virtualLink("backplane")),
      ])
    #expect(
      flavour.virtualLinks == [
        .init(id: "backplane", subnets: [try #require(IPPrefix("10.9.8.0/24"))], mtu: 1400)
      ])
    let aspect = try #require(flavour.scalingAspects.first)
    #expect((0...2).map { aspect.instances(of: "worker", at: $0) } == [0, 1, 3])
    #expect(flavour.instantiationLevels["high"]?.scale == ["workers": 2])
    #expect(flavour.defaultInstantiationLevel == "low")
    #expect(
      flavour.affinityRules
        == [.init(kind: .antiAffinity, scope: "nfvi_node", vdus: ["worker"])])
    #expect(package.imagePaths == ["images/worker.tar"])
  }

  @Test(arguments: [
    ("scale_level: 2 }", "scale_level: 3 }", "beyond"),
    ("default_level: low", "default_level: none", "none of the instantiation levels"),
    ("internal_virtual_link: backplane", "internal_virtual_link: wan", "no virtual link"),
    ("virtual_storage: disk", "virtual_storage: tape", "virtual storage"),
    ("10.9.8.7/24", "10.9.8.700/24", "no address prefix"),
    ("[ wan, virtual_link ]", "[ lan, virtual_link ]", "not there"),
    ("technology: unikernel }", "technology: abacus }", "technology is"),
  ])
  func contradictionIsRefusedWithItsPlace(from: String, to: String, message: String) throws {
    let found = try refusal(small: Self.small.replacing(from, with: to))
    let one = try #require(found.first { $0.message.contains(message) }, "\(found)")
    #expect(one.file == "flavours/small.yaml" && one.line > 1 && one.column > 0)
  }

  /// SOL001 6.2.52, 6.2.53: data types of the package say what there is, the VNF's node gives values.
  @Test func modifiableInformationIsDeclared() throws {
    let types =
      Self.types.replacing(
        "flavour_id: { type: string, default: small }",
        with: """
          flavour_id: { type: string, default: small }
                configurable_properties: { type: org.example.Properties }
                modifiable_attributes: { type: org.example.Attributes }
          """) + """
        data_types:
          org.example.Properties:
            derived_from: tosca.datatypes.nfv.VnfConfigurableProperties
            properties:
              is_autoheal_enabled: { type: boolean, required: false }
              additional_configurable_properties: { type: org.example.More }
          org.example.More:
            derived_from: tosca.datatypes.nfv.VnfAdditionalConfigurableProperties
            properties:
              sessions: { type: integer, default: 10, description: At most }
              site: { type: string }
          org.example.Attributes:
            derived_from: tosca.datatypes.nfv.VnfInfoModifiableAttributes
            properties:
              extensions: { type: org.example.Extensions }
          org.example.Extensions:
            properties:
              peers: { type: list, entry_schema: { type: string } }

        """
    let top = Self.top.replacing(
      "vnfm_info: [ any ]",
      with: """
        vnfm_info: [ any ]
                modifiable_attributes:
                  extensions: { peers: [ a ] }
                  metadata: { owner: ann }
        """)
    let modifiable = try read(top: top, types: types).descriptor.modifiable
    #expect(
      modifiable
        == VnfDescriptor.Modifiable(
          configurableProperties: [
            "is_autoheal_enabled": .init(default: .null, schema: ValueSchema(.boolean)),
            "sessions": .init(
              description: "At most", default: .integer(10), schema: ValueSchema(.integer)),
            "site": .init(schema: ValueSchema(.string)),
          ],
          metadata: ["owner": .init(default: .string("ann"))],
          extensions: [
            "peers": .init(
              default: .array([.string("a")]),
              schema: ValueSchema(.list(of: ValueSchema(.string))))
          ]))
  }

  @Test func flavoursThatExposeDifferentPointsAreRefused() throws {
    let found = try refusal(large: Self.large.replacing("management:", with: "maintenance:"))
    #expect(found.contains { $0.message.contains("different external connection points") })
  }

  @Test func flavourThatIsThereTwiceIsRefused() throws {
    #expect(try refusal(large: Self.small).contains { $0.message.contains("described twice") })
  }

  @Test func aspectThatIsThereTwiceIsRefused() throws {
    let twice = """
          - aspects_again:
              type: tosca.policies.nfv.ScalingAspects
              properties:
                aspects:
                  workers: { name: workers, max_scale_level: 2, step_deltas: [ first ] }

      """
    #expect(try refusal(small: Self.small + twice).contains { $0.message.contains("twice") })
  }

  @Test func typeThatIsDerivedFromNothingKnownIsRefused() throws {
    let types = Self.types.replacing("nfv.Vdu.Compute", with: "nfv.Vdu.Abacus")
    let one = try #require(try refusal(types: types).first)
    #expect(one.message.contains("unknown type org.example.Worker"))
    #expect(one.file == "flavours/small.yaml" && one.line > 1)
  }

  /// A type that is derived from itself ends too.
  @Test func circleOfTypesIsRefused() throws {
    let types = Self.types.replacing("tosca.nodes.nfv.Vdu.Compute", with: "org.example.Worker")
    #expect(try !refusal(types: types).isEmpty)
  }
}
