import Archive
import ControlProtocol
import FoundationEssentials
import Glibc
import LinuxSystem
import NFVImages
import NFVModel
import SystemPackage
import TestSupport
import Testing

/// A virtual machine of a recipe, interpreted, with one port that leads nowhere; from one thread.
final class RunningGuest {
  private let folder: String
  private let process: Int32
  private var isOver = false
  private var socket: Int32 = -1
  private var reader = FrameReader(findsGreetings: false)
  private var nextID: UInt64 = 1
  private var events: [ControlEvent] = []
  /// How long one answer may take, in milliseconds.
  private let patience: Int32

  /// - Parameters:
  ///   - memoryMiB: more than the image says that it needs.
  ///   - devices: further options of QEMU's.
  ///   - connects: whether anybody is at the control channel.
  init(
    _ recipe: ImageRecipe, memoryMiB: Int = 0, processors: Int = 1, devices: [String] = [],
    patience: Duration = .seconds(60), connects: Bool = true
  ) throws {
    self.patience = Int32(patience.components.seconds * 1000)
    var template = Array("/tmp/boot-test-XXXXXX".utf8CString)
    folder = String(cString: try #require(mkdtemp(&template)))
    let form = ImageForm.tinyx(
      kernel: try KernelPackage.standard(), initProgram: Built.program("martlet-init"))
    _ = try ImageBuilder.build(recipe, as: form, in: folder, to: "\(folder)/image.tar")
    let archive = try ArchiveReader(path: "\(folder)/image.tar")
    while let entry = try archive.next() {
      let bytes = try archive.readAll(limit: 1 << 28)
      try Data(bytes).write(to: URL(filePath: "\(folder)/\(entry.path)"))
    }
    let configuration = try JSONDecoder().decode(
      Configuration.self, from: Data(contentsOf: URL(filePath: "\(folder)/machine.json")))
    try Self.addInstance(of: configuration, to: "\(folder)/initramfs", in: folder)
    process = try spawnDetached(
      Facility.qemuPath,
      arguments: [
        Facility.qemuPath, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "pc,usb=off,vmport=off", "-accel", "tcg", "-cpu", "max",
        "-m", "\(max(configuration.minimumMemoryMiB, memoryMiB))", "-smp", "\(processors)",
        "-kernel", "\(folder)/kernel",
        "-initrd", "\(folder)/initramfs", "-append", configuration.commandLine,
        "-serial", "file:\(folder)/console", "-device", "virtio-serial-pci",
        "-chardev", "socket,id=control,path=\(folder)/control,server=on,wait=off",
        "-device", "virtserialport,chardev=control,name=\(ControlProtocol.portName)",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-netdev", "hubport,id=net,hubid=0",
        "-device", "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,romfile=",
      ] + devices, environment: ["PATH=/usr/bin:/bin"])
    if connects { try connect() }
  }

  private struct Configuration: Decodable {
    var commandLine: String
    var minimumMemoryMiB: Int
    var entrypoint: [String]
    var environment: [String]
  }

  /// As a driver does it: an archive more, behind the image's.
  private static func addInstance(
    of configuration: Configuration, to initramfs: String, in folder: String
  ) throws {
    let start = GuestStart(
      command: configuration.entrypoint, environment: configuration.environment,
      hostName: "guest", forwards: true, files: [.init(path: "/etc/given", mode: 0o644)],
      ports: [
        .init(
          name: "left", mac: [0x52, 0x54, 0, 0, 0, 1], mtu: 1400,
          addresses: [.init(octets: [10, 0, 0, 2], length: 24)],
          routes: [
            .init(destination: .init(octets: [0, 0, 0, 0], length: 0), via: [10, 0, 0, 1])
          ])
      ])
    let writer = try ArchiveWriter(path: "\(folder)/instance", format: .cpio)
    try writer.add(directory: ControlProtocol.Place.folder)
    try writer.add(file: ControlProtocol.Place.document, content: Array("{}".utf8))
    try writer.add(file: ControlProtocol.Place.start, content: try start.encoded())
    try writer.add(directory: ControlProtocol.Place.files)
    try writer.add(file: "\(ControlProtocol.Place.files)/0", content: Array("file\n".utf8))
    try writer.finish()
    var whole = try Data(contentsOf: URL(filePath: initramfs))
    whole.append(contentsOf: [UInt8](repeating: 0, count: (4 - whole.count % 4) % 4))
    whole.append(try Data(contentsOf: URL(filePath: "\(folder)/instance")))
    try whole.write(to: URL(filePath: initramfs))
  }

  /// Kills the machine where it still runs, and removes what it had.
  func end() {
    if !isOver {
      kill(process, SIGKILL)
      _ = try? waitForChild(process)
    }
    close(socket)
    try? FileManager.default.removeItem(atPath: folder)
  }

  var console: String {
    String(decoding: (try? readFile("\(folder)/console", limit: 1 << 20)) ?? [], as: UTF8.self)
  }

  // MARK: The channel

  func connect() throws {
    if socket >= 0 { close(socket) }
    reader = FrameReader(findsGreetings: false)
    events = []
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(folder)/control".utf8) }
    socket = try systemCall("socket") { Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0) }
    let limit = monotonicMilliseconds() + 5000
    while true {
      // SAFETY: the address lives during the call and is read with its own length.
      let code = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          Glibc.connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      if code == 0 { return }
      try #require(monotonicMilliseconds() < limit, "QEMU makes no socket")
      sleepThread(milliseconds: 5)
    }
  }

  func send(_ bytes: [UInt8]) throws { try writeAll(bytes, to: FileDescriptor(rawValue: socket)) }

  private func next() throws -> ControlMessage {
    while true {
      if let body = try reader.next() { return try ControlMessage(body) }
      let descriptor = FileDescriptor(rawValue: socket)
      try #require(
        try waitReadable(descriptor, milliseconds: patience), "no answer: \(console)")
      let bytes = try readSome(of: descriptor, limit: 1 << 16)
      try #require(!bytes.isEmpty, "the machine went off: \(console)")
      reader.append(bytes)
    }
  }

  func request(_ request: ControlRequest) throws -> ControlReply {
    let id = nextID
    nextID += 1
    try send(try request.frame(id: id))
    while true {
      switch try next() {
      case .reply(id, let reply): return reply
      case .reply: continue
      case .event(let event): events.append(event)
      }
    }
  }

  func hello() throws -> GuestState {
    let reply = try request(.hello(version: ControlProtocol.version))
    guard case .status(ControlProtocol.version, let state) = reply else {
      throw NFVError(.failed, "\(reply)")
    }
    return state
  }

  func execute(
    _ arguments: [String], terminal: GuestCommand.TerminalSize? = nil
  ) throws -> UInt64 {
    let reply = try request(.execute(GuestCommand(arguments: arguments, terminal: terminal)))
    try #require(reply == .done, "\(reply)")
    return nextID - 1
  }

  private func nextEvent() throws -> ControlEvent {
    if !events.isEmpty { return events.removeFirst() }
    while true { if case .event(let event) = try next() { return event } }
  }

  /// What a session writes until it ends, acknowledged as it comes.
  func result(
    of session: UInt64
  ) throws -> (output: String, error: String, octets: Int, exit: GuestExit) {
    var streams: [ControlEvent.Stream: [UInt8]] = [:]
    while true {
      switch try nextEvent() {
      case .output(session, let stream, let bytes):
        streams[stream, default: []] += bytes
        try send(
          try ControlRequest.acknowledge(session: session, octets: UInt32(bytes.count))
            .frame(id: nextID))
        nextID += 1
      case .exited(session, let exit):
        let output = streams[.output] ?? []
        return (
          String(decoding: output, as: UTF8.self),
          String(decoding: streams[.error] ?? [], as: UTF8.self), output.count, exit
        )
      default: continue
      }
    }
  }

  func nextState() throws -> GuestState {
    while true { if case .state(let state) = try nextEvent() { return state } }
  }

  func waitForEnd() throws -> LinuxSystem.ExitStatus {
    let status = try waitForChild(process, milliseconds: 60_000)
    isOver = true
    return status
  }
}
