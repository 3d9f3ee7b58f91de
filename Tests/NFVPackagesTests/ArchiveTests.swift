import Archive
import FoundationEssentials
import Glibc
import TestSupport
import Testing

@Suite struct ArchiveTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func write(_ name: String, _ format: ArchiveWriter.Format) throws -> String {
    let path = "\(folder.path)/\(name)"
    let writer = try ArchiveWriter(path: path, format: format)
    try writer.add(directory: "d")
    try writer.add(file: "d/größe.txt", mode: 0o640, content: Array("hello".utf8))
    try writer.add(symbolicLink: "link", target: "d/größe.txt")
    var pieces: [[UInt8]] = [[1, 2, 3], [4, 5], []]
    try writer.add(file: "pieces", size: 5) { pieces.removeFirst() }
    try writer.finish()
    return path
  }

  @Test(arguments: [ArchiveWriter.Format.tar, .tarGzip, .zip])
  func whatWasWrittenIsRead(format: ArchiveWriter.Format) throws {
    let reader = try ArchiveReader(path: try write("a", format))
    var seen: [String: ArchiveEntry] = [:]
    var contents: [String: [UInt8]] = [:]
    while let entry = try reader.next() {
      let name = try #require(safePath(entry.path))
      seen[name] = entry
      contents[name] = try reader.readAll(limit: 100)
    }
    #expect(seen.keys.sorted() == ["d", "d/größe.txt", "link", "pieces"])
    #expect(seen["d"]?.kind == .directory)
    #expect(seen["d/größe.txt"]?.mode == 0o640)
    #expect(seen["link"]?.kind == .symbolicLink(target: "d/größe.txt"))
    #expect(contents["d/größe.txt"] == Array("hello".utf8))
    #expect(contents["pieces"] == [1, 2, 3, 4, 5])
  }

  @Test(arguments: [ArchiveWriter.Format.tar, .tarGzip, .zip])
  func bytesDoNotDependOnTheMoment(format: ArchiveWriter.Format) throws {
    _ = try write("first", format)
    // Longer than the resolution of gzip's time stamp.
    usleep(1_100_000)
    _ = try write("second", format)
    #expect(try folder.read("first") == folder.read("second"))
  }

  /// A zip holds local times: only an entry without any is the same in every time zone.
  @Test func zipHoldsNoTime() throws {
    let writer = try ArchiveWriter(path: "\(folder.path)/zip", format: .zip)
    try writer.add(file: "f", content: [1])
    try writer.finish()
    let bytes = try folder.read("zip")
    #expect(Array(bytes[0..<4]) == [0x50, 0x4B, 0x03, 0x04])  // local file header
    #expect(Array(bytes[10..<12]) == [0x00, 0x00])  // last mod file time: midnight
    #expect(Array(bytes[12..<14]) == [0x21, 0x00])  // last mod file date: 1980-01-01
    // Extended timestamps ("UT", of one octet) say by their flags that they hold no time.
    for start in bytes.indices.dropLast(4) where bytes[start...].starts(with: [0x55, 0x54]) {
      #expect(Array(bytes[start + 2..<start + 5]) == [0x01, 0x00, 0x00])
    }
  }

  @Test(
    arguments: [
      ("a/b", "a/b"), ("./a//b/", "a/b"), ("./", ""), ("a/..b", "a/..b"), ("", nil), ("/a", nil),
      ("..", nil), ("a/../b", nil), ("../a", nil), ("a/..", nil), ("a\0b", nil),
    ] as [(String, String?)])
  func pathsThatClimbOutAreRefused(path: String, expected: String?) {
    #expect(safePath(path) == expected)
  }

  /// 64 MiB of zeros make some 64 KiB: a thousand to one.
  private func bomb(_ format: ArchiveWriter.Format) throws -> String {
    let path = "\(folder.path)/bomb"
    let writer = try ArchiveWriter(path: path, format: format)
    let size = 64 << 20
    let zeros = [UInt8](repeating: 0, count: 1 << 20)
    var left = size
    try writer.add(file: "zeros", size: size) {
      guard left > 0 else { return [] }
      left -= zeros.count
      return zeros
    }
    try writer.finish()
    return path
  }

  private func drain(_ reader: ArchiveReader) throws -> UInt64 {
    var total: UInt64 = 0
    while try reader.next() != nil {
      while true {
        let piece = try reader.read()
        if piece.isEmpty { break }
        total += UInt64(piece.count)
      }
    }
    return total
  }

  @Test(arguments: [ArchiveWriter.Format.zip, .tarGzip])
  func bombIsRefusedByItsRatio(format: ArchiveWriter.Format) throws {
    let path = try bomb(format)
    let error = #expect(throws: ArchiveError.self) {
      try drain(try ArchiveReader(path: path))
    }
    #expect(error?.entry == "zeros")
    #expect(error?.message.contains("250 times its size") == true)
    #expect(try drain(try ArchiveReader(path: path, limits: .init(ratio: 2000))) == 64 << 20)
  }

  @Test func limitsOfSizeAndNumberHold() throws {
    let path = try write("a", .zip)
    let tooMany = #expect(throws: ArchiveError.self) {
      try drain(try ArchiveReader(path: path, limits: .init(entries: 2)))
    }
    #expect(tooMany?.message.contains("more than 2 entries") == true)
    let tooLarge = #expect(throws: ArchiveError.self) {
      try drain(try ArchiveReader(path: path, limits: .init(bytes: 7)))
    }
    #expect(tooLarge?.message.contains("more than 7 octets") == true)
    let reader = try ArchiveReader(path: path)
    _ = try reader.next()
    _ = try reader.next()
    #expect(throws: ArchiveError.self) { try reader.readAll(limit: 4) }
  }

  @Test func whatIsNoArchiveIsRefused() throws {
    let text = try folder.write("text", String(repeating: "no archive. ", count: 100))
    #expect(throws: ArchiveError.self) { try drain(try ArchiveReader(path: text)) }
    #expect(throws: ArchiveError.self) {
      try drain(try ArchiveReader(path: "\(folder.path)/missing"))
    }
  }

  @Test(arguments: [ArchiveWriter.Format.zip, .tarGzip])
  func cutArchiveIsRefused(format: ArchiveWriter.Format) throws {
    var path = "\(folder.path)/whole"
    let writer = try ArchiveWriter(path: path, format: format)
    var random = SeededGenerator(seed: 1)
    let noise = (0..<100_000).map { _ in UInt8.random(in: 0...255, using: &random) }
    try writer.add(file: "noise", content: noise)
    try writer.finish()
    let bytes = try folder.read("whole")
    path = try folder.write("cut", Array(bytes.prefix(bytes.count / 2)))
    #expect(throws: ArchiveError.self) { try drain(try ArchiveReader(path: path)) }
  }

  /// Damaged input ends in an error or in bounded content, never in a crash or an endless read.
  @Test(arguments: [ArchiveWriter.Format.zip, .tar, .tarGzip])
  func damagedArchivesEnd(format: ArchiveWriter.Format) throws {
    _ = try write("whole", format)
    let whole = try folder.read("whole")
    var random = SeededGenerator(seed: 7)
    for _ in 0..<300 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(
          in: 0...255, using: &random)
      }
      let path = try folder.write("damaged", bytes)
      _ = try? drain(try ArchiveReader(path: path, limits: .init(entries: 100, bytes: 1 << 20)))
    }
  }
}

/// SplitMix64: the same numbers in each run.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
