import Testing

@testable import martlet

@Suite struct ExecTests {
  @Test func framesOnTheWire() {
    #expect(ExecFrame.keepAlive.encoded == [0x00, 0, 0, 0, 0])
    #expect(ExecFrame.start(Array("{}".utf8)).encoded == [0x01, 0, 0, 0, 2, 0x7B, 0x7D])
    #expect(ExecFrame.input([9]).encoded == [0x02, 0, 0, 0, 1, 9])
    #expect(ExecFrame.endOfInput.encoded == [0x03, 0, 0, 0, 0])
    #expect(
      ExecFrame.resize(rows: 24, columns: 300).encoded == [0x04, 0, 0, 0, 4, 0, 24, 0x01, 0x2C])
  }

  @Test(arguments: [1, 2, 5, 100]) func framesHoweverTheyAreCut(_ size: Int) throws {
    let frames: [ExecFrame] = [
      .output(Array("hello".utf8)), .keepAlive, .errorOutput([]), .exit(Array("{}".utf8)),
    ]
    let octets = frames.flatMap(\.encoded)
    var parser = ExecFrameParser()
    var found: [ExecFrame] = []
    for start in stride(from: 0, to: octets.count, by: size) {
      found += try parser.parse(Array(octets[start..<min(start + size, octets.count)]))
    }
    #expect(found == frames)
  }

  @Test func aFrameTooLongIsRefused() {
    var parser = ExecFrameParser()
    #expect(throws: Failure.self) { try parser.parse([0x11, 0, 1, 0, 1]) }
  }

  @Test(arguments: [
    (#"{"code":3}"#, 3), (#"{"signal":9}"#, 137), (#"{"outOfMemory":true}"#, 137),
    (#"{"unknown":true}"#, 125),
  ])
  func theCommandsExitIsMartlets(_ exit: String, _ code: Int32) async throws {
    let frames = [
      ExecFrame.output(Array("out".utf8)), .errorOutput(Array("err".utf8)),
      .exit(Array(exit.utf8)),
    ]
    try await StubServer({ request, number in
      request.method == "POST"
        ? .init(pieces: [frames.flatMap(\.encoded)], isStream: true)
        : Samples.answer(request, number)
    }).onSocket { server in
      let run = await CommandRun.run(["exec", "fw", "--env", "A=b", "--", "sh", "-c"], on: server)
      #expect(run.code == code)
      #expect(run.output == "out")
      #expect(run.error.hasPrefix("err"))
      let request = server.received.first { $0.method == "POST" }
      #expect(
        request?.target
          == "/martlet/v1/vnf_instances/\(Samples.vnf)/vnfcs/\(Samples.vnfc)/exec")
      #expect(request?.headers["content-type"] == "application/vnd.martlet.exec")
      let start = ExecFrame.start(
        Array(#"{"arguments":["sh","-c"],"environment":["A=b"]}"#.utf8))
      #expect(request?.body.starts(with: start.encoded) == true)
    }
  }

  @Test func theConsoleIsShownUntilItsMachineEnds() async throws {
    let frames = [ExecFrame.output(Array("login: ".utf8)), .exit(Array(#"{"code":0}"#.utf8))]
    try await StubServer({ request, number in
      request.method == "POST"
        ? .init(pieces: [frames.flatMap(\.encoded)], isStream: true)
        : Samples.answer(request, number)
    }).onSocket { server in
      let other = await CommandRun.run(["console", "fw", "--vnfc", "other"], on: server)
      #expect(other.code == 3 && other.error.contains("fw has no Vnfc 'other'"), "\(other.error)")
      let run = await CommandRun.run(["console", "fw", "--vnfc", Samples.vnfc], on: server)
      #expect(run.code == 0 && run.output == "login: ")
      let request = server.received.first { $0.method == "POST" }
      #expect(
        request?.target
          == "/martlet/v1/vnf_instances/\(Samples.vnf)/vnfcs/\(Samples.vnfc)/console")
      #expect(request?.body.starts(with: ExecFrame.keepAlive.encoded) == true)
    }
  }

  @Test func aCommandThatCannotStart() async throws {
    let failed = ExecFrame.failed(Array(#"{"status":404,"detail":"there is no sh"}"#.utf8))
    try await StubServer({ request, number in
      request.method == "POST"
        ? .init(pieces: [failed.encoded], isStream: true) : Samples.answer(request, number)
    }).onSocket { server in
      let run = await CommandRun.run(["exec", "fw", "--", "sh"], on: server)
      #expect(run.code == 125)
      #expect(run.error == "martlet: there is no sh\n")
    }
  }
}
