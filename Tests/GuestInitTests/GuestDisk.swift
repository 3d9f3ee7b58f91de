import FoundationEssentials
import Glibc
import LinuxSystem
import NFVImages
import NFVModel
import TestSupport

/// A disk with the tests and all that they need, from this host's own Debian packages and the build;
/// kept until one of them changes.
enum GuestDisk {
  /// The program that runs the tests, on the disk.
  static let start = "/start"
  /// The port on which it tells how they go.
  static let eventPort = "martlet.tests"
  /// How much slower than this host a guest is that QEMU interprets.
  private static let slowness = 12

  private static let programs = [
    "bash", "sh", "cat", "chown", "cp", "date", "env", "find", "grep", "head", "id", "iperf",
    "iperf3", "ldd", "ls", "mkdir", "mount", "ping", "rm", "sleep", "stty", "tail", "touch", "true",
    "umount", "unshare", "crun", "runc", "nft",
    "apparmor_parser", "prlimit",
  ]
  private static let products = [
    "martlet", "martletd", "martlet-hold", "martlet-init", "martlet-unpack",
    "martletPackageTests.xctest",
  ]
  private static let files = [
    "/etc/passwd", "/etc/group", "/etc/protocols", "/etc/services", "/etc/nsswitch.conf",
    "/etc/apparmor/parser.conf", "/usr/share/apparmor-features/features",
  ]

  /// The disk's file, in the cache. It may be shared: nobody writes to it.
  static func path(running tests: [String]) throws -> String {
    let cache = KernelPackage.standardCache + "/../guests"
    try FileManager.default.createDirectory(atPath: cache, withIntermediateDirectories: true)
    let own = programs.compactMap(Facility.path(of:)) + products.map(Built.program)
    let copied = own + (try libraries(of: own)) + files.filter(fileExists)
    let script = script(tests)
    let path = "\(cache)/cgroup2-\(HostName.derived(from: script + (try state(of: copied)))).ext4"
    guard !fileExists(path) else { return path }
    for name in try listFolder(cache) { unlink("\(cache)/\(name)") }
    let work = try TemporaryFolder(in: cache)
    defer { work.remove() }
    let root = "\(work.path)/root"
    for folder in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "packages"] + mountPoints {
      try FileManager.default.createDirectory(
        atPath: "\(root)/\(folder)", withIntermediateDirectories: true)
    }
    for folder in ["bin", "sbin", "lib", "lib64"] {
      try FileManager.default.createSymbolicLink(
        atPath: "\(root)/\(folder)", withDestinationPath: "usr/\(folder)")
    }
    try copyFiles(copied, into: root)
    try work.write("root\(start)", script)
    chmod(root + start, 0o755)
    try buildResponder(in: work, to: "\(root)/packages/responder.csar")
    // Room for what the tests write, which takes none on this host.
    try run(
      "/bin/sh",
      [
        "-c",
        "truncate -s $(($(du -sm \"$1\" | cut -f1) + 700))M \"$2\" && /usr/sbin/mke2fs -q -t"
          + " ext4 -O ^has_journal -m 0 -d \"$1\" \"$2\"", "sh", root, "\(work.path)/disk",
      ])
    guard rename("\(work.path)/disk", path) == 0 else { throw Failed("rename \(path): \(errno)") }
    return path
  }

  private static let mountPoints = [
    "proc", "sys", "dev", "run", "tmp", "root", "mnt", "var/tmp", "etc",
  ]

  /// Names, sizes and times of change: what is made of the files is as old as they are.
  private static func state(of files: [String]) throws -> String {
    let package = "\(Built.project)/examples/responder"
    return try run(
      "/usr/bin/find", ["-L"] + files + [package, "-type", "f", "-printf", "%p %s %T@\n"])
  }

  /// The package without its virtual machine, which would only take time.
  private static func buildResponder(in work: TemporaryFolder, to path: String) throws {
    let project = "\(work.path)/responder"
    try run("/bin/cp", ["-r", "\(Built.project)/examples/responder", project])
    let descriptor = try work.read("responder/Definitions/responder.yaml")
    try work.write(
      "responder/Definitions/responder.yaml",
      String(decoding: descriptor, as: UTF8.self).split(
        separator: "\n", omittingEmptySubsequences: false
      ).filter { !$0.contains("responder.tinyx.yaml") }.joined(separator: "\n"))
    unlink("\(project)/Definitions/responder.tinyx.yaml")
    try run(Built.program("martlet"), ["package", "build", project, "-o", path])
  }

  @discardableResult
  private static func run(_ program: String, _ arguments: [String]) throws -> String {
    let result = try runProgram(program, arguments: [program] + arguments)
    let output = String(decoding: result.output, as: UTF8.self)
    guard result.status == 0 else { throw Failed("\(program): \(output)") }
    return output
  }

  /// A Debian machine as far as control groups go: version 2 alone, mounted as systemd does it, and
  /// the tests in a group of their own.
  private static func script(_ tests: [String]) -> String {
    """
    #!/bin/sh
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t securityfs securityfs /sys/kernel/security
    mount -t devtmpfs devtmpfs /dev
    mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
    echo "+cpu +memory +pids" > /sys/fs/cgroup/cgroup.subtree_control
    mkdir -p /sys/fs/cgroup/system.slice/tests.service
    echo $$ > /sys/fs/cgroup/system.slice/tests.service/cgroup.procs
    for port in /sys/class/virtio-ports/*; do
      [ "$(cat "$port/name")" = \(eventPort) ] && events=/dev/${port##*/}
    done
    export HOME=/root NO_COLOR=1 MARTLET_REQUIRE=root,crun,apparmor MARTLET_TEST_SLOWNESS=\(slowness)
    export MARTLET_TEST_RESPONDER=/packages/responder.csar
    exec \(Built.program("martletPackageTests.xctest")) --testing-library swift-testing \
    --no-parallel \(tests.map { "--filter '\($0)'" }.joined(separator: " ")) \
    --event-stream-output-path "$events"

    """
  }
}
