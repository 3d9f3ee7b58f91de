internal import ArgumentParser
internal import NFVModel

/// One Vnfc of an instance, as commands need it.
struct VnfcReference: Sendable, Hashable {
  var id: String
  var vdu: String
  var incarnation: Int64
}

/// Which Vnfc of an instance a command is about.
struct VnfcOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Which Vnfc, where there are several: its identifier, or VDU.NUMBER.", valueName: "vnfc"))
  var vnfc: String?

  func find(of instance: JSONValue) throws(Failure) -> VnfcReference {
    try findVnfc(vnfc, of: instance)
  }
}

/// The Vnfc that a reference stands for: an identifier or its beginning, or its VDU's name, with
/// `.ORDINAL` where there are several of it. No reference is the only one.
func findVnfc(
  _ reference: String?, of instance: JSONValue
) throws(Failure) -> VnfcReference {
  let name = Kind.vnf.name(of: instance)
  let all = instance["instantiatedVnfInfo", "vnfcResourceInfo"].elements
  guard !all.isEmpty else {
    throw Failure(
      .conflict, "\(name) has no Vnfcs: it is \(vnfState(instance))",
      advice: "`martlet vnf instantiate \(name)` starts it")
  }
  let found = all.filter { vnfc in
    guard let reference else { return true }
    let vdu = vnfc["vduId"].text
    return vdu == reference || vnfcName(vnfc) == reference
      || vnfc["id"].text.hasPrefix(reference)
  }
  let names = all.map(vnfcName).joined(separator: ", ")
  guard let first = found.first else {
    throw Failure(
      .notFound, "\(name) has no Vnfc '\(reference ?? "")'", advice: "it has \(names)")
  }
  guard found.count == 1 else {
    throw Failure(
      .conflict, "\(name) has \(found.count) such Vnfcs", advice: "choose with --vnfc: \(names)")
  }
  return VnfcReference(
    id: first["id"].text, vdu: first["vduId"].text,
    incarnation: first["metadata", "incarnation"].integer ?? 0)
}

/// What a Vnfc is called where there are several: its VDU and its number among those of it.
func vnfcName(_ vnfc: JSONValue) -> String {
  "\(vnfc["vduId"].text).\(vnfc["metadata", "ordinal"].text)"
}

extension Daemon {
  /// Martlet's own resource below a Vnfc.
  static func path(_ vnf: String, _ vnfc: String, _ leaf: String) -> String {
    "/martlet/v1/vnf_instances/\(vnf)/vnfcs/\(vnfc)/\(leaf)"
  }
}
