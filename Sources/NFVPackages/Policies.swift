internal import NFVModel

/// What a flavour's policies say (SOL001 6.10): levels, scaling, affinity.
struct Policies {
  private(set) var aspects: [ScalingAspect] = []
  private(set) var levels: [String: InstantiationLevel] = [:]
  private(set) var defaultLevel: String?
  private(set) var initialInstances: [String: Int] = [:]
  private(set) var affinity: [AffinityRule] = []

  init(_ root: ToscaNode, _ templates: ToscaTemplates, _ findings: Findings) {
    let list = root["topology_template", "policies"]
    var policies = (list?.elements ?? []).flatMap(\.entries)
    if policies.isEmpty { policies = list?.entries ?? [] }
    var steps: [String: [String]] = [:]
    var deltas: [(aspect: String, targets: [String], deltas: ToscaNode, node: ToscaNode)] = []
    for (name, policy) in policies {
      guard let type = policy["type"]?.text else {
        findings.add(.error, policy, "the policy \(name) has no type")
        continue
      }
      let targets = (policy["targets"]?.elements ?? []).compactMap(\.text)
      let properties = policy["properties"]
      switch templates.base(of: type) {
      case "tosca.policies.nfv.ScalingAspects":
        for (id, aspect) in properties?["aspects"]?.entries ?? [] {
          aspects.append(
            ScalingAspect(
              id: id, name: aspect["name"]?.text ?? id,
              maximumLevel: findings.count(aspect["max_scale_level"]) ?? 0, deltas: [:]))
          steps[id] = (aspect["step_deltas"]?.elements ?? []).compactMap(\.text)
        }
      case "tosca.policies.nfv.VduScalingAspectDeltas":
        if let aspect = properties?["aspect"]?.text, let values = properties?["deltas"] {
          deltas.append((aspect, targets, values, policy))
        } else {
          findings.add(.error, policy, "the policy \(name) needs aspect and deltas")
        }
      case "tosca.policies.nfv.VduInitialDelta":
        if let count = findings.count(properties?["initial_delta", "number_of_instances"]) {
          for target in targets { initialInstances[target] = count }
        }
      case "tosca.policies.nfv.InstantiationLevels":
        for (id, level) in properties?["levels"]?.entries ?? [] {
          for (aspect, info) in level["scale_info"]?.entries ?? [] {
            levels[id, default: .init()].scale[aspect] = findings.count(info["scale_level"]) ?? 0
          }
          if levels[id] == nil { levels[id] = .init() }
        }
        defaultLevel = properties?["default_level"]?.text ?? defaultLevel
      case "tosca.policies.nfv.VduInstantiationLevels":
        for (id, level) in properties?["levels"]?.entries ?? [] {
          guard let count = findings.count(level["number_of_instances"]) else { continue }
          for target in targets { levels[id, default: .init()].instances[target] = count }
        }
      case "tosca.policies.nfv.AffinityRule", "tosca.policies.nfv.AntiAffinityRule":
        affinity.append(
          AffinityRule(
            kind: templates.base(of: type).hasSuffix("AntiAffinityRule")
              ? .antiAffinity : .affinity,
            scope: properties?["scope"]?.text ?? "nfvi_node", vdus: targets,
            isMandatory: properties?["org.martlet.mandatory"]?.boolean ?? false))
      case let base where base.hasPrefix("tosca.policies.nfv."): break
      default: findings.add(.error, policy, "the policy \(name) is of the unknown type \(type)")
      }
    }
    for (aspect, targets, values, node) in deltas {
      guard let index = aspects.firstIndex(where: { $0.id == aspect }) else {
        findings.add(.error, node, "there is no scaling aspect \(aspect)")
        continue
      }
      let counts = values.entries.map {
        ($0.key, findings.count($0.value["number_of_instances"]) ?? 0)
      }
      let named = (steps[aspect] ?? []).compactMap { step in counts.first { $0.0 == step }?.1 }
      if named.isEmpty, !counts.isEmpty {
        findings.add(
          .warning, node,
          "the step_deltas of \(aspect) name none of these deltas; they are taken in their order")
      }
      for target in targets {
        aspects[index].deltas[target] = named.isEmpty ? counts.map(\.1) : named
      }
    }
  }
}
