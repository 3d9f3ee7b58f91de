import HoldProtocol
import LinuxSystem
import NFVModel

/// An OCI runtime that we know how to call.
public enum OCIRuntime: Sendable, Hashable {
  /// Takes a compiled filter and leaves cgroups alone, so that we place its containers.
  case crun
  /// Compiles its filter and places its containers itself.
  case runc
}

/// A runtime's `config.json` (OCI runtime specification 1.0), from what is asked and where it is on
/// this host: a pure function.
struct OCIConfiguration {
  /// Where the workload's things are on this host.
  struct Place: Sendable, Hashable {
    /// Of namespaces(7), as the runtime can open them.
    var userNamespace: String
    var networkNamespace: String
    /// The merged root, as seen in the runtime's mount namespace.
    var root: String
    /// The folder that becomes `/run/martlet`, or whose document is put there.
    var documents: String
    /// The host's files by their path in the workload.
    var files: [File] = []
    /// For a runtime that makes the cgroup itself.
    var cgroup: String
    var users: UserRange

    struct File: Sendable, Hashable {
      var source: String
      var path: String
    }
  }

  /// Linux capabilities that a descriptor may ask for.
  static let allowedCapabilities: Set<String> = ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"]

  /// What root in a container needs to look after its own files and processes; all of it counts
  /// within its user namespace only.
  static let rootCapabilities = [
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
  ]

  var specification: WorkloadSpecification
  var place: Place
  var user: ImageUser
  var runtime: OCIRuntime
  var securityProfile: SecurityProfile

  var isReadOnly: Bool { specification.writableLayerBytes == 0 }

  func document() throws(NFVError) -> JSONText {
    var linux: [String: JSONText] = [
      "namespaces": [
        ["type": "user", "path": .string(place.userNamespace)],
        ["type": "network", "path": .string(place.networkNamespace)],
        ["type": "mount"], ["type": "pid"], ["type": "ipc"], ["type": "uts"], ["type": "cgroup"],
      ],
      "uidMappings": [mapping], "gidMappings": [mapping],
      "maskedPaths": Self.strings([
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
        "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
      ]),
      "readonlyPaths": Self.strings([
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
      ]),
    ]
    var annotations: [String: JSONText] = [:]
    #if arch(x86_64)
      let takesProgram = runtime == .crun
    #else
      let takesProgram = false
    #endif
    if takesProgram {
      annotations["run.oci.seccomp_bpf_data"] = .string(SeccompFilter.workloadProgram)
    } else {
      linux["seccomp"] = Self.seccompProfile
    }
    if runtime == .runc {
      linux["cgroupsPath"] = .string("/" + place.cgroup)
      linux["resources"] = resources
    }
    return [
      "ociVersion": "1.0.2", "hostname": .string(specification.hostName),
      "root": ["path": .string(place.root), "readonly": .bool(isReadOnly)],
      "process": try process(), "mounts": .array(mounts), "linux": .object(linux),
      "annotations": .object(annotations),
    ]
  }

  private var mapping: JSONText {
    [
      "containerID": 0, "hostID": .integer(Int64(place.users.hostStart)),
      "size": .integer(Int64(place.users.count)),
    ]
  }

  private func process() throws(NFVError) -> JSONText {
    let image = specification.image.configuration
    let arguments = specification.command ?? (image.entrypoint + image.command)
    guard !arguments.isEmpty else {
      throw NFVError(
        .unprocessable,
        "\(specification.id) has no command: neither its descriptor nor its image "
          + "\(specification.image.digest) names one; add a command to the descriptor")
    }
    let asked = specification.linuxCapabilities
    if let foreign = asked.first(where: { !Self.allowedCapabilities.contains($0) }) {
      throw NFVError(
        .unprocessable,
        "\(specification.id) asks for the Linux capability \(foreign); a descriptor may ask for "
          + Self.allowedCapabilities.sorted().joined(separator: ", ") + " only")
    }
    // A function that answers for its ports itself is one program, with nothing to look after.
    let own = specification.addressOwner == .function ? [] : Self.rootCapabilities
    let granted = Self.strings((own + asked).sorted().map { "CAP_" + $0 })
    let kept = Self.strings(asked.sorted().map { "CAP_" + $0 })
    var process: [String: JSONText] = [
      "terminal": false,
      "user": [
        "uid": .integer(Int64(user.uid)), "gid": .integer(Int64(user.gid)),
        "additionalGids": [],
      ],
      "args": Self.strings(arguments), "env": Self.strings(environment),
      "cwd": .string(image.workingDirectory.isEmpty ? "/" : image.workingDirectory),
      // Where the user is not root, what the descriptor asks for is kept over exec.
      "capabilities": [
        "bounding": granted, "permitted": user.uid == 0 ? granted : kept,
        "effective": user.uid == 0 ? granted : kept, "inheritable": kept, "ambient": kept,
      ],
      "noNewPrivileges": true, "oomScoreAdj": 0,
    ]
    if case .appArmor(let name) = securityProfile { process["apparmorProfile"] = .string(name) }
    return .object(process)
  }

  /// The image's environment and the specification's, the later of one name counts.
  private var environment: [String] {
    var values: [String: String] = [
      "PATH": "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "HOME": user.uid == 0 ? "HOME=/root" : "HOME=/",
    ]
    for variable in specification.image.configuration.environment + specification.environment {
      values[String(variable.prefix { $0 != "=" })] = variable
    }
    return values.keys.sorted().map { values[$0]! }
  }

  private var mounts: [JSONText] {
    func mount(_ destination: String, _ type: String, _ source: String, _ options: [String])
      -> JSONText
    {
      [
        "destination": .string(destination), "type": .string(type), "source": .string(source),
        "options": Self.strings(options),
      ]
    }
    var mounts = [
      mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
      // Always a tmpfs: else the runtime makes device nodes in the root.
      mount("/dev", "tmpfs", "tmpfs", ["nosuid", "noexec", "mode=755", "size=64k"]),
      mount(
        "/dev/pts", "devpts", "devpts",
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
      mount("/dev/shm", "tmpfs", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=16m"]),
      // Of its own network namespace, which belongs to its own user namespace: with another's the
      // kernel refuses this and crun would bind the host's.
      mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
      mount("/run", "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=755", "size=16m"]),
    ]
    switch specification.addressOwner {
    case .kernel:
      mounts.append(
        mount("/run/martlet", "bind", place.documents, ["bind", "ro", "nosuid", "nodev", "noexec"]))
    case .function:
      // It listens on its control channel beside its document.
      mounts.append(
        mount(
          "/run/martlet", "tmpfs", "tmpfs",
          ["nosuid", "nodev", "noexec", "mode=755", "size=64k", "nr_inodes=16"]))
      mounts.append(
        mount(
          "/run/martlet/config.json", "bind", place.documents + "/config.json",
          ["bind", "ro", "nosuid", "nodev", "noexec"]))
    }
    for file in place.files {
      mounts.append(mount(file.path, "bind", file.source, ["bind", "ro", "nosuid", "nodev"]))
    }
    return mounts
  }

  private var resources: JSONText {
    var cpu: [String: JSONText] = [:]
    if let millicores = specification.cpuMillicores {
      cpu["period"] = 100_000
      cpu["quota"] = .integer(Int64(max(1000, millicores * 100)))
      cpu["shares"] = .integer(Int64(max(2, millicores * 1024 / 1000)))
    }
    return [
      "memory": ["limit": .integer(Int64(specification.memoryBytes))],
      "pids": ["limit": .integer(Int64(specification.maximumProcesses))], "cpu": .object(cpu),
      "devices": [["allow": false, "access": "rwm"]],
    ]
  }

  /// The same filter as `SeccompFilter.workload` for a runtime that compiles it.
  private static let seccompProfile: JSONText = {
    let filter = SeccompFilter.workload
    func rule(_ names: [String], _ errno: Int64, _ arguments: [JSONText] = []) -> JSONText {
      [
        "names": strings(names), "action": "SCMP_ACT_ERRNO", "errnoRet": .integer(errno),
        "args": .array(arguments),
      ]
    }
    var rules = [
      rule(filter.denials.filter { !$0.answersNoSuchCall }.map(\.name), 1),
      rule(filter.denials.filter(\.answersNoSuchCall).map(\.name), 38),
    ]
    for denial in filter.argumentDenials {
      let index = JSONText.integer(Int64(denial.argument))
      switch denial.test {
      case .equals(let value):
        rules.append(
          rule(
            [denial.name], 1,
            [["index": index, "value": .integer(Int64(value)), "op": "SCMP_CMP_EQ"]]))
      case .hasAnyBit(let mask):
        for bit in 0..<UInt32(32) where mask & 1 << bit != 0 {
          let value = JSONText.integer(Int64(1) << Int64(bit))
          rules.append(
            rule(
              [denial.name], 1,
              [["index": index, "value": value, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"]]))
        }
      }
    }
    return [
      "defaultAction": "SCMP_ACT_ALLOW", "syscalls": .array(rules),
    ]
  }()

  private static func strings(_ values: [String]) -> JSONText {
    .array(values.map(JSONText.string))
  }
}

extension SeccompFilter {
  fileprivate static let workloadProgram = workload.base64Program()
}

/// Who the main process runs as, in the container's own numbers.
struct ImageUser: Sendable, Hashable {
  var uid: UInt32
  var gid: UInt32

  /// Reads an image's `user`: `uid`, `uid:gid`, or names of its /etc/passwd and /etc/group.
  /// - Parameters:
  ///   - passwd: the image's /etc/passwd, asked for only where a name or a group is missing.
  ///   - group: the image's /etc/group.
  init(
    _ text: String, passwd: () -> String, group: () -> String
  ) throws(NFVError) {
    if text.isEmpty || text == "0" || text == "root" || text == "0:0" {
      self = ImageUser(uid: 0, gid: 0)
      return
    }
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    func record(_ table: String, _ wanted: String) -> [String]? {
      table.split(separator: "\n").map {
        $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
      }.first { $0.count >= 4 && ($0[0] == wanted || $0[2] == wanted) }
    }
    let account = record(passwd(), parts[0])
    let uid = UInt32(parts[0]) ?? account.flatMap { UInt32($0[2]) }
    let gid: UInt32? =
      if parts.count > 1 {
        UInt32(parts[1]) ?? record(group(), parts[1]).flatMap { UInt32($0[2]) }
      } else {
        account.flatMap { UInt32($0[3]) } ?? 0
      }
    guard parts.count <= 2, let uid, let gid, uid < 65536, gid < 65536 else {
      throw NFVError(
        .unprocessable,
        "the image's user \(text) is no number below 65536 and no name of its /etc/passwd; "
          + "set a numeric user in the image")
    }
    self = ImageUser(uid: uid, gid: gid)
  }

  init(uid: UInt32, gid: UInt32) {
    self.uid = uid
    self.gid = gid
  }
}
