import HoldProtocol
import LinuxSystem
import SystemPackage

/// What the child of a spawn does before it is the program, found and written down before it is born:
/// a clone of this process that is about to execute it, or a copy of a zygote that is it already.
struct ChildPlan {
  let calls: SystemCalls
  /// For the calls; the first one is the error pipe.
  let given: [FileDescriptor]

  /// What becomes the program.
  enum Kind {
    case executed
    /// Its copies do what is left: they see what is mounted on the host later on.
    case zygote
    /// The first so many mounts are the zygote's.
    case copy(sharedMounts: Int)
  }

  /// Descriptors that a request has named, open here.
  struct Sources {
    /// For 0, 1 and 2.
    var streams: [FileDescriptor]
    var descriptors: [(source: FileDescriptor, target: Int32)] = []
    var join: [FileDescriptor] = []
    /// User namespaces of all idmapped mounts, by key.
    var userNamespaces: [String: FileDescriptor] = [:]
    /// `cgroup.procs` of the cgroups that the child has to enter itself.
    var cgroups: [FileDescriptor] = []
  }

  /// - Parameter descriptorLimit: the one that this process had before it raised its own.
  init(
    _ request: SpawnRequest, _ sources: Sources, as kind: Kind,
    descriptorLimit: (soft: UInt64, hard: UInt64), errorPipe: FileDescriptor
  ) {
    var calls = SystemCalls()
    var given = [errorPipe]
    func give(_ descriptor: FileDescriptor) -> SystemCalls.Argument {
      given.append(descriptor)
      return .given(given.count - 1)
    }
    calls.step = "signals"
    calls.unblockSignals()
    calls.step = "cgroup"
    for group in sources.cgroups { calls.write("0", to: give(group), "cgroup.procs") }
    calls.step = "oom_score_adj"
    if let score = request.oomScoreAdjustment {
      let path = "/proc/self/oom_score_adj"
      calls.write("\(score)", to: calls.openForWriting(path), path)
    }
    if let mounts = request.mounts {
      calls.step = "mount namespace"
      calls.unshare(.newMount)
      var done = 0
      switch kind {
      case .executed: calls.makePrivate("/")
      case .zygote: calls.makeSlave("/")
      case .copy(let shared):
        calls.makePrivate("/")
        done = shared
      }
      for (index, operation) in mounts.enumerated().dropFirst(done) {
        calls.step = "mounts[\(index)] \(operation.name)"
        calls.perform(operation) { give(sources.userNamespaces[$0]!) }
      }
    }
    calls.step = "unshare"
    let kinds = request.unshare.cloneFlags
    if !kinds.isEmpty { calls.unshare(kinds) }
    for (index, namespace) in sources.join.enumerated() {
      calls.step = "join[\(index)]"
      calls.join(give(namespace))
    }
    calls.step = "session"
    calls.startSession()
    calls.step = "working directory"
    calls.changeDirectory(request.workingDirectory)

    calls.step = "descriptors"
    let all = zip(sources.streams, Int32(0)...).map { ($0, $1) } + sources.descriptors
    // First every source above all targets, so that no target overwrites a source still needed.
    let above = (all.map(\.1).max() ?? 2) + 1
    _ = calls.duplicate(.given(0), atLeast: above, tellsFailures: true)
    let lifted = all.map { (calls.duplicate(give($0), atLeast: above), $1) }
    calls.closeDescriptors(0...UInt32(above - 1))
    for (source, target) in lifted { calls.duplicate(source, to: target) }

    if request.controllingTerminal {
      calls.step = "terminal"
      calls.takeTerminal(.value(0))
    }
    calls.step = "limits"
    calls.setDescriptorLimit(soft: descriptorLimit.soft, hard: descriptorLimit.hard)
    for limit in request.limits {
      calls.setLimit(limit.resource, soft: limit.soft, hard: limit.hard)
    }
    if let user = request.user {
      calls.step = "user"
      calls.setUser(uid: user.uid, gid: user.gid, groups: user.groups)
    }
    if request.noNewPrivileges {
      calls.step = "no_new_privs"
      calls.setNoNewPrivileges()
    }
    // With it the error pipe closes, where there is nothing to be executed: nothing can fail any more.
    calls.step = "descriptors"
    let isCopy = if case .copy = kind { true } else { false }
    calls.closeDescriptors(UInt32(above)...UInt32.max, onExecOnly: !isCopy)
    self.calls = calls
    self.given = given
  }

  /// Becomes the program; what fails is written into the error pipe as errno and step.
  func execute(_ path: String, arguments: [String], environment: [String]) -> Never {
    var step = ""
    var pipe = given[0]
    do throws(SystemError) {
      try calls.perform(given: given, pipe: &pipe, step: &step)
      step = "exec"
      try LinuxSystem.execute(path, arguments: arguments, environment: environment)
    } catch {
      var report: [UInt8] = []
      withUnsafeBytes(of: error.errno.rawValue.littleEndian) { report.append(contentsOf: $0) }
      report.append(contentsOf: "\(step): \(error)".utf8.prefix(1000))
      try? writeAll(report, to: pipe)
      exitNow(127)
    }
  }
}

extension SystemCalls {
  fileprivate mutating func perform(
    _ operation: MountOperation, userNamespace: (String) -> Argument
  ) {
    switch operation {
    case .makePrivate(let path): makePrivate(path)
    case .makeDirectory(let path, let mode, let owner):
      makeDirectory(path, mode: mode, owner: owner)
    case .tmpfs(let target, let size, let mode, let owner):
      tmpfs(at: target, size: size, mode: mode, owner: owner)
    case .bind(let source, let target, let attributes, let recursive):
      bind(source, at: target, attributes: attributes, recursive: recursive)
    case .move(let source, let target): move(source, to: target)
    case .overlay(let lower, let upper, let work, let target):
      overlay(
        lower: lower, upper: upper.isEmpty ? nil : upper, work: work.isEmpty ? nil : work,
        at: target)
    case .idmappedBind(let source, let target, let key, let attributes, let recursive):
      bind(
        source, at: target, attributes: attributes, userNamespace: userNamespace(key),
        recursive: recursive)
    case .unmount(let target): unmount(target)
    case .processes(let target): processes(at: target)
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
