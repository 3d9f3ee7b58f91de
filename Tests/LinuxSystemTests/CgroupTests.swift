import Testing

@testable import LinuxSystem

struct CgroupTests {
  static func hierarchies(_ mountInfo: String, unified: String = "") -> CgroupHierarchies {
    CgroupHierarchies(mounts: MountEntry.parse(mountInfo)) { _ in unified }
  }

  @Test("A mount's line is read with its optional fields and escapes")
  func mountEntry() {
    let text = #"""
      36 35 98:0 /mnt1 /with\040space rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue
      a line of another form
      28 27 0:25 / /a\134b ro - tmpfs none ro,size=4k

      """#
    #expect(
      MountEntry.parse(text) == [
        MountEntry(
          root: "/mnt1", mountPoint: "/with space", fileSystem: "ext3",
          superOptions: ["rw", "errors=continue"]),
        MountEntry(
          root: "/", mountPoint: #"/a\b"#, fileSystem: "tmpfs", superOptions: ["ro", "size=4k"]),
      ])
  }

  @Test("Version 2 alone")
  func unified() {
    let found = Self.hierarchies(
      "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
      unified: "cpuset cpu io memory hugetlb pids rdma\n")
    #expect(found.isUnifiedOnly)
    #expect(found.missing == [])
    #expect(found.group("martlet/s/w").folders == ["/sys/fs/cgroup/martlet/s/w"])
  }

  @Test("Version 1 as systemd mounts it: cpu and cpuacct share a folder, which is taken once")
  func legacy() {
    let found = Self.hierarchies(
      """
      31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
      36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
      39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
      """)
    #expect(!found.isUnifiedOnly)
    #expect(found.missing == [])
    #expect(
      found.group("g").folders == [
        "/sys/fs/cgroup/memory/g", "/sys/fs/cgroup/cpu,cpuacct/g", "/sys/fs/cgroup/pids/g",
        "/sys/fs/cgroup/devices/g",
      ])
    #expect(found.allFolders(of: "g").contains("/sys/fs/cgroup/systemd/g"))
  }

  @Test("Hybrid: version 1 limits, version 2 counts and kills; cpuacct is not needed")
  func hybrid() {
    let found = Self.hierarchies(
      """
      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
      33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct
      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
      """, unified: "hugetlb")
    #expect(found.missing == [.pids])
    #expect(
      found.group("g").folders == [
        "/sys/fs/cgroup/memory/g", "/sys/fs/cgroup/cpu/g", "/sys/fs/cgroup/unified/g",
      ])
  }
}
