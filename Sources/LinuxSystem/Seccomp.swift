/// A filter of system calls (seccomp(2)) for workloads, as a classic BPF program of our own and as
/// a list that an OCI runtime compiles.
///
/// Everything is allowed but what reaches deep into the kernel, and what this list cannot know:
/// calls newer than it answer ENOSYS, so that programs fall back. Network functions (nft, iperf,
/// Python, shells) need none of what is denied; a list of everything that they do need would break
/// with every release of their libraries.
public struct SeccompFilter: Sendable, Hashable {
  /// A system call that answers EPERM, or ENOSYS where programs then take an older one.
  public struct Denial: Sendable, Hashable {
    public var name: String
    /// On x86_64.
    public var number: UInt32
    public var answersNoSuchCall: Bool

    init(_ name: String, _ number: UInt32, answersNoSuchCall: Bool = false) {
      self.name = name
      self.number = number
      self.answersNoSuchCall = answersNoSuchCall
    }
  }

  /// A system call that is denied where an argument is, or has, something.
  public struct ArgumentDenial: Sendable, Hashable {
    public var name: String
    public var number: UInt32
    /// From 0; its lower 32 bits count.
    public var argument: UInt32
    public var test: Test

    public enum Test: Sendable, Hashable {
      case equals(UInt32)
      case hasAnyBit(of: UInt32)
    }
  }

  public var denials: [Denial]
  public var argumentDenials: [ArgumentDenial]
  /// The newest call that the list knows; those above answer ENOSYS.
  public var newestNumber: UInt32

  /// What every workload gets.
  public static let workload = SeccompFilter(
    denials: [
      // Mounts and roots.
      .init("chroot", 161), .init("fsconfig", 431), .init("fsmount", 432), .init("fsopen", 430),
      .init("fspick", 433), .init("mount", 165), .init("mount_setattr", 442),
      .init("move_mount", 429), .init("open_tree", 428), .init("pivot_root", 155),
      .init("umount2", 166),
      // Namespaces. clone3's flags are in memory, where a filter cannot look: without it the C
      // libraries take clone.
      .init("clone3", 435, answersNoSuchCall: true), .init("setns", 308), .init("unshare", 272),
      // The kernel's own code, keys and tracing.
      .init("add_key", 248), .init("bpf", 321), .init("delete_module", 176),
      .init("finit_module", 313), .init("init_module", 175), .init("kexec_file_load", 320),
      .init("kexec_load", 246), .init("keyctl", 250), .init("lookup_dcookie", 212),
      .init("perf_event_open", 298), .init("request_key", 249), .init("syslog", 103),
      .init("userfaultfd", 323),
      // Large and young, with many past holes.
      .init("io_uring_enter", 426), .init("io_uring_register", 427),
      .init("io_uring_setup", 425),
      // Other processes.
      .init("kcmp", 312), .init("pidfd_getfd", 438), .init("process_vm_readv", 310),
      .init("process_vm_writev", 311), .init("ptrace", 101),
      // Files past the mounts' checks.
      .init("fanotify_init", 300), .init("name_to_handle_at", 303),
      .init("open_by_handle_at", 304),
      // The machine: clocks, ports, swap, accounting, quotas.
      .init("acct", 163), .init("adjtimex", 159), .init("clock_adjtime", 305),
      .init("clock_settime", 227), .init("ioperm", 173), .init("iopl", 172),
      .init("modify_ldt", 154), .init("quotactl", 179), .init("quotactl_fd", 443),
      .init("reboot", 169), .init("setdomainname", 171), .init("sethostname", 170),
      .init("settimeofday", 164), .init("swapoff", 168), .init("swapon", 167),
      .init("vhangup", 153),
      // Memory placement over the whole machine.
      .init("mbind", 237), .init("migrate_pages", 256), .init("move_pages", 279),
      .init("set_mempolicy", 238),
      // Of no use to anybody any more.
      .init("_sysctl", 156), .init("create_module", 174), .init("get_kernel_syms", 177),
      .init("nfsservctl", 180), .init("query_module", 178), .init("sysfs", 139),
      .init("uselib", 134), .init("ustat", 136),
    ],
    argumentDenials: [
      // New namespaces: CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET.
      ArgumentDenial(name: "clone", number: 56, argument: 0, test: .hasAnyBit(of: 0x7E02_0000)),
      // Typing into a terminal from behind it: TIOCSTI, TIOCLINUX.
      ArgumentDenial(name: "ioctl", number: 16, argument: 1, test: .equals(0x5412)),
      ArgumentDenial(name: "ioctl", number: 16, argument: 1, test: .equals(0x541C)),
      // AF_ALG (the kernel's ciphers) and AF_VSOCK (the hypervisor).
      ArgumentDenial(name: "socket", number: 41, argument: 0, test: .equals(38)),
      ArgumentDenial(name: "socket", number: 41, argument: 0, test: .equals(40)),
    ],
    // file_setattr, Linux 6.17.
    newestNumber: 469)

  // MARK: Classic BPF

  /// One instruction (`struct sock_filter`).
  struct Instruction: Sendable, Hashable {
    var code: UInt16
    var ifTrue: UInt8
    var ifFalse: UInt8
    var operand: UInt32
  }

  private static let loadWord: UInt16 = 0x20  // BPF_LD | BPF_W | BPF_ABS
  private static let jumpEqual: UInt16 = 0x15  // BPF_JMP | BPF_JEQ | BPF_K
  private static let jumpGreater: UInt16 = 0x25  // BPF_JMP | BPF_JGT | BPF_K
  private static let jumpBitsSet: UInt16 = 0x45  // BPF_JMP | BPF_JSET | BPF_K
  private static let finish: UInt16 = 0x06  // BPF_RET | BPF_K

  private static let allow: UInt32 = 0x7FFF_0000
  private static let killProcess: UInt32 = 0x8000_0000
  private static func fail(_ errno: UInt32) -> UInt32 { 0x0005_0000 | errno }
  private static let notPermitted = fail(1)
  private static let noSuchCall = fail(38)

  /// The program for x86_64. The kernel runs it once for each number without arguments and remembers
  /// what is always allowed (Linux 5.11), so that its length costs nothing in the common case.
  func compile() -> [Instruction] {
    var program: [Instruction] = []
    func emit(_ code: UInt16, _ operand: UInt32, _ ifTrue: Int = 0, _ ifFalse: Int = 0) {
      program.append(
        Instruction(
          code: code, ifTrue: UInt8(ifTrue), ifFalse: UInt8(ifFalse), operand: operand))
    }
    // struct seccomp_data: the number at 0, the architecture at 4, arguments from 16.
    emit(Self.loadWord, 4)
    emit(Self.jumpEqual, 0xC000_003E, 1, 0)  // AUDIT_ARCH_X86_64
    emit(Self.finish, Self.killProcess)
    emit(Self.loadWord, 0)
    // Newer calls, and the x32 calls, whose numbers have bit 30.
    emit(Self.jumpGreater, newestNumber, 0, 1)
    emit(Self.finish, Self.noSuchCall)
    for denial in denials {
      emit(Self.jumpEqual, denial.number, 0, 1)
      emit(Self.finish, denial.answersNoSuchCall ? Self.noSuchCall : Self.notPermitted)
    }
    for denial in argumentDenials {
      let (jump, operand) =
        switch denial.test {
        case .equals(let value): (Self.jumpEqual, value)
        case .hasAnyBit(let mask): (Self.jumpBitsSet, mask)
        }
      emit(Self.jumpEqual, denial.number, 0, 4)
      emit(Self.loadWord, 16 + 8 * denial.argument)
      emit(jump, operand, 0, 1)
      emit(Self.finish, Self.notPermitted)
      emit(Self.loadWord, 0)
    }
    emit(Self.finish, Self.allow)
    return program
  }

  /// The program's bytes (`struct sock_filter[]`, little-endian) in base 64: what crun takes by its
  /// annotation `run.oci.seccomp_bpf_data`.
  public func base64Program() -> String {
    var bytes: [UInt8] = []
    for instruction in compile() {
      withUnsafeBytes(of: instruction.code.littleEndian) { bytes.append(contentsOf: $0) }
      bytes += [instruction.ifTrue, instruction.ifFalse]
      withUnsafeBytes(of: instruction.operand.littleEndian) { bytes.append(contentsOf: $0) }
    }
    return Self.base64(bytes)
  }

  /// RFC 4648, 4.
  static func base64(_ bytes: [UInt8]) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let rest = bytes[start..<min(start + 3, bytes.count)]
      var group: UInt32 = 0
      for offset in 0..<3 {
        group = group << 8 | (offset < rest.count ? UInt32(rest[start + offset]) : 0)
      }
      for digit in 0..<4 {
        let isPadding = digit > rest.count
        text.append(
          isPadding ? UInt8(ascii: "=") : digits[Int(group >> (18 - 6 * UInt32(digit)) & 63)])
      }
    }
    return String(decoding: text, as: UTF8.self)
  }
}
