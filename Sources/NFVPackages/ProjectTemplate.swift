/// The files of a new package.
enum ProjectTemplate {
  static func files(name: String) -> [(path: String, text: String)] {
    [
      ("TOSCA-Metadata/TOSCA.meta", meta(name)),
      ("Definitions/\(name).yaml", descriptor(name)),
      ("Files/\(name).yaml", recipe(name)),
      ("Files/greeting.txt", greeting),
      ("\(name).mf", "# Written anew by: martlet package build\n"),
    ]
  }

  static func meta(_ name: String) -> String {
    """
    TOSCA-Meta-File-Version: 1.0
    CSAR-Version: 1.1
    Created-by: martlet package init
    Entry-Definitions: Definitions/\(name).yaml
    ETSI-Entry-Manifest: \(name).mf

    """
  }

  private static func descriptor(_ name: String) -> String {
    """
    tosca_definitions_version: tosca_simple_yaml_1_3

    description: \(name), made by martlet package init

    # ETSI's types are built in; nothing is fetched.
    imports:
      - etsi_nfv_sol001_common_types.yaml
      - etsi_nfv_sol001_vnfd_types.yaml

    node_types:
      org.example.\(name):
        derived_from: tosca.nodes.nfv.VNF
        interfaces:
          Vnflcm:
            type: tosca.interfaces.nfv.Vnflcm
            operations:
              instantiate:
                inputs:
                  additional_parameters:
                    type: org.example.\(name).Parameters

    data_types:
      # What an instance can be told: martlet vnf run ... --param greeting=hello
      org.example.\(name).Parameters:
        derived_from: tosca.datatypes.nfv.VnfOperationAdditionalParameters
        properties:
          greeting:
            type: string
            default: hello

    topology_template:
      substitution_mappings:
        node_type: org.example.\(name)
        requirements:
          # The connection point that the VNF shows to the outside.
          network: [ network, virtual_link ]

      node_templates:
        VNF:
          type: org.example.\(name)
          properties:
            descriptor_id: \(name)
            provider: Example
            product_name: \(name)
            software_version: '1.0'
            descriptor_version: '1.0'
            flavour_id: container
            flavour_description: One container
            vnfm_info: [ Martlet ]

        main:
          type: tosca.nodes.nfv.Vdu.OsContainerDeployableUnit
          properties:
            name: main
            description: The function itself
            vdu_profile:
              min_number_of_instances: 1
              max_number_of_instances: 1
            requested_additional_capabilities:
              readiness:
                requested_additional_capability_name: org.martlet.readiness
                support_mandatory: true
                target_performance_parameters:
                  check: running
              files:
                requested_additional_capability_name: org.martlet.files
                support_mandatory: true
                target_performance_parameters:
                  /etc/greeting.txt: ../Files/greeting.txt
          requirements:
            - container: main_container

        main_container:
          type: tosca.nodes.nfv.Vdu.OsContainer
          properties:
            name: main
            description: Prints its greeting and waits
            cpu_resource_limit: 500
            memory_resource_limit: 32 MB
            ephemeral_storage_resource_limit: 8 MB
          artifacts:
            # Built from the recipe Files/\(name).yaml by: martlet package build
            image:
              type: tosca.artifacts.nfv.SwImage
              file: ../Files/\(name).tar

        network:
          type: tosca.nodes.nfv.VduCp
          properties:
            layer_protocols: [ ipv4 ]
            order: 0
          requirements:
            - virtual_binding: main

    """
  }

  private static func recipe(_ name: String) -> String {
    """
    # An image of programs of this host; their libraries are found by themselves.
    name: \(name)
    programs:
      - sh
      - cat
      - sleep
    entrypoint: [ /bin/sh, -c, "cat /etc/greeting.txt; exec sleep infinity" ]

    """
  }

  private static let greeting = """
    {{parameters.greeting}} from {{identity.vnfInstanceName}} at {{port.network.ipv4}}

    """
}
