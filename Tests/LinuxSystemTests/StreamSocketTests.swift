import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@Suite struct StreamSocketTests {
  /// What another has below its root is connected to only where it is a socket of its own.
  @Test func nothingLeadsOutOfARoot() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try Mount.makeDirectory("\(folder.path)/root", mode: 0o755)
    let outside = try StreamSocket.listen("\(folder.path)/outside")
    let inside = try StreamSocket.listen("\(folder.path)/root/inside")
    try writeFile("\(folder.path)/root/file")
    symlink("\(folder.path)/outside", "\(folder.path)/root/link")
    symlink("inside", "\(folder.path)/root/near")
    let root = try openFile("\(folder.path)/root", .path)
    defer { for descriptor in [outside, root] { try? descriptor.close() } }

    let connection = try #require(try StreamSocket.connect("inside", in: root))
    try connection.close()
    for name in ["missing", "file", "link", "near", "../outside"] {
      #expect(try StreamSocket.connect(name, in: root) == nil, "\(name)")
    }
    try inside.close()
    #expect(try StreamSocket.connect("inside", in: root) == nil)
  }

  private func writeFile(_ path: String) throws {
    try replaceFile(path, [1, 2, 3], mode: 0o600)
    try overwriteFile(path, [4])
    #expect(try readFile(path, limit: 8) == [4])
  }
}
