import HoldProtocol
import LinuxSystem
import SystemPackage

/// Everything that the child of a spawn needs, found and checked before it is born.
struct ChildPlan {
  var request: SpawnRequest
  /// Descriptors for 0, 1 and 2.
  var streams: [FileDescriptor]
  var descriptors: [(source: FileDescriptor, target: Int32)]
  var join: [FileDescriptor]
  /// User namespaces of the idmapped mounts, by key.
  var userNamespaces: [String: FileDescriptor]
  /// cgroups that the child has to enter itself.
  var cgroups: [String]
  /// The limit of descriptors that this process had before it raised its own.
  var descriptorLimit: (soft: UInt64, hard: UInt64)
  var errorPipe: FileDescriptor

  /// Becomes the program; what fails is written into the error pipe as errno and step.
  func run() -> Never {
    var step = ""
    var pipe = errorPipe
    do throws(SystemError) {
      try perform(&step, &pipe)
    } catch {
      var report: [UInt8] = []
      withUnsafeBytes(of: error.errno.rawValue.littleEndian) { report.append(contentsOf: $0) }
      report.append(contentsOf: "\(step): \(error)".utf8.prefix(1000))
      try? writeAll(report, to: pipe)
      exitNow(127)
    }
  }

  private func perform(
    _ step: inout String, _ pipe: inout FileDescriptor
  ) throws(SystemError) -> Never {
    ProcessAttributes.unblockSignals()
    step = "cgroup"
    for path in cgroups { try writeFile(path + "/cgroup.procs", "0") }
    step = "oom_score_adj"
    if let score = request.oomScoreAdjustment {
      try writeFile("/proc/self/oom_score_adj", "\(score)")
    }
    if let mounts = request.mounts {
      step = "mount namespace"
      try unshareNamespaces(.newMount)
      try Mount.makePrivate("/")
      for (index, operation) in mounts.enumerated() {
        step = "mounts[\(index)] \(operation.name)"
        try perform(operation)
      }
    }
    step = "unshare"
    let kinds = request.unshare.cloneFlags
    if !kinds.isEmpty { try unshareNamespaces(kinds) }
    for (index, namespace) in join.enumerated() {
      step = "join[\(index)]"
      try joinNamespace(namespace)
    }
    step = "session"
    try ProcessAttributes.startSession()
    step = "working directory"
    try ProcessAttributes.changeDirectory(request.workingDirectory)
    step = "descriptors"
    try placeDescriptors(&pipe)
    if request.controllingTerminal {
      step = "terminal"
      try ProcessAttributes.takeTerminal(.standardInput)
    }
    step = "limits"
    try ProcessAttributes.setDescriptorLimit(
      soft: descriptorLimit.soft, hard: descriptorLimit.hard)
    for limit in request.limits {
      try ProcessAttributes.setLimit(limit.resource, soft: limit.soft, hard: limit.hard)
    }
    if let user = request.user {
      step = "user"
      try ProcessAttributes.setUser(uid: user.uid, gid: user.gid, groups: user.groups)
    }
    if request.noNewPrivileges {
      step = "no_new_privs"
      try ProcessAttributes.setNoNewPrivileges()
    }
    step = "exec"
    try execute(
      request.executable, arguments: request.arguments, environment: request.environment)
  }

  /// First every source above all targets, so that no target overwrites a source still needed.
  private func placeDescriptors(_ pipe: inout FileDescriptor) throws(SystemError) {
    let all =
      zip(streams, Int32(0)...).map { (source: $0, target: $1) } + descriptors
    let above = (all.map(\.target).max() ?? 2) + 1
    pipe = try duplicate(pipe, atLeast: above)
    var lifted: [(source: FileDescriptor, target: Int32)] = []
    for (source, target) in all {
      lifted.append((try duplicate(source, atLeast: above), target))
    }
    try closeOnExec(from: 0)
    for (source, target) in lifted { try duplicate(source, to: target) }
  }

  private func perform(_ operation: MountOperation) throws(SystemError) {
    switch operation {
    case .makePrivate(let path): try Mount.makePrivate(path)
    case .makeDirectory(let path, let mode, let owner):
      try Mount.makeDirectory(path, mode: mode, owner: owner)
    case .tmpfs(let target, let size, let mode, let owner):
      try Mount.tmpfs(at: target, size: size, mode: mode, owner: owner)
    case .bind(let source, let target, let attributes, let recursive):
      try Mount.bind(source, at: target, attributes: attributes, recursive: recursive)
    case .move(let source, let target): try Mount.move(source, to: target)
    case .overlay(let lower, let upper, let work, let target):
      try Mount.overlay(
        lower: lower, upper: upper.isEmpty ? nil : upper, work: work.isEmpty ? nil : work,
        at: target)
    case .idmappedBind(let source, let target, let key, let attributes, let recursive):
      guard let namespace = userNamespaces[key] else {
        throw SystemError(call: "mount_setattr", errno: .badFileDescriptor, subject: key)
      }
      try Mount.idMappedBind(
        source, at: target, userNamespace: namespace, attributes: attributes,
        recursive: recursive)
    case .unmount(let target): try Mount.unmount(target)
    case .processes(let target): try Mount.processes(at: target)
    }
  }
}

extension MountOperation {
  /// Its name in an error.
  fileprivate var name: String {
    switch self {
    case .makePrivate: "makePrivate"
    case .makeDirectory: "makeDirectory"
    case .tmpfs: "tmpfs"
    case .bind: "bind"
    case .move: "move"
    case .overlay: "overlay"
    case .idmappedBind: "idmappedBind"
    case .unmount: "unmount"
    case .processes: "processes"
    }
  }
}

extension NamespaceSet {
  /// What unshare(2) makes; a pid namespace is made by clone, for the child itself to be in.
  var cloneFlags: CloneFlags {
    var flags: CloneFlags = []
    if contains(.network) { flags.insert(.newNetwork) }
    if contains(.ipc) { flags.insert(.newIPC) }
    if contains(.uts) { flags.insert(.newUTS) }
    if contains(.cgroup) { flags.insert(.newCgroup) }
    return flags
  }
}
