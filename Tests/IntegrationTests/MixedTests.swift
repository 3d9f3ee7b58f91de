import FoundationEssentials
import LinuxSystem
import NFVBenchmark
import TestSupport
import Testing

/// The example `mixed`: one VNF of a filter in a virtual machine and a server in a container, which
/// meet on an internal network.
@Suite(.needs(.root, .crun, .qemu, .kernel), .serialized, .timeLimit(.minutes(4)))
struct MixedTests {
  private static let threads = BlockingExecutor(threads: 1, name: "martlet-test")

  @Test func aVirtualMachineFiltersForAContainerOfItsVnf() async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform()
      defer { platform.cleanUp() }
      try platform.martlet([
        "vnf", "run", "\(Built.project)/examples/mixed", "--name", "mx", "--connect",
        "outside=lan,10.9.0.10",
      ])
      let mixed = try platform.internals(of: "mx")
      try await filters(platform, mixed)
      try answersByVnfc(platform, mixed)
      #expect(try await platform.end() == [])
    }
  }

  private func filters(_ platform: Platform, _ mixed: Internals) async throws {
    let server = try #require(mixed.vnfc("server")?.addresses.first)
    let inside: [UInt8] = [192, 168, 77, 0]
    #expect(server.prefix(3) == inside.prefix(3))
    // A port that the rules do not name, and that is open all the same.
    try platform.martlet([
      "exec", "mx", "--vnfc", "server", "--", "sh", "-c",
      "iperf -s -p 5002 </dev/null >/dev/null 2>&1 &",
    ])
    let beside = try platform.join(
      try #require(mixed.network), name: "mtest-beside", address: [192, 168, 77, 200])
    try await eventually("the server listens on both", within: .seconds(10)) {
      try [5001, 5002].allSatisfy {
        try beside.connects(to: server, port: $0, timeout: .seconds(1))
      }
    }
    let outside = try platform.join(
      "lan", name: "mtest-outside", address: [10, 9, 0, 100],
      routes: [.init(destination: inside, prefixLength: 24, gateway: [10, 9, 0, 10])])
    try await eventually("what is allowed passes", within: .seconds(10)) {
      try outside.connects(to: server, port: 5001, timeout: .seconds(2))
    }
    #expect(try !outside.connects(to: server, port: 5002, timeout: .seconds(2)))
    let text = server.map(String.init).joined(separator: ".")
    #expect(try outside.run("/usr/bin/ping", ["-q", "-c", "3", "-W", "2", text]).status == 0)
  }

  /// Each by its VDU; without one, the command says which there are.
  private func answersByVnfc(_ platform: Platform, _ mixed: Internals) throws {
    #expect(mixed.vnfc("filter")?.metadata.technology == "tinyx")
    #expect(mixed.vnfc("server")?.metadata.technology == "container")
    #expect(["tcg", "kvm"].contains(mixed.vnfc("filter")?.metadata.accelerator))
    #expect(mixed.vnfc("server")?.metadata.accelerator == nil)
    let rules = try platform.martlet([
      "exec", "mx", "--vnfc", "filter.0", "--", "nft", "list", "ruleset",
    ])
    #expect(rules.contains("tcp dport 5001 accept"), "\(rules)")
    #expect(
      try platform.martlet(["exec", "mx", "--vnfc", "server", "--", "sh", "-c", "echo in $0"])
        == "in sh\n")
    #expect(try platform.martlet(["logs", "mx", "--vnfc", "filter"]).contains("rules loaded"))
    let log = try platform.martlet(["logs", "mx", "--vnfc", "server.0"])
    #expect(log.contains("listening on TCP port 5001"), "\(log)")
    for arguments in [["logs", "mx"], ["exec", "mx", "--", "true"]] {
      let error = #expect(throws: Failed.self) { try platform.martlet(arguments) }
      let text = error?.description ?? ""
      #expect(text.contains("filter.0") && text.contains("server.0"), "\(text)")
    }
  }
}

/// What a VNF of several VDUs has inside.
private struct Internals: Decodable {
  struct Info: Decodable {
    struct Vnfc: Decodable {
      struct Metadata: Decodable {
        var technology: String
        var accelerator: String?
      }
      var vduId: String
      var vnfcCpInfo: [Instance.Info.Point]
      var metadata: Metadata

      /// In the order of the wire.
      var addresses: [[UInt8]] {
        vnfcCpInfo.flatMap(\.cpProtocolInfo).flatMap(\.ipOverEthernet.ipAddresses)
          .flatMap(\.addresses).map { $0.split(separator: ".").compactMap { UInt8($0) } }
      }
    }
    struct Link: Decodable {
      struct Resource: Decodable { var resourceId: String }
      var networkResource: Resource
    }
    var vnfcResourceInfo: [Vnfc]
    var vnfVirtualLinkResourceInfo: [Link]
  }
  var instantiatedVnfInfo: Info

  func vnfc(_ vdu: String) -> Info.Vnfc? {
    instantiatedVnfInfo.vnfcResourceInfo.first { $0.vduId == vdu }
  }

  /// The identifier of the one internal network.
  var network: String? {
    instantiatedVnfInfo.vnfVirtualLinkResourceInfo.first?.networkResource.resourceId
  }
}

extension Platform {
  fileprivate func internals(of name: String) throws -> Internals {
    try JSONDecoder().decode(
      Internals.self, from: Data(try martlet(["get", "vnf", name, "-o", "json"]).utf8))
  }
}
