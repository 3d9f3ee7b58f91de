import ControlProtocol
import FoundationEssentials
import LinuxSystem
import NFVImages
import TestSupport
import Testing

/// What containers keep on this host they keep under version 2 of control groups too: their suites
/// run in a Debian guest (kernel 6.1) where this host has version 1. Debian's kernel has AppArmor as
/// well, under which they run there.
@Suite(
  .needs(.root, .crun, .qemu, .kernel, .cgroup2),
  .enabled(
    if: !Facility.hostHasCgroup2,
    "this host has version 2 itself: the suites of containers ran on it"))
struct Cgroup2Tests {
  private static let tests = ["CgroupTests", "ContainerDriverTests", "PlatformTests"]

  @Test(.timeLimit(.minutes(20)))
  func containersAreHeldByVersion2() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let events = "\(folder.path)/events"
    let guest = try RunningGuest(
      Self.recipe, memoryMiB: 1536, processors: 2,
      devices: [
        "-drive",
        "file=\(try GuestDisk.path(running: Self.tests)),if=none,id=disk,format=raw,snapshot=on",
        "-device", "virtio-blk-pci,drive=disk",
        "-chardev", "file,id=events,path=\(events)",
        "-device", "virtserialport,chardev=events,name=\(GuestDisk.eventPort)",
      ], patience: .seconds(18 * 60))
    defer { guest.end() }
    guard case .running = try guest.hello() else { throw Failed(guest.console) }
    let end = try guest.nextState()
    let run = try TestRun(events: readFile(events, limit: 64 << 20))
    for (test, text) in run.failures { Issue.record("in the guest: \(test): \(text)") }
    // The guest has what this host has, and need not have a second runtime.
    let isExpected = { (test: String) in
      test.contains("/runc()/") && Facility.path(of: "runc") == nil
    }
    #expect(run.skipped.filter { !isExpected($0) } == [])
    #expect(run.hasEnded && end == .ended(.exited(code: 0)), "\(guest.console.suffix(4000))")
    #expect(run.passed > 20)
  }

  /// The machine goes over to its disk, and runs the tests there.
  private static var recipe: ImageRecipe {
    var recipe = ImageRecipe(name: "cgroup2")
    recipe.programs = ["sh", "mount", "chroot"]
    recipe.directories = ["/disk"]
    // As switch_root(8): a process in a mere chroot may make no user namespace.
    recipe.entrypoint = [
      "/bin/sh", "-c",
      "mount -t ext4 /dev/vda /disk; cd /disk; mount --move . /; exec chroot . \(GuestDisk.start)",
    ]
    recipe.modules = [
      "overlay", "veth", "bridge", "br_netfilter", "tun", "nf_tables", "nft_chain_nat", "nft_masq",
      "nft_ct", "nft_fib_inet", "nft_reject_inet", "nft_meta_bridge", "nft_reject_bridge",
    ]
    return recipe
  }
}

/// What Swift Testing's event stream says of a run (its ABI, version 0): one JSON record a line.
struct TestRun {
  private struct Record: Decodable {
    struct Payload: Decodable {
      struct Message: Decodable { var text: String }
      struct Issue: Decodable { var isKnown: Bool? }
      var kind: String?
      var testID: String?
      var messages: [Message]?
      var issue: Issue?
    }
    var kind: String
    var payload: Payload
  }

  private(set) var failures: [(test: String, text: String)] = []
  private(set) var skipped: [String] = []
  /// Functions that have ended; a failed one counts as well.
  private(set) var passed = 0
  private(set) var hasEnded = false

  init(events: [UInt8]) throws {
    for line in events.split(separator: 10) {
      // A machine that went off has left half a line.
      guard let record = try? JSONDecoder().decode(Record.self, from: Data(line)),
        record.kind == "event"
      else { continue }
      let payload = record.payload
      let test = payload.testID ?? "the run"
      switch payload.kind {
      case "issueRecorded" where payload.issue?.isKnown != true:
        failures.append((test, (payload.messages ?? []).map(\.text).joined(separator: "; ")))
      case "testSkipped": skipped.append(test)
      case "testEnded" where test.contains("("): passed += 1
      case "runEnded": hasEnded = true
      default: continue
      }
    }
  }
}
