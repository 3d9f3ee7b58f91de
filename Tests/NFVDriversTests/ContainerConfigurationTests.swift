import HoldProtocol
import LinuxSystem
import NFVModel
import SystemPackage
import TestSupport
import Testing

@testable import NFVDrivers

/// A runtime's configuration, byte for byte.
struct ContainerConfigurationTests {
  static func configuration(
    runtime: OCIRuntime = .crun, command: [String]? = ["/bin/nf", "-v"],
    capabilities: [String] = ["NET_ADMIN"], user: ImageUser = ImageUser(uid: 0, gid: 0),
    writable: UInt64 = 1 << 20, securityProfile: SecurityProfile = .none("")
  ) -> OCIConfiguration {
    OCIConfiguration(
      specification: WorkloadSpecification(
        id: WorkloadID(store: "s", tenant: "t", vnfc: "v", incarnation: 1),
        technology: .container, hostName: "fw\"1",
        image: PreparedImage(
          digest: "sha256:0", root: "/image",
          configuration: ImageConfiguration(environment: ["PATH=/bin", "A=image"]), size: 0),
        command: command, environment: ["A=given"], cpuMillicores: 250, memoryBytes: 1 << 26,
        writableLayerBytes: writable, linuxCapabilities: capabilities, document: []),
      place: OCIConfiguration.Place(
        userNamespace: "/proc/self/fd/10", networkNamespace: "/proc/self/fd/11", root: "/r",
        documents: "/d", files: [.init(source: "/f0", path: "/etc/nf.conf")],
        cgroup: "martlet/s/w", users: UserRange(hostStart: 0x10_0000, count: 65536)),
      user: user, runtime: runtime, securityProfile: securityProfile)
  }

  static let capabilities =
    #"["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_NET_ADMIN","#
    + #""CAP_SETGID","CAP_SETUID"]"#

  static let process =
    #""process":{"args":["/bin/nf","-v"],"capabilities":{"ambient":["CAP_NET_ADMIN"],"#
    + #""bounding":\#(capabilities),"effective":\#(capabilities),"#
    + #""inheritable":["CAP_NET_ADMIN"],"permitted":\#(capabilities)},"cwd":"/","#
    + #""env":["A=given","HOME=/root","PATH=/bin"],"noNewPrivileges":true,"oomScoreAdj":0,"#
    + #""terminal":false,"user":{"additionalGids":[],"gid":0,"uid":0}},"#
    + #""root":{"path":"/r","readonly":false}}"#

  static let mounts =
    #""mounts":[{"destination":"/proc","options":["nosuid","noexec","nodev"],"source":"proc","#
    + #""type":"proc"},{"destination":"/dev","options":["nosuid","noexec","mode=755","size=64k"],"#
    + #""source":"tmpfs","type":"tmpfs"},{"destination":"/dev/pts","options":["nosuid","noexec","#
    + #""newinstance","ptmxmode=0666","mode=0620"],"source":"devpts","type":"devpts"},"#
    + #"{"destination":"/dev/shm","options":["nosuid","noexec","nodev","mode=1777","size=16m"],"#
    + #""source":"tmpfs","type":"tmpfs"},{"destination":"/sys","options":["nosuid","noexec","#
    + #""nodev","ro"],"source":"sysfs","type":"sysfs"},{"destination":"/run","options":["nosuid","#
    + #""nodev","mode=755","size=16m"],"source":"tmpfs","type":"tmpfs"},"#
    + #"{"destination":"/run/martlet","options":["bind","ro","nosuid","nodev","noexec"],"#
    + #""source":"/d","type":"bind"},{"destination":"/etc/nf.conf","options":["bind","ro","#
    + #""nosuid","nodev"],"source":"/f0","type":"bind"}]"#

  static let linux =
    #""linux":{"gidMappings":[{"containerID":0,"hostID":1048576,"size":65536}],"maskedPaths":["#
    + #""/proc/acpi","/proc/asound","/proc/interrupts","/proc/kcore","/proc/keys","#
    + #""/proc/latency_stats","/proc/sched_debug","/proc/scsi","/proc/timer_list","#
    + #""/proc/timer_stats","/sys/devices/virtual/powercap","/sys/firmware"],"namespaces":["#
    + #"{"path":"/proc/self/fd/10","type":"user"},{"path":"/proc/self/fd/11","type":"network"},"#
    + #"{"type":"mount"},{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"cgroup"}],"#
    + #""readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"],"#
    + #""uidMappings":[{"containerID":0,"hostID":1048576,"size":65536}]}"#

  /// It listens on its control channel, and so has a folder that it can write to.
  @Test func aFunctionThatOwnsItsAddressesHasItsDocumentInAFolderOfItsOwn() throws {
    var configuration = Self.configuration(capabilities: ["NET_RAW"])
    configuration.specification.addressOwner = .function
    let text = try configuration.document().text
    #expect(
      text.contains(
        #"{"destination":"/run/martlet","options":["nosuid","nodev","noexec","mode=755","#
          + #""size=64k","nr_inodes=16"],"source":"tmpfs","type":"tmpfs"},"#
          + #"{"destination":"/run/martlet/config.json","options":["bind","ro","nosuid","nodev","#
          + #""noexec"],"source":"/d/config.json","type":"bind"}"#))
    #expect(text.contains(#""inheritable":["CAP_NET_RAW"]"#) && !text.contains("NET_ADMIN"))
  }

  @Test("crun's configuration; the filter's bytes are the annotation's")
  func crun() throws {
    let text = try Self.configuration().document().text
    let start = #"{"annotations":{"run.oci.seccomp_bpf_data":""#
    #expect(text.hasPrefix(start))
    let rest = text.dropFirst(start.count).drop { $0 != "\"" }
    #expect(
      rest == #""},"hostname":"fw\"1",\#(Self.linux),\#(Self.mounts),"ociVersion":"1.0.2","#
        + Self.process)
  }

  @Test("runc compiles the filter and makes the cgroup itself")
  func runc() throws {
    let text = try Self.configuration(runtime: .runc).document().text
    #expect(text.hasPrefix(#"{"annotations":{},"#))
    #expect(text.contains(#""cgroupsPath":"/martlet/s/w""#))
    #expect(
      text.contains(
        #""resources":{"cpu":{"period":100000,"quota":25000,"shares":256},"devices":["#
          + #"{"access":"rwm","allow":false}],"memory":{"limit":67108864},"pids":{"limit":512}}"#))
    #expect(text.contains(#""seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":["#))
    #expect(
      text.contains(
        #"{"action":"SCMP_ACT_ERRNO","args":[{"index":0,"op":"SCMP_CMP_EQ","value":40}],"#
          + #""errnoRet":1,"names":["socket"]}"#))
  }

  @Test("The host's AppArmor is told by the runtime, under either runtime")
  func securityProfile() throws {
    for runtime in [OCIRuntime.crun, .runc] {
      let text = try Self.configuration(runtime: runtime, securityProfile: .appArmor("martlet-s-m"))
        .document().text
      #expect(text.contains(#""process":{"apparmorProfile":"martlet-s-m","args""#))
    }
  }

  @Test("A store has a profile of its own, in which nothing of the host's files is meant")
  func profile() {
    let profile = ContainerProfile(store: "s")
    #expect(profile == ContainerProfile(store: "s"))
    #expect(profile.name.hasPrefix("martlet-s-m"))
    #expect(profile.name.dropFirst(10) == ContainerProfile(store: "other").name.dropFirst(14))
    #expect(
      profile.text.hasPrefix(
        "profile \(profile.name) flags=(attach_disconnected,mediate_deleted) {\n  network,\n"))
    #expect(profile.text.contains("  signal (send) peer=\(profile.name),\n"))
    #expect(profile.text.hasSuffix(",\n}\n"))
    #expect(!profile.text.contains("include"))
  }

  @Test("apparmor_parser takes the profile", .needs(.apparmorParser))
  func profileIsParsed() throws {
    let input = try makeMemoryFile("profile")
    defer { try? input.close() }
    try input.writeAll(ContainerProfile(store: "5e6a-1").text.utf8)
    try input.seek(offset: 0, from: .start)
    let parser = try #require(Facility.path(of: "apparmor_parser"))
    let result = try runProgram(
      parser, arguments: [parser, "--skip-kernel-load", "--skip-cache", "--names"], input: input)
    let said = String(decoding: result.output, as: UTF8.self)
    #expect(result.status == 0, "\(said)")
    #expect(said.contains(ContainerProfile(store: "5e6a-1").name), "\(said)")
  }

  @Test("A user that is not root keeps what the descriptor asks for, and no more")
  func otherUser() throws {
    let text = try Self.configuration(user: ImageUser(uid: 7, gid: 8), writable: 0).document().text
    #expect(text.contains(#""ambient":["CAP_NET_ADMIN"]"#))
    #expect(text.contains(#""effective":["CAP_NET_ADMIN"],"inheritable""#))
    #expect(text.contains(#""user":{"additionalGids":[],"gid":8,"uid":7}"#))
    #expect(text.contains(#""readonly":true"#))
  }

  @Test("No command, and a capability beyond the allowed")
  func refused() {
    let noCommand = #expect(throws: NFVError.self) {
      try Self.configuration(command: nil).document()
    }
    #expect(noCommand?.code == .unprocessable)
    let capability = #expect(throws: NFVError.self) {
      try Self.configuration(capabilities: ["SYS_MODULE"]).document()
    }
    #expect(capability?.message.contains("SYS_MODULE") == true)
  }

  @Test("An image's user by number and by name")
  func users() throws {
    func user(_ text: String) throws -> ImageUser {
      try ImageUser(
        text, passwd: { "root:x:0:0:root:/root:/bin/sh\nnf:x:100:101::/:/bin/sh\n" },
        group: { "nf:x:101:\nadm:x:4:\n" })
    }
    #expect(try user("") == ImageUser(uid: 0, gid: 0))
    #expect(try user("nf") == ImageUser(uid: 100, gid: 101))
    #expect(try user("nf:adm") == ImageUser(uid: 100, gid: 4))
    #expect(try user("7") == ImageUser(uid: 7, gid: 0))
    #expect(try user("100") == ImageUser(uid: 100, gid: 101))
    #expect(try user("7:8") == ImageUser(uid: 7, gid: 8))
    for text in ["nobody", "nf:nogroup", "70000", "1:2:3", "-1"] {
      #expect(throws: NFVError.self, "\(text)") { try user(text) }
    }
  }

  @Test("Ranges of user ids never overlap and are used again")
  func ranges() throws {
    let id = WorkloadID(store: "s", tenant: "t", vnfc: "v", incarnation: 1)
    var first = UserRanges.containers(store: "s", used: [])
    let firstTaken = first.take()
    let taken = try #require(firstTaken)
    var second = UserRanges.containers(store: "s", used: [RunFolder.Record(id: id, users: taken)])
    let secondTaken = second.take()
    let other = try #require(secondTaken)
    #expect(other.hostStart != taken.hostStart)
    #expect(taken.hostStart >= 0x10_0000 && taken.hostStart % 65536 == 0 && taken.count == 65536)
    #expect(RunFolder.Record(RunFolder.Record(id: id, users: taken).text)?.users == taken)
    #expect(RunFolder.Record("\(id)\n\(taken.hostStart)\n")?.users == taken)
    var all: Set<UInt32> = [taken.hostStart, other.hostStart]
    while let range = second.take() { all.insert(range.hostStart) }
    #expect(all.count == (0x8000_0000 - 0x10_0000) / 65536)
    second.giveBack(other)
    let again = second.take()
    #expect(again == other)
  }
}
