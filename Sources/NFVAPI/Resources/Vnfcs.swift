internal import HTTPTypes
internal import Hummingbird
internal import NFVLifecycle
internal import NFVModel
internal import NIOCore
internal import Synchronization

/// What one component of a VNF writes, uses, and runs on request.
struct Vnfcs: Sendable {
  static let path = "/martlet/v1/vnf_instances/{vnfInstanceId}/vnfcs/{vnfcId}"

  let lifecycle: Lifecycle
  let streams: Streams
  let pauses: Pauses

  /// A Vnfc, how it is run, and its workload.
  struct Subject: Sendable {
    var vnfc: Vnfc
    /// What its VNF is called.
    var instanceName: String
    var driver: any WorkloadDriver
    /// What its technology gives.
    var capabilities: DriverCapabilities
    /// The one that runs now.
    var serving: WorkloadID?
    /// The last one that was asked for.
    var last: WorkloadID

    /// - Throws: `conflict` where none runs.
    func running() throws(NFVError) -> WorkloadID {
      guard let serving else {
        throw NFVError(
          .conflict, "nothing runs for the Vnfc \(vnfc.id) now; wait until it is RUNNING")
      }
      return serving
    }
  }

  func register(on routes: inout Routes) {
    let number = #"{"type":"integer","minimum":0}"#
    routes.on(
      .get, RouterPath("\(Self.path)/log"),
      .content(
        ["application/octet-stream"], "Gives what a Vnfc's workload wrote.",
        parameters: [
          .init(name: "offset", description: "From this octet on.", schema: number),
          .init(
            name: "limit", description: "At most so many octets.",
            schema: #"{"type":"integer","minimum":1,"maximum":16777216}"#),
          .init(
            name: "follow", description: "On and on, until it ends.",
            schema: #"{"type":"boolean"}"#),
          .init(
            name: "incarnation", description: "Of this run; the running or last one by default.",
            schema: #"{"type":"integer","minimum":1,"maximum":2147483647}"#),
        ]), log)
    routes.on(
      .get, RouterPath("\(Self.path)/usage"),
      .get("Usage", "Shows what a Vnfc's workload uses.", hasTag: false), usage)
    routes.on(
      .post, RouterPath("\(Self.path)/exec"),
      .frames("Runs a command inside a Vnfc, by frames in both directions."), exec)
    routes.on(
      .post, RouterPath("\(Self.path)/console"),
      .frames("Joins a Vnfc's serial console, by frames in both directions."), console)
    routes.on(
      .post, RouterPath("\(Self.path)/pause"), .pausing("Stops a Vnfc's processors.")
    ) { _, context in
      try await pausing(context, true)
    }
    routes.on(
      .post, RouterPath("\(Self.path)/continue"), .pausing("Lets a paused Vnfc go on.")
    ) { _, context in
      try await pausing(context, false)
    }
  }

  func find(_ context: CallContext) throws(NFVError) -> Subject {
    let instanceID: VnfInstanceID = context.identifier("vnfInstanceId")
    let id: VnfcID = context.identifier("vnfcId")
    let host = lifecycle.host
    return try lifecycle.read { (state: borrowing State) throws(NFVError) -> Subject in
      let instance = try state.instance(instanceID, of: context.tenant)
      guard let vnfc = state.vnfcs[id], vnfc.instance == instance.id else {
        throw NFVError(.notFound, "\(instance.name) has no Vnfc \(id)")
      }
      let descriptor = state.packages[instance.package]?.content?.descriptor
      guard
        let technology = descriptor?.flavour(vnfc.flavour)?.vdu(vnfc.vdu)?.technology,
        let driver = host.driver(for: technology),
        let capabilities = driver.capabilities[technology]
      else {
        throw NFVError(.unavailable, "no driver of this host runs the Vnfc \(id)")
      }
      let last = state.workload(vnfc, incarnation: max(1, vnfc.incarnation))
      return Subject(
        vnfc: vnfc, instanceName: instance.name, driver: driver, capabilities: capabilities,
        serving: state.serving(id),
        last: last)
    }
  }

  // MARK: Use

  private func pausing(_ context: CallContext, _ isPaused: Bool) async throws -> Reply {
    let subject = try find(context)
    let workload = try subject.running()
    guard subject.capabilities.pauses, let driver = subject.driver as? any Pausing else {
      throw Problem(.notImplemented, "the Vnfc \(subject.vnfc.id) cannot be paused")
    }
    try await pauses.set(workload, isPaused: isPaused, by: driver)
    return Reply(status: .noContent)
  }

  private func usage(_ call: Call, _ context: CallContext) async throws -> Reply {
    let subject = try find(context)
    let workload = try subject.running()
    let usage = try await subject.driver.usage(of: workload)
    // One that does not answer is not known to be.
    let isPaused = try? await (subject.driver as? any Pausing)?.isPaused(workload)
    let counters = try await lifecycle.host.network.counters(
      of: subject.vnfc.ports.map { Attachment(port: $0, workload: workload) })
    // One that does not answer has none to show.
    let own = try? await (subject.driver as? any Configuring)?.counters(of: workload)
    return .json {
      $0.object {
        $0.field("vnfcId", subject.vnfc.id)
        $0.fields(of: usage, of: workload)
        $0.field("isPaused", isPaused ?? false)
        $0.ports(subject.vnfc.ports, counters)
        if let own, !own.isEmpty {
          $0.objects("functionCounters", own) { json, counter in
            json.field("name", counter.name)
            json.field("value", counter.value)
          }
        }
      }
    }
  }

  // MARK: Output

  private static let pollInterval: Duration = .milliseconds(100)
  private static let chunk = 64 << 10

  private func log(_ call: Call, _ context: CallContext) async throws -> Reply {
    let subject = try find(context)
    let offset = try call.number("offset", default: UInt64(0), in: 0...(1 << 62))
    let limit = try call.number("limit", default: 1 << 20, in: 1...(16 << 20))
    let follows = try call.flag("follow", default: false)
    var workload = subject.serving ?? subject.last
    workload.incarnation = try call.number(
      "incarnation", default: workload.incarnation, in: 1...Int(Int32.max))
    let first = try await subject.driver.log(
      of: workload, from: offset, limit: follows ? Self.chunk : limit)
    let headers: HTTPFields = [
      .contentType: "application/octet-stream", .logOffset: String(first.offset),
      .incarnation: String(workload.incarnation),
    ]
    guard follows else {
      return Reply(
        status: .ok, headers: headers,
        body: ResponseBody(byteBuffer: ByteBuffer(bytes: first.bytes)))
    }
    let run = workload
    let place = try streams.take()
    return Reply(
      status: .ok, headers: headers,
      body: ResponseBody { writer in
        let isOver = Flag()
        try await context.stream(call, at: place) {
          isOver.raise()
        } body: { _ in
          try await follow(run, subject.driver, first, isOver) {
            try await writer.write(ByteBuffer(bytes: $0))
          }
        }
        try await writer.finish(nil)
      })
  }

  /// Tells what a workload writes until it ended and all was told.
  private func follow(
    _ workload: WorkloadID, _ driver: any WorkloadDriver, _ first: LogChunk, _ isOver: Flag,
    _ tell: ([UInt8]) async throws -> Void
  ) async throws {
    var chunk = first
    while true {
      if !chunk.bytes.isEmpty { try await tell(chunk.bytes) }
      let next = chunk.offset + UInt64(chunk.bytes.count)
      let wasAlive = try lifecycle.read { (state: borrowing State) throws(NFVError) -> Bool in
        state.isAlive(workload)
      }
      if isOver.isRaised { return }
      if chunk.bytes.isEmpty { try await Task.sleep(for: Self.pollInterval) }
      chunk = try await driver.log(of: workload, from: next, limit: Self.chunk)
      // Offsets of a body have no gaps: where output was dropped the reader asks anew.
      if chunk.bytes.isEmpty ? !wasAlive : chunk.offset != next { return }
    }
  }
}

extension Endpoint {
  fileprivate static func frames(_ summary: String) -> Endpoint {
    Endpoint(
      summary: summary, body: Body(types: [ExecFrame.contentType], schema: nil),
      answers: [
        Answer(
          status: 200, description: "Frames, until it ends.", types: [ExecFrame.contentType])
      ])
  }

  fileprivate static func pausing(_ summary: String) -> Endpoint {
    Endpoint(summary: summary, answers: [Answer(status: 204, description: "Done.")])
  }
}

/// Is raised once.
final class Flag: Sendable {
  private let value = Atomic<Bool>(false)

  var isRaised: Bool { value.load(ordering: .acquiring) }
  func raise() { value.store(true, ordering: .releasing) }
}
