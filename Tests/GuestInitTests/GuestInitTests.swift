import ControlProtocol
import LinuxSystem
import SystemPackage
import Testing

@testable import GuestInit

/// What the init does without being the first process; the rest is tested by booting it.
@Suite struct GuestInitTests {
  @Test func anEndThatIsToldLateIsNotThatOfTheNextConnection() {
    var ends = ConnectionEnds()
    // Nobody has come yet.
    #expect(ends.isEnd(at: 1) && !ends.isInDoubt)
    ends.greeted(at: 3000)
    // Of the connection before, as often as it is asked for.
    #expect(!ends.isEnd(at: 3004) && ends.isInDoubt)
    #expect(!ends.isEnd(at: 3054) && ends.isInDoubt)
    ends.goesOn()
    #expect(!ends.isInDoubt)
    // Its own.
    #expect(ends.isEnd(at: 60_000) && !ends.isInDoubt)
    // One that ends as soon as it has begun.
    ends.greeted(at: 70_000)
    #expect(!ends.isEnd(at: 70_001) && ends.isInDoubt)
    #expect(ends.isEnd(at: 72_001) && !ends.isInDoubt)
  }

  @Test func theLastOfTwoVariablesCounts() {
    #expect(Child.merged(["A=1", "B=2", "A=3=4", "C"]) == ["A=3=4", "B=2", "C"])
  }

  @Test func programsAreLookedUpInTheFunctionsPath() {
    #expect(Child.path(of: "sh", ["PATH=/nowhere:/bin"]) == "/bin/sh")
    #expect(Child.path(of: "/nowhere/sh", []) == "/nowhere/sh")
    #expect(Child.path(of: "sh", ["PATH=/nowhere"]) == nil)
  }

  @Test func countersAreReadFromTheKernelsText() {
    let text = "MemTotal:       97280 kB\nMemFree:  5 kB\nHugePages_Total:       0\n"
    #expect(Counters.fields(text) == ["MemTotal": 97280, "MemFree": 5, "HugePages_Total": 0])
  }

  @Test func aModuleGetsWhatTheCommandLineSaysOfIt() {
    let line = "quiet virtio_net.napi_tx=0 net.ifnames=0 virtio_net.napi_weight=32\n"
    func parameters(_ path: String) -> String { Preparation.parameters(ofModule: path, in: line) }
    #expect(parameters("/lib/modules/virtio_net.ko") == "napi_tx=0 napi_weight=32")
    #expect(parameters("/lib/modules/virtio-net.ko") == "napi_tx=0 napi_weight=32")
    #expect(parameters("/lib/modules/virtio.ko") == "")
  }

  @Test func filesAreMovedToWhereTheFunctionLooks() throws {
    let root = "/tmp/martlet-init-\(UInt64.random(in: 0 ..< .max))"
    defer { try? Confined.removeTree(root) }
    for folder in ["", "/run", "/martlet", "/martlet/files"] {
      try Mount.makeDirectory(root + folder, mode: 0o755)
    }
    try replaceFile("\(root)/martlet/config.json", Array("{}".utf8), mode: 0o600)
    try replaceFile("\(root)/martlet/files/0", Array("rules".utf8), mode: 0o600)
    try Preparation.place([.init(path: "/etc/firewall/rules", mode: 0o640)], root: root)
    #expect(try readFile("\(root)/etc/firewall/rules", limit: 100) == Array("rules".utf8))
    #expect(try readFile("\(root)/run/martlet/config.json", limit: 100) == Array("{}".utf8))
    #expect(!fileExists("\(root)/martlet/files/0"))
    #expect(!fileExists("\(root)/martlet/config.json"))
  }
}

extension Confined {
  fileprivate static func removeTree(_ path: String) throws {
    let parent = try openFile("/tmp", .path)
    defer { try? parent.close() }
    try remove("", String(path.dropFirst(5)), in: parent)
  }
}
