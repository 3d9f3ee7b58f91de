import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// Calls that are written down and made later.
@Suite struct SystemCallsTests {
  @Test func theyAreMadeInTheirOrder() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let (read, write) = try makePipe()
    defer { for end in [read, write] { try? end.close() } }
    var calls = SystemCalls()
    calls.makeDirectory(folder.path + "/a", mode: 0o750)
    // One that is there already is taken.
    calls.makeDirectory(folder.path + "/a", mode: 0o700)
    calls.write("said", to: .given(0), "a pipe")
    var pipe = FileDescriptor(rawValue: -1)
    var step = ""
    try calls.perform(given: [write], pipe: &pipe, step: &step)
    #expect(try readSome(of: read, limit: 10) == Array("said".utf8))
    var status = stat()
    #expect(stat(folder.path + "/a", &status) == 0 && status.st_mode & 0o777 == 0o700)
  }

  @Test func theFirstThatFailsIsTold() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    var calls = SystemCalls()
    calls.step = "first"
    let lifted = calls.duplicate(.given(0), atLeast: 200, tellsFailures: true)
    calls.closeDescriptors(190...199)
    calls.step = "second"
    calls.changeDirectory(folder.path + "/none")
    calls.step = "third"
    calls.makeDirectory(folder.path + "/never", mode: 0o700)
    _ = lifted
    let (read, write) = try makePipe()
    defer { for end in [read, write] { try? end.close() } }
    var pipe = write
    var step = ""
    let error = #expect(throws: SystemError.self) {
      try calls.perform(given: [write], pipe: &pipe, step: &step)
    }
    #expect(step == "second")
    #expect(error?.call == "chdir" && error?.errno == .noSuchFileOrDirectory)
    #expect(error?.subject == folder.path + "/none")
    #expect(pipe.rawValue >= 200)
    try pipe.close()
    #expect(access(folder.path + "/never", F_OK) != 0)
  }

  /// What the other process reads: 72 octets a call, then texts, each at a multiple of eight.
  @Test func theyAreEncoded() throws {
    var calls = SystemCalls()
    calls.step = "there"
    calls.changeDirectory("/x")
    let (count, encoded, octets) = calls.encoded()
    #expect(count == 1)
    let zero = [UInt8](repeating: 0, count: 8)
    #expect(
      encoded == [80, 0, 0, 0, 0, 0, 0, 0]  // number: chdir
        + zero  // the first argument: at 0
        + zero + zero + zero + zero + zero
        + [1, 0, 0, 0]  // kinds: octets
        + [0, 0, 0, 0]  // no error tolerated
        + [3, 0, 0, 0]  // label at 3
        + [0, 0, 0, 0])  // no pipe
    #expect(
      octets == Array("/x".utf8) + [0] + Array("there: chdir /x".utf8) + [0]
        + [UInt8](repeating: 0, count: 5))
  }

  @Test func memoryIsToldFromDisks() throws {
    #expect(try isInMemory("/dev/shm"))
    #expect(try !isInMemory("/proc"))
    #expect(throws: SystemError.self) { try isInMemory("/none") }
  }
}
