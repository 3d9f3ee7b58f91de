import Functions
import Packets
import TestFrames
import Testing

@Suite struct ParameterTests {
  static func refusal<F: NetworkFunction & ~Copyable>(
    of function: consuming F, _ parameters: String
  ) -> String? {
    var surroundings = TestSurroundings()
    do throws(ConfigurationError) {
      try function.configure(Sample.configuration(parameters), in: &surroundings)
      return nil
    } catch {
      return String(decoding: error.text, as: UTF8.self)
    }
  }

  @Test(arguments: [
    (
      #"{"rules": [{"action": "accept"}, {"action": "pass"}]}"#,
      "parameters.rules[1].action: an action is accept, drop or reject"
    ),
    (#"{"rules": [{"from": "left"}]}"#, "parameters.rules[0]: a rule needs an action"),
    (#"{"rules": [{"from": "middle"}]}"#, "parameters.rules[0].from: no port has this name"),
    (#"{"rules": [{"from": 0}]}"#, "parameters.rules[0].from: a string is expected"),
    (#"{"rules": {}}"#, "parameters.rules: a list is expected"),
    (#"{"rules": [7]}"#, "parameters.rules[0]: an object is expected"),
    (
      #"{"rules": [{"protocol": "gre", "action": "drop"}]}"#,
      "parameters.rules[0].protocol: a protocol is tcp, udp, icmp or any"
    ),
    (
      #"{"rules": [{"source": "10.0.0.0/33", "action": "drop"}]}"#,
      "parameters.rules[0].source: an address or a prefix is expected"
    ),
    (
      #"{"rules": [{"protocol": "tcp", "ports": "90-80", "action": "drop"}]}"#,
      #"parameters.rules[0].ports: a port or a range such as "8000-8100" is expected"#
    ),
    (
      #"{"rules": [{"ports": 80, "action": "drop"}]}"#,
      "parameters.rules[0]: ports are tcp's or udp's"
    ),
    (
      #"{"rules": [{"protocol": "icmp", "sourcePorts": 80, "action": "drop"}]}"#,
      "parameters.rules[0]: ports are tcp's or udp's"
    ),
    (
      #"{"rules": [{"protocol": "udp", "sourcePorts": "x", "action": "drop"}]}"#,
      #"parameters.rules[0].sourcePorts: a port or a range such as "8000-8100" is expected"#
    ),
    (
      #"{"rules": [{"action": "drop"}, {"sourcePort": 53, "action": "accept"}]}"#,
      "parameters.rules[1].sourcePort: there is no member of this name here"
    ),
    (#"{"flows": "many"}"#, "parameters.flows: a whole number is expected"),
    (#"{"flows": 0}"#, "parameters.flows: flows are 1 to 1000000"),
    (#"{"flowsPerHost": 0}"#, "parameters.flowsPerHost: flows are 1 to 1000000"),
    (#"{"outside": "up"}"#, "parameters.outside: no port has this name"),
  ])
  func `the firewall's`(parameters: String, text: String) {
    #expect(Self.refusal(of: Firewall(), parameters) == text)
  }

  /// Of a machine of its own the memory is what it is: spent, it would end.
  @Test(arguments: ["firewall", "nat44", "loadbalancer", "firewall | nat44"])
  func `more flows than there is memory for are refused`(pipeline: String) throws {
    var surroundings = TestSurroundings()
    surroundings.freeMemory = 4 << 20
    var function = Pipeline()
    func take(_ flows: Int) -> String? {
      do throws(ConfigurationError) {
        try function.configure(
          Sample.configuration(#"{"pipeline": "\#(pipeline)", "flows": \#(flows)}"#),
          in: &surroundings)
        return nil
      } catch {
        return String(decoding: error.text, as: UTF8.self)
      }
    }
    #expect(take(4096) == nil)
    #expect(take(1_000_000) == "parameters.flows: there is no memory for so many flows")
    // What is there already needs no more.
    surroundings.freeMemory = 20_000
    #expect(take(4096) == nil)
    #expect(take(4097) != nil)
  }

  @Test func `a rule's ports are a number, a string or a range`() {
    for member in ["ports", "sourcePorts"] {
      func refusal(_ ports: String) -> String? {
        Self.refusal(
          of: Firewall(),
          #"{"rules": [{"protocol": "udp", "\#(member)": \#(ports), "action": "drop"}]}"#)
      }
      for ports in ["80", #""80""#, #""0-65535""#, #""80-80""#, "null"] {
        #expect(refusal(ports) == nil, "\(member) \(ports)")
      }
      for ports in ["65536", #""""#, #""-""#, #""80-""#, #""-80""#, #""1-2-3""#, #"" 80""#, "1.5"] {
        #expect(refusal(ports) != nil, "\(member) \(ports)")
      }
    }
  }

  @Test func `what is not known or null is passed over`() {
    #expect(
      Self.refusal(
        of: Firewall(),
        #"{"x": [{}], "rules": [{"from": null, "note": null, "action": "drop"}]}"#) == nil)
    #expect(Self.refusal(of: Firewall(), #"{"rules": null}"#) == nil)
  }

  @Test(arguments: [
    (#"{"inside": "right"}"#, "parameters.inside: the outside port can't be inside"),
    (#"{"ports": 7}"#, #"parameters.ports: a range such as "1024-65535" is expected"#),
  ])
  func `the NAT's`(parameters: String, text: String) {
    #expect(Self.refusal(of: NAT44(), parameters) == text)
  }

  @Test(arguments: [
    (
      #"{"services": [{"address": "fd00::1"}]}"#,
      "parameters.services[0].address: an IPv4 address is expected"
    ),
    (#"{"services": [{"port": "80-81"}]}"#, "parameters.services[0].port: one port is expected"),
    (#"{"backends": [{}]}"#, "parameters.backends[0]: a backend needs an address"),
    (
      #"{"backends": [{"address": "10.0.2.2", "state": "gone"}]}"#,
      "parameters.backends[0].state: a state is active or drain"
    ),
    (
      #"{"services": [{"adress": "10.0.2.80", "port": 80}]}"#,
      "parameters.services[0].adress: there is no member of this name here"
    ),
    (
      #"{"backends": [{"address": "10.0.2.2", "drain": true}]}"#,
      "parameters.backends[0].drain: there is no member of this name here"
    ),
  ])
  func `the load balancer's`(parameters: String, text: String) {
    #expect(Self.refusal(of: LoadBalancer(), parameters) == text)
  }

  @Test(arguments: [
    ("{}", "parameters.pipeline is missing"),
    (
      #"{"pipeline": "firewall | firewall"}"#,
      "parameters.pipeline: a stage stands once in a pipeline"
    ),
    (#"{"pipeline": "router | responder"}"#, "parameters.pipeline: the responder stands alone"),
    (
      #"{"pipeline": "firewall |"}"#,
      "parameters.pipeline: firewall, nat44, loadbalancer, router or responder is expected"
    ),
  ])
  func `the pipeline's`(parameters: String, text: String) {
    #expect(Self.refusal(of: Pipeline(), parameters) == text)
  }
}
