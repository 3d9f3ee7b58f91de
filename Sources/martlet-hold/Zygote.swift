import HoldProtocol
import LinuxSystem
import SystemPackage

/// A program that was loaded once and is forked where its main() would begin (Sources/CZygote).
struct Zygote {
  /// What its copies have in common.
  struct Kind: Hashable {
    var executable: String
    /// The first argument.
    var name: String
    var environment: [String]
    /// Done in it; nil: it is in this process's mount namespace.
    var mounts: [MountOperation]?

    /// Nil where the program shall be executed.
    init?(_ request: SpawnRequest) {
      guard let shared = request.sharedMounts else { return nil }
      executable = request.executable
      name = request.arguments.first ?? ""
      environment = request.environment
      mounts = request.mounts.map { Array($0.prefix(Int(shared))) }
    }
  }

  private let process: FileDescriptor
  private let socket: FileDescriptor
  /// The program as it was loaded: a package's update replaces it.
  private let file: FileIdentity
  private var isWaiting = false

  /// Loaded beside a program, from the folder of this one.
  static let library = "libmartlet-zygote.so"
  /// A copy's arguments take the place of the zygote's own: so many, and so many octets.
  private static let slots = 512
  private static let octets = 16_384
  /// Octets of a message, and descriptors beside it.
  private static let most = (1 << 17) - 1
  private static let mostDescriptors = 128
  /// For a fork and a clone, in milliseconds.
  private static let patience: Int32 = 1000

  /// Starts one; it is used when it says that it waits.
  init(
    _ kind: Kind, library: FileDescriptor, null: FileDescriptor,
    descriptorLimit: (soft: UInt64, hard: UInt64)
  ) throws(SystemError) {
    file = try FileIdentity(kind.executable)
    let pair = try PacketSocket.pair()
    let pipe = try makePipe()
    defer {
      for descriptor in [pair.theirs, pipe.read, pipe.write] { try? descriptor.close() }
    }
    let plan = ChildPlan(
      SpawnRequest(key: "", executable: "", arguments: [], mounts: kind.mounts),
      ChildPlan.Sources(
        streams: [null, null, null], descriptors: [(pair.theirs, 3), (library, 4)]),
      as: .zygote, descriptorLimit: descriptorLimit, errorPipe: pipe.write)
    let side = try cloneProcess()
    guard case .parent(_, let process) = side else {
      plan.execute(
        kind.executable,
        arguments: [kind.name] + [String](repeating: "", count: Self.slots - 2)
          + [String(repeating: " ", count: Self.octets)],
        environment: kind.environment + ["LD_PRELOAD=/proc/self/fd/4", "MARTLET_ZYGOTE=1"])
    }
    self.process = process
    socket = pair.ours
  }

  /// A copy, as a child of ours.
  /// - Parameter cgroup: of version 2, for it to be born in.
  /// - Returns: nil where the zygote is not ready or it could not be done: the program is executed
  ///   instead, and says what is wrong.
  /// - Throws: where it can no longer be used.
  mutating func fork(
    _ request: SpawnRequest, _ plan: (ChildPlan.Kind) -> ChildPlan, cgroup: FileDescriptor?
  ) throws(SystemError) -> (pid: Int32, pidfd: FileDescriptor)? {
    guard try FileIdentity(request.executable) == file else {
      throw SystemError(call: "zygote", errno: .staleNFSFileHandle, subject: request.executable)
    }
    if !isWaiting {
      guard try receive() != nil else { return nil }
      isWaiting = true
    }
    // Two for what loads it.
    guard request.arguments.count + request.environment.count + 2 < Self.slots,
      request.arguments.reduce(0, { $0 + $1.utf8.count + 1 }) <= Self.octets
    else { return nil }
    let plan = plan(.copy(sharedMounts: Int(request.sharedMounts ?? 0)))
    let given = plan.given + (cgroup.map { [$0] } ?? [])
    let message = message(request, plan.calls, hasCgroup: cgroup != nil)
    guard plan.calls.count <= SystemCalls.most, given.count <= Self.mostDescriptors,
      message.count <= Self.most
    else { return nil }
    guard try PacketSocket.send(message, given, on: socket) else { return nil }
    guard try waitReadable(socket, milliseconds: Self.patience),
      let (value, descriptor) = try receive()
    else { throw SystemError(call: "zygote", errno: .timedOut, subject: request.executable) }
    return value > 0 ? descriptor.map { (value, $0) } : nil
  }

  /// A packet of the zygote's; nil where there is none.
  private func receive() throws(SystemError) -> (value: Int32, descriptor: FileDescriptor?)? {
    switch try PacketSocket.receive(on: socket, limit: 16, descriptorLimit: 1) {
    case .packet(let bytes, let descriptors) where bytes.count == 4:
      let value = bytes.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      return (Int32(bitPattern: value), descriptors.first)
    case .wouldBlock: return nil
    default: throw SystemError(call: "zygote", errno: .brokenPipe, subject: "it has ended")
    }
  }

  /// `struct CZygote_request` and what follows it.
  private func message(
    _ request: SpawnRequest, _ calls: SystemCalls, hasCgroup: Bool
  ) -> [UInt8] {
    let (count, encoded, data) = calls.encoded()
    var octets: [UInt8] = []
    let flags: CloneFlags = request.unshare.contains(.pid) ? .newPID : []
    for value in [
      Int(flags.rawValue), hasCgroup ? 1 : 0, count, data.count, request.arguments.count, 0,
    ] {
      withUnsafeBytes(of: UInt32(value).littleEndian) { octets.append(contentsOf: $0) }
    }
    octets += encoded
    octets += data
    for text in request.arguments { octets += Array(text.utf8) + [0] }
    return octets
  }

  /// Ends it; its copies live on, but for one that was given up: what of it is told already is ended
  /// here, and what cannot be told any more there.
  func end() {
    try? sendSignal(9, to: process)
    try? process.close()
    PacketSocket.shutDown(socket)
    while let (_, descriptor) = try? receive() {
      guard let descriptor else { continue }
      try? sendSignal(9, to: descriptor)
      try? descriptor.close()
    }
    try? socket.close()
  }
}

extension Hold {
  /// After so many that could not be used, programs are executed as ever.
  private static let zygoteFailures = 3

  /// A copy of the zygote of a request's kind; nil where the program has to be executed.
  func fork(
    _ request: SpawnRequest, _ plan: (ChildPlan.Kind) -> ChildPlan, cgroup: FileDescriptor?
  ) -> (pid: Int32, pidfd: FileDescriptor)? {
    guard let kind = Zygote.Kind(request), failedZygotes < Self.zygoteFailures else { return nil }
    guard zygotes[kind] != nil else {
      wantedZygote = kind
      return nil
    }
    do throws(SystemError) {
      return try zygotes[kind]!.fork(request, plan, cgroup: cgroup)
    } catch {
      // One of a program that was replaced has not failed.
      if error.errno != .staleNFSFileHandle {
        failedZygotes += 1
        complain("\(kind.executable) is executed, its zygote cannot be used: \(error)")
      }
      zygotes.removeValue(forKey: kind)?.end()
      wantedZygote = kind
      return nil
    }
  }

  /// Ends the zygote of a copy that did not become its program: what it lacks, such as a file system that
  /// was mounted since on a host whose mounts do not propagate, the next one has.
  func giveUp(_ kind: Zygote.Kind) { zygotes.removeValue(forKey: kind)?.end() }

  /// Starts the zygote that was missed, when nothing else is to be done.
  func startZygote() {
    guard let kind = wantedZygote else { return }
    wantedZygote = nil
    do throws(SystemError) {
      let program = try readLink("/proc/self/exe")
      let folder = program[..<(program.lastIndex(of: "/") ?? program.startIndex)]
      let path = "\(folder)/\(Zygote.library)"
      // Without it, everything is executed.
      guard fileExists(path) else { return }
      let library = try openFile(path, .read)
      defer { try? library.close() }
      zygotes[kind] = try Zygote(
        kind, library: library, null: nullDevice, descriptorLimit: descriptorLimit)
    } catch {
      failedZygotes += 1
      complain("no zygote of \(kind.executable): \(error)")
    }
  }
}
