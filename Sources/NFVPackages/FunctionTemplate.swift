/// The files of a new package of a network function in Swift: one recipe, and a flavour for each of
/// its three forms.
struct FunctionTemplate {
  var name: String
  var function: String

  /// The connection points: of what forwards, two.
  private var points: [String] {
    switch function {
    case "responder": ["network"]
    case "nat44": ["inside", "outside"]
    case "loadbalancer": ["clients", "servers"]
    default: ["left", "right"]
    }
  }

  /// The parameters that may be changed while it runs, each with its type.
  private var properties: [(name: String, type: String)] {
    switch function {
    case "firewall": [("rules", "list"), ("flows", "integer"), ("flowsPerHost", "integer")]
    case "nat44": [("ports", "string"), ("flows", "integer"), ("flowsPerHost", "integer")]
    case "loadbalancer": [("services", "list"), ("backends", "list"), ("flows", "integer")]
    // Its stages, and what each of them reads.
    case "pipeline":
      [
        ("pipeline", "string"), ("inside", "string"), ("outside", "string"), ("rules", "list"),
        ("ports", "string"), ("services", "list"), ("backends", "list"), ("flows", "integer"),
        ("flowsPerHost", "integer"),
      ]
    default: []
    }
  }

  /// What the lists among them consist of.
  private var elements: [String: (name: String, members: [String])] {
    func optional(_ name: String, _ values: String...) -> String {
      let allowed =
        values.isEmpty
        ? "" : ", constraints: [ valid_values: [ \(values.joined(separator: ", ")) ] ]"
      return "\(name): { type: string, required: false\(allowed) }"
    }
    return [
      "rules": (
        "Rule",
        [
          "action: { type: string, constraints: [ valid_values: [ accept, drop, reject ] ] }",
          "from: { type: string, required: false, constraints: [ valid_values: "
            + "[ \(points.joined(separator: ", ")) ] ] }",
          optional("protocol", "tcp", "udp", "icmp", "any"), optional("source"),
          optional("destination"), optional("ports"), optional("sourcePorts"),
        ]
      ),
      "services": (
        "Service",
        [
          optional("address"),
          "port: { type: integer, required: false, constraints: [ in_range: [ 1, 65535 ] ] }",
          optional("protocol", "tcp", "udp", "any"),
        ]
      ),
      "backends": (
        "Backend", ["address: { type: string }", optional("state", "active", "drain")]
      ),
    ]
  }

  private var forwards: Bool { function != "responder" }
  private var type: String { "org.example.\(name)" }

  var files: [(path: String, text: String)] {
    [
      ("TOSCA-Metadata/TOSCA.meta", ProjectTemplate.meta(name)),
      ("Definitions/\(name).yaml", container),
      (
        "Definitions/\(name).unikernel.yaml",
        machine("unikernel", "The function as a machine of its own", memory: 8)
      ),
      (
        "Definitions/\(name).tinyx.yaml",
        machine("tinyx", "A static program in one tiny Linux", memory: 128)
      ),
      ("Files/\(name).yaml", "name: \(name)\nfunction: \(function)\n"),
      ("\(name).mf", "# Written anew by: martlet package build\n"),
    ]
  }

  private var container: String {
    """
    tosca_definitions_version: tosca_simple_yaml_1_3

    description: \(name), made by martlet package init

    # ETSI's types are built in; nothing is fetched.
    imports:
      - etsi_nfv_sol001_common_types.yaml
      - etsi_nfv_sol001_vnfd_types.yaml
      - \(name).unikernel.yaml
      - \(name).tinyx.yaml

    node_types:
      \(type):
        derived_from: tosca.nodes.nfv.VNF
    \(nodeProperties)
    # Without a data type for them, instances take any parameters; NetworkFunctions/README.md says
    # which the function knows.
    \(dataTypes)
    topology_template:
      substitution_mappings:
        node_type: \(type)
        requirements:
    \(indented(8, points.map { "\($0): [ \($0), virtual_link ]" }))
      node_templates:
        VNF:
          type: \(type)
          properties:
            descriptor_id: \(name)
            provider: Example
            product_name: \(name)
            software_version: '1.0'
            descriptor_version: '1.0'
            flavour_id: container
            flavour_description: A static program in one container
            vnfm_info: [ Martlet ]

        function:
          type: tosca.nodes.nfv.Vdu.OsContainerDeployableUnit
          properties:
            name: function
            description: \(function) in Swift
            vdu_profile:
              min_number_of_instances: 1
              max_number_of_instances: 1
            requested_additional_capabilities:
    \(indented(10, owner + capability("linux_capabilities", [("add", "NET_RAW")]) + network))
          requirements:
            - container: program

        program:
          type: tosca.nodes.nfv.Vdu.OsContainer
          properties:
            name: program
            description: The function and nothing else
            cpu_resource_limit: 2000
            memory_resource_limit: 64 MB
            ephemeral_storage_resource_limit: 1 MB
          artifacts:
            image:
              type: tosca.artifacts.nfv.SwImage
              file: ../Files/\(name).tar

    \(connectionPoints)
    """
  }

  private func machine(_ technology: String, _ description: String, memory: Int) -> String {
    let own = capability("technology", [("technology", technology)])
    return """
      tosca_definitions_version: tosca_simple_yaml_1_3

      description: \(description)

      imports:
        - etsi_nfv_sol001_common_types.yaml
        - etsi_nfv_sol001_vnfd_types.yaml

      topology_template:
        substitution_mappings:
          node_type: \(type)
          properties:
            flavour_id: \(technology)
          requirements:
      \(indented(8, points.map { "\($0): [ \($0), virtual_link ]" }))
        node_templates:
          VNF:
            type: \(type)
            properties:
              flavour_id: \(technology)
              flavour_description: \(description)

          function:
            type: tosca.nodes.nfv.Vdu.Compute
            properties:
              name: function
              description: \(function) in Swift
              vdu_profile:
                min_number_of_instances: 1
                max_number_of_instances: 1
            capabilities:
              virtual_compute:
                properties:
                  virtual_cpu:
                    num_virtual_cpu: 1
                  virtual_memory:
                    virtual_mem_size: \(memory) MB
                  requested_additional_capabilities:
      \(indented(14, own + owner + network))
            artifacts:
              image:
                type: tosca.artifacts.nfv.SwImage
                file: ../Files/\(name).\(technology).tar

      \(connectionPoints)
      """
  }

  private var owner: [String] { capability("addresses", [("owner", "function")]) }

  private var network: [String] {
    let readiness = capability(
      "readiness", [("check", "icmp"), ("interval_ms", "'1'"), ("timeout_ms", "'30000'")])
    guard forwards else { return readiness }
    return capability("forwarding", [("enabled", "'true'")])
      + capability("ports", points.map { ($0, "router") }) + readiness
  }

  private var nodeProperties: String {
    if properties.isEmpty { return "" }
    return """
          properties:
            configurable_properties: { type: \(type).Properties, required: false }

      """
  }

  private var dataTypes: String {
    if properties.isEmpty { return "" }
    let entries = properties.map { property in
      let element = elements[property.name].map { ", entry_schema: { type: \(type).\($0.name) }" }
      return "\(property.name): { type: \(property.type), required: false\(element ?? "") }"
    }
    let types = properties.compactMap { elements[$0.name] }.map { element in
      (["\(type).\(element.name):", "  properties:"] + element.members.map { "    \($0)" })
        .map { "  \($0)\n" }.joined()
    }.joined()
    return """
      # What `martlet vnf modify --property` changes while it runs.\(stages)
      data_types:
      \(types)  \(type).Properties:
          derived_from: tosca.datatypes.nfv.VnfConfigurableProperties
          properties:
            additional_configurable_properties: { type: \(type).Configuration, required: false }
        \(type).Configuration:
          derived_from: tosca.datatypes.nfv.VnfAdditionalConfigurableProperties
          properties:
      \(indented(6, entries))

      """
  }

  /// What else is to be known of a pipeline's properties.
  private var stages: String {
    guard function == "pipeline" else { return "" }
    return """

      # `pipeline` names the stages, such as firewall | nat44, and has to be given at the start; each
      # stage reads its own properties, all of them `outside` (right, if nothing is said) and `flows`.
      """
  }

  private func capability(_ name: String, _ values: [(String, String)]) -> [String] {
    [
      "\(name):", "  requested_additional_capability_name: org.martlet.\(name)",
      "  support_mandatory: true", "  target_performance_parameters:",
    ] + values.map { "    \($0): \($1)" }
  }

  private var connectionPoints: String {
    indented(
      4,
      points.enumerated().flatMap { order, point in
        [
          "\(point):", "  type: tosca.nodes.nfv.VduCp", "  properties:",
          "    layer_protocols: [ ipv4 ]", "    order: \(order)", "  requirements:",
          "    - virtual_binding: function",
        ]
      })
  }

  private func indented(_ count: Int, _ lines: [String]) -> String {
    lines.map { String(repeating: " ", count: count) + $0 }.joined(separator: "\n")
  }
}
