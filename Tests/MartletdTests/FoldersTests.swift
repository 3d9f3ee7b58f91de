import Glibc
import NFVAPI
import NFVModel
import TestSupport
import Testing

@testable import martletd

@Suite struct FoldersTests {
  /// Where the token is by default.
  @Test func theGroupPassesThroughTheStateAndNobodyElseDoes() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let (state, run) = (folder.path + "/a/state", folder.path + "/run")
    let folders = try Folders(state: state, run: run)
    var status = stat()
    #expect(stat(folders.state, &status) == 0 && status.st_mode & 0o777 == 0o710)
    #expect(status.st_gid == martletGroup() ?? getegid())
    #expect(stat(run, &status) == 0 && status.st_mode & 0o777 == 0o755)
    let other = #expect(throws: NFVError.self) { try Folders(state: state, run: run + "2") }
    #expect(other?.code == .conflict)
  }

  @Test func aFolderThatIsThereStaysAsItIs() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let state = folder.path + "/state"
    #expect(mkdir(state, 0o700) == 0)
    _ = try Folders(state: state, run: folder.path + "/run")
    var status = stat()
    #expect(stat(state, &status) == 0 && status.st_mode & 0o777 == 0o700)
  }
}
