import Glibc
import LinuxSystem
import NFVModel
import Synchronization
import SystemPackage

/// What runs a machine's instructions.
enum Accelerator: String, Sendable, Hashable {
  case kvm
  /// QEMU translates them; no boundary between tenants.
  case tcg

  /// What QEMU itself takes beside its guest's memory, in bytes: measured 40 MiB at most, and what
  /// it maps of an initramfs.
  /// - Parameter translationMiB: what translated code takes at most, in MiB.
  func overhead(translationMiB: Int) -> UInt64 {
    (96 + (self == .tcg ? UInt64(2 * translationMiB) : 0)) << 20
  }
}

/// Finds out by a guest of ours whether KVM works: a device that opens may hang ordinary kernels, or
/// be slower than translation, as some nested ones are. KVM counts as working where the guest comes
/// to its end under it in the time that it takes under TCG, measured just before.
///
/// The board is `pc`, whose firmware asks for more than a small guest: real mode, ports, timers. It
/// takes a second or two, once per boot of the host and version of QEMU; the result is kept in a
/// file. Who needs it waits for it; nothing else does.
final class AcceleratorProbe: Sendable {
  private enum State {
    case running([CheckedContinuation<Accelerator, Never>])
    case known(Accelerator)
  }

  private let state = Mutex(State.running([]))

  /// Begins on a thread of its own.
  /// - Parameters:
  ///   - program: QEMU.
  ///   - cache: the file that keeps the result, in a file system of memory.
  ///   - limit: of the guest's run under TCG.
  init(program: String, cache: String, limit: Duration = .seconds(20)) {
    startThread(name: "martlet-kvm") { [self] in finish(Self.probe(program, cache, limit)) }
  }

  /// The result, once there is one.
  var known: Accelerator? {
    state.withLock { if case .known(let accelerator) = $0 { accelerator } else { nil } }
  }

  var value: Accelerator {
    get async {
      await withCheckedContinuation { continuation in
        let known: Accelerator? = state.withLock { state in
          switch state {
          case .known(let accelerator): return accelerator
          case .running(let waiters):
            state = .running(waiters + [continuation])
            return nil
          }
        }
        if let known { continuation.resume(returning: known) }
      }
    }
  }

  private func finish(_ accelerator: Accelerator) {
    let waiters = state.withLock { state in
      defer { state = .known(accelerator) }
      if case .running(let waiters) = state { return waiters }
      return []
    }
    for waiter in waiters { waiter.resume(returning: accelerator) }
  }

  // MARK: The probe

  private static func probe(_ program: String, _ cache: String, _ limit: Duration) -> Accelerator {
    guard kvmGroups() != nil else { return .tcg }
    return choose(for: subject(program), cache: cache, limit) { limit, accelerator in
      run(program, limit, under: accelerator)
    }
  }

  /// The groups that a user without capabilities needs to open the device, as QEMU does; nil where he
  /// cannot, or where there is none.
  static func kvmGroups(_ device: String = "/dev/kvm") -> [UInt32]? {
    var status = stat()
    guard stat(device, &status) == 0 else { return nil }
    if status.st_mode & 0o006 == 0o006 { return [] }
    return status.st_gid != 0 && status.st_mode & 0o060 == 0o060 ? [status.st_gid] : nil
  }

  /// - Parameter run: whether the guest ends in so much time under an accelerator.
  static func choose(
    for subject: String, cache: String, _ limit: Duration, run: (Duration, Accelerator) -> Bool
  ) -> Accelerator {
    if let kept = try? readFile(cache, limit: 4096) {
      let text = String(decoding: kept, as: UTF8.self)
      for result in [Accelerator.kvm, .tcg] where text == "\(result.rawValue)\n\(subject)" {
        return result
      }
    }
    let started = ContinuousClock.now
    let endsTranslated = run(limit, .tcg)
    let taken = started.duration(to: .now)
    let result = endsTranslated && run(taken, .kvm) ? Accelerator.kvm : .tcg
    keep(result, of: subject, in: cache)
    return result
  }

  /// What a result is of: this boot of the host and this version of QEMU.
  static func subject(_ program: String) -> String {
    let result = try? runProgram(
      program, arguments: [program, "--version"], timeout: .seconds(5))
    let line = (result?.output ?? []).prefix { $0 != UInt8(ascii: "\n") }
    let boot = (try? readFile("/proc/sys/kernel/random/boot_id", limit: 64)) ?? []
    return String(decoding: boot + line, as: UTF8.self)
  }

  /// Where that fails, the next daemon probes again.
  static func keep(_ result: Accelerator, of subject: String, in cache: String) {
    try? replaceFile(cache, Array("\(result.rawValue)\n\(subject)".utf8), mode: 0o600)
  }

  /// Whether the guest ended in time and as it should. On doubt it did not.
  static func run(_ program: String, _ limit: Duration, under accelerator: Accelerator) -> Bool {
    do throws(SystemError) {
      let file = try makeMemoryFile("probe")
      defer { try? file.close() }
      try writeAll(ProbeGuest.image, to: file)
      let result = try runProgram(
        program,
        arguments: [
          "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
          "-no-reboot", "-machine", "pc", "-accel", accelerator.rawValue, "-cpu",
          accelerator == .kvm ? "host" : "max", "-m", "16", "-kernel",
          "/proc/\(currentProcessID())/fd/\(file.rawValue)", "-device",
          "isa-debug-exit,iobase=0xf4,iosize=0x04", "-sandbox", "on",
        ], timeout: limit)
      return result.status == ProbeGuest.status
    } catch {
      return false
    }
  }
}
