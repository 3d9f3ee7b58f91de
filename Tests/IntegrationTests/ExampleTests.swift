import Glibc
import LinuxSystem
import NFVBenchmark
import TestSupport
import Testing

/// The examples that no other suite instantiates, in each of their forms and with traffic.
@Suite(.needs(.root, .crun, .qemu), .serialized, .timeLimit(.minutes(5)))
struct ExampleTests {
  private static let threads = BlockingExecutor(threads: 1, name: "martlet-test")

  /// A platform with the networks `near` and `far`: what goes from far to near goes by 10.2.0.2.
  private func withPlatform(
    _ body: @escaping (Platform) async throws -> Void
  ) async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform()
      defer { platform.cleanUp() }
      try platform.martlet(["network", "create", "near", "--subnet", "10.1.0.0/24"])
      try platform.martlet([
        "network", "create", "far", "--subnet", "10.2.0.0/24", "--route", "10.1.0.0/24=10.2.0.2",
      ])
      try await body(platform)
      #expect(try await platform.end() == [])
    }
  }

  private func runResponder(_ name: String, _ address: String, _ platform: Platform) throws {
    let known = name == "rs-1" ? try Platform.responder.get() : "responder"
    try platform.martlet([
      "vnf", "run", known, "--flavour", "container", "--name", name, "--connect",
      "network=far,\(address)",
    ])
  }

  /// Runs the example in each of its forms, one after another.
  private func inEachForm(
    of example: String, _ points: (near: String, far: String), _ options: [String],
    _ platform: Platform, _ use: (_ name: String) throws -> Void
  ) throws {
    for form in ["container", "unikernel", "tinyx"] {
      let known = form == "container" ? "\(Built.project)/examples/\(example)" : example
      let name = "\(example)-\(form)"
      try platform.martlet(
        [
          "vnf", "run", known, "--flavour", form, "--name", name, "--connect",
          "\(points.near)=near,10.1.0.2", "--connect", "\(points.far)=far,10.2.0.2",
        ] + options)
      try use(name)
      for workload in try platform.instance(name).workloads {
        _ = platform.processes(of: workload)
      }
      try platform.martlet(["vnf", "terminate", name])
    }
  }

  @Test func aRouterForwardsAndTellsOfWhatItCannot() async throws {
    try await withPlatform { platform in
      try runResponder("rs-1", "10.2.0.10", platform)
      var joined: ClientNamespace?
      try inEachForm(of: "router", ("left", "right"), [], platform) { name in
        let client =
          try joined
          ?? platform.join(
            "near", name: "mtest-near", address: [10, 1, 0, 100],
            routes: [.init(destination: [10, 2, 0, 0], prefixLength: 24, gateway: [10, 1, 0, 2])])
        joined = client
        #expect(
          try client.connects(to: [10, 2, 0, 10], port: 5001, timeout: .seconds(2)), "\(name)")
        func ping(_ arguments: [String]) throws -> String {
          let result = try client.run("/usr/bin/ping", ["-n", "-c", "1", "-W", "2"] + arguments)
          return String(decoding: result.output, as: UTF8.self)
        }
        // Counted down by one, and at its end the sender is told by the router.
        let answered = try ping(["10.2.0.10"])
        #expect(answered.contains("ttl=63"), "\(name): \(answered)")
        let exceeded = try ping(["-t", "1", "10.2.0.10"])
        #expect(
          exceeded.contains("From 10.1.0.2") && exceeded.contains("Time to live exceeded"),
          "\(name): \(exceeded)")
      }
    }
  }

  @Test func aLoadBalancerGivesFlowsToItsBackends() async throws {
    func backends(_ addresses: [String]) -> String {
      "backends=[" + addresses.map { #"{"address":"\#($0)"}"# }.joined(separator: ",") + "]"
    }
    // At the balancer's own address, by which neighbours are told of a successor.
    let services = #"services=[{"port":5001,"protocol":"tcp"}]"#
    try await withPlatform { platform in
      try runResponder("rs-1", "10.2.0.10", platform)
      try runResponder("rs-2", "10.2.0.11", platform)
      let both = backends(["10.2.0.10", "10.2.0.11"])
      var joined: ClientNamespace?
      try inEachForm(
        of: "loadbalancer", ("clients", "servers"), ["--param", services, "--param", both], platform
      ) { name in
        let client =
          try joined
          ?? platform.join("near", name: "mtest-near", address: [10, 1, 0, 100])
        joined = client
        func passes(_ port: UInt16 = 5001) throws -> Bool {
          try client.connects(to: [10, 1, 0, 2], port: port, timeout: .seconds(2))
        }
        for _ in 0..<20 { #expect(try passes(), "\(name)") }
        #expect(try !passes(5201), "\(name)")
        // Each of them serves alone, and nobody where there is none; the last has nobody behind it.
        for alone in ["10.2.0.10", "10.2.0.11"] {
          try platform.martlet(["vnf", "modify", name, "--property", backends([alone])])
          #expect(try passes(), "\(name): \(alone)")
        }
        for nobody in [[], ["10.2.0.99"]] {
          try platform.martlet(["vnf", "modify", name, "--property", backends(nobody)])
          #expect(try !passes(), "\(name): \(nobody)")
        }
      }
    }
  }
}
