import FoundationEssentials
public import Glibc
import LinuxSystem
import SystemPackage

/// A folder of a test with all that is in it, gone with it.
public final class TemporaryFolder: Sendable {
  public let path: String

  /// For what the tests of a run share; gone when the run's process ends.
  public static let ofRun: Result<TemporaryFolder, any Error> = {
    let made = Result { try TemporaryFolder(mode: 0o711) }
    atexit { try? TemporaryFolder.ofRun.get().remove() }
    return made
  }()

  /// - Parameters:
  ///   - parent: short by default, as a socket's path ends at 107 octets.
  ///   - mode: others may pass through with 0o711.
  public init(in parent: String = "/tmp", mode: mode_t = 0o700) throws {
    var template = Array("\(parent)/martlet-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Failed("mkdtemp in \(parent): errno \(errno)") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    chmod(path, mode)
  }

  deinit { remove() }

  /// Removes it now: where a process that it outlives must have ended before.
  public func remove() {
    let name = path.split(separator: "/").last.map(String.init) ?? ""
    guard let parent = try? openFile(String(path.dropLast(name.utf8.count + 1)), .path) else {
      return
    }
    defer { try? parent.close() }
    try? Confined.remove("", name, in: parent)
  }

  /// Writes a file below the folder, makes the folders on its way, and returns its path.
  @discardableResult
  public func write(_ name: String, _ bytes: some Sequence<UInt8>) throws -> String {
    let url = URL(filePath: "\(path)/\(name)")
    try FileManager.default.createDirectory(
      at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: url)
    return "\(path)/\(name)"
  }

  @discardableResult
  public func write(_ name: String, _ text: String) throws -> String {
    try write(name, text.utf8)
  }

  public func read(_ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(filePath: "\(path)/\(name)")))
  }

  /// The names in a folder below, sorted; empty where there is none.
  public func names(_ sub: String = "") throws -> [String] { try listFolder("\(path)/\(sub)") }
}
