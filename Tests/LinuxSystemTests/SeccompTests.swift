import SystemPackage
import Testing

@testable import LinuxSystem

struct SeccompTests {
  static let x86: UInt32 = 0xC000_003E
  static let allow: UInt32 = 0x7FFF_0000
  static let notPermitted: UInt32 = 0x0005_0001
  static let noSuchCall: UInt32 = 0x0005_0026
  static let killProcess: UInt32 = 0x8000_0000

  /// What the kernel would do: classic BPF over `struct seccomp_data`.
  static func verdict(
    _ number: UInt32, _ arguments: [UInt32] = [], architecture: UInt32 = x86
  ) throws -> UInt32 {
    let program = SeccompFilter.workload.compile()
    var accumulator: UInt32 = 0
    var counter = 0
    while true {
      let instruction = try #require(counter < program.count ? program[counter] : nil)
      counter += 1
      func jump(_ condition: Bool) {
        counter += Int(condition ? instruction.ifTrue : instruction.ifFalse)
      }
      switch instruction.code {
      case 0x20:
        switch instruction.operand {
        case 0: accumulator = number
        case 4: accumulator = architecture
        default:
          let index = Int(instruction.operand - 16) / 8
          accumulator = index < arguments.count ? arguments[index] : 0
        }
      case 0x15: jump(accumulator == instruction.operand)
      case 0x25: jump(accumulator > instruction.operand)
      case 0x45: jump(accumulator & instruction.operand != 0)
      case 0x06: return instruction.operand
      default: throw SystemError(call: "bpf", errno: .invalidArgument)
      }
    }
  }

  @Test("Every denied call is denied and every other known one allowed")
  func numbers() throws {
    let denied = Dictionary(
      uniqueKeysWithValues: SeccompFilter.workload.denials.map { ($0.number, $0) })
    for number in 0...SeccompFilter.workload.newestNumber {
      let expected =
        denied[number].map { $0.answersNoSuchCall ? Self.noSuchCall : Self.notPermitted }
      #expect(try Self.verdict(number) == expected ?? Self.allow, "call \(number)")
    }
  }

  @Test("Calls that the list cannot know, x32 and other architectures")
  func unknown() throws {
    #expect(try Self.verdict(SeccompFilter.workload.newestNumber + 1) == Self.noSuchCall)
    #expect(try Self.verdict(0x4000_0000) == Self.noSuchCall)
    #expect(try Self.verdict(0, architecture: 0x4000_0003) == Self.killProcess)
  }

  @Test("Calls that are denied by an argument")
  func arguments() throws {
    // fork: SIGCHLD; a thread's flags; a new user namespace.
    #expect(try Self.verdict(56, [17]) == Self.allow)
    #expect(try Self.verdict(56, [0x003D_0F00]) == Self.allow)
    #expect(try Self.verdict(56, [0x1000_0011]) == Self.notPermitted)
    #expect(try Self.verdict(56, [0x0002_0011]) == Self.notPermitted)
    // TCGETS, TIOCSTI, TIOCLINUX.
    #expect(try Self.verdict(16, [0, 0x5401]) == Self.allow)
    #expect(try Self.verdict(16, [0, 0x5412]) == Self.notPermitted)
    #expect(try Self.verdict(16, [0, 0x541C]) == Self.notPermitted)
    // AF_INET, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK.
    for family in [2, 16, 17] as [UInt32] { #expect(try Self.verdict(41, [family]) == Self.allow) }
    for family in [38, 40] as [UInt32] {
      #expect(try Self.verdict(41, [family]) == Self.notPermitted)
    }
  }

  @Test("The program's bytes: struct sock_filter, little-endian, in base 64")
  func bytes() {
    // 20 00 | 00 | 00 | 04 00 00 00   load the architecture
    // 15 00 | 01 | 00 | 3e 00 00 c0   is it x86_64?
    #expect(SeccompFilter.workload.base64Program().hasPrefix("IAAAAAQAAAAVAAEAPgAAw"))
    #expect(SeccompFilter.base64(Array("f".utf8)) == "Zg==")
    #expect(SeccompFilter.base64(Array("fo".utf8)) == "Zm8=")
    #expect(SeccompFilter.base64(Array("foo".utf8)) == "Zm9v")
  }
}
