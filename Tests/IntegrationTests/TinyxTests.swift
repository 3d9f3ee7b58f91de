import FoundationEssentials
import Glibc
import LinuxSystem
import NFVBenchmark
import SystemPackage
import TestSupport
import Testing

/// What a tiny VM keeps over its runs, uses and shows, by the command line; each machine boots for
/// seconds, so that one serves for all of it.
@Suite(.needs(.root, .crun, .qemu), .serialized, .timeLimit(.minutes(10)))
struct TinyxTests {
  private static let threads = BlockingExecutor(threads: 1, name: "martlet-test")

  @Test func aTinyVMKeepsUsesAndShowsWhatItHas() async throws {
    try await withTaskExecutorPreference(Self.threads) {
      let platform = try await Platform()
      defer { platform.cleanUp() }
      try platform.martlet([
        "vnf", "run", try Self.package(in: platform), "--flavour", "tinyx", "--name", "vm",
        "--connect", "network=lan",
      ])
      try await keepsItsVolume(platform)
      try await isUsed(platform)
      try await answersOverARestart(platform)
      try await tellsAnEndThatNobodyHeard(platform)
      try leavesTheConsole(platform)
      try await writesWhileTheDaemonStandsStill(platform)
      try await scales(platform)
      #expect(try await platform.end() == [])
    }
  }

  /// The example with a block device.
  private static func package(in platform: Platform) throws -> String {
    let project = "\(platform.state)/responder"
    let path = "\(project)/Definitions/responder.tinyx.yaml"
    _ = try runProgram(
      "/bin/cp", arguments: ["cp", "-r", "\(Built.project)/examples/responder", project])
    let artifact = "file: ../Files/responder.tinyx.tar\n"
    let disk = """
            requirements:
              - virtual_storage: disk

          disk:
            type: tosca.nodes.nfv.Vdu.VirtualBlockStorage
            properties:
              virtual_block_storage_data:
                size_of_storage: 1 MiB

      """
    let text = String(decoding: try readFile(path, limit: 1 << 16), as: UTF8.self)
    try #require(text.contains(artifact))
    try Data(text.replacing(artifact, with: artifact + disk).utf8)
      .write(to: URL(filePath: path))
    return project
  }

  private func shell(_ platform: Platform, _ script: String) throws -> String {
    try platform.martlet(["exec", "vm", "--", "sh", "-c", script])
  }

  /// What the guest has written to its device the next run reads.
  private func keepsItsVolume(_ platform: Platform) async throws {
    let first = try platform.instance("vm")
    _ = try shell(platform, "echo kept > /dev/vda; echo lost > /root-layer")
    try platform.martlet(["vnf", "heal", "vm"])
    let healed = try platform.instance("vm")
    #expect(healed.workloads != first.workloads && healed.addresses == first.addresses)
    let script = "read line < /dev/vda; echo $line; [ -e /root-layer ] || echo discarded"
    #expect(try shell(platform, script) == "kept\ndiscarded\n")
  }

  private struct Usage: Decodable {
    struct Port: Decodable { var receivedPacketsPerSecond: Double? }
    var technology: String
    var cpuPercent: Double?
    var guestCpuPercent: Double?
    var memoryBytes: Int64
    var ports: [Port]
  }

  private func isUsed(_ platform: Platform) async throws {
    let client = try platform.join("lan", name: "mtest-pings", address: [10, 9, 0, 101])
    _ = try client.run(
      "/bin/sh", ["-c", "ping -q -i 0.01 -c 300 -W 1 10.9.0.1 >/dev/null 2>&1 &"])
    let text = try platform.martlet(["top", "--once", "-o", "json"])
    let all = try JSONDecoder().decode([Usage].self, from: Data(text.utf8))
    let usage = try #require(all.first)
    #expect(all.count == 1 && usage.technology == "tinyx", "\(text)")
    #expect((usage.cpuPercent ?? 0) > 0 && usage.memoryBytes > 32 << 20, "\(text)")
    let guest = usage.guestCpuPercent ?? 0
    #expect(guest > 0 && guest < (usage.cpuPercent ?? 0), "\(text)")
    #expect((usage.ports.first?.receivedPacketsPerSecond ?? 0) > 10, "\(text)")
    #expect(try platform.martlet(["top"]).contains("vm"))
  }

  private func answersOverARestart(_ platform: Platform) async throws {
    let before = try platform.instance("vm")
    let client = try platform.join("lan", name: "mtest-flood", address: [10, 9, 0, 102])
    let count = 1000
    let report = "\(platform.state)/flood"
    _ = try client.run(
      "/bin/sh",
      ["-c", "ping -q -i 0.005 -c \(count) -W 2 10.9.0.1 >\(report) 2>&1 &"])
    platform.endDaemon(SIGKILL)
    try await platform.startDaemon()
    var text = ""
    try await eventually("the pings have ended", within: .seconds(60)) {
      text = String(decoding: (try? readFile(report, limit: 1 << 16)) ?? [], as: UTF8.self)
      return text.contains("packets transmitted")
    }
    #expect(text.contains("\(count) packets transmitted, \(count) received"), "\(text)")
    #expect(try platform.instance("vm").workloads == before.workloads)
    #expect(try shell(platform, "echo again") == "again\n")
  }

  /// Its function is killed while no daemon runs; the next one knows how it ended, and starts another.
  private func tellsAnEndThatNobodyHeard(_ platform: Platform) async throws {
    let before = try platform.instance("vm")
    let workload = try #require(before.workloads.first)
    // The function is the first child of the machine's first process.
    _ = try shell(
      platform,
      """
      n=2
      while n=$((n+1)); do
        [ -r /proc/$n/stat ] || continue
        read pid name state parent rest < /proc/$n/stat
        [ "$parent" = 1 ] && break
      done
      (sleep 2; kill -10 $n) </dev/null >/dev/null 2>&1 &
      """)
    platform.endDaemon(SIGKILL)
    let process = "\(platform.run)/machines/workloads/\(workload)/process"
    let pid = String(decoding: try readFile(process, limit: 64).prefix { $0 != 10 }, as: UTF8.self)
    try await eventually("its machine has ended", within: .seconds(60)) {
      !fileExists("/proc/\(pid)/exe")
    }
    try await platform.startDaemon()
    try await eventually("it is told, and another runs", within: .seconds(60)) {
      let text = try platform.martlet(["describe", "vnf", "vm"])
      return text.contains("was killed by signal 10") && text.contains("RUNNING")
    }
    let after = try platform.instance("vm")
    #expect(after.workloads != before.workloads && after.addresses == before.addresses)
  }

  /// On a terminal; script(1) has one.
  private func leavesTheConsole(_ platform: Platform) throws {
    let result = try runProgram(
      "/bin/sh",
      arguments: [
        "sh", "-c",
        """
        export MARTLET_SOCKET=$1
        { sleep 3; printf 'typed\\r'; sleep 2; printf '\\035'; sleep 20; } |
          script -qec "$2 console vm" /dev/null
        echo "status $?"
        """, "sh", platform.socket, Built.program("martlet"),
      ], timeout: .seconds(15))
    let text = String(decoding: result.output, as: UTF8.self)
    #expect(text.contains("The console of vm; Ctrl-] leaves it."), "\(text)")
    #expect(text.contains("The console of vm is left."), "\(text)")
    #expect(try shell(platform, "echo lives") == "lives\n")
  }

  /// A reader at the console, and a daemon that does not run: the guest writes on all the same.
  private func writesWhileTheDaemonStandsStill(_ platform: Platform) async throws {
    let workload = try #require(try platform.instance("vm").workloads.first)
    let log = "\(platform.state)/state/logs/\(workload).log"
    func length() throws -> UInt64 {
      let file = try openFile(log, .read)
      defer { try? file.close() }
      return try fileSize(file).length
    }
    let seen = "\(platform.state)/console"
    let console = try spawnDetached(
      "/bin/sh",
      arguments: [
        "sh", "-c", "exec \"$1\" console vm --socket \"$2\" </dev/null >\"$3\"", "sh",
        Built.program("martlet"), platform.socket, seen,
      ], environment: ["PATH=/usr/bin:/bin"])
    defer {
      kill(console, SIGKILL)
      _ = try? waitForChild(console)
    }
    func seenLength() -> Int { (try? readFile(seen, limit: 64 << 20).count) ?? 0 }
    let line = String(repeating: "x", count: 70)
    _ = try shell(
      platform,
      "(while :; do echo \(line); done) </dev/null >/dev/console 2>&1 & echo $! > /writer")
    try await eventually("the console shows it", within: .seconds(20)) { seenLength() > 1000 }
    kill(platform.daemon, SIGSTOP)
    let start = try length()
    do {
      // More than any socket's buffer has room for.
      try await eventually("the guest writes on", within: .seconds(60)) {
        try length() > start + 512 << 10
      }
    } catch {
      kill(platform.daemon, SIGCONT)
      throw error
    }
    kill(platform.daemon, SIGCONT)
    let shown = seenLength()
    try await eventually("the console goes on", within: .seconds(20)) { seenLength() > shown }
    _ = try shell(platform, "read writer < /writer; kill $writer")
  }

  private func scales(_ platform: Platform) async throws {
    let volumes = "\(platform.state)/state/volumes"
    let one = try platform.instance("vm")
    try platform.martlet(["vnf", "scale", "vm", "--out", "1"])
    let two = try platform.instance("vm")
    #expect(two.workloads.count == 2 && Set(two.workloads).isSuperset(of: one.workloads))
    #expect(two.addresses.count == 2 && two.addresses.isSuperset(of: one.addresses))
    #expect(try listFolder(volumes).count == 2)
    try platform.martlet(["vnf", "scale", "vm", "--in", "1"])
    let again = try platform.instance("vm")
    #expect(again.workloads == one.workloads && again.addresses == one.addresses)
    try await eventually("its volume has gone too", within: .seconds(10)) {
      try listFolder(volumes).count == 1
    }
    #expect(try shell(platform, "read line < /dev/vda; echo $line") == "kept\n")
  }
}
