import HTTPTypes
import NFVLifecycle
import NFVModel
import Synchronization
import TestSupport
import Testing

@testable import NFVAPI

@Suite struct VnfInstancesTests {
  static let instances = "/vnflcm/v2/vnf_instances"

  /// A daemon with a package and a network.
  private func run(_ body: @Sendable @escaping (Fixture) async throws -> Void) async throws {
    try await Fixture.run { fixture in
      _ = try await fixture.onboard()
      let network = try await fixture.call(
        .post, "/martlet/v1/networks",
        #"{"name":"left","subnets":[{"prefix":"10.9.0.0/24"}]}"#)
      #expect(network.status == 201, "\(network.text)")
      try await body(fixture)
    }
  }

  @Test func createdInstanceIsNotInstantiated() async throws {
    try await run { fixture in
      let reply = try await fixture.call(
        .post, Self.instances, #"{"vnfdId":"vnfd-1","vnfInstanceName":"a\"b"}"#)
      #expect(reply.status == 201, "\(reply.text)")
      let instance = try reply.json
      let id = try instance.member("id").text
      #expect(reply.headers[.location] == "\(Self.instances)/\(id)")
      #expect(reply.headers[.version] == "2.0.0")
      #expect(
        instance.names.isSuperset(of: [
          "id", "vnfdId", "vnfProvider", "vnfProductName", "vnfSoftwareVersion", "vnfdVersion",
          "instantiationState", "_links",
        ]))
      #expect(try instance.member("vnfInstanceName").text == "a\"b")
      #expect(try instance.member("instantiationState").text == "NOT_INSTANTIATED")
      #expect(!instance.names.contains("instantiatedVnfInfo"))
      #expect(
        try instance.at("_links/instantiate/href").text == "\(Self.instances)/\(id)/instantiate")
    }
  }

  @Test func instantiatedInstanceShowsWhatRuns() async throws {
    try await run { fixture in
      let id = try await fixture.instantiated()
      let instance = try await fixture.call(.get, "\(Self.instances)/\(id)").json
      #expect(try instance.member("instantiationState").text == "INSTANTIATED")
      let info = try instance.member("instantiatedVnfInfo")
      #expect(try info.member("flavourId").text == "container")
      #expect(try info.member("vnfState").text == "STARTED")
      #expect(try info.at("scaleStatus/0/aspectId").text == "workers")
      #expect(try info.at("scaleStatus/0/scaleLevel").integer == 0)
      #expect(try info.at("maxScaleLevels/0/scaleLevel").integer == 4)
      let point = try info.at("extCpInfo/0")
      #expect(
        point.names.isSuperset(of: ["id", "cpdId", "cpConfigId", "cpProtocolInfo"])
          && point.names.contains("associatedVnfcCpId"))
      #expect(try point.at("cpProtocolInfo/0/layerProtocol").text == "IP_OVER_ETHERNET")
      let address = try point.at("cpProtocolInfo/0/ipOverEthernet/ipAddresses/0")
      #expect(try address.member("type").text == "IPV4")
      #expect(try address.at("addresses/0").text == "10.9.0.1")
      let link = try info.at("extVirtualLinkInfo/0")
      #expect(try link.member("id").text == "link-1")
      #expect(try link.at("resourceHandle/resourceId").text != "left")
      #expect(try link.at("currentVnfExtCpData/0/cpdId").text == "left")
      #expect(try link.at("extLinkPorts/0/cpInstanceId").text == point.member("id").text)
      let vnfc = try info.at("vnfcResourceInfo/0")
      #expect(vnfc.names.isSuperset(of: ["id", "vduId", "computeResource", "vnfcCpInfo"]))
      #expect(try vnfc.at("metadata/state").text == "RUNNING")
      #expect(try vnfc.at("metadata/incarnation").integer == 1)
      #expect(try vnfc.at("metadata/securityProfile").text == "AppArmor: fake 1")
      #expect(try !vnfc.member("metadata").names.contains("accelerator"))
      #expect(try vnfc.member("vnfcCpInfo").items.count == 2)
      let inner = try info.at("vnfVirtualLinkResourceInfo/0")
      #expect(try inner.member("vnfVirtualLinkDescId").text == "internal")
      #expect(try inner.at("vnfLinkPorts/0/cpInstanceType").text == "VNFC_CP")
    }
  }

  @Test func whatRunsAMachinesInstructionsIsTold() async throws {
    try await run { fixture in
      let id = try await fixture.instantiated()
      for accelerator in ["tcg", "kvm"] {
        fixture.fake.knownAccelerator.withLock { $0 = accelerator }
        let instance = try await fixture.call(.get, "\(Self.instances)/\(id)").json
        let metadata = try instance.at("instantiatedVnfInfo/vnfcResourceInfo/0/metadata")
        #expect(try metadata.member("accelerator").text == accelerator)
      }
    }
  }

  @Test func healKeepsTheVnfcAndChangesItsResource() async throws {
    try await run { fixture in
      let id = try await fixture.instantiated()
      let path = "\(Self.instances)/\(id)"
      let before = try await fixture.call(.get, path).json.at(
        "instantiatedVnfInfo/vnfcResourceInfo/0")
      try await fixture.completed(
        fixture.call(.post, "\(path)/heal", #"{"cause":"test"}"#))
      let after = try await fixture.call(.get, path).json.at(
        "instantiatedVnfInfo/vnfcResourceInfo/0")
      #expect(try before.member("id") == after.member("id"))
      #expect(
        try before.at("computeResource/resourceId") != after.at("computeResource/resourceId"))
      #expect(try before.member("vnfcCpInfo") == after.member("vnfcCpInfo"))
    }
  }

  @Test func everyOperationOpensAnOccurrence() async throws {
    try await run { fixture in
      let id = try await fixture.instantiated()
      let path = "\(Self.instances)/\(id)"
      for (task, body) in [
        ("scale", #"{"type":"SCALE_OUT","aspectId":"workers","numberOfSteps":2}"#),
        ("scale_to_level", #"{"scaleInfo":[{"aspectId":"workers","scaleLevel":1}]}"#),
        ("operate", #"{"changeStateTo":"STOPPED","stopType":"FORCEFUL"}"#),
        ("operate", #"{"changeStateTo":"STARTED"}"#),
        ("terminate", #"{"terminationType":"GRACEFUL","gracefulTerminationTimeout":1}"#),
      ] {
        let reply = try await fixture.call(.post, "\(path)/\(task)", body)
        #expect(reply.status == 202 && reply.text.isEmpty, "\(task): \(reply.text)")
        try await fixture.completed(reply)
      }
      #expect(try await fixture.call(.delete, path).status == 204)
      #expect(try await fixture.call(.get, path).status == 404)
    }
  }

  @Test func informationIsModified() async throws {
    try await run { fixture in
      let id = try await fixture.instantiated()
      let path = "\(Self.instances)/\(id)"
      let reply = try await fixture.call(
        .patch, path,
        #"{"vnfInstanceName":"edge","metadata":{"owner":"ann","sites":["a"]}}"#,
        headers: [.contentType: "application/merge-patch+json"])
      #expect(reply.status == 202 && reply.text.isEmpty, "\(reply.text)")
      try await fixture.completed(reply)
      let operation = try await fixture.call(.get, try #require(reply.headers[.location])).json
      #expect(try operation.member("operation").text == "MODIFY_INFO")
      #expect(try operation.at("changedInfo/metadata/owner").text == "ann")
      #expect(try operation.at("operationParams/vnfInstanceName").text == "edge")
      var instance = try await fixture.call(.get, path).json
      #expect(try instance.member("vnfInstanceName").text == "edge")
      #expect(try instance.at("metadata/sites/0").text == "a")
      try await fixture.completed(
        fixture.call(.patch, path, #"{"metadata":{"owner":null}}"#))
      instance = try await fixture.call(.get, path).json
      #expect(try instance.member("metadata").names == ["sites"])
      let listed = try await fixture.call(.get, "\(Self.instances)?fields=metadata").json
      #expect(try listed.at("0/metadata/sites/0").text == "a")
    }
  }

  @Test func refusalsAreProblems() async throws {
    try await run { fixture in
      let id = try await fixture.instantiated()
      let path = "\(Self.instances)/\(id)"
      for (method, target, body, status, part) in [
        (HTTPRequest.Method.get, "\(Self.instances)/none", nil, 404, "no VNF instance none"),
        (.delete, path, nil, 409, "INSTANTIATED"),
        (.post, Self.instances, "{}", 400, "vnfdId is missing"),
        (.post, Self.instances, #"{"vnfdId":7}"#, 400, "vnfdId must be a string"),
        (.post, Self.instances, #"{"vnfdId":"x"}"#, 422, "descriptor x"),
        (.post, Self.instances, #"{"vnfdId":"vnfd-1","vnfInstanceName":"fw"}"#, 409, "fw is taken"),
        (.post, "\(path)/instantiate", "{}", 409, "already INSTANTIATED"),
        (
          .post, "\(path)/scale", #"{"type":"UP","aspectId":"workers"}"#, 400, "SCALE_OUT, SCALE_IN"
        ),
        (.post, "\(path)/scale", #"{"type":"SCALE_IN","aspectId":"workers"}"#, 422, "level -1"),
        (.post, "\(path)/scale_to_level", "{}", 400, "scaleInfo"),
        (.post, "\(path)/terminate", "{}", 400, "terminationType is missing"),
        (
          .post, "\(path)/terminate",
          #"{"terminationType":"GRACEFUL","gracefulTerminationTimeout":-1}"#, 400, "0 to 3600"
        ),
        (.post, "\(path)/change_flavour", "{}", 501, "change_flavour"),
        (.patch, path, #"{"vnfdId":"x"}"#, 422, "vnfdId of fw cannot be modified"),
        (.patch, path, #"{"extensions":{"a":1}}"#, 422, "no extension a"),
        (.patch, path, #"{"metadata":1}"#, 400, "metadata must be an object"),
        (.patch, path, "[]", 400, "must be an object"),
        (.patch, "\(Self.instances)/none", "{}", 404, "no VNF instance none"),
        (.put, path, "{}", 405, "DELETE, GET, PATCH"),
        (.get, "/vnflcm/v2/nothing", nil, 404, "nothing at /vnflcm/v2/nothing"),
        (
          .post, "\(path)/instantiate",
          #"{"extVirtualLinks":[{"resourceId":"left","extCps":[{"cpdId":"left","cpConfig":{"a":"#
            + #"{"cpProtocolData":[{"ipOverEthernet":{"ipAddresses":[{"fixedAddresses":["10.9"]}]}}"#
            + #"]}}}]}]}"#,
          400,
          "extVirtualLinks[0].extCps[0].cpConfig.a.cpProtocolData[0].ipOverEthernet.ipAddresses[0]"
            + ".fixedAddresses[0] must be an IP address"
        ),
      ] as [(HTTPRequest.Method, String, String?, Int, String)] {
        let reply = try await fixture.call(method, target, body)
        #expect(reply.status == status, "\(method) \(target): \(reply.text)")
        #expect(reply.detail.contains(part), "\(method) \(target): \(reply.text)")
        #expect(try reply.json.member("status").integer == Int64(status))
        #expect(try reply.json.member("instance").text == target)
      }
      let reply = try await fixture.call(.put, path, "{}")
      #expect(reply.headers[.allow] == "DELETE, GET, PATCH")
    }
  }

  @Test func listLeavesOutComplexAttributesUnlessAsked() async throws {
    try await run { fixture in
      _ = try await fixture.instantiated()
      let info = "instantiatedVnfInfo"
      for (query, isShown) in [
        ("", false), ("?all_fields", true), ("?fields=instantiatedVnfInfo", true),
        ("?fields=metadata", false), ("?exclude_fields=metadata", true),
        ("?exclude_fields=instantiatedVnfInfo", false), ("?exclude_default", false),
      ] {
        let items = try await fixture.call(.get, Self.instances + query).json.items
        #expect(items.count == 1)
        #expect(items[0].names.contains(info) == isShown, "\(query)")
      }
      let reply = try await fixture.call(.get, "\(Self.instances)?fields=nothing")
      #expect(reply.status == 400 && reply.detail.contains("nothing"))
    }
  }

  @Test func filters() async throws {
    try await run { fixture in
      _ = try await fixture.instantiated("a")
      _ = try await fixture.call(
        .post, Self.instances, #"{"vnfdId":"vnfd-1","vnfInstanceName":"b, (x)"}"#)
      func names(_ filter: String) async throws -> [String] {
        let reply = try await fixture.call(.get, "\(Self.instances)?filter=\(filter)")
        #expect(reply.status == 200, "\(reply.text)")
        return try reply.json.items.map { try $0.member("vnfInstanceName").text }
      }
      #expect(try await names("(eq,instantiationState,INSTANTIATED)") == ["a"])
      #expect(try await names("(neq,instantiationState,INSTANTIATED)") == ["b, (x)"])
      #expect(try await names("(in,vnfInstanceName,a,c)") == ["a"])
      #expect(try await names("(nin,vnfInstanceName,a,c)") == ["b, (x)"])
      #expect(try await names("(eq,vnfInstanceName,'b,%20(x)')") == ["b, (x)"])
      #expect(try await names("(cont,vnfInstanceName,x)") == ["b, (x)"])
      #expect(try await names("(ncont,vnfInstanceName,x)") == ["a"])
      #expect(try await names("(gt,vnfInstanceName,a)") == ["b, (x)"])
      #expect(try await names("(gte,vnfInstanceName,a)") == ["a", "b, (x)"])
      #expect(try await names("(lt,vnfInstanceName,b)") == ["a"])
      #expect(try await names("(lte,vnfInstanceName,a)") == ["a"])
      // Numbers are compared as such: 1.0 is less than 10.
      #expect(try await names("(lt,vnfSoftwareVersion,10)") == ["a", "b, (x)"])
      #expect(try await names("(gte,vnfSoftwareVersion,1)") == ["a", "b, (x)"])
      #expect(try await names("(eq,instantiatedVnfInfo/flavourId,container)") == ["a"])
      #expect(try await names("(eq,vnfProvider,Martlet);(eq,vnfInstanceName,a)") == ["a"])
      for (bad, part) in [
        ("(eq,nothing,1)", "nothing"), ("(near,id,1)", "near"), ("(gt,id,1,2)", "one value"),
        ("eq,id,1", "'('"),
        ("(eq,id,1", "')'"), ("(eq,id)", "one value"), ("(eq,id,'1)", "quote"),
        ("(eq,id,1)x", "';'"),
      ] {
        let reply = try await fixture.call(.get, "\(Self.instances)?filter=\(bad)")
        #expect(reply.status == 400 && reply.detail.contains(part), "\(bad): \(reply.text)")
      }
    }
  }

  @Test func pagesOfAHundred() async throws {
    try await run { fixture in
      for index in 0..<205 {
        _ = try await fixture.lifecycle.submit(
          .createInstance(.init(vnfd: "vnfd-1", name: "vnf-\(index)")), actor: "test")
      }
      var path = "\(Self.instances)?filter=(cont,vnfInstanceName,vnf)&all_fields"
      var names: [String] = []
      var pages = 0
      while true {
        let reply = try await fixture.call(.get, path)
        let items = try reply.json.items
        #expect(items.count == (pages < 2 ? 100 : 5))
        names += try items.map { try $0.member("vnfInstanceName").text }
        pages += 1
        guard let link = reply.headers[.link] else { break }
        #expect(link.hasSuffix("; rel=\"next\""))
        path = String(link.dropFirst().prefix { $0 != ">" })
        #expect(path.contains("filter=(cont,vnfInstanceName,vnf)&all_fields&nextpage"))
        if pages == 1 {
          let gone = try await fixture.call(
            .get, "\(Self.instances)?filter=(eq,vnfInstanceName,vnf-0)")
          let id = try gone.json.at("0/id").text
          #expect(try await fixture.call(.delete, "\(Self.instances)/\(id)").status == 204)
        }
      }
      #expect(names == (0..<205).map { "vnf-\($0)" })
      let reply = try await fixture.call(.get, "\(Self.instances)?nextpage_opaque_marker=x")
      #expect(reply.status == 400)
    }
  }

  @Test func whatWasScaledInIsNoPartOfTheInstance() async throws {
    try await run { fixture in
      let path = "\(Self.instances)/\(try await fixture.instantiated())"
      func vnfcs() async throws -> Int {
        try await fixture.call(.get, path).json.at("instantiatedVnfInfo/vnfcResourceInfo").items
          .count
      }
      func scale(_ type: String) async throws {
        let body = #"{"type":"\#(type)","aspectId":"workers"}"#
        try await fixture.completed(fixture.call(.post, "\(path)/scale", body))
      }
      try await scale("SCALE_OUT")
      #expect(try await vnfcs() == 2)
      fixture.fake.isDeletionHeld.withLock { $0 = true }
      defer { fixture.fake.isDeletionHeld.withLock { $0 = false } }
      try await scale("SCALE_IN")
      #expect(try await vnfcs() == 1)
    }
  }

  @Test func whatCannotBeRolledBackHasNoLinkForIt() async throws {
    try await run { fixture in
      let path = "\(Self.instances)/\(try await fixture.instantiated())"
      fixture.fake.startFailure.withLock { $0 = NFVError(.failed, "it does not start") }
      let accepted = try await fixture.call(.post, "\(path)/heal", "{}")
      try await fixture.completed(accepted, "FAILED_TEMP")
      let occurrence = try #require(accepted.headers[.location])
      let links = try await fixture.call(.get, occurrence).json.member("_links").names
      #expect(links == ["self", "vnfInstance", "retry", "fail"])
      #expect(try await fixture.call(.post, "\(occurrence)/rollback").status == 409)
      #expect(try await fixture.call(.post, "\(occurrence)/fail").status == 200)
    }
  }

  @Test func failedOperationIsRetriedRolledBackOrFailed() async throws {
    try await run { fixture in
      fixture.fake.startFailure.withLock { $0 = NFVError(.failed, "it does not start", cause: "x") }
      let created = try await fixture.call(.post, Self.instances, #"{"vnfdId":"vnfd-1"}"#)
      let id = try created.json.member("id").text
      let path = "\(Self.instances)/\(id)/instantiate"
      let body =
        #"{"extVirtualLinks":[{"id":"l","resourceId":"left","extCps":[{"cpdId":"left"}]}],"#
        + #""vimConnectionInfo":{"v":{"accessInfo":{"password":"secret"}}}}"#
      let accepted = try await fixture.call(.post, path, body)
      try await fixture.completed(accepted, "FAILED_TEMP")
      let occurrence = try #require(accepted.headers[.location])
      let shown = try await fixture.call(.get, occurrence)
      #expect(!shown.text.contains("secret"))
      let json = try shown.json
      #expect(
        json.names.isSuperset(of: [
          "id", "operationState", "stateEnteredTime", "startTime", "vnfInstanceId", "operation",
          "isAutomaticInvocation", "isCancelPending", "error", "_links", "operationParams",
          "resourceChanges",
        ]))
      #expect(try json.at("error/status").integer == 500)
      #expect(try json.at("error/detail").text.contains("it does not start"))
      #expect(try json.at("resourceChanges/affectedVnfcs/0/changeType").text == "ADDED")
      #expect(try json.at("_links/rollback/href").text == "\(occurrence)/rollback")
      #expect(try json.at("org.martlet/actor").text == "anonymous")
      #expect(try await fixture.call(.post, "\(occurrence)/retry").status == 202)
      try await fixture.completed(accepted, "FAILED_TEMP")
      let failed = try await fixture.call(.post, "\(occurrence)/fail")
      #expect(failed.status == 200)
      #expect(try failed.json.member("operationState").text == "FAILED")
      #expect(try await fixture.call(.post, "\(occurrence)/retry").status == 409)
      fixture.fake.startFailure.withLock { $0 = nil }
      // What was reached is swept after the answer.
      try await eventually("the internal network is swept") {
        try await fixture.call(.get, "/martlet/v1/networks").json.items.count == 1
      }
      try await fixture.completed(fixture.call(.post, path, body))
      let list = try await fixture.call(
        .get, "/vnflcm/v2/vnf_lcm_op_occs?filter=(eq,vnfInstanceId,\(id))&all_fields")
      let states = try list.json.items.map { try $0.member("operationState").text }
      #expect(states == ["COMPLETED", "FAILED"])
      let done = try list.json.items[0]
      #expect(try done.at("org.martlet/phases").items.count >= 3)
      #expect(try done.at("org.martlet/phases/0/durationMicroseconds").integer >= 0)
      let brief = try await fixture.call(.get, "/vnflcm/v2/vnf_lcm_op_occs").json
      #expect(brief.items.allSatisfy { !$0.names.contains("operationParams") })
      #expect(try await fixture.call(.get, "/vnflcm/v2/vnf_lcm_op_occs/none").status == 404)
    }
  }

  /// A page ends where many occurrences were read, whether or not it has found anything.
  @Test func aPageOfOccurrencesReadsSoManyOnly() async throws {
    try await Fixture.run { fixture in
      func occurrence(_ index: Int, _ operation: LcmOperationType) -> Change {
        .putOperation(
          VnfLcmOpOcc(
            id: VnfLcmOpOccID("o\(index)"), tenant: .default, instance: "i", operation: operation,
            state: .completed, startTime: Timestamp(microseconds: Int64(index)), actor: "t"))
      }
      _ = try fixture.store.commit(
        [occurrence(0, .heal)] + (1...2_500).map { occurrence($0, .operate) })
      let occurrences = "/vnflcm/v2/vnf_lcm_op_occs"
      let first = try await fixture.call(.get, "\(occurrences)?filter=(eq,operation,HEAL)")
      #expect(try first.status == 200 && first.json.items.isEmpty)
      let link = try #require(first.headers[.link])
      let path = String(link.dropFirst().prefix { $0 != ">" })
      let second = try await fixture.call(.get, path)
      #expect(try second.json.items.map { try $0.member("id").text } == ["o0"], "\(second.text)")
      #expect(second.headers[.link] == nil)
      let unknown = try await fixture.call(.get, "\(occurrences)?nextpage_opaque_marker=o9999")
      #expect(unknown.status == 400 && unknown.detail.contains("o9999"), "\(unknown.text)")
    }
  }
}
