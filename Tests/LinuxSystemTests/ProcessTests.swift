import FoundationEssentials
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@Suite struct PacketSocketTests {
  /// A listening socket in a folder of its own.
  func withListener(_ body: (String, FileDescriptor) throws -> Void) throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let path = folder.path + "/socket"
    let listener = try PacketSocket.listen(path)
    defer { try? listener.close() }
    try body(path, listener)
  }

  @Test func packetsKeepTheirBordersAndDescriptors() throws {
    try withListener { path, listener in
      #expect(try PacketSocket.accept(listener) == nil)
      let client = try PacketSocket.connect(path)
      let server = try #require(try PacketSocket.accept(listener))
      #expect(try PacketSocket.peer(of: server).pid == getpid())
      #expect(try PacketSocket.peer(of: server).uid == geteuid())
      #expect(
        try PacketSocket.receive(on: server, limit: 9, descriptorLimit: 1) == .wouldBlock)
      let (read, write) = try makePipe()
      #expect(try PacketSocket.send([1, 2], [read, write], on: client))
      #expect(try PacketSocket.send([3], on: client))
      guard
        case .packet([1, 2], let descriptors) = try PacketSocket.receive(
          on: server, limit: 9, descriptorLimit: 2)
      else {
        Issue.record("not the first packet")
        return
      }
      #expect(descriptors.count == 2)
      try writeAll([7], to: descriptors[1])
      #expect(try readSome(of: read, limit: 9) == [7])
      for descriptor in descriptors {
        #expect(fcntl(descriptor.rawValue, F_GETFD) == FD_CLOEXEC)
        try descriptor.close()
      }
      #expect(
        try PacketSocket.receive(on: server, limit: 9, descriptorLimit: 2) == .packet([3], []))
      // Too many bytes, then too many descriptors; none of them stays open here.
      #expect(try PacketSocket.send([1, 2, 3], on: client))
      #expect(try PacketSocket.receive(on: server, limit: 2, descriptorLimit: 2) == .oversized)
      #expect(try PacketSocket.send([1], [write, write, write], on: client))
      try write.close()
      #expect(try PacketSocket.receive(on: server, limit: 2, descriptorLimit: 2) == .oversized)
      #expect(try readSome(of: read, limit: 1).isEmpty)
      try client.close()
      #expect(try PacketSocket.receive(on: server, limit: 2, descriptorLimit: 2) == .closed)
      try server.close()
      try read.close()
    }
  }

  @Test func theSocketIsItsOwnersAlone() throws {
    try withListener { path, _ in
      var status = stat()
      try #require(stat(path, &status) == 0)
      #expect(status.st_mode & 0o777 == 0o600)
    }
  }

  @Test func aPathThatIsTooLongIsAnError() {
    #expect(throws: SystemError(call: "bind", errno: .fileNameTooLong, subject: long)) {
      try PacketSocket.connect(long)
    }
  }

  private var long: String { String(repeating: "x", count: 108) }
}

@Suite struct ProcessIdentityTests {
  @Test func aProcessIsFoundAgainUntilItEnds() throws {
    let pid = try spawnDetached("/bin/sleep", arguments: ["sleep", "100"], environment: [])
    let pidfd = try openPidfd(pid)
    defer { try? pidfd.close() }
    let identity = try ProcessIdentity(pid: pid, pidfd: pidfd)
    #expect(identity.startTicks > 0)
    let again = try identity.open()
    #expect(exitStatus(ofReaped: again) == .unknown)
    var earlier = identity
    earlier.handle = []
    earlier.startTicks -= 1
    #expect(throws: SystemError(call: "pidfd_open", errno: .noSuchProcess, subject: "pid \(pid)")) {
      try earlier.open()
    }
    try sendSignal(SIGTERM, to: again)
    #expect(try waitForChild(pid) == .killed(signal: SIGTERM))
    #expect(throws: SystemError.self) { try identity.open() }
    #expect(throws: SystemError.self) { try sendSignal(SIGTERM, to: again) }
    if tellsExitOfStrangers(again) {
      #expect(try waitReadable(again, milliseconds: 1000))
    }
    try again.close()
  }
}

@Suite struct FilesTests {
  @Test func aPunchedHeadFreesSpaceAndKeepsOffsets() throws {
    let file = try makeMemoryFile("test")
    defer { try? file.close() }
    try writeAll([UInt8](repeating: 1, count: 1 << 20), to: file)
    try writeAll([2], to: file)
    let before = try fileSize(file)
    #expect(before.length == (1 << 20) + 1)
    #expect(before.allocated >= 1 << 20)
    try punchHead(of: file, before: 1 << 19)
    let after = try fileSize(file)
    #expect(after.length == before.length)
    #expect(after.allocated <= before.allocated - (1 << 19))
    #expect(try readRange(of: file, from: (1 << 19) - 1, limit: 2) == [0, 1])
    #expect(try readRange(of: file, from: 1 << 20, limit: 5) == [2])
  }

  @Test func aLockIsHeldOnce() throws {
    let path = "/tmp/lock-test-\(getpid())"
    let first = try openFile(path, .append)
    let second = try openFile(path, .append)
    defer {
      try? first.close()
      try? second.close()
      try? removeFile(path)
    }
    #expect(try tryLock(first))
    #expect(try !tryLock(second))
  }
}

@Suite struct AppArmorTests {
  @Test func whatHoldsAProcessIsRead() throws {
    let folder = try TemporaryFolder()
    for (pid, text, name) in [
      (1, "martlet-s-m (enforce)\n", "martlet-s-m"), (2, "unconfined\n", nil),
      (3, "one (complain)\u{0}", "one (complain)"),
    ] as [(Int32, String, String?)] {
      try folder.write("\(pid)/attr/current", text)
      #expect(try AppArmor.profile(ofProcess: pid, in: folder.path) == name)
    }
    try folder.write("1/attr/apparmor/current", "own (enforce)\n")
    #expect(try AppArmor.profile(ofProcess: 1, in: folder.path) == "own")
    #expect(throws: SystemError.self) { try AppArmor.profile(ofProcess: 4, in: folder.path) }
  }

  /// selinuxfs has one digit in it, without an end of line.
  @Test func whetherSELinuxEnforcesIsRead() throws {
    let folder = try TemporaryFolder()
    #expect(!AppArmor.isSELinuxEnforcing(in: folder.path))
    for (text, isEnforcing) in [("0", false), ("1", true), ("", false)] {
      try folder.write("enforce", text)
      #expect(AppArmor.isSELinuxEnforcing(in: folder.path) == isEnforcing)
    }
  }
}

@Suite struct InheritanceTests {
  /// SwiftNIO opens its sockets without FD_CLOEXEC; a child that kept one would keep it open.
  @Test func programsInheritNoDescriptors() throws {
    var ends: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    defer { for end in ends { close(end) } }
    let result = try runProgram("/bin/ls", arguments: ["ls", "-l", "/proc/self/fd"])
    #expect(result.status == 0)
    #expect(!String(decoding: result.output, as: UTF8.self).contains("socket:"))

    let pid = try spawnDetached("/bin/sleep", arguments: ["sleep", "60"], environment: [])
    defer {
      kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
    }
    // posix_spawn(3) returns after the program has begun.
    let open = try listFolder("/proc/\(pid)/fd")
    #expect(open == ["0", "1", "2"])
  }
}

@Suite struct HostThreadsTests {
  /// A thread that has worked for 20 ms, among others.
  @Test func theTimeOfAThreadIsItsOwn() throws {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self")
    let number = try #require(own.split(separator: "/").last.flatMap { Int32($0) })
    let threads = try HostThreads(of: getpid(), numbered: [number, 1 << 30])
    #expect(threads.threads == [number])
    let before = try threads.processorNanoseconds()
    let clock = ContinuousClock()
    let end = clock.now + .milliseconds(20)
    while clock.now < end {}
    let worked = try threads.processorNanoseconds() - before
    #expect(worked > 1_000_000 && worked < 10_000_000_000, "\(worked)")
    #expect(try HostThreads(of: getpid(), numbered: []).threads == [])
    #expect(try HostThreads(of: 1 << 30, numbered: [1]).threads == [])
  }
}
