import Synchronization

@testable import martlet

/// What a command line wrote and how it ended.
struct CommandRun: Sendable {
  var output: String
  var error: String
  var code: Int32

  private final class Capture: Sendable {
    let octets = Mutex<[UInt8]>([])
    var text: String { octets.withLock { String(decoding: $0, as: UTF8.self) } }
  }

  /// Runs a command line in this process; its outputs are pipes unless `terminal` is set.
  static func run(
    _ arguments: [String], on server: StubServer? = nil, terminal: Bool = false,
    environment: [String: String] = [:]
  ) async -> CommandRun {
    let output = Capture()
    let error = Capture()
    var environment = environment
    if let server { environment["MARTLET_SOCKET"] = server.path }
    let console = Console(
      output: { octets in output.octets.withLock { $0 += octets } },
      error: { octets in error.octets.withLock { $0 += octets } },
      environment: environment, outputIsTerminal: terminal, errorIsTerminal: terminal,
      width: { 80 })
    let code = await Console.$current.withValue(console) { await Martlet.run(arguments) }
    return CommandRun(output: output.text, error: error.text, code: code)
  }
}

/// A small daemon: one package, one network, one instance and its operation.
enum Samples {
  static let package = "0b1e0000-0000-4000-8000-000000000001"
  static let vnf = "5f000000-0000-4000-8000-000000000002"
  static let operation = "a1000000-0000-4000-8000-000000000003"
  static let network = "c4000000-0000-4000-8000-000000000004"
  static let vnfc = "d7000000-0000-4000-8000-000000000005"

  static let packageJSON = """
    {"id":"\(package)","vnfdId":"b1bb0ce7","vnfProductName":"firewall","vnfProvider":"Martlet",\
    "vnfSoftwareVersion":"1.0","vnfdVersion":"1.0","onboardingState":"ONBOARDED",\
    "operationalState":"ENABLED","usageState":"NOT_IN_USE",\
    "org.martlet":{"size":1572864,"flavours":["container"]}}
    """
  static let networkJSON = """
    {"id":"\(network)","name":"lan","mtu":1500,"subnets":[{"prefix":"10.1.0.0/24",\
    "gateway":"10.1.0.1"}],"routes":[],"uplink":"none","ports":2}
    """
  static let vnfJSON = """
    {"id":"\(vnf)","vnfInstanceName":"fw","vnfdId":"b1bb0ce7","vnfProvider":"Martlet",\
    "vnfProductName":"firewall","vnfSoftwareVersion":"1.0","vnfdVersion":"1.0",\
    "instantiationState":"INSTANTIATED","instantiatedVnfInfo":{"flavourId":"container",\
    "vnfState":"STARTED","scaleStatus":[{"aspectId":"workers","scaleLevel":1}],\
    "maxScaleLevels":[{"aspectId":"workers","scaleLevel":4}],\
    "extCpInfo":[{"id":"p1","cpdId":"left","cpProtocolInfo":[{"ipOverEthernet":\
    {"macAddress":"02:00:00:00:00:01","ipAddresses":[{"type":"IPV4","addresses":["10.1.0.5"]}]}}]}],\
    "extVirtualLinkInfo":[{"id":"link-1","resourceHandle":{"resourceId":"\(network)"},\
    "extLinkPorts":[{"id":"p1","cpInstanceId":"p1"}]}],\
    "vnfcResourceInfo":[{"id":"\(vnfc)","vduId":"fw","computeResource":{"resourceId":"mabcdefghijkl"},\
    "vnfcCpInfo":[{"id":"p1","cpdId":"cp0","cpProtocolInfo":[{"ipOverEthernet":\
    {"macAddress":"02:00:00:00:00:01","ipAddresses":[{"addresses":["10.1.0.5"]}]}}],\
    "metadata":{"interface":"eth0","mtu":1500}}],\
    "metadata":{"ordinal":0,"incarnation":2,"technology":"container","state":"RUNNING","failures":1,\
    "lastExit":"signal 9"}}]},\
    "org.martlet":{"vnfPkgId":"\(package)"}}
    """
  static let operationJSON = """
    {"id":"\(operation)","operationState":"COMPLETED","vnfInstanceId":"\(vnf)",\
    "operation":"INSTANTIATE","isAutomaticInvocation":false,"operationParams":\
    {"flavourId":"container"},"resourceChanges":{"affectedVnfcs":[{"id":"\(vnfc)","vduId":"fw",\
    "changeType":"ADDED","computeResource":{"resourceId":"mabcdefghijkl"}}]},\
    "org.martlet":{"actor":"root","phases":[\
    {"name":"ensureNetwork","subject":"\(network)","startMicroseconds":12,"durationMicroseconds":1000},\
    {"name":"startWorkload","subject":"\(vnfc)","startMicroseconds":1012,"durationMicroseconds":3988}]}}
    """

  /// Answers whatever the samples can.
  static let answer: StubServer.Answer = { request, _ in
    let path = request.target.split(separator: "?").first.map(String.init) ?? ""
    let parts = path.split(separator: "/").map(String.init)
    let samples = [
      "vnf_packages": packageJSON, "networks": networkJSON, "vnf_instances": vnfJSON,
      "vnf_lcm_op_occs": operationJSON,
    ]
    if path == "/martlet/v1/events" { return .stream(["id: 41\n\n"], .silence) }
    switch (request.method, parts.count) {
    case ("GET", 3): return samples[parts[2]].map { .json("[\($0)]") } ?? .problem(404, "no path")
    case ("GET", 4): return samples[parts[2]].map { .json($0) } ?? .problem(404, "no path")
    case ("POST", 3): return .json(samples[parts[2]] ?? "{}", status: 201)
    case ("POST", 5) where parts[4] == "fail": return .json(operationJSON)
    case ("PATCH", 4), ("POST", 5):
      return .empty(202, headers: [("Location", "/vnflcm/v2/vnf_lcm_op_occs/\(operation)")])
    case ("PUT", 5): return .empty(202)
    case ("POST", 7): return .empty(204)
    case ("DELETE", _): return .empty(204)
    default: return .problem(404, "no path")
    }
  }
}
