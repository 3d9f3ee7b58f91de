import Foundation
import Functions
import Packets
import Replaying
import TestFrames
import Testing

/// The same capture through this build, which checks everything, and through the two that are used: the
/// Embedded one for Linux, and the one for bare metal in a machine.
@Suite struct ReplayTests {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appending(components: "..", "..").standardizedFileURL
  static let program = folder.appending(components: ".build", "replay")
  static let image = folder.appending(components: "Unikernel", ".build", "replay.elf")
  static let machine = URL(fileURLWithPath: "/usr/bin/qemu-system-x86_64")
  static let required = ProcessInfo.processInfo.environment["MARTLET_REQUIRE"] ?? ""

  /// Where they are required they are not passed over.
  static func isThere(_ files: URL..., facility: String) -> Bool {
    required.contains(facility)
      || files.allSatisfy { FileManager.default.fileExists(atPath: $0.path) }
  }
  /// Of each pipeline.
  static let count = 10_000

  static func record(_ octets: [UInt8], _ port: UInt8, after time: UInt64 = 0) -> [UInt8] {
    number(UInt64(octets.count), 4) + [port] + number(time, 8) + octets
  }

  static func number(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }

  static func document(_ pipeline: String, flows: Int = 64) -> [UInt8] {
    let rules = FuzzTests.rules.dropFirst().dropLast().replacing("64", with: "\(flows)")
    return Array(
      """
      {"generation": 1, "ports": [
        {"name": "left", "mac": "00:02:00:00:00:11", "addresses": ["10.0.1.1/24"]},
        {"name": "right", "mac": "00:02:00:00:00:12", "addresses": ["10.0.2.1/24"],
         "routes": [{"destination": "172.16.0.0/12", "via": "10.0.2.2"}]}],
       "parameters": {"pipeline": "\(pipeline)", \(rules), \(FuzzTests.services.dropFirst())}
      """.utf8)
  }

  /// Damaged and invented frames, fragments, right ones, and answers to what leaves.
  static func capture(_ pipeline: String, _ seed: UInt64) -> [UInt8] {
    var numbers = FuzzTests.Numbers(state: seed)
    var function = Pipeline()
    var surroundings = TestSurroundings()
    let document = document(pipeline)
    do throws(ConfigurationError) {
      try function.configure(Configuration(document: document), in: &surroundings)
    } catch {
      Issue.record("\(String(decoding: error.text, as: UTF8.self))")
    }
    var capture = record(document, 255)
    var answers: [(octets: [UInt8], port: Int)] = [
      (Sample.arpReply(Sample.server, Sample.serverMAC, to: Sample.right, Sample.rightMAC), 1),
      (Sample.arpReply(Sample.client, Sample.clientMAC, to: Sample.left, Sample.leftMAC), 0),
    ]
    let asked = answers
    for step in 0..<count {
      var (octets, port) = (FuzzTests.frame(&numbers), Int.random(in: 0...1, using: &numbers))
      switch Int.random(in: 0..<8, using: &numbers) {
      case 0, 1:
        if let answer = answers.randomElement(using: &numbers) { (octets, port) = answer }
      case 2:
        let parts = FragmentTests.fragments(UInt16.random(in: 0..<8, using: &numbers))
        (octets, port) = (parts.randomElement(using: &numbers)!, 0)
      case 3:
        let number = UInt16.random(in: 4000..<4100, using: &numbers)
        (octets, port) = (Sample.tcp(ports: (number, 80), flags: .syn), 0)
      case 4:
        let number = UInt16.random(in: 4000..<4100, using: &numbers)
        let destination = Bool.random(using: &numbers) ? Sample.server : Sample.left
        (octets, port) = (Sample.udp(to: destination, ports: (number, 53)), 0)
      case 5: (octets, port) = asked.randomElement(using: &numbers)!
      default: break
      }
      let time = UInt64.random(in: 0...20_000_000, using: &numbers)
      surroundings.now += time
      capture += record(octets, UInt8(port), after: time)
      let (verdict, after) = function.process(octets, from: port, &surroundings)
      if case .send(let target) = verdict, let answer = answer(to: after) {
        answers.append((answer, target))
        if answers.count > 50 { answers.removeFirst() }
      }
      if step == count / 2 { capture += record(self.document(pipeline, flows: 100), 255) }
      if step % 64 == 0 { _ = function.advance(in: &surroundings) }
    }
    return capture
  }

  /// The same packet back, where it is one of TCP or UDP.
  static func answer(to octets: [UInt8]) -> [UInt8]? {
    guard octets.count >= 42, octets[12] == 8, octets[14] == 0x45,
      octets[23] == 17 || octets[23] == 6
    else { return nil }
    func part(_ first: Int, _ count: Int) -> ArraySlice<UInt8> { octets[first..<first + count] }
    return Array(
      part(6, 6) + part(0, 6) + part(12, 14) + part(30, 4) + part(26, 4) + part(36, 2)
        + part(34, 2) + octets[38...])
  }

  static let pipelines = [
    "firewall | nat44", "nat44", "firewall | loadbalancer", "loadbalancer", "firewall", "router",
    "responder",
  ]

  @Test(
    .enabled(
      if: isThere(program, facility: "root"), "`make functions` makes the other build"),
    arguments: pipelines)
  func `the Embedded build decides alike, octet by octet`(pipeline: String) throws {
    let capture = Self.capture(pipeline, UInt64(pipeline.utf8.count))
    let file = FileManager.default.temporaryDirectory.appending(
      component: "martlet-replay-\(UUID().uuidString)")
    try Data(capture).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    let (status, output) = try Self.run(Self.program, [file.path])
    #expect(status == 0)
    Self.compare(output, to: capture)
  }

  @Test(
    .enabled(
      if: isThere(image, machine, facility: "qemu"),
      "`make functions` makes the other build, and QEMU runs it"),
    arguments: pipelines)
  func `the build for bare metal decides alike, octet by octet`(pipeline: String) throws {
    let capture = Self.capture(pipeline, UInt64(pipeline.utf8.count))
    let (status, output) = try Self.run(
      Self.machine,
      [
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M",
        "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=off,x-option-roms=off",
        "-accel", "tcg", "-cpu", "max", "-m", "128", "-global", "virtio-mmio.force-legacy=off",
        "-kernel", Self.image.path, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-chardev", "stdio,id=console,signal=off",
        "-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=console",
      ], input: Self.number(UInt64(capture.count), 4) + capture)
    // What isa-debug-exit makes of 1: the machine ended as it was to.
    #expect(status == 3)
    let length = output.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
    #expect(output.count == 4 + length)
    Self.compare(output.dropFirst(4), to: capture)
  }

  /// What another build made of a capture, to what this one makes of it.
  private static func compare(_ output: Data, to capture: [UInt8]) {
    var function = Pipeline()
    var replay = Replay()
    replay.run(&function, over: capture)
    let own = replay.output
    #expect(own.count > count * 5)
    let difference = zip(own, output).enumerated().first { $1.0 != $1.1 }?.offset
    #expect(difference == nil && own.count == output.count)
  }

  private static func run(
    _ program: URL, _ arguments: [String], input: [UInt8] = []
  ) throws -> (status: Int32, output: Data) {
    let process = Process()
    let (given, said) = (Pipe(), Pipe())
    // One that neither ends nor writes would never be waited for.
    process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
    process.arguments = ["-s", "KILL", "120", program.path] + arguments
    process.standardInput = given
    process.standardOutput = said
    try process.run()
    try given.fileHandleForWriting.write(contentsOf: Data(input))
    let output = try said.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return (process.terminationStatus, output)
  }
}
