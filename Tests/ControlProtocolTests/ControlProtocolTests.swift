import ControlProtocol
import Testing
import Wire

/// Octets of frames, field by field: a change here is a change of the protocol's version.
@Suite struct ControlProtocolTests {
  private static let greeting: [UInt8] = [
    0x4d, 0x61, 0x72, 0x74, 0x6c, 0x65, 0x74, 0xf5, 0x1b, 0x8e, 0xd0, 0xff, 0x93, 0xa6, 0xc1, 0xfe,
  ]

  @Test("QEMU's exit status says what a guest wrote, twice and one more, where it has room for it")
  func debugExit() {
    for (exit, octet) in [
      (.exited(code: 0), 1), (.exited(code: 94), 95), (.killed(signal: 1), 96),
      (.killed(signal: 31), 126),
    ] as [(GuestExit, UInt8)] {
      #expect(DebugExit(exit).octet == octet)
      #expect(DebugExit(status: Int32(octet) << 1 | 1) == .ended(exit))
    }
    for exit: GuestExit in [
      .exited(code: 95), .exited(code: 255), .killed(signal: 0), .killed(signal: 32),
    ] {
      #expect(DebugExit(exit) == .otherwise && DebugExit(exit).octet == 127)
      let output =
        "one\n\(DebugExit.words(of: .exited(code: 96)))\n\(DebugExit.words(of: exit))\r\n"
      #expect(DebugExit.exit(in: output + "two") == exit)
    }
    #expect(DebugExit(status: 127 << 1 | 1) == .otherwise)
    for code: Int32 in [-1, 0, 1, 2, 4, 256, 257] { #expect(DebugExit(status: code) == nil) }
    #expect(DebugExit.exit(in: "martlet-init: the function exited with status x") == nil)
  }

  @Test func hello() throws {
    let frame: [UInt8] =
      [
        28, 0, 0, 0,  // length
        7, 0, 0, 0, 0, 0, 0, 0,  // id 7
        1, 0,  // kind: hello
      ] + Self.greeting + [
        1, 0,  // version 1
      ]
    #expect(try ControlRequest.hello(version: 1).frame(id: 7) == frame)
    let read = try ControlRequest.read(Array(frame.dropFirst(4)))
    #expect(read.id == 7)
    #expect(try read.1.get() == .hello(version: 1))
  }

  @Test func execute() throws {
    let frame: [UInt8] = [
      32, 0, 0, 0,  // length
      9, 0, 0, 0, 0, 0, 0, 0,  // id 9
      4, 0,  // kind: execute
      2, 0, 2, 0, 0x73, 0x68, 2, 0, 0x2d, 0x69,  // two arguments: "sh", "-i"
      1, 0, 3, 0, 0x41, 0x3d, 0x31,  // one variable: "A=1"
      1, 24, 0, 80, 0,  // a terminal of 24 rows and 80 columns
    ]
    var whole = frame
    whole[0] = UInt8(frame.count - 4)
    let command = GuestCommand(
      arguments: ["sh", "-i"], environment: ["A=1"], terminal: .init(rows: 24, columns: 80))
    #expect(try ControlRequest.execute(command).frame(id: 9) == whole)
    #expect(try ControlRequest.read(Array(whole.dropFirst(4))).1.get() == .execute(command))
  }

  @Test func status() throws {
    let frame: [UInt8] = [
      17, 0, 0, 0,  // length
      7, 0, 0, 0, 0, 0, 0, 0,  // id 7
      102, 0,  // kind: status
      1, 0,  // version 1
      1, 2, 0, 0, 0,  // running, pid 2
    ]
    let message = ControlMessage.reply(id: 7, .status(version: 1, .running(pid: 2)))
    #expect(try message.frame() == frame)
    #expect(try ControlMessage(Array(frame.dropFirst(4))) == message)
  }

  @Test func output() throws {
    let frame: [UInt8] = [
      25, 0, 0, 0,  // length
      0, 0, 0, 0, 0, 0, 0, 0,  // an event
      202, 0,  // kind: output
      9, 0, 0, 0, 0, 0, 0, 0,  // session 9
      2,  // standard error
      2, 0, 0, 0, 0x68, 0x69,  // "hi"
    ]
    let message = ControlMessage.event(.output(session: 9, .error, [0x68, 0x69]))
    #expect(try message.frame() == frame)
    #expect(try ControlMessage(Array(frame.dropFirst(4))) == message)
  }

  @Test(arguments: [
    ControlRequest.stop, .configure(document: [123, 125]),
    .execute(GuestCommand(arguments: ["a"])), .input(session: 3, [1, 2, 3], isLast: true),
    .resize(session: 3, .init(rows: 1, columns: 2)), .signal(session: 3, number: 9),
    .acknowledge(session: 3, octets: 65536), .counters, .functionCounters,
    .file(path: "/etc/f", content: [1, 2]),
  ])
  func requestsAreReadAsTheyWereWritten(_ request: ControlRequest) throws {
    let read = try ControlRequest.read(Array(try request.frame(id: 1 << 40).dropFirst(4)))
    #expect(read.id == 1 << 40)
    #expect(try read.1.get() == request)
  }

  @Test(arguments: [
    ControlMessage.reply(id: 1, .done), .reply(id: 2, .refused("no such command")),
    .reply(
      id: 3,
      .counters(
        GuestCounters(
          uptimeMilliseconds: 1, processorMilliseconds: 2, memoryTotal: 3, memoryAvailable: 4,
          processes: 5))),
    .reply(id: 6, .functionCounters([.init(name: "accepted", value: .max)])),
    .reply(id: 4, .status(version: 1, .failed("it is missing"))),
    .event(.state(.ended(.killed(signal: 15)))), .event(.exited(session: 4, .exited(code: 3))),
  ])
  func messagesAreReadAsTheyWereWritten(_ message: ControlMessage) throws {
    #expect(try ControlMessage(Array(try message.frame().dropFirst(4))) == message)
  }

  @Test func start() throws {
    let start = GuestStart(
      command: ["/bin/f"], environment: ["A=1"], workingDirectory: "/w", hostName: "h",
      forwards: true, files: [.init(path: "/e", mode: 0o644)],
      ports: [
        .init(
          name: "eth0", mac: [2, 0, 0, 0, 0, 1], mtu: 1500,
          addresses: [.init(octets: [10, 0, 0, 2], length: 24)],
          routes: [
            .init(destination: .init(octets: [0, 0, 0, 0], length: 0), via: [10, 0, 0, 1])
          ])
      ])
    let bytes: [UInt8] = [
      1, 0,  // version 1
      1, 0, 6, 0, 0x2f, 0x62, 0x69, 0x6e, 0x2f, 0x66,  // one argument: "/bin/f"
      1, 0, 3, 0, 0x41, 0x3d, 0x31,  // one variable: "A=1"
      2, 0, 0x2f, 0x77,  // working directory "/w"
      1, 0, 0x68,  // host name "h"
      1,  // forwards
      1, 0, 2, 0, 0x2f, 0x65, 0xa4, 1, 0, 0,  // one file: "/e", 0644
      1, 0,  // one port
      4, 0, 0x65, 0x74, 0x68, 0x30,  // "eth0"
      6, 0, 2, 0, 0, 0, 0, 1,  // its MAC
      0xdc, 5, 0, 0,  // MTU 1500
      1, 0, 4, 0, 10, 0, 0, 2, 24,  // one address
      1, 0, 4, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0, 1,  // the default route
    ]
    #expect(try start.encoded() == bytes)
    #expect(try GuestStart(bytes) == start)
  }

  @Test func nonsenseIsRefusedWhereverItIsCut() throws {
    let body = Array(
      try ControlMessage.event(.output(session: 9, .error, [1, 2])).frame().dropFirst(4))
    for count in 0..<body.count {
      #expect(throws: WireError.self) { try ControlMessage(Array(body.prefix(count))) }
    }
    #expect(throws: WireError.trailing(1)) { try ControlMessage(body + [0]) }
    var random = SystemRandomNumberGenerator()
    for _ in 0..<10_000 {
      let noise = (0..<Int.random(in: 0..<64)).map { _ in UInt8.random(in: 0...255, using: &random)
      }
      _ = try? ControlMessage(noise)
      _ = try? ControlRequest.read(noise)
      _ = try? GuestStart(noise)
    }
    #expect(throws: WireError.tooLong) {
      try ControlRequest.configure(document: [UInt8](repeating: 0, count: 1 << 20)).frame(id: 1)
    }
  }

  @Test func framesComeInAnyPieces() throws {
    let frames =
      try ControlRequest.hello(version: 1).frame(id: 1) + ControlRequest.stop.frame(id: 2)
    for size in 1...frames.count {
      var reader = FrameReader(findsGreetings: true)
      var ids: [UInt64] = []
      var rest = frames[...]
      while !rest.isEmpty {
        reader.append(Array(rest.prefix(size)))
        rest = rest.dropFirst(size)
        while let body = try reader.next() { ids.append(try ControlRequest.read(body).id) }
      }
      #expect(ids == [1, 2])
    }
  }

  @Test func aGreetingIsFoundAfterWhatAnEarlierConnectionLeft() throws {
    let cut = try ControlRequest.configure(document: [UInt8](repeating: 7, count: 500)).frame(id: 5)
    let hello = try ControlRequest.hello(version: 1).frame(id: 6)
    for kept in [0, 1, 3, 4, 20, 400, cut.count - 20, cut.count - 3] {
      for size in [1, 13, 1000] {
        var reader = FrameReader(findsGreetings: true)
        reader.append(try ControlRequest.hello(version: 1).frame(id: 1))
        _ = try reader.next()
        var octets = (cut.prefix(kept) + hello)[...]
        var last: UInt64?
        while !octets.isEmpty {
          reader.append(Array(octets.prefix(size)))
          octets = octets.dropFirst(size)
          // Until then what comes may look like anything.
          while let body = try? reader.next() { last = try? ControlRequest.read(body).id }
        }
        #expect(last == 6, "after \(kept) octets, \(size) at a time")
      }
    }
  }

  @Test func aLengthBeyondTheLimitEndsTheConnection() throws {
    var host = FrameReader(findsGreetings: false)
    host.append([1, 0, 16, 0])
    #expect(throws: WireError.tooLong) { try host.next() }
    var guest = FrameReader(findsGreetings: true)
    guest.append(try ControlRequest.hello(version: 1).frame(id: 1) + [0xff, 0xff, 0xff, 0xff])
    _ = try guest.next()
    #expect(throws: WireError.tooLong) { try guest.next() }
    #expect(!guest.isSynchronised)
    guest.append(try ControlRequest.stop.frame(id: 2))
    #expect(try guest.next() == nil)
    guest.append(try ControlRequest.hello(version: 1).frame(id: 3))
    #expect(try guest.next().map { try ControlRequest.read($0).id } == 3)
  }
}
